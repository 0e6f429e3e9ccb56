"""POM: padding out, absent streams absent, flow derived, on made data and on the real arrays."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from aqa.data_prep.convert import convert
from aqa.data_prep.pom import RANGES, read
from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "pom" / "pom.npz"


def test_h5_and_npz_agree(pom_h5, pom_npz, tmp_path):
    convert(read(pom_h5), tmp_path / "h5.h5")
    convert(read(pom_npz), tmp_path / "npz.h5")
    with FeatureStore(tmp_path / "h5.h5") as a, FeatureStore(tmp_path / "npz.h5") as b:
        assert a.ids == b.ids == [f"pom_{row:04d}" for row in range(10)]
        assert {name: rows.tolist() for name, rows in a.splits.items()} == {
            "train": [0, 1, 2, 3, 4, 5],
            "valid": [6, 7],
            "test": [8, 9],
        }
        for modality in a.modalities:
            np.testing.assert_array_equal(a.read(modality), b.read(modality))
        for target in RANGES:
            np.testing.assert_array_equal(a.targets[target].values, b.targets[target].values)


def test_padding_and_absence(pom_npz, pom_arrays, tmp_path):
    visual, audio, labels, _ = pom_arrays
    convert(read(pom_npz.parent), tmp_path / "x.h5")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.widths == {"visual": 41, "audio": 43, "flow": 41}
        # Face never found; found a word late (the zero row stays); a single row, whose flow says nothing.
        assert store.lengths[:3].tolist() == [[0, 5, 0], [4, 4, 4], [1, 1, 0]]
        np.testing.assert_array_equal(store.read_sample("visual", 1), visual[1, 1:])
        np.testing.assert_array_equal(store.read_sample("audio", 1), audio[1, 1:])
        assert not store.read_sample("visual", 1)[0].any()
        np.testing.assert_array_equal(store.read_sample("audio", 0), audio[0])
        flow = store.read_sample("flow", 3)
        assert not flow[0].any()
        np.testing.assert_array_equal(flow[1:], visual[3, 4:] - visual[3, 3:-1])
        np.testing.assert_array_equal(store.targets["persuasion"].values, labels[:, 15].astype(np.float64))
        np.testing.assert_array_equal(store.targets["confidence"].values, labels[:, 0].astype(np.float64))


def test_label_outside_its_scale(pom_arrays, tmp_path):
    visual, audio, labels, split = pom_arrays
    labels[4, 9] = 5.5  # trusting is asked on five points
    np.savez(tmp_path / "pom.npz", visual=visual, audio=audio, labels=labels, split=split)
    with pytest.raises(AqaError, match=r"pom_0004: label outside its range \(trusting 5.5, range 1 to 5\)"):
        convert(read(tmp_path), tmp_path / "x.h5")


def test_nothing_but_zeros(pom_arrays, tmp_path):
    visual, audio, labels, split = pom_arrays
    visual[4] = audio[4] = 0
    np.savez(tmp_path / "pom.npz", visual=visual, audio=audio, labels=labels, split=split)
    with pytest.raises(AqaError, match=r"pom_0004: label without features \(visual, audio, flow\)"):
        convert(read(tmp_path), tmp_path / "x.h5")


def test_npz_of_another_form(pom_arrays, tmp_path):
    visual, audio, labels, split = pom_arrays
    sound = {"visual": visual, "audio": audio, "labels": labels, "split": split}
    path = tmp_path / "pom.npz"
    cases = [
        ({"visual": visual[..., :40]}, r"visual has shape \(10, 5, 40\), expected \(10, 5, 41\)"),
        ({"audio": audio[:, 1:]}, r"audio has shape \(10, 4, 43\), expected \(10, 5, 43\)"),
        ({"labels": labels[:9]}, r"visual has shape \(10, 5, 41\), expected \(9, 5, 41\)"),
        ({"labels": labels.astype(str)}, "labels is of type '<U32', not numbers"),
        ({"split": np.array(["train"] * 9 + ["tset"])}, "split 'tset' is unknown: did you mean 'test'"),
        ({"split": np.array([{}] * 10)}, "cannot be read as visual, audio, labels and split: Object arrays"),
    ]
    for changed, message in cases:
        np.savez(path, **{**sound, **changed})
        with pytest.raises(AqaError, match=message):
            read(path)
    np.savez(path, visual=visual)
    with pytest.raises(AqaError, match="cannot be read as visual, audio"):
        read(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(AqaError, match="is a zip archive that is damaged or cut off"):
        read(path)


def test_h5_of_another_form(pom_h5):
    with h5py.File(pom_h5 / "y_test.h5", "a") as file:
        file.move("d1", "d2")
    with pytest.raises(AqaError, match=r"y_test\.h5 has no array 'd1'; known: d2"):
        read(pom_h5)
    (pom_h5 / "y_test.h5").write_bytes(b"no HDF5")
    with pytest.raises(AqaError, match=r"y_test\.h5 cannot be read as HDF5"):
        read(pom_h5)
    (pom_h5 / "y_test.h5").unlink()
    with pytest.raises(AqaError, match=r"y_test\.h5 not found under"):
        read(pom_h5)
    with h5py.File(pom_h5 / "y_test.h5", "w") as file:
        file["d1"] = np.ones((2, 5))
    with pytest.raises(AqaError, match="the splits' arrays do not fit together"):
        read(pom_h5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.__setitem__("d1", h5py.ExternalLink("y_train.h5", "d1")), "has no array 'd1'"),
        (lambda file: file.create_dataset("d1", (2, 17), "f8", external=[("y_train.h5", 0, 272)]), "in another file"),
        (lambda file: file.create_dataset("d1", (2**36, 17), "f8", chunks=(64, 17)), "of which the file holds 0"),
        (lambda file: file.create_dataset("d1", data=["a", "b"]), "d1 is of type 'object', not numbers"),
        (lambda file: file.create_group("d1"), "'d1' is a group, not an array"),
    ],
    ids=["link", "external", "unwritten", "text", "group"],
)
def test_h5_that_would_do_harm(pom_h5, change, message):
    with h5py.File(pom_h5 / "y_test.h5", "w") as file:
        change(file)
    with pytest.raises(AqaError, match=rf"y_test\.h5.* {message}"):
        read(pom_h5)


@pytest.mark.skipif(not REAL.is_file(), reason="the POM arrays are not on this machine")
def test_real_pom(tmp_path):
    summary = convert(read(REAL), tmp_path / "pom.h5")
    assert {name: len(ids) for name, ids in summary.splits.items()} == {"train": 600, "valid": 100, "test": 203}
    assert not summary.skipped
    assert summary.unequal == 0
    with FeatureStore(tmp_path / "pom.h5") as store:
        absent = {name: 1 - store.available[rows].mean(axis=0) for name, rows in store.splits.items()}
        assert absent["train"][0] == pytest.approx(0.54, abs=0.005)
        assert absent["test"][0] == pytest.approx(0.57, abs=0.005)
        assert store.available[:, 1].all()
        for target in store.targets.values():
            assert np.isfinite(target.values).all()
        with np.load(REAL, allow_pickle=False) as arrays:
            for row in (0, 450, 902):
                clips = store.read_sample("audio", row)
                np.testing.assert_array_equal(clips, arrays["audio"][row, 20 - len(clips) :])
    inspection = inspect_store(tmp_path / "pom.h5")
    assert inspection.usable
    assert "available A: 486, VAF: 416, VA: 1" in str(inspection)
