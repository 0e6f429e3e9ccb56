"""The README.md of an exported model: its card, below metadata that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aqa.config.dialect import dump
from aqa.reporting import escaping
from aqa.reporting.card import average, card_text, row, title
from aqa.runs.folder import RunFolder

#: How a file of each format is used; {mapping} has the streams with a name for each.
USE = {
    "safetensors": """import aqa

scorer = aqa.load("PATH OF THIS FOLDER")
scorer.score({{{mapping}}})  # arrays (clips, channels); leave out what a video lacks""",
    "torch": """import torch

program = torch.export.load("model.pt2").module()
# Each stream is a tensor (videos, clips, channels) in float32. Of a video that is shorter than others, what comes after
# its clips is not looked at. lengths (videos, {count}): clips of {names}; 0 where a video lacks the stream.
program(streams={{{mapping}}}, lengths=lengths)  # scores (videos,)""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
# Each stream is an array (videos, clips, channels) in float32. Of a video that is shorter than others, what comes after
# its clips is not looked at. lengths (videos, {count}), int64: clips of {names}; 0 where a video lacks the stream.
session.run(["score"], {{{mapping}, "lengths": lengths}})  # scores (videos,)""",
}

LANGUAGE_MODEL = """It needs the language model that it was trained on, which is not in this folder. `config.json` says
in which folder it lies: `llm` among the options of each checkpoint, which may be changed.

"""


def readme(folder: RunFolder, format: str) -> str:
    """The text of README.md for a finished run; questions that only its authors can answer are left in it."""
    metrics, config = folder.metrics, folder.config
    text = averaged_folds_text(config, metrics) if metrics.get("folds") else card_text(folder)
    names = metrics["modalities"]
    mapping = ", ".join(f'"{name}": {"xyz"[i] if i < 3 else f"x{i}"}' for i, name in enumerate(names))
    use = USE[format].format(mapping=mapping, names=", ".join(names), count=len(names))
    front = dump(metadata(config, metrics))
    needs = LANGUAGE_MODEL if folder.model_options.get("llm") else ""
    return f"---\n{front}---\n\n{text.rstrip()}\n\n## How to use it\n\n{needs}```python\n{use}\n```\n"


def metadata(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a hub shows and searches: the library, tags, and the results on the test split that the run reported."""
    results = [
        {"type": "spearmanr", "name": f"SRCC, {name}", "value": scores["srcc"]}
        for name, scores in metrics["patterns"].items()
        if scores["srcc"] is not None
    ]
    task = {"type": "other", "name": "action quality assessment"}
    data_set = {"type": str(metrics["data_set"]), "name": f"{metrics['data_set']}, {metrics['target']}"}
    return {
        "library_name": "aqa",
        "tags": ["action-quality-assessment", "multimodal", "missing-modalities", str(metrics["model"])],
        "model-index": [
            {
                "name": title(config),
                "results": [{"task": task, "dataset": data_set, "metrics": results}] if results else [],
            }
        ],
    }


def averaged_folds_text(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What takes the place of a card for a cross-validation, whose models of all folds are averaged."""
    md, folds = escaping.markdown, metrics["folds"]
    rows = [row(name, scores) for name, scores in metrics["patterns"].items()]
    table = "\n".join(f"| {' | '.join(map(md, cells))} |" for cells in rows)
    mean = average(metrics["average_incomplete"])
    return "\n".join(
        [
            f"# {md(title(config))}",
            "",
            f"The mean of {len(folds['each'])} models {md(str(metrics['model']))}, one of each fold of a "
            f"cross-validation ({md(folds['description'])}), which predict {md(metrics['target'])} on "
            f"{md(metrics['data_set'])}.",
            "",
            "The numbers are of out-of-fold scores: each video is scored by the model of the fold that tested it. The "
            "mean of all models was not tested on any video.",
            "",
            "| pattern | SRCC, 95 % interval | MSE | R-l2 % | n |",
            "| --- | --- | --- | --- | --- |",
            table,
            *(["", f"Mean of the incomplete patterns: SRCC {md(mean)}."] if mean else []),
        ]
    )
