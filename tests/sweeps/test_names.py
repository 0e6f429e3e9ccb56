"""Names that look like something else in YAML stay what they are, from the sweep to the report."""

from pathlib import Path

import numpy as np
import pandas as pd

import aqa
from aqa.config.dialect import dump
from aqa.config.load import load_experiment
from aqa.runs.folder import RunFolder
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from aqa.sweeps.grid import load_sweep, points_of

TARGETS = [
    *("NO", "on", "null", "true", "1", "1_000", "0x1F", ".inf", "2024-01-01", "12:30:45", "-", "~", "?", ":", ",", "&"),
    *("*", "!", "%", "@", "\\", "`", "<<", "[x]", "{seed}", "a: b", "score #2", "- a", "1e-4", "'quoted'", '"quoted"'),
]


def write(folder, targets):
    """A small store whose modalities' initials are N and O, and an experiment file beside it."""
    draws = np.random.default_rng(0)
    ids = [f"v{i}" for i in range(20)]
    write_store(
        folder / "small.h5",
        name="small",
        source="drawn",
        ids=ids,
        modalities={name: Modality(3, np.full(20, 4)) for name in ("neural", "optical")},
        targets={name: Target(draws.uniform(0, 10, 20), 0.0, 10.0) for name in targets},
        splits={"train": range(10), "valid": range(10, 15), "test": range(15, 20)},
        read=lambda modality, row: draws.normal(size=(4, 3)),
    )
    experiment = {
        "name": "x",
        "data": {"store": str(folder / "small.h5"), "target": targets[0]},
        "model": {"name": "ridge"},
        "missing": {"test": ["NO"]},
    }
    (folder / "x.yaml").write_text(dump(experiment))


def test_every_target_of_a_store_is_a_run_of_its_own(tmp_path):
    write(tmp_path, TARGETS)
    (tmp_path / "s.yaml").write_text(dump({"name": "s", "experiments": ["x.yaml"], "grid": {"data.target": "all"}}))
    listed = aqa.sweep(tmp_path / "s.yaml", dry_run=True)
    assert len(listed.states) == len(TARGETS)


def test_runs_of_such_targets_are_resumed_and_reported_under_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["1_000", "seeds #2"]
    write(tmp_path, names)
    (tmp_path / "s.yaml").write_text("name: null\nexperiments: [x.yaml]\ngrid: {data.target: all}\n")
    for point in points_of(load_sweep("s.yaml"), tmp_path):
        target = point.experiment.data.target
        folder = RunFolder(Path("runs") / "null" / point.name)
        for again in (False, True):
            content = point.experiment.resolved()
            assert aqa.run(content, {"output": str(folder.path)}).already_finished == again
        assert (folder.config["data"]["target"], folder.config["missing"]["test"]) == (target, ["NO"])
        assert load_experiment(folder.config).data.target == target
    result = aqa.sweep("s.yaml")  # which finds every run done
    assert (set(result.states.values()), result.folder) == ({"done"}, Path("runs/null"))
    assert set(result.numbers["target"]) == set(names)
    page = aqa.report(["runs"], "report")
    table = pd.read_csv(page.parent / "tables.csv", dtype=str, keep_default_na=False)
    assert {name.removeprefix("'") for name in table["target"]} >= set(names)
