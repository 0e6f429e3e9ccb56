"""What a report says of the intervals of single scores: how often they hold the label, and how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from aqa.errors import AqaError
from aqa.evaluation.intervals import Bounds, binomial, covered, interval_summary, pooled_intervals
from aqa.reporting.collect import FinishedRun, ModelRuns, same_number
from aqa.runs.predictions import HIGH, LOW, RecordedScores

MOST_WIDEST = 10  # videos of a model that are listed
SAME_WIDTH = 1e-6  # relative difference up to which two widths are one


class Coverage(NamedTuple):
    """The share of labels that intervals of one level hold, with its 95 % binomial interval, of n videos.

    Over several targets: the plain mean, without such an interval, as targets may share their videos.
    """

    level: float
    share: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """On which side of the level the binomial interval lies; empty where it holds the level."""
        return "below the level" if self.high < self.level else "above the level" if self.low > self.level else ""


@dataclass(frozen=True)
class PatternIntervals:
    """The intervals under one pattern, of all seeds together: at the level asked for, and at several.

    width: the mean of bounded ones, in the target's units. unbounded: how many, of all seeds. deviation: of the share
    over targets, where there are several.
    """

    asked: Coverage
    width: float
    unbounded: int
    reliability: tuple[Coverage, ...]
    deviation: float = float("nan")


class WideVideo(NamedTuple):
    """A video whose interval is among the widest: its score, its label, and the interval."""

    id: str
    score: float
    label: float
    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def holds(self) -> bool:
        """Whether a bounded interval holds the label."""
        return bool(covered(Bounds(np.array([self.low]), np.array([self.high])), np.array([self.label]))[0])


@dataclass(frozen=True, eq=False)
class RowIntervals:
    """What is known of the intervals of one model's scores.

    why_none: why there are none, in words. made_from: which videos, and how many. by_pattern: numbers by pattern.
    widest: videos in falling order of width, by the run of the lowest seed with nothing hidden. as_wide: how many
    videos have the widest interval, all alike.
    """

    level: float
    why_none: str = ""
    made_from: str = ""
    by_pattern: Mapping[str, PatternIntervals] = field(default_factory=dict)
    widest: tuple[WideVideo, ...] = ()
    as_wide: int = 0


def row_intervals(
    own: ModelRuns, scores: Mapping[int, RecordedScores], patterns: Sequence[str], complete: str
) -> RowIntervals | None:
    """The intervals of a model's runs under patterns that all of its seeds were tested under; None of older runs.

    AqaError where a run's predictions do not give what it reports of them.
    """
    abouts = [run.metrics.get("intervals") for run in own.runs.values()]
    known = [about for about in abouts if about is not None]
    if len(known) < len(abouts):
        return None
    level = float(known[0]["level"])
    for about in known:
        if "why_none" in about:
            return RowIntervals(level, why_none=str(about["why_none"]))
    if any(about["level"] != level for about in known):
        return RowIntervals(level, why_none="its seeds have intervals of different levels")
    for seed, run in own.runs.items():
        for pattern in patterns:
            _require_same(run, scores[seed], pattern)
    first = scores[min(scores)]
    repeats = len(scores) * len(first.repeats)
    by_pattern = {
        name: _of_seeds([run.metrics["patterns"][name]["interval"] for run in own.runs.values()], level, repeats)
        for name in patterns
    }
    widest, as_wide = _widest(first, complete)
    return RowIntervals(level, "", _made_from(known), by_pattern, widest, as_wide)


def _of_seeds(found: Sequence[Mapping[str, Any]], level: float, repeats: int) -> PatternIntervals:
    """The numbers of all seeds together. A video counts once in the binomial interval, however often it was scored."""
    numbers = [{**one, "width": float("nan") if one["width"] is None else one["width"]} for one in found]
    one = pooled_intervals(numbers, repeats)
    levels = tuple(_coverage(row["level"], row["covered"], row["n"], repeats) for row in one["reliability"])
    asked = _coverage(level, one["covered"], one["n"], repeats)
    return PatternIntervals(asked, one["width"], one["unbounded"], levels)


def _coverage(level: float, count: int, n: int, repeats: int) -> Coverage:
    videos = round(n / repeats)
    if not videos:
        return Coverage(level, float("nan"), float("nan"), float("nan"), 0)
    return Coverage(level, count / n, *binomial(min(round(count / repeats), videos), videos), videos)


def _made_from(known: Sequence[Mapping[str, Any]]) -> str:
    sources = dict.fromkeys(source for about in known for source in about["calibrated_on"])
    fewest, most = min(about["videos"][0] for about in known), max(about["videos"][1] for about in known)
    videos = f"{most}" if fewest == most else f"{fewest} to {most}"
    selected = "; the epoch was selected on them" if any(about["selected_on_them"] for about in known) else ""
    return f"{' and '.join(sources)} ({videos} videos){selected}"


def _require_same(run: FinishedRun, scores: RecordedScores, pattern: str) -> None:
    """AqaError where the intervals in predictions.csv do not give the numbers in metrics.json."""
    reported = run.metrics["patterns"][pattern].get("interval")
    if reported is None:
        problem = f"metrics.json says nothing of intervals under {pattern}"
    elif not {LOW, HIGH} <= set(scores.beside):
        problem = "predictions.csv has no intervals"
    else:
        each = [interval_summary(_bounds(one, pattern), one.truth) for one in scores.repeats]
        found = {key: sum(one[key] for one in each) for key in ("covered", "n", "unbounded")}
        widths = sum(one["width"] * one["n"] for one in each if one["n"])
        same = all(found[key] == reported[key] for key in found)
        if same and same_number(widths / found["n"] if found["n"] else float("nan"), reported["width"]):
            return
        problem = f"under {pattern} {found['covered']} of {found['n']} labels are in their intervals, "
        problem += f"{reported['covered']} of {reported['n']} by metrics.json, or their widths differ"
    raise AqaError(
        f"{run.folder}: its intervals do not go with its metrics: {problem}; one of them was changed, or is another "
        "run's. Leave the run out, or make it again"
    )


def _bounds(scores: RecordedScores, pattern: str) -> Bounds:
    return Bounds(scores.beside[LOW][pattern], scores.beside[HIGH][pattern])


def _widest(scores: RecordedScores, pattern: str) -> tuple[tuple[WideVideo, ...], int]:
    """The videos with the widest intervals, and how many have the widest of all."""
    if pattern not in scores.by_pattern:
        return (), 0
    bounds, values = _bounds(scores, pattern), scores.by_pattern[pattern]
    # Ends may both be infinite, whose difference is infinite as well.
    widths = np.where(bounds.known, bounds.high - bounds.low, -1.0)
    most = widths.max(initial=-1.0)
    if most < 0:
        return (), 0
    as_wide = int((widths >= most * (1 - SAME_WIDTH)).sum()) if np.isfinite(most) else int(np.isinf(widths).sum())
    order = [int(i) for i in np.argsort(-widths, kind="stable") if widths[i] >= 0][:MOST_WIDEST]
    return tuple(
        WideVideo(
            scores.ids[i],
            float(values[i]),
            float(scores.truth[i]),
            float(bounds.low[i]),
            float(bounds.high[i]),
        )
        for i in order
    ), as_wide


def mean_intervals(rows: Sequence[RowIntervals | None], columns: Sequence[str]) -> RowIntervals | None:
    """Intervals of one model over targets: plain means of coverages. Widths have the units of a target, and no mean."""
    known = [row for row in rows if row is not None and not row.why_none]
    if len(known) < len(rows) or any(row.level != known[0].level for row in known):
        return None
    patterns = [name for name in columns if all(name in row.by_pattern for row in known)]
    by_pattern = {name: _over_targets([row.by_pattern[name] for row in known]) for name in patterns}
    return RowIntervals(known[0].level, by_pattern=by_pattern)


def _over_targets(found: Sequence[PatternIntervals]) -> PatternIntervals:
    shares = [one.asked.share for one in found]
    levels = tuple(map(_mean_coverage, zip(*(one.reliability for one in found), strict=True)))
    deviation = float(np.std(shares, ddof=1))
    return PatternIntervals(_mean_coverage([o.asked for o in found]), float("nan"), 0, levels, deviation)


def _mean_coverage(several: Sequence[Coverage]) -> Coverage:
    share = float(np.mean([one.share for one in several]))
    return Coverage(several[0].level, share, float("nan"), float("nan"), min(one.n for one in several))
