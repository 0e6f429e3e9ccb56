"""Making the trials of searches, and the runs of the best settings, by any number of processes on one folder."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aqa.errors import AqaError
from aqa.features.cache import FeatureLoader
from aqa.runs.folder import REFITS, TRIALS
from aqa.runs.run import run_loaded
from aqa.runs.trial import Trial, TrialResult
from aqa.sweeps import study as notes
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import Point
from aqa.sweeps.local import STOPPED, ending, is_holder, run_if_free
from aqa.sweeps.searches import Search, Tune
from aqa.sweeps.study import RunningTrial, Study, settings_of
from aqa.sweeps.workers import POLL, is_orphan, keep_at_work
from aqa.system.locks import claimed
from aqa.system.signals import stop_here_if_asked

MOST_DEATHS = 3  # of processes in a row between which nothing was done


@dataclass(frozen=True)
class TuneFolder:
    """The folder of a tune file: the trials of each search, and the runs of the best settings."""

    path: Path
    plan: Tune
    searches: Sequence[Search]

    def studies(self) -> list[Study]:
        """The trials of each search; AqaError where the folder has those of another."""
        return [Study(search, self.plan, self.path / TRIALS / search.name) for search in self.searches]

    @property
    def refits(self) -> SweepFolder:
        """The runs of the best settings."""
        return SweepFolder(self.path / REFITS)

    def points(self, study: Study) -> list[Point]:
        """The runs of the best settings, once all trials have ended; none where no trial has a value."""
        best = study.best if study.is_complete else None
        if best is None:
            return []
        return study.search.refits(settings_of(study.search.space, best.params), self.plan.seeds)

    def is_done(self, studies: Sequence[Study]) -> bool:
        """Whether all trials have ended, and the runs of the best settings too."""
        return all(
            study.is_complete and all(self.refits.settled(point.name) for point in self.points(study))
            for study in studies
        )


def work(folder: TuneFolder, on_change: Callable[[], object] = lambda: None) -> None:
    """Take trials, then the runs of the best settings, until all is done.

    First those of searches at which nobody else works, so that each search is made by one process where there are
    enough of them; then together with others.
    """
    studies = folder.studies()
    folder.refits.make()
    while not folder.is_done(studies):
        if not any(_work_at(folder, study, alone, on_change) for alone in (True, False) for study in studies):
            if is_orphan():
                return
            time.sleep(POLL)  # others have the rest; whoever of them dies leaves it to us
            on_change()


def _work_at(folder: TuneFolder, study: Study, alone: bool, on_change: Callable[[], object]) -> bool:
    """Take all that a search has where no other process works at it, else one piece; whether there was any."""
    took = False
    with claimed(study.folder / "first.lock") if alone else contextlib.nullcontext(True) as free:
        while free and not is_orphan() and _take(folder, study):
            stop_here_if_asked()
            took = True
            on_change()
            if not alone:
                break
    return took


def _take(folder: TuneFolder, study: Study) -> bool:
    """Make a trial, or a run of the best settings; whether there was one to make."""
    if not study.is_complete:
        with study.taken() as trial:
            if trial is not None:
                _make(study, trial)
            return trial is not None
    points = [point for point in folder.points(study) if not folder.refits.settled(point.name)]
    return any(run_if_free([point], folder.refits) for point in points)


_LOADERS: dict[str, FeatureLoader] = {}  # of this process, by search: its trials share features where they may


def _loader(search: Search) -> FeatureLoader:
    if not search.shares_features:
        return FeatureLoader()
    for name in [name for name in _LOADERS if name != search.name]:
        del _LOADERS[name]
    return _LOADERS.setdefault(search.name, FeatureLoader(runs=2))


def _make(study: Study, trial: RunningTrial) -> None:
    """Make a trial and write down what it came to; where it fails, why."""
    same = study.same_as(trial)
    if same is not None:
        trial.note(notes.SAME_AS, same.number)
        if same.user_attrs.get(notes.PRUNED):
            trial.note(notes.PRUNED, True)
        study.tell(trial, same.value, same.user_attrs.get(notes.PROBLEM, ""))
        return
    attempts = trial.notes.get(notes.ATTEMPTS, 0) + 1
    if attempts > notes.MOST_ATTEMPTS:
        study.tell(trial, None, f"the process that ran it ended {attempts - 1} times")
        return
    trial.note(notes.ATTEMPTS, attempts)
    problem, value = "", math.nan
    try:
        with _timed(trial):
            result = _trained(study.search, trial, study.run(trial.number))
            value = result.value
            trial.note(notes.EPOCH, result.epoch)
            trial.note(notes.EPOCHS, result.epochs)
    except KeyboardInterrupt:
        trial.note(notes.ATTEMPTS, attempts - 1)  # it was asked to stop, and another process may resume it
        raise
    except AqaError as error:
        problem = str(error)
    except Exception:  # the search continues; the error is kept
        problem = traceback.format_exc()
    if not problem and math.isnan(value):
        problem = "the selection metric was undefined in every epoch"
    study.tell(trial, value, problem)


def _trained(search: Search, trial: RunningTrial, output: Path) -> TrialResult:
    """Train a trial, in each inner fold where there are some; it may be pruned in the first of them."""
    found: list[dict[str, Any]] = []
    for number, inner in enumerate(search.inner_folds):
        experiment = search.trial(trial.values, output if inner is None else output / f"fold{number}")
        one = Trial(trial.stop if number == 0 else _to_the_end, inner)
        found.append(run_loaded(experiment, _loader(search), expected=search.fingerprint, trial=one).metrics)
        if trial.notes.get(notes.PRUNED):
            break
    return TrialResult.of(found)


def _to_the_end(epoch: int, value: float) -> bool:
    return False


@contextlib.contextmanager
def _timed(trial: RunningTrial) -> Iterator[None]:
    """Add the seconds of the block to those of the trial, however it ends."""
    start = time.monotonic()
    try:
        yield
    finally:
        trial.note(notes.SECONDS, round(float(trial.notes.get(notes.SECONDS, 0.0)) + time.monotonic() - start, 3))


def work_together(
    folder: TuneFolder, studies: Sequence[Study], jobs: int, on_change: Callable[[], object] = lambda: None
) -> None:
    """`work` in several processes of this machine."""
    deaths: list[int] = []  # how far all was when a process ended before its time

    def bury(worker: Any) -> None:
        cause = ending(worker.exitcode)
        for point in [point for study in studies for point in folder.points(study)]:
            held = is_holder(worker, folder.refits.holder(point.name)) and folder.refits.state(point.name) == "waiting"
            if held and worker.exitcode not in STOPPED:
                folder.refits.fail(point.name, f"the process that ran it ended: {cause}")
        deaths.append(sum(study.progress for study in studies))
        if deaths[-MOST_DEATHS:] == [deaths[-1]] * MOST_DEATHS:
            raise AqaError(f"the processes of the search end before they have done anything: {cause}")

    keep_at_work(jobs, work, (folder,), lambda: folder.is_done(studies), bury, on_change)
