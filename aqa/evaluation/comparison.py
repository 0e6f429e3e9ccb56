"""Models against each other: SRCC with intervals, paired differences on the same videos, ranks over many targets."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import scipy
from numpy.typing import ArrayLike

from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import RESAMPLES, Bools, Floats, Interval, ResampledTarget, interval, resamples

if TYPE_CHECKING:
    import pandas as pd  # longer to import than a model to load

K = TypeVar("K", bound=Hashable)

FEWEST_MODELS, FEWEST_TARGETS = 3, 2  # that Friedman's test is defined for
SIGNIFICANCE = 0.05


@dataclass(frozen=True, eq=False)
class Estimate:
    """An SRCC (or a difference of two), and what it comes to in every resample of the test videos (R,).

    perfect: (R,), the resamples in which an SRCC that it is made of is exactly 1 or -1.
    """

    value: float
    draws: Floats
    perfect: Bools

    @cached_property
    def interval(self) -> Interval:
        """The 95 % percentile interval."""
        return interval(self.draws, self.perfect)

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference: both must come from the same draws."""
        return Estimate(self.value - other.value, self.draws - other.draws, self.perfect | other.perfect)


def estimate(prediction: ArrayLike, resampled: ResampledTarget) -> Estimate:
    """SRCC of predictions (n,) with a target; videos whose prediction is NaN were not scored and are left out."""
    scores = np.asarray(prediction, dtype=np.float64)
    scored = ~np.isnan(scores)
    draws = resampled.srcc(scores)
    return Estimate(metrics.srcc(scores[scored], resampled.target[scored]), draws, np.abs(draws) == 1)


def mean(estimates: Iterable[Estimate]) -> Estimate:
    """Mean through Fisher's z, over seeds, patterns or targets; undefined where one of them is."""
    found = list(estimates)
    draws = metrics.fisher_means(np.array([e.draws for e in found]))
    return Estimate(metrics.fisher_mean(e.value for e in found), draws, np.any([e.perfect for e in found], axis=0))


def mean_difference(differences: Sequence[Estimate]) -> Estimate:
    """The plain mean of differences, as over targets."""
    draws = np.mean([d.draws for d in differences], axis=0)
    perfect = np.any([d.perfect for d in differences], axis=0)
    return Estimate(float(np.mean([d.value for d in differences])), draws, perfect)


def is_higher(difference: Estimate) -> bool:
    """Whether a paired difference is above 0 by its 95 % interval."""
    return bool(difference.interval.low > 0)


def best_of(estimates: Mapping[K, Estimate]) -> K | None:
    """Which estimate is higher than every other by the paired test, not by a digit; None where none is."""
    known = {key: one for key, one in estimates.items() if not np.isnan(one.value)}
    first = max(known, key=lambda key: known[key].value, default=None)
    if first is None or len(known) < 2:
        return None
    return first if all(is_higher(known[first] - other) for key, other in known.items() if key != first) else None


def best_by_measure(estimates: Mapping[K, Estimate], better: str) -> K | None:
    """`best_of`, of a measure of which "lower" or "higher" is better; None where one of them has no interval."""
    sign = -1 if better == "lower" else 1
    if any(not len(one.draws) or np.isnan(one.interval.low) for one in estimates.values()):
        return None
    return best_of({key: Estimate(sign * one.value, sign * one.draws, one.perfect) for key, one in estimates.items()})


def draw_videos(ids: Mapping[str, Sequence[str]], count: int = RESAMPLES, seed: int = 0) -> dict[str, Floats]:
    """How often each test video of each target was drawn: target -> (n, R), in the order of its ids.

    Targets that share videos share their draws, directly or through a third, so that a mean over targets knows how they
    go together; targets of different videos are drawn independently.
    """
    drawn: dict[str, Floats] = {}
    for group, targets in enumerate(_linked(ids)):
        videos = sorted({video for target in targets for video in ids[target]})
        counts = np.concatenate(list(resamples(len(videos), count, [seed, group])), axis=1)
        place = {video: row for row, video in enumerate(videos)}
        for target in targets:
            drawn[target] = counts[[place[video] for video in ids[target]]]
    return drawn


def _linked(ids: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Targets in groups that share videos, in the order of their first."""
    groups: list[tuple[list[str], set[str]]] = []
    for target, videos in ids.items():
        together, known = [target], set(videos)
        apart = []
        for other, seen in groups:
            if seen.isdisjoint(known):
                apart.append((other, seen))
            else:
                together, known = other + together, seen | known
        groups = [*apart, (together, known)]
    order = list(ids)
    return sorted((sorted(group, key=order.index) for group, _ in groups), key=lambda group: order.index(group[0]))


@dataclass(frozen=True)
class Ranking:
    """Ranks of models over targets, by Friedman's test and Nemenyi's (Demsar, JMLR 7, 2006, section 3.2).

    ranks: mean rank by model, 1 is best; p_value: Friedman's, that all models are equal; critical_difference:
    Nemenyi's, of two mean ranks, at the 5 % level; targets: how many were ranked; left_out: targets without a number
    for every model.
    """

    ranks: pd.Series
    statistic: float
    p_value: float
    critical_difference: float
    targets: int
    left_out: list[str]


def rank_models(scores: pd.DataFrame) -> Ranking | None:
    """Rank models by scores (targets x models), higher is better; None for fewer than 3 models or 2 targets.

    A target without a number for every model is left out, and named.
    """
    whole = scores.dropna()
    count, models = whole.shape
    if models < FEWEST_MODELS or count < FEWEST_TARGETS:
        return None
    ranks = whole.rank(axis=1, ascending=False)
    statistic = _friedman(ranks.to_numpy())
    return Ranking(
        ranks=ranks.mean().sort_values(),
        statistic=statistic,
        p_value=float(scipy.special.chdtrc(models - 1, statistic)),
        critical_difference=_nemenyi_quantile(models) * math.sqrt(models * (models + 1) / (6 * count)),
        targets=count,
        left_out=[str(target) for target in scores.index.difference(whole.index, sort=False)],
    )


def _friedman(ranks: Floats) -> float:
    """Friedman's chi square of ranks (targets, models), for ties too; NaN where all are tied.

    As `scipy.stats` has it, which takes half a second to import; so is the quantile below.
    """
    count, models = ranks.shape
    squares = ((ranks - (models + 1) / 2) ** 2).sum()  # without ties models (models^2 - 1) / 12 for each target
    between = count**2 * ((ranks.mean(axis=0) - (models + 1) / 2) ** 2).sum()
    return float((models - 1) * between / squares) if squares else math.nan


@lru_cache
def _nemenyi_quantile(models: int) -> float:
    """Of the difference of two mean ranks, in standard errors, at the 5 % level: a studentized range over sqrt(2).

    How far apart the lowest and the highest of so many standard normal numbers are. With the lowest at z, the others
    lie within q above it; what that adds up to over z is a smooth function, whose sum over a fine grid is its integral.
    """
    z, step = np.linspace(-10, 10, 2001, retstep=True)
    density = models * step * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        q = (low + high) / 2
        within = density @ (scipy.special.ndtr(z + q) - scipy.special.ndtr(z)) ** (models - 1)
        low, high = (q, high) if within < 1 - SIGNIFICANCE else (low, q)
    return high / math.sqrt(2)
