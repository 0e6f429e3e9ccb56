"""A run's model card, after Mitchell et al., Model Cards for Model Reporting (FAT* 2019).

What a finished run knows is filled in. What no run can know (what the model is for, whom its scores touch, licences)
stands there as a question to its authors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from aqa.config.dialect import in_one_line
from aqa.config.schema import Experiment
from aqa.errors import AqaError
from aqa.models import MODELS
from aqa.reporting import escaping
from aqa.reporting.learned import learned_text
from aqa.runs.folder import RunFolder
from aqa.runs.table import interval_of, interval_text, no_interval_lines, number, selection_text
from aqa.system.files import refuse_existing, write_text

NAME = "MODEL_CARD.md"
QUESTION = "_To be answered by whoever publishes the model:_"
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("aqa.reporting"), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"md": escaping.markdown, "code": escaping.code}


class Card(NamedTuple):
    """A model card that was written: the file, and how many questions in it are left to people."""

    path: Path
    questions: int


def card(run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Card:
    """Write the model card of a finished run as Markdown.

    out: the file, MODEL_CARD.md in the run's folder by default. AqaError if there is no finished run, and where the
    file exists, unless `overwrite`.
    """
    folder = RunFolder.existing(run)
    if folder.metrics.get("folds"):
        raise AqaError(f"{folder.path} is a cross-validation: a card is of one model, such as {folder.fold(0).path}")
    path = folder.path / NAME if out is None else Path(out)
    refuse_existing(path, overwrite)
    text = card_text(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, overwrite)
    return Card(path, text.count(QUESTION))


def card_text(folder: RunFolder) -> str:
    """The model card of a finished run that is no cross-validation."""
    try:
        return TEMPLATES.get_template("model_card.md.j2").render(
            **facts(folder.config, folder.metrics), versions=folder.versions, question=QUESTION
        )
    except (KeyError, jinja2.UndefinedError) as error:
        raise AqaError(f"{folder.path} is not as this version writes runs: {error}") from None


def facts(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the template fills in, from a run's resolved experiment and its metrics."""
    model = {"name": metrics["model"], "options": {k: v for k, v in config["model"].items() if k != "name"}}
    if metrics["model"] in MODELS.names():
        entry = MODELS.get(metrics["model"])
        model |= {"summary": entry.summary, "paper": entry.about.get("paper", ""), "year": entry.about.get("year", "")}
    return {
        "title": title(config),
        "model": {key: in_one_line(value) if key == "options" else value for key, value in model.items()},
        "metrics": metrics,
        "parameters": f"{metrics['parameters']:,}",
        "config": config,
        "missing": {when: in_one_line(pattern) for when, pattern in config["missing"].items()},
        "training": in_one_line({key: value for key, value in config.get("train", {}).items() if value is not None}),
        "selection": selection_text(metrics["selection"]),
        "rows": [row(name, scores) for name, scores in metrics["patterns"].items()],
        "average": average(metrics["average_incomplete"]),
        "intervals": intervals(metrics),
        "limits": limits(metrics),
    }


def title(config: Mapping[str, Any]) -> str:
    """The experiment's name with its placeholders filled in; as it is written where the experiment is not valid now."""
    try:
        return Experiment.model_validate(dict(config)).title
    except (AqaError, ValueError):
        return str(config["name"])


def row(name: str, scores: Mapping[str, Any]) -> list[str]:
    """A pattern's line of the table."""
    srcc = f"{number(scores['srcc'])} {interval_of(scores)}"
    return [name, srcc, number(scores["mse"]), number(scores["rl2"]), str(scores["n"])]


def average(found: Mapping[str, Any]) -> str:
    """The mean over incomplete patterns in a sentence, empty if none was tested."""
    if not found["patterns"]:
        return ""
    if found["undefined"]:
        return f"undefined, as is that of {', '.join(found['undefined'])}"
    without = f", without {', '.join(found['left_out'])}" if found.get("left_out") else ""
    over = f"{found['patterns']} pattern{'s' * (found['patterns'] > 1)}{without}"
    return f"{number(found['srcc'])} {interval_of(found)} over {over}"


def intervals(metrics: Mapping[str, Any]) -> str:
    """How often the intervals of scores held the label, in a sentence; empty of a run that knows nothing of them."""
    about = metrics.get("intervals")
    if about is None:
        return ""
    if "why_none" in about:
        return f"Scores have no intervals: {about['why_none']}."
    known = {name: s["interval"] for name, s in metrics["patterns"].items() if s["interval"]["n"]}
    found = (
        f"{name} {number(one['coverage'])} {interval_text(one['coverage_low'], one['coverage_high'])}, "
        f"mean width {number(one['width'])}"
        for name, one in known.items()
    )
    made_from = " and ".join(about["calibrated_on"])
    held = "; ".join(found) or "none is bounded, for want of videos to make them from"
    return f"Intervals of scores at the level {about['level']:g}, made from {made_from}, held the label: {held}."


def limits(metrics: Mapping[str, Any]) -> list[str]:
    """What the numbers themselves say that a reader must not overlook, as Markdown."""
    patterns, seed = {escaping.markdown(name): s for name, s in metrics["patterns"].items()}, metrics["seed"]
    found = [f"One training run, seed {seed}: how far seeds differ is not in these numbers."]
    if metrics.get("imported"):
        found = [
            "**It is not known which videos selected the epoch.** If they are those of the test split, the numbers are "
            "too good."
        ]
    if metrics["selection"]["split"] == "test":
        found.insert(
            0,
            "**The epoch was selected on the test split.** The numbers are too good, and compare with published ones "
            "that were selected so and with nothing else.",
        )
    if learned := learned_text(metrics):
        found.append(escaping.markdown(f"It {learned}: models that did not had less to learn from."))
    if metrics["data_set"].startswith("synthetic"):
        found.append("The data are synthetic: nothing here says how the model does on real performances.")
    chance = [
        name for name, s in patterns.items() if s["srcc_low"] is not None and s["srcc_low"] <= 0 <= s["srcc_high"]
    ]
    if chance:
        found.append(f"Not shown to rank better than chance (the interval holds 0): {', '.join(chance)}.")
    undefined = [name for name, s in patterns.items() if s["srcc"] is None]
    if undefined:
        found.append(f"SRCC undefined (constant predictions, or fewer than three videos): {', '.join(undefined)}.")
    found += [escaping.markdown(f"{line[0].upper()}{line[1:]}.") for line in no_interval_lines(metrics)]
    unscored = [f"{name} {s['unscored']}" for name, s in patterns.items() if s["unscored"]]
    if unscored:
        found.append(f"Videos not scored, for want of every modality of the pattern: {', '.join(unscored)}.")
    if len({s["n"] for s in patterns.values()}) > 1:
        found.append("Patterns are scored on different videos (n differs) and do not compare with each other.")
    found.append("What was not tested (other patterns, features of other extractors, other cameras) is not known.")
    return found
