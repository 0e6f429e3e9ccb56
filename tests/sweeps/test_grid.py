"""What a sweep file means: which runs, with which settings, under which names."""

from pathlib import Path

import numpy as np
import pytest

from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.store.store import Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store
from aqa.sweeps.grid import Sweep, groups_of, load_sweep, points_of
from aqa.sweeps.wandb_agents import wandb_sweeps

SWEEPS = Path(__file__).parents[2] / "experiments" / "sweeps"
REAL = {
    "pom": ["persuasion", "humorous"],
    "percepiano": ["convincing"],
    "finger_tapping": ["consensus", "expert_mean"],
    "soccer": ["expert_novice_score"],
}


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


def points(folder, **content):
    return points_of(Sweep.model_validate({"name": "s", "experiments": ["one.yaml"], **content}), folder)


def test_the_grid_is_the_product_of_its_axes(folder):
    found = points(folder, grid={"train.seed": [0, 1, 2], "train.learning_rate": [1e-3, 1e-4]})
    assert [(p.experiment.train.seed, p.experiment.train.learning_rate) for p in found] == [
        (0, 1e-3), (0, 1e-4), (1, 1e-3), (1, 1e-4), (2, 1e-3), (2, 1e-4),
    ]  # fmt: skip
    assert len({p.name for p in found}) == 6


def test_all_is_every_target_an_experiment_lists_or_its_store_has(folder):
    found = points(folder, experiments=["one.yaml", "two.yaml"], grid={"data.target": "all"})
    assert [(p.place["experiment"], p.experiment.data.target) for p in found] == [
        ("one", "score"), ("two", "A"), ("two", "B"),
    ]  # fmt: skip
    assert [p.experiment.train.epochs for p in found[1:]] == [5, 6]  # the file's own overrides by target


def test_named_settings_are_an_axis(folder):
    found = points(folder, grid={"variant": {"full": {}, "no_kl": {"model.kl_weight": 0.0, "train.epochs": 7}}})
    assert [p.place["variant"] for p in found] == ["full", "no_kl"]
    assert [p.experiment.train.epochs for p in found] == [100, 7]
    assert found[1].experiment.model.options == {"kl_weight": 0.0}


def test_patterns_are_values_of_an_axis(folder):
    found = points(folder, grid={"missing.train": [{"rates": 0.3}, "random_subset"]})
    assert [p.experiment.missing.train for p in found] == [{"rates": 0.3}, "random_subset"]


def test_a_later_one_of_set_rules_and_grid_wins(folder):
    found = points(
        folder,
        experiments=["two.yaml"],
        set={"train.epochs": 1, "train.batch_size": 4},
        rules=[{"when": {"data.target": "B"}, "set": {"train.epochs": 2, "train.learning_rate": 0.5}}],
        grid={"data.target": "all", "train.learning_rate": [0.25]},
    )
    assert [(p.experiment.train.epochs, p.experiment.train.learning_rate) for p in found] == [(1, 0.25), (2, 0.25)]
    assert {p.experiment.train.batch_size for p in found} == {4}


def test_exclude_and_include(folder):
    found = points(
        folder,
        grid={"train.seed": [0, 1], "train.epochs": [1, 2]},
        exclude=[{"train.seed": 1, "train.epochs": 2}],
        include=[{"train.seed": 7}, {"train.seed": 0, "train.epochs": 1}],  # the second is there already
    )
    settings = [(p.experiment.train.seed, p.experiment.train.epochs) for p in found]
    assert settings == [(0, 1), (0, 2), (1, 1), (7, 100)]


def test_an_exclude_that_leaves_out_nothing_is_a_mistake(folder):
    with pytest.raises(AqaError, match="leaves out nothing"):
        points(folder, grid={"train.seed": [0, 1]}, exclude=[{"train.seed": 3}])


def test_names_tell_runs_apart_and_not_where_the_store_lies(folder):
    (name,) = (p.name for p in points(folder))
    assert name.startswith("tiny-score-mcmoe-seed0-")
    (moved,) = points(folder)
    data = moved.experiment.data.model_copy(update={"store": "/elsewhere/tiny.h5"})
    assert moved.experiment.model_copy(update={"data": data}).unique_name(moved.fingerprint) == name
    assert points(folder, set={"train.epochs": 3})[0].name != name


