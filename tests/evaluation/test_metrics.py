"""Metrics against scipy, scikit-learn and numbers worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_squared_error

from aqa.evaluation import bootstrap as resampling
from aqa.evaluation.metrics import bootstrap, fisher_mean, kendall, mse, rl2, srcc, summarize, why_undefined

NAN = float("nan")
# Warnings are failures here: an undefined number is NaN, and silent.
pytestmark = pytest.mark.filterwarnings("error")

pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30)


def gaussian(n, correlation, rng):
    x = rng.standard_normal(n)
    return x, correlation * x + math.sqrt(1 - correlation**2) * rng.standard_normal(n)


def same(a, b):
    return a == pytest.approx(b, abs=1e-12, nan_ok=True)


def test_srcc_by_hand():
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = 0.8.
    assert srcc([10, 20, 30, 40, 50], [2.2, 1.1, 4.4, 3.3, 5.5]) == pytest.approx(0.8)


def test_srcc_with_ties_by_hand():
    # Ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5).
    assert srcc([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_perfect_orders_are_exact():
    y = np.random.default_rng(0).standard_normal(601)
    assert srcc(np.exp(y), y) == 1
    assert srcc(-y, y) == -1


@given(pairs)
def test_correlations_agree_with_scipy(rows):
    x, y = np.array(rows, dtype=float).T
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(srcc(x, y))
        assert math.isnan(kendall(x, y))
    else:
        assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
        assert kendall(x, y) == stats.kendalltau(x, y)[0]


@pytest.mark.parametrize("n", [3, 64, 65, 600, 3000])
@pytest.mark.parametrize("values", [2, 7, 1000, None])
def test_kendall_is_that_of_scipy_to_the_last_bit_however_many_are_tied(n, values):
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n)
    y = x + rng.standard_normal(n)
    if values is not None:
        x, y = (np.floor(values * stats.norm.cdf(each)) for each in (x, y))
        x[:2], y[:2] = (0, 1), (1, 0)  # neither is constant
    assert kendall(x, y) == stats.kendalltau(x, y)[0]
    assert kendall(x, x) == pytest.approx(1)
    assert kendall(x, -x) == pytest.approx(-1)


@given(pairs)
def test_srcc_knows_only_the_order(rows):
    x, y = np.array(rows, dtype=float).T
    assert same(srcc(x**3 + 2 * x, y), srcc(x, y))
    assert same(srcc(x, np.exp(y)), srcc(x, y))
    assert same(srcc(-x, y), -srcc(x, y))
    assert same(srcc(y, x), srcc(x, y))


@given(pairs, st.randoms())
def test_metrics_do_not_know_the_order_of_videos(rows, random):
    x, y = np.array(rows, dtype=float).T
    order = list(range(len(x)))
    random.shuffle(order)
    for metric in (srcc, kendall, mse, lambda a, b: rl2(a, b, -5, 5)):
        assert same(metric(x[order], y[order]), metric(x, y))


@given(pairs)
def test_errors_agree_with_scikit_learn(rows):
    x, y = np.array(rows, dtype=float).T
    assert mse(x, y) == pytest.approx(mean_squared_error(y, x))


def test_errors_by_hand():
    assert mse([1, 2, 3], [1, 4, 6]) == pytest.approx(13 / 3)
    # Errors of 2 and 1 on a range of 10: 100 * (0.04 + 0.01) / 2.
    assert rl2([12, 21], [10, 20], low=10, high=20) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([1], [1]), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.1] * 3), ([1, NAN, 3], [1, 2, 3])],
)
def test_undefined_correlations_are_nan(x, y):
    assert math.isnan(srcc(x, y))
    assert math.isnan(kendall(x, y))


def test_undefined_errors_are_nan():
    assert math.isnan(mse([], []))
    assert math.isnan(rl2([], [], 0, 1))
    assert math.isnan(rl2([1, 2], [3, 3], 3, 3))


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"\(2,\)"):
        srcc([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="must be"):
        mse(np.ones((3, 1)), np.ones((3, 1)))


def test_fisher_mean():
    assert fisher_mean([0.5]) == pytest.approx(0.5)
    # arctanh(0.8) = ln 3, arctanh(0) = 0: tanh(ln(3) / 2) = (3 - 1) / (3 + 1).
    assert fisher_mean([0.8, 0.0]) == pytest.approx(0.5)
    assert fisher_mean([0.3, -0.3]) == pytest.approx(0)
    assert fisher_mean([0.9, 0.1]) > 0.5


def test_fisher_mean_at_the_ends():
    assert fisher_mean([1.0, 0.2]) == 1
    assert fisher_mean([-1.0, 0.2]) == -1
    assert math.isnan(fisher_mean([1.0, -1.0]))


def test_fisher_mean_reports_what_is_undefined():
    assert math.isnan(fisher_mean([0.9, NAN]))
    assert math.isnan(fisher_mean([]))


def plain_bootstrap(predictions, target, resamples, seed):
    """The same resamples, one by one, with the scored videos picked out of each."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(target), size=(resamples, len(target)))
    values = {}
    for name, x in predictions.items():
        scored = [d[~np.isnan(x[d])] for d in draws]
        values[name] = np.array([srcc(x[d], target[d]) for d in scored])
    return values


