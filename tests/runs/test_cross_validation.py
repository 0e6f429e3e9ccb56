"""Cross-validation from an experiment to its folder: resuming, leakage, the table, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import aqa
from aqa.errors import AqaError
from aqa.evaluation.metrics import srcc
from aqa.runs.folder import RunFolder
from aqa.store.store import Modality, Target

N = 24
SMALL = {"name": "zero_fill", "hidden_dim": 4, "n_encoder": 1, "n_decoder": 1}
PATIENTS = [f"p{i // 2}" for i in range(N)]


def labels():
    return np.random.default_rng(1).permutation(N).astype(float)


@pytest.fixture
def write(tmp_path):
    """A function that writes a store without splits, 24 videos of 12 patients, and returns its path."""

    def store(values=None, name="s.h5", **parts):
        rng = np.random.default_rng(0)
        clips = {m: rng.normal(size=(N, 3, 2)) + labels()[:, None, None] / 8 for m in ("visual", "audio")}
        path = tmp_path / name
        aqa.write_store(
            path,
            name="clinic",
            source="a test",
            ids=[f"v{i:02d}" for i in range(N)],
            modalities={m: Modality(2, np.full(N, 3)) for m in clips},
            targets={"grade": Target(labels() if values is None else values, 0, N)},
            splits=parts.pop("splits", {}),
            groups={"patient": PATIENTS, "part": [str(i // 8) for i in range(N)]},
            read=lambda modality, row: clips[modality][row],
            overwrite=True,
            **parts,
        )
        return path

    return store


def experiment(store, output, model=None, **changes):
    folds = changes.pop("folds", {"count": 3, "group": "patient"})
    return {
        "name": "x",
        "data": {"store": str(store), "target": "grade", "folds": folds, **changes.pop("data", {})},
        "model": model or {"name": "ridge"},
        "missing": {"train": "none", "test": ["VA", "V", "A"]},
        "train": {"epochs": 2, "batch_size": 8, "threads": 1, **changes.pop("train", {})},
        "select": changes.pop("select", {}),
        "output": str(output),
    }


def test_a_folder_holds_all_folds_and_what_they_found_together(write, tmp_path):
    result = aqa.run(experiment(write(), tmp_path / "cv"))
    table = pd.read_csv(tmp_path / "cv" / "predictions.csv")
    assert list(table) == ["id", "target", "pattern", "score", "label", "low", "high", "fold", "group"]
    for pattern, rows in table.groupby("pattern"):
        assert rows["id"].tolist() == [f"v{i:02d}" for i in range(N)]
        assert rows["group"].tolist() == PATIENTS
        assert result.metrics["patterns"][pattern]["srcc"] == pytest.approx(srcc(rows["score"], rows["label"]))
        by_fold = {fold: srcc(own["score"], own["label"]) for fold, own in rows.groupby("fold")}
        stated = {each["fold"]: each["srcc"][pattern] for each in result.metrics["folds"]["each"]}
        assert stated == pytest.approx(by_fold)
    for fold in range(3):
        own = pd.read_csv(tmp_path / "cv" / f"fold{fold}" / "predictions.csv")
        assert own["fold"].unique().tolist() == [fold]
        merged = own.merge(table, on=["id", "pattern", "fold"])
        assert len(own) == len(merged)
        assert (merged["score_x"] == merged["score_y"]).all()
    assert RunFolder(tmp_path / "cv").status == "finished"
    assert json.loads((tmp_path / "cv" / "metrics.json").read_text()) == result.metrics


def test_the_table_says_how_folds_were_made_and_what_was_drawn(write, tmp_path):
    text = str(aqa.run(experiment(write(), tmp_path / "cv")))
    assert text.startswith("ridge on grade, seed 0, 3 folds by patient; epochs selected on valid in each fold by SRCC")
    assert "mean of folds" in text.splitlines()[1]
    assert "intervals draw the 12 groups (patient)" in text


def test_a_fold_trains_selects_and_tests_different_patients(write, tmp_path):
    aqa.run(experiment(write(), tmp_path / "cv"))
    for fold in range(3):
        samples = RunFolder(tmp_path / "cv" / f"fold{fold}").metrics["samples"]
        assert samples == {"train": 12, "select": 4, "test": 8}


def weights(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.mark.parametrize("model", [{"name": "ridge"}, SMALL])
@pytest.mark.parametrize("folds", [{"count": 3, "group": "patient"}, {"leave_out": "part"}, {"column": "part"}])
def test_labels_that_a_fold_tests_change_no_bit_of_its_checkpoint(write, tmp_path, model, folds):
    data = {"standardize": True}
    aqa.run(experiment(write(), tmp_path / "plain", model, folds=folds, data=data))
    tested = pd.read_csv(tmp_path / "plain/fold1/predictions.csv")
    rows = [int(name[1:]) for name in tested["id"].unique()]
    changed = labels()
    changed[rows] = np.random.default_rng(2).permutation(changed[rows])
    one = {"folds": {**folds, "fold": 1}, "data": data}
    aqa.run(experiment(write(changed, "permuted.h5"), tmp_path / "permuted", model, **one))
    kept = (tmp_path / "plain/fold1/checkpoint.pt").read_bytes()
    assert (tmp_path / "permuted/checkpoint.pt").read_bytes() == kept
    poisoned = labels()
    poisoned[rows] = 7.0
    poisoned[rows[0]] = np.nan
    aqa.run(experiment(write(poisoned, "poisoned.h5"), tmp_path / "poisoned", model, **one))
    before, after = weights(tmp_path / "plain/fold1"), weights(tmp_path / "poisoned")
    assert before["weights"].keys() == after["weights"].keys()
    assert all(torch.equal(before["weights"][name], after["weights"][name]) for name in before["weights"])
    assert before["selection"] == after["selection"]
    for modality, (mean, deviation) in before["statistics"].items():
        assert torch.equal(mean, after["statistics"][modality][0])
        assert torch.equal(deviation, after["statistics"][modality][1])


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_cross_validation_that_was_stopped_resumes_and_ends_with_the_same_bits(write, tmp_path, stopped_in_epoch):
    store = write()
    aqa.run(experiment(store, tmp_path / "whole", SMALL))
    aqa.run(experiment(store, tmp_path / "cut", SMALL, folds={"count": 3, "group": "patient", "fold": 0}))
    (tmp_path / "cut").rename(tmp_path / "fold0")
    (tmp_path / "cut").mkdir()
    (tmp_path / "fold0").rename(tmp_path / "cut" / "fold0")  # as its own process left it, or a sweep
    finished = files(tmp_path / "cut" / "fold0")
    with stopped_in_epoch(2):
        aqa.run(experiment(store, tmp_path / "cut", SMALL))
    assert RunFolder(tmp_path / "cut" / "fold1").status == "unfinished"
    assert RunFolder(tmp_path / "cut").status == "new"
    said = []
    aqa.run(experiment(store, tmp_path / "cut", SMALL), say=said.append)
    assert files(tmp_path / "cut" / "fold0") == finished
    assert any("after epoch 1" in line for line in said)
    kept = ("predictions.csv", "metrics.json", "fold1/predictions.csv", "fold2/checkpoint.pt")
    for name in kept:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = aqa.run(experiment(store, tmp_path / "cut", SMALL))
    assert again.already_finished


def test_one_that_is_stopped_says_in_which_fold(write, tmp_path, monkeypatch):
    def stop(*arguments, **further):
        raise KeyboardInterrupt("stopped; resume")

    monkeypatch.setattr("aqa.runs.run.prepare", stop)
    with pytest.raises(KeyboardInterrupt, match=r"^fold 0 \(1 of 3\): stopped; resume$"):
        aqa.run(experiment(write(), tmp_path / "cv"))


def test_repeats_test_every_video_again(write, tmp_path):
    result = aqa.run(experiment(write(), tmp_path / "cv", folds={"count": 3, "repeats": 2}))
    table = pd.read_csv(tmp_path / "cv" / "predictions.csv")
    rows = table[table["pattern"] == "VA"]
    assert rows["id"].tolist() == [f"v{i:02d}" for i in range(N)] * 2
    assert sorted(rows["fold"][:N].unique()) == [0, 1, 2]
    assert sorted(rows["fold"][N:].unique()) == [3, 4, 5]
    assert result.metrics["patterns"]["VA"]["n"] == N
    assert result.metrics["folds"]["repeats"] == 2
    assert "3 folds, 2 times" in str(result)


def test_other_folds_are_not_taken_for_these(write, tmp_path):
    store = write()
    aqa.run(experiment(store, tmp_path / "cv"))
    with pytest.raises(AqaError, match=r"holds another experiment \(data\.folds\.count is 3 there, 4 here\)"):
        aqa.run(experiment(store, tmp_path / "cv", folds={"count": 4, "group": "patient"}))
    (tmp_path / "cv" / "mine.txt").write_text("kept")
    aqa.run(experiment(store, tmp_path / "cv", folds={"count": 2, "group": "patient"}), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "cv").glob("fold*")) == ["fold0", "fold1"]
    assert (tmp_path / "cv" / "mine.txt").exists()


def test_folds_of_another_store_are_refused(write, tmp_path):
    aqa.run(experiment(write(), tmp_path / "cv"))
    (tmp_path / "cv" / "metrics.json").unlink()
    (tmp_path / "cv" / "config.yaml").unlink()
    (tmp_path / "cv" / "predictions.csv").unlink()
    (tmp_path / "cv" / "log.txt").unlink()
    other = write(labels()[::-1].copy(), "other.h5")
    with pytest.raises(AqaError, match="holds a run on"):
        aqa.run(experiment(other, tmp_path / "cv"))


def test_a_fold_that_does_not_exist_is_one_line(write, tmp_path):
    with pytest.raises(AqaError, match=r"^data\.folds\.fold: 3 is not one of the 3 folds, which count from 0$"):
        aqa.run(experiment(write(), tmp_path / "x", folds={"count": 3, "fold": 3}))


def test_without_folds_a_store_needs_splits(write, tmp_path):
    with pytest.raises(AqaError, match=r"has no split 'train': known: none; data\.folds needs none: it makes folds$"):
        aqa.run(experiment(write(), tmp_path / "x", folds=None))


def test_selection_knows_the_splits_of_a_fold(write, tmp_path):
    with pytest.raises(AqaError, match=r"^select\.split: fold 0 of a cross-validation has no split 'vaild': did you"):
        aqa.run(experiment(write(), tmp_path / "x", select={"split": "vaild"}))
    result = aqa.run(experiment(write(), tmp_path / "y", select={"split": "test"}))
    assert "epochs SELECTED ON TEST in each fold" in str(result)


def test_evaluate_scores_each_video_by_the_model_of_its_fold(write, tmp_path):
    result = aqa.run(experiment(write(), tmp_path / "cv", folds={"count": 3, "repeats": 2}))
    again = aqa.evaluate(tmp_path / "cv").metrics
    assert again["patterns"] == result.metrics["patterns"]
    assert again["average_incomplete"] == result.metrics["average_incomplete"]
    assert list(aqa.evaluate(tmp_path / "cv", patterns=["V"]).metrics["patterns"]) == ["V"]
    with pytest.raises(AqaError, match="has tested every video in its fold; leave the option out"):
        aqa.evaluate(tmp_path / "cv", split="train")


def test_predict_is_the_mean_of_the_models_of_all_folds(write, tmp_path):
    store = write()
    aqa.run(experiment(store, tmp_path / "cv"))
    together = aqa.predict(tmp_path / "cv", store)
    single = [aqa.predict(tmp_path / "cv" / f"fold{fold}", store)["score"] for fold in range(3)]
    assert together["score"].to_numpy() == pytest.approx(np.mean(single, axis=0))
    assert together["id"].tolist() == [f"v{i:02d}" for i in range(N)]


def test_another_store_is_scored_by_the_mean_of_all_models(write, tmp_path):
    aqa.run(experiment(write(), tmp_path / "cv"))
    other = write(name="other.h5", splits={"test": range(6)})
    found = aqa.evaluate(tmp_path / "cv", store=other)
    scores = aqa.predict(tmp_path / "cv", other, split="test")["score"]
    assert found.metrics["patterns"]["VA"]["srcc"] == pytest.approx(srcc(scores, labels()[:6]))
    assert "scores are the mean of the models of 3 folds" in str(found)


def test_a_search_of_settings_over_all_folds_is_refused(write, tmp_path):
    from aqa.config.load import load_experiment
    from aqa.runs.cross_validation import require_no_folds

    with pytest.raises(AqaError, match=r"^data\.folds: settings cannot be chosen on all folds, .*data\.folds\.fold=0$"):
        require_no_folds(load_experiment(experiment(write(), tmp_path / "x")))
    require_no_folds(load_experiment(experiment(write(), tmp_path / "x", folds={"count": 3, "fold": 1})))


@pytest.mark.parametrize("repeats", [1, 2])
def test_several_missing_rates_have_the_area_under_the_pooled_srcc(write, tmp_path, repeats):
    folds = {"count": 3, "group": "patient", "repeats": repeats}
    settings = experiment(write(), tmp_path / "cv", folds=folds)
    settings["missing"]["test"] = ["complete", {"rates": 0.4}]
    result = aqa.run(settings)
    area, found = result.metrics["area_under_rates"], result.metrics["patterns"]
    assert area["rates"] == [0.0, 0.4]
    assert area["srcc"] == pytest.approx(np.mean([found[name]["srcc"] for name in area["patterns"]]))
    assert area["srcc_low"] < area["srcc"] < area["srcc_high"]
    assert "area under SRCC against missing rate" in str(result)
