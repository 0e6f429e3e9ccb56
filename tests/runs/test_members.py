"""Models that combine others: nothing of a video's group teaches what scores it, and a stop changes no bit."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import aqa
from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.features.cache import FeatureLoader
from aqa.runs.members import fit_members, inner_folds_of, parts_of
from aqa.runs.predictions import read_predictions
from aqa.runs.prepare import prepare
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store
from aqa.system.torch_files import load_torch

VIDEOS, CLIPS, WIDTHS = 90, 4, {"visual": 4, "audio": 3}
SPLITS = {"train": range(60), "valid": range(60, 72), "test": range(72, 90)}
MEMBERS = {"ridge": {}, "gaussian_process": {"iterations": 2}, "late_fusion": {"hidden_dim": 8}}
NETWORK = {"name": "late_fusion", "hidden_dim": 8}
PATIENTS = [f"patient {row // 4}" for row in range(VIDEOS)]


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(0)
    quality = rng.standard_normal(VIDEOS)
    lengths = {m: np.where(rng.random(VIDEOS) < 0.2, 0, CLIPS) for m in WIDTHS}
    lengths["visual"][lengths["audio"] == 0] = CLIPS
    values = {m: rng.standard_normal((VIDEOS, CLIPS, d)) + quality[:, None, None] for m, d in WIDTHS.items()}
    path = tmp_path / "own.h5"
    write_store(
        path,
        name="own",
        source="a test",
        ids=[f"video {row}" for row in range(VIDEOS)],
        modalities={m: Modality(WIDTHS[m], lengths[m]) for m in WIDTHS},
        targets={"score": Target(50 + 10 * quality, 0.0, 100.0)},
        splits={name: np.array(rows) for name, rows in SPLITS.items()},
        groups={"patient": PATIENTS},
        read=lambda modality, row: values[modality][row].astype(np.float32),
    )
    return path


def config(store, output, **changes):
    return {
        "name": "x",
        "data": {"store": str(store), "target": "score"},
        "model": {"name": "ensemble", "members": MEMBERS, "group": "patient"},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}, "test": "all_subsets"},
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "threads": 1},
        "output": str(output),
        **changes,
    }


def change(store: Path, rows, add: float, features: bool = True):
    """Add to the labels, and to the features, of some videos of a store."""
    with h5py.File(store, "r+") as file:
        places = [file["targets/score"]]
        file["targets/score"][list(rows)] = np.clip(file["targets/score"][list(rows)] + add, 1, 99)
        for m in WIDTHS if features else ():
            offsets = file[f"features/{m}/offsets"][:]
            places.append(file[f"features/{m}/values"])
            for row in rows:
                file[f"features/{m}/values"][offsets[row] : offsets[row + 1]] += add
        for place in places:
            place.attrs.pop("crc32", None)


def left_out_scores(store, output, **changes):
    """The out-of-fold scores of each part, the videos that each held out, and the weights."""
    prepared = prepare(load_experiment(config(store, output, **changes), ()), FeatureLoader(), print)
    saved: list[dict] = []
    fit_members(prepared, None, saved.append, lambda line: None, lambda row: None, False)
    parts = parts_of(prepared)
    return [(part.held_out, scores) for part, scores in zip(parts, saved[-1]["done"]["scores"], strict=True)]


def test_no_video_is_scored_by_what_its_group_taught(store, tmp_path):
    before = left_out_scores(store, tmp_path / "run")
    prepared = prepare(load_experiment(config(store, tmp_path / "run"), ()), FeatureLoader(), print)
    folds = inner_folds_of(prepared, prepared.scorer.model)
    assert sorted(np.concatenate(folds)) == list(range(60))
    assert sum(len({PATIENTS[place] for place in fold}) for fold in folds) == len(set(PATIENTS[:60]))
    poisoned = [row for row in range(60) if PATIENTS[row] == PATIENTS[folds[0][0]]]
    change(store, poisoned, 20.0)
    after = left_out_scores(store, tmp_path / "run")
    changed = []
    for (held_out, scores), (_, others) in zip(before, after, strict=True):
        rest = ~np.isin(held_out, poisoned)
        same = torch.equal(scores[:, rest].nan_to_num(), others[:, rest].nan_to_num())
        assert same or not set(poisoned) & set(held_out)
        changed.append(not same)
    assert sum(changed) == 6  # of three members the two folds each that learned from the group


def test_labels_that_are_changed_leave_the_scores_of_their_own_group_as_they_were(store, tmp_path):
    before = left_out_scores(store, tmp_path / "run")
    poisoned = list(range(8, 12))  # the videos of one patient
    change(store, poisoned, 20.0, features=False)
    for (held_out, scores), (_, others) in zip(before, left_out_scores(store, tmp_path / "run"), strict=True):
        own = np.isin(held_out, poisoned)
        assert torch.equal(scores[:, own].nan_to_num(), others[:, own].nan_to_num())


def test_what_fixed_patterns_hide_is_not_scored_by(store, tmp_path):
    fixed = {"train": {"fixed": {"rates": 0.4}}, "test": "all_subsets"}
    prepared = prepare(load_experiment(config(store, tmp_path / "run", missing=fixed), ()), FeatureLoader(), print)
    hidden = prepared.scorer.features.available[prepared.rowsets.train] & ~prepared.available
    assert hidden.any()
    found = left_out_scores(store, tmp_path / "run", missing=fixed)
    for held_out, scores in found:
        for column, number in ((0, 1), (1, 2)):  # the sets of one modality each
            if len(held_out):
                assert scores[number][hidden[held_out, column]].isnan().all()


def test_a_run_of_an_ensemble_scores_and_is_scored_again(store, tmp_path):
    said: list[str] = []
    result = aqa.run(config(store, tmp_path / "run"), say=said.append)
    assert result.metrics["patterns"]["VA"]["srcc"] > 0.7
    assert "members weighted by out-of-fold scores of training videos, 3 inner folds" in str(result)
    assert sum(line.startswith("weights") for line in said) == 3
    again = aqa.evaluate(result.folder, patterns=["V"]).metrics["patterns"]["V"]
    assert again["srcc"] == result.metrics["patterns"]["V"]["srcc"]
    predicted = aqa.predict(result.folder, store, split="test")
    assert predicted["score"].between(0, 100).all()
    history = pd.read_csv(tmp_path / "run/history.csv")
    assert history["epoch"].tolist() == list(range(1, 8 + 6 + 1))  # eight fits in closed form, three networks
    assert history["part"].nunique() == 11
    assert not result.metrics["intervals"]["selected_on_them"]  # no epoch is selected


@pytest.mark.parametrize("epoch", [3, 9, 10, 12])
def test_a_run_that_was_stopped_ends_with_the_same_bits(store, tmp_path, stopped_in_epoch, epoch):
    whole = aqa.run(config(store, tmp_path / "whole"))
    with stopped_in_epoch(epoch):
        aqa.run(config(store, tmp_path / "stopped"))
    resumed = aqa.run(config(store, tmp_path / "stopped"))
    for name in ("predictions.csv", "history.csv"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    theirs = load_torch(whole.folder / "checkpoint.pt")["weights"]
    for name, tensor in load_torch(resumed.folder / "checkpoint.pt")["weights"].items():
        assert torch.equal(tensor, theirs[name])


@pytest.mark.parametrize("model", [None, NETWORK])
def test_labels_of_the_test_split_change_no_bit(store, tmp_path, model):
    changes = {} if model is None else {"model": model, "train": {"epochs": 2, "ensemble": 2, "threads": 1}}
    before = aqa.run(config(store, tmp_path / "before", **changes))
    change(store, range(72, 90), 30.0, features=False)
    after = aqa.run(config(store, tmp_path / "after", **changes))
    theirs = load_torch(before.folder / "checkpoint.pt")["weights"]
    for name, tensor in load_torch(after.folder / "checkpoint.pt")["weights"].items():
        assert torch.equal(tensor, theirs[name])


def test_seeds_as_one_are_the_mean_of_the_runs_of_these_seeds(store, tmp_path):
    def scores(name, **train):
        settings = {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "threads": 1, **train}
        result = aqa.run(config(store, tmp_path / name, model=NETWORK, train=settings))
        return result, read_predictions(result.folder / "predictions.csv").by_pattern

    together, mean = scores("together", seed=4, ensemble=3)
    alone = [scores(f"seed{seed}", seed=seed)[1] for seed in (4, 5, 6)]
    for pattern, found in mean.items():
        expected = np.mean([each[pattern] for each in alone], axis=0)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert not np.allclose(found, alone[0][pattern])
    assert "the mean of 3 seeds, each selected on valid by SRCC (complete)" in str(together)
    assert together.metrics["parameters"] == 3 * aqa.models.build(widths=WIDTHS, **NETWORK).parameter_count


def test_seeds_as_one_resume_and_take_folds(store, tmp_path, stopped_in_epoch):
    changes = {
        "model": NETWORK,
        "train": {"epochs": 2, "ensemble": 2, "batch_size": 16, "threads": 1},
        "data": {"store": str(store), "target": "score", "folds": {"count": 2, "group": "patient"}},
    }
    with stopped_in_epoch(3):
        aqa.run(config(store, tmp_path / "folds", **changes))
    found = aqa.run(config(store, tmp_path / "folds", **changes))
    whole = aqa.run(config(store, tmp_path / "whole", **changes))
    assert (found.folder / "predictions.csv").read_bytes() == (whole.folder / "predictions.csv").read_bytes()
    assert "the mean of 2 seeds, each selected on valid in each fold by SRCC (complete)" in str(found)
    assert found.metrics["intervals"]["selected_on_them"]


def test_inner_folds_follow_the_group_of_the_outer_ones(store, tmp_path):
    outer = {"store": str(store), "target": "score", "folds": {"count": 3, "group": "patient", "fold": 1}}
    model = {"name": "ensemble", "members": {"ridge": {}}}
    prepared = prepare(
        load_experiment(config(store, tmp_path / "run", data=outer, model=model), ()), FeatureLoader(), print
    )
    with FeatureStore(store) as opened:
        labels = opened.group("patient")
    rows = prepared.rowsets.train
    folds = [{labels[rows[place]] for place in fold} for fold in inner_folds_of(prepared, prepared.scorer.model)]
    assert sum(map(len, folds)) == len(set.union(*folds))


def test_what_cannot_be_is_said_in_a_line(store, tmp_path):
    def refused(match, **changes):
        with pytest.raises(AqaError, match=match):
            aqa.run(config(store, tmp_path / "run", **changes))

    ensemble = {"name": "ensemble", "members": MEMBERS}
    refused("model.group: .*has no group 'patien'.*patient", model={**ensemble, "group": "patien"})
    refused("model.folds: 40 folds of 15 labels", model={**ensemble, "group": "patient", "folds": 40})
    refused("train.ensemble: model 'ridge' is fitted in closed form", model={"name": "ridge"}, train={"ensemble": 2})
    refused("train.ensemble: model 'ensemble' combines models already", model=ensemble, train={"ensemble": 2})


def test_a_store_with_groups_is_pointed_out(store, tmp_path):
    said: list[str] = []
    model = {"name": "ensemble", "members": {"ridge": {}}}
    aqa.run(config(store, tmp_path / "run", model=model), say=said.append)
    assert any("the store has groups (patient); model.group says whose" in line for line in said)
