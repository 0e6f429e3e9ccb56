"""A whole data set in one .npz file: what becomes a stream, a column, an id, a spread; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import aqa
from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

ROOT = Path(__file__).parents[2]
VIDEOS = 8


def arrays():
    """Eight videos: the sound of one is absent, the picture of another is short."""
    rng = np.random.default_rng(0)
    return {
        "ids": np.array([f"v{k}" for k in range(VIDEOS)]),
        "visual": rng.normal(size=(VIDEOS, 5, 3)).astype(np.float32),
        "visual_lengths": np.array([5, 5, 2, 5, 5, 5, 5, 5]),
        "audio": rng.normal(size=(VIDEOS, 4)).astype(np.float32),
        "present": np.array([[k != 1] for k in range(VIDEOS)]),
        "modalities": np.array(["audio"]),
        "labels": rng.uniform(1, 5, size=(VIDEOS, 2)).astype(np.float32),
        "label_names": np.array(["TES", "PCS"]),
        "label_sd": rng.uniform(0, 1, size=(VIDEOS, 2)),
        "judges": rng.integers(1, 6, size=(VIDEOS, 3)),
        "athlete": np.arange(VIDEOS) // 2,
        "split": np.array(["train"] * 4 + ["valid"] * 2 + ["test"] * 2),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(changed=None, **words):
    content = {**arrays(), **(changed or {})}
    np.savez("pack.npz", **{name: array for name, array in content.items() if array is not None})
    streams = {"visual": "visual", "audio": "audio"}
    return aqa.prepare("table", "own.h5", **{"pack": "pack.npz", "stream": streams, "target": "TES:1:5", **words})


def test_arrays_become_streams_and_columns(folder):
    prepare(target=["TES:1:5", "PCS:0:5", "score=mean(judges1..judges3):1:5"], group="athlete", rate={"visual": 4})
    given = arrays()
    with FeatureStore("own.h5") as store:
        assert store.ids == [f"v{k}" for k in range(VIDEOS)]
        assert store.widths == {"visual": 3, "audio": 4}
        assert store.lengths[:, 0].tolist() == [5, 5, 2, 5, 5, 5, 5, 5]
        assert store.lengths[:, 1].tolist() == [1, 0, 1, 1, 1, 1, 1, 1]
        np.testing.assert_array_equal(store.read_sample("visual", 2), given["visual"][2, :2])
        np.testing.assert_array_equal(store.read_sample("audio", 3), given["audio"][3:4])
        assert store.clip_seconds("visual") == 0.25
        for column, name in enumerate(["TES", "PCS"]):
            np.testing.assert_array_equal(store.target(name).values, given["labels"][:, column].astype(np.float64))
            np.testing.assert_array_equal(store.target(name).spread, given["label_sd"][:, column])
        np.testing.assert_allclose(store.target("score").values, given["judges"].mean(axis=1))
        np.testing.assert_allclose(store.target("score").spread, given["judges"].std(axis=1, ddof=1))
        assert store.group("athlete") == [str(k // 2) for k in range(VIDEOS)]
        assert {name: rows.tolist() for name, rows in store.splits.items()} == {
            "train": [0, 1, 2, 3],
            "valid": [4, 5],
            "test": [6, 7],
        }
    assert inspect_store("own.h5").usable


def test_videos_without_ids_are_numbered(folder):
    said = prepare({"ids": None})
    with FeatureStore("own.h5") as store:
        assert store.ids == [f"pack_{row:04d}" for row in range(VIDEOS)]
    assert "ids: column 'row'" in said


def test_rows_stay_with_their_ids_where_some_are_left_out(folder):
    ids = arrays()["ids"]
    ids[0], ids[3] = "", "v1"
    with pytest.raises(AqaError, match="1 label without an id, 1 labelled twice"):
        prepare({"ids": ids})
    prepare({"ids": ids}, on_error="skip")
    given = arrays()
    with FeatureStore("own.h5") as store:
        assert store.ids == ["v2", "v4", "v5", "v6", "v7"]
        for row, number in enumerate((2, 4, 5, 6, 7)):
            length = given["visual_lengths"][number]
            np.testing.assert_array_equal(store.read_sample("visual", row), given["visual"][number, :length])
            assert store.target("TES").values[row] == given["labels"][number, 0]
            assert store.target("TES").spread[row] == given["label_sd"][number, 0]


def test_missing_scores_and_other_columns_of_ids(folder):
    scores = arrays()["labels"][:, 0].copy()
    scores[5] = np.nan
    names = np.array([f"name {k}" for k in range(VIDEOS)])
    prepare({"labels": None, "label_sd": None, "TES": scores, "who": names}, id="who")
    with FeatureStore("own.h5") as store:
        assert store.ids == names.tolist()
        assert np.flatnonzero(np.isnan(store.target("TES").values)).tolist() == [5]
        assert store.target("TES").spread is None


def test_a_file_names_its_pack_relative_to_itself(folder):
    (folder / "deep").mkdir()
    words = {"pack": "../pack.npz", "target": "TES:1:5", "stream": {"visual": "visual"}, "split": "none"}
    (folder / "deep" / "table.yaml").write_text(yaml.safe_dump(words))
    prepare()
    aqa.prepare("table", "file.h5", config="deep/table.yaml")
    with FeatureStore("own.h5") as one, FeatureStore("file.h5") as other:
        assert (list(other.modalities), other.splits) == (["visual"], {})
        np.testing.assert_array_equal(one.read("visual"), other.read("visual"))


@pytest.mark.parametrize(
    ("changed", "words", "message"),
    [
        ({}, {"pack": "pack.npy"}, "--pack pack.npy: a pack is one file that ends in .npz"),
        ({}, {"pack": "other.npz"}, "there is no file other.npz"),
        ({}, {"labels": "a.csv"}, "takes one of --labels and --pack, not both"),
        ({}, {"stream": None}, "needs --stream, at least one, such as --stream visual=visual; arrays of three dim"),
        ({}, {"stream": {"visual": "vusual"}}, "has no array 'vusual': did you mean 'visual'"),
        ({}, {"stream": {"visual": "ids"}}, "--stream visual: the array holds '<U2', not numbers"),
        ({}, {"stream": {"visual": "athlete"}}, r"has shape \(8,\); expected \(videos, clips, channels\)"),
        ({}, {"target": "TEZ:1:5"}, "has no column 'TEZ': did you mean 'TES'"),
        (
            {},
            {"target": None},
            "needs --target, such as --target TES:0:100; columns of numbers .*: TES, PCS, judges1",
        ),
        ({}, {"unlabelled": True, "target": None}, "--pack goes with labels"),
        ({"audio": np.zeros((7, 4))}, {}, "streams have different numbers of rows: visual 8, audio 7"),
        ({"visual_lengths": np.full(8, 6)}, {}, "visual_lengths is not 8 whole numbers from 0 to 5"),
        ({"visual_lengths": np.full(8, 1.5)}, {}, "visual_lengths is not 8 whole numbers from 0 to 5"),
        ({"present": np.ones((8, 2), bool)}, {}, r"present is bool \(8, 2\), not bool \(8, 1\)"),
        ({"label_names": np.array(["TES"])}, {}, r"label_names has shape \(1,\); labels has 2 columns"),
        ({"TES": np.zeros(8)}, {}, "two columns are called 'TES'"),
        ({"note": np.array([{}] * 8)}, {}, "cannot be read as note: Object arrays are pickles"),
        ({"visual": np.full((8, 5, 3), np.nan)}, {}, "8 samples with problems .*NaN or inf in features"),
    ],
)
def test_what_does_not_fit_is_one_line(folder, changed, words, message):
    with pytest.raises(AqaError, match=message):
        prepare(changed, **words)
    assert not Path("own.h5").exists()


def test_too_large_a_pack(folder, monkeypatch):
    monkeypatch.setattr("aqa.data_prep.pack.UNPACKED", 100)
    with pytest.raises(AqaError, match="unpacks to more than 100 bytes"):
        prepare()


def test_many_channels_are_not_columns(folder):
    prepare({"wide": np.zeros((VIDEOS, 101))})
    with pytest.raises(AqaError, match="has no column 'wide1'"):
        prepare({"wide": np.zeros((VIDEOS, 101))}, target="wide1:0:1", overwrite=True)


def random_pack(streams, labels, names, **columns):
    """Arrays as a published set has them, of 24 videos: four groups train, two are valid, two test."""
    rng = np.random.default_rng(1)
    found = {name: rng.normal(size=(24, 6, width)).astype(np.float32) for name, width in streams.items()}
    found |= {"labels": labels(rng, (24, len(names))).astype(np.float32), "label_names": np.array(names)}
    return found | {"split": np.repeat(["train", "valid", "test"], [12, 6, 6])} | columns


def run_ridge(name, store, pack):
    """Prepare a pack by the words that come with the project, run its experiment; the run's metrics."""
    np.savez(f"{name}.npz", **pack)
    aqa.prepare("table", store, config=ROOT / "experiments" / "tables" / f"{name}.yaml", pack=f"{name}.npz")
    output = [f"data.store={store}", "model.name=ridge", "output=run"]
    return aqa.run(ROOT / "experiments" / f"{name}.yaml", output).metrics


