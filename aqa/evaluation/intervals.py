"""Intervals of single scores: which values a label takes with a stated probability, and how often that holds.

Split conformal prediction: Papadopoulos et al., Inductive Confidence Machines for Regression, ECML 2002; Lei et al.,
Distribution-Free Predictive Inference for Regression, JASA 2018. Residuals that are divided by a spread: section 5.2
there. CV+: Barber et al., Predictive Inference with the Jackknife+, Annals of Statistics 2021. A video is judged by
residuals of calibration videos that show exactly what it shows, so that every visible set has intervals of its own.

Let R_1 ... R_n be absolute residuals of calibration videos that nothing was learned from. The interval of a score is
score +- R_(k), the k-th smallest with k = ceil((n + 1) level). If calibration videos and new videos are exchangeable,
it holds the label with a probability between `level` and level + 1 / (n + 1). For k > n it is unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy

from aqa.evaluation.bootstrap import Bools, Floats

RELIABILITY_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # at which coverage is counted, beside the level asked for
CONFIDENCE = 0.95  # of the binomial interval of a coverage
PAIRS_AT_ONCE = 1_000_000  # pairs of calibration videos and scores that are worked through together


class Bounds(NamedTuple):
    """Ends of intervals, (n,) each: NaN where there is none, infinite where it is unbounded."""

    low: Floats
    high: Floats

    @property
    def known(self) -> Bools:
        """Which videos have an interval, bounded or not (n,)."""
        return ~np.isnan(self.low)

    @property
    def unbounded(self) -> Bools:
        """Which intervals are unbounded (n,)."""
        return np.isinf(self.low) | np.isinf(self.high)


def rank(n: int, level: float) -> int | None:
    """Which of n residuals, in rising order and counted from 1, is the half width; None: no residual is enough."""
    k = math.ceil(round((n + 1) * level, 9))  # 0.9 * 20 is not to be 18.000000000000004
    return k if k <= n else None


def fewest(level: float) -> int:
    """How many calibration videos an interval of that level takes at least."""
    return next(n for n in range(math.floor(level / (1 - level)), 2**62) if rank(n, level) is not None)


def half_width(residuals: Floats, level: float) -> float:
    """The conformal quantile of absolute residuals (n,); infinite where n is too small for the level."""
    k = rank(len(residuals), level)
    return math.inf if k is None else float(np.partition(residuals, k - 1)[k - 1])


def cross_validated(scores: Floats, residuals: Floats, level: float) -> Bounds:
    """CV+ intervals of b videos. Barber et al. 2021, section 3.

    scores: (n, b), of each video by the model that did not learn from calibration video i; residuals: (n,), of video i
    by that model. They hold the label with a probability of at least 1 - 2 (1 - level), and of about `level` in
    practice.
    """
    n, count = scores.shape
    k = rank(n, level)
    if k is None:
        return Bounds(np.full(count, -np.inf), np.full(count, np.inf))
    low, high = np.empty(count), np.empty(count)
    step = max(1, PAIRS_AT_ONCE // n)
    for start in range(0, count, step):
        own = slice(start, start + step)
        low[own] = np.partition(scores[:, own] - residuals[:, None], n - k, axis=0)[n - k]
        high[own] = np.partition(scores[:, own] + residuals[:, None], k - 1, axis=0)[k - 1]
    return Bounds(low, high)


def within(bounds: Bounds, low: float, high: float) -> Bounds:
    """Bounded intervals cut to the range of the labels: no label is lost. Unbounded ones stay as they are."""
    free = bounds.unbounded
    return Bounds(*(np.where(free, end, np.clip(end, low, high)) for end in bounds))


@dataclass(frozen=True, eq=False)
class Residuals:
    """Absolute residuals of the n calibration videos that show one visible set, in the target's units.

    spreads: the model's own standard deviation of each, where it says one. left_out: of training videos, each left out
    in closed form, and not of videos that were kept apart.
    """

    residuals: Floats
    spreads: Floats | None = None
    left_out: bool = False

    def ends(self, scores: Floats, level: float, spreads: Floats | None = None) -> Bounds:
        """The intervals of scores (b,); spreads: (b,), in multiples of which residuals are then counted."""
        if spreads is None or self.spreads is None:
            half = np.full(len(scores), half_width(self.residuals, level))
        else:
            half = half_width(self.residuals / self.spreads, level) * spreads
        return Bounds(scores - half, scores + half)

    def mean_width(self, level: float, normalized: bool) -> float:
        """The mean width of intervals of these videos themselves."""
        spreads = self.spreads if normalized else None
        bounds = self.ends(np.zeros(len(self.residuals)), level, spreads)
        return float(np.mean(bounds.high - bounds.low)) if len(self.residuals) else math.inf


def normalized_is_shorter(left_out: Residuals | None, level: float) -> bool:
    """Whether intervals in multiples of the model's own deviation are shorter on the training videos, each left out.

    Neither calibration videos nor test videos are asked, so that the choice costs nothing of the guarantee.
    """
    if left_out is None or left_out.spreads is None or not (left_out.spreads > 0).all():
        return False
    return left_out.mean_width(level, normalized=True) < left_out.mean_width(level, normalized=False)


# -- how often intervals hold the label


def binomial(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a share that was met `count` times in n. Clopper and Pearson, Biometrika 1934."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(scipy.special.betaincinv(count, n - count + 1, tail))
    high = 1.0 if count == n else float(scipy.special.betaincinv(count + 1, n - count, 1 - tail))
    return low, high


def covered(bounds: Bounds, truth: Floats) -> Bools:
    """Which bounded intervals hold the label (n,)."""
    return ~bounds.unbounded & (bounds.low <= truth) & (truth <= bounds.high)


def interval_summary(bounds: Bounds, truth: Floats) -> dict[str, Any]:
    """What metrics.json says of the intervals of one pattern, over the videos that have a bounded one.

    "coverage" with its binomial interval ("coverage_low", "coverage_high"); "covered", how many
    labels they hold; "width", the mean in the target's units; "n" of these videos; "unbounded", how many intervals are
    not bounded. Without a bounded one the numbers are NaN.
    """
    known = bounds.known & ~bounds.unbounded
    widths = (bounds.high - bounds.low)[known]
    return _summary(int(covered(bounds, truth).sum()), len(widths), float(widths.sum()), int(bounds.unbounded.sum()))


def _summary(count: int, n: int, widths: float, unbounded: int, repeats: int = 1) -> dict[str, Any]:
    """The numbers of `interval_summary`. repeats: how often each video is among the n."""
    low, high = binomial(round(count / repeats), round(n / repeats)) if n else (float("nan"),) * 2
    return {
        "coverage": count / n if n else float("nan"),
        "coverage_low": low,
        "coverage_high": high,
        "covered": count,
        "width": widths / n if n else float("nan"),
        "n": n,
        "unbounded": unbounded,
    }


def pooled_intervals(several: Sequence[Mapping[str, Any]], repeats: int = 1) -> dict[str, Any]:
    """The summaries of several parts, such as folds, as one, with their reliability. repeats: of a cross-validation.

    A video that was tested in several repeats counts once in the binomial interval.
    """
    widths = sum(one["width"] * one["n"] for one in several if one["n"])
    count, n, unbounded = (sum(one[key] for one in several) for key in ("covered", "n", "unbounded"))
    levels = [
        {"level": rows[0]["level"], "covered": sum(r["covered"] for r in rows), "n": sum(r["n"] for r in rows)}
        for rows in zip(*(one["reliability"] for one in several), strict=True)
    ]
    return {**_summary(count, n, widths, unbounded, repeats), "reliability": levels}


def reliability(by_level: Mapping[float, Bounds], truth: Floats) -> list[dict[str, float]]:
    """The coverage at several levels: of each the level, how many labels are held, and of how many videos."""
    found = []
    for level, bounds in sorted(by_level.items()):
        n = int((bounds.known & ~bounds.unbounded).sum())
        found.append({"level": level, "covered": int(covered(bounds, truth).sum()), "n": n})
    return found
