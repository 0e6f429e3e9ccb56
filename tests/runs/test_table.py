"""The printed table says everything a reader of its numbers must know."""

import copy

import pytest

from aqa.runs.table import align, average_text, duration, interval_text, number, result_table, selection_text

SCORES = {"srcc": 0.5, "srcc_low": 0.4, "srcc_high": 0.6, "mse": 12.0, "rl2": 1.5, "n": 30, "unscored": 0}
METRICS = {
    "model": "mcmoe",
    "target": "TES",
    "seed": 3,
    "selection": {"split": "valid", "metric": "srcc", "pattern": "complete", "epoch": 4, "epochs": 9},
    "patterns": {"VAF": SCORES, "V": {**SCORES, "srcc": 0.25, "n": 20}},
    "average_incomplete": {
        "patterns": 1, "undefined": [], "srcc": 0.25, "srcc_low": 0.1, "srcc_high": 0.4, "mse": 12.0,
    },
}  # fmt: skip


def changed(*path_and_value):
    *path, key, value = path_and_value
    metrics = copy.deepcopy(METRICS)
    inner = metrics
    for part in path:
        inner = inner[part]
    inner[key] = value
    return metrics


def test_a_line_a_pattern_with_interval_and_n():
    title, header, rule, complete, visual, _, average = result_table(METRICS).splitlines()
    assert title == "mcmoe on TES, seed 3; selected on valid: epoch 4 of 9, best SRCC (complete)"
    assert header.split() == ["pattern", "SRCC", "95", "%", "interval", "MSE", "R-l2", "%", "n"]
    assert set(rule) == {"-"}
    assert complete.split() == ["VAF", "0.500", "[0.400,", "0.600]", "12.000", "1.500", "30"]
    assert visual.split()[0] == "V"
    assert visual.split()[-1] == "20"
    assert average == "average of the one incomplete pattern (Fisher z): SRCC 0.250 [0.100, 0.400], MSE 12.000"


def test_selection_on_test_is_shouted():
    assert "SELECTED ON TEST" in result_table(changed("selection", "split", "test"))
    assert "TEST" not in result_table(METRICS)
    assert selection_text({**METRICS["selection"], "metric": "mse"}).endswith("best MSE (complete)")


def test_scores_of_another_split_are_not_taken_for_test_scores():
    assert result_table(changed("split", "train")).splitlines()[0].endswith("; SCORED ON TRAIN")
    assert result_table(changed("split", "test")) == result_table(METRICS)


def test_the_ceiling_has_a_column_only_where_some_pattern_has_one():
    assert "ceiling" not in result_table(METRICS)
    table = result_table(changed("patterns", "VAF", "ceiling", 0.9)).splitlines()
    assert table[1].split()[-1] == "ceiling"
    assert table[3].split()[-1] == "0.900"
    assert table[4].split()[-1] == "20"  # the other pattern's ceiling is unknown and its cell empty
    assert average_text({**METRICS["average_incomplete"], "ceiling": 0.7}).endswith(", ceiling 0.700")


def test_an_undefined_correlation_is_said_and_takes_the_average_with_it():
    metrics = changed("patterns", "V", "srcc", None)
    metrics["average_incomplete"].update(srcc=None, undefined=["V"])
    table = result_table(metrics)
    assert "undefined" in table.splitlines()[4]
    assert table.splitlines()[-1] == "average of the one incomplete pattern: undefined, as is the SRCC of V"


def test_samples_without_every_modality_of_a_pattern_are_counted():
    table = result_table(changed("patterns", "V", "unscored", 10))
    assert table.splitlines()[-1] == "not scored, for want of every modality of the pattern: V 10"


def test_no_average_without_incomplete_patterns():
    assert "average" not in result_table(changed("average_incomplete", "patterns", 0))


@pytest.mark.parametrize(("value", "text"), [(None, "undefined"), (0.12349, "0.123"), (-1.0, "-1.000")])
def test_numbers(value, text):
    assert number(value) == text


