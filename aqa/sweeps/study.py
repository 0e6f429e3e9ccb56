"""The trials of one search, kept by Optuna in a journal in the search's folder.

A process that is killed costs nothing but its trial, which another one resumes. What a trial draws follows from the
seed, its number and the trials before it, not from which process draws it. So one process at a time makes the same
search, to the last bit, however often it was killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from aqa.config.schema import DEFAULTS_OF_OLDER_RUNS
from aqa.errors import AqaError, first_line
from aqa.sweeps.journal import Journal
from aqa.sweeps.searches import NOT_OF_THE_SEARCH, Search, Tune
from aqa.sweeps.space import Choices, Range, Space
from aqa.system.locks import claimed

JOURNAL = "trials.jsonl"
IDENTITY = "search"  # a note in the journal: what makes it this search
PRUNED, ATTEMPTS, SECONDS, EPOCH, EPOCHS, PROBLEM, SAME_AS = (  # notes in the journal about a trial
    "pruned",
    "attempts",
    "seconds",
    "epoch",
    "epochs",
    "problem",
    "same as",
)
MOST_ATTEMPTS = 3  # of a trial whose process ended without a word
STARTUP = 10  # trials that are drawn at random before TPE has something to go by
STARTUP_OF_PRUNING = 5  # trials that are trained to their end before one is pruned

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what happens is said by us


class SeededByTrial(BaseSampler):
    """A sampler that draws for each trial, and each setting, from a seed of its own."""

    def __init__(self, kind: Literal["tpe", "random"], seed: int):
        self.kind, self.seed = kind, seed

    def _of(self, *about: object) -> BaseSampler:
        digest = hashlib.sha256(json.dumps([self.seed, *about]).encode()).digest()
        seed = int.from_bytes(digest[:4], "little")
        return RandomSampler(seed=seed) if self.kind == "random" else TPESampler(n_startup_trials=STARTUP, seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial.number, param_name).sample_independent(study, trial, param_name, param_distribution)


def _suggested(trial: optuna.Trial, key: str, span: Choices | Range) -> Any:
    """What a trial has for a setting, drawn now where it was not before; of choices, the name."""
    if isinstance(span, Choices):
        return trial.suggest_categorical(key, tuple(span.values))
    if span.scale == "int":
        return trial.suggest_int(key, int(span.low), int(span.high))
    return trial.suggest_float(key, span.low, span.high, log=span.scale == "log")


def _pruner(plan: Tune) -> optuna.pruners.BasePruner:
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(STARTUP_OF_PRUNING, plan.prune_after)
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=plan.prune_after)
    return optuna.pruners.NopPruner()


class RunningTrial:
    """A trial that this process has."""

    def __init__(self, trial: optuna.Trial, space: Space, frozen: FrozenTrial):
        self.number = trial.number
        self.labels = {key: _suggested(trial, key, span) for key, span in space.items()}
        self.values = settings_of(space, self.labels)
        self.notes = dict(frozen.user_attrs)
        self._trial, self._reported = trial, set(frozen.intermediate_values)

    def stop(self, epoch: int, value: float) -> bool:
        """Report an epoch's value of the selection metric; whether the trial is pruned after it."""
        if value != value:  # undefined, as a constant score is in the first epochs
            return False
        if epoch not in self._reported:
            self._trial.report(value, epoch)
            self._reported.add(epoch)
        if not self._trial.should_prune():
            return False
        self.note(PRUNED, True)
        return True

    def note(self, key: str, value: Any) -> None:
        """Keep something about the trial."""
        self.notes[key] = value
        self._trial.set_user_attr(key, value)


