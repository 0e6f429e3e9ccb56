"""What a report says of the seeds of a model taken together: the SRCC of their mean scores, against single seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aqa.evaluation.bootstrap import ResampledTarget
from aqa.evaluation.comparison import Estimate, mean
from aqa.evaluation.cross_validation import pooled
from aqa.modalities import find_subset
from aqa.runs.predictions import RecordedScores


def seed_ensemble(
    scores: Mapping[int, RecordedScores],
    resampled: ResampledTarget,
    modalities: Sequence[str],
    patterns: Sequence[str],
    averaged: Sequence[str],
    average: str,
) -> dict[str, Estimate]:
    """SRCC of the mean scores of several seeds, by pattern; nothing of one seed.

    Of subsets alone: random patterns hide other streams by each seed. average: what the mean over the patterns
    `averaged` is called.
    """
    if len(scores) < 2:
        return {}
    found = {}
    for name in patterns:
        if find_subset(modalities, name) is not None:
            together = np.mean([each.scores(name) for each in scores.values()], axis=0)  # (repeats, n)
            found[name] = pooled(together, resampled)
    if averaged and all(name in found for name in averaged):
        found[average] = mean(found[name] for name in averaged)
    return found
