"""What finished runs came to on the test split: means over seeds, with intervals, paired where the videos are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from aqa.errors import AqaError
from aqa.evaluation.bootstrap import ResampledTarget
from aqa.evaluation.comparison import Estimate, draw_videos, mean
from aqa.evaluation.cross_validation import pooled
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.predictions import RecordedScores, read_predictions

AVERAGE_OF_INCOMPLETE = "average"


def estimates_on_test(groups: Mapping[str, Sequence[Path]]) -> dict[str, dict[str, Estimate]]:
    """SRCC by pattern, and the average of the incomplete ones, of groups of runs that differ in their seed.

    A group's SRCC is the Fisher-z mean over its runs. All are worked out on the same resamples of the videos, so that
    their differences are paired. AqaError if runs were tested on different videos.
    """
    scores = {name: [read_predictions(run / PREDICTIONS) for run in runs] for name, runs in groups.items() if runs}
    if not scores:
        return {}
    base = next(iter(scores.values()))[0]
    for name, found in scores.items():
        for run, one in zip(groups[name], found, strict=True):
            if one.ids != base.ids or not np.array_equal(one.truth, base.truth):
                raise AqaError(f"{run} was tested on other videos or labels than the runs that it is compared with")
    resampled = ResampledTarget(base.truth, draw_videos({base.target: base.drawn})[base.target])
    return {name: _estimates(found, groups[name][0], resampled) for name, found in scores.items()}


def _estimates(scores: Sequence[RecordedScores], run: Path, resampled: ResampledTarget) -> dict[str, Estimate]:
    patterns = [name for name in scores[0].by_pattern if all(name in one.by_pattern for one in scores)]
    found = {name: mean(pooled(one.scores(name), resampled) for one in scores) for name in patterns}
    averaged = RunFolder(run).metrics["average_incomplete"].get("over", [])
    if averaged and all(name in found for name in averaged):
        found[AVERAGE_OF_INCOMPLETE] = mean(found[name] for name in averaged)
    return found