def test_runs_are_grouped_by_the_sweep(folder):
    assert points(folder)[0].experiment.tracking.group == "s"
    assert points(folder, set={"tracking.group": "mine"})[0].experiment.tracking.group == "mine"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: s\nexperiments: [one.yaml]\ngird: {}\n", "s.yaml, line 3: unknown key 'gird': did you mean 'grid'?"),
        ("name: s\nexperiments: []\n", "s.yaml, line 2: experiments: "),
        ("name: s\nexperiments: [on.yaml]\n", "on.yaml; did you mean"),
        ("name: s\nexperiments: [one.yaml]\ngrid: {train.sed: [1]}\n", "unknown key 'train.sed': did you mean 'seed'?"),
        ("name: s\nexperiments: [one.yaml]\ngrid: {train.seed: all}\n", "goes with data.target only"),
        (
            "name: s\nexperiments: [one.yaml]\ngrid: {train.seed: []}\n",
            "grid.train.seed lists no value; give one or more",
        ),
        ("name: s\nexperiments: [one.yaml]\ngrid: {train.seed: 5}\n", "line 3: grid.train.seed: must be a list, got 5"),
        ("name: s\nexperiments: one.yaml\n", "s.yaml, line 2: experiments: must be a list, got 'one.yaml'"),
        ("name: s\ndata: {store: tiny.h5}\n", "s.yaml is an experiment file; run it with: aqa run "),
        ("name: s\nexperiments: [one.yaml]\nrules: [{wen: {}, set: {}}]\n", "unknown key 'rules.0.wen': did you mean"),
    ],
)
def test_a_mistake_is_one_line(folder, text, line):
    (folder / "s.yaml").write_text(text)
    with pytest.raises(AqaError) as error:
        points_of(load_sweep(folder / "s.yaml"), folder)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "runs"), [("published", 13), ("seeds", 65), ("missing_rates", 16), ("ablation", 42)])
def test_the_sweeps_that_come_with_the_project(name, runs):
    found = points_of(load_sweep(SWEEPS / f"{name}.yaml"), SWEEPS)
    assert len(found) == runs
    selected = {p.experiment.select.split for p in found}
    assert selected == ({"test"} if name == "published" else {"valid"})


