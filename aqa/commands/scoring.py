"""Commands that score with finished runs: evaluate, predict, explain, worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aqa.commands.app import app, examples, say, show
from aqa.commands.options import (
    AveragedRuns,
    Device,
    Level,
    Memory,
    Overwrite,
    Plugin,
    RateOption,
    RunArgument,
    RunsArgument,
    StreamOption,
)


@app.command(
    epilog=examples(
        "aqa evaluate runs/quickstart --patterns VA,V",
        "aqa evaluate runs/quickstart --patterns '[VA, {rates: {audio: 0.5}}]' --out metrics.json",
        "aqa evaluate runs/quickstart --store other.h5 --split valid",
    )
)
def evaluate(
    run: RunArgument,
    patterns: Annotated[
        str | None,
        typer.Option(help="Missing patterns: VA,V or as in missing.test, quoted: '[VA, {rates: 0.5}]'."),
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Another feature store. Default: that of the run.")] = None,
    split: Annotated[str, typer.Option(help="The split to score.")] = "test",
    metrics: Annotated[str | None, typer.Option(help="Further measures: mae,pearson,quadratic_kappa.")] = None,
    intervals: Annotated[
        bool | None, typer.Option(help="Bootstrap intervals of further measures. Default: as the run has them.")
    ] = None,
    level: Level = None,
    out: Annotated[Path | None, typer.Option(help="Write the metrics to this file (JSON) as well.")] = None,
    device: Device = "auto",
    memory: Memory = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Score a finished run again. Patterns, store and split may be others than those of the run."""
    from aqa.missing.parsing import patterns_of_text
    from aqa.runs.evaluate import evaluate as evaluate_run

    result = evaluate_run(
        run,
        patterns=None if patterns is None else patterns_of_text(patterns, "--patterns"),
        store=store,
        split=split,
        metrics=None if metrics is None else [name.strip() for name in metrics.split(",")],
        intervals=intervals,
        level=level,
        out=out,
        device=device,
        memory=memory,
        overwrite=overwrite,
    )
    show(str(result))


@app.command(
    epilog=examples(
        "aqa predict runs/quickstart --store unjudged.h5 --out scores.csv",
        "aqa predict runs/own --stream rgb='new/{id}.npy' --out scores.csv",
        "aqa predict runs/seed0 runs/seed1 --store unjudged.h5 --out scores.csv",
    )
)
def predict(
    run: AveragedRuns,
    out: Annotated[Path, typer.Option(help="The file to write (CSV): id, visible, score, low, high.")],
    store: Annotated[
        Path | None, typer.Option(help="A feature store. Labels are not needed, and modalities may be missing.")
    ] = None,
    stream: StreamOption = None,
    rate: RateOption = None,
    split: Annotated[str | None, typer.Option(help="Only this split. Default: all videos.")] = None,
    level: Level = None,
    device: Device = "auto",
    memory: Memory = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Predict the scores of videos, labelled or not. Scores of several runs are averaged."""
    from aqa.runs.evaluate import predict as predict_store

    predict_store(
        run,
        store,
        stream=stream,
        rate=rate,
        split=split,
        level=level,
        out=out,
        device=device,
        memory=memory,
        overwrite=overwrite,
        say=say,
    )


@app.command(
    epilog=examples(
        "aqa explain runs/quickstart",
        "aqa explain runs/quickstart --ids 1207,1212 --out two",
        "aqa explain runs/seed0 runs/seed1 runs/seed2 --out explained",
        "aqa explain runs/seed0 --beside runs/seed1 --visible VA --out explained",
    )
)
def explain(
    run: AveragedRuns,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write: a page and tables. Default, of one run: RUN/explained.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option(help="Videos by id: a,b. Default: those that were tested.", metavar="IDS")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Another feature store, with or without labels.")] = None,
    split: Annotated[str | None, typer.Option(help="The videos of this split.")] = None,
    visible: Annotated[
        str | None, typer.Option(help="Explain the scores when no more than this subset is shown, such as VA.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Clips that are replaced together. Default: a stream in 32 parts.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="A run with another seed, whose disagreement is shown. May be repeated.", metavar="RUN"),
    ] = None,
    level: Level = None,
    form: Annotated[str, typer.Option("--format", help="Of the tables: csv or parquet.")] = "csv",
    device: Device = "auto",
    memory: Memory = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Explain scores by streams and moments, and say what if. Of several runs: their mean, and disagreement."""
    from aqa.reporting.explained_videos import place_in_run
    from aqa.reporting.explanation import explain as explain_run

    explain_run(
        run,
        ids=None if ids is None else [name.strip() for given in ids for name in given.split(",")],
        store=store,
        split=split,
        visible=visible,
        window=window,
        beside=beside or (),
        level=level,
        out=place_in_run(run) if out is None else out,
        form=form,
        device=device,
        memory=memory,
        overwrite=overwrite,
        say=say,
    )


@app.command(epilog=examples("aqa worth runs/quickstart", "aqa worth runs/seeds runs/models --out worth.csv"))
def worth(
    runs: RunsArgument,
    out: Annotated[Path | None, typer.Option(help="Write the numbers to this file (CSV) as well.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what each further stream is worth."""
    from aqa.reporting.worth import worth as worth_of_runs
    from aqa.reporting.worth import worth_text

    table = worth_of_runs(runs, out=out, overwrite=overwrite, say=say)
    if len(table):
        show(worth_text(table))
