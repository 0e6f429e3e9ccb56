"""The `aqa` command: thin, no logic. Heavy modules are imported by the commands that need them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

NOTHING_HALF_DONE = "stopped; nothing is left half-written, and the same command begins again"


class Commands(typer.core.TyperGroup):
    """The commands; one that is stopped says how to go on. Typer would be silent, and take SIGTERM for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        from aqa.system.signals import exit_status

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _say(f"aqa: {str(stop) or NOTHING_HALF_DONE}")
            raise typer.Exit(exit_status(stop)) from None


LONGEST_LINE = 900  # characters of a message that name what a user gave, however long that is

app = typer.Typer(
    name="aqa",
    cls=Commands,
    help="Predict judges' scores of performances from features, when some modalities are missing.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Memory = Annotated[
    float | None, typer.Option(help="GiB that features may take; the run's data.memory by default.", min=0.0)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists under that name.")]
RunArgument = Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN")]


def _use_plugins(files: list[Path] | None) -> list[Path] | None:
    if files:
        from aqa.plugins import use

        use(files)
    return files


Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="A Python file of your own with a model, a missing pattern or a data set.",
        metavar="FILE",
        callback=_use_plugins,
        is_eager=True,
    ),
]


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment file (YAML).", metavar="EXPERIMENT")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes: data.target=PCS output=DIR ...", metavar="KEY=VALUE"),
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


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep file (YAML).", metavar="SWEEP")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time: 1 by default, with Ray as many as there is room for.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and stop.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how far the sweep is and stop.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Take up failed runs again.")] = False,
    export_wandb: Annotated[
        Path | None, typer.Option(help="Write the sweep for W&B agents to this folder and stop.", metavar="FOLDER")
    ] = None,
    plugin: Plugin = None,
) -> None:
    """Run a grid of experiments; runs that are done are not run again."""
    from aqa.sweeps import tables as reporting
    from aqa.sweeps.folder import SweepFolder
    from aqa.sweeps.grid import groups_of, load_sweep, points_of, wandb_sweeps
    from aqa.sweeps.local import run_points
    from aqa.sweeps.ray_cluster import run_on_ray
    from aqa.system.files import write_table

    plan = load_sweep(file)
    if export_wandb is not None:
        _export(wandb_sweeps(plan, file.parent), export_wandb)
        return
    points = points_of(plan, file.parent)
    groups = groups_of(points, plan.vectorize)
    folder = SweepFolder(Path(plan.output or Path("runs") / plan.name))
    if dry_run:
        _show("\n".join(point.name for point in points))
        return
    folder.make()
    if retry:
        folder.forget_failures()
    if not status:
        with _sweep_bar(points, folder) as on_change, _told_how_far(points, folder):
            if plan.launcher is None:
                run_points(groups, folder, jobs or 1, on_change)
            else:
                run_on_ray(points, folder, plan.launcher.ray, jobs, on_change)
    states = {point.name: folder.state(point.name) for point in points}
    found = reporting.results(points, states, folder)
    write_table(folder.path / "results.csv", found)
    parts = (
        reporting.runs_table(points, states, folder),
        reporting.state_line(states, folder, jobs or 1),
        reporting.seeds_table(found),
    )
    _show("\n\n".join(part for part in parts if part))
    failed = reporting.failures(states, folder)
    for line in failed:
        _say(f"failed: {line}")
    if failed and not status:
        _say("to take failed runs up again, where they stopped: the same command with --retry")
    _say(f"sweep folder: {folder.path}; every number is in {folder.path / 'results.csv'}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of finished runs, or with runs below.", metavar="RUNS...")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: a page, tables, figures.")],
    published: Annotated[
        Path | None, typer.Option(help="A YAML file of numbers that others report, to stand beside.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's title.")] = "Scores with missing modalities",
    overwrite: Overwrite = False,
) -> None:
    """Write a report of finished runs: a page, tables for papers, statistics, figures."""
    from aqa.reporting.report import report as write_report

    page = write_report(runs, out, published=published, title=title, overwrite=overwrite)
    _say(f"report: {page}")


@app.command()
def card(
    run: RunArgument,
    out: Annotated[Path | None, typer.Option(help="The file; MODEL_CARD.md in the run's folder by default.")] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Write a finished run's model card; what only people know is left to answer."""
    from aqa.reporting.card import card as write_card

    path, questions = write_card(run, out, overwrite=overwrite)
    _say(f"model card: {path}; {questions} questions in it are left to you")


@app.command()
def evaluate(
    run: RunArgument,
    patterns: Annotated[
        str | None, typer.Option(help="As missing.test: VA,V or in YAML '[VA, {rates: {audio: 0.5}}]'.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Another feature store; the run's own by default.")] = None,
    split: Annotated[str, typer.Option(help="The split to score.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file as well.")] = None,
    device: Device = "auto",
    memory: Memory = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Score a finished run again: other patterns, another store or split."""
    from aqa.runs.evaluate import evaluate as evaluate_run
    from aqa.system.files import refuse_existing, write_text

    if out is not None:
        refuse_existing(out, overwrite)
    spec = None if patterns is None else _patterns(patterns)
    result = evaluate_run(run, patterns=spec, store=store, split=split, device=device, memory=memory)
    _show(str(result))
    if out is not None:
        write_text(out, json.dumps(result.metrics, indent=2) + "\n")


@app.command()
def predict(
    run: RunArgument,
    store: Annotated[Path, typer.Option(help="A feature store; labels are not needed, modalities may be absent.")],
    out: Annotated[Path, typer.Option(help="The CSV file to write: id, visible, score.")],
    split: Annotated[str | None, typer.Option(help="Only this split; all videos by default.")] = None,
    device: Device = "auto",
    memory: Memory = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Predict the scores of videos, labelled or not."""
    from aqa.runs.evaluate import predict as predict_store
    from aqa.system.files import refuse_existing, write_table

    refuse_existing(out, overwrite)
    predictions = predict_store(run, store, split=split, device=device, memory=memory)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_table(out, predictions)
    without = int(predictions["score"].isna().sum())
    _say(
        f"{len(predictions) - without} scores written to {out}"
        + (f"; {without} videos have no modality" if without else "")
    )


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="fisv, rg, fs1000, pom or synthetic.", metavar="DATASET")],
    out: Annotated[Path, typer.Option(help="The feature store to write (HDF5).")],
    source: Annotated[Path | None, typer.Option(help="The folder of the published files.")] = None,
    on_error: Annotated[str, typer.Option(help="Where a video has a problem: refuse, or skip it.")] = "refuse",
    preset: Annotated[str | None, typer.Option(help="synthetic: fisv, fisv_small, rg, fs1000 or tiny.")] = None,
    seed: Annotated[int, typer.Option(help="synthetic: the seed.")] = 0,
    samples: Annotated[int | None, typer.Option(help="synthetic: only so many videos a split.")] = None,
    overwrite: Overwrite = False,
    plugin: Plugin = None,
) -> None:
    """Write a feature store from published files, or a synthetic one."""
    from aqa.data_prep.prepare import prepare as prepare_store

    _show(
        prepare_store(
            name,
            out,
            source=source,
            on_error=on_error,
            preset=preset,
            seed=seed,
            samples=samples,
            overwrite=overwrite,
        )
    )


