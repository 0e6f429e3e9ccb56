"""Exported runs: what is in the folder, that it scores as the run does, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

import aqa
from aqa.cli import main
from aqa.errors import AqaError


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("zero_fill", {}),
        ("zero_fill", {"train.ensemble": 2}),
        ("ridge", {"data.folds": {"count": 2}}),
        ("gaussian_process", {"model.iterations": 2}),
    ],
    ids=["network", "seeds", "folds", "process"],
)
def test_the_exported_folder_scores_as_the_run_does(path, made, tmp_path, model, changes):
    run, out = made(model, **changes), tmp_path / "out"
    assert main(["export", str(run), "--format", "safetensors", "--out", str(out)]) == 0
    assert {file.name for file in out.iterdir()} == {"README.md", "config.json", "model.safetensors", "predictions.csv"}
    expected, found = aqa.predict(run, path), aqa.predict(out, path)
    for column in expected:
        np.testing.assert_array_equal(found[column], expected[column])
    video = {"visual": np.ones((4, 3))}
    assert aqa.load(out).interval(video) == aqa.load(run).interval(video)


def test_the_card_has_metadata_and_how_to_load_it(made, tmp_path):
    text = (aqa.export(made(), tmp_path / "out") / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["library_name"] == "aqa"
    assert "zero_fill" in about["tags"]
    (entry,) = about["model-index"]
    metrics = json.loads((made() / "metrics.json").read_text())
    values = {each["name"]: each["value"] for each in entry["results"][0]["metrics"]}
    assert values["SRCC, V"] == metrics["patterns"]["V"]["srcc"]
    assert body.startswith("\n# Model card: x\n")
    assert 'scorer.score({"visual": x, "audio": y})' in body


def test_the_card_of_a_cross_validation_says_what_was_tested(made, tmp_path):
    text = (aqa.export(made("ridge", **{"data.folds": {"count": 2}}), tmp_path / "out") / "README.md").read_text()
    assert "The mean of 2 models ridge" in text
    assert "The mean of all models was not tested on any video." in text


def test_other_programs_find_the_weights_by_name(made, tmp_path):
    out = aqa.export(made(), tmp_path / "out")
    tensors, told = load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text())
    assert told["streams"] == {"visual": 3, "audio": 2}
    assert told["checkpoints"][0]["options"]["hidden_dim"] == 4
    assert tensors["checkpoints.0.weights.join.weight"].shape == (4, 8)
    assert tensors["checkpoints.0.statistics.visual.0"].shape == (3,)


def test_nothing_is_overwritten_unasked_and_other_files_stay(made, tmp_path):
    out = aqa.export(made(), tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    (out / "README.md").write_text("answered")
    with pytest.raises(AqaError, match=r"README\.md exists; choose another folder, or replace it with --overwrite"):
        aqa.export(made(), out)
    assert (out / "README.md").read_text() == "answered"
    aqa.export(made(), out, overwrite=True)
    assert (out / "README.md").read_text() != "answered"
    assert (out / "notes.txt").read_text() == "mine"


def test_what_cannot_be_exported_is_one_line(made, tmp_path, capsys):
    assert main(["export", str(made()), "--format", "safetensor", "--out", str(tmp_path / "out")]) == 2
    assert "--format safetensor: did you mean 'safetensors'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(AqaError, match="is no run's folder"):
        aqa.export(tmp_path, tmp_path / "out")


def damaged(change, out):
    told = json.loads((out / "config.json").read_text())
    change(told)
    (out / "config.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda told: told.update(format="other"), "config.json: format other is not aqa-export-1"),
        (lambda told: told.update(checkpoints=[]), "checkpoints: needs at least 1 entry"),
        (lambda told: told["checkpoints"][0].update(clips=-1), "config.json: clips: must be more than 0"),
        (lambda told: told["checkpoints"][0].update(model="mcmo"), "unknown model 'mcmo'"),
        (lambda told: told["checkpoints"][0]["options"].update(hidden_dim=8), "weights do not fit"),
        (lambda told: told["checkpoints"][0]["options"].update(hidden_dim=10**6), "larger model than its weights"),
        (
            lambda told: told["checkpoints"][0]["weights"].update(x={"tensor": "gone"}),
            "model.safetensors has no tensor 'gone', which config.json names",
        ),
    ],
)
def test_a_changed_configuration_is_one_line(made, tmp_path, change, message):
    out = aqa.export(made(), tmp_path / "out")
    damaged(change, out)
    with pytest.raises(AqaError, match=message) as error:
        aqa.load(out)
    assert "\n" not in str(error.value)


def test_weights_that_are_damaged_or_pickled_are_one_line(made, tmp_path):
    out = aqa.export(made(), tmp_path / "out")
    whole = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AqaError, match="is not what aqa export writes"):
        aqa.load(out)
    shutil.copy(made() / "checkpoint.pt", out / "model.safetensors")
    with pytest.raises(AqaError, match="is not what aqa export writes"):
        aqa.load(out)
    tensors = {}
    (out / "model.safetensors").write_bytes(whole)
    tensors = load_file(out / "model.safetensors")
    tensors["checkpoints.0.weights.join.weight"][:] = np.nan
    save_file(tensors, out / "model.safetensors")
    with pytest.raises(AqaError, match=r"the weights 'join\.weight' hold NaN"):
        aqa.load(out)
