"""The `aqa` command: it parses, calls and prints.

What a command calls is the Python function of the same name (`aqa.run` ...). Heavy modules are imported by the commands
that need them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

NOTHING_HALF_DONE = "stopped; nothing is left half-written, and the same command starts again"


class Commands(typer.core.TyperGroup):
    """The commands; one that is stopped says how to resume. Typer would be silent, and take SIGTERM for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        from aqa.system.signals import exit_status

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _say(f"aqa: {str(stop) or NOTHING_HALF_DONE}")
            raise typer.Exit(exit_status(stop)) from None


LONGEST_LINE = 900  # characters of a message that name what a user gave, however long that is


def examples(*lines: str) -> str:
    """The end of a help text, each line as it stands."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


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


def _use_plugins(files: list[Path] | None) -> list[Path] | None:
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
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="Your own Python file with a model, a missing pattern or a data set. May be repeated.",
        metavar="FILE",
        callback=_use_plugins,
        is_eager=True,
    ),
]


@app.command(
    epilog=examples(
        "aqa run experiments/quickstart.yaml",
        "aqa run experiments/fisv.yaml data.target=PCS train.epochs=5 output=runs/short",
        "aqa run experiments/fisv.yaml model.name=mome",
        "aqa run experiments/fisv.yaml missing.train='{rates: 0.3}'",
    )
)
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (YAML).", metavar="EXPERIMENT")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the experiment, such as train.seed=1 or output=DIR. Quote values that have spaces.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Train a model and score it under every missing pattern."""
    from aqa.runs.run import run as run_experiment
    from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    result = run_experiment(experiment, overrides or [], overwrite=overwrite, say=_say, show_progress=True)
    if result.already_finished:
        _say(f"{result.folder} is finished; --overwrite runs it again")
    _show(str(result))
    _say(f"run folder: {result.folder}")


@app.command(
    epilog=examples(
        "aqa sweep experiments/sweeps/seeds.yaml --dry-run",
        "aqa sweep experiments/sweeps/seeds.yaml --jobs 2",
        "aqa sweep experiments/sweeps/seeds.yaml --status",
    )
)
def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep file (YAML).", metavar="SWEEP")],
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time. Default: 1; with Ray as many as the cluster has room for."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and exit.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show which runs are done, and exit.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Retry the runs that failed.")] = False,
    best: Annotated[
        bool, typer.Option("--best", help="Show the best of the runs that are done, by validation, and exit.")
    ] = False,
    export_wandb: ExportWandb = None,
    method: Annotated[
        str, typer.Option(help="With --export-wandb: grid, random or bayes, by the selection metric.")
    ] = "grid",
    plugin: Plugin = None,
) -> None:
    """Run a grid of experiments. Runs that are done are not run again."""
    from aqa.sweeps.sweep import sweep as run_sweep

    result = run_sweep(
        file,
        jobs=jobs,
        dry_run=dry_run,
        status=status,
        retry=retry,
        best=best,
        export_wandb=export_wandb,
        method=method,  # type: ignore[arg-type]
        say=_say,
        show_progress=True,
    )
    _show(str(result))
    raise typer.Exit(result.exit_status)


@app.command(
    epilog=examples(
        "aqa tune experiments/tune/mcmoe.yaml --dry-run",
        "aqa tune experiments/tune/mcmoe.yaml --jobs 2",
        "aqa tune experiments/tune/mcmoe.yaml --status",
    )
)
def tune(
    file: Annotated[Path, typer.Argument(help="A tune file (YAML).", metavar="TUNE")],
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be searched and exit.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what was found so far, and exit.")] = False,
    export_wandb: ExportWandb = None,
    method: Annotated[
        str, typer.Option(help="With --export-wandb: grid, random or bayes, by the selection metric.")
    ] = "bayes",
    plugin: Plugin = None,
) -> None:
    """Search settings on the validation split, one budget for all.

    Every model gets the same number of trials. The best settings of each are then run, and scored once on test.
    """
    from aqa.sweeps.tune import tune as run_tune
    from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    result = run_tune(
        file,
        jobs=jobs,
        dry_run=dry_run,
        status=status,
        export_wandb=export_wandb,
        method=method,  # type: ignore[arg-type]
        say=_say,
        show_progress=True,
    )
    _show(str(result))
    raise typer.Exit(result.exit_status)


@app.command(
    epilog=examples(
        "aqa report runs --out report",
        "aqa report runs/seeds runs/models --out report --published numbers.yaml --overwrite",
    )
)
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs, or folders that contain them.", metavar="RUNS...")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: a page, tables, figures.")],
    published: Annotated[
        Path | None, typer.Option(help="A YAML file of results that others report, shown beside yours.")
    ] = None,
    title: Annotated[str, typer.Option(help="The title of the page.")] = "Scores with missing modalities",
    overwrite: Overwrite = False,
) -> None:
    """Write a report of finished runs. It has a page, tables for papers, statistics and figures."""
    from aqa.reporting.report import report as write_report

    page = write_report(runs, out, published=published, title=title, overwrite=overwrite, say=_say)
    _say(f"report: {page}")


@app.command(epilog=examples("aqa worth runs/quickstart", "aqa worth runs/seeds runs/models --out worth.csv"))
def worth(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs, or folders that contain them.", metavar="RUNS...")
    ],
    out: Annotated[Path | None, typer.Option(help="Write the numbers to this file (CSV) as well.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what each further stream is worth."""
    from aqa.reporting.worth import worth as worth_of_runs
    from aqa.reporting.worth import worth_text

    table = worth_of_runs(runs, out=out, overwrite=overwrite, say=_say)
    if len(table):
        _show(worth_text(table))


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
    _say(f"model card: {path}; please answer the {questions} questions in it")


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

    export_run(run, out, format=format, overwrite=overwrite, say=_say)


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
        say=_say,
    )
    _show(str(result))
    _say(f"run folder: {result.folder}")


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
    _show(str(result))


@app.command(
    epilog=examples(
        "aqa predict runs/quickstart --store unjudged.h5 --out scores.csv",
        "aqa predict runs/own --stream rgb='new/{id}.npy' --out scores.csv",
        "aqa predict runs/seed0 runs/seed1 --store unjudged.h5 --out scores.csv",
    )
)
def predict(
    run: Annotated[
        list[Path], typer.Argument(help="The folder of a finished run, or several to average.", metavar="RUNS...")
    ],
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
        say=_say,
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
    run: Annotated[
        list[Path], typer.Argument(help="The folder of a finished run, or several to average.", metavar="RUNS...")
    ],
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
        say=_say,
    )


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

    _show(
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
    _show(str(inspection))
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

        _show(recommendation(recommend))
        return
    from aqa.reporting.models import models_table

    _show(models_table())


def _say(line: str) -> None:
    _show(line, err=True)


def _show(text: str, err: bool = False) -> None:
    """Print what may hold words from files: a terminal must not obey them."""
    from aqa.errors import printable_lines
    from aqa.system.terminal import may_be_closed

    with may_be_closed(sys.stderr if err else sys.stdout):
        typer.echo(printable_lines(text), err=err)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. A user's mistake is one line and status 2; see also `signals`."""
    from aqa.system.signals import stoppable

    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with stoppable():
            status = command.main(args=arguments or ["--help"], prog_name="aqa", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except Exception as error:
        from aqa.usage import explain_error  # here: it imports the schema, which costs more than `aqa --help`

        message = explain_error(error, arguments)
        if message is None:  # a fault of the program
            raise
    lines = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..." for line in message.splitlines()]
    _say("aqa: " + "\n".join(lines))
    return 2


if __name__ == "__main__":
    sys.exit(main())
