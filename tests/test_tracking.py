"""Weights & Biases: the real package, offline, and what it wrote read back record by record."""

import json
import struct
import sys
import time

import pytest

import aqa
from aqa.config import TrackingConfig
from aqa.data.synthetic import make_synthetic
from aqa.errors import AqaError
from aqa.tracking import Wandb, require_wandb, tracked

METRICS = {
    "patterns": {"VA": {"srcc": 0.5, "n": 9}},
    "average_incomplete": {"srcc": 0.4},
    "selection": {"split": "valid"},
}
BLOCK = 32768


def records(path):
    """The records of a .wandb file: a log of length-prefixed pieces in blocks, each record a protocol buffer."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, pieces, found = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(Record.FromString(pieces))
            pieces = b""
    return found


def items(entries):
    return {"/".join(e.nested_key) if len(e.nested_key) else e.key: json.loads(e.value_json) for e in entries}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    make_synthetic("tiny", folder / "tiny.h5", samples=20)
    return {
        "name": "tracked",
        "data": {"store": str(folder / "tiny.h5"), "target": "score"},
        "model": {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
        "train": {"epochs": 2},
        "tracking": {"wandb": "offline", "project": "tests", "group": "g", "tags": ["small"]},
        "output": str(folder / "run"),
    }


@pytest.fixture(autouse=True)
def _no_key(monkeypatch, tmp_path):
    """No key of the user, and no server but one that refuses every connection."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def test_every_number_is_in_the_file_that_an_offline_run_leaves(config):
    pytest.importorskip("wandb")
    result = aqa.run(config)
    (log,) = (result.folder / "wandb").glob("offline-run-*/*.wandb")
    found = records(log)

    runs = [r.run for r in found if r.HasField("run")]
    assert (runs[0].project, runs[0].run_group, list(runs[0].tags), runs[0].display_name) == (
        "tests",
        "g",
        ["small"],
        "tracked",
    )
    logged = items(runs[0].config.update)
    assert logged["train"]["learning_rate"] == 2e-4  # resolved: a default
    assert logged["data"]["target"] == "score"

    steps = [items(r.history.item) for r in found if r.HasField("history")]
    history = [line.split(",") for line in (result.folder / "history.csv").read_text().splitlines()]
    for row in history[1:]:
        for name, value in zip(history[0], row, strict=True):
            assert any(step.get(name) == pytest.approx(float(value)) for step in steps), name

    summary = {}
    for record in found:
        if record.HasField("summary"):
            summary |= items(record.summary.update)
    for pattern, scores in result.metrics["patterns"].items():
        for name, value in scores.items():
            assert summary[f"test/{pattern}/{name}"] == (pytest.approx(value) if value is not None else None)
    assert summary["test/average_incomplete/srcc"] == pytest.approx(result.metrics["average_incomplete"]["srcc"])
    assert summary["selection"]["split"] == "valid"

    kinds = {key: value for step in steps for key, value in step.items() if key.endswith("/_type")}
    for figure in (result.folder / "figures").glob("*.png"):
        assert kinds[f"figures/{figure.stem}/_type"] == "image-file"
    assert kinds["predictions/_type"] == "table-file"
    artifacts = [r.request.log_artifact.artifact for r in found if r.request.HasField("log_artifact")]
    artifacts += [r.artifact for r in found if r.HasField("artifact")]
    models = [a for a in artifacts if a.type == "model"]
    assert [entry.path for entry in models[0].manifest.contents] == ["checkpoint.pt"]


def test_without_a_key_a_run_is_tracked_offline_and_says_how_to_send_it_later(tmp_path):
    pytest.importorskip("wandb")
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {"a": 1}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
    assert said == [
        f"no key of Weights & Biases is configured; tracked offline: wandb sync {tmp_path}/wandb/offline-run-*"
    ]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_server_that_is_not_there_costs_seconds_and_no_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    said, start = [], time.monotonic()
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
    assert time.monotonic() - start < 120  # and not forever
    assert "tracked offline: wandb sync" in said[0]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_wandb_asked_for_but_not_installed_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AqaError, match=r"pip install 'aqa\[wandb\]'"):
        require_wandb(TrackingConfig(wandb="offline"))
    require_wandb(TrackingConfig(wandb="disabled"))


def test_without_tracking_wandb_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with tracked(TrackingConfig(), "name", {}, tmp_path, print) as tracker:
        tracker.epoch({"epoch": 1.0})
        tracker.result(METRICS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_works_the_run_goes_on_untracked_and_says_so(monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")

    def refuse(**options):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(wandb, "init", refuse)
    said = []
    with tracked(TrackingConfig(wandb="offline"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0})
        tracker.result(METRICS, tmp_path)
    assert said == ["Weights & Biases is left out: no route"]


def test_trouble_on_the_way_is_said_once_and_costs_nothing(tmp_path):
    class Run:
        def log(self, *arguments, **options):
            raise RuntimeError("connection lost")

        def finish(self):
            raise AssertionError("nothing more is sent")

    said = []
    tracker = Wandb(Run(), said.append)
    tracker.epoch({"epoch": 1.0})
    tracker.epoch({"epoch": 2.0})
    tracker.result(METRICS, tmp_path)
    tracker.finish()
    assert said == ["Weights & Biases is left out from here on: connection lost"]
