"""`aqa.load`: videos scored from arrays as `aqa predict` scores them from a store, and what is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import aqa
from aqa.errors import AqaError
from aqa.runs.folder import RunFolder
from aqa.store.store import FeatureStore, Modality, Target

N = 40
MODELS = {
    "zero_fill": {"hidden_dim": 4, "n_encoder": 1, "n_decoder": 1},
    "mcmoe": {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
    "ridge": {},
    "gaussian_process": {"iterations": 2},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of 40 videos with streams of different lengths, some absent, in which a clip takes a known time."""
    rng = np.random.default_rng(0)
    visual, audio = rng.integers(3, 9, N), rng.integers(3, 9, N)
    audio[[2, 21, 33, 38]] = 0
    visual[[5, 39]] = 0
    labels = rng.uniform(0, 10, N)
    made = tmp_path_factory.mktemp("store") / "s.h5"
    aqa.write_store(
        made,
        name="s",
        source="a test",
        ids=[f"v{i}" for i in range(N)],
        modalities={"visual": Modality(3, visual, clip_seconds=0.5), "audio": Modality(2, audio, clip_seconds=0.4)},
        targets={"grade": Target(labels, 0, 10), "other": Target(labels, 0, 20)},
        splits={"train": range(20), "valid": range(20, 30), "test": range(30, 40)},
        read=lambda m, row: (
            rng.normal(size=({"visual": visual, "audio": audio}[m][row], 3 if m == "visual" else 2)) + labels[row] / 4
        ),
    )
    return made


@pytest.fixture(scope="module")
def made(path, made_once):
    """A function that makes a run, once for all tests, and returns its folder. changes: by dotted key."""

    def experiment(model):
        return {
            "name": "x",
            "data": {"store": str(path), "target": "grade", "clips": 5},
            "model": {"name": model, **MODELS[model]},
            "missing": {"train": "none", "test": ["VA", "V", "A"]},
            "train": {"epochs": 1, "batch_size": 8, "threads": 1},
            "evaluate": {"level": 0.8},
        }

    return made_once(experiment)