def test_percepiano(folder):
    words = yaml.safe_load((ROOT / "experiments" / "tables" / "percepiano.yaml").read_text())
    names = [target.partition(":")[0] for target in words["target"]]
    assert len(names) == 19
    pack = random_pack(
        {"timing": 7, "dynamics": 6, "pedal": 6, "score": 11},
        lambda rng, shape: rng.integers(1, 8, size=shape) / 7,
        names,
        label_sd=np.full((24, 19), 0.1, np.float32),
        ids=np.array([f"Beethoven_WoO80_thema_8bars_{k}_1" for k in range(24)]),
        passage=np.repeat([f"passage {k}" for k in range(8)], 3),
        composition=np.repeat([f"music {k}" for k in range(8)], 3),
        performer=np.tile(["1", "2", "Score"], 8),
    )
    metrics = run_ridge("percepiano", "percepiano.h5", pack)
    assert list(metrics["patterns"]) == ["TDP", "TD", "TP", "DP", "T", "D", "P"]
    with FeatureStore("percepiano.h5") as store:
        assert set(store.groups) == {"passage", "composition", "performer"}
        assert store.ids == pack["ids"].tolist()
        for column, name in enumerate(names):
            np.testing.assert_allclose(store.target(name).values, pack["labels"][:, column])
            np.testing.assert_allclose(store.target(name).spread, 0.1)
    (warning,) = [line for line in inspect_store("percepiano.h5").warnings if line.startswith("groups")]
    assert warning.startswith("groups/performer")


def test_soccer(folder):
    present = np.ones((24, 4), bool)
    present[3, 1:] = False
    pack = random_pack(
        {"eye": 25, "position": 63, "rotation": 84, "inertial": 126},
        lambda rng, shape: rng.uniform(1, 4, size=shape),
        ["expert_novice_score"],
        present=present,
        modalities=np.array(["eye", "position", "rotation", "inertial"]),
        player=np.tile(np.arange(8), 3),
        action=np.arange(24) % 3,
        take=np.repeat([0, 1, 2, 3], 6),
    )
    metrics = run_ridge("soccer", "soccer.h5", pack)
    assert metrics["patterns"]["EPRI"]["n"] == 6
    assert len(metrics["patterns"]) == 15
    with FeatureStore("soccer.h5") as store:
        np.testing.assert_array_equal(store.available, present)
        assert store.ids[3] == "soccer_0003"
    assert any(line.startswith("groups/player: 8 of 8") for line in inspect_store("soccer.h5").warnings)
