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
from aqa.evaluation.comparison import Estimate, best_by_measure, best_of, mean
from aqa.evaluation.measures import METRICS
from aqa.evaluation.metrics import fisher_mean
from aqa.runs.table import align, duration, interval_text, number
from aqa.sweeps.searches import Search, Tune
from aqa.sweeps.space import described
from aqa.sweeps.study import EPOCH, EPOCHS, PROBLEM, SAME_AS, SECONDS, Study, settings_of
from aqa.sweeps.tested import AVERAGE_OF_INCOMPLETE, OnTest

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
    """What one search has found. runs: of its best settings, finished ones; test: what these came to."""

    search: Search
    trials: Sequence[FrozenTrial]
    best: FrozenTrial | None
    importance: Mapping[str, float]
    runs: Sequence[Path] = ()
    failures: Sequence[str] = ()
    test: OnTest = field(default_factory=OnTest)

    @property
    def group(self) -> tuple[str, str]:
        """The experiment and the target, whose searches are compared."""
        return self.search.place["experiment"], self.search.place["target"]

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
    """Those of one experiment and target together, the best by the validation value first: never by the test split."""

    def rank(one: SearchFound) -> tuple[int, float]:
        value = np.inf if one.best is None else float(one.best.value or 0.0)
        return groups.index(one.group), -value if one.search.highest_is_best else value

    groups = list(dict.fromkeys(one.group for one in found))
    return sorted(found, key=rank)


def summary_table(found: Sequence[SearchFound], plan: Tune) -> str:
    """A table for each experiment and target: a line per model, with the validation value, SRCC on test and the budget.

    Below it a table for each further measure; where there are several targets, at last the means over them.
    """
    parts = []
    for experiment in dict.fromkeys(one.search.place["experiment"] for one in found):
        of_targets = {}
        for group in dict.fromkeys(one.group for one in found if one.search.place["experiment"] == experiment):
            own = of_targets[group] = [one for one in in_order(found) if one.group == group]
            parts.append("\n".join([_title(own[0].search, plan), *align(_lines(own)), *_notes(own)]))
            parts += [_measure_table(own, measure) for measure in _measures(own)]
        if len(of_targets) > 1:
            parts.append(_mean_table(experiment, list(of_targets.values())))
    return "\n\n".join(part for part in parts if part)


def _title(search: Search, plan: Tune) -> str:
    target = search.experiment.data.target
    return f"{search.place['experiment']}, {target}: {plan.trials} trials of each model, chosen by {search.metric}"


def _lines(own: Sequence[SearchFound]) -> list[list[str]]:
    shown = _shown(own)
    best = {
        name: best_of({i: one.test.srcc[name] for i, one in enumerate(own) if name in one.test.srcc}) for name in shown
    }
    rows = [["model", "validation", *_headings(shown), "seeds", "complete", "pruned", "failed", "epochs", "time"]]
    for i, one in enumerate(own):
        cells = [_cell(one.test.srcc.get(name), best[name] == i) for name in shown]
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


def _headings(patterns: Sequence[str]) -> list[str]:
    return [f"test {name}" + " " * 17 for name in patterns]  # above the value, not the interval


def _shown(own: Sequence[SearchFound]) -> list[str]:
    """The patterns of a table: the first, and the average of the incomplete ones."""
    patterns = list(dict.fromkeys(name for one in own for name in one.test.srcc))
    return [*patterns[:1], *(name for name in patterns[1:] if name == AVERAGE_OF_INCOMPLETE)]


def _measures(own: Sequence[SearchFound]) -> list[str]:
    return list(dict.fromkeys(measure for one in own for measure in one.test.measures))


def _measure_table(own: Sequence[SearchFound], measure: str) -> str:
    """A further measure on test, in the order of the table of SRCC."""
    about, shown = METRICS.get(measure).about, _shown(own)
    known = {i: one.test.measures.get(measure, {}) for i, one in enumerate(own)}
    best = {
        name: best_by_measure({i: of[name] for i, of in known.items() if name in of}, about["better"]) for name in shown
    }
    rows = [["model", *_headings(shown)]]
    for i, one in enumerate(own):
        cells = [_cell(known[i].get(name), best[name] == i) for name in shown]
        rows.append([one.search.place["model"], *cells])
    place = f"{own[0].search.place['experiment']}, {own[0].search.place['target']}"
    return "\n".join([f"{place}: {about['title']} ({about['better']} is better), mean over seeds", *align(rows)])


def _mean_table(experiment: str, targets: Sequence[Sequence[SearchFound]]) -> str:
    """The means over targets of the validation value and of SRCC on test; of models that have all of them."""
    models: dict[str, list[SearchFound]] = {}
    for one in (one for own in targets for one in own if one.test.srcc and one.best is not None):
        models.setdefault(one.search.place["model"], []).append(one)
    whole = {model: own for model, own in models.items() if len(own) == len(targets)}
    if not whole:
        return ""
    search = targets[0][0].search
    values = {model: _mean_value([one.best.value for one in own if one.best], search) for model, own in whole.items()}
    shown = _shown(targets[0])
    tested = {
        model: {name: mean(one.test.srcc[name] for one in own) for name in shown if _all_have(own, name)}
        for model, own in whole.items()
    }
    best = {name: best_of({model: of[name] for model, of in tested.items() if name in of}) for name in shown}
    rows = [["model", "validation", *_headings(shown)]]
    for model in sorted(whole, key=lambda model: -values[model] if search.highest_is_best else values[model]):
        cells = [_cell(tested[model].get(name), best[name] == model) for name in shown]
        rows.append([model, number(values[model]), *cells])
    title = f"{experiment}, mean over {len(targets)} targets, each with settings of its own"
    return "\n".join([title, *align(rows)])


def _mean_value(values: Sequence[float | None], search: Search) -> float:
    known = [np.nan if value is None else float(value) for value in values]
    return fisher_mean(known) if search.highest_is_best else float(np.mean(known))


def _all_have(own: Sequence[SearchFound], pattern: str) -> bool:
    return all(pattern in one.test.srcc for one in own)


def _cell(found: Estimate | None, is_best: bool) -> str:
    if found is None:
        return ""
    if not len(found.draws):
        return number(None if np.isnan(found.value) else found.value)
    low, high = (None if np.isnan(end) else float(end) for end in found.interval[:2])
    value = None if np.isnan(found.value) else found.value
    text = f"{number(value)} {interval_text(low, high, found.interval.why_none)}"
    return f"{text} *" if is_best else f"{text}  "


def _notes(own: Sequence[SearchFound]) -> list[str]:
    lines = [SELECTED_ON_TEST] if own[0].search.on_test else []
    if any(one.test.srcc for one in own):
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
        rows.append({**row, **_on_test(one.test)})
    return pd.DataFrame(rows)


def _on_test(test: OnTest) -> dict[str, float]:
    """What runs came to, by column: test_VA, test_VA_low, test_VA_mae ..."""
    named = {f"test_{pattern}": found for pattern, found in test.srcc.items()}
    for measure, by_pattern in test.measures.items():
        named |= {f"test_{pattern}_{measure}": found for pattern, found in by_pattern.items()}
    columns = {}
    for name, found in named.items():
        columns[name] = found.value
        if len(found.draws):
            columns |= {f"{name}_low": found.interval.low, f"{name}_high": found.interval.high}
    return columns


def importance_numbers(found: Sequence[SearchFound]) -> pd.DataFrame:
    """A row per search and setting: its share in deciding the value."""
    rows = [
        {**one.search.place, "setting": key, "importance": share}
        for one in found
        for key, share in one.importance.items()
    ]
    return pd.DataFrame(rows, columns=["experiment", "target", "model", "setting", "importance"])
