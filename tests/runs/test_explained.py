"""The tables that explain a run's scores."""

import numpy as np
import pandas as pd
import pytest
import torch

import aqa
from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.runs.checkpoint import load_scorer, read_checkpoint
from aqa.runs.explained import ExplanationTables
from aqa.runs.folder import RunFolder
from aqa.runs.references import learned_by
from aqa.store.store import Modality, Target
from aqa.store.write import write_store

WIDTHS = {"visual": 3, "audio": 2}
LENGTHS = np.array([0 if row % 4 == 3 else 5 + row % 3 for row in range(80)])  # every fourth video has no visual
TEST = range(60, 80)


def write(path, poisoned="", relabelled=False):
    """Eighty videos; `poisoned`: a stream that has other values and lengths in the test videos."""
    rng = np.random.default_rng(0)
    clips = {m: [rng.normal(size=(8, width)).astype(np.float32) for _ in range(80)] for m, width in WIDTHS.items()}
    labels = np.array([np.mean(clips["audio"][row]) for row in range(80)]) * 3 + 5 + rng.normal(size=80)
    if relabelled:
        labels[60:] = labels[60:][::-1]
    lengths = {"visual": LENGTHS.copy(), "audio": np.full(80, 7)}
    if poisoned:
        lengths[poisoned][60:][lengths[poisoned][60:] > 0] = 8

    def read(modality, row):
        stream = clips[modality][row][: lengths[modality][row]]
        return stream * 7 - 3 if modality == poisoned and row in TEST else stream

    write_store(
        path,
        name="small",
        source="",
        ids=[f"video{row}" for row in range(80)],
        modalities={m: Modality(width, lengths[m], clip_seconds=0.5) for m, width in WIDTHS.items()},
        targets={"score": Target(labels.clip(0, 10), 0, 10)},
        splits={"train": range(40), "valid": range(40, 60), "test": TEST},
        groups={"who": [f"p{row % 5}" for row in range(80)]},
        read=read,
    )
    return path


