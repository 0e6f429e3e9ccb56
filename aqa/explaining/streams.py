"""What each stream adds to a score: exact Shapley values over the modalities.

Shapley, A value for n-person games, 1953; Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NIPS
2017. The game of a video: v(S) is its score when S is visible, and v of nothing is the mean label of the training
videos. A stream's value is the mean of v(S and it) - v(S) over all orders in which streams can be shown, so the values
add up to the score minus the training mean. The models score every visible set anyway: nothing is sampled, imputed or
approximated. A stream that a video lacks adds nothing and has the value 0.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError
from aqa.evaluation.scorer import Scorer
from aqa.features.alignment import Rows
from aqa.missing.hiding import Subset
from aqa.modalities import subset_name

Floats = NDArray[np.float64]
Shown = NDArray[np.bool_]  # (n, M), which streams of some videos are shown

MOST_STREAMS = 8  # of which all 255 visible sets are scored


class SetScores(NamedTuple):
    """Scores of n videos under all 2^M sets, in the target's units; a set is numbered in binary, modality m as 2^m.

    scores: (2^M, n), NaN where a set shows nothing of a video. spreads: the model's own deviations (2^M, n), NaN where
    it states none. A video has the same bits under two sets that show the same of it.
    """

    scores: Floats
    spreads: Floats


def numbered(shown: Shown) -> NDArray[np.int64]:
    """The numbers of sets (..., M), (...,)."""
    return np.asarray(shown @ (1 << np.arange(shown.shape[-1])), np.int64)


def all_sets(streams: int) -> Shown:
    """All sets of so many streams by their number, (2^M, M)."""
    return (np.arange(1 << streams)[:, None] >> np.arange(streams) & 1).astype(bool)


def require_few_streams(streams: int) -> None:
    """AqaError where there are too many streams for all their sets."""
    if streams > MOST_STREAMS:
        raise AqaError(
            f"{streams} modalities have {2**streams - 1} visible sets, and an explanation needs the score under each: "
            f"at most {MOST_STREAMS} can be explained; train with fewer (data.modalities)"
        )


def set_scores(scorer: Scorer, rows: Rows, shown: Shown) -> SetScores:
    """Scores of some rows under all sets of the streams that may be shown of them, (n, M)."""
    modalities = scorer.features.modalities
    require_few_streams(len(modalities))
    sets = all_sets(len(modalities))
    seen = numbered(sets[:, None] & shown & scorer.features.available[rows])  # (2^M, n) what a set shows of a video
    used = [number for number in np.unique(seen) if number]
    patterns = {subset_name(modalities, sets[number]): Subset(modalities, sets[number]) for number in used}
    found = scorer.predict_and_diagnose(rows, patterns)
    scores, spreads = np.full((2, *seen.shape), np.nan)
    for number, name in zip(used, patterns, strict=True):
        scores[number] = found.predictions[name]
        spreads[number] = found.spreads.get(name, scores[0])
    return SetScores(*(np.take_along_axis(part, seen, axis=0) for part in (scores, spreads)))


def shapley_values(scores: Floats, middle: float) -> Floats:
    """What each of M streams adds to the score of each of n videos, (M, n).

    scores: (2^M, n) as `SetScores` has them; where a set shows nothing the score is `middle`, the training mean.
    """
    values = np.where(np.isnan(scores), middle, scores)
    streams = len(values).bit_length() - 1
    found = np.zeros((streams, values.shape[1]))
    for stream in range(streams):
        others = [m for m in range(streams) if m != stream]
        for size in range(streams):
            orders = math.factorial(size) * math.factorial(streams - size - 1) / math.factorial(streams)
            for before in itertools.combinations(others, size):
                number = sum(1 << m for m in before)
                found[stream] += orders * (values[number | 1 << stream] - values[number])
    return found
