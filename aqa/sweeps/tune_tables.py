"""What a search over settings has found: a line per model, its trials, which settings decide, and what was spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from aqa.config.overrides import as_override
from aqa.evaluation.comparison import Estimate, best_of
from aqa.runs.cost import duration
from aqa.runs.table import align, interval_text, number
from aqa.sweeps.searches import Search, Tune
from aqa.sweeps.space import described
from aqa.sweeps.study import EPOCH, EPOCHS, PROBLEM, SAME_AS, SECONDS, Study, settings_of
from aqa.sweeps.tested import AVERAGE_OF_INCOMPLETE

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
SELECTED_ON_TEST = "SETTINGS AND EPOCHS WERE SELECTED ON THE TEST SPLIT, by the protocol of the experiment file"
ESTIMATES_NOTE = "SRCC, mean over seeds (Fisher z), 95 % bootstrap interval over videos"


@dataclass(frozen=True)
class SearchFound:
    """What one search has found. runs: of its best settings, finished ones; test: SRCC by pattern, empty before."""

    search: Search
    trials: Sequence[FrozenTrial]
    best: FrozenTrial | None
    importance: Mapping[str, float]
    runs: Sequence[Path] = ()
    failures: Sequence[str] = ()
    test: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The best settings, by dotted key."""
        return {} if self.best is None else settings_of(self.search.space, self.best.params)

    @property
    def count(self) -> Counter[str]:
        """How many trials there are of each state."""
        return Counter(STATES[trial.state] for trial in self.trials)

    @property
    def repeated(self) -> int:
        """Trials whose settings an earlier one had, which cost nothing."""
        return sum(SAME_AS in trial.user_attrs for trial in self.trials)

    def spent(self, what: str) -> float:
        """The sum of a note over trials: seconds or epochs."""
        return float(sum(trial.user_attrs.get(what, 0) for trial in self.trials))

    def seconds(self) -> float:
        """Seconds that the trials took."""
        return self.spent(SECONDS)


def in_order(found: Sequence[SearchFound]) -> list[SearchFound]:
    """Those of one experiment together, the best by the validation value first: never by the test split."""

    def rank(one: SearchFound) -> tuple[int, float]:
        value = np.inf if one.best is None else float(one.best.value or 0.0)
        return experiments.index(one.search.place["experiment"]), -value if one.search.highest_is_best else value

    experiments = list(dict.fromkeys(one.search.place["experiment"] for one in found))
    return sorted(found, key=rank)


def summary_table(found: Sequence[SearchFound], plan: Tune) -> str:
    """A table for each experiment: a line per model, with the validation value, SRCC on test and the budget."""
    parts = []
    for experiment in dict.fromkeys(one.search.place["experiment"] for one in found):
        own = [one for one in in_order(found) if one.search.place["experiment"] == experiment]
        parts.append("\n".join([_title(own[0].search, plan), *align(_lines(own)), *_notes(own)]))
    return "\n\n".join(parts)


def _title(search: Search, plan: Tune) -> str:
    target = search.experiment.data.target
    return f"{search.place['experiment']}, {target}: {plan.trials} trials of each model, chosen by {search.metric}"


def _lines(own: Sequence[SearchFound]) -> list[list[str]]:
    shown = [name for name in _patterns(own) if name in _first_and_average(own)]
    best = {name: best_of({i: one.test[name] for i, one in enumerate(own) if name in one.test}) for name in shown}
    on_test = [f"test {name}" + " " * 17 for name in shown]  # above the value, not the interval
    rows = [["model", "validation", *on_test, "seeds", "complete", "pruned", "failed", "epochs", "time"]]
    for i, one in enumerate(own):
        cells = [_cell(one.test.get(name), best[name] == i) for name in shown]
        count = [str(one.count[state]) for state in ("complete", "pruned", "failed")]
        value = None if one.best is None else one.best.value
        rows.append(
            [
                one.search.place["model"],
                "none" if value is None else number(value),
                *cells,
                str(len(one.runs)),
                *count,
                f"{one.spent(EPOCHS):.0f}",
                duration(one.seconds()),
            ]
        )
    return rows


def _patterns(own: Sequence[SearchFound]) -> list[str]:
    return list(dict.fromkeys(name for one in own for name in one.test))


def _first_and_average(own: Sequence[SearchFound]) -> set[str]:
    return {*_patterns(own)[:1], AVERAGE_OF_INCOMPLETE}


def _cell(found: Estimate | None, is_best: bool) -> str:
    if found is None:
        return ""
    low, high = (None if np.isnan(end) else float(end) for end in found.interval[:2])
    value = None if np.isnan(found.value) else found.value
    text = f"{number(value)} {interval_text(low, high, found.interval.why_none)}"
    return f"{text} *" if is_best else f"{text}  "


