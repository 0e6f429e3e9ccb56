"""Tune files: what they may say, and one line for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aqa.errors import AqaError
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.searches import load_tune, searches_of

SHIPPED = Path(__file__).parents[2] / "experiments" / "tune"
BASE = """
name: base
data: {store: tiny.h5, target: score}
model: {name: zero_fill, hidden_dim: 8, n_decoder: 1}
missing: {train: none, test: [VA, V]}
"""
GOOD = """name: t
experiments: [base.yaml]
models: [zero_fill, ridge]
set: {train.epochs: 2}
spaces:
  zero_fill:
    train.learning_rate: {log: [1e-4, 1e-2]}
    train.optimizer: [adam, adamw]
    missing.train: [none, {rates: 0.3}]
  ridge: {model.alphas: [[1.0], [10.0]]}
trials: 3
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    make_synthetic("tiny", path, samples=12)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, store):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.h5").symlink_to(store)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def searches(here, text):
    (here / "t.yaml").write_text(text)
    return searches_of(load_tune("t.yaml"))


def test_a_search_for_each_model_with_its_own_space(here):
    mine, ridge = searches(here, GOOD)
    assert (mine.name, ridge.name) == ("base-zero_fill", "base-ridge")
    assert list(mine.space) == ["train.learning_rate", "train.optimizer", "missing.train"]
    assert mine.space["missing.train"].ends() == ["none", {"rates": 0.3}]
    assert (mine.experiment.train.epochs, ridge.experiment.model.options) == (2, {})
    assert mine.metric == "SRCC (complete) on valid"
    assert (mine.shares_features, ridge.shares_features) == (False, True)


def test_the_model_of_the_experiment_and_one_space_for_all_are_the_defaults(here):
    text = "name: t\nexperiments: [base.yaml]\nspace: {train.epochs: {int: [1, 3]}}\n"
    (only,) = searches(here, text)
    assert only.place == {"experiment": "base", "target": "score", "model": "zero_fill"}
    both = searches(here, text + "models: [zero_fill, mean_fill]\n")
    assert [list(search.space) for search in both] == [["train.epochs"]] * 2


def test_a_space_may_be_that_of_another_tune_file(here):
    (here / "other.yaml").write_text(
        "name: o\nexperiments: [x]\nset: {model.hidden_dim: 4}\nspace: {train.epochs: [1, 2]}"
    )
    (only,) = searches(here, "name: t\nexperiments: [base.yaml]\nspaces: {zero_fill: other.yaml}")
    assert list(only.space) == ["train.epochs"]
    assert only.experiment.model.options["hidden_dim"] == 4


def test_what_spaces_say_is_replaced_where_they_have_the_key(here):
    text = "name: t\nexperiments: [base.yaml]\nmodels: [mome, ridge]\nreplace: {model.hidden_dim: [128, 256]}\n"
    mome, ridge = searches(here, text)
    assert mome.space["model.hidden_dim"].ends() == [128, 256]
    assert "train.learning_rate" in mome.space
    assert "model.hidden_dim" not in ridge.space
    with pytest.raises(
        AqaError, match=r"line 4: replace: no space has 'model.hiden_dim': did you mean 'model.hidden_dim'"
    ):
        searches(here, text.replace("hidden_dim", "hiden_dim"))
    with pytest.raises(AqaError, match=r"t.yaml, line 4: .*hidden_dim.*0"):
        searches(here, text.replace("[128, 256]", "[128, 0]"))


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_default_space_has_models_wider_than_small_data_teach(path):
    space = yaml.safe_load(path.read_text())["space"]
    assert max(space.get("model.hidden_dim", [64])) == 64


