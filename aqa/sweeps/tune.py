"""Searching settings, from a tune file to the runs of the best ones, each scored once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from aqa.errors import AqaError
from aqa.sweeps import tune_tables as tables
from aqa.sweeps.folder import IMPORTANCE, RESULTS, SUMMARY, TRIALS_TABLE
from aqa.sweeps.searches import load_tune, searches_of
from aqa.sweeps.study import Study
from aqa.sweeps.tables import failures
from aqa.sweeps.tested import OnTest, estimates_by_target
from aqa.sweeps.tune_tables import SearchFound
from aqa.sweeps.tune_work import TuneFolder, work, work_together
from aqa.sweeps.wandb_agents import WandbMethod, wandb_searches, write_wandb
from aqa.system.files import write_table, write_text
from aqa.system.saying import Say, silent


@dataclass(frozen=True)
class TuneResult:
    """What a search over settings has found so far; `str` is what a user reads.

    folder: of the search. numbers: as in results.csv, a row per model and experiment. trials: as in trials.csv.
    failures: a line per search without a value and per run of best settings that failed. done: whether all trials have
    ended and the best settings are run.
    """

    folder: Path
    text: str
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    failures: Sequence[str] = ()
    done: bool = True

    @property
    def exit_status(self) -> int:
        """1 if a search or a run of its best settings failed, otherwise 0, as the command returns it."""
        return 1 if self.failures else 0

    def __str__(self) -> str:
        return self.text


def tune(
    file: str | os.PathLike[str],
    *,
    jobs: int = 1,
    dry_run: bool = False,
    status: bool = False,
    export_wandb: str | os.PathLike[str] | None = None,
    method: WandbMethod = "bayes",
    say: Say = silent,
    show_progress: bool = False,
) -> TuneResult:
    """Search the settings that a tune file (YAML) names, then run the best of each model and score these runs once.

    Settings are chosen by the selection metric on the validation split; the labels of the test split are not read
    before. A search that was stopped is resumed; any number of processes may share one. jobs: trials at a time.
    dry_run: only list the searches. status: only show how far they are. export_wandb: only write the searches for
    agents of Weights & Biases to this folder, to be made by the `method`. AqaError for a mistake in the file; a trial
    that fails does not stop the others.
    """
    if jobs < 1:
        raise AqaError(f"jobs is {jobs}; it must be 1 or more")
    loaded = load_tune(file)
    searches = searches_of(loaded, make=not (dry_run or status or export_wandb), say=say)
    folder = TuneFolder(Path(loaded.plan.output or Path("runs") / loaded.plan.name), loaded.plan, searches)
    if export_wandb is not None:
        lines = write_wandb(wandb_searches(loaded.plan, searches, method), Path(export_wandb))
        return TuneResult(folder.path, "\n".join(lines))
    if dry_run:
        return TuneResult(folder.path, tables.planned_text(loaded.plan, searches))
    if status and not folder.path.is_dir():
        return TuneResult(folder.path, f"nothing was searched yet in {folder.path}")
    studies = folder.studies()
    if not status:
        with _progress(studies, show_progress, say) as on_change:
            if jobs == 1:
                work(folder, on_change)
            else:
                work_together(folder, studies, jobs, on_change)
    result = found_until_now(folder, studies)
    for line in result.failures:
        say(f"failed: {line}")
    say(f"folder of the search: {folder.path}; {TRIALS_TABLE} has every trial")
    return result


def found_until_now(folder: TuneFolder, studies: Sequence[Study]) -> TuneResult:
    """What the searches have found so far, which is written to the tables in their folder."""
    found = _with_tests([_found(folder, study) for study in studies])
    numbers, trials = tables.results_numbers(found, folder.plan), tables.trials_numbers(found)
    parts = [tables.summary_table(found, folder.plan), tables.best_table(found)]
    text = "\n\n".join(part for part in parts if part)
    for name, table in ((RESULTS, numbers), (TRIALS_TABLE, trials), (IMPORTANCE, tables.importance_numbers(found))):
        write_table(folder.path / name, table)
    write_text(folder.path / SUMMARY, text + "\n")
    failed = [line for one in found for line in one.failures]
    return TuneResult(folder.path, text, numbers, trials, failed, folder.is_done(studies))


def _found(folder: TuneFolder, study: Study) -> SearchFound:
    states = {point.name: folder.refits.state(point.name) for point in folder.points(study)}
    runs = [folder.refits.run(name) for name, state in states.items() if state == "done"]
    lines = failures(states, folder.refits)
    if study.is_complete and study.best is None:
        lines.append(f"{study.search.name}: no trial has a value; the last: {tables.problem_of(study.ended[-1])}")
    return SearchFound(study.search, study.trials, study.best, study.importance(), runs, lines)


def _with_tests(found: Sequence[SearchFound]) -> list[SearchFound]:
    """The same with what runs came to on the test split, paired between the models of an experiment."""
    tested: dict[str, OnTest] = {}
    for experiment in dict.fromkeys(one.search.place["experiment"] for one in found):
        by_target: dict[str, dict[str, Sequence[Path]]] = {}
        for one in found:
            if one.search.place["experiment"] == experiment:
                by_target.setdefault(one.search.place["target"], {})[one.search.name] = one.runs
        for of_target in estimates_by_target(by_target).values():
            tested |= of_target
    return [replace(one, test=tested.get(one.search.name, OnTest())) for one in found]


@contextlib.contextmanager
def _progress(studies: Sequence[Study], show: bool, say: Say) -> Iterator[Callable[[], None]]:
    """Shows how many trials have ended, and says what each came to."""
    from tqdm import tqdm

    told = {study.search.name: {trial.number for trial in study.ended} for study in studies}
    total, done = sum(study.most for study in studies), sum(map(len, told.values()))
    disable = None if show else True  # None: tqdm itself finds out whether stderr is a terminal
    with tqdm(total=total, initial=done, unit="trial", desc="tune", disable=disable, dynamic_ncols=True) as bar:

        def on_change() -> None:
            for study in studies:
                for trial in study.ended:
                    if trial.number not in told[study.search.name]:
                        told[study.search.name].add(trial.number)
                        bar.update()
                        say(tables.trial_line(study, trial))

        try:
            yield on_change
        except KeyboardInterrupt as stop:
            ended = sum(len(study.ended) for study in studies)
            stop.args = (f"stopped; {ended} of {total} trials have ended; the same command resumes the search",)
            raise
