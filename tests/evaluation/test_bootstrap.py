"""SRCC in resamples against sorting every resample, with ties and with videos that were not scored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aqa.evaluation.bootstrap import ResampledTarget, doubled_ranks, interval, resamples


def plain(prediction, target, counts):
    """What SciPy makes of each resample written out."""
    found = []
    for drawn in counts.T.astype(int):
        scored = ~np.isnan(prediction)
        x, y = np.repeat(prediction[scored], drawn[scored]), np.repeat(target[scored], drawn[scored])
        constant = len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0
        found.append(np.nan if constant else stats.spearmanr(x, y)[0])
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-300, 2.0, np.inf]), max_size=9))
def test_doubled_ranks_are_whole_numbers_and_twice_the_mean_ranks(values):
    ranks = doubled_ranks(np.array(values, dtype=np.float64))
    np.testing.assert_array_equal(ranks, 2 * stats.rankdata(values))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_srcc_in_resamples_is_that_of_each_resample(data):
    n = data.draw(st.integers(0, 12))
    few = st.integers(-2, 2).map(float)
    target = np.array(data.draw(st.lists(few, min_size=n, max_size=n)), dtype=float)
    missing = st.one_of(few, st.just(np.nan))
    prediction = np.array(data.draw(st.lists(missing, min_size=n, max_size=n)), dtype=float)
    counts = np.concatenate(list(resamples(n, 20, data.draw(st.integers(0, 99)))), axis=1)
    found = ResampledTarget(target, counts).srcc(prediction)
    np.testing.assert_allclose(found, plain(prediction, target, counts), atol=1e-12)


def test_without_ties_too():
    rng = np.random.default_rng(0)
    target, counts = rng.normal(size=50), next(resamples(50, 100, 1))
    resampled = ResampledTarget(target, counts)
    for prediction in (target + rng.normal(size=50), np.where(rng.random(50) < 0.3, np.nan, rng.normal(size=50))):
        np.testing.assert_allclose(resampled.srcc(prediction), plain(prediction, target, counts), atol=1e-12)
    assert (resampled.srcc(target) == 1).all()
    assert (resampled.srcc(-target) == -1).all()


def test_each_resample_draws_as_many_videos_as_there_are():
    counts = np.concatenate(list(resamples(7, 1000, 0)), axis=1)
    assert (counts.sum(axis=0) == 7).all()
    assert counts.mean(axis=1) == pytest.approx(np.ones(7), abs=0.15)


def test_an_interval_is_undefined_where_many_resamples_are():
    values = np.linspace(0, 1, 101)
    assert interval(values)[:2] == pytest.approx((0.025, 0.975))
    values[:5] = np.nan
    assert interval(values).undefined == 5
    values[:6] = np.nan
    assert np.isnan(interval(values).low)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1001), st.sampled_from([0.025, 0.05, 0.1, 0.25]), st.integers(1, 9))
def test_an_interval_has_the_quantiles_of_numpy_to_the_last_bit(n, tail, digits):
    values = np.random.default_rng(n).normal(size=n).round(digits)
    assert interval(values, np.zeros(n, bool), tail)[:2] == tuple(np.quantile(values, [tail, 1 - tail]).tolist())
