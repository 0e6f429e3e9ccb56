"""What a report says of each target, and of all targets of a data set together: numbers, no words."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from aqa.config.dialect import in_one_line
from aqa.errors import AqaError, brief
from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import Floats, ResampledTarget
from aqa.evaluation.comparison import Estimate, best_of, mean, mean_difference
from aqa.evaluation.cross_validation import pooled
from aqa.evaluation.worth import StreamWorth, mean_worth
from aqa.modalities import find_subset, initials, subset_name
from aqa.reporting.collect import NOT_OF_THE_MODEL, ModelRuns, Place, read_scores
from aqa.reporting.columns import AVERAGE, incomplete_subsets
from aqa.reporting.explained_videos import ExplainedVideos
from aqa.reporting.folds import FoldNumbers, fold_numbers
from aqa.reporting.intervals import RowIntervals, mean_intervals, row_intervals
from aqa.reporting.learned import learned_of
from aqa.reporting.measures import MeasureNumbers, area_over_rates, mean_measures, measure_numbers
from aqa.reporting.seed_ensembles import seed_ensemble
from aqa.reporting.worth import row_worth
from aqa.runs.predictions import RecordedScores
from aqa.runs.selection import MAYBE_TEST

BY_TARGET = "differs between targets"
RATE = re.compile(r"rates\((\d*\.?\d+)\)")


@dataclass(frozen=True)
class SelectedValue:
    """The metric that selected the epochs, under which pattern, and its mean over seeds (NaN: not known)."""

    metric: str
    pattern: str
    value: float


@dataclass(frozen=True, eq=False)
class Row:
    """One model: everything by pattern, SRCC and its like over seeds by Fisher's z, the others by plain means."""

    label: str
    selected_on: str
    seeds: tuple[int, ...]
    srcc: dict[str, Estimate]  # AVERAGE among them, where all incomplete patterns of the section were scored
    by_seed: dict[str, dict[int, float]]  # SRCC by pattern and seed
    mse: dict[str, float]  # in squared units of the target; empty for several targets
    rl2: dict[str, float]
    n: dict[str, int]
    worth: dict[str, Estimate]  # by modality: SRCC with everything visible less that without it, on the same videos
    router: dict[str, Floats]  # by pattern, mean over samples and seeds (streams, experts), NaN for those it lacks
    untested: dict[str, tuple[int, ...]]  # by pattern of the section, the seeds that were not tested under it
    settings: dict[str, str]  # by dotted key, except for the model's own
    selected_value: SelectedValue
    folds: FoldNumbers | None = None  # of a cross-validation
    measures: dict[str, MeasureNumbers] = field(default_factory=dict)  # by name, those that were asked for
    area: Estimate | None = None  # under SRCC against missing rates, where several were tested
    intervals: RowIntervals | None = None  # of single scores; None of runs of older versions
    ensemble: dict[str, Estimate] = field(default_factory=dict)  # SRCC of the mean scores of its seeds, by column
    streams: list[StreamWorth] = field(default_factory=list)  # what each is worth where others are visible
    learned: str = ""  # what it learned from beside its target's labels in `train`
    model: str = ""  # as `aqa models` has it
    explained: ExplainedVideos | None = None  # of the run of the lowest seed

    def deviation(self, pattern: str) -> float:
        """The standard deviation of SRCC over seeds; NaN for one seed, or where it is undefined for one."""
        values = list(self.by_seed.get(pattern, {}).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    @property
    def on_test(self) -> bool:
        """Whether its epochs were selected on the test split, or may have been: of imported checkpoints."""
        return self.selected_on in MAYBE_TEST

    @property
    def marks(self) -> str:
        """The signs behind its label: that epochs were selected on the test split; that it learned from more."""
        return " †" * self.on_test + " ‡" * bool(self.learned)


@dataclass(frozen=True, eq=False)
class ReportSection:
    """A target of a data set, or all of them together (target None, and how many in `targets`)."""

    data_set: str
    target: str | None
    targets: int
    modalities: tuple[str, ...]
    patterns: tuple[str, ...]
    rows: list[Row]
    ceiling: dict[str, float]
    averaged: tuple[str, ...]  # the patterns that AVERAGE is the mean of
    truth: Floats  # (n,) labels, and by row the predictions of its lowest seed under the complete pattern
    shown: list[Floats]
    note: str = ""  # on the folds of a cross-validation
    ids: tuple[str, ...] = ()  # of the test videos (n,)

    @property
    def title(self) -> str:
        return f"{self.data_set}: {self.target or f'mean of {self.targets} targets'}"

    @cached_property
    def columns(self) -> list[str]:
        """The patterns, and the average where there is one."""
        return [*self.patterns, *([AVERAGE] if any(AVERAGE in row.srcc for row in self.rows) else [])]

    @property
    def complete(self) -> str:
        """The name of the pattern in which nothing is missing."""
        return _complete(self.modalities)

    def groups(self) -> list[list[Row]]:
        """Rows that may be compared: those selected on the test split stand apart."""
        by_kind = ([row for row in self.rows if row.on_test == kind] for kind in (False, True))
        return [group for group in by_kind if group]

    def best(self, column: str) -> set[int]:
        """Which rows are better in a column than every other row of their group: by the paired test, not by digits."""
        if column not in self._best:
            self._best[column] = {
                place for group in self.groups() if (place := self._best_of(group, column)) is not None
            }
        return self._best[column]

    @cached_property
    def _best(self) -> dict[str, set[int]]:
        return {}

    def _best_of(self, group: Sequence[Row], column: str) -> int | None:
        return best_of({self.rows.index(row): row.srcc[column] for row in group if column in row.srcc})

    def shared_settings(self) -> dict[str, str]:
        """The settings that all rows share, by dotted key."""
        first = self.rows[0].settings
        return {key: value for key, value in first.items() if all(row.settings.get(key) == value for row in self.rows)}


def verdict(difference: Estimate) -> str:
    """What the paired test says of a difference."""
    known = difference.interval
    if np.isnan(known.low):
        return "n too small" if known.too_few else "undefined"
    return "higher" if known.low > 0 else "lower" if known.high < 0 else "not told apart"


def target_section(place: Place, found: Sequence[ModelRuns], counts: Floats) -> ReportSection:
    """One target. counts: (n, R), how often each test video was drawn. AqaError if runs do not compare."""
    scores = [{seed: read_scores(run) for seed, run in sorted(own.runs.items())} for own in found]
    base = scores[0][min(found[0].runs)]
    for own, by_seed in zip(found, scores, strict=True):
        for seed, theirs in by_seed.items():
            if difference := _different_videos(base, theirs):
                raise AqaError(
                    f"{found[0].first.folder} and {own.runs[seed].folder} do not compare on {place.data_set} "
                    f"{place.target}: {difference}; report them apart"
                )
    modalities = _modalities(found)
    tested = dict.fromkeys(name for own in found for run in own.runs.values() for name in run.metrics["patterns"])
    patterns = tuple(_in_order(tested, modalities))
    averaged = incomplete_subsets(modalities, patterns)
    resampled = ResampledTarget(base.truth, counts)
    ceiling = {
        name: float(values["ceiling"])
        for own in found
        for name, values in own.first.metrics["patterns"].items()
        if values.get("ceiling") is not None
    }
    if averaged and all(name in ceiling for name in averaged):
        ceiling[AVERAGE] = metrics.fisher_mean(ceiling[name] for name in averaged)
    complete = _complete(modalities)
    unscored = np.full(len(base.truth), np.nan)
    return ReportSection(
        place.data_set,
        place.target,
        1,
        modalities,
        patterns,
        [_row(*pair, resampled, modalities, patterns, averaged) for pair in zip(found, scores, strict=True)],
        ceiling,
        tuple(averaged),
        base.truth,
        [next(iter(by_seed.values())).by_pattern.get(complete, unscored) for by_seed in scores],
        _note_on_folds(found[0].first.metrics.get("folds")),
        base.ids,
    )


def _note_on_folds(folds: Mapping[str, Any] | None) -> str:
    if folds is None:
        return ""
    drawn = "videos" if folds["group"] is None else f"the {folds['groups']} groups ({folds['group']})"
    return f"SRCC of the out-of-fold scores of all videos together; intervals draw {drawn}"


def _different_videos(one: RecordedScores, other: RecordedScores) -> str | None:
    """How the test videos of two runs differ, or their labels."""
    if one.ids != other.ids:
        return "they were tested on different videos"
    if one.labels != other.labels:
        return "their videos belong to different groups"
    if np.array_equal(one.truth, other.truth):
        return None
    at = np.flatnonzero(one.truth != other.truth)[0]
    return f"the label of {brief(one.ids[at])} is {one.truth[at]:g} in one and {other.truth[at]:g} in the other"


def _modalities(found: Sequence[ModelRuns]) -> tuple[str, ...]:
    """The modalities of all runs on a target; AqaError if one pattern's name stands for two sets of modalities."""
    runs = [run for own in found for run in own.runs.values()]
    widest = max(runs, key=lambda run: len(run.metrics["modalities"]))
    modalities = tuple(widest.metrics["modalities"])
    short = dict(zip(modalities, initials(modalities), strict=True))
    for run in runs:
        own = run.metrics["modalities"]
        if any(short.get(name) != initial for name, initial in zip(own, initials(own), strict=True)):
            raise AqaError(
                f"{widest.folder} and {run.folder} do not compare: patterns of {', '.join(modalities)} and of "
                f"{', '.join(own)} have other names; report them apart"
            )
    return modalities


def _in_order(patterns: Iterable[str], modalities: Sequence[str]) -> list[str]:
    """Subsets first, the largest before the others, then whatever else was tested."""

    def rank(name: str) -> tuple[bool, int, tuple[bool, ...]]:
        subset = find_subset(modalities, name)
        return (True, 0, ()) if subset is None else (False, -sum(subset), tuple(not seen for seen in subset))

    return sorted(patterns, key=rank)


def _complete(modalities: Sequence[str]) -> str:
    return subset_name(modalities, [True] * len(modalities))


def _row(
    own: ModelRuns,
    scores: Mapping[int, RecordedScores],
    resampled: ResampledTarget,
    modalities: Sequence[str],
    tested: Sequence[str],
    averaged: Sequence[str],
) -> Row:
    """A model's row. tested: the patterns of all rows; those that a seed of this one lacks stay empty."""
    lacking = {name: tuple(seed for seed, s in scores.items() if name not in s.by_pattern) for name in tested}
    patterns = [name for name in tested if not lacking[name]]
    found = {name: {seed: pooled(s.scores(name), resampled) for seed, s in scores.items()} for name in patterns}
    by_seed = {name: {seed: one.value for seed, one in seeds.items()} for name, seeds in found.items()}
    srcc = {name: mean(seeds.values()) for name, seeds in found.items()}
    if averaged and all(name in srcc for name in averaged):
        by_seed[AVERAGE] = {seed: metrics.fisher_mean(by_seed[name][seed] for name in averaged) for seed in scores}
        srcc[AVERAGE] = mean(srcc[name] for name in averaged)
    columns = {name: averaged if name == AVERAGE else (name,) for name in srcc}
    reported = [run.metrics["patterns"] for run in own.runs.values()]
    return Row(
        own.label,
        own.selected_on,
        tuple(scores),
        srcc,
        by_seed,
        {name: _plain_mean(values[name]["mse"] for values in reported) for name in patterns},
        {name: _plain_mean(values[name]["rl2"] for values in reported) for name in patterns},
        {name: int(reported[0][name]["n"]) for name in patterns},
        _worth(list(scores.values()), srcc, resampled, modalities),
        _router(own, modalities),
        {name: seeds for name, seeds in lacking.items() if seeds},
        _settings(own),
        _selected_value(own),
        fold_numbers(list(scores.values()), resampled, columns),
        measure_numbers(own, scores, resampled.counts, patterns, averaged),
        area_over_rates(own, srcc),
        row_intervals(own, scores, patterns, _complete(modalities)),
        seed_ensemble(scores, resampled, modalities, patterns, averaged, AVERAGE),
        row_worth(own, scores, modalities, resampled.counts),
        learned_of(own),
        str(own.first.metrics["model"]),
    )


def _router(own: ModelRuns, modalities: Sequence[str]) -> dict[str, Floats]:
    """Router weights by pattern, mean over seeds, in the rows and columns of the section's modalities."""
    found: dict[str, list[Floats]] = {}
    for run in own.runs.values():
        places = [modalities.index(name) for name in run.metrics["modalities"]]
        for name, weights in run.metrics.get("router_weights", {}).items():
            square = np.full((len(modalities), len(modalities)), np.nan)
            if [len(line) for line in weights] == [len(places)] * len(places):
                square[np.ix_(places, places)] = weights
            found.setdefault(name, []).append(square)
    return {name: np.mean(parts, axis=0) for name, parts in found.items() if len(parts) == len(own.runs)}


def _settings(own: ModelRuns) -> dict[str, str]:
    """The settings of all seeds of a row, without its model's own options and what a report does not tell apart."""
    return {
        key: in_one_line(value)
        for key, value in own.first.settings.items()
        if key not in NOT_OF_THE_MODEL and not key.startswith("model.") and value is not None
    }


def _selected_value(own: ModelRuns) -> SelectedValue:
    """What the selection metric came to on the split that selected, mean over seeds."""
    known = own.selection
    return SelectedValue(str(known["metric"]), str(known["pattern"]), float(known["value"]))


def _plain_mean(values: Iterable[float | None]) -> float:
    return float(np.mean([np.nan if value is None else value for value in values]))


def _worth(
    scores: Sequence[RecordedScores],
    srcc: Mapping[str, Estimate],
    resampled: ResampledTarget,
    modalities: Sequence[str],
) -> dict[str, Estimate]:
    """What SRCC loses when one modality goes, on the videos that are scored with it and without it."""
    complete = _complete(modalities)
    found = {}
    for place, modality in enumerate(modalities):
        rest = subset_name(modalities, [i != place for i in range(len(modalities))])
        if rest in srcc and complete in srcc:
            with_it, without = (
                _on_shared(scores, name, other, srcc[name], resampled)
                for name, other in ((complete, rest), (rest, complete))
            )
            found[modality] = with_it - without
    return found


def _on_shared(
    scores: Sequence[RecordedScores], name: str, other: str, known: Estimate, resampled: ResampledTarget
) -> Estimate:
    """SRCC under a pattern, mean over seeds, on the videos that another scores too; `known` where these are all."""
    left_out = [np.isnan(s.by_pattern[other]) & ~np.isnan(s.by_pattern[name]) for s in scores]
    if not any(part.any() for part in left_out):
        return known
    parts = zip(scores, left_out, strict=True)
    return mean(pooled(np.where(part, np.nan, s.scores(name)), resampled) for s, part in parts)


def mean_section(sections: Sequence[ReportSection]) -> ReportSection:
    """All targets of a data set together: the models that were run on every one of them."""
    first = sections[0]
    by_label = [{(row.label, row.selected_on): row for row in section.rows} for section in sections]
    shared = [key for key in by_label[0] if all(key in rows for rows in by_label)]
    alike = all(section.modalities == first.modalities for section in sections)
    averaged = first.averaged if all(section.averaged == first.averaged for section in sections) else ()
    patterns = tuple(name for name in first.patterns if all(name in section.patterns for section in sections))
    columns = [*patterns, *([AVERAGE] if averaged else [])] if alike else []
    ceiling = {
        name: metrics.fisher_mean(section.ceiling[name] for section in sections)
        for name in columns
        if all(name in section.ceiling for section in sections)
    }
    rows = [_mean_row([rows[key] for rows in by_label], columns) for key in shared] if columns else []
    return ReportSection(
        first.data_set, None, len(sections), first.modalities, patterns, rows, ceiling, averaged, np.empty(0), []
    )


def _mean_row(rows: Sequence[Row], columns: Sequence[str]) -> Row:
    first = rows[0]

    def shared(part: str) -> list[str]:
        return [name for name in getattr(first, part) if all(name in getattr(row, part) for row in rows)]

    seeds = first.seeds if all(row.seeds == first.seeds for row in rows) else ()
    known = [name for name in columns if all(name in row.srcc for row in rows)]
    lacking = {name: tuple(sorted({s for row in rows for s in row.untested.get(name, ())})) for name in columns}
    return Row(
        first.label,
        first.selected_on,
        seeds,
        {name: mean(row.srcc[name] for row in rows) for name in known},
        {
            name: {seed: metrics.fisher_mean(row.by_seed[name][seed] for row in rows) for seed in seeds}
            for name in known
        },
        {},
        {name: _plain_mean(row.rl2[name] for row in rows) for name in shared("rl2")},
        {name: first.n[name] for name in shared("n") if all(row.n[name] == first.n[name] for row in rows)},
        {name: mean_difference([row.worth[name] for row in rows]) for name in shared("worth")},
        {name: np.mean([row.router[name] for row in rows], axis=0) for name in shared("router")},
        {name: seeds for name, seeds in lacking.items() if seeds},
        {
            key: value if all(row.settings[key] == value for row in rows) else BY_TARGET
            for key, value in first.settings.items()
            if all(key in row.settings for row in rows)
        },
        _mean_selected_value([row.selected_value for row in rows]),
        measures=mean_measures([row.measures for row in rows], columns, seeds),
        intervals=mean_intervals([row.intervals for row in rows], columns),
        streams=mean_worth([row.streams for row in rows]),
        learned="; ".join(dict.fromkeys(row.learned for row in rows if row.learned)),
        model=first.model,
    )


def _mean_selected_value(found: Sequence[SelectedValue]) -> SelectedValue:
    """Over targets; squared errors have units that differ, and no mean."""
    first = found[0]
    alike = all((one.metric, one.pattern) == (first.metric, first.pattern) for one in found)
    value = metrics.fisher_mean(one.value for one in found) if alike and first.metric == "srcc" else math.nan
    return SelectedValue(first.metric, first.pattern, value)


def missing_curve(row: Row, modalities: Sequence[str]) -> list[tuple[float, Estimate]]:
    """SRCC by the share of modalities that is missing, in rising order.

    By the rates that were tested, where several were; else by how many modalities the tested subsets lack, SRCC being
    the mean over subsets that lack as many.
    """
    rates = {float(match[1]): found for name, found in row.srcc.items() if (match := RATE.fullmatch(name))}
    if len(rates) > 1:
        return sorted(rates.items(), key=lambda point: point[0])
    lacking: dict[int, list[Estimate]] = {}
    for name, found in row.srcc.items():
        subset = find_subset(modalities, name)
        if subset is not None:
            lacking.setdefault(len(subset) - sum(subset), []).append(found)
    return [(count / len(modalities), mean(several)) for count, several in sorted(lacking.items())]


def differences(section: ReportSection, column: str) -> list[tuple[Row, Row, Estimate]]:
    """Every pair of rows that may be compared, and what the first has over the second in a column."""
    return [
        (one, other, one.srcc[column] - other.srcc[column])
        for group in section.groups()
        for one, other in itertools.combinations(group, 2)
        if column in one.srcc and column in other.srcc
    ]
