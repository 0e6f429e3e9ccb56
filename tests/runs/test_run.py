"""Runs from an experiment to a folder of results, and what can be done with a finished one."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import aqa
import aqa.cli
from aqa.data_prep.prepare import prepare
from aqa.errors import AqaError
from aqa.evaluation import metrics
from aqa.store.fingerprint import fingerprint_of
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store

SEVEN = ["VAF", "VA", "VF", "AF", "V", "A", "F"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    make_synthetic("tiny", path, samples=60)
    return path


def experiment(store, output, **changes):
    config = {
        "name": "small",
        "data": {"store": str(store), "target": "score"},
        "model": {"name": "mcmoe", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "seed": 1},
        "output": str(output),
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            config.setdefault(section, {})[name] = value
        else:
            config[section] = value
    return config


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory, drawing):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with drawing():
        aqa.run(experiment(store, folder))
    return folder


def contents(folder):
    return {
        name: (folder / name).read_bytes() for name in ("metrics.json", "predictions.csv", "history.csv", "config.yaml")
    }


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["weights"]


def test_a_run_stopped_while_it_scores_has_its_training_saved(store, tmp_path, finished, monkeypatch):
    conclude, settings = aqa.runs.run.conclude, experiment(store, tmp_path / "run")

    def stopped(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr("aqa.runs.run.conclude", stopped)
    with pytest.raises(KeyboardInterrupt, match="the same command resumes after epoch"):
        aqa.run(settings)
    monkeypatch.setattr("aqa.runs.run.conclude", conclude)
    monkeypatch.setattr("aqa.training.loop.train_epoch", None)  # nothing is trained again
    aqa.run(settings)
    for name, content in contents(finished).items():
        assert name == "config.yaml" or (tmp_path / "run" / name).read_bytes() == content, name
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_run_leaves_the_whole_folder(finished):
    names = {p.name for p in finished.iterdir()}
    assert names == {
        "config.yaml",
        "metrics.json",
        "predictions.csv",
        "history.csv",
        "checkpoint.pt",
        "log.txt",
        "figures",
    }
    figures = {p.stem for p in (finished / "figures").iterdir()}
    assert figures == {"srcc_by_pattern", "predicted_against_true", "training_curves", "router_weights"}
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["train"]["weight_decay"] == 1e-4  # resolved: defaults are written out
    assert {"aqa", "torch", "numpy", "python"} <= set(config["versions"])
    log = (finished / "log.txt").read_text()
    assert "average of the 6 incomplete patterns" in log
    history = pd.read_csv(finished / "history.csv")
    assert f"epoch 1: learning_rate {history['learning_rate'][0]:.4g}, loss {history['loss'][0]:.4g}" in log


def test_metrics_are_those_of_the_predictions_file(finished, store):
    found = json.loads((finished / "metrics.json").read_text())
    assert list(found["patterns"]) == SEVEN
    with open(finished / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    correlations = {}
    for name in SEVEN:
        mine = [row for row in rows if row["pattern"] == name]
        scores, labels = np.array([[float(r["score"]), float(r["label"])] for r in mine]).T
        correlations[name] = metrics.srcc(scores, labels)
        assert found["patterns"][name]["srcc"] == pytest.approx(correlations[name], abs=1e-9)
        assert found["patterns"][name]["mse"] == pytest.approx(np.mean((scores - labels) ** 2), rel=1e-6)
        assert found["patterns"][name]["n"] == len(mine) == 60
        low, high = (found["patterns"][name][end] for end in ("srcc_low", "srcc_high"))
        assert low < correlations[name] < high
    expected = math.tanh(np.mean([math.atanh(correlations[name]) for name in SEVEN[1:]]))
    assert found["average_incomplete"]["srcc"] == pytest.approx(expected, abs=1e-9)
    with FeatureStore(store) as opened:
        ceiling = opened.target("score").ceiling
        labelled = opened.target("score").values[opened.split("test")]
    assert {name: s["ceiling"] for name, s in found["patterns"].items()} == pytest.approx(ceiling)
    assert sorted(float(r["label"]) for r in rows[:60]) == pytest.approx(sorted(labelled))
    assert found["selection"]["split"] == "valid"
    assert found["samples"] == {"train": 60, "select": 60, "test": 60}
    with FeatureStore(store) as opened:
        assert found["data"] == {"fingerprint": fingerprint_of(opened)}


def test_two_runs_of_one_seed_are_equal_to_the_bit(finished, store, tmp_path):
    aqa.run(experiment(store, tmp_path / "again"))
    assert contents(tmp_path / "again") == contents(finished)
    first, second = weights(finished), weights(tmp_path / "again")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_numbers(finished, store, tmp_path):
    aqa.run(experiment(store, tmp_path / "other", train__seed=2))
    assert contents(tmp_path / "other")["predictions.csv"] != contents(finished)["predictions.csv"]


@pytest.mark.parametrize(
    "pattern", ["random_subset", {"combine": [{"fixed": {"rates": 0.4}}, {"noise": {"std": 0.3}}]}]
)
def test_a_run_broken_off_goes_on_to_the_same_end(store, tmp_path, monkeypatch, pattern):
    changes = {"train__epochs": 4, "missing__train": pattern, "data__standardize": True}
    aqa.run(experiment(store, tmp_path / "whole", **changes))

    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    epoch_of_training, calls = aqa.training.loop.train_epoch, []

    def broken_off(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch_of_training(*arguments)

    monkeypatch.setattr("aqa.training.loop.train_epoch", broken_off)
    with pytest.raises(KeyboardInterrupt):
        aqa.run(experiment(store, tmp_path / "broken", **changes))
    assert (tmp_path / "broken" / "state.pt").exists()
    assert not (tmp_path / "broken" / "metrics.json").exists()
    with pytest.raises(AqaError, match="unfinished"):
        aqa.evaluate(tmp_path / "broken")

    said = []
    aqa.run(experiment(store, tmp_path / "broken", **changes), say=said.append)
    assert "resuming after epoch 2" in said
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert not (tmp_path / "broken" / "state.pt").exists()
    first, second = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was stopped in its third epoch, with a store of its own: its experiment."""
    make_synthetic("tiny", tmp_path / "own.h5", samples=20)
    monkeypatch.setattr("aqa.runs.run.draw", lambda *arguments: None)  # which takes most of the time
    config = experiment(tmp_path / "own.h5", tmp_path / "run", train__epochs=4, save_every=0)
    rows = []

    def stop(row):
        rows.append(row)
        if len(rows) == 3:
            raise KeyboardInterrupt
        return "an epoch"

    with monkeypatch.context() as patched:
        patched.setattr("aqa.runs.run.epoch_line", stop)
        with pytest.raises(KeyboardInterrupt, match=r"^stopped; the same command resumes after epoch 2 of 4$"):
            aqa.run(config)
    return config