def test_the_sweep_over_real_ratings(tmp_path, monkeypatch):
    """Every experiment's targets, by every model with options that it knows; separate stages have extra epochs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name, targets in REAL.items():
        shape = {"modalities": {"visual": Modality(2, np.ones(3, int))}, "splits": {"train": [0], "test": [1, 2]}}
        write_store(
            tmp_path / "data" / f"{name}.h5",
            name=name,
            source="zeros",
            ids=["a", "b", "c"],
            targets={target: Target(np.zeros(3), 0, 1) for target in targets},
            read=lambda modality, row: np.zeros((1, 2), np.float32),
            **shape,
        )
    found = points_of(load_sweep(SWEEPS / "real.yaml"), SWEEPS)
    assert {(p.place["experiment"], p.experiment.data.target) for p in found} == {
        ("pom", "persuasion"), ("pom", "humorous"), ("percepiano", "convincing"), ("finger_tapping", "consensus"),
        ("soccer", "expert_novice_score"),
    }  # fmt: skip
    models = {p.experiment.model.name for p in found}
    assert {"ridge", "gaussian_process", "mcmoe"} <= models
    assert len(found) == 5 * len(models)
    epochs = {(p.place["experiment"], p.experiment.model.name): p.experiment.train.epochs for p in found}
    for name in REAL:
        assert epochs[name, "dimml"] == epochs[name, "mcmoe"] + 5
        assert epochs[name, "mome"] == epochs[name, "mcmoe"]
    assert all(p.experiment.data.folds is not None for p in found if p.place["experiment"] == "finger_tapping")


def test_points_that_differ_only_by_seed_are_a_group(folder):
    found = points(folder, grid={"train.seed": [0, 1, 2], "train.learning_rate": [1e-3, 1e-4]})
    groups = groups_of(found, "seeds")
    assert [[p.experiment.train.seed for p in group] for group in groups] == [[0, 1, 2], [0, 1, 2]]
    assert [{p.experiment.train.learning_rate for p in group} for group in groups] == [{1e-3}, {1e-4}]
    assert groups_of(found, None) == [[point] for point in found]


def test_seeds_of_different_targets_do_not_go_together(folder):
    found = points(folder, experiments=["two.yaml"], grid={"data.target": "all", "train.seed": [0, 1]})
    assert [{p.experiment.data.target for p in group} for group in groups_of(found, "seeds")] == [{"A"}, {"B"}]


def test_vectorize_refuses_what_it_cannot_take_together(folder):
    (folder / "s.yaml").write_text(
        "name: s\nexperiments: [one.yaml]\nvectorize: seeds\nlauncher: {ray: {address: auto}}\n"
    )
    with pytest.raises(AqaError, match="a Ray cluster is given single runs; leave out launcher or vectorize"):
        load_sweep(folder / "s.yaml")
    (folder / "s.yaml").write_text("name: s\nexperiments: [one.yaml]\nvectorize: seed\n")
    with pytest.raises(AqaError, match="vectorize"):
        load_sweep(folder / "s.yaml")


@pytest.mark.parametrize("name", ["no", "true", "007", "123", "2024-05-01", "a: b", "[v1]", "null", "seeds #2", "None"])
def test_the_name_of_a_sweep_is_the_group_of_its_runs(folder, name):
    assert points(folder, name=name)[0].experiment.tracking.group == name
    sweep = Sweep.model_validate({"name": name, "experiments": ["one.yaml"]})
    _, _, _, file, *settings, _ = wandb_sweeps(sweep, folder)["one"]["command"]
    assert load_experiment(file, settings).tracking.group == name


def test_names_in_a_sweep_file_are_what_is_typed(folder):
    (folder / "s.yaml").write_text(
        "name: 007\nexperiments: [one.yaml]\nset: {tracking.project: 1.10}\n"
        "grid: {data.target: [NO, 1, 1.0, null, ~], train.seed: [1, 2]}\n"
        "exclude: [{data.target: 1.0, train.seed: 2}]\n"
        "rules: [{when: {data.target: [null, NO]}, set: {train.epochs: 3}}]\n"
    )
    found = points_of(load_sweep(folder / "s.yaml"), folder)
    ran = [(p.experiment.data.target, p.experiment.train.seed, p.experiment.train.epochs) for p in found]
    assert ran == [
        ("NO", 1, 3), ("NO", 2, 3), ("1", 1, 100), ("1", 2, 100), ("1.0", 1, 100),
        ("null", 1, 3), ("null", 2, 3), ("~", 1, 100), ("~", 2, 100),
    ]  # fmt: skip
    assert {(p.experiment.tracking.group, p.experiment.tracking.project) for p in found} == {("007", "1.10")}


def test_a_text_and_a_number_that_read_alike_are_two_values(folder):
    found = points(folder, grid={"missing.train": ["1", None, "null"], "model.name": ["mcmoe"]})
    assert [p.experiment.missing.train for p in found] == ["1", None, "null"]


def test_further_points_take_values_of_any_type(folder):
    (found,) = points(folder, grid={"train.seed": [0]}, include=[{"train.compile": True, "train.patience": None}])[1:]
    assert found.experiment.train.compile is True


@pytest.mark.parametrize("name", ["../../x", "/abs", "..", "' '", "'~'"])
def test_a_sweep_whose_name_is_a_path_or_nothing_is_refused(folder, name):
    (folder / "s.yaml").write_text(f"name: {name}\nexperiments: [one.yaml]\n")
    with pytest.raises(AqaError, match=r"s\.yaml, line 1: name: it: .*(is a path|is empty)"):
        load_sweep(folder / "s.yaml")
