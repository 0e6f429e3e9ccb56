"""How well predicted scores follow the judges': correlations, errors, and bootstrap intervals over videos.

An undefined number is NaN, without a warning: it is reported, and it is never averaged away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aqa.evaluation import bootstrap as resampling
from aqa.evaluation.bootstrap import FEWEST, Floats, Interval, ResampledTarget, correlation, interval


@dataclass(frozen=True)
class Intervals:
    """SRCC intervals by pattern, and that of their Fisher mean over the patterns that were averaged."""

    patterns: dict[str, Interval]
    average: Interval


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation of predictions (N,) with targets (N,); ties have average ranks.

    NaN if it is undefined: fewer than 3 videos, a constant input, or a NaN among the numbers.
    """
    x, y = _pair(prediction, target)
    if len(x) < FEWEST or np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    # Twice the centred ranks are whole numbers, so that constants and perfect orders are met exactly.
    x, y = (resampling.doubled_ranks(v) - (len(v) + 1) for v in (x, y))
    return float(correlation(x @ y, x @ x, y @ y))


def why_undefined(prediction: ArrayLike, target: ArrayLike) -> str | None:
    """Why `srcc` is NaN for predictions (N,) and targets (N,); None if it is not."""
    x, y = _pair(prediction, target)
    if not np.isnan(srcc(x, y)):
        return None
    if len(x) < FEWEST:
        return f"{len(x)} video{'s' * (len(x) != 1)}"
    if np.isnan(x).any() or np.isnan(y).any():
        return "a number is NaN"
    return "every label is the same" if (y == y[0]).all() else "every prediction is the same"


def kendall(prediction: ArrayLike, target: ArrayLike) -> float:
    """Kendall's tau-b of predictions (N,) with targets (N,); NaN if `srcc` is.

    As `scipy.stats` has it, to the last bit, which takes half a second to import.
    """
    x, y = _pair(prediction, target)
    if np.isnan(srcc(x, y)):
        return float("nan")
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    ranks = np.unique(y, return_inverse=True)[1]
    pairs = len(x) * (len(x) - 1) // 2
    new_x, new_y = x[1:] != x[:-1], y[1:] != y[:-1]
    tied_x, tied_y, tied_both = _tied(new_x), _tied(np.diff(np.sort(ranks)) > 0), _tied(new_x | new_y)
    excess = pairs - tied_x - tied_y + tied_both - 2 * _descents(ranks)  # of pairs in one order over those in the other
    return float(np.clip(excess / np.sqrt(pairs - tied_x) / np.sqrt(pairs - tied_y), -1.0, 1.0))