def videos_of(path):
    """The videos of a store as programs hold them."""
    with FeatureStore(path) as store:
        return [
            {m: x for m in store.modalities if len(x := store.read_sample(m, row))} for row in range(len(store.ids))
        ]


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *((name, {}) for name in MODELS),
        ("zero_fill", {"data.align": "time", "data.standardize": True}),
        ("ridge", {"data.align": "none"}),
        ("zero_fill", {"train.ensemble": 2}),
        ("ridge", {"data.folds": {"count": 3}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_arrays_are_scored_as_the_videos_of_a_store_are(path, made, model, changes):
    run = made(model, **changes)
    expected, videos = aqa.predict(run, path), videos_of(path)
    scorer = aqa.load(run, device="cpu")
    np.testing.assert_array_equal(scorer.score(videos), expected["score"])
    found = scorer.interval(videos)
    np.testing.assert_array_equal(found.low, expected["low"])
    np.testing.assert_array_equal(found.high, expected["high"])
    alone = [scorer.score(video) for video in videos]
    assert {type(score) for score in alone} == {float}
    np.testing.assert_allclose(alone, expected["score"], atol=1e-4)
    wider = scorer.interval(videos[0], level=0.9)
    assert wider.high - wider.low >= found.high[0] - found.low[0]
    assert isinstance(wider.low, float)


def test_the_scorer_says_what_it_takes_and_gives(made):
    scorer = aqa.load(made())
    assert scorer.widths == {"visual": 3, "audio": 2}
    assert (scorer.target, scorer.low, scorer.high, scorer.level) == ("grade", 0, 10, 0.8)
    assert repr(scorer) == "VideoScorer of grade, 0 to 10, from visual (3), audio (2)"


def test_lists_tensors_whole_numbers_and_none_are_taken(made):
    scorer = aqa.load(made())
    clips = [[1, 2, 3], [4, 5, 6]]
    expected = scorer.score({"visual": np.array(clips, np.float32)})
    assert scorer.score({"visual": clips, "audio": None}) == expected
    assert scorer.score({"visual": torch.tensor(clips)}) == expected
    assert scorer.score([{"visual": np.array(clips, np.float16)}]) == [expected]


@pytest.mark.parametrize("model", ["mcmoe", "gaussian_process"])
def test_threads_get_the_same_bits(path, made, model):
    scorer, videos = aqa.load(made(model), device="cpu"), videos_of(path)
    expected = [scorer.score([video])[0] for video in videos]
    start = threading.Barrier(4)

    def all_of_them(_):
        start.wait()
        return [scorer.score([video])[0] for video in videos]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(all_of_them, range(4)):
            assert found == expected


def test_a_scorer_does_not_need_the_store(path, made, tmp_path):
    videos, scorer = videos_of(path), None
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in ("config.yaml", "metrics.json", "checkpoint.pt"):
        (moved / file).write_bytes((made() / file).read_bytes())
    scorer = aqa.load(moved)
    np.testing.assert_array_equal(scorer.score(videos), aqa.load(made()).score(videos))


def test_the_rate_of_the_training_data_is_known_and_can_be_another(path, made):
    run, videos = made(**{"data.align": "time", "data.standardize": True}), videos_of(path)
    known = aqa.load(run).score(videos)
    np.testing.assert_array_equal(aqa.load(run, rate={"visual": 2, "audio": 2.5}).score(videos), known)
    assert (aqa.load(run, rate={"audio": 1}).score(videos) != known).any()


X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ({"visul": X}, r"the video: the model has no stream 'visul': did you mean 'visual'\?"),
        ({"visual": X[:, :2]}, r"the video: visual has 2 channels; the model was trained on 3"),
        ({"visual": X[0]}, r"the video: visual has shape \(3,\); expected \(clips, 3\)"),
        ({"visual": X[:0]}, r"the video: visual has no clips; leave a stream out that a video lacks"),
        ({"visual": X * np.nan}, r"the video: visual holds nan in clip 0, channel 0; expected finite numbers"),
        ({"visual": X * 1e300}, r"the video: visual holds 1e\+300 in clip 0, channel 0; .* that float32 can hold"),
        ({"visual": [["a"] * 3]}, r"the video: visual is of type <U1; expected numbers"),
        ({"visual": X * 1j}, r"the video: visual is of type complex128; expected numbers"),
        ({"visual": None}, r"the video has no stream; one of visual, audio is needed"),
        ([{"visual": X}, {}], r"video 1 has no stream"),
        ([{"visual": X}, X], r"video 1 is array.*; expected a mapping of streams to arrays, such as \{'visual': x\}"),
        ([], r"videos are \[\]; expected a mapping of streams to arrays, or a list of them"),
        ("visual", r"videos are 'visual'; expected a mapping"),
        (X, r"videos are array.*; expected a mapping"),
    ],
)
def test_bad_input_is_one_line(made, videos, message):
    with pytest.raises(AqaError, match=message) as error:
        aqa.load(made()).score(videos)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"visul": 1}, "rate: the model has no stream 'visul': did you mean 'visual'"),
        ({"visual": 0}, "rate of visual is 0; expected clips a second, a number above 0"),
    ],
)
def test_a_wrong_rate_is_one_line(made, rate, message):
    with pytest.raises(AqaError, match=message):
        aqa.load(made(), rate=rate)


def test_a_wrong_level_or_folder_is_one_line(made, tmp_path):
    with pytest.raises(AqaError, match="--level 2: a share between 0 and 1 is needed"):
        aqa.load(made()).interval({"visual": X}, level=2)
    with pytest.raises(AqaError, match="is no run's folder"):
        aqa.load(tmp_path)
    with pytest.raises(AqaError, match="no run is given"):
        aqa.load([])


# -- several runs


@pytest.mark.parametrize("model", ["zero_fill", "ridge"])
def test_seeds_are_averaged(path, made, model):
    runs = [made(model, **{"train.seed": seed}) for seed in (0, 1)]
    videos = videos_of(path)
    single = np.stack([aqa.load(run).score(videos) for run in runs])
    scorer = aqa.load(runs)
    np.testing.assert_array_equal(scorer.score(videos), single.mean(axis=0))
    table = aqa.predict(runs, path)
    np.testing.assert_array_equal(table["score"], single.mean(axis=0))
    np.testing.assert_array_equal(table["spread"], single.std(axis=0, ddof=1))
    found = scorer.interval(videos)
    np.testing.assert_array_equal(found.low, table["low"])
    assert (found.low <= found.score).all()
    assert (found.score <= found.high).all()
    assert np.isfinite(found.high).all()


