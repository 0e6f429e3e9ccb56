"""What a report says of cross-validations: SRCC by fold, means over folds, and models compared by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aqa.evaluation.bootstrap import ResampledTarget
from aqa.evaluation.comparison import Estimate, mean
from aqa.evaluation.cross_validation import HeldOut, TTest, corrected_t_test, over_folds
from aqa.evaluation.metrics import fisher_mean
from aqa.runs.predictions import RecordedScores

Columns = Mapping[str, Sequence[str]]  # of a table: the patterns that each is the Fisher-z mean of


@dataclass(frozen=True, eq=False)
class FoldNumbers:
    """A model in the folds of a cross-validation, means over seeds, by column of the table.

    by_fold: SRCC in each fold; mean: their Fisher-z mean. held_out: which fold tested which video.
    """

    held_out: HeldOut
    by_fold: dict[str, dict[int, float]]
    mean: dict[str, Estimate]

    def deviation(self, column: str) -> float:
        """The standard deviation of SRCC over folds; NaN where it is undefined in one."""
        return float(np.std(list(self.by_fold[column].values()), ddof=1))

    def t_test(self, other: FoldNumbers, column: str) -> TTest | None:
        """The corrected t test of SRCC by fold; None where the other was not tested in the same folds."""
        same = np.array_equal(self.held_out.folds, other.held_out.folds)
        if not same or column not in self.by_fold or column not in other.by_fold:
            return None
        here, there = self.by_fold[column], other.by_fold[column]
        return corrected_t_test([here[fold] - there[fold] for fold in here], self.held_out.test_share)


def fold_numbers(scores: Sequence[RecordedScores], resampled: ResampledTarget, columns: Columns) -> FoldNumbers | None:
    """The numbers by fold of a model's seeds; None of runs without folds, and of seeds in different folds."""
    held_out = scores[0].held_out
    if held_out is None:
        return None
    for one in scores:
        other = one.held_out
        if other is None or not np.array_equal(other.folds, held_out.folds):
            return None
    patterns = dict.fromkeys(name for several in columns.values() for name in several)
    values = {name: [held_out.by_fold(one.scores(name)) for one in scores] for name in patterns}
    means = {name: mean(over_folds(one.scores(name), held_out, resampled) for one in scores) for name in patterns}
    by_fold = {
        column: {fold: fisher_mean(one[fold] for name in several for one in values[name]) for fold in held_out.numbers}
        for column, several in columns.items()
    }
    return FoldNumbers(
        held_out, by_fold, {column: mean(means[name] for name in several) for column, several in columns.items()}
    )
