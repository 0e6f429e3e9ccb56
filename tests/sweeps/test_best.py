"""`aqa sweep --best`: picked by validation alone."""

import json

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.runs.folder import RunFolder
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.best import above_others, best_text
from aqa.sweeps.folder import SweepFolder


@pytest.fixture
def swept(tmp_path, monkeypatch, in_this_process, request):
    """A folder for a sweep of ridge: two penalties, two seeds; on 24 videos where a test does not say otherwise."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=getattr(request, "param", 24))
    experiment = {
        "name": "one",
        "data": {"store": "tiny.h5", "target": "score"},
        "model": {"name": "ridge"},
        "missing": {"test": ["VA", "V"]},
        "evaluate": {"metrics": ["mae"], "intervals": False},
    }
    (tmp_path / "one.yaml").write_text(json.dumps(experiment))
    grid = {"model.alphas": [[1.0], [1e6]], "train.seed": [0, 1]}
    (tmp_path / "s.yaml").write_text(json.dumps({"name": "s", "experiments": ["one.yaml"], "grid": grid}))
    return tmp_path


def change(run, **selection):
    """Let a run say that it was selected otherwise."""
    metrics = RunFolder(run).metrics
    metrics["selection"] |= selection
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_the_best_is_that_of_the_best_validation_value_whatever_it_reaches_on_test(swept):
    result = aqa.sweep("s.yaml")
    validation = result.numbers.drop_duplicates("run").groupby("model.alphas")["selection_value"].mean()
    weaker = validation.idxmin()
    assert f"model.alphas={validation.idxmax()}, the best of 2 by validation" in str(aqa.sweep("s.yaml", best=True))
    for run in result.numbers.loc[result.numbers["model.alphas"] == weaker, "run"].unique():
        change(swept / "runs" / "s" / run, value=0.999)
    lines = str(aqa.sweep("s.yaml", best=True)).splitlines()
    assert lines[0] == f"score: model.alphas={weaker}, the best of 2 by validation (SRCC 0.999 on valid)"
    assert [line.split()[:2] for line in lines[1:4]] == [["test", "VA:"], ["test", "V:"], ["test", "average:"]]
    best = result.numbers[(result.numbers["model.alphas"] == weaker) & (result.numbers["pattern"] == "VA")]
    assert f"; MAE {best['mae'].mean():.3f}" in lines[1]
    assert "MAE" not in lines[3]
    assert len(lines) == 6  # and the folders of its two runs
    table = str(aqa.sweep("s.yaml", status=True))
    assert table.index("SRCC 0.999") < table.index(f"SRCC {validation.max():.3f}")


def test_what_was_selected_on_test_is_not_picked(swept):
    result = aqa.sweep("s.yaml")
    runs = [swept / "runs" / "s" / name for name in result.states]
    for run in runs[:2]:
        change(run, split="test", value=1.0)
    text = str(aqa.sweep("s.yaml", best=True))
    assert "the best of 1 by validation" in text
    assert "not picked from: 1 settings whose epochs were selected on the TEST split" in text
    for run in runs[2:]:
        change(run, split="test", value=1.0)
    assert "score: no setting has a validation value" in str(aqa.sweep("s.yaml", best=True))


def test_what_was_selected_on_videos_that_were_learned_from_is_not_picked_and_comes_last(swept):
    result = aqa.sweep("s.yaml")
    runs = [swept / "runs" / "s" / name for name in result.states]
    for run in runs[:2]:
        change(run, split="train", value=0.999)
    text = str(aqa.sweep("s.yaml", best=True))
    assert "the best of 1 by validation" in text
    assert "0.999" not in text
    assert "not picked from: 1 settings whose epochs were selected on the training videos" in text
    listed = str(aqa.sweep("s.yaml", status=True)).splitlines()[2:6]
    assert ["SRCC 0.999" in line for line in listed] == [False, False, True, True]


def test_nothing_is_picked_before_a_run_is_done(swept):
    assert str(aqa.sweep("s.yaml", best=True)) == "no run is done yet"
    assert best_text(aqa.sweep("s.yaml", best=True).numbers, SweepFolder(swept)) == "no run is done yet"
    assert not (swept / "runs").exists()


@pytest.mark.parametrize("swept", [80], indirect=True)
def test_a_setting_that_is_above_every_other_one_by_the_paired_test_has_a_star(swept):
    result = aqa.sweep("s.yaml")
    folder = SweepFolder(swept / "runs" / "s")
    for name in result.states:
        path = folder.run(name) / "predictions.csv"
        table = pd.read_csv(path, dtype={"id": str})
        is_first = RunFolder(folder.run(name)).config["model"]["alphas"] == [1.0]
        noisy = table["label"] + np.random.default_rng(0).normal(0, table["label"].std(), len(table))
        table["score"] = noisy if is_first else -noisy
        table.to_csv(path, index=False)
    text = str(aqa.sweep("s.yaml"))
    (header,) = [line for line in text.splitlines() if line.startswith("SRCC, mean")]
    assert header.endswith("; *: above every other setting of the target by the paired test")
    starred = [line for line in text.split(header)[1].splitlines() if " *" in line]
    assert len(starred) == 1
    assert starred[0].startswith("[1.0]")
    assert starred[0].count(" *") == 3
    assert " *" not in str(aqa.sweep("s.yaml", status=True))


def test_settings_that_were_tested_on_different_videos_are_not_compared(swept):
    result = aqa.sweep("s.yaml")
    folder = SweepFolder(swept / "runs" / "s")
    path = folder.run(next(iter(result.states))) / "predictions.csv"
    table = pd.read_csv(path, dtype={"id": str})
    table["label"] += 1.0
    table.to_csv(path, index=False)
    assert above_others(result.numbers, folder) == {}


def test_a_setting_alone_is_compared_with_none_and_its_predictions_are_not_read(swept):
    result = aqa.sweep("s.yaml")
    folder = SweepFolder(swept / "runs" / "s")
    for name in result.states:
        (folder.run(name) / "predictions.csv").unlink()
    alone = result.numbers[result.numbers["model.alphas"] == result.numbers["model.alphas"].iloc[0]]
    assert alone["seed"].nunique() > 1
    assert above_others(alone, folder) == {}
