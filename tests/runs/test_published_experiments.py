"""Experiments with their authors' settings: every target loads and would run; rates are those of their code."""

import math
from pathlib import Path

import pytest
import torch
import yaml

import aqa
from aqa.features.cache import FeatureLoader
from aqa.models import build
from aqa.runs.load import load
from aqa.runs.prepare import prepare
from aqa.store.synthetic import make_synthetic
from aqa.training.optimizers import optimizer_of
from aqa.training.schedules import scheduler_of, stage_of, stages_of
from tests.models.tiny_llm import NEEDS_LLM, without_default

FOLDER = Path(__file__).parents[2] / "experiments" / "published"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
TARGETS = {
    "fisv": ["TES", "PCS"],
    "rg": ["Ball", "Clubs", "Hoop", "Ribbon"],
    "fs1000": ["TES", "PCS", "SS", "TR", "PE", "CO", "IN"],
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A few synthetic videos with the channels of each data set."""
    folder = tmp_path_factory.mktemp("data")
    return {name: make_synthetic(name, folder / f"{name}.h5", samples=4) for name in TARGETS}


def silent(_):
    pass


def experiment(name, target, store, **changes):
    changes = {"data.target": target, "data.store": str(store), **changes}
    return load(FOLDER / f"{name}.yaml", changes, silent)


def rates(config, epochs):
    """The learning rates of all groups in some epochs, counted from 1."""
    model = build(config.model.name, widths={"visual": 4, "audio": 4, "flow": 4}, **config.model.options)
    model.epochs = config.train.epochs
    stages, found = stages_of(model, config.train), {}
    for stage in stages:
        optimizer = optimizer_of(model, stage.settings)
        schedule = scheduler_of(optimizer, stage.settings)
        for epoch in range(stage.first, stage.first + stage.settings.epochs):
            assert stage_of(stages, epoch) == stage
            found[epoch] = [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
            schedule.step()
    return [found[epoch] for epoch in epochs]


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS_LLM if "limssr" in name else ()) for name in FILES])
def test_every_target_of_every_file_would_run(name, stores):
    method, _, data_set = name.rpartition("_")
    llm = {f"model.{key}": value for key, value in without_default(method).items()}
    for target in TARGETS[data_set]:
        config = experiment(name, target, stores[data_set])
        assert config.select.split == "test"
        small = experiment(name, target, stores[data_set], **{"data.clips": 8}, **llm)
        prepared = prepare(small, FeatureLoader(), silent)
        assert prepared.scorer.model.parameter_count > 1e6 or llm
        assert len(prepared.rowsets.train) == 4  # all that there are: none is taken away to select


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_where_its_settings_are_from_and_what_is_other(name):
    head = (FOLDER / f"{name}.yaml").read_text().split("\nname:")[0]
    for words in ("# Source: ", "https://github.com/", "ON THE TEST SPLIT", "# What is not as there", f"{name}.yaml"):
        assert words in head


def test_gdlt_learns_by_descent_with_momentum_along_a_cosine(stores):
    config = experiment("gdlt_rg", "Ball", stores["rg"])
    assert (config.train.optimizer, config.train.momentum, config.train.weight_decay) == ("sgd", 0.9, 1e-4)
    epochs = [experiment("gdlt_rg", target, stores["rg"]).train.epochs for target in TARGETS["rg"]]
    assert epochs == [250, 400, 500, 150]
    (first,), (middle,), (last,) = rates(config, [1, 126, 250])
    assert first == pytest.approx(1e-2)
    assert middle == pytest.approx(1e-4 + (1e-2 - 1e-4) / 2)
    assert last == pytest.approx(1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * 249 / 250)) / 2)


@pytest.mark.parametrize(
    ("name", "target", "epochs", "second", "last"),
    [
        ("pamfn_fisv", "PCS", 750, 8e-4, 8e-4),
        ("pamfn_rg", "Clubs", 750, 5e-4, 5e-6 + (5e-4 - 5e-6) * (1 + math.cos(math.pi * 499 / 500)) / 2),
    ],
)
def test_pamfn_has_two_stages_with_an_optimizer_each(stores, name, target, epochs, second, last):
    config = experiment(name, target, stores[name.rpartition("_")[2]])
    descent, decoupled = config.train.by_stage()
    assert (descent.epochs, decoupled.epochs) == (250, epochs - 250)
    assert config.model.options["branch_epochs"] == 250
    assert (descent.optimizer, descent.weight_decay, decoupled.optimizer) == ("sgd", 1e-4, "adamw")
    assert decoupled.weight_decay == 0.01  # torch's own, as their code gives none
    assert descent.gradient_clip == decoupled.gradient_clip == 2.0
    of_first, of_last_descent, of_second, of_last = rates(config, [1, 250, 251, epochs])
    assert of_first[0] == pytest.approx(1e-2)
    assert of_last_descent[0] == pytest.approx(5e-6 + (1e-2 - 5e-6) * (1 + math.cos(math.pi * 249 / 250)) / 2)
    assert of_second == pytest.approx([second, second / 10])  # the head learns at a tenth
    assert of_last[0] == pytest.approx(last)


def test_limssr_rises_for_five_epochs_before_its_cosine(stores):
    train = experiment("limssr_fs1000", "TES", stores["fs1000"]).train
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=train.learning_rate)
    schedule, found = scheduler_of(optimizer, train), []
    for _ in range(train.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found[:6] == pytest.approx([4e-5, 8e-5, 1.2e-4, 1.6e-4, 2e-4, 2e-4])
    assert found[99] == pytest.approx(2e-5 + 1.8e-4 * (1 + math.cos(math.pi * 94 / 95)) / 2)


def test_mcmoe_is_what_the_project_has_for_the_set_but_for_their_protocol():
    for data_set in TARGETS:
        theirs, ours = (
            yaml.safe_load((folder / f"{stem}.yaml").read_text())
            for folder, stem in ((FOLDER, f"mcmoe_{data_set}"), (FOLDER.parent, data_set))
        )
        assert theirs.pop("name") == f"mcmoe-{ours.pop('name')}"
        assert theirs["select"].pop("split") == "test"
        assert ours["select"].pop("split") == "valid"
        assert theirs["model"].pop("prototype_position") == "batch_row"
        assert theirs == ours


def test_a_run_goes_through_both_stages(stores, tmp_path):
    stages = [{"epochs": 1, "optimizer": "sgd"}, {"optimizer": "adamw"}]
    small = {"train.epochs": 2, "train.stages": stages, "model.branch_epochs": 1, "model.hidden_dim": 8}
    output = {"output": str(tmp_path / "run"), "data.clips": 8, "data.store": str(stores["fisv"]), "figures": False}
    found = aqa.run(FOLDER / "pamfn_fisv.yaml", {**small, **output}).metrics
    assert list(found["patterns"]) == ["VAF"]
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(history) == 3
