"""Other labels teach where they are of training videos, and nothing else of them counts."""

import h5py
import numpy as np
import pytest

import aqa
from aqa.config.schema import Experiment
from aqa.errors import AqaError
from aqa.runs.predictions import read_predictions
from aqa.store.store import Modality, Target
from aqa.store.write import write_store

SPLITS = {"train": np.arange(0, 50), "valid": np.arange(50, 60), "test": np.arange(60, 90)}


@pytest.fixture
def store(tmp_path):
    """A function that writes 90 videos with targets TES, and PCS and SS as `change` makes them of what they were."""
    rng = np.random.default_rng(0)
    quality = rng.standard_normal(90)
    clips = {m: rng.standard_normal((90, 5, 3)) + 0.7 * quality[:, None, None] for m in ("visual", "audio")}
    labels = {t: np.clip(25 + 5 * quality + 4 * rng.standard_normal(90), 0, 50) for t in ("TES", "PCS", "SS")}

    def write(change=lambda values: values, name="s.h5"):
        path = tmp_path / name
        found = {t: values if t == "TES" else change(values.copy()) for t, values in labels.items()}
        write_store(
            path,
            name="s",
            source="",
            ids=[f"v{i}" for i in range(90)],
            modalities={m: Modality(3, np.full(90, 5)) for m in clips},
            targets={t: Target(values, 0.0, 50.0) for t, values in found.items()},
            splits=SPLITS,
            read=lambda modality, row: clips[modality][row].astype(np.float32),
        )
        return path

    return write


def run(store, output, also="all", model="gaussian_process", **changes):
    said = []
    experiment = {
        "name": "x",
        "data": {"store": str(store), "target": "TES", **({} if also is None else {"learn_also": also})},
        "model": {"name": model},
        "missing": {"train": "none", "test": ["VA", "V"]},
        "train": {"epochs": 1},
        "output": str(output),
    }
    result = aqa.run(experiment, changes, say=said.append)
    scores = read_predictions(output / "predictions.csv").by_pattern
    return result, np.stack([scores[pattern] for pattern in ("VA", "V")]), said


def test_other_labels_of_videos_that_do_not_train_change_no_bit(store, tmp_path):
    poisoned, rng = store(name="poisoned.h5"), np.random.default_rng(1)
    with h5py.File(poisoned, "r+") as file:
        for labels in (file["targets/PCS"], file["targets/SS"]):
            values = labels[:]
            values[50:] = rng.choice([np.nan, np.inf, -1e6, 3.0], 40)
            labels[:] = values
            del labels.attrs["crc32"]
    plain, scores, _ = run(store(), tmp_path / "plain")
    other, same, _ = run(poisoned, tmp_path / "poisoned")
    assert (scores == same).all()
    assert plain.metrics["selection"] == other.metrics["selection"]
    assert plain.metrics["patterns"] == other.metrics["patterns"]


def test_other_labels_of_training_videos_teach(store, tmp_path):
    path = store()
    alone, scores, _ = run(path, tmp_path / "alone", also=None)
    result, one, _ = run(path, tmp_path / "one", also=["PCS"])
    both, two, _ = run(path, tmp_path / "both")
    assert not (scores == one).any()
    assert not (one == two).any()
    assert [r.metrics.get("learned_also") for r in (alone, result, both)] == [None, 1, 2]
    assert "learned from 1 other label too" in str(result)
    assert "learned from 2 other labels too" in str(aqa.evaluate(both.folder))
    assert "other label" not in str(alone)


def test_videos_that_lack_other_labels_are_learned_from(store, tmp_path):
    def few(values):
        values[::2] = np.nan
        return values

    def none(values):
        values[:50] = np.nan
        return values

    result, scores, said = run(store(few, "few.h5"), tmp_path / "few")
    assert result.metrics["samples"]["train"] == 50
    assert np.isfinite(scores).all()
    assert not any("nothing is learned" in line for line in said)
    _, taught_nothing, said = run(store(none, "none.h5"), tmp_path / "none")
    assert "no training video has a label for PCS: nothing is learned from it" in said
    _, alone, _ = run(store(), tmp_path / "alone", also=None)
    np.testing.assert_allclose(taught_nothing, alone, rtol=0, atol=1e-4)


def test_a_fold_learns_from_the_other_labels_of_its_own_training_videos(store, tmp_path):
    folds = {"data.folds": {"count": 3}}
    result, scores, _ = run(store(), tmp_path / "folds", **folds)
    assert result.metrics["learned_also"] == 2
    assert np.isfinite(scores).all()


def test_an_ensemble_passes_other_labels_to_the_members_that_learn_from_them(store, tmp_path):
    path, scores = store(), {}
    for also in (None, "all"):
        model = {"model.members": {"ridge": {}, "gaussian_process": {}}}
        _, scores[also], _ = run(path, tmp_path / str(also), also, "ensemble", **model)
    assert not (scores[None] == scores["all"]).any()


@pytest.mark.parametrize(
    ("also", "message"),
    [
        (["PSC"], r"data\.learn_also: .*s\.h5 has no target 'PSC': did you mean 'PCS'"),
        (["TES", "PCS"], r"data\.learn_also: TES is the target itself; name others"),
        (["PCS", "PCS"], r"data\.learn_also: .*a target is listed twice"),
        ([], r"data\.learn_also: .*name a target, or leave it out"),
    ],
)
def test_targets_that_cannot_teach_are_refused(store, tmp_path, also, message):
    with pytest.raises(AqaError, match=message):
        run(store(), tmp_path / "run", also=also)


def test_models_that_learn_from_one_target_refuse_others(store, tmp_path):
    with pytest.raises(AqaError, match=r"^data\.learn_also: model 'ridge' learns from one target; leave it out"):
        run(store(), tmp_path / "run", model="ridge")


def test_labels_of_training_videos_outside_their_range_are_refused(store, tmp_path):
    def wild(values):
        values[3] = 400.0
        return values

    with pytest.raises(AqaError, match=r"targets/PCS: outside 0 to 50 in 1 sample: v3 \(400\)"):
        run(store(wild), tmp_path / "run")


def test_runs_of_before_are_the_same_experiment():
    data = {"store": "s.h5", "target": "TES"}
    names = [
        Experiment.model_validate({"name": "x", "data": {**data, **extra}}).unique_name(None)
        for extra in ({}, {"learn_also": None}, {"learn_also": "all"})
    ]
    assert names[0] == names[1] != names[2]
