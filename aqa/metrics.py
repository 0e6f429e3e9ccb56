"""How well predicted scores follow the judges': correlations, errors, and bootstrap intervals over videos.

An undefined number is NaN, without a warning: it is reported, and it is never averaged away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

FEWEST = 3  # Two videos correlate perfectly whatever is predicted.
UNDEFINED_RESAMPLES = 0.05  # Percentiles of what is left after leaving out more than this would be of another quantity.
BLOCK = 1_000_000  # Resamples are worked through in blocks of about this many videos, to bound memory.


class Interval(NamedTuple):
    """A percentile interval, and how many resamples had no value and were left out of it."""

    low: float
    high: float
    undefined: int


@dataclass(frozen=True)
class Intervals:
    """SRCC intervals by pattern, and that of their Fisher mean over the patterns that were averaged."""

    patterns: dict[str, Interval]
    average: Interval


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation of predictions (N,) with targets (N,); ties have average ranks.

    NaN where it is undefined: fewer than 3 videos, a constant input, or a NaN among the numbers.
    """
    x, y = _pair(prediction, target)
    if len(x) < FEWEST or np.isnan(x).any() or np.isnan(y).any():
        return float("nan")
    # Twice the centred ranks are whole numbers, so that constants and perfect orders are met exactly.
    x, y = (2 * stats.rankdata(v) - (len(v) + 1) for v in (x, y))
    return float(_correlation(x @ y, x @ x, y @ y))


def kendall(prediction: ArrayLike, target: ArrayLike) -> float:
    """Kendall's tau-b of predictions (N,) with targets (N,); NaN where `srcc` is."""
    x, y = _pair(prediction, target)
    if np.isnan(srcc(x, y)):
        return float("nan")
    return float(stats.kendalltau(x, y)[0])


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
    return float(_fisher_mean(np.array([list(correlations)], dtype=np.float64))[0])


