"""Trials: runs that are trained and measured on the split that selects, and know nothing of the test split."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest

from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.features.cache import FeatureLoader
from aqa.reporting.collect import find_runs
from aqa.runs.folder import RunFolder
from aqa.runs.run import run_loaded
from aqa.runs.trial import Trial, TrialResult
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic

SMALL = {"name": "zero_fill", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "tiny.h5"
    make_synthetic("tiny", path, samples=16)
    return path


def relabel(path, change):
    """Give the test videos of a store other labels: `change` is told those that they have."""
    with FeatureStore(path) as opened:
        rows = opened.split("test")
    with h5py.File(path, "r+") as file:
        labels = file["targets/score"]
        values = labels[:]
        values[rows] = change(values[rows])
        labels[:] = values
        del labels.attrs["crc32"]


def config(store, output, **changes):
    return load_experiment(
        {
            "name": "x",
            "data": {"store": str(store), "target": "score"},
            "model": SMALL,
            "missing": {"train": "none", "test": ["VA"]},
            "train": {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "threads": 1},
            "output": str(output),
        },
        changes,
    )


def trained(experiment, stop=lambda epoch, value: False):
    return run_loaded(experiment, FeatureLoader(), trial=Trial(stop))


def test_a_trial_has_the_selection_of_the_run_and_nothing_that_the_test_split_is_needed_for(store, tmp_path):
    run = run_loaded(config(store, tmp_path / "run"), FeatureLoader())
    trial = trained(config(store, tmp_path / "trial"))
    assert trial.metrics["selection"] == run.metrics["selection"]
    known = TrialResult.of([trial.metrics])
    assert (known.value, known.epochs) == (run.metrics["selection"]["value"], 3)
    files = {path.name for path in (tmp_path / "trial").iterdir() if not path.name.startswith(".")}
    assert files == {"config.yaml", "history.csv", "metrics.json", "log.txt"}
    assert (tmp_path / "trial" / "history.csv").read_text() == (tmp_path / "run" / "history.csv").read_text()


@pytest.mark.parametrize(
    "change",
    [lambda y: y[::-1], lambda y: np.full_like(y, np.nan), lambda y: y * 0 + y.min(), lambda y: y + 1e6],
    ids=["permuted", "unlabelled", "all the same", "out of range"],
)
def test_the_labels_of_the_test_split_change_nothing_that_a_trial_writes(store, tmp_path, change):
    trained(config(store, tmp_path / "before"))
    relabel(store, change)
    trained(config(store, tmp_path / "after"))
    before, after = (RunFolder(tmp_path / name) for name in ("before", "after"))
    for name in ("history.csv", "log.txt"):
        assert (before.path / name).read_text() == (after.path / name).read_text()
    assert before.metrics["selection"] == after.metrics["selection"]


def test_a_trial_that_selects_on_the_test_split_by_the_published_protocol_does(store, tmp_path):
    found = trained(config(store, tmp_path / "trial", **{"select.split": "test"}))
    assert found.metrics["selection"]["split"] == "test"
    assert math.isfinite(found.metrics["selection"]["value"])


def test_a_trial_ends_where_it_is_told_to(store, tmp_path):
    told = []

    def stop(epoch, value):
        told.append((epoch, value))
        return epoch == 2

    found = trained(config(store, tmp_path / "trial"), stop)
    assert found.metrics["selection"]["epochs"] == 2
    assert [epoch for epoch, _ in told] == [1, 2]


def test_a_trial_that_was_told_to_end_before_it_was_killed_trains_no_further(store, tmp_path, monkeypatch):
    experiment, folder = config(store, tmp_path / "trial"), RunFolder(tmp_path / "trial")
    monkeypatch.setattr(RunFolder, "finish", lambda self, metrics: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        trained(experiment, lambda epoch, value: epoch == 2)
    assert folder.load_state()["progress"]["epoch"] == 2
    monkeypatch.undo()
    assert trained(experiment, lambda epoch, value: epoch == 2).metrics["selection"]["epochs"] == 2


def test_a_trial_is_not_taken_for_a_scored_run(store, tmp_path):
    trained(config(store, tmp_path / "runs" / "trial"))
    with pytest.raises(AqaError, match=r"is a trial of `aqa tune`, which has no checkpoint"):
        RunFolder.existing(tmp_path / "runs" / "trial")
    run_loaded(config(store, tmp_path / "runs" / "run"), FeatureLoader())
    found, notes = find_runs([tmp_path / "runs"])
    assert [run.folder.name for run in found] == ["run"]
    assert notes == []


def test_a_trial_needs_no_test_videos_for_test_patterns_that_go_by_labels(store, tmp_path):
    pattern = {"mnar": {"modality": "audio", "by": "score", "rate": 0.3}}
    found = trained(config(store, tmp_path / "trial", **{"missing.test": ["VA", pattern]}))
    assert math.isfinite(found.metrics["selection"]["value"])