def test_the_interval_of_a_mean_is_made_from_mean_residuals(path, made):
    runs = [made(**{"train.seed": seed}) for seed in (0, 1)]
    with FeatureStore(path) as store:
        rows = [row for row in range(20, 30) if (store.available[row]).all()]
        truth = store.target("grade").values[rows]
    single = np.stack([aqa.predict(run, path)["score"].to_numpy()[rows] for run in runs])
    residuals = np.sort(np.abs(single - truth).mean(axis=0))
    half = residuals[int(np.ceil((len(rows) + 1) * 0.8)) - 1]
    found = aqa.load(runs).interval(videos_of(path)[0])
    assert found.high == pytest.approx(min(found.score + half, 10))
    assert found.low == pytest.approx(max(found.score - half, 0))


def test_folds_of_several_seeds_are_averaged_with_intervals(path, made):
    runs = [made("ridge", **{"data.folds": {"count": 3}, "train.seed": seed}) for seed in (0, 1)]
    found, single = aqa.load(runs).interval(videos_of(path)), aqa.load(runs[0]).interval(videos_of(path))
    np.testing.assert_allclose(found.score, single.score, atol=1.0)
    assert np.isfinite(found.low).all()
    assert (found.low <= found.high).all()


def test_single_folds_are_averaged_without_intervals(path, made):
    runs = [made("ridge", **{"data.folds": {"count": 3, "fold": fold}}) for fold in (0, 1)]
    found = aqa.load(runs).interval(videos_of(path))
    assert np.isnan(found.low).all()
    assert np.isfinite(found.score).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.target": "other"}, r"cannot be averaged: target grade from 0 to 10 there, target other from 0 to 20"),
        (
            {"data.modalities": ["visual"]},
            r"cannot be averaged: streams visual \(3\), audio \(2\) there, streams visual \(3\) here",
        ),
        ({}, "is given twice; an average takes different runs"),
    ],
)
def test_runs_that_are_not_alike_are_refused(made, changes, message):
    extra = {"missing.test": ["V"]} if "data.modalities" in changes else {}
    with pytest.raises(AqaError, match=message):
        aqa.load([made(), made(**changes, **extra)])


@pytest.mark.parametrize("model", ["mcmoe", "gaussian_process"])
def test_explanations_are_those_of_aqa_explain(made, path, model):
    run = made(model)
    expected = aqa.explain(run, ids=["v30", "v33"], window=2)
    found = aqa.load(run).explain([videos_of(path)[30], videos_of(path)[33]], window=2)
    np.testing.assert_allclose(found.streams["shapley"], expected.streams["shapley"], atol=1e-5)
    for column in ("first", "end_second", "occlusion", "gradients"):
        np.testing.assert_allclose(found.clips[column], expected.clips[column], atol=1e-5)
    assert list(found.streams["id"]) == ["video 0", "video 0", "video 1"]


def test_of_several_models_the_mean_is_explained(made, path):
    runs, video = [made("mcmoe"), made("ridge")], videos_of(path)[30]
    together, *each = (aqa.load(run).explain(video).streams["shapley"] for run in (runs, *runs))
    np.testing.assert_allclose(together, np.mean(each, axis=0), atol=1e-9)
    mean = np.mean([RunFolder.existing(run).load_checkpoint()["training_mean"] for run in runs])
    assert together.sum() == pytest.approx(aqa.load(runs).score(video) - mean, abs=1e-5)


def test_a_run_that_does_not_know_its_mean_label_says_so(made, path, monkeypatch):
    scorer = aqa.load(made("ridge"))
    with pytest.raises(AqaError, match="window 0: the number of clips is 1 or more"):
        scorer.explain(videos_of(path)[30], window=0)
    monkeypatch.delitem(scorer._runs[0].checkpoints[0], "training_mean")
    with pytest.raises(AqaError, match="before scores were explained"):
        scorer.explain(videos_of(path)[30])
