"""Real, judged data as a user would have it, in files: each set comes out of `aqa prepare table` as it went in."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

import aqa
from aqa.data_prep import DATASETS
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def pack(name):
    """The arrays of a real set; the test is skipped where it is not beside the checkout."""
    path = DATA / name / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


def assert_streams(store, streams):
    """streams: by modality, id -> clips."""
    assert set(store.modalities) == set(streams)
    for modality, samples in streams.items():
        for row, i in enumerate(store.ids):
            expected = samples.get(i, np.empty((0, store.widths[modality])))
            np.testing.assert_array_equal(store.read_sample(modality, row), np.asarray(expected, np.float32))


def test_pom_lacks_the_face_in_half_of_its_videos(tmp_path):
    """Three streams in one HDF5 file, a group a video; labels with semicolons and decimal commas."""
    pack("pom")
    published = DATASETS.get("pom").make(DATA / "pom")
    splits = {split: list(ids)[::4] for split, ids in published.splits.items()}  # of 903, for time
    frame = pd.DataFrame([(i, split) for split, ids in splits.items() for i in ids], columns=["id", "split"])
    streams = {
        m: {i: stream.load(i) for i in frame["id"] if i in stream.ids} for m, stream in published.streams.items()
    }
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for modality, samples in streams.items():
            for i, clips in samples.items():
                file[f"{i}/{modality}"] = clips
    for target in ("persuasion", "reserved"):
        frame[target] = [published.labels[target][i] for i in frame["id"]]
    frame.to_csv(tmp_path / "labels.csv", index=False, sep=";", decimal=",")
    said = aqa.prepare(
        "table",
        tmp_path / "own.h5",
        labels=str(tmp_path / "labels.csv"),
        target=["persuasion:1:7", "reserved:0:5"],
        stream={modality: f"{tmp_path / 'all.h5'}:{{id}}/{modality}" for modality in streams},
    )
    assert "splits: column 'split'" in said
    with FeatureStore(tmp_path / "own.h5") as store:
        assert_streams(store, streams)
        assert {split: [store.ids[row] for row in rows] for split, rows in store.splits.items()} == splits
        for target in ("persuasion", "reserved"):
            np.testing.assert_array_equal(store.target(target).values, frame[target])
        assert 0.4 < store.available[:, list(store.modalities).index("visual")].mean() < 0.6
    assert inspect_store(tmp_path / "own.h5").usable


def test_percepiano_has_passages_that_no_splits_share(tmp_path):
    """Four streams, each in another kind of file with all excerpts; labels in Parquet."""
    arrays = pack("percepiano")
    few = slice(0, 200)  # of 1189, for time
    ids = arrays["ids"][few]
    streams = {m: dict(zip(ids, arrays[m][few], strict=True)) for m in ("timing", "dynamics", "pedal", "score")}
    np.savez(tmp_path / "timing.npz", **streams["timing"])
    np.save(tmp_path / "dynamics.npy", np.array(streams["dynamics"], dtype=object), allow_pickle=True)
    torch.save({str(i): torch.from_numpy(clips) for i, clips in streams["pedal"].items()}, tmp_path / "pedal.pt")
    rows = [[i, *clip] for i, clips in streams["score"].items() for clip in clips.tolist()]
    pd.DataFrame(rows, columns=["excerpt", *map(str, range(11))]).to_parquet(tmp_path / "score.parquet")
    frame = pd.DataFrame({"excerpt": ids, "passage": arrays["passage"][few], "split": arrays["split"][few]})
    names = list(arrays["label_names"])
    frame[names] = arrays["labels"][few]
    frame.to_parquet(tmp_path / "labels.parquet")
    aqa.prepare(
        "table",
        tmp_path / "own.h5",
        labels=str(tmp_path / "labels.parquet"),
        id="excerpt",
        target=[f"{name}:0:1" for name in names],
        group=["passage"],
        split="split",
        stream={
            "timing": str(tmp_path / "timing.npz"),
            "dynamics": str(tmp_path / "dynamics.npy"),
            "pedal": str(tmp_path / "pedal.pt"),
            "score": str(tmp_path / "score.parquet"),
        },
    )
    with FeatureStore(tmp_path / "own.h5") as store:
        assert_streams(store, streams)
        assert store.group("passage") == arrays["passage"][few].tolist()
        np.testing.assert_allclose(store.target(names[0]).values, arrays["labels"][few, 0], rtol=1e-6)
    inspection = inspect_store(tmp_path / "own.h5")
    assert inspection.usable
    assert not [line for line in inspection.warnings if line.startswith("groups")]


def test_finger_tapping_has_three_judges_patients_and_folds(tmp_path):
    """Vectors, one clip a video, in tables with a column of ids; labels in a workbook."""
    arrays = pack("finger_tapping")
    ids = [f"{row:03d}" for row in range(len(arrays["split"]))]
    streams = {m: dict(zip(ids, arrays[m], strict=True)) for m in ("rhythm", "amplitude", "speed")}
    for modality, samples in streams.items():
        frame = pd.DataFrame([clips[0] for clips in samples.values()], columns=arrays[f"channels_{modality}"])
        frame.insert(0, "hand", ids)
        frame.to_csv(tmp_path / f"{modality}.csv", index=False, float_format="%.9g")
    frame = pd.DataFrame(arrays["expert_ratings"], columns=["expert1", "expert2", "expert3"])
    frame = frame.assign(video=ids, patient=arrays["patient"], fold10=arrays["fold10"])
    frame.to_excel(tmp_path / "labels.xlsx", index=False)
    aqa.prepare(
        "table",
        tmp_path / "own.h5",
        labels=str(tmp_path / "labels.xlsx"),
        target="severity=mean(expert1..expert3):0:4",
        group="patient",
        fold="fold10",
        stream={modality: f"{tmp_path / modality}.csv:hand" for modality in streams},
    )
    with FeatureStore(tmp_path / "own.h5") as store:
        assert_streams(store, streams)
        assert store.ids == ids
        assert store.splits == {}
        assert store.group("patient") == [str(patient) for patient in arrays["patient"]]
        assert store.group("fold10") == [str(fold) for fold in arrays["fold10"]]
        target = store.target("severity")
        np.testing.assert_allclose(target.values, arrays["labels"][:, 1], atol=1e-6)
        np.testing.assert_allclose(target.spread, arrays["expert_ratings"].std(axis=1, ddof=1), atol=1e-6)


def test_soccer_lacks_motion_in_two_takes_and_shares_its_players(tmp_path):
    """A file a video and stream, MATLAB and NumPy; a split drawn by player, and the published one by take."""
    arrays = pack("soccer")
    few = np.flatnonzero(arrays["action"] < 3)
    ids = [f"action{arrays['action'][row]}/take{arrays['take'][row]}/player{arrays['player'][row]}" for row in few]
    streams = {"eye": {}, "position": {}}
    for modality, samples in streams.items():
        column = list(arrays["modalities"]).index(modality)
        for i, row in zip(ids, few, strict=True):
            if arrays["present"][row, column]:
                samples[i] = arrays[modality][row]
                path = tmp_path / modality / i
                path.parent.mkdir(parents=True, exist_ok=True)
                if modality == "eye":
                    scipy.io.savemat(path.with_suffix(".mat"), {"gaze": samples[i]})
                else:
                    np.save(path.with_suffix(".npy"), samples[i])
    frame = pd.DataFrame({"id": ids, "grade": arrays["labels"][few, 0].astype(float)})
    frame = frame.assign(player=arrays["player"][few], split=arrays["split"][few])
    frame.to_json(tmp_path / "labels.jsonl", orient="records", lines=True)
    words = {
        "labels": str(tmp_path / "labels.jsonl"),
        "target": "grade:1:4",
        "group": "player",
        "stream": {"eye": f"{tmp_path}/eye/{{id}}.mat:gaze", "position": f"{tmp_path}/position/{{id}}.npy"},
    }
    aqa.prepare("table", tmp_path / "own.h5", **words)
    with FeatureStore(tmp_path / "own.h5") as store:
        assert_streams(store, streams)
        assert store.ids == ids
    inspection = inspect_store(tmp_path / "own.h5")
    assert inspection.usable
    (warning,) = [line for line in inspection.warnings if line.startswith("groups")]
    assert warning.startswith("groups/player: 8 of 8 are in more than one split")
