"""What Weights & Biases is sent of a run beside numbers: files, as cheaply as it takes them."""

from __future__ import annotations

import glob
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from aqa.runs.folder import CHECKPOINT, FIGURES, PREDICTIONS
from aqa.runs.predictions import read_table
from aqa.system.files import write_text
from aqa.system.garbage import uncollected
from aqa.system.packages import installed_packages

REQUIREMENTS = "requirements.txt"  # as wandb calls it


def send_files(run: Any, folder: Path) -> None:
    """The figures of a run's folder as images, the predictions as a table and the checkpoint as an artifact."""
    import wandb

    _keep_temporary_folder()
    with uncollected():  # a table has many small objects
        media = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted((folder / FIGURES).glob("*.png"))}
        run.log({**media, "predictions": predictions_table(folder / PREDICTIONS)})
    if not (folder / CHECKPOINT).is_file():  # of a cross-validation: its folds have theirs
        return
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", run.name or "run"), type="model")
    artifact.add_file(str(folder / CHECKPOINT))
    run.log_artifact(artifact)


def _keep_temporary_folder() -> None:
    """The folder in which wandb writes media files, which the process that imported it removes when it ends.

    A process that was forked from it may still be busy then, where the program was killed.
    """
    with suppress(Exception):  # a name of wandb's own
        from wandb.sdk.data_types._private import MEDIA_TMP

        os.makedirs(MEDIA_TMP.name, 0o700, exist_ok=True)


def predictions_table(path: Path) -> Any:
    """predictions.csv as a table of wandb, with the same columns, types and values as if wandb had read it.

    wandb finds out the types of a table value by value, checks every value against them, and looks at each once more
    when it writes the table: nearly all of the time. Here the types are known, and the rows are what JSON has already.
    """
    import wandb

    table = read_table(path)
    numeric = [table[name].dtype == float for name in table]
    columns = [
        _numbers(table[name].tolist()) if number else [str(value) for value in table[name]]
        for name, number in zip(table, numeric, strict=True)
    ]
    rows: list[Any] = [list(row) for row in zip(*columns, strict=True)]
    types: Any = [float if number else str for number in numeric]
    names: Any = [str(name) for name in table]
    gaps = [None in column for column in columns]  # of a score where nothing was visible, say
    made = wandb.Table(columns=names, dtype=types, optional=gaps)
    made.data = rows
    if len(rows) <= wandb.Table.MAX_ARTIFACT_ROWS:  # of more wandb writes only some, and says so
        _written_as_it_is(made)
    return made


def _numbers(values: list[float]) -> list[float | None]:
    """Numbers as JSON has them, which knows no NaN."""
    return [None if value != value else value for value in values]


def _written_as_it_is(table: Any) -> None:
    """Let the rows of a table be written to its artifact as they are."""
    import wandb

    described = table.to_json

    def to_json(place: Any) -> dict[str, Any]:
        if not isinstance(place, wandb.Artifact):
            return described(place)
        rows, table.data = table.data, []
        try:
            found = described(place)
        finally:
            table.data = rows
        if found.get("data") != [] or found.get("nrows") != 0:  # another version of wandb writes something else
            return described(place)
        return {**found, "data": rows, "nrows": len(rows)}

    table.to_json = to_json


def lists_packages() -> bool:
    """Whether wandb can be told to leave the list of installed packages to us; older versions cannot."""
    import wandb

    with suppress(Exception):
        return bool(wandb.setup().settings.x_save_requirements)  # False: the user wants none
    return False


def send_packages(run: Any) -> None:
    """The list of installed packages, as wandb would write it itself in many times the time."""
    path = Path(run.dir) / REQUIREMENTS
    write_text(path, "".join(f"{name}=={version}\n" for name, version in installed_packages()))
    run.save(glob.escape(str(path)), base_path=run.dir, policy="now")
