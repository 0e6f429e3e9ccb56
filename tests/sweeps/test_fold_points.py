"""Cross-validations in a sweep: folds are runs of their own, and are gathered when all are done."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

import aqa
from aqa.runs.folder import RunFolder
from aqa.store.store import Modality, Target
from aqa.sweeps import fold_points as module
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import load_sweep, points_of

N = 18


@pytest.fixture
def sweep_file(tmp_path):
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(N, 2, 2))
    aqa.write_store(
        tmp_path / "s.h5",
        name="clinic",
        source="a test",
        ids=[f"v{i:02d}" for i in range(N)],
        modalities={"visual": Modality(2, np.full(N, 2))},
        targets={"grade": Target(clips[:, :, 0].mean(axis=1), -9, 9)},
        splits={},
        groups={"patient": [str(i // 2) for i in range(N)]},
        read=lambda modality, row: clips[row],
    )
    base = {
        "name": "x-{seed}",
        "data": {"store": str(tmp_path / "s.h5"), "target": "grade", "folds": {"count": 3, "group": "patient"}},
        "model": {"name": "ridge"},
        "missing": {"train": "none", "test": ["V"]},
        "train": {"threads": 1},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(base))
    plan = {
        "name": "s",
        "experiments": ["e.yaml"],
        "output": str(tmp_path / "runs"),
        "grid": {"model.alphas": [[1.0], [100.0]]},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(plan))
    return tmp_path / "s.yaml"


def test_a_sweep_runs_every_fold_once_and_gathers_them(sweep_file, in_this_process):
    result = aqa.sweep(sweep_file)
    assert len(in_this_process) == 6
    assert {name.rpartition("/")[2] for name in in_this_process} == {"fold0", "fold1", "fold2"}
    assert list(result.states.values()) == ["done", "done"]
    assert "6 done, 0 running, 0 failed, 0 waiting" in str(result)
    numbers = pd.read_csv(result.folder / "results.csv")
    assert numbers.loc[numbers["pattern"] == "V", "n"].tolist() == [N, N]
    alone = aqa.run(sweep_file.parent / "e.yaml", {"model.alphas": [1.0], "output": str(sweep_file.parent / "alone")})
    assert numbers["srcc"][0] == pytest.approx(alone.metrics["patterns"]["V"]["srcc"])
    in_this_process.clear()
    assert aqa.sweep(sweep_file).exit_status == 0
    assert in_this_process == []


def test_a_fold_that_fails_is_listed_and_the_others_are_kept(sweep_file, in_this_process, monkeypatch):
    from aqa.errors import AqaError
    from aqa.runs.run import run_loaded

    def failing(config, *arguments, **further):
        if config.data.folds.fold == 1 and config.model.options["alphas"] == [1.0]:
            raise AqaError("no room")
        return run_loaded(config, *arguments, **further)

    with monkeypatch.context() as patch:
        patch.setattr("aqa.runs.run.run_loaded", failing)
        result = aqa.sweep(sweep_file)
    assert list(result.states.values()) == ["failed", "done"]
    assert [line.split(":")[0].rpartition("/")[2] for line in result.failures] == ["fold1"]
    assert result.failures[0].split(": ")[1].startswith("no room")
    in_this_process.clear()
    assert list(aqa.sweep(sweep_file, retry=True).states.values()) == ["done", "done"]
    assert len(in_this_process) == 1


def test_states_follow_the_folds(sweep_file, in_this_process):
    points = points_of(load_sweep(sweep_file), sweep_file.parent)
    folder = SweepFolder(sweep_file.parent / "runs")
    folder.make()
    first = points[0]
    assert module.state_of(first, folder) == "waiting"
    with folder.claimed(module.fold_points(first)[1].name):
        assert module.state_of(first, folder) == "running"
    aqa.sweep(sweep_file)
    assert module.state_of(first, folder) == "done"
    assert RunFolder(folder.run(first.name)).metrics["folds"]["count"] == 3


def test_folds_that_the_store_does_not_allow_are_said_by_the_run(sweep_file, in_this_process):
    base = yaml.safe_load((sweep_file.parent / "e.yaml").read_text())
    base["data"]["folds"] = {"leave_out": "surgeon"}
    (sweep_file.parent / "e.yaml").write_text(yaml.safe_dump(base))
    result = aqa.sweep(sweep_file)
    assert list(result.states.values()) == ["failed", "failed"]
    assert "has no group 'surgeon': did you mean" in result.failures[0] or "known: patient" in result.failures[0]
