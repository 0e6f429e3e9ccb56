"""Sweeps and searches for agents of Weights & Biases: the runs that they would make, by the metric that selects."""

import itertools

import pytest

from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.store.fingerprint import fingerprint_at
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.grid import Sweep, points_of
from aqa.sweeps.searches import load_tune, searches_of
from aqa.sweeps.wandb_agents import wandb_searches, wandb_sweeps


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two base experiments, of which one lists its targets."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=8)
    (tmp_path / "one.yaml").write_text("name: one\ndata: {store: tiny.h5, target: score}\n")
    (tmp_path / "two.yaml").write_text(
        "name: two\ndata: {store: tiny.h5, target: A}\ntargets:\n  A: {train: {epochs: 5}}\n  B: {train: {epochs: 6}}\n"
    )
    return tmp_path


def exported(folder, method="grid", **settings):
    sweep = Sweep.model_validate({"name": "s", "experiments": ["one.yaml"], "grid": {"train.seed": [0, 1]}, **settings})
    return wandb_sweeps(sweep, folder, method)["one"]


def test_a_wandb_agent_runs_what_the_sweep_would(folder):
    content = {"grid": {"data.target": "all", "missing.train": [{"rates": 0.3}, "none"], "train.seed": [0, 1]}}
    sweep = Sweep.model_validate({"name": "s", "experiments": ["two.yaml"], "set": {"train.epochs": 3}, **content})
    exported = wandb_sweeps(sweep, folder)["two"]
    assert exported["parameters"]["data.target"] == {"values": ["A", "B"]}
    ours = {p.name for p in points_of(sweep, folder)}
    theirs = set()
    for values in itertools.product(*(p["values"] for p in exported["parameters"].values())):
        arguments = [f"{key}={value}" for key, value in zip(exported["parameters"], values, strict=True)]
        _, _, _, file, *common, _ = exported["command"]
        theirs.add(load_experiment(file, [*common, *arguments]).unique_name(fingerprint_at("tiny.h5")))
    assert exported["command"][:3] == ["${env}", "aqa", "run"]
    assert theirs == ours
    assert len(ours) == 8


@pytest.mark.parametrize(
    "what", [{"rules": [{"when": {}, "set": {}}]}, {"grid": {"variant": {"a": {}}}}, {"vectorize": "seeds"}]
)
def test_what_a_wandb_sweep_cannot_say_is_refused(folder, what):
    with pytest.raises(AqaError, match="a sweep of Weights & Biases knows no"):
        wandb_sweeps(Sweep.model_validate({"name": "s", "experiments": ["one.yaml"], **what}), folder)


@pytest.mark.parametrize(
    ("settings", "metric"),
    [
        ({}, {"name": "valid_srcc", "goal": "maximize"}),
        ({"select.metric": "mse"}, {"name": "valid_mse", "goal": "minimize"}),
        ({"select.split": "test"}, {"name": "test_srcc", "goal": "maximize"}),
    ],
)
def test_agents_go_by_the_metric_that_selects(folder, settings, metric):
    assert exported(folder, "bayes", set=settings)["metric"] == metric


def test_every_method_of_weights_and_biases_may_be_asked_for(folder):
    assert [exported(folder, method)["method"] for method in ("grid", "random", "bayes")] == ["grid", "random", "bayes"]
    with pytest.raises(AqaError, match=r"method is 'tpe'; Weights & Biases has grid, random and bayes"):
        exported(folder, "tpe")


def test_a_search_is_exported_with_its_space_and_budget(folder):
    (folder / "t.yaml").write_text(
        "name: t\nexperiments: [one.yaml]\ntrials: 9\nset: {train.epochs: 3}\nspace:\n"
        "  train.learning_rate: {log: [1e-4, 1e-2]}\n  model.dropout: {float: [0, 0.5]}\n"
        "  model.n_encoder: {int: [1, 3]}\n  train.optimizer: [adam, adamw]\n"
    )
    file = load_tune("t.yaml")
    (content,) = wandb_searches(file.plan, searches_of(file)).values()
    assert content["parameters"] == {
        "train.learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "model.dropout": {"distribution": "uniform", "min": 0, "max": 0.5},
        "model.n_encoder": {"distribution": "int_uniform", "min": 1, "max": 3},
        "train.optimizer": {"values": ["adam", "adamw"]},
    }
    assert (content["name"], content["method"], content["run_cap"]) == ("t-one-mcmoe", "bayes", 9)
    assert "train.epochs=3" in content["command"]
    with pytest.raises(AqaError, match=r"needs a list of values for train\.learning_rate, not a range"):
        wandb_searches(file.plan, searches_of(file), "grid")
