"""A run's folder: new, resumed, refused or replaced; files whole or not at all; checkpoints that run no code."""

from __future__ import annotations

import json
import os
import pickle
import stat
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from aqa.errors import AqaError
from aqa.runs.folder import OWN_FILES, RunFolder
from aqa.system.files import plain, write_table, write_text, written_whole

CONFIG = {
    "name": "x",
    "data": {"store": "/s.h5", "target": "TES", "clips": None},
    "train": {"epochs": 3, "learning_rate": 2e-4, "seed": 1},
    "missing": {"train": {"rates": {"audio": 0.5}}, "test": "all_subsets"},
}


def changed(**train):
    return {**CONFIG, "train": {**CONFIG["train"], **train}}


def finished(path, config=CONFIG):
    run = RunFolder.start(path, config, overwrite=False)
    run.save_checkpoint({"weights": torch.ones(2)})
    run.save_history([{"epoch": 1.0, "loss": 0.5}])
    run.log("a line")
    (path / "predictions.csv").write_text("id\n")
    (path / "figures").mkdir()
    (path / "figures" / "curve.png").write_bytes(b"")
    run.finish({"srcc": 0.5})
    return run


def contents(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


# Starting


def test_a_new_folder_holds_the_resolved_config_and_the_versions(tmp_path):
    run = RunFolder.start(tmp_path / "deep" / "run", CONFIG, overwrite=False)
    assert run.status == "new"
    assert run.config == CONFIG
    written = yaml.safe_load((run.path / "config.yaml").read_text())
    assert set(written["versions"]) == {"aqa", "python", "torch", "numpy"}
    assert written["versions"]["torch"] == torch.__version__
    assert contents(run.path) == ["config.yaml"]


def test_an_empty_folder_is_taken(tmp_path):
    assert RunFolder.start(tmp_path, CONFIG, overwrite=False).config == CONFIG


def test_the_same_experiment_is_taken_up_with_its_saved_state(tmp_path):
    first = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    assert first.load_state() is None
    first.save_state({"epoch": 2, "weights": torch.arange(3.0)})
    before = (tmp_path / "config.yaml").read_bytes()
    again = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    assert again.status == "unfinished"
    state = again.load_state()
    assert state["epoch"] == 2
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_finished_run_says_so_keeps_its_metrics_and_drops_its_state(tmp_path):
    run = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    run.save_state({"epoch": 2})
    run.finish({"srcc": float("nan"), "patterns": {"VA": np.float64(0.25)}})
    again = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    assert again.status == "finished"
    assert again.metrics == {"srcc": None, "patterns": {"VA": 0.25}, "files": ANY}
    assert again.load_state() is None


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        (changed(seed=2), "train.seed is 1 there, 2 here"),
        (changed(learning_rate=1e-3, seed=2), "train.learning_rate is 0.0002 there, 0.001 here"),
        (changed(patience=5), "train.patience is None there, 5 here"),
        ({**CONFIG, "name": "y"}, "name is 'x' there, 'y' here"),
        ({**CONFIG, "missing": {"train": "none", "test": "all_subsets"}}, "missing.train is None there, 'none' here"),
        ({k: v for k, v in CONFIG.items() if k != "name"}, "name is 'x' there, None here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_experiment_is_refused_naming_the_first_key_that_differs(tmp_path, config, difference):
    finished(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(AqaError) as error:
        RunFolder.start(tmp_path, config, overwrite=False)
    assert str(error.value) == (
        f"{tmp_path} holds another experiment ({difference}); "
        "name another folder with output=DIR, or replace it with --overwrite"
    )
    assert contents(tmp_path) == before


def test_overwrite_removes_the_runs_own_files_and_no_others(tmp_path):
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures" / "sketch.svg").write_text("mine")
    (tmp_path / "state.pt").write_bytes(b"")
    (tmp_path / "held_out.pt").write_bytes(b"")
    assert set(OWN_FILES) <= set(contents(tmp_path))
    run = RunFolder.start(tmp_path, changed(seed=2), overwrite=True)
    assert run.status == "new"
    assert run.config == changed(seed=2)
    assert contents(tmp_path) == ["config.yaml", "figures/sketch.svg", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "x"},
        {"config.yaml": "- mine\n", "log.txt": "mine"},
        {"config.yaml": "a: of another program\n", "metrics.json": "{}"},
        {"config.yaml": "a: [\n"},
    ],
    ids=str,
)
def test_a_folder_that_is_no_runs_is_refused_even_with_overwrite(tmp_path, files, overwrite):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AqaError, match=r"exists and is no run's folder; name another with output=DIR$"):
        RunFolder.start(tmp_path, CONFIG, overwrite=overwrite)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == files


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(AqaError, match="exists and is no run's folder"):
        RunFolder.start(tmp_path / "run", CONFIG, overwrite=True)
    assert (tmp_path / "run").read_text() == "x"


# Finding a finished one


def test_a_finished_run_is_found(tmp_path):
    finished(tmp_path)
    run = RunFolder.existing(tmp_path)
    assert run.metrics == {"srcc": 0.5, "files": ANY}
    assert torch.equal(run.load_checkpoint()["weights"], torch.ones(2))


