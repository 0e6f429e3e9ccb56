"""The command `aqa` itself: its help, its version, how lines are printed and what is said when it is stopped."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import typer.core

NOTHING_HALF_DONE = "stopped; nothing is left half-written, and the same command starts again"


def examples(*lines: str) -> str:
    """The end of a help text, each line as it stands."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def say(line: str) -> None:
    """Print a line beside the results."""
    show(line, err=True)


def show(text: str, err: bool = False) -> None:
    """Print what may hold words from files: a terminal must not obey them."""
    from aqa.errors import printable_lines
    from aqa.system.terminal import may_be_closed

    with may_be_closed(sys.stderr if err else sys.stdout):
        typer.echo(printable_lines(text), err=err)


class Commands(typer.core.TyperGroup):
    """The commands; one that is stopped says how to resume. Typer would be silent, and take SIGTERM for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        from aqa.system.signals import exit_status

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            say(f"aqa: {str(stop) or NOTHING_HALF_DONE}")
            raise typer.Exit(exit_status(stop)) from None


app = typer.Typer(
    name="aqa",
    cls=Commands,
    help="Predict judges' scores of performances from features of video and audio, when some modalities are missing.",
    epilog=examples(
        "aqa run experiments/quickstart.yaml",
        "aqa prepare fisv --source downloads/Fis-V --out data/fisv.h5",
        "aqa run experiments/fisv.yaml data.target=PCS train.seed=1",
        "aqa report runs --out report",
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        from aqa.version import __version__

        typer.echo(f"aqa {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass
