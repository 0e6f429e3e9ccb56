"""What a report says of further measures (`evaluate.metrics`), and of the area under SRCC against missing rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aqa.errors import AqaError
from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.comparison import Estimate, mean_difference
from aqa.evaluation.curves import mean_over
from aqa.evaluation.measures import METRICS, Ranges, at_its_best, in_resamples, measured_by_repeat
from aqa.reporting.collect import FinishedRun, ModelRuns, same_number
from aqa.reporting.columns import AVERAGE
from aqa.runs.predictions import RecordedScores


@dataclass(frozen=True, eq=False)
class MeasureNumbers:
    """A measure of one model by column of the table: plain means over seeds, patterns and targets.

    found: with what it comes to in every resample of the report, none of them where no interval was asked. by_seed:
    the value of each seed.
    """

    name: str
    found: dict[str, Estimate] = field(default_factory=dict)
    by_seed: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def about(self) -> Mapping[str, Any]:
        """Its title, which end is better, and whether it has the target's units; little of one that is not known."""
        known = METRICS.get(self.name).about if self.name in METRICS.names() else {"title": self.name, "better": ""}
        return {"in_units": False, **known}

    def deviation(self, column: str) -> float:
        """The standard deviation over seeds; NaN for one seed, or where the measure is undefined for one."""
        values = list(self.by_seed.get(column, {}).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def measure_numbers(
    own: ModelRuns,
    scores: Mapping[int, RecordedScores],
    counts: Floats,
    patterns: Sequence[str],
    averaged: Sequence[str],
) -> dict[str, MeasureNumbers]:
    """The measures that every seed of a model has. counts: (n, R), how often each test video was drawn.

    AqaError where a run's predictions do not give what it reports.
    """
    reported = {seed: run.metrics["patterns"] for seed, run in own.runs.items()}
    each = [set(found.get("measures", ())) for by_pattern in reported.values() for found in by_pattern.values()]
    names = [name for name in _listed(reported.values()) if all(name in known for known in each)]
    return {name: _of_measure(name, own, scores, counts, patterns, averaged) for name in names}


def _listed(reported: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (name for by_pattern in reported for one in by_pattern.values() for name in one.get("measures", ()))
    return list(dict.fromkeys(found))


def _of_measure(
    name: str,
    own: ModelRuns,
    scores: Mapping[int, RecordedScores],
    counts: Floats,
    patterns: Sequence[str],
    averaged: Sequence[str],
) -> MeasureNumbers:
    numbers = MeasureNumbers(name)
    for pattern in patterns:
        by_seed, draws = {}, []
        for seed, one in scores.items():
            run = own.runs[seed]
            by_seed[seed] = _reported(run, pattern, name)
            ranges = _ranges(run)
            if ranges is not None and name in METRICS.names():
                _require_same(run, one, pattern, name, by_seed[seed], ranges)
                if run.settings.get("evaluate.intervals") is not False:
                    repeats = [in_resamples(name, each, one.truth, counts, ranges) for each in one.scores(pattern)]
                    draws.append(np.mean(repeats, axis=0))
        value = float(np.mean(list(by_seed.values())))
        numbers.by_seed[pattern] = by_seed
        numbers.found[pattern] = _estimate(name, value, draws if len(draws) == len(scores) else [])
    if averaged and all(pattern in numbers.found for pattern in averaged):
        numbers.found[AVERAGE] = mean_difference([numbers.found[pattern] for pattern in averaged])
        numbers.by_seed[AVERAGE] = {s: float(np.mean([numbers.by_seed[p][s] for p in averaged])) for s in scores}
    return numbers


def _estimate(name: str, value: float, draws: Sequence[Floats]) -> Estimate:
    found = np.mean(draws, axis=0) if draws else np.empty(0)
    return Estimate(value, found, at_its_best(name, found) if draws else np.empty(0, bool))


def _reported(run: FinishedRun, pattern: str, name: str) -> float:
    value = run.metrics["patterns"][pattern]["measures"][name]["value"]
    return float("nan") if value is None else float(value)


def _ranges(run: FinishedRun) -> Ranges | None:
    """What scores of a run may be, as it reports it."""
    known = run.metrics.get("ranges")
    return None if known is None else Ranges(tuple(known["target"]), tuple(known["labels"]))


def _require_same(
    run: FinishedRun, scores: RecordedScores, pattern: str, name: str, reported: float, ranges: Ranges
) -> None:
    found = measured_by_repeat([name], {pattern: scores.scores(pattern)}, scores.truth, ranges, intervals=False)
    value = found[pattern][name]["value"]
    if not same_number(value, None if np.isnan(reported) else reported):
        raise AqaError(
            f"{run.folder}: its predictions do not go with its metrics: {name} under {pattern} is {value:.6g}, "
            f"{reported:.6g} by metrics.json; one of them was changed, or is another run's. Leave the run out, or make "
            "it again"
        )


def mean_measures(
    rows: Sequence[Mapping[str, MeasureNumbers]], columns: Sequence[str], seeds: Sequence[int]
) -> dict[str, MeasureNumbers]:
    """Measures of one model over targets: plain means of those that do not have the units of a target."""
    found = {}
    for name, first in rows[0].items():
        if first.about["in_units"] or not all(name in row for row in rows):
            continue
        known = [column for column in columns if all(column in row[name].found for row in rows)]
        found[name] = MeasureNumbers(
            name,
            {column: _mean_over_targets([row[name].found[column] for row in rows]) for column in known},
            {c: {s: float(np.mean([row[name].by_seed[c][s] for row in rows])) for s in seeds} for c in known},
        )
    return found


def _mean_over_targets(found: Sequence[Estimate]) -> Estimate:
    if any(not len(one.draws) for one in found):
        return Estimate(float(np.mean([one.value for one in found])), np.empty(0), np.empty(0, bool))
    return mean_difference(found)


def area_over_rates(own: ModelRuns, srcc: Mapping[str, Estimate]) -> Estimate | None:
    """The area under SRCC against the missing rate, over its width, of the rates that every seed was tested at."""
    areas = [run.metrics.get("area_under_rates") for run in own.runs.values()]
    first = areas[0]
    if first is None or any(area is None or area["patterns"] != first["patterns"] for area in areas):
        return None
    if not all(name in srcc for name in first["patterns"]):
        return None
    found, at = [srcc[name] for name in first["patterns"]], np.array(first["rates"])
    value = float(mean_over(at, np.array([[one.value] for one in found]))[0])
    draws = mean_over(at, np.array([one.draws for one in found]))
    return Estimate(value, draws, np.any([one.perfect for one in found], axis=0))
