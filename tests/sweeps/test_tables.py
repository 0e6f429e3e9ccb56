"""Tables over the runs of a sweep."""

import numpy as np
import pandas as pd
import pytest

from aqa.sweeps.tables import mean_and_deviation, seeds_table


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
            "pattern": pattern,
            "srcc": base + 0.1 * seed,
            **changes,
        }
        for rate, base in ((0.1, 0.5), (0.2, 0.3))
        for seed in (0, 1, 2)
        for pattern in ("VAF", "average")
    ]
    return pd.DataFrame(rows)


def test_a_line_a_setting_with_mean_and_deviation_over_its_seeds():
    _, header, _, first, second = seeds_table(found()).splitlines()
    assert header.split() == ["train.learning_rate", "target", "VAF", "average", "seeds", "selected", "on"]
    mean = np.tanh(np.mean(np.arctanh([0.5, 0.6, 0.7])))
    cell = [f"{mean:.3f}", "±", "0.100"]
    assert first.split() == ["0.1", "TES", *cell, *cell, "3", "valid"]
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