def settings_of(space: Space, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key, from what the journal has of them: choices by their names."""
    return {
        key: span.values[labels[key]] if isinstance(span, Choices) else labels[key]
        for key, span in space.items()
        if key in labels
    }


class Study:
    """The trials of one search in its folder. AqaError where the folder has another search, or cannot be read."""

    def __init__(self, search: Search, plan: Tune, folder: Path):
        self.search, self.folder, self.most = search, folder, plan.trials
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = folder / JOURNAL
        with self._asking(), self._reading():
            self._study = optuna.create_study(
                storage=JournalStorage(Journal(self.journal)),
                study_name=search.name,
                load_if_exists=True,
                direction="maximize" if search.highest_is_best else "minimize",
                sampler=SeededByTrial(plan.sampler, plan.seed),
                pruner=_pruner(plan),
            )
            self._require_same(search.identity(plan))

    def _require_same(self, identity: Mapping[str, Any]) -> None:
        known = self._study.user_attrs.get(IDENTITY)
        if known is None:
            self._study.set_user_attr(IDENTITY, dict(identity))
            return
        for key in (key for key in [*identity, *known] if key not in NOT_OF_THE_SEARCH):
            here, there = (one.get(key, DEFAULTS_OF_OLDER_RUNS.get(key)) for one in (identity, known))
            if here != there:
                raise AqaError(
                    f"{self.folder} holds another search ({key} is {there!r} there, {here!r} here); name another "
                    "folder with `output`"
                )

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Keep other processes from taking a trial meanwhile."""
        with claimed(self.folder / "asking.lock", wait=-1):
            yield

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """What goes wrong with the journal is one line."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AssertionError, OSError) as error:
            raise AqaError(f"{self.journal} cannot be read as the trials of a search: {first_line(error)}") from None

    def claim(self, number: int) -> Path:
        """The lock of a trial."""
        return self.folder / ".claims" / f"{number + 1:04d}.lock"

    def run(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / f"{number + 1:04d}"

    @contextlib.contextmanager
    def taken(self) -> Iterator[RunningTrial | None]:
        """A trial that is ours until the block ends: one that its process left, or a new one; None if there is none."""
        self.claim(0).parent.mkdir(exist_ok=True)
        with contextlib.ExitStack() as claims:
            with self._asking(), self._reading():
                trial = self._left(claims) or self._new(claims)
            yield trial

    def _left(self, claims: contextlib.ExitStack) -> RunningTrial | None:
        """A trial that was begun and whose process is gone."""
        for begun in self._trials(TrialState.RUNNING):
            if not claims.enter_context(claimed(self.claim(begun.number))):
                continue
            frozen = next(trial for trial in self._trials() if trial.number == begun.number)
            if frozen.state == TrialState.RUNNING:  # it has not ended since
                return RunningTrial(optuna.Trial(self._study, frozen._trial_id), self.search.space, frozen)
        return None

    def _new(self, claims: contextlib.ExitStack) -> RunningTrial | None:
        if len(self._study.get_trials(deepcopy=False)) >= self.most:
            return None
        trial = self._study.ask()
        claims.enter_context(claimed(self.claim(trial.number)))
        return RunningTrial(trial, self.search.space, self._study.get_trials(deepcopy=False)[trial.number])

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials that count, in order."""
        known = self._study.get_trials(deepcopy=False)[: self.most]
        return [trial for trial in known if not states or trial.state in states]

    def tell(self, trial: RunningTrial, value: float | None, problem: str = "") -> None:
        """A trial has ended: with a value, or pruned, or without one because of a problem."""
        if problem:
            trial.note(PROBLEM, problem)
            self._study.tell(trial.number, state=TrialState.FAIL)
        elif trial.notes.get(PRUNED):
            self._study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self._study.tell(trial.number, value)

    def same_as(self, trial: RunningTrial) -> FrozenTrial | None:
        """An earlier trial of the same settings that has ended."""
        before = [other for other in self.ended if other.number < trial.number and other.params == trial.labels]
        return before[0] if before else None

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """The trials so far, in the order in which they were begun."""
        with self._reading():
            return self._trials()

    @property
    def ended(self) -> list[FrozenTrial]:
        """Those that have ended."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    @property
    def progress(self) -> int:
        """A number that rises with everything that is done."""
        return sum(int(trial.user_attrs.get(ATTEMPTS, 0)) + trial.state.is_finished() for trial in self.trials)

    @property
    def is_complete(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return len(self.ended) >= self.most

    @property
    def best(self) -> FrozenTrial | None:
        """The trial of the best value, the first of them; None where none has a value. Pruned ones are left out."""
        valued = [trial for trial in self.ended if trial.state == TrialState.COMPLETE]
        sign = -1 if self.search.highest_is_best else 1
        return min(valued, key=lambda trial: (sign * float(trial.value or 0.0), trial.number), default=None)

    def importance(self) -> dict[str, float]:
        """How much each setting decides the value, adding up to 1: functional ANOVA (Hutter et al., ICML 2014).

        Empty where fewer than two trials have a value, or all have the same.
        """
        values = {trial.value for trial in self.ended if trial.state == TrialState.COMPLETE}
        if len(values) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {key: float(value) for key, value in found.items()}
