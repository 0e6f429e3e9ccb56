"""Weights & Biases: the real package, offline."""

import sys

import pytest

import aqa
from aqa.config import TrackingConfig
from aqa.data.synthetic import make_synthetic
from aqa.errors import AqaError
from aqa.tracking import require_wandb, tracked

METRICS = {
    "patterns": {"VA": {"srcc": 0.5, "n": 9}},
    "average_incomplete": {"srcc": 0.4},
    "selection": {"split": "valid"},
}


def test_an_offline_run_is_written_into_the_runs_folder(tmp_path):
    pytest.importorskip("wandb")
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=20)
    config = {
        "name": "tracked",
        "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
        "model": {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
        "train": {"epochs": 1},
        "tracking": {"wandb": "offline", "project": "tests", "tags": ["small"]},
        "output": str(tmp_path / "run"),
    }
    aqa.run(config)
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    written = log.read_bytes()
    for name in (b"valid_srcc", b"loss_reconstruction", b"test/VA/srcc", b"test/average_incomplete/srcc"):
        assert name in written


def test_wandb_asked_for_but_not_installed_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AqaError, match=r"pip install 'aqa\[wandb\]'"):
        require_wandb(TrackingConfig(wandb="offline"))
    require_wandb(TrackingConfig(wandb="disabled"))


def test_without_tracking_wandb_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with tracked(TrackingConfig(), "name", {}, tmp_path, print) as tracker:
        tracker.epoch({"epoch": 1.0})
        tracker.result(METRICS)
    assert list(tmp_path.iterdir()) == []


def test_trouble_with_wandb_leaves_the_run_untracked_and_says_so(monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")

    def refuse(**options):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(wandb, "init", refuse)
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0})
        tracker.result(METRICS)
    assert said == ["Weights & Biases is left out: no route"]
