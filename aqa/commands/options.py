"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def use_plugins(files: list[Path] | None) -> list[Path] | None:
    """Load plugin files, if any."""
    if files:
        from aqa.plugins import use

        use(files)
    return files


Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Memory = Annotated[
    float | None, typer.Option(help="GiB that features may take. Default: data.memory of the run.", min=0.0)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists under that name.")]
Level = Annotated[
    float | None, typer.Option(help="The level of the intervals of scores. Default: evaluate.level of the run.")
]
RunArgument = Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")]
RunsArgument = Annotated[
    list[Path], typer.Argument(help="Folders of finished runs, or folders that contain them.", metavar="RUNS...")
]
AveragedRuns = Annotated[
    list[Path], typer.Argument(help="The folder of a finished run, or several to average.", metavar="RUNS...")
]
StreamOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILES: a file per video, visual='features/{id}.npy', or one with all, audio=all.npz. The place in "
        "a file follows a colon: '{id}.npz:audio'. May be repeated.",
        metavar="WORDS",
    ),
]
RateOption = Annotated[
    list[str] | None,
    typer.Option(help="Clips a second of a stream: visual=25. May be repeated.", metavar="NAME=NUMBER"),
]
ExportWandb = Annotated[
    Path | None, typer.Option(help="Write what W&B agents need to this folder and exit.", metavar="FOLDER")
]
_PLUGIN: dict[str, Any] = {
    "help": "Your own Python file with a model, a missing pattern or a data set. May be repeated.",
    "metavar": "FILE",
}
Plugin = Annotated[list[Path] | None, typer.Option("--plugin", **_PLUGIN, callback=use_plugins, is_eager=True)]
PluginLater = Annotated[list[Path] | None, typer.Option("--plugin", **_PLUGIN)]  # the command calls `use_plugins`
