"""What a stream that a video lacks would change, as it does in videos alike that have it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALIKE = 50  # videos that count as alike
FEWEST_ALIKE = 10
MEAN_HELD = 0.95  # of the interval of the mean


class Change(NamedTuple):
    """How a score would change, in the target's units; NaN where too few videos tell.

    mean, with its 95 % interval low to high (Student's t); lowest, highest: between which the change of a single video
    lies with the probability asked for, infinite where the videos are too few for it. videos: how many are alike.
    """

    mean: float
    low: float
    high: float
    lowest: float
    highest: float
    videos: int


def expected_change(score: float, without: Floats, with_it: Floats, level: float) -> Change:
    """What seeing one more stream changes in the videos whose score without it is nearest to `score`.

    without, with_it: scores of n other videos that have the stream, without it and with it. Ranks for lowest and
    highest are those of a conformal interval: `level` is met if the video is exchangeable with those alike.
    """
    alike = np.argsort(np.abs(without - score), kind="stable")[:ALIKE]
    changes = np.sort((with_it - without)[alike])
    n = len(changes)
    if n < FEWEST_ALIKE:
        return Change(math.nan, math.nan, math.nan, math.nan, math.nan, n)
    mean = float(changes.mean())
    half = float(scipy.stats.t.ppf((1 + MEAN_HELD) / 2, n - 1) * changes.std(ddof=1) / math.sqrt(n))
    outside = math.floor(round((n + 1) * (1 - level) / 2, 9))  # how many lie below `lowest` and above `highest`
    lowest, highest = (changes[outside - 1], changes[-outside]) if outside else (-math.inf, math.inf)
    return Change(mean, mean - half, mean + half, float(lowest), float(highest), n)
