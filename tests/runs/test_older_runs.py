"""Runs that recorded only the options that they were given score as they did, though defaults are others since."""

import re

import pytest
import torch
import yaml

import aqa
from aqa.errors import AqaError
from aqa.models import check, options_of_run
from aqa.runs.folder import RunFolder
from aqa.store.synthetic import make_synthetic

MODELS = {
    "actionmae": (
        {"hidden_dim": 8, "n_temporal": 1, "n_encoder": 1, "n_decoder": 1, "n_fusion": 1},
        {"fusion": "transformer", "fusion_norm": True, "position": "sinusoid", "norm_eps": 1e-5},
    ),
    "dimml": (
        {"hidden_dim": 8, "n_encoder": 1},
        {"joined_epochs": 0.0, "joined_layers": 2, "certainty": "spread", "contrast_temperature": 1.0},
    ),
    "momke": ({"hidden_dim": 8, "n_encoder": 1}, {"stage_epochs": 10.0}),
    "simmlm": ({"hidden_dim": 8, "n_encoder": 1}, {"pairs": "visible"}),
    "grade_decoder": ({"hidden_dim": 8, "n_decoder": 1}, {"position": "query"}),
    "late_fusion": ({"hidden_dim": 8, "n_decoder": 1}, {"position": "query"}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("data") / "tiny.h5", samples=40)


def run(store, folder, name, **options):
    return aqa.run(
        {
            "name": "older",
            "data": {"store": str(store), "target": "score"},
            "model": {"name": name, **options},
            "missing": {"train": "none", "test": ["VAF", "VA"]},
            "train": {"epochs": 1, "batch_size": 16, "threads": 1},
            "output": str(folder),
        }
    )


def as_older_runs_were(folder, given):
    """Leave of the model's options only those that were given, in config.yaml and in the checkpoint."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["model_options"]
    config["model"] = {"name": config["model"]["name"], **given}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    checkpoint["options"] = given
    torch.save(checkpoint, folder / "checkpoint.pt")
    metrics = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(re.sub(r'"files": \{[^}]*\}', '"files": {}', metrics))


@pytest.mark.parametrize("name", MODELS)
def test_an_older_run_scores_as_it_did(store, tmp_path, name):
    given, before = MODELS[name]
    made = run(store, tmp_path / "run", name, **given, **before)
    as_older_runs_were(tmp_path / "run", given)
    again = aqa.evaluate(tmp_path / "run")
    for pattern in ("VAF", "VA"):
        assert again.metrics["patterns"][pattern] == made.metrics["patterns"][pattern]


@pytest.mark.parametrize("name", MODELS)
def test_an_older_run_is_another_experiment_where_a_default_has_changed(store, tmp_path, name):
    given, before = MODELS[name]
    run(store, tmp_path / "run", name, **given, **before)
    as_older_runs_were(tmp_path / "run", given)
    changed = next(iter(before))
    with pytest.raises(AqaError, match=f"holds another experiment \\(model.{changed} is {before[changed]!r} there"):
        run(store, tmp_path / "run", name, **given)
    assert run(store, tmp_path / "run", name, **given, **before).already_finished


def test_an_older_run_of_a_network_that_is_gone_is_refused(store, tmp_path):
    run(store, tmp_path / "run", "pamfn", hidden_dim=8, embedding_dim=8, n_fusion=2)
    as_older_runs_were(tmp_path / "run", {"hidden_dim": 8, "n_fusion": 2})
    with pytest.raises(AqaError, match="model 'pamfn' is another network since this run was made; train it again"):
        aqa.evaluate(tmp_path / "run")


def test_a_run_records_every_option_of_its_model(store, tmp_path):
    run(store, tmp_path / "run", "grade_decoder", hidden_dim=8)
    expected = check("grade_decoder", {"hidden_dim": 8})
    assert RunFolder(tmp_path / "run").model_options == expected
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["options"] == expected
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"] == {"name": "grade_decoder", "hidden_dim": 8}  # as it was given
    assert run(store, tmp_path / "run", "grade_decoder", hidden_dim=8, dropout=0.3).already_finished


def test_options_that_are_recorded_stay():
    assert options_of_run("grade_decoder", {"position": "none"})["position"] == "none"
    assert options_of_run("grade_decoder", {})["position"] == "query"
