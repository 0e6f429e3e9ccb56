"""What reading every stream tells: leakage, copies, numbers that cannot be right; and no alarm where nothing is."""

import h5py
import numpy as np
import pytest
from scipy import stats

from aqa.store.inspect import inspect_store
from aqa.store.scan import LEAK, leaks, scan
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store

COUNT = 24
SCORES = np.random.default_rng(7).uniform(0, 100, COUNT)


def warnings_of(path, change=lambda m, row, clips: clips, lengths=4, scores=SCORES, **parts):
    """The warnings on a store of 24 videos of two modalities, whose features `change` may spoil."""
    rng = np.random.default_rng(0)
    given = {
        "name": "x",
        "source": "random numbers",
        "ids": [f"v{i}" for i in range(COUNT)],
        "modalities": {m: Modality(6, np.broadcast_to(lengths, COUNT).astype(int)) for m in ("visual", "audio")},
        "targets": {"TES": Target(scores, 0, 100)},
        "splits": {"train": range(12), "valid": range(12, 18), "test": range(18, 24)},
        "read": lambda m, row: change(m, row, rng.normal(size=(np.broadcast_to(lengths, COUNT)[row], 6))),
    }
    write_store(path, **{**given, **parts})
    inspection = inspect_store(path)
    assert inspection.usable
    return list(inspection.warnings)


def test_nothing_is_said_of_noise(tmp_path):
    assert warnings_of(tmp_path / "x.h5") == []


def written_into_audio(channel, numbers):
    def change(modality, row, clips):
        if modality == "audio":
            clips[:, channel] = numbers[row]
        return clips

    return change


@pytest.mark.parametrize(
    "numbers",
    [SCORES, -SCORES, np.exp(SCORES / 10), SCORES + np.random.default_rng(1).normal(0, 1, COUNT), SCORES.round(-1)],
    ids=["itself", "turned round", "through a curve", "with noise", "rounded"],
)
def test_a_channel_that_follows_the_score_is_found(tmp_path, numbers):
    (line,) = warnings_of(tmp_path / "x.h5", written_into_audio(3, numbers))
    srcc = stats.spearmanr(np.float32(numbers), SCORES)[0]
    assert line == (
        f"features/audio: the mean of channel 3 (SRCC {srcc:+.3f}, n = 24) follows targets/TES at 0.98 or more; "
        "is the score among the features?"
    )


def test_a_good_feature_is_no_leak(tmp_path):
    honest = SCORES + np.random.default_rng(2).normal(0, 12, COUNT)
    assert 0.8 < stats.spearmanr(honest, SCORES)[0] < LEAK
    assert warnings_of(tmp_path / "x.h5", written_into_audio(3, honest)) == []


def test_too_few_labels_are_no_ground_for_a_leak():
    rng = np.random.default_rng(0)
    targets = {"TES": Target(np.where(np.arange(30) < 11, np.arange(30.0), np.nan), 0, 30)}
    means = rng.normal(size=(30, 4))
    means[:, 2] = np.arange(30)
    assert leaks(means, targets) == []
    targets = {"TES": Target(np.where(np.arange(30) < 12, np.arange(30.0), np.nan), 0, 30)}
    assert leaks(means, targets) == [("TES", 2, pytest.approx(1), 12)]


def test_chance_gives_no_alarm():
    rng = np.random.default_rng(0)
    for count in (12, 20, 60):
        means = rng.normal(size=(count, 3_000))
        assert leaks(means, {f"T{i}": Target(rng.normal(size=count), -9, 9) for i in range(3)}) == []


@pytest.mark.parametrize("labels", ["all apart", "many ties", "two classes", "one apart", "half unlabelled"])
@pytest.mark.parametrize("count", [13, 40])
def test_every_channel_that_reaches_the_bound_is_found(labels, count):
    """Most channels are told by pairs of videos; none that the ranks of all videos would have told is lost."""
    rng = np.random.default_rng(count)
    values = {
        "all apart": rng.normal(size=count),
        "many ties": rng.integers(0, 4, count).astype(float),
        "two classes": (np.arange(count) % 3 == 0).astype(float),
        "one apart": (np.arange(count) == 4).astype(float),
        "half unlabelled": np.where(np.arange(2 * count) % 2, rng.normal(size=2 * count), np.nan),
    }[labels]
    noise = np.geomspace(1e-3, 3, 300) * rng.choice([-1, 1], 300)  # from an exact copy of the score to nothing of it
    means = np.nan_to_num(values)[:, None] * np.sign(noise) + rng.normal(size=(len(values), 300)) * abs(noise)
    means[:, ::5] = means[:, ::5].round(1)
    rows = np.isfinite(values)
    expected = [stats.spearmanr(channel, values[rows])[0] for channel in means[rows].T]
    found = leaks(means, {"TES": Target(values, -9, 9)})
    assert [channel for _, channel, _, _ in found] == [c for c, srcc in enumerate(expected) if abs(srcc) >= LEAK]
    assert [srcc for _, _, srcc, _ in found] == pytest.approx([srcc for srcc in expected if abs(srcc) >= LEAK])
    assert 0 < len(found) < 300