@app.command()
def inspect(store: Annotated[Path, typer.Argument(help="A feature store (HDF5).", metavar="STORE")]) -> None:
    """Describe a feature store and every problem in it; exit status 1 where it is not usable."""
    from aqa.store.inspect import inspect_store

    inspection = inspect_store(store)
    _show(str(inspection))
    raise typer.Exit(0 if inspection.usable else 1)


@app.command()
def models(plugin: Plugin = None) -> None:
    """List the models, with their parameters by default on streams of 1024, 768 and 1024 channels (Fis-V)."""
    from aqa.errors import AqaError
    from aqa.models import MODELS, build
    from aqa.runs.table import align

    def parameters(name: str) -> str:
        try:
            return f"{build(name, widths={'visual': 1024, 'audio': 768, 'flow': 1024}).parameter_count:,}"
        except AqaError:  # it has an option without a default
            return "depends"

    rows = [
        [
            entry.name,
            str(entry.about.get("year", "")),
            parameters(entry.name),
            entry.summary,
            str(entry.about.get("paper", "")),
        ]
        for entry in MODELS.entries()
    ]
    for line in align([["model", "year", "parameters", "what it is", "paper"], *rows], left=(0, 3, 4)):
        typer.echo(line)


def _export(sweeps: Mapping[str, Any], folder: Path) -> None:
    import yaml

    from aqa.errors import AqaError
    from aqa.system.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    for content in sweeps.values():
        path = folder / f"{content['name']}.yaml"
        if path.exists():
            raise AqaError(f"{path} exists; name another folder with --export-wandb")
        write_text(path, yaml.safe_dump(content, sort_keys=False))
        _say(f"{path}: wandb sweep {path}, then wandb agent on each machine")


@contextlib.contextmanager
def _sweep_bar(points: Sequence[Any], folder: Any) -> Iterator[Callable[[], None]]:
    from tqdm import tqdm

    with tqdm(total=len(points), unit="run", desc="sweep", disable=None, dynamic_ncols=True) as bar:

        def on_change() -> None:
            bar.update(sum(folder.settled(point.name) is not None for point in points) - bar.n)

        yield on_change


@contextlib.contextmanager
def _told_how_far(points: Sequence[Any], folder: Any) -> Iterator[None]:
    """A sweep that is stopped says how far it is."""
    try:
        yield
    except KeyboardInterrupt as stop:
        done = sum(folder.settled(point.name) == "done" for point in points)
        stop.args = (f"stopped; {done} of {len(points)} runs are done; the same command goes on",)
        raise


def _say(line: str) -> None:
    _show(line, err=True)


def _show(text: str, err: bool = False) -> None:
    """Print what may hold words from files: a terminal must not obey them."""
    from aqa.errors import printable_lines

    typer.echo(printable_lines(text), err=err)


def _patterns(text: str) -> Any:
    import yaml

    from aqa.config.yaml import parse_value
    from aqa.errors import AqaError

    try:
        spec = parse_value(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise AqaError(f"--patterns: not valid YAML: {text}") from None
    return [name.strip() for name in spec.split(",")] if isinstance(spec, str) and "," in spec else spec


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status. A user's mistake is one line and status 2; see also `stopping`."""
    from aqa.errors import AqaError, first_line, out_of_memory
    from aqa.system.signals import stoppable

    command = typer.main.get_command(app)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with stoppable():
            status = command.main(args=arguments or ["--help"], prog_name="aqa", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except AqaError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    except Exception as error:
        # click's own mistakes (a wrong option, a missing argument) carry a message and their exit status.
        if hasattr(error, "format_message"):
            message = error.format_message().replace("\n", " ")
            dotted = re.match(r"No such option: --([a-z_]+\.[\w.]+)", message)
            if dotted:
                message += f"; a change to the experiment is written without dashes: {dotted.group(1)}=VALUE"
        elif out_of_memory(error):
            message = f"not enough memory: {first_line(error)}; see train.batch_size, data.clips, the model's widths"
        else:
            raise
    lines = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..." for line in message.splitlines()]
    _say("aqa: " + "\n".join(lines))
    return 2


if __name__ == "__main__":
    sys.exit(main())
