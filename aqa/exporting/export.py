"""From a finished run to a folder for other programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aqa.errors import AqaError, nearest
from aqa.exporting.readme import readme
from aqa.runs.averages import ScoringRun, finished_run, recorded_run
from aqa.runs.exported import CONFIG_JSON, WEIGHTS, write_exported
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.load import Say, silent
from aqa.system.files import has_file, write_text, written_whole
from aqa.version import __version__

README = "README.md"


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
    predictions.csv, in the layout of model hubs; `aqa.load` takes the folder. AqaError where the run is not finished,
    and where a file of these names is in the folder, unless `overwrite`; other files there are left alone.
    """
    if format not in FORMATS:
        raise AqaError(f"--format {format}: {nearest(format, FORMATS)}")
    folder, target = RunFolder.existing(run), Path(out)
    write, names = FORMATS[format]
    taken = [name for name in (README, *names) if (target / name).exists()]
    if taken and not overwrite:
        raise AqaError(f"{target / taken[0]} exists; choose another folder, or replace it with --overwrite")
    text = readme(folder)
    found = finished_run(run)
    target.mkdir(parents=True, exist_ok=True)
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
    write_exported(target, recorded_run(run), about(run))
    if has_file(folder.path / PREDICTIONS):
        with written_whole(target / PREDICTIONS) as partial:
            shutil.copyfile(folder.path / PREDICTIONS, partial)


Write = Callable[[RunFolder, ScoringRun, Path, Say], None]
#: How each format is written, and what its files are called beside the card.
FORMATS: Mapping[str, tuple[Write, tuple[str, ...]]] = {
    "safetensors": (_safetensors, (CONFIG_JSON, WEIGHTS, PREDICTIONS)),
}