def experiment(store, output, name="ridge", **changes):
    options = {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1} if name == "mcmoe" else {}
    return {
        "name": "explained",
        "data": {"store": str(store), "target": "score", **changes},
        "model": {"name": name, **options},
        "missing": {"train": "none"},
        "train": {"epochs": 1, "batch_size": 20},
        "figures": False,
        "output": str(output),
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of runs, by model, and the store they were made from."""
    folder = tmp_path_factory.mktemp("explained")
    store = write(folder / "small.h5")
    for name in ("gaussian_process", "mcmoe"):
        aqa.run(experiment(store, folder / name, name))
    return folder


@pytest.fixture(scope="module")
def process(runs):
    return aqa.explain(runs / "gaussian_process")


def same(one: ExplanationTables, other: ExplanationTables, but=()):
    for name, table in one.by_name().items():
        pd.testing.assert_frame_equal(
            table.drop(columns=list(but), errors="ignore"),
            other.by_name()[name].drop(columns=list(but), errors="ignore"),
            check_exact=True,
        )


def test_streams_and_parts_add_up(process):
    videos = process.videos.set_index("id")
    assert list(videos.index) == [f"video{row}" for row in TEST]
    streams = process.streams.groupby("id")["shapley"].sum()
    np.testing.assert_allclose(streams[videos.index], videos["score"] - videos["training_mean"], atol=1e-6)
    parts = process.parts.groupby("id")["value"].sum()
    np.testing.assert_allclose(parts[videos.index], videos["score"], atol=1e-5)
    assert set(process.streams.loc[process.streams["id"] == "video63", "modality"]) == {"audio"}
    assert process.by_name().keys() == {"videos", "streams", "parts", "what_if", "would_change", "clips"}


def test_what_if_has_the_scores_and_intervals_of_the_runs_own_patterns(runs, process):
    known = pd.read_csv(runs / "gaussian_process" / "predictions.csv").set_index(["id", "pattern"])
    for line in process.what_if.itertuples():
        own = known.loc[(line.id, line.visible), ["score", "low", "high"]].to_numpy(float)
        np.testing.assert_allclose((line.score, line.low, line.high), own, atol=1e-5)
    sets = process.what_if.groupby("id")["visible"].agg(list)
    assert sets["video60"] == ["VA", "V", "A"]
    assert sets["video63"] == ["A"]
    lacking = process.would_change
    assert set(lacking["id"]) == {f"video{row}" for row in TEST if row % 4 == 3}
    assert set(lacking["stream"]) == {"visual"}
    assert set(lacking["source"]) == {"valid"}
    assert set(lacking["videos"]) == {15}
    assert (lacking["change_low"] < lacking["change"]).all()


def test_clips_say_where_they_are(runs, process):
    clips = process.clips[process.clips["id"] == "video60"]
    assert list(clips["modality"]) == ["visual"] * 5 + ["audio"] * 5  # cut to the shorter stream
    assert list(clips["first"]) == [0, 1, 2, 3, 4] * 2
    np.testing.assert_allclose(clips["end_second"], clips["end"] / 2)
    assert clips["gradients"].isna().all()
    wide = aqa.explain(runs / "mcmoe", ids=["video60"], window=3)
    assert list(wide.clips["end"] - wide.clips["first"]) == [3, 2, 3, 2]
    total = wide.clips["gradients"].sum() + wide.videos["unexplained"].iloc[0]
    assert total == pytest.approx(wide.videos["moments"].iloc[0], abs=1e-6)
    assert set(wide.curves["kind"]) == {"attention", "router"}
    assert set(wide.weights["name"]) == {"router_weights"}


@pytest.mark.parametrize("names", [["gaussian_process"], ["gaussian_process", "mcmoe"]])
def test_what_is_hidden_changes_no_bit(runs, tmp_path, names):
    chosen = [runs / name for name in names]
    other = write(tmp_path / "poisoned.h5", poisoned="visual")
    clean, poisoned = (
        aqa.explain(chosen, store=store, split="test", visible="A") for store in (runs / "small.h5", other)
    )
    same(clean, poisoned)
    assert set(clean.streams["modality"]) == {"audio"}
    assert set(clean.would_change["stream"]) == {"visual"}  # what is hidden is as what is absent
    with pytest.raises(AssertionError):
        same(*(aqa.explain(chosen, store=store, split="test") for store in (runs / "small.h5", other)))


def test_labels_of_tested_videos_are_shown_and_used_for_nothing(runs, process, tmp_path):
    other = aqa.explain(runs / "gaussian_process", store=write(tmp_path / "o.h5", relabelled=True), split="test")
    same(process, other, but=("label", "error"))
    assert (process.videos["label"] != other.videos["label"]).any()


def test_disagreement_is_that_of_the_runs_beside(runs):
    found = aqa.explain(runs / "mcmoe", ids=["video61", "video70"], beside=[runs / "gaussian_process"])
    other = aqa.explain(runs / "gaussian_process", ids=["video61", "video70"])
    assert other.videos["disagreement"].isna().all()
    assert (other.videos["spread"] > 0).all()
    apart = np.abs(found.videos["score"] - other.videos["score"]) / np.sqrt(2)
    np.testing.assert_allclose(found.videos["disagreement"], apart, rtol=1e-5)


def test_each_fold_explains_what_it_tested(runs, tmp_path):
    aqa.run(experiment(runs / "small.h5", tmp_path / "cv", folds={"count": 2}))
    found = aqa.explain(tmp_path / "cv", ids=["video1", "video2", "video3"])
    assert sorted(found.videos["id"]) == ["video1", "video2", "video3"]
    known = pd.read_csv(tmp_path / "cv" / "predictions.csv").query("pattern == 'VA'").set_index("id")
    for line in found.videos.itertuples():
        assert line.score == pytest.approx(known.loc[line.id, "score"], abs=1e-5)
    with pytest.raises(AqaError, match="tests every video in its fold"):
        aqa.explain(tmp_path / "cv", split="test")
    with pytest.raises(AqaError, match=r"cv is a cross-validation and .*mcmoe is not"):
        aqa.explain([runs / "mcmoe", tmp_path / "cv"])
    new_videos_have_the_mean_of_the_folds(tmp_path / "cv", runs / "small.h5")


def new_videos_have_the_mean_of_the_folds(run, store):
    found = aqa.explain(run, store=store, ids=["video60", "video63"])
    known = aqa.predict(run, store).set_index("id").loc[["video60", "video63"]]
    numbers = ["score", "low", "high"]
    np.testing.assert_allclose(found.videos[numbers], known[numbers], atol=1e-5)
    adds_up(found)
    both = [aqa.explain(run / f"fold{i}", store=store, ids=["video60", "video63"]) for i in range(2)]
    same_values(found.streams["shapley"], [one.streams["shapley"] for one in both])
    same_values(found.clips["occlusion"], [one.clips["occlusion"] for one in both])
    same_values(found.videos["training_mean"], [one.videos["training_mean"] for one in both])
    apart = np.std([one.videos["score"] for one in both], axis=0, ddof=1)
    np.testing.assert_allclose(found.videos["disagreement"], apart, atol=1e-6)
    change = found.would_change.iloc[0]
    assert (change["source"], change["videos"]) == ("the videos that the folds tested", 50)
    assert change["change_low"] < change["change"] < change["change_high"]


def adds_up(found):
    videos = found.videos.set_index("id")
    streams = found.streams.groupby("id")["shapley"].sum()
    np.testing.assert_allclose(streams[videos.index], videos["score"] - videos["training_mean"], atol=1e-6)


def same_values(found, several):
    np.testing.assert_allclose(found, np.mean([np.asarray(one, float) for one in several], axis=0), atol=1e-6)
    assert (np.asarray(several[0]) != np.asarray(several[1])).any()


def test_the_mean_of_runs_is_explained_by_the_mean_of_what_each_says(runs, process):
    both = [runs / "gaussian_process", runs / "mcmoe"]
    network, found = aqa.explain(both[1]), aqa.explain(both)
    adds_up(found)
    known = aqa.predict(both, runs / "small.h5", split="test")
    numbers = ["score", "low", "high"]
    np.testing.assert_allclose(found.videos[numbers], known[numbers], atol=1e-5)
    np.testing.assert_allclose(found.videos["disagreement"], known["spread"], atol=1e-5)
    assert found.videos["spread"].isna().all()
    for name, column in (("streams", "shapley"), ("clips", "occlusion"), ("videos", "moments"), ("what_if", "score")):
        same_values(getattr(found, name)[column], [getattr(one, name)[column] for one in (process, network)])
    # All videos that tell what a stream changes are alike here, so that the mean over them is linear as well.
    same_values(found.would_change["change"], [one.would_change["change"] for one in (process, network)])
    assert not {"parts", "curves", "weights"} & found.by_name().keys()  # a process and a network have no common ones


def test_seeds_of_one_model_have_the_mean_of_their_weights_and_gradients(runs, tmp_path):
    settings = experiment(runs / "small.h5", tmp_path / "seed1", "mcmoe")
    aqa.run({**settings, "train": {**settings["train"], "seed": 1}})
    seeds = [runs / "mcmoe", tmp_path / "seed1"]
    each = [aqa.explain(seed, ids=["video61"]) for seed in seeds]
    found = aqa.explain(seeds, ids=["video61"])
    adds_up(found)
    for name, column in (("clips", "gradients"), ("curves", "weight"), ("weights", "weight")):
        same_values(getattr(found, name)[column], [getattr(one, name)[column] for one in each])
    total = found.clips["gradients"].sum() + found.videos["unexplained"].iloc[0]
    assert total == pytest.approx(found.videos["moments"].iloc[0], abs=1e-6)
    beside = aqa.explain(seeds[0], ids=["video61"], beside=[seeds[1]])
    assert beside.videos["disagreement"].iloc[0] == pytest.approx(found.videos["disagreement"].iloc[0])


def test_runs_that_have_no_mean_are_one_line(runs, tmp_path):
    process = runs / "gaussian_process"
    with pytest.raises(AqaError, match="is given twice"):
        aqa.explain([process, process])
    with pytest.raises(AqaError, match="--beside goes with one run"):
        aqa.explain([process, runs / "mcmoe"], beside=[process])
    with pytest.raises(AqaError, match="no run is given"):
        aqa.explain([])
    aqa.run(experiment(write(tmp_path / "other.h5", poisoned="audio"), tmp_path / "other"))
    with pytest.raises(AqaError, match="were made from different stores; say which with --store"):
        aqa.explain([process, tmp_path / "other"])
    found = aqa.explain([process, tmp_path / "other"], store=runs / "small.h5", ids=["video60"])
    adds_up(found)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ids": ["video601"]}, r"--ids: .*small.h5 has no video 'video601': did you mean 'video\d+'\?"),
        ({"ids": []}, "--ids names no video"),
        ({"split": "tset"}, r"has no split 'tset': did you mean 'test'\?"),
        ({"ids": ["video60"], "split": "test"}, "leave one out"),
        ({"visible": "X"}, "--visible: unknown subset 'X'"),
        ({"window": 0}, "window 0: the number of clips is 1 or more"),
        ({"form": "xlsx"}, "--format xlsx: it is csv or parquet"),
        ({"level": 2.0}, "--level 2: a share between 0 and 1"),
        ({"store": "none.h5"}, "none.h5"),
    ],
)
def test_bad_input_is_one_line(runs, asked, message):
    with pytest.raises(AqaError, match=message) as caught:
        aqa.explain(runs / "gaussian_process", **asked)
    assert "\n" not in str(caught.value)


def test_a_fixed_pattern_is_kept_to_in_the_training_videos(runs, tmp_path):
    settings = experiment(runs / "small.h5", tmp_path / "fixed", "ridge")
    settings["missing"] = {"train": {"fixed": {"rates": {"visual": 0.99}}}}
    aqa.run(settings)
    folder = RunFolder.existing(tmp_path / "fixed")
    with aqa.FeatureStore(runs / "small.h5") as store:
        scorer = load_scorer(read_checkpoint(folder), store, torch.device("cpu"))
        references = learned_by(load_experiment(folder.config), store, scorer).references
    assert references[-1].shown[:, 0].sum() <= 2 < references[0].shown[:, 0].sum()
