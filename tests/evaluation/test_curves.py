"""The area under SRCC against missing rates."""

import numpy as np
import pytest

from aqa.evaluation.curves import area_under_rates, mean_over
from aqa.evaluation.metrics import srcc


def test_the_area_is_that_of_trapezoids_over_the_width():
    assert mean_over(np.array([0, 0.2, 0.6]), np.array([[0.9], [0.7], [0.1]]))[0] == pytest.approx(
        (0.2 * 0.8 + 0.4 * 0.4) / 0.6
    )
    assert mean_over(np.array([0.1, 0.9]), np.array([[0.5], [0.5]]))[0] == 0.5


def test_it_is_made_of_the_patterns_own_correlations_whatever_their_order():
    rng = np.random.default_rng(0)
    target = rng.normal(size=80)
    predictions = {f"rates({r})": target + rng.normal(size=80) * (0.5 + r) for r in (0.6, 0.0, 0.3)}
    rates = {"rates(0.6)": 0.6, "rates(0.0)": 0.0, "rates(0.3)": 0.3}
    found = area_under_rates(predictions, target, rates)
    parts = [srcc(predictions[f"rates({r})"], target) for r in (0.0, 0.3, 0.6)]
    assert found["srcc"] == pytest.approx((parts[0] + 2 * parts[1] + parts[2]) / 4)
    assert found["patterns"] == ["rates(0.0)", "rates(0.3)", "rates(0.6)"]
    assert found["rates"] == [0.0, 0.3, 0.6]
    assert found["srcc_low"] < found["srcc"] < found["srcc_high"]


def test_one_undefined_correlation_leaves_none():
    target = np.arange(10.0)
    found = area_under_rates({"a": target, "b": np.ones(10)}, target, {"a": 0.0, "b": 0.5})
    assert np.isnan(found["srcc"])
    assert np.isnan(found["srcc_low"])