def test_bootstrap_is_the_plain_one():
    rng = np.random.default_rng(1)
    x, y = gaussian(40, 0.7, rng)
    half = np.where(np.arange(40) % 2, x, NAN)
    predictions = {"VAF": x, "V": np.round(x), "A": half}
    found = bootstrap(predictions, np.round(y, 1), ["V", "A"], resamples=200, seed=5)
    values = plain_bootstrap(predictions, np.round(y, 1), 200, 5)
    for name, value in values.items():
        assert found.patterns[name][:2] == pytest.approx(np.quantile(value, [0.025, 0.975]))
    average = np.tanh((np.arctanh(values["V"]) + np.arctanh(values["A"])) / 2)
    assert found.average[:2] == pytest.approx(np.quantile(average, [0.025, 0.975]))


def test_bootstrap_in_several_blocks():
    n = resampling.VIDEOS_AT_ONCE // 4
    x, y = gaussian(n, 0.5, np.random.default_rng(0))
    low, high, undefined, *_ = bootstrap({"V": x}, y, ["V"], resamples=6).patterns["V"]
    assert low < high
    assert (low, high) == pytest.approx((srcc(x, y),) * 2, abs=0.02)
    assert undefined == 0


def test_intervals_hold_the_estimate_and_repeat_with_the_seed():
    x, y = gaussian(100, 0.8, np.random.default_rng(2))
    first = bootstrap({"V": x}, y, ["V"], seed=3)
    assert first.patterns["V"].low < srcc(x, y) < first.patterns["V"].high
    assert first == bootstrap({"V": x}, y, ["V"], seed=3)
    assert first != bootstrap({"V": x}, y, ["V"], seed=4)
    assert first.average[:2] == pytest.approx(first.patterns["V"][:2])
    wide = bootstrap({"V": x}, y, ["V"], seed=3, confidence=0.99).patterns["V"]
    assert wide.low < first.patterns["V"].low < first.patterns["V"].high < wide.high


def test_intervals_cover_the_true_value_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    truth = 6 / math.pi * math.asin(0.7 / 2)
    covered = 0
    for _ in range(300):
        x, y = gaussian(100, 0.7, rng)
        low, high, *_ = bootstrap({"V": x}, y, ["V"], resamples=300).patterns["V"]
        covered += low <= truth <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_resamples_are_the_same_for_every_pattern():
    # Opposite predictions cancel in every resample only when the resamples are one.
    x, y = gaussian(50, 0.6, np.random.default_rng(3))
    low, high, *_ = bootstrap({"V": x, "A": -x}, y, ["V", "A"]).average
    assert (low, high) == pytest.approx((0, 0), abs=1e-12)


def test_rarely_undefined_resamples_are_left_out_and_counted():
    # A resample misses both of the two videos that differ in about one of seven cases, one of five only rarely.
    y = np.arange(30.0)
    few = bootstrap({"V": (y < 4.5).astype(float)}, y, ["V"])
    assert 0 < few.patterns["V"].undefined < 50
    assert few.patterns["V"].low < few.patterns["V"].high
    many = bootstrap({"V": (y < 1.5).astype(float)}, y, ["V"])
    assert 100 < many.patterns["V"].undefined < 180
    assert all(map(math.isnan, many.patterns["V"][:2]))
    assert all(map(math.isnan, many.average[:2]))


