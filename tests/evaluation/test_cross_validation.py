"""Out-of-fold scores: pooled SRCC, means over folds, the cluster bootstrap, and the corrected t test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aqa.evaluation.bootstrap import interval, numbered_labels, resamples
from aqa.evaluation.cross_validation import HeldOut, corrected_t_test, over_folds, pooled, summarize_folds
from aqa.evaluation.metrics import bootstrap, fisher_mean, srcc


def example(n=120, repeats=1, groups=40, seed=0):
    """Labels of n videos, scores (repeats, n), folds (repeats, n) that keep groups whole, and the groups."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    scores = truth + rng.normal(size=(repeats, n))
    own = rng.integers(groups, size=n)
    folds = np.stack([rng.permutation(groups)[own] % 4 + 4 * repeat for repeat in range(repeats)])
    return truth, scores, folds, [f"athlete {i}" for i in own]


def test_a_cluster_bootstrap_draws_whole_groups():
    labels = ["b", "a", "b", "c", "a"]
    counts = np.concatenate(list(resamples(5, 400, 0, numbered_labels(labels))), axis=1)
    assert (counts[0] == counts[2]).all()
    assert (counts[1] == counts[4]).all()
    assert (counts[[0, 1, 3]].sum(axis=0) == 3).all()  # three groups are drawn each time
    assert abs(counts.mean() - 1) < 0.1


def test_the_interval_is_that_of_a_simple_cluster_bootstrap():
    truth, scores, _, labels = example()
    drawn = next(iter(resamples(len(set(labels)), 300, 3)))
    names = sorted(set(labels))
    simple = []
    for resample in drawn.T:
        rows = [row for name, times in zip(names, resample.astype(int), strict=True) for _ in range(times)
                for row in np.flatnonzero(np.array(labels) == name)]  # fmt: skip
        simple.append(srcc(scores[0][rows], truth[rows]))
    found = bootstrap({"V": scores[0]}, truth, [], resamples=300, seed=3, units=numbered_labels(labels)).patterns["V"]
    assert found[:2] == pytest.approx(interval(np.array(simple))[:2], abs=1e-12)
    by_video = bootstrap({"V": scores[0]}, truth, [], resamples=300, seed=3).patterns["V"]
    assert found[:2] != by_video[:2]


@pytest.mark.parametrize("repeats", [1, 3])
def test_numbers_of_folds_are_those_worked_out_one_by_one(repeats):
    truth, scores, folds, labels = example(repeats=repeats)
    tested = HeldOut(truth, folds, labels)
    found = summarize_folds({"V": scores, "A": -scores}, tested, ["V", "A"], -3, 3, count=200)
    v = found["patterns"]["V"]
    assert v["srcc"] == pytest.approx(fisher_mean(srcc(each, truth) for each in scores))
    by_fold = [srcc(each[own == f], truth[own == f]) for each, own in zip(scores, folds, strict=True)
               for f in np.unique(own)]  # fmt: skip
    assert v["srcc_folds"] == pytest.approx(fisher_mean(by_fold))
    assert v["srcc_folds_plain"] == pytest.approx(np.mean(by_fold))
    assert list(tested.by_fold(scores).values()) == by_fold
    assert v["mse"] == pytest.approx(np.mean((scores - truth) ** 2))
    assert (v["n"], v["unscored"]) == (120, 0)
    assert v["srcc_low"] < v["srcc"] < v["srcc_high"]
    assert v["srcc_folds_low"] < v["srcc_folds"] < v["srcc_folds_high"]
    average = found["average_incomplete"]
    assert average["srcc"] == pytest.approx(0, abs=1e-12)
    assert average["srcc_folds"] == pytest.approx(0, abs=1e-12)
    assert average["patterns"] == 2


def test_folds_that_are_one_group_each_are_drawn_as_often_as_their_group():
    truth, scores, _, labels = example(groups=6)
    folds = numbered_labels(labels)[None]
    tested = HeldOut(truth, folds, labels)
    resampled = tested.draw(200, seed=5)
    found = over_folds(scores, tested, resampled)
    drawn = next(iter(resamples(6, 200, 5)))
    z = np.arctanh(list(tested.by_fold(scores).values()))
    assert found.draws == pytest.approx(np.tanh(z @ drawn / drawn.sum(axis=0)))


def test_the_mean_over_folds_is_undefined_where_a_fold_is_perfect_or_has_none():
    truth = np.array([1.0, 2, 3, 1, 2, 3, 4, 5, 6])
    scores = np.array([[1.0, 2, 3, 2, 1, 3, 5, 4, 6]])
    folds = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    found = summarize_folds({"V": scores}, HeldOut(truth, folds), [], 1, 6, count=20)["patterns"]["V"]
    assert np.isnan(found["srcc_folds"])
    assert np.isnan(found["srcc_folds_low"])
    assert found["why_no_folds"] == "the order is perfect in fold 0, of few videos"
    assert found["srcc_folds_plain"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    scores[0, 3] = np.nan
    found = summarize_folds({"V": scores}, HeldOut(truth, folds), [], 1, 6, count=20)["patterns"]["V"]
    assert found["why_no_folds"] == "undefined in fold 1"
    assert not np.isnan(found["srcc"])


def test_repeats_are_compared_on_the_same_draws():
    truth, scores, folds, labels = example(repeats=2)
    resampled = HeldOut(truth, folds, labels).draw(100)
    both = pooled(scores, resampled)
    single = [pooled(scores[i : i + 1], resampled) for i in range(2)]
    assert both.draws == pytest.approx(np.tanh((np.arctanh(single[0].draws) + np.arctanh(single[1].draws)) / 2))


def test_the_corrected_t_test_is_that_of_nadeau_and_bengio():
    differences = [0.05, 0.02, -0.01, 0.04, 0.06]
    found = corrected_t_test(differences, 1 / 4)
    mean = sum(differences) / 5
    variance = sum((d - mean) ** 2 for d in differences) / 4
    t = mean / ((1 / 5 + 1 / 4) * variance) ** 0.5
    assert found == pytest.approx((mean, t, 4, 2 * stats.t(4).sf(t)))
    plain = stats.ttest_1samp(differences, 0)  # without the correction, which takes the folds for independent
    assert corrected_t_test(differences, 0)[1:] == pytest.approx((plain.statistic, 4, plain.pvalue))
    assert found.p_value > plain.pvalue


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, float("nan"), 0.2], [0.0, 0.0, 0.0]])
def test_there_is_no_t_test_of_too_little(differences):
    assert np.isnan(corrected_t_test(differences, 0.25).p_value)
