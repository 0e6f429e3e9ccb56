"""Intervals of a run's scores: what they are made from, what they never ask, and where there are none."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import aqa
from aqa.errors import AqaError
from aqa.evaluation.intervals import cross_validated, half_width
from aqa.runs.calibration import calibration_in, held_out_in
from aqa.runs.checkpoint import load_scorer, read_checkpoint
from aqa.runs.folder import RunFolder
from aqa.store.store import FeatureStore, Modality, Target

N = 60
SPLITS = {"train": range(30), "valid": range(30, 48), "test": range(48, 60)}
SMALL = {"name": "zero_fill", "hidden_dim": 4, "n_encoder": 1, "n_decoder": 1}
LENGTHS = {"visual": np.full(N, 4), "audio": np.full(N, 4)}
LENGTHS["audio"][[3, 31, 40]] = 0  # some videos have no audio


def labels():
    return np.random.default_rng(1).uniform(0, 10, N)


@pytest.fixture
def write(tmp_path):
    """A function that writes a store of 60 videos and returns its path.

    values: the labels; spoiled: rows whose audio has other numbers and another length.
    """

    def store(values=None, name="s.h5", splits=SPLITS, spoiled=()):
        lengths = {m: n.copy() for m, n in LENGTHS.items()}
        lengths["audio"][list(spoiled)] = 9

        def read(modality, row):
            rng = np.random.default_rng([row, len(modality)])
            clips = rng.normal(size=(lengths[modality][row], 2)) + labels()[row] / 3
            return clips + 50 * (modality == "audio" and row in spoiled)

        path = tmp_path / name
        aqa.write_store(
            path,
            name="clinic",
            source="a test",
            ids=[f"v{i:02d}" for i in range(N)],
            modalities={m: Modality(2, lengths[m]) for m in lengths},
            targets={"grade": Target(labels() if values is None else values, 0, 10)},
            splits=splits,
            read=read,
            overwrite=True,
        )
        return path

    return store


def experiment(store, output, model="ridge", test=("VA", "V", "A"), **changes):
    return {
        "name": "x",
        "data": {"store": str(store), "target": "grade", **changes.pop("data", {})},
        "model": {"name": model} if isinstance(model, str) else model,
        "missing": {"train": "none", "test": list(test)},
        "train": {"epochs": 2, "batch_size": 8, "threads": 1},
        "select": changes.pop("select", {}),
        "evaluate": {"level": 0.8, **changes.pop("evaluate", {})},
        "output": str(output),
    }


def table_of(result, **options):
    return pd.read_csv(result.folder / "predictions.csv", **options)


def ends(result):
    return table_of(result, dtype=str, keep_default_na=False)[["id", "pattern", "score", "low", "high"]]


def calibration(result):
    return calibration_in(read_checkpoint(RunFolder.existing(result.folder)))


def residuals_under(result, path, pattern, rows):
    """|score - label| of some videos that have all of a subset, by the run's checkpoint."""
    with FeatureStore(path) as store:
        scorer = load_scorer(read_checkpoint(RunFolder.existing(result.folder)), store, torch.device("cpu"))
        known = aqa.missing.parse_pattern(pattern, scorer.features.modalities, "here")
        scores = scorer.predict(np.array(rows), {pattern: known})[pattern]
        has_all = scorer.features.available[rows][:, list(known.subset)].all(axis=1)
    return np.abs(scores - labels()[rows])[has_all]


@pytest.mark.parametrize("model", ["ridge", SMALL], ids=["ridge", "deep"])
def test_intervals_are_made_from_validation_videos_masked_alike(write, tmp_path, model):
    path = write()
    result = aqa.run(experiment(path, tmp_path / "r", model))
    table = table_of(result)
    for pattern, rows in table.groupby("pattern"):
        half = half_width(residuals_under(result, path, pattern, list(SPLITS["valid"])), 0.8)
        np.testing.assert_allclose(rows["low"], np.clip(rows["score"] - half, 0, 10), atol=1e-9)
        np.testing.assert_allclose(rows["high"], np.clip(rows["score"] + half, 0, 10), atol=1e-9)
        inside = (rows["low"] <= rows["label"]) & (rows["label"] <= rows["high"])
        assert result.metrics["patterns"][pattern]["interval"]["coverage"] == pytest.approx(inside.mean())
    assert result.metrics["intervals"]["calibrated_on"] == ["valid"]
    assert result.metrics["intervals"]["videos"] == [16, 18]  # two of them have no audio
    assert result.metrics["intervals"]["selected_on_them"] == (model is SMALL)
    assert ("selected on the same videos" in str(result)) == (model is SMALL)


