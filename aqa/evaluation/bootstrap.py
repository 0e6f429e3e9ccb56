"""The bootstrap over test videos: what a correlation comes to when videos are drawn with replacement.

Every number that is compared is worked out on the same draws, so that differences are paired (Efron and Tibshirani,
An Introduction to the Bootstrap, 1993, chapters 13 and 16).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST = 3  # Two videos correlate perfectly whatever is predicted.
MOST_UNDEFINED = 0.05  # Percentiles of what is left after leaving out more than this would be of another quantity.
RESAMPLES = 1000
TAIL = 0.025  # Of resamples beyond each end of a 95 % interval.
VIDEOS_AT_ONCE = 1_000_000  # Resamples are worked through in blocks of about this many videos, to bound memory.


class Interval(NamedTuple):
    """A percentile interval: NaN if the resamples allow none, with the counts that say why.

    undefined: resamples without a value, which are left out; perfect: those in which the videos drawn are in perfect
    order; resamples: how many there are.
    """

    low: float
    high: float
    undefined: int
    perfect: int
    resamples: int

    @property
    def too_few(self) -> bool:
        """Whether there is no interval because there are too few videos: an end of it would be exactly 1 or -1."""
        return bool(np.isnan(self.low)) and self.perfect > TAIL * self.resamples

    @property
    def why_none(self) -> str | None:
        """Why there is no interval, in words; None if there is one."""
        if not np.isnan(self.low):
            return None
        if self.too_few:
            return f"too few videos: the order is perfect in {self.perfect} of {self.resamples} resamples"
        return f"undefined in {self.undefined} of {self.resamples} resamples"


def resamples(n: int, count: int, seed: int | list[int], units: NDArray[np.int64] | None = None) -> Iterator[Floats]:
    """How often each of n videos was drawn, (n, R) in blocks whose R add up to count.

    units: (n,), numbers from 0 of what is drawn in place of single videos, such as athletes: all videos of one are
    drawn together (cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
    """
    if units is not None:
        for of_units in resamples(int(units.max(initial=-1)) + 1, count, seed):
            yield of_units[units]
        return
    rng = np.random.default_rng(seed)
    block = max(1, VIDEOS_AT_ONCE // max(n, 1))
    for start in range(0, count, block):
        rows = min(block, count - start)
        if n == 0:
            yield np.zeros((0, rows))
            continue
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def numbered_labels(labels: Sequence[str]) -> NDArray[np.int64]:
    """The number of each video's label among the sorted labels (n,)."""
    return np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)


class ResampledTarget:
    """A target's side of SRCC in every resample, worked out once for all predictions of it.

    target: (n,), without NaN; counts: (n, R), how often each video was drawn. For one thread: `srcc` writes into
    memory that it keeps, since the system clears every page of what is allocated anew.
    """

    def __init__(self, target: Floats, counts: Floats):
        self.target, self.counts = target, counts
        self._parts: dict[bytes, ResampledTarget] = {}
        self.drawn = counts.sum(axis=0)
        order, starts = _ties(target)
        tied = _summed(counts[order], starts)
        ranks = 2 * _summed_up(tied.copy()) - tied - self.drawn
        groups = np.repeat(np.arange(len(starts)), np.diff([*starts, len(target)]))
        weighted = np.empty_like(counts)  # each video's centred rank, as often as it was drawn
        weighted[order] = ranks[groups]
        weighted *= counts
        self.variance = _variance(tied, self.drawn)
        # For predictions without ties, whatever their order is:
        self.untied = np.einsum("nr,nr->r", weighted, counts), _variance(counts, self.drawn)
        number = _exact_type(self.drawn.max(initial=0))
        self.weighted = weighted.astype(number, copy=False)
        self._rows, self._none = list(counts.astype(number, copy=False)), np.zeros(counts.shape[1], number)
        self._upto = np.empty(counts.shape, number)
        self._sums = list(self._upto)

    def srcc(self, prediction: Floats) -> Floats:
        """SRCC of predictions (n,) in every resample (R,); NaN if undefined.

        Videos whose prediction is NaN were not scored and are left out. Ranks follow from one sorting of the videos
        and the counts, without sorting every resample; they are doubled, so that sums are of whole numbers.
        """
        scored = ~np.isnan(prediction)
        if not scored.all():
            return self._part(scored).srcc(prediction[scored])
        if len(prediction) == 0:
            return np.full(self.counts.shape[1], np.nan)
        order, starts = _ties(prediction)
        if len(starts) == len(order):
            own, variance = self.untied
            together = np.einsum("nr,nr->r", self.weighted, self._drawn_upto(order.tolist())).astype(np.float64)
        else:
            tied, weighted = _summed(self.counts[order], starts), _summed(self.weighted[order], starts)
            own, variance = np.einsum("gr,gr->r", weighted, tied), _variance(tied, self.drawn)
            together = np.einsum("gr,gr->r", weighted, _summed_up(tied))
        # Twice a group's average rank is 2 upto - tied + 1. Centring changes nothing: the target's ranks are centred.
        values = correlation(2 * together - own, variance, self.variance)
        values[self.drawn < FEWEST] = np.nan
        return values

    def _drawn_upto(self, order: Sequence[int]) -> NDArray[np.floating[Any]]:
        """How many videos were drawn of each video and those before it in an order (n, R)."""
        rows, sums, before = self._rows, self._sums, self._none
        for place in order:
            before = np.add(before, rows[place], sums[place])
        return self._upto

    def _part(self, scored: NDArray[np.bool_]) -> ResampledTarget:
        key = scored.tobytes()
        if key not in self._parts:
            self._parts[key] = ResampledTarget(self.target[scored], self.counts[scored])
        return self._parts[key]


