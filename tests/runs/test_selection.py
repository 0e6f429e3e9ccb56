"""What runs were selected by."""

import math

import numpy as np
import pytest

from aqa.runs.selection import badness, is_validated, mean_selection


def test_more_srcc_and_less_mse_are_better_and_undefined_is_worst():
    assert badness({"metric": "srcc", "value": 0.5}) < badness({"metric": "srcc", "value": 0.4})
    assert badness({"metric": "mse", "value": 1.0}) < badness({"metric": "mse", "value": 2.0})
    assert badness({"metric": "srcc", "value": None}) == badness({"metric": "mse", "value": math.nan}) == math.inf


def test_the_mean_over_seeds_is_fishers_for_srcc_and_a_plain_one_for_mse():
    found = mean_selection([{"split": "valid", "metric": "srcc", "value": value} for value in (0.2, 0.8)])
    assert found["value"] == pytest.approx(np.tanh(np.mean(np.arctanh([0.2, 0.8]))))
    assert found["split"] == "valid"
    assert mean_selection([{"metric": "mse", "value": value} for value in (1.0, 4.0)])["value"] == 2.5
    assert math.isnan(mean_selection([{"metric": "srcc", "value": value} for value in (0.2, None)])["value"])


def test_only_a_split_that_is_neither_learned_from_nor_tested_validates():
    known = {split: is_validated({"split": split}) for split in ("valid", "dev", "train", "test")}
    assert known == {"valid": True, "dev": True, "train": False, "test": False}