def test_labels_of_test_videos_change_no_bit_of_an_interval(write, tmp_path):
    other = labels()
    other[list(SPLITS["test"])] = np.random.default_rng(2).permutation(other[list(SPLITS["test"])])
    for model in ("ridge", "gaussian_process", SMALL):
        runs = [
            aqa.run(experiment(write(values, f"{i}.h5"), tmp_path / f"{model}"[:9] / str(i), model))
            for i, values in enumerate((None, other))
        ]
        pd.testing.assert_frame_equal(ends(runs[0]), ends(runs[1]))
        assert runs[0].metrics["patterns"] != runs[1].metrics["patterns"]


def test_hidden_streams_of_test_and_of_validation_videos_change_no_bit_of_an_interval(write, tmp_path):
    spoiled = [*SPLITS["valid"], *SPLITS["test"]]
    for model in ("ridge", "gaussian_process", SMALL):
        runs = []
        for i, rows in enumerate(((), [row for row in spoiled if LENGTHS["audio"][row]])):
            path, output = write(name=f"{i}.h5", spoiled=rows), tmp_path / f"{model}"[:9] / str(i)
            runs.append(aqa.run(experiment(path, output, model, ["V", "A"], select={"pattern": "V"})))
        seen = [ends(run) for run in runs]
        visual = [table[table["pattern"] == "V"] for table in seen]
        pd.testing.assert_frame_equal(*visual)
        assert not seen[0].equals(seen[1])


def test_a_spread_of_grades_is_in_the_files_and_hidden_streams_change_no_bit_of_it(write, tmp_path):
    model = {"name": "grade_decoder", "hidden_dim": 8, "dropout": 0.0}
    spoiled = [row for row in (*SPLITS["valid"], *SPLITS["test"]) if LENGTHS["audio"][row]]
    tables = []
    for i, rows in enumerate(((), spoiled)):
        path = write(name=f"{i}.h5", spoiled=rows)
        result = aqa.run(experiment(path, tmp_path / str(i), model, ["VA", "V"], select={"pattern": "V"}))
        tables.append(table_of(result, dtype=str).set_index(["pattern", "id"])["spread"])
        complete, predicted = table_of(result).query("pattern == 'VA'"), aqa.predict(result.folder, path, split="test")
        np.testing.assert_array_equal(predicted["spread"], complete["spread"])
        assert predicted["spread"].between(0, 5, inclusive="neither").all()  # half of the target's range
    assert tables[0]["V"].equals(tables[1]["V"])
    assert not tables[0]["VA"].equals(tables[1]["VA"])


def test_too_few_videos_leave_intervals_unbounded_and_the_table_says_so(write, tmp_path):
    splits = {**SPLITS, "valid": range(30, 33)}
    result = aqa.run(experiment(write(splits=splits), tmp_path / "r", SMALL))
    table = table_of(result)
    assert np.isneginf(table["low"]).all()
    assert np.isposinf(table["high"]).all()
    assert result.metrics["patterns"]["VA"]["interval"]["coverage"] is None
    assert result.metrics["patterns"]["VA"]["interval"]["unbounded"] == 12
    assert "unbounded: too few calibration videos" in str(result)
    assert "takes 4" in str(result)


def test_a_model_in_closed_form_leaves_out_training_videos_where_others_are_too_few(write, tmp_path):
    splits = {**SPLITS, "valid": range(30, 33)}
    result = aqa.run(experiment(write(splits=splits), tmp_path / "r", "ridge"))
    assert np.isfinite(table_of(result)["low"]).all()
    assert result.metrics["intervals"]["calibrated_on"] == ["the training videos, each left out"]
    assert result.metrics["intervals"]["videos"] == [29, 30]


