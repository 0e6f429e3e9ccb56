"""From a finished run to a folder for other programs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from aqa.errors import AqaError, nearest
from aqa.exporting.readme import readme
from aqa.runs.averages import ScoringRun, finished_run, recorded_run
from aqa.runs.exported import CONFIG_JSON, WEIGHTS, write_exported
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.system.files import has_file, write_text, written_whole
from aqa.system.saying import Say, silent
from aqa.version import __version__

README, PROGRAM, ONNX = "README.md", "model.pt2", "model.onnx"


def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "safetensors",
    overwrite: bool = False,
    say: Say = silent,
) -> Path:
    """Write the model of a finished run, with its card, into a folder for other programs; returns the folder.

    format: "safetensors" writes README.md (the card, with metadata), config.json, model.safetensors and the run's
    predictions.csv, in the layout of model hubs; `aqa.load` takes the folder. "torch" writes model.pt2, a program of
    `torch.export`, and "onnx" model.onnx, both with README.md and config.json: they need no aqa. Before such a file is
    written its scores are compared with the run's, for all visible sets, several lengths and batch sizes.
    AqaError where the run is not finished, where a model cannot be exported, and where a file of these names is in the
    folder, unless `overwrite`; other files there are left alone.
    """
    if format not in FORMATS:
        raise AqaError(f"--format {format}: {nearest(format, FORMATS)}")
    folder, target = RunFolder.existing(run), Path(out)
    write, names = FORMATS[format]
    taken = [name for name in (README, *names) if (target / name).exists()]
    if taken and not overwrite:
        raise AqaError(f"{target / taken[0]} exists; choose another folder, or replace it with --overwrite")
    text = readme(folder, format)
    found = finished_run(run)
    write(folder, found, target, say)
    write_text(target / README, text)
    say(f"{format}: {target}")
    return target


def about(run: ScoringRun) -> dict[str, Any]:
    """What config.json says first, for readers: the model, what it takes, and what it gives."""
    first = run.checkpoints[0]
    return {
        "library_name": "aqa",
        "aqa_version": __version__,
        "model_type": first["model"],
        "streams": run.widths,
        "target": run.target,
        "models": len(run.checkpoints),
    }


def _safetensors(folder: RunFolder, run: ScoringRun, target: Path, say: Say) -> None:
    target.mkdir(parents=True, exist_ok=True)
    write_exported(target, recorded_run(run), about(run))
    if has_file(folder.path / PREDICTIONS):
        with written_whole(target / PREDICTIONS) as partial:
            shutil.copyfile(folder.path / PREDICTIONS, partial)


def _torch(folder: RunFolder, run: ScoringRun, target: Path, say: Say) -> None:
    from aqa.exporting.program import Program, exported_program  # with torch's tracer, which takes seconds to import
    from aqa.exporting.verify import require_equal

    program = Program(run)
    traced = exported_program(program)
    module = traced.module()
    found = require_equal(program, lambda streams, lengths: module(streams=streams, lengths=lengths).numpy(), PROGRAM)
    target.mkdir(parents=True, exist_ok=True)
    with written_whole(target / PROGRAM) as partial, open(partial, "wb") as file:
        torch.export.save(traced, file)
    _write_about(run, target, {"inputs": {"streams": list(run.widths), "lengths": list(run.widths)}})
    say(f"largest difference from the run's own scores: {found:.1g} of the target's range")


def _onnx(folder: RunFolder, run: ScoringRun, target: Path, say: Say) -> None:
    from aqa.exporting.onnx import onnx_scores, require_onnx, write_onnx
    from aqa.exporting.program import Program, exported_program
    from aqa.exporting.verify import require_equal

    require_onnx(run.widths)
    program = Program(run)
    traced = exported_program(program)
    target.mkdir(parents=True, exist_ok=True)
    with written_whole(target / ONNX) as partial:
        write_onnx(program, traced, partial)
        found = require_equal(program, onnx_scores(partial), ONNX)
    _write_about(run, target, {"inputs": [*run.widths, "lengths"], "outputs": ["score"]})
    say(f"largest difference from the run's own scores: {found:.1g} of the target's range")


def _write_about(run: ScoringRun, target: Path, inputs: Mapping[str, Any]) -> None:
    write_text(target / CONFIG_JSON, json.dumps({**about(run), **inputs}, indent=2) + "\n")


Write = Callable[[RunFolder, ScoringRun, Path, Say], None]
#: How each format is written, and what its files are called beside the card.
FORMATS: Mapping[str, tuple[Write, tuple[str, ...]]] = {
    "safetensors": (_safetensors, (CONFIG_JSON, WEIGHTS, PREDICTIONS)),
    "torch": (_torch, (CONFIG_JSON, PROGRAM)),
    "onnx": (_onnx, (CONFIG_JSON, ONNX)),
}