def test_bootstrap_of_what_is_never_defined():
    y = np.arange(10.0)
    found = bootstrap({"V": np.full(10, NAN), "A": np.ones(10), "F": y}, y, ["V", "A"], resamples=20)
    assert found.patterns["V"].undefined == found.patterns["A"].undefined == found.average.undefined == 20
    assert found.patterns["F"].perfect == 20
    assert math.isnan(found.patterns["F"].low)
    assert math.isnan(bootstrap({"V": []}, [], []).average.low)


def test_an_interval_that_would_end_at_one_is_not_given_and_says_why():
    rng = np.random.default_rng(8)
    y = np.arange(6.0)
    predictions = {name: rng.permutation(6) + 0.0 for name in ("VA", "VF", "AF", "A", "F")} | {"V": y}
    found = summarize(predictions, y, list(predictions), 0, 5)
    for scores in (found["patterns"]["V"], found["average_incomplete"]):
        assert math.isnan(scores["srcc_low"])
        assert math.isnan(scores["srcc_high"])
        assert scores["why_no_interval"].startswith("too few videos: the order is perfect in ")
    wide = summarize({"V": gaussian(60, 0.8, rng)[0]}, np.arange(60.0), ["V"], 0, 59)
    assert "why_no_interval" not in wide["patterns"]["V"]
    assert "why_no_interval" not in wide["average_incomplete"]


def test_no_interval_ends_at_a_perfect_order():
    rng = np.random.default_rng(9)
    for n in (4, 5, 6, 8, 12):
        x, y = gaussian(n, 0.9, rng)
        low, high, *_ = bootstrap({"V": x}, y, ["V"]).patterns["V"]
        assert math.isnan(high) or -1 < low <= high < 1


def test_summary_of_patterns_and_their_average():
    rng = np.random.default_rng(4)
    x, y = gaussian(60, 0.8, rng)
    predictions = {"VAF": x, "VA": x + rng.standard_normal(60), "V": np.where(np.arange(60) < 20, NAN, -y)}
    summary = summarize(predictions, y, ["VA", "V"], -2, 2, seed=1)
    complete, half, visual = (summary["patterns"][p] for p in ("VAF", "VA", "V"))
    assert complete["srcc"] == srcc(x, y)
    assert complete["srcc_low"] < complete["srcc"] < complete["srcc_high"]
    assert complete["kendall"] == kendall(x, y)
    assert complete["mse"] == mse(x, y)
    assert complete["rl2"] == rl2(x, y, -2, 2)
    assert (complete["n"], complete["unscored"]) == (60, 0)
    assert (visual["n"], visual["unscored"]) == (40, 20)
    assert visual["srcc"] == -1
    average = summary["average_incomplete"]
    assert average["srcc"] == fisher_mean([half["srcc"], -1.0])
    assert average["mse"] == pytest.approx((half["mse"] + visual["mse"]) / 2)
    assert (average["patterns"], average["undefined"], average["over"]) == (2, [], ["VA", "V"])


def test_summary_names_what_is_undefined():
    x, y = gaussian(30, 0.8, np.random.default_rng(5))
    summary = summarize({"VAF": x, "V": np.ones(30), "A": np.full(30, NAN), "F": x}, y, ["V", "A", "F"], 0, 1)
    assert summary["average_incomplete"]["undefined"] == ["V", "A"]
    assert math.isnan(summary["average_incomplete"]["srcc"])
    assert math.isnan(summary["average_incomplete"]["mse"])
    assert summary["patterns"]["A"]["n"] == 0
    assert summary["patterns"]["V"]["mse"] == pytest.approx(mse(np.ones(30), y))


def test_summary_without_incomplete_patterns():
    x, y = gaussian(30, 0.8, np.random.default_rng(6))
    average = summarize({"VAF": x}, y, [], 0, 1)["average_incomplete"]
    assert math.isnan(average["srcc"])
    assert math.isnan(average["mse"])
    assert average["patterns"] == 0


def test_summary_refuses_videos_without_a_label():
    with pytest.raises(ValueError, match="not labelled"):
        summarize({"V": [1.0, 2.0]}, [1.0, NAN], ["V"], 0, 1)