def test_nothing_is_calibrated_on_test(write, tmp_path):
    splits = {"train": range(48), "test": range(48, 60)}
    result = aqa.run(experiment(write(splits=splits), tmp_path / "r", SMALL, select={"split": "test"}))
    assert table_of(result)[["low", "high"]].isna().all(axis=None)
    assert "no intervals of scores: the epoch is selected on test, and no split 'valid' is left" in str(result)
    assert "interval" not in result.metrics["patterns"]["VA"]
    assert calibration(result).kept_apart == {}


def test_a_split_valid_calibrates_where_the_epoch_is_selected_on_test(write, tmp_path):
    path = write()
    result = aqa.run(experiment(path, tmp_path / "r", SMALL, select={"split": "test"}))
    known = calibration(result).kept_apart["", (True, True)].residuals
    np.testing.assert_allclose(known, residuals_under(result, path, "VA", list(SPLITS["valid"])))
    assert not result.metrics["intervals"]["selected_on_them"]


def test_a_process_that_learns_from_all_leaves_each_video_out(write, tmp_path):
    model = {"name": "gaussian_process", "learn_from": "train+valid"}
    result = aqa.run(experiment(write(), tmp_path / "r", model, select={"split": "train"}))
    table = table_of(result)
    assert list(table) == ["id", "target", "pattern", "score", "label", "low", "high", "spread"]
    assert np.isfinite(table["low"]).all()
    assert (table["spread"] > 0).all()
    assert result.metrics["intervals"]["calibrated_on"] == ["the training videos, each left out"]


def test_a_pattern_that_damages_is_calibrated_under_its_damage(write, tmp_path):
    noise = {"noise": {"std": 5.0}}
    path = write()
    result = aqa.run(experiment(path, tmp_path / "r", "ridge", ["VA", noise]))
    name = list(result.metrics["patterns"])[1]
    known = calibration(result)
    assert {key[0] for key in known.kept_apart} == {"", name}
    assert half_width(known.kept_apart[name, (True, True)].residuals, 0.8) > 1.2 * half_width(
        known.kept_apart["", (True, True)].residuals, 0.8
    )
    other = aqa.evaluate(result.folder, patterns=[{"noise": {"std": 4.0}}])
    assert next(iter(other.metrics["patterns"].values()))["interval"]["unbounded"] == 12


def test_a_pattern_with_a_reason_is_calibrated_by_itself(write, tmp_path):
    mnar = {"mnar": {"modality": "audio", "rate": 0.5}}
    result = aqa.run(experiment(write(), tmp_path / "r", "ridge", [mnar], evaluate={"level": 0.5}))
    (name,) = result.metrics["patterns"]
    known = {key: len(found.residuals) for key, found in calibration(result).kept_apart.items() if key[0]}
    assert sum(known.values()) == 18
    assert set(known) == {(name, (True, True)), (name, (True, False))}


def test_predict_has_intervals_at_the_level_asked_for(write, tmp_path):
    path, said = write(), []
    result = aqa.run(experiment(path, tmp_path / "r"))
    table = table_of(result)
    own = aqa.predict(result.folder, path, split="test")
    complete = table[table["pattern"] == "VA"]
    np.testing.assert_array_equal(own["low"], complete["low"])
    np.testing.assert_array_equal(own["high"], complete["high"])
    wide = aqa.predict(result.folder, path, split="test", level=0.9, out=tmp_path / "s.csv", say=said.append)
    assert (wide["high"] - wide["low"] > own["high"] - own["low"]).all()
    assert list(pd.read_csv(tmp_path / "s.csv")) == ["id", "visible", "score", "low", "high"]
    assert said[-1] == "low and high hold the label with probability 0.9, made from valid"
    with pytest.raises(AqaError, match=r"--level 90: a share between 0 and 1"):
        aqa.predict(result.folder, path, level=90)


def test_evaluate_has_them_at_another_level(write, tmp_path):
    result = aqa.run(experiment(write(), tmp_path / "r"))
    again = aqa.evaluate(result.folder)
    assert again.metrics["patterns"]["VA"]["interval"] == result.metrics["patterns"]["VA"]["interval"]
    assert aqa.evaluate(result.folder, level=0.5).metrics["intervals"]["level"] == 0.5