def _exact_type(drawn: float) -> type[np.floating[Any]]:
    """A type that holds every sum of `ResampledTarget.srcc` exactly, for so many videos that are drawn.

    Centred doubled ranks add up to at most drawn^2 / 2 in size, and each is multiplied by at most drawn.
    """
    return np.float32 if drawn**3 / 2 < 2**24 else np.float64


def correlation(xy: Floats, xx: Floats, yy: Floats) -> Floats:
    """From centred sums of products; NaN if one of the variances is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(xy / np.sqrt(xx * yy), -1.0, 1.0)


def interval(values: Floats, perfect: Bools | None = None, tail: float = TAIL) -> Interval:
    """The percentile interval of what a number comes to in resamples (R,). tail: the share beyond each end.

    perfect: (R,), in which resamples the videos drawn are in perfect order, which is where SRCC is 1 or -1 if it is not
    given. No interval (NaN) where more than 5 % of resamples are undefined, or where so many are perfect that an end
    would be exactly 1 or -1: that end is a limit of few videos, not of the model.
    """
    defined, count = ~np.isnan(values), len(values)
    perfect = np.abs(values) == 1 if perfect is None else perfect
    undefined, extreme = int(count - defined.sum()), int(perfect.sum())
    if undefined > MOST_UNDEFINED * count or extreme > tail * count or not count:
        return Interval(float("nan"), float("nan"), undefined, extreme, count)
    low, high = _quantiles(values[defined], (tail, 1 - tail))
    return Interval(low, high, undefined, extreme, count)


def _quantiles(values: Floats, shares: Sequence[float]) -> list[float]:
    """`np.quantile` of numbers (n,) without NaN, to the last bit, in a third of the time."""
    places = [share * (len(values) - 1) for share in shares]
    below = [int(place) for place in places]
    above = [min(place + 1, len(values) - 1) for place in below]
    ordered = np.partition(values, sorted({*below, *above}))
    return [
        _between(float(ordered[low]), float(ordered[high]), place - low)
        for place, low, high in zip(places, below, above, strict=True)
    ]


def _between(low: float, high: float, share: float) -> float:
    """From low to high, by a share of the way; from the nearer one, as numpy does."""
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def _ties(values: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order of values (n,), and where in it each run of equal ones starts."""
    order = np.argsort(values, kind="stable")
    rising, begins = values[order], np.ones(len(values), np.bool_)
    np.not_equal(rising[1:], rising[:-1], out=begins[1:])
    return order, begins.nonzero()[0]


def doubled_ranks(values: Floats) -> Floats:
    """Twice the ranks of values (n,) without NaN, equal ones at their mean: whole numbers."""
    order, starts = _ties(values)
    ranks = np.empty(len(values))
    if len(starts) == len(values):
        ranks[order] = np.arange(2, 2 * len(values) + 1, 2)
        return ranks
    sizes = np.diff(np.append(starts, len(values)))
    ranks[order] = np.repeat(2 * starts + sizes + 1, sizes)
    return ranks


def _summed(rows: Floats, starts: NDArray[np.intp]) -> Floats:
    """Rows (n, R) summed over runs of equal values."""
    return rows if len(starts) == len(rows) else np.add.reduceat(rows, starts, axis=0)


def _summed_up(rows: Floats) -> Floats:
    """Each row (g, R) with those before it, in place: `np.cumsum` along the first axis takes four times as long."""
    for before, row in itertools.pairwise(rows):
        np.add(before, row, out=row)
    return rows


def _variance(tied: Floats, drawn: Floats) -> Floats:
    """Sum of squares of doubled centred ranks, of groups of equal values of given sizes (g, R)."""
    return (drawn**3 - np.einsum("gr,gr,gr->r", tied, tied, tied)) / 3
