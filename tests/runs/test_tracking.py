"""Weights & Biases: the real package, offline, and what it wrote read back by its own `wandb sync`."""

import base64
import hashlib
import json
import socket
import subprocess
import sys

import pandas as pd
import pytest

import aqa
from aqa.config.schema import TrackingConfig
from aqa.errors import AqaError
from aqa.runs.tracked_files import predictions_table
from aqa.runs.tracking import Wandb, begin_service, gives_a_sign, require_wandb, tracked
from aqa.store.synthetic import make_synthetic
from stress.wandb_server import HANGS, Server

METRICS = {
    "patterns": {"VA": {"srcc": 0.5, "n": 9}},
    "average_incomplete": {"srcc": 0.4},
    "selection": {"split": "valid"},
}


@pytest.fixture
def sync_server():
    server = Server()
    yield server
    server.closed.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def sync(monkeypatch, sync_server):
    """A function that lets wandb read a run's offline log and send it to a server on this machine, which it returns."""

    def send(folder):
        monkeypatch.setenv("WANDB_BASE_URL", sync_server.address)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        (log,) = (folder / "wandb").glob("offline-run-*")
        command = [sys.executable, "-m", "wandb", "sync", "--include-synced", str(log)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return sync_server

    return send


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


PATIENT = 600.0  # seconds: a server that is well answers sooner, however busy the machine is


@pytest.fixture(autouse=True)
def _no_key(monkeypatch, tmp_path):
    """No key of the user, no server but one that refuses every connection, and patience with a busy machine."""
    for name in ("PATIENCE_FOR_A_SIGN", "PATIENCE_AT_START", "PATIENCE_AT_END"):
        monkeypatch.setattr(f"aqa.runs.tracking.{name}", PATIENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def test_wandb_reads_every_number_back_from_what_an_offline_run_leaves(config, sync):
    pytest.importorskip("wandb")
    result = aqa.run(config)
    server = sync(result.folder)

    assert {key: server.run[key] for key in ("project", "groupName", "displayName", "tags")} == {
        "project": "tests",
        "groupName": "g",
        "displayName": "tracked",
        "tags": ["small"],
    }
    assert server.config["train"]["learning_rate"] == 2e-4  # resolved: a default
    assert server.config["data"]["target"] == "score"

    steps = server.lines["wandb-history.jsonl"]
    history = pd.read_csv(result.folder / "history.csv")
    assert [step["epoch"] for step in steps] == list(history["epoch"])
    for step, (_, row) in zip(steps, history.iterrows(), strict=True):
        assert {name: step[name] for name in history} == pytest.approx(row.to_dict())

    summary = json.loads(server.files["wandb-summary.json"])
    for pattern, scores in result.metrics["patterns"].items():
        for name, value in scores.items():
            found = summary[f"test/{pattern}/{name}"]
            assert found == (pytest.approx(value) if isinstance(value, float) else value)
    assert summary["test/average_incomplete/srcc"] == pytest.approx(result.metrics["average_incomplete"]["srcc"])
    assert summary["selection"]["split"] == "valid"


def test_wandb_reads_the_predictions_the_figures_and_the_checkpoint_back(config, sync, figures, tmp_path):
    wandb = pytest.importorskip("wandb")
    result = aqa.run(config, [f"output={tmp_path}/drawn"])
    server = sync(result.folder)
    step = server.lines["wandb-history.jsonl"][-1]

    table = json.loads(server.files[step["predictions"]["path"]])
    predictions = pd.read_csv(result.folder / "predictions.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(pd.DataFrame(table["data"], columns=table["columns"]), predictions)
    whole = predictions_table(result.folder / "predictions.csv").to_json(wandb.Artifact("predictions", "table"))
    assert server.artifacts["run_table"] == manifest(
        "predictions.table.json", json.dumps(whole, sort_keys=True).encode()
    )

    drawn = sorted((result.folder / "figures").glob("*.png"))
    assert drawn
    for figure in drawn:
        assert server.files[step[f"figures/{figure.stem}"]["path"]] == figure.read_bytes()

    assert server.artifacts["model"] == manifest("checkpoint.pt", (result.folder / "checkpoint.pt").read_bytes())

    packages = [f"{each.key}=={each.version}" for each in wandb.util.working_set()]
    assert server.files["requirements.txt"].decode().splitlines() == packages


def manifest(name, content):
    """The digest of an artifact of one file, by which a server tells artifacts apart."""
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    return hashlib.md5(f"wandb-artifact-manifest-v1\n{name}:{digest}\n".encode()).hexdigest()


def test_a_cross_validation_is_a_run_of_its_own_beside_its_folds(config, sync, figures, tmp_path):
    pytest.importorskip("wandb")
    changes = {"data.folds": {"count": 2}, "model": {"name": "ridge"}, "missing.test": ["VA", "V"]}
    said = []
    result = aqa.run(config, {**changes, "output": str(tmp_path / "cv")}, say=said.append)
    assert [line for line in said if line.startswith("tracked offline")] == [
        f"tracked offline: wandb sync {tmp_path}/cv{fold}/wandb/offline-run-*" for fold in ("/fold0", "/fold1", "")
    ]
    server = sync(result.folder)
    assert server.run["displayName"] == "tracked"
    assert server.config["data"]["folds"]["count"] == 2
    summary = json.loads(server.files["wandb-summary.json"])
    for name in ("srcc", "srcc_folds", "mse", "n"):
        assert summary[f"test/V/{name}"] == pytest.approx(result.metrics["patterns"]["V"][name])
    step = server.lines["wandb-history.jsonl"][-1]
    table = json.loads(server.files[step["predictions"]["path"]])
    pooled = pd.read_csv(result.folder / "predictions.csv", dtype={"id": str, "fold": str})
    pd.testing.assert_frame_equal(pd.DataFrame(table["data"], columns=table["columns"]), pooled)
    drawn = sorted((result.folder / "figures").glob("*.png"))
    assert {figure.stem for figure in drawn} == {"srcc_by_pattern", "srcc_by_fold", "predicted_against_true"}
    for figure in drawn:
        assert server.files[step[f"figures/{figure.stem}"]["path"]] == figure.read_bytes()


def test_without_a_key_a_run_is_tracked_offline_and_says_how_to_send_it_later(tmp_path):
    pytest.importorskip("wandb")
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {"a": 1}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
    assert said == [
        f"no key of Weights & Biases is configured; tracked offline: wandb sync {tmp_path}/wandb/offline-run-*"
    ]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize("silent", [False, True])
def test_a_server_that_is_not_there_or_says_nothing_costs_seconds_and_no_run(tmp_path, monkeypatch, silent):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if silent:
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
            monkeypatch.setattr("aqa.runs.tracking.PATIENCE_FOR_A_SIGN", 1.0)
        said = []
        with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
            tracker.epoch({"epoch": 1.0, "loss": 0.5})
    assert "does not answer; tracked offline: wandb sync" in said[0]
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_server_that_answers_but_takes_no_run_is_left_for_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr("aqa.runs.tracking.gives_a_sign", lambda *_: True)
    init = wandb.init

    def impatient(**options):
        if options["mode"] == "online":
            options["settings"].init_timeout = 2.0
        return init(**options)

    monkeypatch.setattr(wandb, "init", impatient)
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
    assert said[0].startswith("Weights & Biases does not answer (")
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_run_that_is_to_be_offline_says_how_to_send_it_too(tmp_path):
    pytest.importorskip("wandb")
    said, folder = [], tmp_path / "a run"
    folder.mkdir()
    with tracked(TrackingConfig(wandb="offline"), "name", {}, folder, said.append) as tracker:
        tracker.epoch({"epoch": 1.0})
    assert said == [f"tracked offline: wandb sync '{folder}'/wandb/offline-run-*"]


def test_any_answer_is_a_sign(sync_server):
    assert gives_a_sign(sync_server.address, PATIENT)
    assert gives_a_sign(f"{sync_server.address}/nowhere", PATIENT)
    assert not gives_a_sign("http://127.0.0.1:9", PATIENT)


def test_wandb_asked_for_but_not_installed_is_said_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(AqaError, match=r"the package is not installed: pip install wandb$"):
        require_wandb(TrackingConfig(wandb="offline"))
    require_wandb(TrackingConfig(wandb="disabled"))


def test_without_tracking_wandb_is_not_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    begin_service(TrackingConfig())
    with tracked(TrackingConfig(), "name", {}, tmp_path, print) as tracker:
        tracker.epoch({"epoch": 1.0})
        tracker.result(METRICS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_works_the_run_goes_on_untracked_and_says_so(monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")

    def refuse(**options):
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setattr(wandb, "setup", refuse)
    said = []
    begin_service(TrackingConfig(wandb="offline"))
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


@pytest.mark.parametrize("mood", [HANGS, 500, 401])
def test_a_server_that_is_lost_on_the_way_costs_seconds_and_no_number(
    config, sync, sync_server, tmp_path, monkeypatch, mood
):
    wandb = pytest.importorskip("wandb")
    finished = aqa.run(config)  # of a test before, or anew
    wandb.teardown()  # it remembers the address of the server before
    history = pd.read_csv(finished.folder / "history.csv").to_dict("records")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", sync_server.address)
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        assert said == []
        assert sync_server.run["displayName"] == "name"  # the server has taken it
        for row in history:
            tracker.epoch(row)
        sync_server.mood = mood
        if mood == HANGS:
            monkeypatch.setattr("aqa.runs.tracking.PATIENCE_FOR_A_SIGN", 1.0)
        tracker.result(finished.metrics, finished.folder)
    why = "does not answer" if mood == HANGS else f"answers HTTP {mood}"
    assert said == [
        f"Weights & Biases was lost ({sync_server.address} {why}); "
        f"tracked offline: wandb sync {tmp_path}/wandb/offline-run-*"
    ]
    sync_server.mood, first = "good", sync_server.run["name"]
    sync_server.lines.clear()
    sync_server.closed.set()
    sync(tmp_path)
    assert sync_server.run["name"] == first  # it is the same run there
    assert [line["epoch"] for line in sync_server.lines["wandb-history.jsonl"]] == [row["epoch"] for row in history]
    assert json.loads(sync_server.files["wandb-summary.json"])["test/VA/n"] == finished.metrics["patterns"]["VA"]["n"]
    assert "model" in sync_server.artifacts


def test_a_server_that_is_well_gets_everything_while_the_run_lasts(config, sync_server, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    finished = aqa.run(config)  # of a test before, or anew
    wandb.teardown()
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", sync_server.address)
    said = []
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
        tracker.result(finished.metrics, finished.folder)
    assert said == []
    assert sync_server.lines["wandb-history.jsonl"][0]["loss"] == 0.5
    assert json.loads(sync_server.files["wandb-summary.json"])["test/VA/n"] == finished.metrics["patterns"]["VA"]["n"]
    assert "model" in sync_server.artifacts


def test_a_server_that_refuses_is_left_at_the_start(sync_server, tmp_path, monkeypatch):
    pytest.importorskip("wandb").teardown()
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", sync_server.address)
    sync_server.mood, said = 503, []
    with tracked(TrackingConfig(wandb="online"), "name", {}, tmp_path, said.append) as tracker:
        tracker.epoch({"epoch": 1.0})
    assert said == [
        f"{sync_server.address} answers HTTP 503; tracked offline: wandb sync {tmp_path}/wandb/offline-run-*"
    ]
