"""Commands that write of runs, or make one of a published checkpoint: report, card, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aqa.commands.app import app, examples, say, show
from aqa.commands.options import Device, Overwrite, Plugin, RunArgument, RunsArgument


@app.command(
    epilog=examples(
        "aqa report runs --out report",
        "aqa report runs/seeds runs/models --out report --published numbers.yaml --overwrite",
    )
)
def report(
    runs: RunsArgument,
    out: Annotated[Path, typer.Option(help="The folder to write: a page, tables, figures.")],
    published: Annotated[
        Path | None, typer.Option(help="A YAML file of results that others report, shown beside yours.")
    ] = None,
    title: Annotated[str, typer.Option(help="The title of the page.")] = "Scores with missing modalities",
    pdf: Annotated[bool, typer.Option(help="Figures as PDF too, for LaTeX: a fifth of the work.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Write a report of finished runs. It has a page, tables for papers, statistics and figures."""
    from aqa.reporting.report import report as write_report

    page = write_report(runs, out, published=published, title=title, pdf=pdf, overwrite=overwrite, say=say)
    say(f"report: {page}")


@app.command(epilog=examples("aqa card runs/quickstart", "aqa card runs/quickstart --out MODEL_CARD.md"))
def card(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option(help="The file. Default: MODEL_CARD.md in the folder of the run.")] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Write the model card of a finished run. It has questions that you answer."""
    from aqa.reporting.card import card as write_card

    path, questions = write_card(run, out, overwrite=overwrite)
    say(f"model card: {path}; please answer the {questions} questions in it")


@app.command(
    epilog=examples(
        "aqa export runs/quickstart --format safetensors --out models/quickstart",
        "aqa export runs/quickstart --format onnx --out models/onnx",
    )
)
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option(help="The folder to write.", metavar="FOLDER")],
    format: Annotated[str, typer.Option(help="safetensors, torch (for torch.export.load) or onnx.")] = "safetensors",
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Write the model of a finished run for other programs."""
    from aqa.exporting.export import export as export_run

    export_run(run, out, format=format, overwrite=overwrite, say=say)


@app.command(
    name="import",
    epilog=examples(
        "aqa import pamfn pamfn.pkl --like data/fisv.h5 --target TES --out runs/pamfn",
        "aqa import gdlt gdlt.pkl --like data/rg.h5 --target Ball --clips 68 --out runs/gdlt",
        "aqa import mcmoe best.pt --like own.h5 --modality v=rgb --option n_head=4 --out runs/own",
    ),
)
def import_(
    method: Annotated[str, typer.Argument(help="gdlt, mcmoe, momke, pamfn, actionmae or limssr.", metavar="METHOD")],
    file: Annotated[Path, typer.Argument(help="The checkpoint that its authors publish.", metavar="FILE")],
    like: Annotated[
        Path,
        typer.Option(help="A feature store as the checkpoint takes it, whose test split is scored.", metavar="STORE"),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the run.", metavar="RUN")],
    target: Annotated[str | None, typer.Option(help="The target of the store, where it has several.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="What weights do not show, such as n_head=2. May be repeated.", metavar="KEY=VALUE"),
    ] = None,
    modality: Annotated[
        list[str] | None,
        typer.Option(
            help="What a modality of the checkpoint is called in the store: v=rgb. May be repeated.",
            metavar="THEIRS=OURS",
        ),
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="Clips of a window. Default: as the longest video of split train.", min=1)
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make a finished run of a published checkpoint."""
    from aqa.runs.importing import import_published

    result = import_published(
        method,
        file,
        like=like,
        out=out,
        target=target,
        option=option,
        modality=modality,
        clips=clips,
        device=device,
        overwrite=overwrite,
        say=say,
    )
    show(str(result))
    say(f"run folder: {result.folder}")
