"""What Weights & Biases is sent of a run beside numbers, held to what wandb makes of the same by itself."""

import json
import shutil

import numpy as np
import pytest

from aqa.runs.predictions import read_table, save_predictions
from aqa.runs.tracked_files import predictions_table, send_files

wandb = pytest.importorskip("wandb")


@pytest.fixture
def path(tmp_path):
    """predictions.csv of two videos under two patterns: a number for a name, quotes, and a score that is missing."""
    scores = {"VA": np.array([0.1, 1 / 3]), "A": np.array([1e-300, np.nan])}
    names, truth = ["007", 'a "name", ü'], np.array([1.0, -2.5])
    save_predictions(tmp_path / "predictions.csv", names, np.arange(2), truth, "score", scores, {"fold": [0, 0]})
    return tmp_path / "predictions.csv"


def by_wandb_itself(path):
    """The table with every value checked and converted by wandb."""
    table = read_table(path)
    rows = [list(row) for row in zip(*(table[name].tolist() for name in table), strict=True)]
    types = [float if table[name].dtype == float else str for name in table]
    gaps = [bool(table[name].isna().any()) for name in table]
    return wandb.Table(columns=list(table), data=rows, dtype=types, optional=gaps)


def test_the_table_of_predictions_is_written_as_wandb_would_write_it(path):
    made, expected = predictions_table(path), by_wandb_itself(path)
    place = wandb.Artifact("predictions", "table")
    written = made.to_json(place)
    assert json.dumps(written, sort_keys=True) == json.dumps(expected.to_json(place), sort_keys=True)
    assert written["data"][3] == ['a "name", ü', "score", "A", None, -2.5, "0"]
    assert made.to_json(place) == written  # nothing is lost on the way
    assert list(made.data[0]) == expected.data[0]


def test_of_too_many_rows_wandb_writes_what_it_can(path, monkeypatch):
    monkeypatch.setattr(wandb.Table, "MAX_ARTIFACT_ROWS", 3)
    place = wandb.Artifact("predictions", "table")
    written = predictions_table(path).to_json(place)
    assert written == by_wandb_itself(path).to_json(place)
    assert len(written["data"]) == written["nrows"] == 3


def test_where_wandb_writes_tables_otherwise_they_are_written_so(path, monkeypatch):
    monkeypatch.setattr(wandb.Table, "to_json", lambda table, place: {"parquet": [list(row) for row in table.data]})
    made = predictions_table(path)
    assert made.to_json(wandb.Artifact("predictions", "table")) == {"parquet": made.data}
    assert len(made.data) == 4


def test_files_are_sent_where_the_process_that_imported_wandb_took_its_temporary_folder_along(path):
    from wandb.sdk.data_types._private import MEDIA_TMP

    shutil.rmtree(MEDIA_TMP.name)
    run = wandb.init(mode="offline", dir=str(path.parent), settings=wandb.Settings(silent=True, console="off"))
    try:
        send_files(run, path.parent)
    finally:
        run.finish()
    (table,) = path.parent.glob("wandb/offline-run-*/files/media/table/predictions_*.table.json")
    assert json.loads(table.read_text())["data"][0][:3] == ["007", "score", "VA"]