def test_a_store_that_changed_or_vanished_since_a_run_was_stopped_is_refused_and_the_state_stays(stopped, tmp_path):
    store, state = tmp_path / "own.h5", (tmp_path / "run" / "state.pt").read_bytes()
    whole = store.read_bytes()
    store.rename(tmp_path / "away.h5")
    with pytest.raises(AqaError, match=r"no feature store at .*own\.h5; did you mean 'away\.h5'"):
        aqa.run(stopped)
    make_synthetic("tiny", store, samples=20, seed=1)
    with pytest.raises(AqaError, match=r"own\.h5 has changed since .*run was made from it; .* --overwrite$"):
        aqa.run(stopped)
    assert (tmp_path / "run" / "state.pt").read_bytes() == state
    store.write_bytes(whole)  # another file with the same in it
    said = []
    aqa.run(stopped, say=said.append)
    assert "resuming after epoch 2" in said


def test_how_often_a_state_is_saved_makes_it_no_other_experiment(stopped):
    said = []
    aqa.run({**stopped, "save_every": 1000}, say=said.append)
    assert "resuming after epoch 2" in said


@pytest.mark.parametrize("gone", ["run", "run/config.yaml"])
def test_a_run_whose_folder_is_deleted_ends_with_one_line(store, tmp_path, monkeypatch, gone):
    def delete(row):
        path = tmp_path / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return "an epoch"

    monkeypatch.setattr("aqa.runs.run.epoch_line", delete)
    monkeypatch.setattr("aqa.runs.run.draw", lambda *arguments: None)
    changes = {"train__epochs": 1, "save_every": 0}
    with pytest.raises(AqaError, match=r"run/(log\.txt|config\.yaml) (cannot be written: No such file|is gone)"):
        aqa.run(experiment(store, tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_finished_run_is_returned_and_not_repeated(finished, store):
    before = (finished / "checkpoint.pt").stat().st_mtime_ns
    result = aqa.run(experiment(store, finished))
    assert result.already_finished
    assert (finished / "checkpoint.pt").stat().st_mtime_ns == before


def test_a_folder_with_another_experiment_is_refused_naming_the_difference(finished, store):
    before = contents(finished)
    with pytest.raises(AqaError, match=r"another experiment \(train.epochs is 2 there, 9 here\).*--overwrite"):
        aqa.run(experiment(store, finished, train__epochs=9))
    assert contents(finished) == before


def test_overwrite_replaces_a_run_but_not_what_a_user_put_beside_it(finished, store, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "notes.txt").write_text("mine")
    result = aqa.run(experiment(store, folder, train__epochs=1), overwrite=True)
    assert result.metrics["selection"]["epochs"] == 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_mistake_in_the_experiment_leaves_no_folder(store, tmp_path):
    for change in (
        {"model__name": "mcmo"},
        {"missing__test": "all"},
        {"select__pattern": "VX"},
        {"data__target": "scor"},
    ):
        with pytest.raises(AqaError, match=r"did you mean|known:"):
            aqa.run(experiment(store, tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


def test_further_measures_and_the_area_under_rates_are_in_the_metrics(finished, store):
    found = aqa.evaluate(finished, patterns=["complete", {"rates": 0.4}], metrics=["mae", "pearson"]).metrics
    table = pd.read_csv(finished / "predictions.csv")
    complete = next(iter(found["patterns"]))
    rows = table[table["pattern"] == complete]
    mae = found["patterns"][complete]["measures"]["mae"]
    assert mae["value"] == pytest.approx((rows["score"] - rows["label"]).abs().mean())
    assert mae["low"] < mae["value"] < mae["high"]
    assert found["area_under_rates"]["rates"] == [0.0, 0.4]
    plain = aqa.evaluate(finished, metrics=["pearson"], intervals=False).metrics["patterns"][complete]["measures"]
    assert set(plain["pearson"]) == {"value"}
    with pytest.raises(AqaError, match=r"^metrics: unknown metric 'maee': did you mean 'mae'\?$"):
        aqa.evaluate(finished, metrics=["maee"])


def test_evaluate_repeats_the_run_and_takes_other_patterns(finished, store):
    again = aqa.evaluate(finished).metrics
    stored = json.loads((finished / "metrics.json").read_text())
    assert again["patterns"] == stored["patterns"]
    before = contents(finished)
    other = aqa.evaluate(finished, patterns=["A", {"gaps": {"fraction": 0.5}}, {"rates": 0.5}], split="valid").metrics
    assert list(other["patterns"]) == ["A", "gaps(0.5)", "rates(0.5)"]
    assert other["average_incomplete"]["patterns"] == 1
    assert other["split"] == "valid"
    assert contents(finished) == before


def test_predict_scores_unlabelled_videos_by_what_they_have(finished, store, tmp_path):
    with FeatureStore(store) as opened:
        rows = opened.split("test")[:4]
        ids = [opened.ids[r] for r in rows]
        clips = {m: [opened.read_sample(m, r) for r in rows] for m in opened.modalities}
    # The store has other modalities than the model, in another order, and each video lacks something else.
    has = {"flow": [1, 0, 0, 0], "visual": [1, 1, 0, 0]}
    lengths = {m: np.array([len(c) * h for c, h in zip(clips[m], has[m], strict=True)]) for m in has}
    path = tmp_path / "own.h5"
    modalities = {m: Modality(clips[m][0].shape[1], lengths[m]) for m in has} | {"depth": Modality(3, np.ones(4, int))}
    write_store(
        path,
        name="own",
        source="",
        ids=ids,
        modalities=modalities,
        targets={},
        splits={},
        read=lambda m, row: np.ones((1, 3)) if m == "depth" else clips[m][row],
    )
    found = aqa.predict(finished, path)
    assert list(found["id"]) == ids
    assert list(found["visible"]) == ["VF", "V", "", ""]
    with open(finished / "predictions.csv") as file:
        known = {(r["id"], r["pattern"]): float(r["score"]) for r in csv.DictReader(file)}
    expected = [known[ids[0], "VF"], known[ids[1], "V"], math.nan, math.nan]
    assert np.allclose(found["score"], expected, atol=1e-3, equal_nan=True)


def _without(key):
    return lambda checkpoint: checkpoint.pop(key)


def _with(key, value):
    return lambda checkpoint: checkpoint.__setitem__(key, value)


def _option(name, value):
    return lambda checkpoint: checkpoint["options"].__setitem__(name, value)


def _weight(change):
    return lambda checkpoint: checkpoint["weights"].update(change(checkpoint["weights"]))


def _first(weights, value):
    name = next(iter(weights))
    return {name: value(weights[name])}


CHECKPOINTS = {
    "format": (_with("format", 2), "checkpoint format 2 is not 1, which this version reads"),
    "no target": (_without("target"), "checkpoint.pt: target: it is missing"),
    "no weights": (_without("weights"), "checkpoint.pt: weights: it is missing"),
    "weights of text": (
        _with("weights", {"a": "b"}),
        "checkpoint.pt: weights.a: must be a tensor",
    ),
    "other model": (
        lambda c: c.update(model="late_fusion", options={"hidden_dim": 4}),
        "the checkpoint's weights do not fit model 'late_fusion': ",
    ),
    "options of another": (_with("model", "late_fusion"), "model 'late_fusion' has no option '"),
    "unknown model": (_with("model", "mcmoee"), "unknown model 'mcmoee': did you mean 'mcmoe'"),
    "unknown option": (_with("options", {"deep": 3}), "model 'mcmoe' has no option 'deep'"),
    "endless layers": (_option("n_encoder", 10**9), "the checkpoint's options make a larger model than its weights"),
    "a huge layer": (_option("hidden_dim", 2**17), "the checkpoint's options make a larger model than its weights"),
    "a layer beyond all memory": (_option("hidden_dim", 2**40), "the checkpoint's model cannot be built: "),
    "a weight too few": (lambda c: c["weights"].popitem(), "the checkpoint's weights do not fit model 'mcmoe': "),
    "wrong shape": (_weight(lambda w: _first(w, lambda v: v[:1, :1])), "size mismatch for"),
    "NaN": (_weight(lambda w: _first(w, lambda v: v * torch.nan)), "hold NaN"),
    "widths": (_with("widths", {"visual": -1}), "checkpoint.pt: widths.visual: must be more than 0"),
    "endless target": (
        lambda c: c["target"].update(low=-torch.inf),
        "checkpoint.pt: target.low: must be a finite number",
    ),
    "statistics": (
        _with("statistics", {"visual": (torch.ones(2), torch.ones(1))}),
        "statistics.visual are not two finite numbers for each of",
    ),
}


@pytest.mark.parametrize(("change", "line"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_of_another_form_is_one_line(finished, store, tmp_path, change, line):
    shutil.copytree(finished, tmp_path / "run")
    checkpoint = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "run" / "checkpoint.pt")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    del metrics["files"]  # as of a version that did not say which checkpoint is the run's own
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(metrics))
    for score in (lambda: aqa.evaluate(tmp_path / "run"), lambda: aqa.predict(tmp_path / "run", store)):
        with pytest.raises(AqaError) as error:
            score()
        assert line in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("progress"),
        lambda state: state.update(progress=[1]),
        lambda state: state["progress"].update(more=1),
        lambda state: state["model"].popitem(),
        lambda state: state.update(optimizer={}),
        lambda state: state.update(random={"cpu": torch.ones(2)}),
    ],
)
def test_a_saved_state_of_another_form_is_one_line(store, tmp_path, stopped_in_epoch, change):
    with stopped_in_epoch(2):
        aqa.run(experiment(store, tmp_path / "run"))
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "run" / "state.pt")
    with pytest.raises(AqaError, match="state") as error:
        aqa.run(experiment(store, tmp_path / "run"))
    assert "\n" not in str(error.value)


def test_a_store_without_any_of_the_models_modalities_is_refused(finished, tmp_path):
    write_store(
        tmp_path / "own.h5",
        name="own",
        source="",
        ids=["a"],
        modalities={"depth": Modality(3, np.ones(1, int))},
        targets={},
        splits={},
        read=lambda m, row: np.ones((1, 3)),
    )
    with pytest.raises(AqaError, match=r"none of the model's modalities \(visual, audio, flow\)"):
        aqa.predict(finished, tmp_path / "own.h5")


def test_selection_on_test_is_called_that(store, tmp_path):
    said = []
    result = aqa.run(experiment(store, tmp_path / "run", select__split="test", train__epochs=1), say=said.append)
    assert result.metrics["selection"]["split"] == "test"
    assert "SELECTED ON TEST" in (tmp_path / "run" / "log.txt").read_text()


@pytest.fixture
def incomplete_store(tmp_path, write_unchecked):
    """A store of 30 videos without split `valid`: one lacks both modalities, ten more lack sound."""
    rng = np.random.default_rng(0)
    lengths = {"video": np.array([4] * 29 + [0]), "sound": np.array([4] * 19 + [0] * 11)}
    labels = rng.uniform(0, 9, 30)
    labels[[0, 25]] = np.nan
    path = tmp_path / "own.h5"
    write_unchecked(
        path,
        name="incomplete",
        source="",
        ids=[f"clip{i}" for i in range(30)],
        modalities={m: Modality(5, n) for m, n in lengths.items()},
        targets={"skill": Target(labels, 0, 10), "constant": Target(np.ones(30), 0, 10)},
        splits={"train": range(15), "test": range(15, 30)},
        read=lambda m, row: rng.normal(size=(4, 5)),
    )
    return path


def test_what_cannot_be_scored_is_reported_and_left_out(incomplete_store, tmp_path):
    said = []
    config = experiment(tmp_path / "own.h5", tmp_path / "run", data__target="skill")
    found = aqa.run(config, say=said.append).metrics
    assert {name: (s["n"], s["unscored"]) for name, s in found["patterns"].items()} == {
        "VS": (13, 1),
        "V": (13, 1),
        "S": (4, 10),
    }
    assert any("3 training videos, drawn by seed 1, select the epoch" in line for line in said)
    assert any("2 videos of train and test have no label for skill" in line for line in said)
    with open(tmp_path / "run" / "predictions.csv") as file:
        empty = [r["id"] for r in csv.DictReader(file) if r["pattern"] == "VS" and r["score"] == ""]
    assert empty == ["clip29"]


def test_an_undefined_correlation_is_null_and_named_and_not_averaged_away(incomplete_store, tmp_path):
    said = []
    found = aqa.run(experiment(tmp_path / "own.h5", tmp_path / "run", data__target="constant"), say=said.append).metrics
    assert found["patterns"]["V"]["srcc"] is None
    assert found["average_incomplete"]["srcc"] is None
    assert found["average_incomplete"]["undefined"] == ["V", "S"]
    assert any("undefined in every epoch" in line for line in said)


def test_hidden_streams_of_a_fixed_pattern_are_never_seen(tmp_path):
    """Spoil what `fixed` takes away: nothing of the run changes, standardizing and reconstruction included."""
    rng = np.random.default_rng(1)
    clips = rng.normal(size=(2, 40, 4, 5))
    pattern = {"combine": [{"fixed": {"rates": 0.5}}, "random_subset"]}

    def write(path, features):
        write_store(
            path,
            name="own",
            source="",
            ids=[f"clip{i}" for i in range(40)],
            modalities={m: Modality(5, np.full(40, 4)) for m in ("video", "sound")},
            targets={"skill": Target(np.linspace(1, 9, 40), 0, 10)},
            splits={"train": range(20), "valid": range(20, 30), "test": range(30, 40)},
            read=lambda m, row: features[int(m == "sound"), row],
        )

    def run(name, features):
        write(tmp_path / f"{name}.h5", features)
        config = experiment(tmp_path / f"{name}.h5", tmp_path / name, data__target="skill", data__standardize=True)
        aqa.run({**config, "missing": {"train": pattern}})
        return weights(tmp_path / name)

    keys = aqa.missing.sample_keys([f"clip{i}" for i in range(20)])
    parsed = aqa.missing.parse_pattern(pattern, ("video", "sound"), "missing.train")
    remaining = parsed.remaining(np.ones((20, 2), bool), aqa.missing.Draws.once(1, keys))
    assert 10 < (~remaining).sum() < 21
    spoiled = clips.copy()
    spoiled[:, :20][~remaining.T] = 1e3
    clean, dirty = run("clean", clips), run("dirty", spoiled)
    assert all(torch.equal(clean[name], dirty[name]) for name in clean)


def test_nan_in_features_is_refused_by_name(tmp_path):
    clips = np.ones((4, 3, 2))
    clips[2, 1, 0] = np.nan
    write_store(
        tmp_path / "own.h5",
        name="own",
        source="",
        ids=list("abcd"),
        modalities={"video": Modality(2, np.full(4, 3))},
        targets={"skill": Target(np.arange(4.0), 0, 10)},
        splits={"train": [0, 1, 2], "test": [3]},
        read=lambda m, row: np.nan_to_num(clips[row]),
    )
    with h5py.File(tmp_path / "own.h5", "a") as file:  # which `write_store` refuses to write
        file["features/video/values"][...] = clips.reshape(-1, 2)
    config = experiment(tmp_path / "own.h5", tmp_path / "run", data__target="skill", missing__train="none")
    with pytest.raises(AqaError, match=r"own\.h5: video of 'c' holds NaN or inf"):
        aqa.run(config)


EXPERIMENTS = Path(__file__).parents[2] / "experiments"
POM = Path(__file__).parents[3] / "shared" / "data" / "pom" / "pom.npz"
PUBLISHED_EPOCHS = {
    "fisv": {"TES": 460, "PCS": 510},
    "fs1000": {"TES": 360, "PCS": 460, "SS": 360, "TR": 210, "PE": 520, "CO": 520, "IN": 390},
    "rg": {"Ball": 410, "Clubs": 560, "Hoop": 270, "Ribbon": 300},
}
PUBLISHED = {  # clips, learning rate, alpha, seed
    "fisv": (124, 2e-4, 0.5, 3),
    "fs1000": (95, 1e-4, 1.0, 1),
    "rg": (68, 2e-4, 1.0, 0),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_benchmark_experiments_have_the_published_settings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_synthetic(name, tmp_path / "data" / f"{name}.h5", samples=4)
    for target, epochs in PUBLISHED_EPOCHS[name].items():
        config = aqa.config.load.load_experiment(EXPERIMENTS / f"{name}.yaml", [f"data.target={target}"])
        clips, learning_rate, alpha, seed = PUBLISHED[name]
        assert (config.data.clips, config.model.options["alpha"]) == (clips, alpha)
        train = config.train
        assert (train.epochs, train.learning_rate, train.seed) == (epochs, learning_rate, seed)
        assert (train.batch_size, train.weight_decay, train.final_learning_rate) == (32, 1e-4, 0.01)
        assert train.optimizer == "adam"
        assert config.title == f"{name}-{target}-seed{seed}"
    small = ["train.epochs=1", "model.hidden_dim=8", "model.n_encoder=1", "model.n_decoder=1", "data.clips=8"]
    found = aqa.run(EXPERIMENTS / f"{name}.yaml", small).metrics
    assert list(found["patterns"]) == SEVEN


def test_figures_are_drawn_where_the_experiment_does_not_say_otherwise(store, tmp_path, finished, figures):
    assert {path.name for path in (finished / "figures").iterdir()} == {
        *("srcc_by_pattern.png", "predicted_against_true.png", "training_curves.png", "router_weights.png"),
    }
    aqa.run(experiment(store, tmp_path / "run", figures=False))
    assert not (tmp_path / "run" / "figures").exists()
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == (finished / "predictions.csv").read_bytes()
    before = (tmp_path / "run" / "metrics.json").stat().st_mtime_ns
    aqa.run(experiment(store, tmp_path / "run"))  # the same experiment, which is shown
    assert (tmp_path / "run" / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.skipif(not POM.is_file(), reason="the POM data is not beside the project")
def test_pom_is_scored_where_there_is_a_face_and_says_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare("pom", tmp_path / "data" / "pom.h5", source=POM)
    small = ["train.epochs=1", "model.hidden_dim=8", "data.target=humorous"]
    found = aqa.run(EXPERIMENTS / "pom.yaml", small).metrics
    assert found["samples"] == {"train": 600, "select": 100, "test": 203}
    counts = {name: (scores["n"], scores["unscored"]) for name, scores in found["patterns"].items()}
    faces = counts["V"][0]
    assert 80 < faces < 95  # 57 % of the test videos have none
    assert counts["VAF"] == counts["VA"] == counts["AF"] == counts["A"] == (203, 0)
    assert counts["VF"] == counts["V"] == (faces, 203 - faces)


def test_an_unknown_target_of_a_benchmark_is_named():
    with pytest.raises(AqaError, match="no target 'TESS' under targets: did you mean 'TES'"):
        aqa.config.load.load_experiment(EXPERIMENTS / "fisv.yaml", ["data.target=TESS"])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"data__modalities": ["audio", "audio"]}, "data.modalities: a modality is listed twice"),
        ({"data__modalities": []}, "data.modalities: needs at least 1 entry"),
        ({"data__modalities": ["visal", "audio"]}, "has no modality 'visal': did you mean 'visual'?"),
        ({"train__learning_rate": 1e9, "train__epochs": 5}, "a lower train.learning_rate may help"),
        (
            {"data__standardize": True, "missing__train": {"fixed": {"rates": {"audio": 1.0}}}},
            "has audio; leave it out",
        ),
    ],
)
def test_settings_that_cannot_work_are_one_line(store, tmp_path, change, line):
    with pytest.raises(AqaError) as error:
        aqa.run(experiment(store, tmp_path / "run", **change))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_too_few_videos_to_cut_a_validation_split_from(tmp_path):
    write_store(
        tmp_path / "few.h5",
        name="few",
        source="made for a test",
        ids=["a", "b", "c", "d"],
        modalities={"visual": Modality(3, np.full(4, 2)), "audio": Modality(3, np.full(4, 2))},
        targets={"score": Target(np.arange(4.0), 0, 5)},
        splits={"train": [0, 1], "test": [2, 3]},
        read=lambda modality, row: np.ones((2, 3), np.float32),
    )
    with pytest.raises(AqaError, match=r"0\.2 of 2 training videos leaves none to select on"):
        aqa.run(experiment(tmp_path / "few.h5", tmp_path / "run"))


