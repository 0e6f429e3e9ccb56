"""Conformal intervals: their ranks, their coverage by simulation and by counting, and what is said of them."""

import math

import numpy as np
import pytest
import scipy

from aqa.evaluation.intervals import (
    Bounds,
    Residuals,
    binomial,
    cross_validated,
    fewest,
    half_width,
    interval_summary,
    normalized_is_shorter,
    pooled_intervals,
    rank,
    reliability,
    within,
)


@pytest.mark.parametrize(
    ("n", "level", "expected"),
    [(8, 0.9, None), (9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (99, 0.99, 99), (98, 0.99, None)],
)
def test_the_rank_is_the_ceiling_of_n_plus_one_times_the_level(n, level, expected):
    assert rank(n, level) == expected


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_fewest_videos_are_the_fewest_that_have_a_rank(level):
    n = fewest(level)
    assert rank(n, level) is not None
    assert n == 0 or rank(n - 1, level) is None
    assert n >= level / (1 - level) - 1e-9


def test_the_half_width_is_a_residual_and_infinite_where_there_are_too_few():
    residuals = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert half_width(residuals, 0.9) == 18.0
    assert half_width(residuals, 0.5) == 10.0
    assert half_width(residuals[:8], 0.9) == math.inf
    assert half_width(np.zeros(0), 0.5) == math.inf


@pytest.mark.parametrize("n", [9, 25, 100])
def test_the_level_holds_up_to_one_in_n_plus_one(n):
    rng = np.random.default_rng(n)
    trials, level = 40_000, 0.9
    residuals = rng.standard_exponential((trials, n + 1))  # of n calibration videos, and of one that is new
    k = rank(n, level)
    held = residuals[:, -1] <= np.sort(residuals[:, :-1], axis=1)[:, k - 1]
    assert k / (n + 1) == pytest.approx(held.mean(), abs=4 * np.sqrt(0.09 / trials))
    assert level <= k / (n + 1) <= level + 1 / (n + 1)


def test_residuals_in_multiples_of_a_spread_follow_it():
    spreads = np.array([1.0, 2.0, 4.0, 8.0])
    found = Residuals(np.array([1.0, 2.0, 4.0, 8.0]) * 3, spreads)
    low, high = found.ends(np.array([10.0, 10.0]), 0.8, np.array([1.0, 5.0]))
    np.testing.assert_array_equal(low, [7.0, -5.0])
    np.testing.assert_array_equal(high, [13.0, 25.0])
    low, high = found.ends(np.array([10.0]), 0.8)
    assert (low[0], high[0]) == (10 - 24, 10 + 24)


def test_multiples_of_a_spread_are_used_only_where_they_are_shorter_on_the_training_videos():
    rng = np.random.default_rng(0)
    spreads = rng.uniform(0.1, 3.0, 400)
    telling = Residuals(np.abs(rng.normal(size=400)) * spreads, spreads, left_out=True)
    idle = Residuals(np.abs(rng.normal(size=400)), spreads, left_out=True)
    assert normalized_is_shorter(telling, 0.9)
    assert not normalized_is_shorter(idle, 0.9)
    assert not normalized_is_shorter(Residuals(telling.residuals, None, left_out=True), 0.9)
    assert not normalized_is_shorter(Residuals(telling.residuals, 0 * spreads, left_out=True), 0.9)
    assert not normalized_is_shorter(None, 0.9)


def test_cross_validated_intervals_are_those_of_the_definition():
    rng = np.random.default_rng(3)
    scores, residuals = rng.normal(size=(19, 4)), np.abs(rng.normal(size=19))
    low, high = cross_validated(scores, residuals, 0.9)
    for video in range(4):  # Barber et al. 2021: the floor(0.1 * 20)-th smallest, and the ceil(0.9 * 20)-th
        assert low[video] == np.sort(scores[:, video] - residuals)[1]
        assert high[video] == np.sort(scores[:, video] + residuals)[17]


def test_cross_validated_intervals_of_one_model_are_split_conformal_ones():
    residuals = np.abs(np.random.default_rng(0).normal(size=50))
    scores = np.full((50, 3), 2.0)
    low, high = cross_validated(scores, residuals, 0.8)
    half = half_width(residuals, 0.8)
    np.testing.assert_allclose(high, 2 + half)
    np.testing.assert_allclose(low, 2 - half)


def test_many_videos_are_worked_through_in_blocks_with_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(0)
    scores, residuals = rng.normal(size=(30, 50)), np.abs(rng.normal(size=30))
    whole = cross_validated(scores, residuals, 0.9)
    monkeypatch.setattr("aqa.evaluation.intervals.PAIRS_AT_ONCE", 100)
    for one, other in zip(whole, cross_validated(scores, residuals, 0.9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_few_folds_videos_leave_intervals_unbounded():
    low, high = cross_validated(np.zeros((8, 2)), np.ones(8), 0.9)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()


def test_intervals_are_cut_to_the_range_and_unbounded_ones_stay():
    bounds = within(Bounds(np.array([-3.0, 2.0, -np.inf, np.nan]), np.array([5.0, 12.0, np.inf, np.nan])), 0, 10)
    np.testing.assert_array_equal(bounds.low, [0, 2, -np.inf, np.nan])
    np.testing.assert_array_equal(bounds.high, [5, 10, np.inf, np.nan])


def test_cutting_to_the_range_loses_no_label():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 10, 500)
    scores = np.clip(truth + rng.normal(0, 3, 500), 0, 10)
    whole = Bounds(scores - 4, scores + 4)
    cut = within(whole, 0, 10)
    assert interval_summary(cut, truth)["covered"] == interval_summary(whole, truth)["covered"]
    assert interval_summary(cut, truth)["width"] < 8


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (7, 10), (90, 100)])
def test_the_binomial_interval_is_that_of_clopper_and_pearson(count, n):
    known = scipy.stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert binomial(count, n) == pytest.approx((known.low, known.high), rel=1e-10)


