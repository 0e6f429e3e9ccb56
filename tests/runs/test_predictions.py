"""predictions.csv is read as it was written."""

import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.runs.predictions import read_predictions, read_table, save_predictions

IDS = ["030", "NA", "null", "nan", "None", "", "1e3", "=1+1", 'a "quoted", one']


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    truth, scores = rng.normal(size=(2, len(IDS)))
    scores[3] = np.nan
    path = tmp_path / "predictions.csv"
    save_predictions(path, IDS, np.arange(len(IDS)), truth, "007", {"NO": scores, "V": truth / 3})
    return path, truth, scores


def test_names_stay_text_and_numbers_the_same_bits(written):
    path, truth, scores = written
    table = read_table(path)
    assert table["id"].tolist() == IDS * 2
    assert set(table["target"]) == {"007"}
    assert set(table["pattern"]) == {"NO", "V"}
    np.testing.assert_array_equal(table["score"], np.concatenate([scores, truth / 3]))
    np.testing.assert_array_equal(table["label"], np.concatenate([truth, truth]))


def test_predictions_come_back_by_pattern(written):
    path, truth, scores = written
    found = read_predictions(path)
    assert found.ids == tuple(IDS)
    assert found.target == "007"
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_array_equal(found.by_pattern["NO"], scores)
    np.testing.assert_array_equal(found.by_pattern["V"], truth / 3)


def test_columns_beside_the_scores_come_back_by_pattern(tmp_path):
    path, n = tmp_path / "predictions.csv", len(IDS)
    scores = {"NO": np.arange(n) / 3, "V": np.full(n, np.nan)}
    spread = {"NO": np.arange(n) / 7, "V": np.full(n, np.nan)}
    save_predictions(path, IDS, np.arange(n), np.ones(n), "score", scores, {"fold": [2] * n}, {"spread": spread})
    assert list(read_table(path)) == ["id", "target", "pattern", "score", "label", "spread", "fold"]
    found = read_predictions(path)
    np.testing.assert_array_equal(found.beside["spread"]["NO"], spread["NO"])
    np.testing.assert_array_equal(found.beside["spread"]["V"], spread["V"])


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(AqaError, match=r"predictions\.csv is missing"):
        read_table(tmp_path / "predictions.csv")
