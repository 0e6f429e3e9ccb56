"""Running a sweep, from its file to the table of all its numbers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from aqa.config.schema import FINGERPRINT_SHOWN
from aqa.errors import AqaError
from aqa.runs.folder import RunFolder
from aqa.runs.prepare import make_store
from aqa.sweeps import tables
from aqa.sweeps.best import above_others, best_text
from aqa.sweeps.fold_points import fold_points, gather_folds, state_of
from aqa.sweeps.folder import RESULTS, State, SweepFolder
from aqa.sweeps.grid import Point, groups_of, load_sweep, points_of
from aqa.sweeps.local import run_points
from aqa.sweeps.ray_cluster import run_on_ray
from aqa.sweeps.wandb_agents import WandbMethod, wandb_sweeps, write_wandb
from aqa.system.files import write_table
from aqa.system.saying import Say, silent


@dataclass(frozen=True)
class SweepResult:
    """How far a sweep is, and what it has found so far; `str` is what a user reads.

    folder: of the sweep. states: "done", "running", "failed" or "waiting", by the run's name. numbers: as in
    results.csv, a row per run and pattern. failures: a line per failed run. unfinished: the runs that the sweep
    should have run and that are neither done nor failed.
    """

    folder: Path
    states: Mapping[str, State]
    text: str
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    failures: Sequence[str] = ()
    unfinished: Sequence[str] = ()

    @property
    def exit_status(self) -> int:
        """0 if every run is done, otherwise 1, as the command returns it. With `status`: 1 if a run failed."""
        return 1 if self.failures or self.unfinished else 0

    def __str__(self) -> str:
        return self.text


def sweep(
    file: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    dry_run: bool = False,
    status: bool = False,
    retry: bool = False,
    best: bool = False,
    export_wandb: str | os.PathLike[str] | None = None,
    method: WandbMethod = "grid",
    say: Say = silent,
    show_progress: bool = False,
) -> SweepResult:
    """Run the grid of experiments that a sweep file (YAML) describes. Runs that are done are not run again.

    jobs: runs at a time; 1 by default, on a Ray cluster as many as it has room for. dry_run: only list the runs.
    status: only show which are done. retry: retry runs that failed. best: only show the best setting of those that are
    done, chosen by the validation value. export_wandb: only write the sweep for agents of Weights & Biases to this
    folder, to be searched by the `method`. AqaError for a mistake in the file; a run that fails does not stop the
    others.
    """
    if jobs is not None and jobs < 1:
        raise AqaError(f"jobs is {jobs}; it must be 1 or more")
    plan, base = load_sweep(file), Path(file).parent
    folder = SweepFolder(Path(plan.output or Path("runs") / plan.name))
    if export_wandb is not None:
        return SweepResult(
            folder.path, {}, "\n".join(write_wandb(wandb_sweeps(plan, base, method), Path(export_wandb)))
        )
    points = points_of(plan, base, say)
    if not dry_run and not status and not best and _make_stores(points, say):
        points = points_of(plan, base)  # by what is in their stores now
    points = known_points(points, folder, say)
    runs = [run for point in points for run in fold_points(point)]
    if dry_run:
        states = {point.name: folder.settled(point.name) or "waiting" for point in points}
        return SweepResult(folder.path, states, "\n".join(states))
    if best:
        states = {point.name: folder.settled(point.name) or "waiting" for point in points}
        numbers = tables.results(points, states, folder)
        return SweepResult(folder.path, states, best_text(numbers, folder), numbers)
    folder.make()
    if retry:
        folder.forget_failures()
    if not status:
        with _progress_bar(runs, folder, show_progress) as on_change, _told_how_far(runs, folder):
            if plan.launcher is None:
                run_points(groups_of(runs, plan.vectorize), folder, jobs or 1, on_change)
            else:
                run_on_ray(runs, folder, plan.launcher.ray, jobs, on_change)
        gather_folds(points, folder)
    result = found_so_far(points, folder, jobs or 1, compared=not status)
    if not status:
        unfinished = [name for name, state in result.states.items() if state in ("waiting", "running")]
        result = replace(result, unfinished=unfinished)
    for line in result.failures:
        say(f"failed: {line}")
    if result.failures and not status:
        say("to retry failed runs from where they stopped, run the same sweep with --retry (in Python: retry=True)")
    if result.unfinished:
        say(f"not done: {', '.join(result.unfinished)}; the same command resumes the sweep")
    say(f"sweep folder: {folder.path}; all numbers are in {folder.path / RESULTS}")
    return result


def _make_stores(points: Sequence[Point], say: Say) -> bool:
    """Make the synthetic stores that runs ask for and that do not exist yet; whether there was one to make."""
    missing = {p.experiment.data.store: p.experiment for p in points if not Path(p.experiment.data.store).exists()}
    asked = [experiment for experiment in missing.values() if experiment.data.synthetic is not None]
    for experiment in asked:
        make_store(experiment, say)
    return bool(asked)


def known_points(points: Sequence[Point], folder: SweepFolder, say: Say) -> list[Point]:
    """The points by the names that their runs have in the sweep's folder, where version 0.1 began them.

    Says which runs do not know their store, and which there are of stores that have changed since.
    """
    earlier = {p.name: p.experiment.earlier_name for p in points if not folder.run(p.name).exists()}
    old = {name: was for name, was in earlier.items() if _is_earlier(RunFolder(folder.run(was)))}
    if old:
        say(f"{len(old)} runs in {folder.path} were made by aqa 0.1, which did not record what was in their store")
    known = [replace(point, name=old.get(point.name, point.name)) for point in points]
    names = {point.name for point in known}
    inside = [path.name for path in folder.path.iterdir()] if folder.path.is_dir() else []
    for store in dict.fromkeys(p.experiment.data.store for p in points):
        starts = {f"{p.experiment.unique_name(None)}-" for p in points if p.experiment.data.store == store}
        stale = [name for name in inside if name not in names and name[:-FINGERPRINT_SHOWN] in starts]
        if stale:
            say(
                f"{store} has changed since {len(stale)} of the runs in {folder.path} were made from it; "
                "they stay, and the sweep makes new ones under other names"
            )
    return known


def _is_earlier(run: RunFolder) -> bool:
    return run.is_run and run.origin.fingerprint is None


def found_so_far(points: Sequence[Point], folder: SweepFolder, jobs: int = 1, compared: bool = False) -> SweepResult:
    """What a sweep has found so far, which is written to results.csv in its folder.

    compared: whether settings with several seeds are compared by the paired test, which reads all predictions.
    """
    states = {point.name: state_of(point, folder) for point in points}
    of_runs = {run.name: folder.state(run.name) for point in points for run in fold_points(point)}
    numbers = tables.results(points, states, folder)
    write_table(folder.path / RESULTS, numbers)
    parts = (
        tables.runs_table(points, states, folder),
        tables.state_line(of_runs, folder, jobs),
        tables.seeds_table(numbers, above_others(numbers, folder) if compared else {}),
        tables.measures_tables(numbers),
    )
    text = "\n\n".join(part for part in parts if part)
    return SweepResult(folder.path, states, text, numbers, tables.failures({**of_runs, **states}, folder))


@contextlib.contextmanager
def _progress_bar(points: Sequence[Point], folder: SweepFolder, show: bool) -> Iterator[Callable[[], None]]:
    from tqdm import tqdm

    # None: tqdm itself finds out whether stderr is a terminal.
    disable = None if show else True
    with tqdm(total=len(points), unit="run", desc="sweep", disable=disable, dynamic_ncols=True) as bar:

        def on_change() -> None:
            bar.update(sum(folder.settled(point.name) is not None for point in points) - bar.n)

        yield on_change


@contextlib.contextmanager
def _told_how_far(points: Sequence[Point], folder: SweepFolder) -> Iterator[None]:
    """A sweep that is stopped says how many of its runs are done."""
    try:
        yield
    except KeyboardInterrupt as stop:
        done = sum(folder.settled(point.name) == "done" for point in points)
        stop.args = (f"stopped; {done} of {len(points)} runs are done; the same command resumes the sweep",)
        raise