def bootstrap(
    predictions: Mapping[str, ArrayLike],
    target: ArrayLike,
    patterns_to_average: Collection[str],
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Intervals:
    """Percentile bootstrap intervals of SRCC, over videos (Efron and Tibshirani 1993, chapter 13).

    predictions: by pattern, (N,), NaN for a video that was not scored under it; target: (N,), without NaN. A resample
    draws the same N videos for every pattern, so that the interval of the Fisher mean over `patterns_to_average` knows
    how the patterns go together; a pattern leaves out the videos that it did not score. Resamples in which a
    correlation is undefined are left out of its percentiles and counted; above 5 % of them the interval is NaN.
    """
    truth = np.asarray(target, dtype=np.float64)
    pairs = {name: _pair(prediction, truth) for name, prediction in predictions.items()}
    values = {name: np.empty(resamples) for name in pairs}
    done = 0
    for counts in _resamples(len(truth), resamples, seed):
        rows = slice(done, done + len(counts))
        for name, (x, y) in pairs.items():
            scored = ~np.isnan(x)
            values[name][rows] = _weighted_srcc(x[scored], y[scored], counts[:, scored])
        done += len(counts)
    averaged = np.array([values[name] for name in patterns_to_average]).reshape(-1, resamples)
    return Intervals(
        patterns={name: _interval(value, confidence) for name, value in values.items()},
        average=_interval(_fisher_mean(averaged.T), confidence),
    )


def summarise(
    predictions: Mapping[str, ArrayLike],
    target: ArrayLike,
    incomplete: Sequence[str],
    label_low: float,
    label_high: float,
    seed: int = 0,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Every metric of every pattern, and the averages over the incomplete ones.

    predictions: by pattern, (N,) in the target's units, NaN for a video that was not scored; target: (N,). label_low
    and label_high: lowest and highest true score, for `rl2`. seed: of the bootstrap. Returns

        {"patterns": {name: {"srcc", "srcc_low", "srcc_high", "kendall", "mse", "rl2", "n", "unscored"}},
         "average_incomplete": {"srcc", "srcc_low", "srcc_high", "mse", "patterns", "undefined"}}

    where SRCC is averaged through Fisher's z and MSE plainly, "patterns" counts the averaged ones and "undefined" names
    those without an SRCC. A number that is undefined is NaN. Raises ValueError for a NaN in target: leave out videos
    that are not labelled before.
    """
    truth = np.asarray(target, dtype=np.float64)
    if np.isnan(truth).any():
        raise ValueError("a target is NaN; leave out videos that are not labelled")
    intervals = bootstrap(predictions, truth, incomplete, resamples, seed)
    patterns: dict[str, dict[str, Any]] = {}
    for name, prediction in predictions.items():
        x, y = _pair(prediction, truth)
        scored = ~np.isnan(x)
        low, high, _ = intervals.patterns[name]
        patterns[name] = {
            "srcc": srcc(x[scored], y[scored]),
            "srcc_low": low,
            "srcc_high": high,
            "kendall": kendall(x[scored], y[scored]),
            "mse": mse(x[scored], y[scored]),
            "rl2": rl2(x[scored], y[scored], label_low, label_high),
            "n": int(scored.sum()),
            "unscored": int((~scored).sum()),
        }
    average = {
        "srcc": fisher_mean(patterns[name]["srcc"] for name in incomplete),
        "srcc_low": intervals.average.low,
        "srcc_high": intervals.average.high,
        "mse": float(np.mean([patterns[name]["mse"] for name in incomplete])) if incomplete else float("nan"),
        "patterns": len(incomplete),
        "undefined": [name for name in incomplete if np.isnan(patterns[name]["srcc"])],
    }
    return {"patterns": patterns, "average_incomplete": average}


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"predictions {x.shape} and targets {y.shape} must be two arrays (N,)")
    return x, y


def _correlation(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    """From centred sums of products; NaN where one of the variances is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(xy / np.sqrt(xx * yy), -1.0, 1.0)


def _fisher_mean(correlations: Floats) -> Floats:
    """Along the last axis; NaN where it is empty."""
    if correlations.shape[-1] == 0:
        return np.full(correlations.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.tanh(np.mean(np.arctanh(correlations), axis=-1))


def _resamples(n: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of n videos was drawn, (block, n), in blocks."""
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // max(n, 1))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        if n == 0:
            yield np.zeros((rows, 0))
            continue
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _weighted_srcc(x: Floats, y: Floats, counts: Floats) -> Floats:
    """SRCC of (n,) with (n,) in resamples given by how often each video was drawn (R, n); NaN where undefined.

    Ranks in a resample follow from one sorting of the videos and the counts, without sorting every resample.
    """
    if len(x) == 0:
        return np.full(len(counts), np.nan)
    x_ranks, y_ranks = _centred_ranks(x, counts), _centred_ranks(y, counts)
    xy, xx, yy = (
        np.einsum("rn,rn,rn->r", counts, a, b) for a, b in ((x_ranks, y_ranks), (x_ranks, x_ranks), (y_ranks, y_ranks))
    )
    values = _correlation(xy, xx, yy)
    values[counts.sum(axis=1) < FEWEST] = np.nan
    return values


def _centred_ranks(values: Floats, counts: Floats) -> Floats:
    """Twice the average rank of each video in each resample, less its mean: whole numbers (R, n)."""
    order = np.argsort(values, kind="stable")
    rising = values[order]
    starts = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    tied = np.add.reduceat(counts[:, order], starts, axis=1)
    upto = np.cumsum(tied, axis=1)
    # A group's ranks run from upto - tied + 1 to upto, and all ranks from 1 to the number of videos drawn.
    return (2 * upto - tied - upto[:, -1:])[:, group]


def _interval(values: Floats, confidence: float) -> Interval:
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if len(defined) == 0 or undefined > UNDEFINED_RESAMPLES * len(values):
        return Interval(float("nan"), float("nan"), undefined)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high), undefined)