def test_training_that_diverges_says_when_and_keeps_what_was_best(store, tmp_path, monkeypatch, capsys):
    epoch_of_training, calls = aqa.training.loop.train_epoch, []

    def diverging(step, *rest):
        losses = epoch_of_training(step, *rest)
        calls.append(1)
        if len(calls) == 3:
            next(step.model.parameters()).data.view(-1)[0] = math.inf
        return losses

    monkeypatch.setattr("aqa.training.loop.train_epoch", diverging)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment(store, tmp_path / "run", train__epochs=4)))
    assert aqa.cli.main(["run", str(tmp_path / "e.yaml")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    best = re.search(r"a weight is none in epoch 3; .*; the weights of epoch ([12]), the best before it, are in ", said)
    assert best
    assert said.endswith(f"{tmp_path}/run/checkpoint.pt")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["selection"]["epoch"] == int(best.group(1))
    assert all(weight.isfinite().all() for weight in kept["weights"].values())
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 2
    assert "in epoch 3" in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(AqaError, match="unfinished"):
        aqa.evaluate(tmp_path / "run")
    monkeypatch.setattr(
        "aqa.training.loop.train_epoch", epoch_of_training
    )  # nothing of it stands in the way of another try
    assert aqa.run(tmp_path / "e.yaml").metrics["selection"]["epochs"] == 4


def test_why_a_correlation_is_undefined_is_said(incomplete_store, tmp_path):
    found = aqa.run(experiment(tmp_path / "own.h5", tmp_path / "run", data__target="constant"))
    assert found.metrics["patterns"]["V"]["why_undefined"] == "every label is the same"
    assert "SRCC undefined: VS (every label is the same), V (every label is the same)" in str(found)
    assert "the last epoch, 2 of 2: SRCC (complete) on valid was undefined in every epoch" in str(found)
    assert "every label in 'train' is 1: there is nothing to learn" in (tmp_path / "run" / "log.txt").read_text()
