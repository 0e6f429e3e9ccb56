"""`aqa.sweep`, the Python twin of `aqa sweep`."""

import pandas as pd
import pytest
import yaml

import aqa
from aqa.errors import AqaError
from aqa.store.synthetic import make_synthetic


@pytest.fixture(scope="module")
def swept(tmp_path_factory, sweeping_here):
    """A folder with a sweep of two runs of ridge, of which one fails; its result, and what it said."""
    folder = tmp_path_factory.mktemp("sweep")
    make_synthetic("tiny", folder / "tiny.h5", samples=12)
    experiment = {
        "name": "one",
        "data": {"store": str(folder / "tiny.h5"), "target": "score"},
        "model": {"name": "ridge"},
        "missing": {"test": ["VA", "V"]},
    }
    (folder / "one.yaml").write_text(yaml.safe_dump(experiment))
    sweep = {
        "name": "s",
        "experiments": ["one.yaml"],
        "output": str(folder / "runs"),
        "grid": {"case": {"right": {}, "wrong": {"data.modalities": ["visual", "smell"]}}},
    }
    (folder / "s.yaml").write_text(yaml.safe_dump(sweep))
    said = []
    with sweeping_here():
        return folder, aqa.sweep(folder / "s.yaml", say=said.append), said


def test_it_returns_the_states_numbers_and_failures_and_prints_the_table(swept):
    folder, result, said = swept
    assert isinstance(result, aqa.SweepResult)
    assert list(result.states.values()) == ["done", "failed"]
    assert result.folder == folder / "runs"
    assert list(result.numbers["pattern"]) == ["VA", "V", "average"]
    (failure,) = result.failures
    assert "smell" in failure
    assert result.exit_status == 1
    assert "case=right" in str(result)
    assert "1 done, 0 running, 1 failed, 0 waiting" in str(result)
    assert said[0] == f"failed: {failure}"
    assert said[1].startswith("to retry failed runs")
    written = pd.read_csv(folder / "runs" / "results.csv")
    assert written["srcc"].tolist() == pytest.approx(result.numbers["srcc"].tolist())


def test_a_dry_run_lists_the_runs_and_touches_nothing(swept):
    folder, result, _ = swept
    before = sorted(folder.rglob("*"))
    listed = aqa.sweep(folder / "s.yaml", dry_run=True)
    assert str(listed).splitlines() == list(result.states)
    assert listed.states == result.states
    assert sorted(folder.rglob("*")) == before


def test_a_status_runs_nothing(swept):
    folder, result, _ = swept
    said = []
    seen = aqa.sweep(folder / "s.yaml", status=True, say=said.append)
    assert seen.states == result.states
    assert not any(line.startswith("to retry") for line in said)


def test_an_export_says_how_to_start_each_file_and_overwrites_none(swept, tmp_path):
    folder, *_ = swept
    plan = {"name": "w", "experiments": [str(folder / "one.yaml")], "grid": {"train.seed": [0, 1]}}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(plan))
    exported = aqa.sweep(tmp_path / "w.yaml", export_wandb=tmp_path / "agents")
    path = tmp_path / "agents" / "w-one.yaml"
    assert str(exported) == f"{path}: start it with `wandb sweep {path}`, then `wandb agent` on each machine"
    assert exported.exit_status == 0
    assert yaml.safe_load(path.read_text())["parameters"] == {"train.seed": {"values": [0, 1]}}
    with pytest.raises(AqaError, match="exists; name another folder"):
        aqa.sweep(tmp_path / "w.yaml", export_wandb=tmp_path / "agents")


def test_the_number_of_jobs_is_checked_in_python_too(swept):
    with pytest.raises(AqaError, match=r"^jobs is 0; it must be 1 or more$"):
        aqa.sweep(swept[0] / "s.yaml", jobs=0)
