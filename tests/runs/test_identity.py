"""A run knows its store and its files, wherever its project lies: what has changed is said, what has moved is found."""

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import h5py
import pytest
import torch
import yaml

import aqa.runs.run
from aqa.cli import main
from aqa.runs.folder import RunFolder
from aqa.store.fingerprint import fingerprint_at
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import load_sweep, points_of
from aqa.sweeps.local import run_if_free

EXPERIMENT = """
name: small
data: {store: data/x.h5, target: score}
model: {name: ridge}
"""
SMALL = ["model.name=late_fusion", "model.hidden_dim=8", "model.n_decoder=1"]  # a model that is trained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project: a store, an experiment, a finished run of ridge regression and an unfinished one of another model."""
    folder = tmp_path_factory.mktemp("made") / "project"
    (folder / "data").mkdir(parents=True)
    make_synthetic("tiny", folder / "data" / "x.h5", samples=30)
    (folder / "e.yaml").write_text(EXPERIMENT)
    (folder / "s.yaml").write_text("name: s\nexperiments: [e.yaml]\ngrid: {train.seed: [0, 1]}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "e.yaml", "output=runs/one"]) == 0
    return folder.rename(folder.parent / "not where it was made")


@pytest.fixture
def project(made, tmp_path, monkeypatch, in_this_process):
    """A copy of the project, as the working folder."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def mend_a_label(path):
    """As a user would with h5py: another value, and no checksum that would no longer fit."""
    with h5py.File(path, "r+") as file:
        labels = file["targets/score"]
        labels[3] = labels[3] * 0.5
        del labels.attrs["crc32"]


def new_store(path):
    small = ["--preset", "tiny", "--samples", "30", "--seed", "9"]
    assert main(["prepare", "synthetic", *small, "--out", str(path), "--overwrite"]) == 0


CHANGES = {"another": new_store, "label": mend_a_label}


def said(capsys):
    return capsys.readouterr().err.strip().splitlines()


# A store that has changed


@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_run_is_not_shown_for_a_store_that_has_changed(project, capsys, change):
    CHANGES[change]("data/x.h5")
    capsys.readouterr()
    assert main(["run", "e.yaml", "output=runs/one"]) == 2
    (line,) = said(capsys)
    assert "data/x.h5 has changed since runs/one was made from it" in line
    assert "--overwrite" in line
    assert main(["run", "e.yaml", "output=runs/one", "--overwrite"]) == 0
    assert json.loads(Path("runs/one/metrics.json").read_text())["data"]["fingerprint"] == fingerprint_at("data/x.h5")


def test_an_unfinished_run_is_not_resumed_on_a_store_that_has_changed(project, capsys, stopped_in_epoch):
    command = ["run", "e.yaml", "output=runs/two", *SMALL, "train.epochs=3"]
    with stopped_in_epoch(3):
        main(command)
        raise KeyboardInterrupt
    mend_a_label("data/x.h5")
    capsys.readouterr()
    assert main(command) == 2
    assert "has changed since runs/two was made from it" in said(capsys)[-1]
    assert RunFolder("runs/two").status == "unfinished"


@pytest.mark.parametrize("change", CHANGES)
def test_evaluate_asks_for_store_where_the_runs_own_has_changed(project, capsys, change):
    CHANGES[change]("data/x.h5")
    capsys.readouterr()
    assert main(["evaluate", "runs/one"]) == 2
    (line,) = said(capsys)
    assert "data/x.h5 has changed since runs/one was made from it; --store" in line
    assert main(["evaluate", "runs/one", "--store", "data/x.h5"]) == 0


@pytest.mark.parametrize("change", CHANGES)
def test_a_sweep_makes_new_runs_of_a_store_that_has_changed_and_says_so(project, capsys, change):
    assert main(["sweep", "s.yaml"]) == 0
    before = {path.name for path in Path("runs/s").iterdir() if path.name.startswith("x-")}
    capsys.readouterr()
    assert main(["sweep", "s.yaml"]) == 0
    assert not [line for line in said(capsys) if "changed" in line]
    CHANGES[change]("data/x.h5")
    capsys.readouterr()
    assert main(["sweep", "s.yaml"]) == 0
    (line,) = [line for line in said(capsys) if "changed" in line]
    assert "data/x.h5 has changed since 2 of the runs in runs/s were made from it" in line
    after = {path.name for path in Path("runs/s").iterdir() if path.name.startswith("x-")}
    assert before < after
    assert len(after) == 4


def test_two_stores_of_one_name_are_two_runs_of_a_sweep(project, capsys):
    for number, place in enumerate(("clip", "vst")):
        make_synthetic("tiny", _folder(place) / "feats.h5", samples=20, seed=number)
    Path("two.yaml").write_text("name: two\nexperiments: [e.yaml]\ngrid: {data.store: [clip/feats.h5, vst/feats.h5]}\n")
    assert main(["sweep", "two.yaml", "--dry-run"]) == 0
    assert len(set(capsys.readouterr().out.split())) == 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_report_says_that_a_store_has_changed_since(project, capsys, change):
    assert main(["run", "e.yaml", "output=runs/two", "train.seed=1"]) == 0
    assert main(["report", "runs", "--out", "before"]) == 0
    assert not [line for line in said(capsys) if "changed" in line]
    CHANGES[change]("data/x.h5")
    capsys.readouterr()
    assert main(["report", "runs", "--out", "after"]) == 0
    (line, _) = said(capsys)
    assert line.endswith("data/x.h5 has changed since runs/one and 1 more runs were made from it")
    assert "data/x.h5 has changed since" in Path("after/index.html").read_text()


def _folder(name):
    Path(name).mkdir()
    return Path(name)


def test_a_synthetic_store_is_made_before_a_sweep_names_its_runs(project):
    Path("e.yaml").write_text(EXPERIMENT.replace("data/x.h5", "data/y.h5, synthetic: tiny"))
    assert main(["sweep", "s.yaml"]) == 0
    assert main(["sweep", "s.yaml"]) == 0
    runs = [path.name for path in Path("runs/s").iterdir() if path.name.startswith("y-")]
    assert len(runs) == 2
    assert all(name.endswith(fingerprint_at("data/y.h5")[:8]) for name in runs)


# Runs of version 0.1


def as_of_the_first_version(run: Path, store: Path):
    """Take from a run's folder what version 0.1 did not write."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["fingerprint"], config["store_was_at"], config["versions"]["threads"]
    config["data"]["store"], config["versions"]["aqa"] = str(store), "0.1.0"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["files"], metrics["data"]
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_a_run_that_does_not_know_its_store_is_shown_and_says_so(project, capsys):
    as_of_the_first_version(Path("runs/one"), project / "data" / "x.h5")
    line = "runs/one was made by aqa 0.1.0, which did not record what was in its store"
    assert main(["run", "e.yaml", "output=runs/one"]) == 0
    assert line in said(capsys)
    assert main(["evaluate", "runs/one"]) == 0
    assert f"note: {line}" in capsys.readouterr().out
    assert main(["report", "runs", "--out", "page"]) == 0
    assert "runs/one was made by a version that did not record what was in the store" in said(capsys)


def test_a_sweep_of_the_first_version_is_gone_on_with_under_its_names(project, capsys):
    Path("s.yaml").write_text("name: s\nexperiments: [e.yaml]\nset: {train.threads: 1}\ngrid: {train.seed: [0, 1]}\n")
    assert main(["sweep", "s.yaml"]) == 0
    for run in Path("runs/s").glob("x-*"):
        as_of_the_first_version(run, project / "data" / "x.h5")
    for point in points_of(load_sweep("s.yaml"), project):
        Path("runs/s", point.name).rename(Path("runs/s", point.experiment.earlier_name))
    capsys.readouterr()
    assert main(["sweep", "s.yaml"]) == 0
    printed = capsys.readouterr()
    assert "2 runs in runs/s were made by aqa 0.1, which did not record what was in their store" in printed.err
    assert "2 done" in printed.out
    assert len(list(Path("runs/s").glob("x-*"))) == 2


# Files of another run


@pytest.mark.parametrize("name", ["checkpoint.pt", "config.yaml", "metrics.json"])
def test_a_file_of_another_run_is_refused_by_name(project, capsys, name):
    assert main(["run", "e.yaml", "output=runs/other", "data.modalities=[visual, audio]"]) == 0
    shutil.copy(Path("runs/other", name), Path("runs/one", name))
    for command in (
        ["evaluate", "runs/one"],
        ["predict", "runs/one", "--store", "data/x.h5", "--out", "p.csv"],
        ["card", "runs/one"],
    ):
        capsys.readouterr()
        assert main(command) == 2
        (line,) = said(capsys)
        assert line.startswith("aqa: runs/one/")
        assert "does not belong to metrics.json beside it" in line
    assert main(["report", "runs/one", "--out", "page"]) == 2
    assert "does not belong to metrics.json beside it" in said(capsys)[-1]


def test_a_state_of_another_run_is_refused(project, capsys, stopped_in_epoch):
    command = ["run", "e.yaml", *SMALL, "train.epochs=3"]
    for seed in range(2):
        with stopped_in_epoch(3):
            main([*command, f"output=runs/{seed}", f"train.seed={seed}"])
            raise KeyboardInterrupt
    shutil.copy("runs/1/state.pt", "runs/0/state.pt")
    capsys.readouterr()
    assert main([*command, "output=runs/0", "train.seed=0"]) == 2
    assert "runs/0/state.pt was saved by another run" in said(capsys)[-1]


def test_a_target_of_another_range_is_said_with_both(project, capsys):
    shutil.copy("data/x.h5", "data/y.h5")
    with h5py.File("data/y.h5", "r+") as file:
        labels = file["targets/score"]
        low, high = (float(bound) for bound in labels.attrs["range"])
        labels[:], labels.attrs["range"] = (labels[:] - low) / (high - low), (0.0, 1.0)
        del labels.attrs["crc32"]
    assert main(["evaluate", "runs/one", "--store", "data/y.h5", "--out", "m.json"]) == 0
    note = f"target 'score' is from 0 to 1 in data/y.h5, and from {low:g} to {high:g} in the run"
    assert f"note: {note}" in capsys.readouterr().out
    assert json.loads(Path("m.json").read_text())["notes"][0].startswith(note)


# A project that moves


def test_nothing_in_a_runs_folder_needs_the_place_where_it_was_made(project):
    config = yaml.safe_load(Path("runs/one/config.yaml").read_text())
    assert config["data"]["store"] == "../../data/x.h5"


@pytest.mark.parametrize("how", ["renamed", "copied", "linked"])
def test_a_project_that_moved_works_unchanged(project, capsys, monkeypatch, stopped_in_epoch, how):
    unfinished = ["run", "e.yaml", "output=runs/two", *SMALL, "train.epochs=3"]
    with stopped_in_epoch(3):
        main(unfinished)
        raise KeyboardInterrupt
    assert main(["sweep", "s.yaml"]) == 0
    names = sorted(os.listdir("runs/s"))
    moved = project.parent / "elsewhere" / "of another name"
    moved.parent.mkdir()
    {"renamed": os.rename, "copied": shutil.copytree, "linked": lambda a, b: b.symlink_to(a)}[how](project, moved)
    monkeypatch.chdir(moved)
    if how == "copied":
        shutil.rmtree(project)
    capsys.readouterr()
    assert main(unfinished) == 0
    assert "resuming after epoch 2" in capsys.readouterr().err
    assert main(["run", "e.yaml", "output=runs/one"]) == 0
    assert "is finished" in capsys.readouterr().err
    assert main(["sweep", "s.yaml"]) == 0
    assert sorted(os.listdir("runs/s")) == names
    assert main(["evaluate", "runs/one"]) == 0
    assert main(["card", "runs/one"]) == 0
    assert main(["report", "runs", "--out", "page"]) == 0
    assert not [line for line in said(capsys) if "changed" in line]


def test_a_run_alone_that_moved_finds_its_store_by_its_content(project, capsys):
    os.rename("runs/one", project.parent / "one")
    assert main(["evaluate", str(project.parent / "one")]) == 0
    mend_a_label("data/x.h5")
    capsys.readouterr()
    assert main(["evaluate", str(project.parent / "one")]) == 2
    (line,) = said(capsys)
    assert "is not found: looked for" in line
    assert "--store PATH" in line


def test_a_moved_run_takes_its_own_copy_of_the_store_and_says_that_it_has_changed(project, capsys, monkeypatch):
    shutil.copytree(project, project.parent / "copy")
    monkeypatch.chdir(project.parent / "copy")
    mend_a_label("data/x.h5")
    assert main(["evaluate", "runs/one"]) == 2
    assert "copy/data/x.h5 has changed since runs/one was made from it" in said(capsys)[-1]


# Threads


def test_threads_are_recorded_and_said_and_never_refused(project, capsys, stopped_in_epoch):
    command = ["run", "e.yaml", "output=runs/two", *SMALL, "train.epochs=3"]
    with stopped_in_epoch(3):
        main([*command, "train.threads=1"])
        raise KeyboardInterrupt
    assert RunFolder("runs/two").versions["threads"] == "1"
    capsys.readouterr()
    before = torch.get_num_threads()
    assert main([*command, "train.threads=2"]) == 0
    assert torch.get_num_threads() == before  # the next run of this process chooses for itself
    line = "begun with 1 CPU threads, resumed with 2: numbers may differ in their last digits"
    assert line in said(capsys)
    assert line in Path("runs/two/log.txt").read_text()
    assert main([*command, "train.threads=3"]) == 0
    assert "is finished" in said(capsys)[0]


# Two processes in one folder


@pytest.mark.parametrize("second", [[], ["--overwrite"], ["train.seed=5"], ["train.seed=5", "--overwrite"]], ids=str)
def test_a_second_run_in_a_folder_says_who_has_it(project, capsys, monkeypatch, second):
    command = ["run", "e.yaml", "output=runs/two"]
    plain, outcomes = aqa.runs.run.epoch_line, []

    def meanwhile(row):
        if not outcomes:
            outcomes.append(None)
            outcomes[0] = main([*command, *second])
        return plain(row)

    monkeypatch.setattr("aqa.runs.run.epoch_line", meanwhile)
    assert main(command) == 0
    assert outcomes == [2]
    line = next(line for line in said(capsys) if "in use" in line)
    assert f"runs/two is in use by process {os.getpid()} on " in line
    assert "output=DIR" in line
    assert Path("runs/two/log.txt").read_text().count("epoch 1:") == 1
    assert RunFolder("runs/two").config["train"]["seed"] == 0
    assert not [name for name in os.listdir("runs/two") if name.startswith(".")]


def test_a_sweep_leaves_a_run_alone_that_another_process_has(project):
    (point, _) = points_of(load_sweep("s.yaml"), project)
    folder = SweepFolder(Path("runs/s"))
    folder.make()
    with RunFolder(folder.run(point.name)).held(print):
        assert folder.state(point.name) == "running"
        assert not run_if_free([point], folder)
    assert folder.state(point.name) == "waiting"


def test_what_a_killed_process_left_of_its_lock_is_no_hindrance(project):
    for name in (".running.lock", ".running.json"):
        Path("runs/two").mkdir(exist_ok=True)
        Path("runs/two", name).touch()
    assert main(["run", "e.yaml", "output=runs/two"]) == 0


def test_a_folder_without_locks_is_said_and_used(project, capsys, monkeypatch):
    @contextlib.contextmanager
    def without(*arguments, **options):
        raise OSError(errno.ENOLCK, "No locks available")
        yield

    monkeypatch.setattr("aqa.runs.folder.claimed", without)
    assert main(["run", "e.yaml", "output=runs/two"]) == 0
    assert "runs/two is on a file system without locks" in capsys.readouterr().err


# A store that changes while it is read


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_a_store_that_changes_under_a_streamed_run_stops_it(project, capsys, monkeypatch, how):
    """It is read anew in every epoch, and what was saved before stays."""
    command = ["run", "e.yaml", "output=runs/two", *SMALL, "train.epochs=3", "train.batch_size=4"]
    command += ["data.memory=0.00013"]  # GiB: not all of its features
    make_synthetic("tiny", "y.h5", samples=30, seed=4)
    before, plain = Path("data/x.h5").read_bytes(), aqa.runs.run.epoch_line

    def changing(row):
        with open("data/x.h5", "r+b") as file:
            if how == "overwritten":
                file.write(Path("y.h5").read_bytes())
            file.truncate(file.tell() or 20_000)
        return plain(row)

    with monkeypatch.context() as patch:
        patch.setattr("aqa.runs.run.epoch_line", changing)
        patch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
        assert main(command) == 2
    assert "data/x.h5 was changed while it was being read" in said(capsys)[-1]
    assert RunFolder("runs/two").status == "unfinished"
    assert main(command) == 2  # it is not the store of the run
    Path("data/x.h5").write_bytes(before)
    capsys.readouterr()
    assert main(command) == 0
    assert "resuming after epoch 1" in capsys.readouterr().err
