"""Models against each other: paired draws, means, ranks."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from aqa.evaluation.bootstrap import ResampledTarget
from aqa.evaluation.comparison import Estimate, draw_videos, estimate, mean, rank_models
from aqa.evaluation.metrics import bootstrap, fisher_mean, srcc

SCORES = pd.DataFrame(  # four models on twelve targets, the later ones better for the most part
    np.random.default_rng(1).normal(size=(12, 4)) + 0.9 * np.arange(4), columns=["ridge", "zero_fill", "mome", "mcmoe"]
)


def predictions(n=200, shared=1.0, own=0.3, seed=0):
    """Two predictions of one target that err mostly together."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=n)
    error = shared * rng.normal(size=n)
    return target, *(target + error + own * rng.normal(size=n) for _ in range(2))


def resampled(target):
    return ResampledTarget(target, draw_videos({"TES": [str(i) for i in range(len(target))]})["TES"])


def test_an_estimate_is_srcc_with_its_bootstrap_interval():
    target, first, _ = predictions()
    first[:5] = np.nan
    found = estimate(first, resampled(target))
    assert found.value == srcc(first[5:], target[5:])
    alone = bootstrap({"V": first}, target, [], seed=3).patterns["V"]
    assert found.interval[:2] == pytest.approx(alone[:2], abs=0.03)


def test_a_paired_difference_knows_that_models_err_together():
    target, first, second = predictions()
    drawn = resampled(target)
    one, other = estimate(first, drawn), estimate(second, drawn)
    difference = one - other
    assert difference.value == one.value - other.value
    low, high, *_ = difference.interval
    assert low < difference.value < high
    unpaired = np.hypot(one.interval.high - one.interval.low, other.interval.high - other.interval.low)
    assert high - low < unpaired / 2
    assert (one - one).interval[:2] == (0, 0)


def test_differences_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(60):
        target, first, second = predictions(80, own=0.8, seed=seed)  # equally good, by how they are made
        low, high, *_ = (estimate(first, resampled(target)) - estimate(second, resampled(target))).interval
        held += low <= 0 <= high
    assert held >= 52


def test_means_go_through_fisher_and_are_undefined_where_a_part_is():
    never = np.zeros(2, dtype=bool)
    one, other = Estimate(0.2, np.array([0.1, 0.3]), never), Estimate(0.8, np.array([0.7, 0.9]), never)
    found = mean([one, other])
    assert found.value == pytest.approx(fisher_mean([0.2, 0.8]))
    assert found.draws == pytest.approx([fisher_mean([0.1, 0.7]), fisher_mean([0.3, 0.9])])
    assert np.isnan(mean([one, Estimate(np.nan, np.full(2, np.nan), never)]).value)


def test_few_videos_in_perfect_order_leave_a_mean_and_a_difference_without_interval():
    target = np.arange(4.0)
    drawn = resampled(target)
    perfect, other = estimate(target, drawn), estimate(np.array([1.0, 0.0, 3.0, 2.0]), drawn)
    for found in (perfect, mean([perfect, other]), perfect - other):
        assert np.isnan(found.interval.low)
        assert np.isnan(found.interval.high)
        assert found.interval.too_few
        assert found.interval.why_none.startswith("too few videos: the order is perfect in ")


def test_targets_that_share_videos_share_their_draws():
    ids = {"TES": ["a", "b", "c"], "Ball": ["x", "y", "z"], "PCS": ["c", "a", "b"], "GOE": ["c", "d"]}
    drawn = draw_videos(ids, count=50)
    assert {name: counts.shape for name, counts in drawn.items()} == {
        "TES": (3, 50),
        "Ball": (3, 50),
        "PCS": (3, 50),
        "GOE": (2, 50),
    }
    np.testing.assert_array_equal(drawn["TES"], drawn["PCS"][[1, 2, 0]])
    np.testing.assert_array_equal(drawn["TES"][2], drawn["GOE"][0])
    assert (drawn["Ball"].sum(axis=0) == 3).all()  # its videos are nobody else's
    assert (drawn["TES"].sum(axis=0) + drawn["GOE"][1] == 4).all()
    assert not np.array_equal(drawn["TES"], drawn["Ball"])
    again = draw_videos(dict(reversed(ids.items())), count=50)
    assert again["TES"].shape == (3, 50)


def test_ranks_statistic_and_critical_difference_are_those_of_the_formulas():
    found = rank_models(SCORES)
    ranks = SCORES.rank(axis=1, ascending=False).mean()
    assert found.ranks.to_dict() == ranks.to_dict()
    assert list(found.ranks) == sorted(ranks)
    count, models = SCORES.shape
    square = 12 * count / (models * (models + 1)) * ((ranks**2).sum() - models * (models + 1) ** 2 / 4)
    assert found.statistic == pytest.approx(square)
    assert found.p_value == pytest.approx(stats.chi2.sf(square, models - 1))
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(models * (models + 1) / (6 * count)), abs=1e-3)
    assert found.targets == 12


@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(3, 6)), elements=st.integers(0, 4).map(float)))
def test_friedmans_test_is_that_of_scipy_with_ties_too(scores):
    found = rank_models(pd.DataFrame(scores))
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = stats.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p_value) == pytest.approx(tuple(wanted), nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("models", [3, 4, 10, 100])
def test_the_critical_difference_is_where_the_p_value_of_nemenyi_is_5_percent(models):
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(12, models)))
    far = rank_models(scores).critical_difference / np.sqrt(models * (models + 1) / (6 * 12)) * np.sqrt(2)
    assert stats.studentized_range.sf(far, models, np.inf) == pytest.approx(0.05, abs=1e-10)


def test_models_that_rank_by_chance_are_seldom_told_apart():
    rng = np.random.default_rng(0)
    tables = (pd.DataFrame(rng.normal(size=(13, 4)), columns=list("abcd")) for _ in range(100))
    assert sum(rank_models(table).p_value < 0.05 for table in tables) <= 11


def test_targets_without_a_number_are_named_and_few_models_are_not_ranked():
    scores = SCORES.rename(index="t{}".format)
    scores.iloc[3, 1] = np.nan
    found = rank_models(scores)
    assert found.left_out == ["t3"]
    assert found.targets == 11
    assert rank_models(SCORES[["ridge", "mcmoe"]]) is None
    assert rank_models(SCORES.iloc[:1]) is None