def test_a_missing_and_an_unfinished_run_are_different_mistakes(tmp_path):
    with pytest.raises(AqaError, match=r"nowhere is no run's folder: it has no config\.yaml"):
        RunFolder.existing(tmp_path / "nowhere")
    run = RunFolder.start(tmp_path / "run", CONFIG, overwrite=False)
    run.save_state({"epoch": 1})
    with pytest.raises(AqaError, match="run is unfinished; start its `aqa run` again to resume from where it stopped"):
        RunFolder.existing(tmp_path / "run")


def test_history_is_a_row_an_epoch_with_empty_cells_where_undefined(tmp_path):
    run = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    run.save_history([{"epoch": 1.0, "loss": 0.5, "srcc": float("nan")}, {"epoch": 2.0, "loss": 0.25, "srcc": 0.125}])
    assert (tmp_path / "history.csv").read_text() == "epoch,loss,srcc\n1,0.5,\n2,0.25,0.125\n"


def test_log_lines_are_added(tmp_path):
    run = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    run.log("one")
    RunFolder(tmp_path).log("zwölf")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "one\nzwölf\n"


# Whole or not at all


def test_an_exception_in_the_middle_leaves_the_old_file_and_no_partial_one(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with written_whole(path) as partial:
            partial.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert contents(tmp_path) == ["file.txt"]


def test_what_was_written_replaces_the_old_file_and_others_may_read_it(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    write_text(path, "new ü")
    assert path.read_text(encoding="utf-8") == "new ü"
    assert contents(tmp_path) == ["file.txt"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_checkpoint_that_cannot_be_saved_leaves_the_old_one(tmp_path):
    run = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    run.save_checkpoint({"epoch": 1})
    with pytest.raises((pickle.PicklingError, AttributeError)):
        run.save_checkpoint({"epoch": 2, "what": lambda: None})
    assert run.load_checkpoint() == {"epoch": 1}
    assert contents(tmp_path) == ["checkpoint.pt", "config.yaml"]


def test_metrics_that_json_cannot_hold_leave_the_run_unfinished(tmp_path):
    run = RunFolder.start(tmp_path, CONFIG, overwrite=False)
    run.save_state({"epoch": 1})
    with pytest.raises(TypeError):
        run.finish({"srcc": object()})
    assert run.status == "unfinished"


def test_a_table_is_written_with_empty_cells_where_undefined(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"id": ["a", 'b, "c"'], "score": [1.5, np.nan]}))
    assert (tmp_path / "t.csv").read_text() == 'id,score\na,1.5\n"b, ""c""",\n'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (np.float32("inf"), None),
        (-np.inf, None),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (True, True),
        ("NaN", "NaN"),
        ({"a": (1, float("nan")), 2: [{"b": np.float32(0.25)}]}, {"a": [1, None], "2": [{"b": 0.25}]}),
    ],
)
def test_plain_is_what_strict_json_holds(value, expected):
    found = plain(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected


# Checkpoints


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain_pickle", [False, True])
def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path, plain_pickle):
    run = finished(tmp_path / "run")
    evil = {"weights": Malicious(tmp_path / "hacked")}
    if plain_pickle:
        (run.path / "checkpoint.pt").write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, run.path / "checkpoint.pt")
    with pytest.raises(AqaError, match=r"checkpoint\.pt is refused: ") as error:
        run.load_checkpoint()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "hacked").exists()
    if plain_pickle:  # it would have been
        pickle.loads((run.path / "checkpoint.pt").read_bytes())
    else:
        torch.load(run.path / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "hacked").exists()


def test_a_deleted_checkpoint_is_said_plainly(tmp_path):
    with pytest.raises(AqaError) as error:
        RunFolder(tmp_path).load_checkpoint()
    assert str(error.value) == (
        f"{tmp_path} has no checkpoint.pt: it was deleted, and nothing can be scored without it; "
        "train again with the same `aqa run` and --overwrite"
    )


def test_a_run_that_was_killed_before_its_config_was_written_begins_again(tmp_path):
    (tmp_path / ".config.yaml.abc.partial").touch()
    assert RunFolder.start(tmp_path, {"a": 1}, overwrite=False).config == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nversions: *b\n",
        "versions: {a: " + "[" * 300_000 + "}\n",  # ends a process that gives it to libyaml's loader
        "versions: {}\n#" + "x" * 2**20,
        "versions: !!python/object/apply:os.system ['touch hacked']\n",
    ],
    ids=["aliases", "nested", "large", "tag"],
)
def test_a_config_that_would_do_harm_is_no_runs(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    assert not RunFolder(tmp_path).is_run
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[1]", '{"a": ' + "9" * 5000 + "}"])
def test_metrics_that_cannot_be_read_are_one_clear_line(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(AqaError, match=r"metrics\.json") as error:
        _ = RunFolder(tmp_path).metrics
    assert "\n" not in str(error.value)


def test_what_a_reader_changes_in_a_config_is_not_in_what_the_next_one_reads(tmp_path):
    run = finished(tmp_path / "run")
    run.config["train"]["epochs"] = 99
    assert run.config["train"]["epochs"] == RunFolder(run.path).config["train"]["epochs"] == 3
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace("epochs: 3", "epochs: 4"))
    assert run.config["train"]["epochs"] == 4
