"""Tables over the runs of a sweep."""

import numpy as np
import pandas as pd
import pytest

from aqa.sweeps.tables import mean_and_deviation, measures_tables, seeds_table, settings_found


def found(**changes):
    """Results of two settings, three seeds, two patterns."""
    rows = [
        {
            "run": f"{rate}-{seed}",
            "experiment": "fisv",
            "train.learning_rate": str(rate),
            "train.seed": str(seed),
            "target": "TES",
            "model": "mcmoe",
            "seed": seed,
            "selected_on": "valid",
            "selection_metric": "srcc",
            "selection_pattern": "complete",
            "selection_value": selected + 0.1 * seed,
            "pattern": pattern,
            "srcc": base + 0.1 * seed,
            **changes,
        }
        for rate, base, selected in ((0.1, 0.5, 0.6), (0.2, 0.3, 0.4))
        for seed in (0, 1, 2)
        for pattern in ("VAF", "average")
    ]
    return pd.DataFrame(rows)


def mean(values):
    return np.tanh(np.mean(np.arctanh(values)))


def test_a_line_a_setting_with_mean_and_deviation_over_its_seeds():
    _, header, _, first, second = seeds_table(found()).splitlines()
    columns = ["train.learning_rate", "target", "validation", "VAF", "average", "seeds", "selected", "on"]
    assert header.split() == columns
    validation, test = ([f"{mean(v):.3f}", "±", "0.100"] for v in ([0.6, 0.7, 0.8], [0.5, 0.6, 0.7]))
    assert first.split() == ["0.1", "TES", *validation, *test, *test, "3", "valid"]
    assert second.startswith("0.2")


def test_selection_on_test_is_marked():
    assert seeds_table(found(selected_on="test")).splitlines()[-1].endswith("TEST")


def test_one_seed_has_no_deviation_and_no_table():
    assert seeds_table(found(seed=0)) == ""
    assert seeds_table(pd.DataFrame()) == ""


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "0.500"), ([0.5, np.nan], "undefined"), ([0.0, 0.0], "0.000 ± 0.000"), ([-0.5, 0.5], "0.000 ± 0.707")],
)
def test_cells(values, text):
    assert mean_and_deviation(values) == text


def rates(table):
    return [one.values["train.learning_rate"] for one in settings_found(table)]


def test_settings_are_sorted_by_validation_whatever_the_test_split_says():
    table = found()
    assert rates(table) == ["0.1", "0.2"]
    table["selection_value"] = -table["selection_value"]
    assert rates(table) == ["0.2", "0.1"]
    table["srcc"] = -table["srcc"]
    assert rates(table) == ["0.2", "0.1"]


def test_the_lower_mse_is_the_better_one_and_its_mean_is_a_plain_one():
    table = found(selection_metric="mse")
    assert rates(table) == ["0.2", "0.1"]
    assert "MSE 0.500" in seeds_table(table)


def test_settings_that_were_selected_on_test_come_last():
    table = found()
    table.loc[table["train.learning_rate"] == "0.1", "selected_on"] = "test"
    assert rates(table) == ["0.2", "0.1"]


def test_further_measures_have_a_table_each_with_means_over_seeds_by_validation():
    table = found(kendall=0.3, mse=4.0)
    assert measures_tables(table) == ""  # which every run has
    table["mae"] = np.where(table["pattern"] == "VAF", 2.0 + table["seed"], np.nan)
    title, header, _, first, second = measures_tables(table).splitlines()
    assert title.startswith("MAE (lower is better), mean ± standard deviation over seeds")
    assert header.split() == ["train.learning_rate", "target", "VAF", "seeds", "selected", "on"]
    assert first.split() == ["0.1", "TES", "3.000", "±", "1.000", "3", "valid"]
    assert second.startswith("0.2")
    table.loc[table["run"] == "0.2-1", "mae"] = np.nan
    assert measures_tables(table).splitlines()[-1].split()[2] == "-"
    asked = measures_tables(found(kendall=0.3, kendall_low=0.1, kendall_high=0.4))
    assert asked.startswith("Kendall (higher is better)")


def test_a_single_run_has_the_interval_of_a_measure():
    table = found(seed=0, mae=2.0, mae_low=1.5, mae_high=2.5)[:2]
    assert measures_tables(table).splitlines()[-1].split()[1:5] == ["2.000", "[1.500,", "2.500]", "2.000"]
    assert measures_tables(pd.DataFrame()) == ""
