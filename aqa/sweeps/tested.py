"""What finished runs came to on the test split: means over seeds, with intervals, paired where the videos are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aqa.errors import AqaError
from aqa.evaluation.bootstrap import Floats, ResampledTarget
from aqa.evaluation.comparison import Estimate, draw_videos, mean, mean_difference
from aqa.evaluation.cross_validation import pooled
from aqa.evaluation.measures import METRICS, Ranges, at_its_best, in_resamples
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.predictions import RecordedScores, read_predictions

AVERAGE_OF_INCOMPLETE = "average"


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A finished run: its folder, and what it predicted."""

    folder: RunFolder
    scores: RecordedScores


@dataclass(frozen=True, eq=False)
class OnTest:
    """What runs that differ in their seed came to on the test split, by pattern; `average` is of the incomplete ones.

    srcc: Fisher-z means over the runs. measures: by name, plain means; without draws where no interval was asked for.
    """

    srcc: Mapping[str, Estimate] = field(default_factory=dict)
    measures: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)


def estimates_on_test(groups: Mapping[str, Sequence[Path]]) -> dict[str, OnTest]:
    """What groups of runs came to that differ in their seed; a group without runs is left out.

    All are worked out on the same resamples of the videos, so that their differences are paired. AqaError if runs were
    tested on different videos.
    """
    return next(iter(estimates_by_target({"": groups}).values()))


def estimates_by_target(targets: Mapping[str, Mapping[str, Sequence[Path]]]) -> dict[str, dict[str, OnTest]]:
    """`estimates_on_test` of each target, on the same resamples where targets share videos."""
    found = {target: {name: _read(runs) for name, runs in groups.items() if runs} for target, groups in targets.items()}
    bases = {target: _of_same_videos(runs) for target, runs in found.items() if runs}
    counts = draw_videos({target: base.drawn for target, base in bases.items()})
    tested: dict[str, dict[str, OnTest]] = {target: {} for target in targets}
    for target, base in bases.items():
        resampled = ResampledTarget(base.truth, counts[target])
        tested[target] = {name: _tested(runs, resampled) for name, runs in found[target].items()}
    return tested


def _read(runs: Sequence[Path]) -> list[ScoredRun]:
    return [ScoredRun(RunFolder(run), read_predictions(run / PREDICTIONS)) for run in runs]


def _of_same_videos(groups: Mapping[str, Sequence[ScoredRun]]) -> RecordedScores:
    """The scores of the first run; AqaError for one that was tested on other videos."""
    runs = [run for group in groups.values() for run in group]
    base = runs[0].scores
    for run in runs:
        if run.scores.ids != base.ids or not np.array_equal(run.scores.truth, base.truth):
            raise AqaError(
                f"{run.folder.path} was tested on other videos or labels than the runs that it is compared with"
            )
    return base


def _tested(runs: Sequence[ScoredRun], resampled: ResampledTarget) -> OnTest:
    first = runs[0]
    patterns = [name for name in first.scores.by_pattern if all(name in run.scores.by_pattern for run in runs)]
    srcc = {name: mean(pooled(run.scores.scores(name), resampled) for run in runs) for name in patterns}
    averaged = first.folder.metrics["average_incomplete"].get("over", [])
    is_whole = bool(averaged) and all(name in srcc for name in averaged)
    if is_whole:
        srcc[AVERAGE_OF_INCOMPLETE] = mean(srcc[name] for name in averaged)
    measures: dict[str, dict[str, Estimate]] = {}
    for measure in _measures_of_all(runs):
        found = {name: _measured(runs, measure, name, resampled.counts) for name in patterns}
        if is_whole:
            found[AVERAGE_OF_INCOMPLETE] = mean_difference([found[name] for name in averaged])
        measures[measure] = found
    return OnTest(srcc, measures)


def _measures_of_all(runs: Sequence[ScoredRun]) -> list[str]:
    """The further measures that all runs were asked for."""
    each = [next(iter(run.folder.metrics["patterns"].values())).get("measures", {}) for run in runs]
    return [name for name in each[0] if name in METRICS.names() and all(name in known for known in each)]


def _measured(runs: Sequence[ScoredRun], measure: str, pattern: str, counts: Floats) -> Estimate:
    """The mean of a measure over runs; counts: (n, R), how often each video was drawn."""
    values = [run.folder.metrics["patterns"][pattern]["measures"][measure]["value"] for run in runs]
    value = float(np.mean([np.nan if each is None else each for each in values]))
    draws = np.mean([one for run in runs for one in _in_resamples(run, measure, pattern, counts)], axis=0)
    return Estimate(value, draws, at_its_best(measure, draws))


def _in_resamples(run: ScoredRun, measure: str, pattern: str, counts: Floats) -> Iterator[Floats]:
    """A measure of each repeat of a run in every resample; of no resample where no interval was asked for."""
    if run.folder.config["evaluate"].get("intervals") is False:
        counts = counts[:, :0]
    known = run.folder.metrics["ranges"]
    ranges = Ranges(tuple(known["target"]), tuple(known["labels"]))
    for scores in run.scores.scores(pattern):
        yield in_resamples(measure, scores, run.scores.truth, counts, ranges)
