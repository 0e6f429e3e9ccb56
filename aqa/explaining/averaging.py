"""The explanation of a mean score: the mean of what each model says.

Shapley values, the parts of a process, occlusion and integrated gradients are linear in the score, so the mean of the
models' values is the value of their mean, and adds up to the mean score minus the mean of the training means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# What is averaged; all other columns say what a row is of, and are the same for all models.
VALUES = ["shapley", "value", "occlusion", "gradients", "moments", "unexplained", "weight"]
TableSet = Mapping[str, "pd.DataFrame"]  # tables by name


def mean_tables(several: Sequence[TableSet], weights: Sequence[float]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The weighted means of tables of several models, and the names of those whose rows are not the same in all.

    weights: of each model; they add up to 1. A table without a mean has no rows.
    """
    means, unlike = {}, []
    for name, first in several[0].items():
        found = _mean_table([tables[name] for tables in several], weights)
        means[name] = first.iloc[:0] if found is None else found
        unlike += [name] if found is None else []
    return means, unlike


def _mean_table(several: Sequence[pd.DataFrame], weights: Sequence[float]) -> pd.DataFrame | None:
    """The mean of tables with the same rows; None where these differ."""
    first = several[0]
    if len(several) == 1:
        return first
    keys = [column for column in first.columns if column not in VALUES]
    if any(len(other) != len(first) or not other[keys].equals(first[keys]) for other in several[1:]):
        return None
    found = first.copy()
    for column in first.columns.intersection(VALUES):
        values = np.stack([other[column].to_numpy(float) for other in several])
        found[column] = np.tensordot(np.asarray(weights), values, axes=1)
    return found


def run_shares(counts: Sequence[int]) -> list[float]:
    """The weight of each model, where runs count alike and so do the models of each. counts: of each run's models."""
    return [1 / (len(counts) * count) for count in counts for _ in range(count)]
