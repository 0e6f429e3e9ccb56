"""What a report says of each target, and of all targets of a data set together: numbers, no words."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aqa.errors import AqaError
from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import Floats, ResampledTarget
from aqa.evaluation.comparison import Estimate, estimate, mean
from aqa.modalities import MOST_MODALITIES, subset_name, subsets
from aqa.reporting.collect import Entry, Place, Scores, read_scores

AVERAGE = "average"  # the mean over the incomplete subsets, beside the patterns
RATE = re.compile(r"rates\((\d*\.?\d+)\)")


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
    router: dict[str, Floats]  # by pattern, mean over samples and seeds (streams, experts)

    def deviation(self, pattern: str) -> float:
        """The standard deviation of SRCC over seeds; NaN for one seed, or where it is undefined for one."""
        values = list(self.by_seed.get(pattern, {}).values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    @property
    def on_test(self) -> bool:
        """Whether its epochs were selected on the test split."""
        return self.selected_on == "test"


@dataclass(frozen=True, eq=False)
class Section:
    """A target of a data set, or all of them together (target None, and how many in `targets`)."""

    data_set: str
    target: str | None
    targets: int
    modalities: tuple[str, ...]
    patterns: tuple[str, ...]
    rows: list[Row]
    ceiling: dict[str, float]
    truth: Floats  # (n,) labels, and by row the predictions of its lowest seed under the complete pattern
    shown: list[Floats]

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
        """Which rows have the highest SRCC of their group in a column, to three digits, where there are several."""
        found: set[int] = set()
        for group in self.groups():
            values = {
                self.rows.index(row): round(row.srcc[column].value, 3)
                for row in group
                if column in row.srcc and not np.isnan(row.srcc[column].value)
            }
            if len(values) > 1:
                found |= {place for place, value in values.items() if value == max(values.values())}
        return found


def incomplete(modalities: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """Those of the patterns that are subsets with something missing."""
    if len(modalities) > MOST_MODALITIES:
        return []
    named = subsets(modalities)
    return [name for name in patterns if name in named and not all(named[name])]


def target_section(place: Place, found: Sequence[Entry], counts: Floats) -> Section:
    """One target. counts: (n, R), how often each test video was drawn. AqaError where runs have different videos."""
    scores = [{seed: read_scores(run.folder) for seed, run in sorted(entry.runs.items())} for entry in found]
    base = scores[0][min(found[0].runs)]
    for entry, by_seed in zip(found, scores, strict=True):
        for seed, theirs in by_seed.items():
            if theirs.ids != base.ids or not np.array_equal(theirs.truth, base.truth):
                raise AqaError(
                    f"{found[0].first.folder} and {entry.runs[seed].folder} were tested on different videos or "
                    f"labels of {place.data_set} {place.target}; report them apart"
                )
    modalities = max((tuple(entry.first.metrics["modalities"]) for entry in found), key=len)
    patterns = tuple(dict.fromkeys(name for entry in found for name in entry.first.metrics["patterns"]))
    averaged = incomplete(modalities, patterns)
    resampled = ResampledTarget(base.truth, counts)
    known = found[0].first.metrics["patterns"]
    ceiling = {name: float(values["ceiling"]) for name, values in known.items() if "ceiling" in values}
    if averaged and all(name in ceiling for name in averaged):
        ceiling[AVERAGE] = metrics.fisher_mean(ceiling[name] for name in averaged)
    complete = _complete(modalities)
    unscored = np.full(len(base.truth), np.nan)
    return Section(
        place.data_set,
        place.target,
        1,
        modalities,
        patterns,
        [_row(*pair, resampled, modalities, averaged) for pair in zip(found, scores, strict=True)],
        ceiling,
        base.truth,
        [next(iter(by_seed.values())).by_pattern.get(complete, unscored) for by_seed in scores],
    )


def _complete(modalities: Sequence[str]) -> str:
    return subset_name(modalities, [True] * len(modalities))


def _row(
    entry: Entry,
    scores: Mapping[int, Scores],
    resampled: ResampledTarget,
    modalities: Sequence[str],
    averaged: Sequence[str],
) -> Row:
    patterns = [name for name in entry.first.metrics["patterns"] if all(name in s.by_pattern for s in scores.values())]
    found = {name: {seed: estimate(s.by_pattern[name], resampled) for seed, s in scores.items()} for name in patterns}
    by_seed = {name: {seed: one.value for seed, one in seeds.items()} for name, seeds in found.items()}
    srcc = {name: mean(seeds.values()) for name, seeds in found.items()}
    if averaged and all(name in srcc for name in averaged):
        by_seed[AVERAGE] = {seed: metrics.fisher_mean(by_seed[name][seed] for name in averaged) for seed in scores}
        srcc[AVERAGE] = mean(srcc[name] for name in averaged)
    reported = [run.metrics["patterns"] for run in entry.runs.values()]
    router = [run.metrics["router_weights"] for run in entry.runs.values() if run.metrics.get("router_weights")]
    return Row(
        entry.label,
        entry.selected_on,
        tuple(scores),
        srcc,
        by_seed,
        {name: _plain_mean(values[name]["mse"] for values in reported) for name in patterns},
        {name: _plain_mean(values[name]["rl2"] for values in reported) for name in patterns},
        {name: int(reported[0][name]["n"]) for name in patterns},
        _worth(list(scores.values()), srcc, resampled, modalities),
        {name: np.mean([weights[name] for weights in router], axis=0) for name in (router[0] if router else ())},
    )


def _plain_mean(values: Iterable[float | None]) -> float:
    return float(np.mean([np.nan if value is None else value for value in values]))


def _worth(
    scores: Sequence[Scores], srcc: Mapping[str, Estimate], resampled: ResampledTarget, modalities: Sequence[str]
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
    scores: Sequence[Scores], name: str, other: str, known: Estimate, resampled: ResampledTarget
) -> Estimate:
    """SRCC under a pattern, mean over seeds, on the videos that another scores too; `known` where these are all."""
    left_out = [np.isnan(s.by_pattern[other]) & ~np.isnan(s.by_pattern[name]) for s in scores]
    if not any(part.any() for part in left_out):
        return known
    parts = zip(scores, left_out, strict=True)
    return mean(estimate(np.where(part, np.nan, s.by_pattern[name]), resampled) for s, part in parts)


def mean_section(sections: Sequence[Section]) -> Section:
    """All targets of a data set together: the models that were run on every one of them."""
    first = sections[0]
    by_label = [{(row.label, row.selected_on): row for row in section.rows} for section in sections]
    shared = [key for key in by_label[0] if all(key in rows for rows in by_label)]
    patterns = tuple(name for name in first.patterns if all(name in section.patterns for section in sections))
    ceiling = {
        name: metrics.fisher_mean(section.ceiling[name] for section in sections)
        for name in first.ceiling
        if all(name in section.ceiling for section in sections)
    }
    rows = [_mean_row([rows[key] for rows in by_label]) for key in shared]
    return Section(first.data_set, None, len(sections), first.modalities, patterns, rows, ceiling, np.empty(0), [])


def _mean_row(rows: Sequence[Row]) -> Row:
    first = rows[0]

    def shared(part: str) -> list[str]:
        return [name for name in getattr(first, part) if all(name in getattr(row, part) for row in rows)]

    seeds = first.seeds if all(row.seeds == first.seeds for row in rows) else ()
    return Row(
        first.label,
        first.selected_on,
        first.seeds,
        {name: mean(row.srcc[name] for row in rows) for name in shared("srcc")},
        {
            name: {seed: metrics.fisher_mean(row.by_seed[name][seed] for row in rows) for seed in seeds}
            for name in shared("srcc")
        },
        {},
        {name: _plain_mean(row.rl2[name] for row in rows) for name in shared("rl2")},
        {name: first.n[name] for name in shared("n") if all(row.n[name] == first.n[name] for row in rows)},
        {name: _mean_difference([row.worth[name] for row in rows]) for name in shared("worth")},
        {name: np.mean([row.router[name] for row in rows], axis=0) for name in shared("router")},
    )


def _mean_difference(differences: Sequence[Estimate]) -> Estimate:
    return Estimate(float(np.mean([d.value for d in differences])), np.mean([d.draws for d in differences], axis=0))


def missing_curve(row: Row, modalities: Sequence[str]) -> list[tuple[float, Estimate]]:
    """SRCC by the share of modalities that is missing, in rising order.

    By the rates that were tested, where several were; else by how many modalities the tested subsets lack, SRCC being
    the mean over subsets that lack as many.
    """
    rates = {float(match[1]): found for name, found in row.srcc.items() if (match := RATE.fullmatch(name))}
    if len(rates) > 1:
        return sorted(rates.items(), key=lambda point: point[0])
    if len(modalities) > MOST_MODALITIES:
        return []
    lacking: dict[int, list[Estimate]] = {}
    for name, subset in subsets(modalities).items():
        if name in row.srcc:
            lacking.setdefault(len(subset) - sum(subset), []).append(row.srcc[name])
    return [(count / len(modalities), mean(found)) for count, found in sorted(lacking.items())]


def differences(section: Section, column: str) -> list[tuple[Row, Row, Estimate]]:
    """Every pair of rows that may be compared, and what the first has over the second in a column."""
    return [
        (one, other, one.srcc[column] - other.srcc[column])
        for group in section.groups()
        for one, other in itertools.combinations(group, 2)
        if column in one.srcc and column in other.srcc
    ]