def _notes(own: Sequence[SearchFound]) -> list[str]:
    lines = [SELECTED_ON_TEST] if own[0].search.on_test else []
    if any(one.test for one in own):
        lines.append(f"test: {ESTIMATES_NOTE}; *: above every other model by the paired test")
    lines += [f"{one.search.place['model']}: {repeats_text(one)}" for one in own if one.repeated]
    return lines


def repeats_text(one: SearchFound) -> str:
    """How many trials had settings that an earlier one had."""
    return f"{one.repeated} of {len(one.trials)} trials drew settings that an earlier one had, and cost nothing"


def typed_settings(one: SearchFound) -> str:
    """The best settings as they are typed."""
    return " ".join(as_override(key, value) for key, value in one.settings.items())


def best_table(found: Sequence[SearchFound]) -> str:
    """The best settings of each search, as they are typed, and how much each decided."""
    lines = []
    for one in in_order(found):
        if one.best is None:
            continue
        lines.append(f"{one.search.name}, trial {one.best.number + 1}: {typed_settings(one)}")
        if one.importance:
            parts = [f"{key} {share:.2f}" for key, share in sorted(one.importance.items(), key=lambda p: -p[1])]
            lines.append(f"  importance: {', '.join(parts)}")
    return "\n".join(["best settings, by the validation value alone", *lines]) if lines else ""


def trials_numbers(found: Sequence[SearchFound]) -> pd.DataFrame:
    """Every trial: a row each, with its state, value, cost and settings."""
    rows = []
    for one in found:
        for trial in one.trials:
            notes = trial.user_attrs
            rows.append(
                {
                    **one.search.place,
                    "trial": trial.number + 1,
                    "state": STATES[trial.state],
                    "value": trial.value,
                    "epoch": notes.get(EPOCH),
                    "epochs": notes.get(EPOCHS),
                    "seconds": notes.get(SECONDS),
                    "same_as": None if SAME_AS not in notes else notes[SAME_AS] + 1,
                    "problem": problem_of(trial),
                    **trial.params,
                }
            )
    return pd.DataFrame(rows)


def problem_of(trial: FrozenTrial) -> str:
    """Why a trial failed, in a line."""
    return next(iter(trial.user_attrs.get(PROBLEM, "").rstrip().splitlines()[::-1]), "")


def trial_line(study: Study, trial: FrozenTrial) -> str:
    """What a trial came to, in a line."""
    line = f"{study.search.name}, trial {trial.number + 1} of {study.most}: "
    if trial.state == TrialState.FAIL:
        return f"{line}failed: {problem_of(trial)}"
    if SAME_AS in trial.user_attrs:
        return f"{line}the settings of trial {trial.user_attrs[SAME_AS] + 1} again"
    epochs, seconds = trial.user_attrs.get(EPOCHS, 0), duration(trial.user_attrs.get(SECONDS, 0.0))
    if trial.state == TrialState.PRUNED:
        return f"{line}pruned after {epochs} epochs, {seconds}"
    best = study.best
    known = "" if best is None else f", best so far {number(best.value)} (trial {best.number + 1})"
    return f"{line}{study.search.metric} {number(trial.value)}{known}; {epochs} epochs, {seconds}"


def planned_text(plan: Tune, searches: Sequence[Search]) -> str:
    """What would be searched: the objective, the budget and the space of each search."""
    lines = []
    for search in searches:
        lines.append(f"{search.name}: {plan.trials} trials, by {search.metric}")
        lines += [f"  {key}: {text}" for key, text in described(search.space).items()]
    return "\n".join(lines)


def results_numbers(found: Sequence[SearchFound], plan: Tune) -> pd.DataFrame:
    """A row per search: the best settings, the validation value, SRCC on test with intervals, and the budget."""
    rows = []
    for one in in_order(found):
        select = one.search.experiment.select
        row = {
            **one.search.place,
            "target": one.search.experiment.data.target,
            "selected_on": select.split,
            "metric": select.metric,
            "pattern": select.pattern,
            "validation": None if one.best is None else one.best.value,
            "best_trial": None if one.best is None else one.best.number + 1,
            "settings": typed_settings(one),
            "trials": len(one.trials),
            **{state: one.count[state] for state in ("complete", "pruned", "failed")},
            "repeated": one.repeated,
            "epochs": int(one.spent(EPOCHS)),
            "seconds": round(one.seconds(), 1),
            "sampler": plan.sampler,
            "seeds": " ".join(map(str, plan.seeds)),
        }
        for name, estimate in one.test.items():
            low, high = estimate.interval[:2]
            row |= {f"test_{name}": estimate.value, f"test_{name}_low": low, f"test_{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def importance_numbers(found: Sequence[SearchFound]) -> pd.DataFrame:
    """A row per search and setting: its share in deciding the value."""
    rows = [
        {**one.search.place, "setting": key, "importance": share}
        for one in found
        for key, share in one.importance.items()
    ]
    return pd.DataFrame(rows, columns=["experiment", "model", "setting", "importance"])