def test_intervals():
    assert interval_text(None, 0.3) == interval_text(0.3, None) == "[undefined]"
    assert interval_text(-0.1234, 1) == "[-0.123, 1.000]"


def test_an_average_names_the_tested_patterns_that_it_leaves_out():
    average = {**METRICS["average_incomplete"], "over": ["V"], "left_out": ["rates(0.3)", "gaps(0.5)"]}
    assert average_text(average).startswith("average of V, without rates(0.3), gaps(0.5) (Fisher z): SRCC 0.250")
    many = {**average, "patterns": 14, "over": [f"P{i}" for i in range(14)]}
    assert average_text(many).startswith("average of the 14 incomplete subsets, without rates(0.3), gaps(0.5)")


def test_a_number_without_an_interval_says_why():
    reason = "too few videos: the order is perfect in 210 of 1000 resamples"
    none = {"srcc_low": None, "srcc_high": None, "why_no_interval": reason}
    metrics = changed("patterns", "V", {**SCORES, **none})
    metrics["average_incomplete"].update(none)
    lines = result_table(metrics).splitlines()
    assert "[n too small]" in lines[4]
    assert "[n too small]" in lines[6]
    assert lines[-1] == f"no interval for V, the average: {reason}"


def test_columns_are_aligned():
    lines = align([["a", "bb"], ["ccc", "d"]])
    assert lines == ["a    bb", "-------", "ccc   d"]


def test_an_undefined_correlation_has_its_reason():
    undefined = {**SCORES, "srcc": None, "srcc_low": None, "srcc_high": None, "why_undefined": "2 videos"}
    assert "\nSRCC undefined: V (2 videos)" in result_table(changed("patterns", "V", undefined))
    assert "SRCC undefined" not in result_table(METRICS)


def test_an_epoch_that_was_not_selected_is_not_said_to_be():
    undefined = selection_text({**METRICS["selection"], "value": None, "epoch": 9})
    assert undefined == "the last epoch, 9 of 9: SRCC (complete) on valid was undefined in every epoch"
    assert selection_text({**METRICS["selection"], "value": 0.5}).startswith("selected on valid")


def test_further_measures_are_a_table_of_their_own_with_intervals_and_reasons():
    metrics = copy.deepcopy(METRICS)
    mae = {"value": 2.5, "low": 2.0, "high": 3.0}
    few = {"value": 0.9, "low": None, "high": None, "why_no_interval": "too few videos: the order is perfect in 40"}
    kappa = {"value": None, "why_undefined": "the labels are not grades, whole numbers"}
    for scores in metrics["patterns"].values():
        scores["measures"] = {"mae": mae, "pearson": few, "quadratic_kappa": kappa}
    lines = result_table(metrics).splitlines()
    header = next(i for i, line in enumerate(lines) if "MAE" in line)
    assert lines[header].split() == ["pattern", "MAE", "Pearson", "quadratic", "kappa"]
    assert lines[header + 2].split("  ")[0] == "VAF"
    assert "2.500 [2.000, 3.000]" in lines[header + 2]
    assert "0.900 [n too small]" in lines[header + 2]
    assert lines[header + 4] == "quadratic_kappa undefined: the labels are not grades, whole numbers"


def test_the_area_under_missing_rates_names_its_rates():
    area = {"srcc": 0.6, "srcc_low": 0.5, "srcc_high": 0.7, "rates": [0.0, 0.25], "patterns": ["VAF", "rates(0.25)"]}
    line = "area under SRCC against missing rate, over its width (trapezoids at 0, 0.25): 0.600 [0.500, 0.700]"
    assert line in result_table({**METRICS, "area_under_rates": area}).splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.123, "0.12 seconds"), (7, "7 seconds"), (101, "100 seconds"), (119, "120 seconds"), (125, "2.1 minutes"),
     (7200, "2 hours"), (864000, "10 days"), (8640000, "100 days")],
)  # fmt: skip
def test_seconds_in_words_to_two_digits(seconds, words):
    assert duration(seconds) == words