def test_a_run_of_an_older_version_stays_readable(write, tmp_path):
    path, said = write(), []
    result = aqa.run(experiment(path, tmp_path / "r", "ridge"))
    forget(result.folder)
    found = aqa.predict(result.folder, path, out=tmp_path / "s.csv", say=said.append)
    assert found[["low", "high"]].isna().all(axis=None)
    assert found["score"].notna().all()
    assert "made before scores had intervals" in said[-1]
    assert "made before scores had intervals" in str(aqa.evaluate(result.folder))


def forget(folder, content=None):
    """Take what intervals are made from out of a checkpoint, or put something else there."""
    checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
    del checkpoint["calibration"]
    torch.save(checkpoint if content is None else {**checkpoint, "calibration": content}, folder / "checkpoint.pt")
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["files"]
    (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("residuals", "message"),
    [
        (torch.tensor([1.0, float("nan")], dtype=torch.double), "not finite numbers"),
        (torch.tensor([1.0, -1.0], dtype=torch.double), "not finite numbers"),
        (torch.tensor([1.0]), "not finite numbers"),
        ([1.0], r"calibration\.residuals\.0\.residuals"),
    ],
)
def test_damaged_residuals_are_refused_in_one_line(write, tmp_path, residuals, message):
    path = write()
    result = aqa.run(experiment(path, tmp_path / "r", "ridge"))
    one = {"pattern": "", "visible": [True, True], "left_out": False, "residuals": residuals, "spreads": None}
    forget(result.folder, {"source": "valid", "selected": False, "why_none": None, "residuals": [one]})
    with pytest.raises(AqaError, match=message) as error:
        aqa.predict(result.folder, path)
    assert "\n" not in str(error.value)


def test_folds_have_their_own_intervals_and_new_videos_those_of_cross_validation(write, tmp_path):
    path = write()
    folds = {"folds": {"count": 3, "repeats": 2}, "validation": 0.4}
    result = aqa.run(experiment(path, tmp_path / "cv", "ridge", data=folds))
    table = table_of(result)
    each = pd.concat([pd.read_csv(tmp_path / f"cv/fold{i}/predictions.csv") for i in range(6)])
    keys = ["fold", "pattern", "id"]
    columns = [*keys, "score", "low", "high"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys)[columns].reset_index(drop=True), each.sort_values(keys)[columns].reset_index(drop=True)
    )
    inside = (table["low"] <= table["label"]) & (table["label"] <= table["high"])
    found = result.metrics["patterns"]["V"]["interval"]
    assert found["coverage"] == pytest.approx(inside[table["pattern"] == "V"].mean())
    assert found["n"] == 120

    new = aqa.predict(result.folder, path, level=0.8)
    first = [RunFolder.existing(tmp_path / f"cv/fold{i}") for i in range(3)]  # of two repeats
    residuals = [held_out_in(fold, 2)["", (True, True)].residuals for fold in first]
    assert sum(map(len, residuals)) == 57
    with FeatureStore(path) as store:
        complete = {"VA": aqa.missing.parse_pattern("VA", ("visual", "audio"), "here")}
        scorers = [load_scorer(read_checkpoint(fold), store, torch.device("cpu")) for fold in first]
        scores = [scorer.predict(np.arange(N), complete)["VA"] for scorer in scorers]
    by_video = np.repeat(np.stack(scores), [len(part) for part in residuals], axis=0)
    low, high = cross_validated(by_video, np.concatenate(residuals), 0.8)
    both = (new["visible"] == "VA").to_numpy()
    low, high = np.minimum(low, new["score"]), np.maximum(high, new["score"])
    np.testing.assert_allclose(new["low"][both], np.clip(low, 0, 10)[both])
    np.testing.assert_allclose(new["high"][both], np.clip(high, 0, 10)[both])


def test_scoring_a_cross_validation_again_gives_the_same_intervals(write, tmp_path):
    folds = {"folds": {"count": 3}, "validation": 0.4}
    result = aqa.run(experiment(write(), tmp_path / "cv", "ridge", data=folds))
    again = aqa.evaluate(result.folder)
    assert again.metrics["intervals"] == result.metrics["intervals"]
    for pattern, scores in again.metrics["patterns"].items():
        known = result.metrics["patterns"][pattern]["interval"]
        assert scores["interval"].pop("reliability") == known.pop("reliability")
        assert scores["interval"] == pytest.approx(known)
