"""Further measures: scikit-learn's and SciPy's numbers, what is undefined, and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from aqa.errors import AqaError
from aqa.evaluation.bootstrap import RESAMPLES, resamples
from aqa.evaluation.measures import (
    METRICS,
    Ranges,
    Undefined,
    graded,
    in_resamples,
    measured,
    measured_by_repeat,
    require_metrics,
)

GRADES = Ranges((0, 4), (0, 4))


def value(name, prediction, target, ranges=GRADES):
    return METRICS.get(name).make(np.array(prediction, float), np.array(target, float), ranges)


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_well_known_libraries(seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 5, 60).astype(float)
    prediction = np.clip(target + rng.normal(0, 1.2, 60), -1, 5)
    predicted, true = graded(prediction, target, GRADES)
    expected = {
        "mae": sklearn.mean_absolute_error(target, prediction),
        "rmse": sklearn.root_mean_squared_error(target, prediction),
        "mse": sklearn.mean_squared_error(target, prediction),
        "rl2": 100 * np.mean(((target - prediction) / 4) ** 2),
        "pearson": stats.pearsonr(prediction, target)[0],
        "kendall": stats.kendalltau(prediction, target)[0],
        "accuracy": sklearn.accuracy_score(true, predicted),
        "macro_f1": sklearn.f1_score(true, predicted, average="macro"),
        "quadratic_kappa": sklearn.cohen_kappa_score(true, predicted, labels=range(5), weights="quadratic"),
    }
    assert sorted(expected) == METRICS.names()
    for name, number in expected.items():
        assert value(name, prediction, target) == pytest.approx(number, rel=1e-12), name


def test_kappa_by_hand():
    # Grades 0 to 2, three videos, one of them two grades off: squared distances of 4/3 on average, as by chance.
    assert value("quadratic_kappa", [0, 1, 0], [0, 1, 2], Ranges((0, 2), (0, 2))) == pytest.approx(0)
    # One of them a grade off: 1/3 on average, 1 by chance.
    assert value("quadratic_kappa", [0, 1, 1], [0, 1, 2], Ranges((0, 2), (0, 2))) == pytest.approx(1 - 1 / 3)


def test_kappa_goes_by_the_distance_of_grades_that_nobody_has_between():
    # Grades 0 and 4 alone: as far apart as 0 and 1 would be on another scale, and 0, 3 and 4 are not evenly spaced.
    target, prediction = [0, 3, 4, 4, 0, 3], [0, 4, 4, 3, 3, 3]
    distances, chance = (
        np.mean(np.subtract(target, prediction) ** 2),
        np.mean(np.subtract.outer(target, prediction) ** 2),
    )
    assert value("quadratic_kappa", prediction, target) == pytest.approx(1 - distances / chance)


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize("kind", ["many", "few", "constant", "none", "three", "large"])
def test_a_measure_in_all_resamples_at_once_is_that_of_each(name, kind, monkeypatch):
    monkeypatch.setattr("aqa.evaluation.resampled_measures.MOST_IN_PAIRS", 40)
    rng = np.random.default_rng(0)
    n = {"many": 30, "few": 4, "constant": 6, "none": 0, "three": 3, "large": 50}[kind]
    target = rng.integers(0, 5, n).astype(float)
    prediction = np.round(target + rng.normal(0, 1.2, n), 1) if kind != "constant" else np.full(n, 2.0)
    prediction[1:2] = np.nan if n > 4 else prediction[1:2]  # a video that was not scored
    (counts,) = resamples(n, 40, 1)
    found = in_resamples(name, prediction, target, counts, GRADES)
    expected = []
    for drawn in counts.T.astype(int):
        rows = np.repeat(np.arange(n), drawn)
        rows = rows[~np.isnan(prediction[rows])]
        try:
            expected.append(value(name, prediction[rows], target[rows]))
        except Undefined:
            expected.append(np.nan)
    np.testing.assert_allclose(found, expected, atol=1e-12, rtol=1e-12)


def test_a_measure_of_a_plugin_is_worked_out_resample_by_resample():
    @METRICS.register("most", title="most", better="lower")
    def most(prediction, target, ranges):
        return float(np.abs(prediction - target).max())

    try:
        found = in_resamples(
            "most", np.array([1.0, 2.0, 9.0]), np.zeros(3), np.array([[3.0, 1], [0, 1], [0, 1]]), GRADES
        )
        assert found.tolist() == [1, 9]
    finally:
        del METRICS._entries["most"]


def test_scores_become_the_nearest_grade_within_the_range():
    predicted, true = graded(np.array([-3, 0.49, 0.5, 1.5, 9.0]), np.array([0, 0, 1, 2, 4.0]), GRADES)
    assert predicted.tolist() == [0, 0, 1, 2, 4]
    assert true.tolist() == [0, 0, 1, 2, 4]


@pytest.mark.parametrize(
    ("name", "prediction", "target", "reason"),
    [
        ("accuracy", [1, 2], [1.5, 2], "the labels are not grades, whole numbers"),
        ("mae", [], [], "0 videos"),
        ("pearson", [1, 2], [1, 2], "2 videos"),
        ("pearson", [1, 1, 1], [1, 2, 3], "every prediction is the same"),
        ("kendall", [1, 2, 3], [2, 2, 2], "every label is the same"),
        ("quadratic_kappa", [2, 2, 2], [2, 2, 2], "every grade is the same, predicted and true"),
    ],
)
def test_what_is_undefined_has_a_reason_and_no_number(name, prediction, target, reason):
    with pytest.raises(Undefined, match=f"^{reason}$"):
        value(name, prediction, target)
    found = measured([name], {"V": np.array(prediction, float)}, np.array(target, float), GRADES)["V"][name]
    assert np.isnan(found["value"])
    assert found["why_undefined"] == reason
    assert "low" not in found


@given(st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_intervals_hold_the_value_and_videos_that_were_not_scored_are_left_out(seed):
    rng = np.random.default_rng(seed)
    target = rng.uniform(0, 4, 50)
    prediction = target + rng.normal(0, 0.5, 50)
    spoiled = np.append(prediction, np.nan)
    found = measured(["mae", "pearson"], {"V": prediction}, target, GRADES)["V"]
    left_out = measured(["mae"], {"V": spoiled}, np.append(target, 2.0), GRADES, intervals=False)["V"]
    for measure in found.values():
        assert measure["low"] < measure["value"] < measure["high"]
    assert left_out["mae"] == {"value": found["mae"]["value"]}


def test_an_interval_of_the_mean_error_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 4, 400)
    prediction = target + rng.normal(0, 0.5, 400)
    found = measured(["mae"], {"V": prediction}, target, GRADES)["V"]["mae"]
    error = np.abs(prediction - target)
    half = 1.96 * error.std() / 20
    assert found["low"] == pytest.approx(error.mean() - half, abs=half / 4)
    assert found["high"] == pytest.approx(error.mean() + half, abs=half / 4)


def test_an_end_of_exactly_one_is_no_interval_but_a_mean_error_may_be_one():
    grades = np.arange(20.0) % 5
    perfect = measured(["accuracy"], {"V": grades}, grades, GRADES)["V"]["accuracy"]
    assert np.isnan(perfect["low"])
    assert perfect["why_no_interval"].startswith(f"too few videos: the order is perfect in {RESAMPLES}")
    off_by_one = measured(["mae"], {"V": grades + 1}, grades, GRADES)["V"]["mae"]
    assert (off_by_one["low"], off_by_one["high"]) == (1, 1)


def test_an_unknown_metric_is_one_line():
    with pytest.raises(AqaError, match=r"^evaluate\.metrics: unknown metric 'pearsn': did you mean 'pearson'\?$"):
        require_metrics(["mae", "pearsn"], "evaluate.metrics")


def test_several_repeats_are_averaged_without_an_interval():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 4, 50)
    scores = target + rng.normal(0, 0.5, (2, 50))
    found = measured_by_repeat(["mae"], {"V": scores}, target, GRADES)["V"]["mae"]
    assert found == {"value": pytest.approx(np.abs(scores - target).mean())}
    one = measured_by_repeat(["mae"], {"V": scores[:1]}, target, GRADES)["V"]["mae"]
    assert one == measured(["mae"], {"V": scores[0]}, target, GRADES)["V"]["mae"]


def test_whole_groups_are_drawn_where_videos_belong_to_some():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 4, 60)
    athlete = np.repeat(np.arange(6), 10)
    prediction = target + athlete  # the error is the athlete's
    alone = measured(["mae"], {"V": prediction}, target, GRADES)["V"]["mae"]
    together = measured(["mae"], {"V": prediction}, target, GRADES, units=athlete)["V"]["mae"]
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])
