"""Commands about data and models: prepare, inspect, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aqa.commands.app import app, examples, show
from aqa.commands.options import Overwrite, Plugin, RateOption, StreamOption


@app.command(
    epilog=examples(
        "aqa prepare fisv --source downloads/Fis-V --out data/fisv.h5",
        "aqa prepare synthetic --preset tiny --out data/tiny.h5",
        "aqa prepare table --labels a.csv --stream rgb='rgb/{id}.npy' --target score --out own.h5",
        "aqa prepare table --config table.yaml --out own.h5",
    )
)
def prepare(
    name: Annotated[
        str,
        typer.Argument(help="fisv, rg, fs1000, pom, finger_tapping, synthetic, or table: own data.", metavar="DATASET"),
    ],
    out: Annotated[Path, typer.Option(help="The feature store to write (HDF5).")],
    source: Annotated[Path | None, typer.Option(help="The folder of the published files, or the one file.")] = None,
    on_error: Annotated[
        str, typer.Option(help="If a video has a problem: refuse (write nothing), or skip (leave that video out).")
    ] = "refuse",
    preset: Annotated[
        str | None, typer.Option(help="synthetic: tiny, fisv, moments and others (docs/data.md).")
    ] = None,
    seed: Annotated[int, typer.Option(help="synthetic, table: the random seed, of a split that is drawn.")] = 0,
    samples: Annotated[int | None, typer.Option(help="synthetic: at most this many videos per split.")] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="There are no label files: the videos can be predicted.")
    ] = False,
    labels: Annotated[
        str | None, typer.Option(help="table: CSV, TSV, XLSX (FILE:SHEET), Parquet or JSON lines.", metavar="FILE")
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(help="table: in place of --labels, one .npz file; --stream names its arrays.", metavar="FILE"),
    ] = None,
    stream: StreamOption = None,
    id: Annotated[str | None, typer.Option(help="table: the column of ids.", metavar="COLUMN")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="table: COLUMN, COLUMN:LOW:HIGH or NAME=mean(judge1..judge5):LOW:HIGH; trimmed in place of mean drops "
            "the highest and the lowest score. May be repeated.",
            metavar="WORDS",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="table: the column with train, valid, test; or none.", metavar="COLUMN")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="table: a column such as the athlete or surgeon. May be repeated.", metavar="COLUMN"),
    ] = None,
    fold: Annotated[
        list[str] | None, typer.Option(help="table: a column with the fold. May be repeated.", metavar="COLUMN")
    ] = None,
    rate: RateOption = None,
    config: Annotated[
        Path | None, typer.Option(help="table: a YAML file with these words, without dashes.", metavar="FILE")
    ] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Write a feature store: published, your own, or synthetic data."""
    from aqa.data_prep.prepare import prepare as prepare_store

    show(
        prepare_store(
            name,
            out,
            source=source,
            on_error=on_error,
            unlabelled=unlabelled,
            preset=preset,
            seed=seed,
            samples=samples,
            labels=labels,
            pack=pack,
            stream=stream,
            id=id,
            target=target,
            split=split,
            group=group,
            fold=fold,
            rate=rate,
            config=config,
            overwrite=overwrite,
        )
    )


@app.command(epilog=examples("aqa inspect data/fisv.h5"))
def inspect(store: Annotated[Path, typer.Argument(help="A feature store (HDF5).", metavar="STORE")]) -> None:
    """Describe a feature store and every problem in it. Exit status 1 if it is not usable."""
    from aqa.store.inspect import inspect as inspect_store

    inspection = inspect_store(store)
    show(str(inspection))
    raise typer.Exit(0 if inspection.usable else 1)


@app.command(epilog=examples("aqa models", "aqa models --recommend data/pom.h5", "aqa models --plugin mine.py"))
def models(
    recommend: Annotated[
        Path | None,
        typer.Option(
            help="A feature store: say what to try first on data of its size and shape, with what was measured.",
            metavar="STORE",
        ),
    ] = None,
    plugin: Plugin = None,
) -> None:
    """List the models. Their number of parameters is for streams of 1024, 768 and 1024 channels (Fis-V)."""
    if recommend is not None:
        from aqa.reporting.recommend import recommendation

        show(recommendation(recommend))
        return
    from aqa.reporting.models import models_table

    show(models_table())