def test_what_is_said_counts_bounded_intervals_alone():
    truth = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    bounds = Bounds(np.array([0.0, 3.0, -np.inf, np.nan, 5.0]), np.array([2.0, 4.0, np.inf, np.nan, 6.0]))
    found = interval_summary(bounds, truth)
    assert (found["n"], found["covered"], found["unbounded"]) == (3, 2, 1)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["width"] == pytest.approx((2 + 1 + 1) / 3)
    assert (found["coverage_low"], found["coverage_high"]) == binomial(2, 3)


def test_without_a_bounded_interval_there_is_no_coverage():
    found = interval_summary(Bounds(np.full(3, -np.inf), np.full(3, np.inf)), np.zeros(3))
    assert (found["n"], found["unbounded"]) == (0, 3)
    assert all(np.isnan(found[key]) for key in ("coverage", "coverage_low", "coverage_high", "width"))


def test_parts_are_pooled_as_if_they_were_one():
    rng = np.random.default_rng(0)
    truth, scores = rng.normal(size=(2, 40))
    parts = []
    for rows in (slice(0, 15), slice(15, 40)):
        bounds = {level: Bounds(scores[rows] - level, scores[rows] + 2 * level) for level in (0.5, 0.9)}
        parts.append({**interval_summary(bounds[0.9], truth[rows]), "reliability": reliability(bounds, truth[rows])})
    whole = {level: Bounds(scores - level, scores + 2 * level) for level in (0.5, 0.9)}
    found = pooled_intervals(parts)
    assert found.pop("reliability") == reliability(whole, truth)
    assert found == pytest.approx(interval_summary(whole[0.9], truth))


def test_a_video_of_several_repeats_counts_once_in_the_binomial_interval():
    bounds = {0.9: Bounds(np.zeros(20), np.ones(20))}
    truth = np.linspace(0, 1.2, 20)
    part = {**interval_summary(bounds[0.9], truth), "reliability": reliability(bounds, truth)}
    twice = pooled_intervals([part, part], repeats=2)
    assert twice["n"] == 40
    assert (twice["coverage_low"], twice["coverage_high"]) == (part["coverage_low"], part["coverage_high"])