# What holds for any numbers

numbers = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=25)
seeds = st.integers(0, 10**6)


def rising(seed):
    """A strictly increasing map of the whole numbers from -50 to 50."""
    ladder = np.cumsum(np.random.default_rng(seed).lognormal(0, 4, 101))
    return lambda values: ladder[np.asarray(values, dtype=int) + 50]


@given(numbers, seeds, seeds)
def test_correlations_know_nothing_of_strictly_increasing_maps(rows, first, second):
    x, y = np.array(rows).T
    one, other = rising(first), rising(second)
    for metric in (srcc, kendall):
        assert same(metric(one(x), other(y)), metric(x, y))
        assert same(metric(one(x), -other(y)), -metric(x, y))
        assert math.isnan(metric(x, y)) or -1 <= metric(x, y) <= 1


@given(numbers, st.floats(0.01, 100), st.floats(-100, 100))
def test_errors_scale_with_the_unit_and_the_relative_one_does_not(rows, unit, zero):
    x, y = np.array(rows, dtype=float).T
    assert mse(unit * x + zero, unit * y + zero) == pytest.approx(unit**2 * mse(x, y), rel=1e-6, abs=1e-6)
    low, high = unit * -50 + zero, unit * 50 + zero
    assert rl2(unit * x + zero, unit * y + zero, low, high) == pytest.approx(rl2(x, y, -50, 50), rel=1e-6, abs=1e-9)
    assert rl2(x, y, -50, 50) == rl2(y, x, -50, 50) == pytest.approx(mse(x, y) / 100)


correlations = st.lists(st.floats(-1, 1), min_size=1, max_size=8)


@given(correlations, st.randoms())
def test_a_fisher_mean_lies_among_its_correlations_and_does_not_know_their_order(values, random):
    mean = fisher_mean(values)
    if {-1.0, 1.0} <= set(values):
        assert math.isnan(mean)
        return
    assert min(values) - 1e-12 <= mean <= max(values) + 1e-12
    assert same(fisher_mean([-v for v in values]), -mean)
    random.shuffle(values)
    assert same(fisher_mean(values), mean)
    assert math.isnan(fisher_mean([*values, NAN]))
    if max(abs(v) for v in values) < 1:
        assert mean == pytest.approx(math.tanh(sum(math.atanh(v) for v in values) / len(values)), abs=1e-12)
    else:
        assert abs(mean) == 1


@settings(max_examples=40)
@given(numbers, seeds, seeds)
def test_intervals_know_the_order_of_predictions_alone(rows, chosen, seed):
    x, y = np.array(rows, dtype=float).T
    found = bootstrap({"V": x, "A": rising(chosen)(x), "F": -x}, y, ["V"], resamples=40, seed=seed)
    plain, mapped, turned = (found.patterns[name] for name in "VAF")
    assert all(map(same, plain, mapped))
    assert plain.undefined == turned.undefined
    assert same(plain.low, -turned.high)
    assert same(plain.high, -turned.low)
    assert math.isnan(plain.low) or -1 <= plain.low <= plain.high <= 1


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, NAN]), st.sampled_from([0.0, 1.0])), max_size=5))
def test_an_undefined_correlation_always_has_a_reason_and_a_defined_one_never(rows):
    x, y = np.array(rows, dtype=float).reshape(-1, 2).T
    assert (why_undefined(x, y) is None) == (not math.isnan(srcc(x, y)))


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "0 videos"),
        ([1], [2], "1 video"),
        ([1, 2], [2, 3], "2 videos"),
        ([1, 1, 1], [1, 2, 3], "every prediction is the same"),
        ([1, 2, 3], [1, 1, 1], "every label is the same"),
        ([1, NAN, 3], [1, 2, 3], "a number is NaN"),
    ],
)
def test_the_reasons(x, y, reason):
    assert why_undefined(x, y) == reason
    patterns = summarize({"V": x}, y, [], 0, 9)["patterns"]
    # A summary leaves out what was not scored.
    assert patterns["V"]["why_undefined"] == ("2 videos" if reason.startswith("a number") else reason)
    assert "why_undefined" not in summarize({"V": [1, 2, 3]}, [1, 2, 3], [], 0, 9)["patterns"]["V"]