def _tied(new: NDArray[np.bool_]) -> int:
    """How many pairs of sorted numbers are equal; new: which of them are not as the one before, without the first."""
    counts = np.diff(np.flatnonzero(np.concatenate([[True], new, [True]])))
    return int((counts * (counts - 1) // 2).sum())


def _descents(ranks: NDArray[np.int64]) -> int:
    """How many pairs of whole numbers from 0 have the larger one first.

    Bit by bit from the highest: of numbers that agree in all higher bits, those with a 1 before those with a 0.
    """
    found = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        higher, ones = ranks >> (bit + 1), (ranks >> bit) & 1
        first = np.searchsorted(higher, higher)  # of those that agree; the numbers are sorted by their higher bits
        before = np.cumsum(ones) - ones  # ones before each number
        found += int((before - before[first]) @ (1 - ones))
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return found


def mse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Mean squared error, in squared units of the target; NaN for no videos."""
    x, y = _pair(prediction, target)
    return float(np.mean((x - y) ** 2)) if len(x) else float("nan")


def rl2(prediction: ArrayLike, target: ArrayLike, low: float, high: float) -> float:
    """Relative L2 distance: 100 times the mean of ((target - prediction) / (high - low))^2.

    low and high are the lowest and the highest true score of the data, in the target's units. Introduced by Yu et al.,
    Group-aware Contrastive Regression for Action Quality Assessment (CoRe), ICCV 2021; times 100, as tables
    give it. NaN for no videos, and for low equal to high.
    """
    if low == high:
        return float("nan")
    return 100 * mse(prediction, target) / (high - low) ** 2


def fisher_mean(correlations: Iterable[float]) -> float:
    """Mean of correlations through Fisher's z: tanh of the mean of arctanh.

    NaN if any of them is undefined, or if there is none: an undefined one is reported, never averaged away. The limits
    are taken at the ends: with a 1 (or a -1) among them the mean is 1 (or -1), and with both it is undefined.
    """
    return float(fisher_means(np.array([[c] for c in correlations], dtype=np.float64).reshape(-1, 1))[0])


def fisher_means(correlations: Floats) -> Floats:
    """`fisher_mean` along the first axis: (k, R) to (R,)."""
    if len(correlations) == 0:
        return np.full(correlations.shape[1:], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.tanh(np.mean(np.arctanh(correlations), axis=0))


def bootstrap(
    predictions: Mapping[str, ArrayLike],
    target: ArrayLike,
    patterns_to_average: Collection[str],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    units: NDArray[np.int64] | None = None,
) -> Intervals:
    """Percentile bootstrap intervals of SRCC, over videos (Efron and Tibshirani 1993, chapter 13).

    predictions: by pattern, (N,), NaN for a video that was not scored under it; target: (N,), without NaN. A resample
    draws the same N videos for every pattern, so that the interval of the Fisher mean over `patterns_to_average` knows
    how the patterns go together; a pattern leaves out the videos that it did not score. Resamples in which a
    correlation is undefined are left out of its percentiles and counted; above 5 % of them the interval is NaN, as it
    is where an end would be exactly 1 or -1 (`bootstrap.interval`). units: what is drawn in place of videos, as in
    `bootstrap.resamples`.
    """
    truth, tail = np.asarray(target, dtype=np.float64), (1 - confidence) / 2
    scores = {name: _pair(prediction, truth)[0] for name, prediction in predictions.items()}
    blocks: dict[str, list[Floats]] = {name: [] for name in scores}
    for counts in resampling.resamples(len(truth), resamples, seed, units):
        resampled = ResampledTarget(truth, counts)
        for name, prediction in scores.items():
            blocks[name].append(resampled.srcc(prediction))
    values = {name: np.concatenate(found) for name, found in blocks.items()}
    averaged = np.array([values[name] for name in patterns_to_average]).reshape(-1, resamples)
    return Intervals(
        patterns={name: interval(value, tail=tail) for name, value in values.items()},
        average=interval(fisher_means(averaged), (np.abs(averaged) == 1).any(axis=0), tail),
    )


def summarize(
    predictions: Mapping[str, ArrayLike],
    target: ArrayLike,
    incomplete: Sequence[str],
    label_low: float,
    label_high: float,
    seed: int = 0,
    resamples: int = 1000,
    units: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Every metric of every pattern, and the averages over the incomplete ones.

    predictions: by pattern, (N,) in the target's units, NaN for a video that was not scored; target: (N,). label_low
    and label_high: lowest and highest true score, for `rl2`. seed: of the bootstrap, units: what it draws, as
    in `bootstrap.resamples`. Returns

        {"patterns": {name: {"srcc", "srcc_low", "srcc_high", "kendall", "mse", "rl2", "n", "unscored"}},
         "average_incomplete": {"srcc", "srcc_low", "srcc_high", "mse", "patterns", "undefined", "over"}}

    where SRCC is averaged through Fisher's z and MSE plainly, "patterns" counts the averaged ones, "over" names them
    and "undefined" those of them without an SRCC. A pattern without an SRCC has "why_undefined", a pattern or average
    without an interval of it "why_no_interval". A number that is undefined is NaN. Raises ValueError for a NaN in
    target: leave out videos that are not labelled before.
    """
    truth = np.asarray(target, dtype=np.float64)
    if np.isnan(truth).any():
        raise ValueError("a target is NaN; leave out videos that are not labelled")
    intervals = bootstrap(predictions, truth, incomplete, resamples, seed, units=units)
    patterns: dict[str, dict[str, Any]] = {}
    for name, prediction in predictions.items():
        x, y = _pair(prediction, truth)
        scored = ~np.isnan(x)
        known = intervals.patterns[name]
        patterns[name] = {
            "srcc": srcc(x[scored], y[scored]),
            "srcc_low": known.low,
            "srcc_high": known.high,
            "kendall": kendall(x[scored], y[scored]),
            "mse": mse(x[scored], y[scored]),
            "rl2": rl2(x[scored], y[scored], label_low, label_high),
            "n": int(scored.sum()),
            "unscored": int((~scored).sum()),
        }
        reason = why_undefined(x[scored], y[scored])
        if reason is not None:
            patterns[name]["why_undefined"] = reason
        elif known.why_none is not None:
            patterns[name]["why_no_interval"] = known.why_none
    mean = fisher_mean(patterns[name]["srcc"] for name in incomplete)
    average: dict[str, Any] = {
        "srcc": mean,
        "srcc_low": intervals.average.low,
        "srcc_high": intervals.average.high,
        "mse": float(np.mean([patterns[name]["mse"] for name in incomplete])) if incomplete else float("nan"),
        "patterns": len(incomplete),
        "undefined": [name for name in incomplete if np.isnan(patterns[name]["srcc"])],
        "over": list(incomplete),
    }
    if not np.isnan(mean) and intervals.average.why_none is not None:
        average["why_no_interval"] = intervals.average.why_none
    return {"patterns": patterns, "average_incomplete": average}


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"predictions {x.shape} and targets {y.shape} must be two arrays (N,)")
    return x, y