def test_a_model_without_a_space_has_the_default_one(here):
    (only,) = searches(here, "name: t\nexperiments: [base.yaml]\nmodels: [mome]")
    assert "train.learning_rate" in only.space


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: t", "nmae: t", r"t.yaml, line 1: unknown key 'nmae': did you mean 'name'\?"),
        ("name: t", "name: a/b", r"t.yaml, line 1: name: it: 'a/b' is a path"),
        ("name: t\n", "", r"t.yaml: 'name' is missing"),
        ("[base.yaml]", "[]", r"t.yaml, line 2: experiments: needs at least 1 entry"),
        ("[base.yaml]", "[bsae.yaml]", r"there is no file bsae.yaml; did you mean 'base.yaml'\?"),
        ("[base.yaml]", "[base.yaml, base.yaml]", r"t.yaml: two searches are called base-zero_fill"),
        (
            "[zero_fill, ridge]",
            "[zero_fil, ridge]",
            r"t.yaml, line 3: unknown model 'zero_fil': did you mean 'zero_fill'",
        ),
        ("[zero_fill, ridge]", "[ridge, ridge]", r"t.yaml, line 3: models: ridge is listed twice"),
        ("[zero_fill, ridge]", "[ridge]", r"t.yaml, line 6: spaces: no model 'zero_fill' is searched"),
        ("train.epochs: 2", "train.epoch: 2", r"unknown key 'train.epoch': did you mean 'epochs'\?"),
        (
            "train.epochs: 2",
            "train.learning_rate: 0.1",
            r"t.yaml, line 4: train.learning_rate is both set and searched",
        ),
        ("train.epochs: 2", "data.target: scoer", r"no target 'scoer'.*did you mean 'score'"),
        ("trials: 3", "targets: [score, scoer]", r"t.yaml, line 11: .*no target 'scoer'.*did you mean 'score'"),
        ("trials: 3", "targets: [score, score]", r"t.yaml, line 11: targets: score is listed twice"),
        ("trials: 3", "targets: []", r"t.yaml, line 11: targets: write a list of one or more targets, or `all`"),
        ("trials: 3", "targets: every", r"t.yaml, line 11: targets: write a list of one or more targets, or `all`"),
        (
            "set: {train.epochs: 2}",
            "set: {data.target: score}\ntargets: all",
            r"t.yaml, line 4: data.target is set, and targets are listed; leave out one",
        ),
        ("train.epochs: 2", "data.store: non.h5", r"no feature store at .*non.h5; did you mean 'tiny.h5'"),
        ("train.epochs: 2", "select.split: tset", r"no split 'tset': did you mean 'test'"),
        (
            "train.epochs: 2",
            "select.split: test",
            r"t.yaml, line 4: select.split: test would choose the settings on the",
        ),
        (
            "train.epochs: 2",
            "select.split: train",
            r"t.yaml, line 4: select.split: train would choose the settings on videos that every trial has learned",
        ),
        ("train.epochs: 2", "data.modalities: [visual, sound]", r"no modality 'sound'"),
        (
            "train.learning_rate",
            "train.learning_rte",
            r"line 7: train.learning_rte is not one of .*'train.learning_rate'",
        ),
        (
            "train.learning_rate",
            "model.hiden_dim",
            r"t.yaml, line 7: .*has no option 'hiden_dim': did you mean 'hidden_dim'",
        ),
        ("[1e-4, 1e-2]", "[-1, 1e-2]", r"t.yaml, line 7: train.learning_rate: log needs numbers above 0"),
        ("{log: [1e-4, 1e-2]}", "{float: [-1, 1]}", r"line 7: train.learning_rate: must be more than 0, got -1"),
        ("train.learning_rate: {log: [1e-4, 1e-2]}", "train.epochs: {float: [1.5, 3]}", r"epochs is both set"),
        ("[adam, adamw]", "[adam, adamx]", r"t.yaml, line 8: train.optimizer is 'adamx', not one of adam, adamw"),
        ("{rates: 0.3}", "{rates: .nan}", r"t.yaml, line 9: missing.train: numbers must be finite"),
        ("[[1.0], [10.0]]", "[[1.0], [0.0]]", r"t.yaml, line 10: .*alphas"),
        ("trials: 3", "trials: 0", r"t.yaml, line 11: trials: must be 1 or more, got 0"),
        ("trials: 3", "trials: many", r"t.yaml, line 11: trials: must be a whole number, got 'many'"),
        ("[0, 1]", "[0, 0]", r"t.yaml, line 12: seeds: 0 is listed twice"),
        ("[0, 1]", "[-1]", r"t.yaml, line 12: seeds: a seed is 0 or more"),
        ("seeds: [0, 1]", "sampler: grid", r"line 12: sampler is 'grid', not one of tpe, random"),
        ("seeds: [0, 1]", "pruner: medium", r"line 12: pruner is 'medium', not one of .*did you mean 'median'"),
        ("seeds: [0, 1]", "prune_after: 0", r"line 12: prune_after: must be 1 or more"),
        ("seeds: [0, 1]", "folds: {count: 1}", r"t.yaml, line 12: folds.count: must be 2 or more, got 1"),
        ("seeds: [0, 1]", "folds: {count: 3, of: [test]}", r"line 12: folds: leave out `of`"),
        ("seeds: [0, 1]", "folds: {count: 3, group: athlete}", r"line 12: folds.group: .*athlete"),
        ("seeds: [0, 1]", "folds: {count: 999}", r"t.yaml, line 12: folds.count: 999 folds of"),
        ("seeds: [0, 1]", "grid: {}", r"t.yaml is a sweep file; run it with: aqa sweep t.yaml"),
        ("experiments: [base.yaml]", "data: {}", r"t.yaml is an experiment file; run it with: aqa run t.yaml"),
    ],
)
def test_a_spoiled_tune_file_is_one_line(here, old, new, message):
    assert old in GOOD
    with pytest.raises(AqaError, match=message) as found:
        searches(here, GOOD.replace(old, new))
    assert "\n" not in str(found.value)
    assert "pydantic" not in str(found.value)


def test_settings_of_the_data_that_a_target_needs_are_known_before_the_model(here):
    (here / "base.yaml").write_text(yaml.safe_dump({**yaml.safe_load(BASE), "data": {"store": "tiny.h5"}}))
    with pytest.raises(AqaError, match=r"'data\.target' is missing"):
        searches(here, GOOD)
    assert searches(here, GOOD.replace("train.epochs: 2", "train.epochs: 2, data.target: score"))


LEARNS_FROM_BOTH = """name: t
experiments: [base.yaml]
models: [gaussian_process]
space: {model.statistics: [[mean], [mean, deviation]]}
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("{model.statistics: [[mean], [mean, deviation]]}", "{model.learn_from: [train, train+valid]}", 4),
        ("models", "set: {model.learn_from: train+valid}\nmodels", 3),
        ("space:", "folds: {count: 3}\nset: {model.learn_from: train+valid}\nspace:", 5),
    ],
    ids=["searched", "set", "with inner folds"],
)
def test_what_learns_from_the_validation_split_is_not_searched_by_it(here, old, new, line):
    assert searches(here, LEARNS_FROM_BOTH)
    message = (
        rf"^t.yaml, line {line}: model.learn_from: train\+valid is not searched: the settings are chosen on split "
        r"'valid', which the model would have learned from"
    )
    with pytest.raises(AqaError, match=message):
        searches(here, LEARNS_FROM_BOTH.replace(old, new))
    assert not (here / "runs").exists()