def test_scores_that_are_all_the_same_have_no_leak():
    assert leaks(np.random.default_rng(0).normal(size=(20, 5)), {"TES": Target(np.full(20, 3.0), 0, 9)}) == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_streams_are_read_in_blocks_with_the_same_result(tmp_path, monkeypatch, dtype):
    rng = np.random.default_rng(0)
    lengths = np.array([1, 2, 7, 2, 8, 3])
    clips = [rng.normal(size=(length, 5)).astype(np.float32) for length in lengths]
    clips[1][:] = 0
    write_store(
        tmp_path / "x.h5",
        name="x",
        source="random numbers",
        ids=list("abcdef"),
        modalities={"visual": Modality(5, lengths)},
        targets={},
        splits={},
        read=lambda m, row: clips[row],
        dtype=dtype,
    )
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["features/visual/values"][9, 2] = np.nan  # the last clip of c
        file["features/visual/values"][12:, 4] = -50  # in e and f
    found = []
    for size in (2**19, 2 * 5 * np.dtype(dtype).itemsize, 1):
        monkeypatch.setattr("aqa.store.scan.IN_CACHE", size)
        with FeatureStore(tmp_path / "x.h5") as store:
            found.append(scan(store, "visual"))
    for each in found:
        assert (each.bad, each.zero, each.damaged, each.largest) == ([2], [1], [2, 4, 5], 50)
        np.testing.assert_allclose(each.means, found[0].means, rtol=1e-12)
    expected = [clips[0].astype(dtype).mean(axis=0, dtype=np.float64), np.full(5, np.nan)]
    np.testing.assert_allclose(found[0].means[[0, 2]], expected, rtol=1e-12)


def test_a_modality_without_channels_is_zero(tmp_path):
    warnings_of(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["features/audio/values"], file["features/audio/crc32"]
        file["features/audio/values"] = np.zeros((4 * COUNT, 0), np.float32)
    (line,) = inspect_store(tmp_path / "x.h5").warnings
    assert line.startswith("features/audio: all zeros in 24 samples: v0, v1, v2, v3, v4 and 19 more")


def test_clips_that_differ_and_have_one_mean_are_not_the_same_numbers(tmp_path):
    plus_minus = np.array([[1.0, -1], [-1, 1], [1, -1], [-1, 1]]).repeat(3, axis=1)
    assert warnings_of(tmp_path / "x.h5", lambda m, row, clips: plus_minus[:, ::-1] if row % 2 else plus_minus) == []


def copied(first, second, modalities):
    held = {}

    def change(modality, row, clips):
        if modality in modalities and row in (first, second):
            return held.setdefault(modality, clips)
        return clips

    return change


def test_a_video_under_two_ids_in_train_and_test_is_leakage(tmp_path):
    (line,) = warnings_of(tmp_path / "x.h5", copied(2, 20, ("visual", "audio")))
    assert line == (
        "features: equal streams in videos of different splits, which is leakage: "
        "v2 (train) = v20 (test) in visual, audio"
    )


def test_a_stream_that_two_videos_of_a_split_share_is_said(tmp_path):
    (line,) = warnings_of(tmp_path / "x.h5", copied(2, 3, ("audio",)))
    assert line == "features: equal streams in videos of one split: v2 (train) = v3 (train) in audio"


def test_streams_that_share_a_checksum_by_chance_are_not_said_to_be_equal(tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.store.store.crc_of", lambda values, crc=0: 7)
    monkeypatch.setattr("aqa.store.scan.crc_of", lambda values, crc=0: 7)
    monkeypatch.setattr("aqa.store.write.crc_of", lambda values, crc=0: 7)
    (line,) = warnings_of(tmp_path / "x.h5", copied(2, 3, ("audio",)))
    assert line == "features: equal streams in videos of one split: v2 (train) = v3 (train) in audio"


def test_streams_of_few_different_numbers_may_be_equal_by_chance(tmp_path):
    assert warnings_of(tmp_path / "x.h5", lambda m, row, clips: np.eye(4, 6) * (row % 3 + 1)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda m, row, clips: clips * (1e30 if m == "audio" else 1), "features/audio: numbers up to 3.2e+30; data.st"),
        (
            lambda m, row, clips: clips if m == "audio" else np.full_like(clips, 7),
            "features/visual: the same numbers in",
        ),
        (
            lambda m, row, clips: clips * (m == "audio"),
            "features/visual: all zeros in 24 samples: v0, v1, v2, v3, v4 and",
        ),
    ],
)
def test_numbers_that_cannot_be_meant(tmp_path, change, line):
    (found,) = warnings_of(tmp_path / "x.h5", change)
    assert found.startswith(line)


def test_a_modality_that_a_split_lacks_and_test_labels_that_are_all_the_same(tmp_path):
    scores = np.where(np.arange(COUNT) < 18, SCORES, 50)
    lengths = np.where(np.arange(COUNT) < 18, 4, 0)
    modalities = {"visual": Modality(6, lengths), "audio": Modality(6, np.full(COUNT, 4))}
    found = warnings_of(tmp_path / "x.h5", modalities=modalities, scores=scores)
    assert sorted(found) == [
        "splits/test: no video has visual",
        "targets/TES: the same score, 50, wherever labelled in test",
    ]


def test_ids_that_look_the_same(tmp_path):
    ids = [f"v{i}" for i in range(COUNT - 1)] + ["V3 "]
    assert warnings_of(tmp_path / "x.h5", ids=ids) == ["ids: differ in case, spaces or encoding alone: 'v3' = 'V3 '"]


@pytest.mark.parametrize(("preset", "samples"), [("tiny", 60), ("fisv", 15)])
def test_synthetic_data_raises_no_alarm(tmp_path, preset, samples):
    make_synthetic(preset, tmp_path / "x.h5", samples=samples)
    assert inspect_store(tmp_path / "x.h5").warnings == []
