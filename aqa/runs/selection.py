"""What runs were selected by, as metrics.json has it: split, metric, pattern and the value there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aqa.evaluation.metrics import fisher_mean

#: In the place of the split that selected the epoch, of a checkpoint that others trained (`aqa import`).
UNKNOWN = "unknown"
UNKNOWN_SELECTION: Mapping[str, Any] = {
    "split": UNKNOWN,
    "metric": "",
    "pattern": "",
    "epoch": None,
    "value": None,
    "epochs": None,
}
#: Splits whose value says nothing of which run is better on new videos: they were learned from, or are tested.
NOT_VALIDATION = ("train", "test", UNKNOWN)
#: What selected epochs whose scores on the test split are too good, or may be.
MAYBE_TEST = ("test", UNKNOWN)
IMPORTED = "imported: by which videos its authors selected it is not known, and they may be those of the test split"


def is_validated(selection: Mapping[str, Any]) -> bool:
    """Whether the value of the selection metric is of videos that were neither learned from nor tested."""
    return selection["split"] not in NOT_VALIDATION


def badness(selection: Mapping[str, Any]) -> float:
    """A number that is the lower the better the value of the selection metric is; infinite where it is undefined."""
    value = selection.get("value")
    if value is None or math.isnan(value):
        return math.inf
    return float(value) if selection["metric"] == "mse" else -float(value)


def mean_selection(selections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The selection of runs that differ in their seed: its value the mean, of SRCC through Fisher's z; NaN: undefined.

    A value that is undefined for one run is undefined for the mean.
    """
    known = [math.nan if one.get("value") is None else float(one["value"]) for one in selections]
    value = float(np.mean(known)) if selections[0].get("metric") == "mse" else fisher_mean(known)
    return {**selections[0], "value": value}
