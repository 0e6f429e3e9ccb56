"""Finger tapping: the published table as its authors write it, folds and splits by patient, blank cells."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import aqa
from aqa.data_prep.convert import convert
from aqa.data_prep.finger_tapping import CSV, STREAMS, draw_folds, draw_splits, participant, read
from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "finger_tapping" / "finger_tapping.npz"
PATIENTS = 20


def header():
    """The columns of the published table, in groups: names as its authors use them, numbered where there are many."""
    names = [f"wrist_mvmnt_x_{k}" for k in range(18)]
    names += ["aperiodicity_denoised", "periodEntropy_denoised", "periodVarianceNorm_trimmed"]
    names += ["numInterruptions_denoised", "numFreeze_trimmed", "maxFreezeDuration_denoised"]
    names += [f"period_{k}_denoised" for k in range(20)] + [f"frequency_{k}_trimmed" for k in range(15)]
    names += [f"amplitude_{k}_denoised" for k in range(14)] + [f"amplitude_decrement_{k}" for k in range(10)]
    names += ["num_peaks_trimmed", "num_peaks_denoised"]
    names += [f"num_interruptions_norm_{k}" for k in range(4)] + [f"num_freeze_norm_{k}" for k in range(3)]
    names += [f"speed_{k}_denoised" for k in range(12)] + [f"acceleration_{k}_trimmed" for k in range(12)]
    return ["", *names, "hand", "filename", "Rating1", "Rating2", "Rating3", "Rating4", "Comment1", "Rating", "Rating5"]


def rows():
    """Two videos of each of twenty participants, right hands first; the amplitude decrement of row 5 is blank."""
    rng = np.random.default_rng(0)
    names = header()
    found = []
    for number in range(2 * PATIENTS):
        hand, patient = ("right", "left")[number // PATIENTS], number % PATIENTS
        file = f"2019-05-03T17-09-{patient:02d}-963Z{patient}-task2-{hand}.webm"
        if patient % 4 == 0:
            file = f"NIHXU{patient}EVFHK-task2-2019-12-02T14-13-50-404Z--{hand}.webm"
        row = {name: f"{value:.9f}" for name, value in zip(names, 100 * rng.normal(size=len(names)), strict=True)}
        grades = rng.integers(0, 5, 6)
        row |= dict(
            zip(["Rating1", "Rating2", "Rating3", "Rating4", "Rating", "Rating5"], map(str, grades), strict=True)
        )
        row |= {"": str(number), "hand": hand.title(), "filename": file, "Comment1": 'slow, with a "pause"'}
        found.append(row)
    found[5]["amplitude_decrement_3"] = ""
    return found


@pytest.fixture
def table(tmp_path):
    """Writes a table; by default the sound one."""

    def write(lines=None, names=None):
        path = tmp_path / "downloads" / CSV
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names or header(), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows() if lines is None else lines)
        return path

    return write


def test_the_published_table(table, tmp_path):
    said = aqa.prepare("finger_tapping", tmp_path / "x.h5", source=table().parent)
    assert "absent in 1" in said
    lines, names = rows(), header()
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.widths == {"rhythm": 40, "amplitude": 24, "speed": 24, "wrist": 18, "interruption": 10}
        assert store.available.all(axis=1).tolist() == [number != 5 for number in range(40)]
        assert store.lengths[5].tolist() == [1, 0, 1, 1, 1]
        speed = [name for name in names if name.startswith(("speed", "acceleration"))]
        for row in (0, 39):
            raw = np.array([float(lines[row][name]) for name in speed])
            stored = store.read_sample("speed", row)[0].astype(float)
            np.testing.assert_allclose(np.sign(stored) * np.expm1(np.abs(stored)), raw, rtol=1e-5)
        experts = np.array([[float(line[name]) for name in ("Rating1", "Rating3", "Rating4")] for line in lines])
        np.testing.assert_array_equal(store.target("consensus").values, [float(line["Rating"]) for line in lines])
        np.testing.assert_allclose(store.target("expert_mean").values, experts.mean(axis=1))
        np.testing.assert_allclose(store.target("expert_mean").spread, experts.std(axis=1, ddof=1))
        assert (store.target("consensus").low, store.target("consensus").high) == (0, 4)
        assert store.group("patient") == [str(number % PATIENTS) for number in range(40)]
        assert store.group("hand") == ["right"] * 20 + ["left"] * 20
    inspection = inspect_store(tmp_path / "x.h5")
    assert inspection.usable
    assert not [line for line in inspection.warnings if line.startswith("groups/patient")]


def test_its_experiment_runs_in_folds_of_patients(table, tmp_path):
    aqa.prepare("finger_tapping", tmp_path / "x.h5", source=table())
    changes = [f"data.store={tmp_path / 'x.h5'}", "model.name=ridge", f"output={tmp_path / 'run'}"]
    metrics = aqa.run(ROOT / "experiments" / "finger_tapping.yaml", changes).metrics
    assert list(metrics["patterns"]) == ["RAS", "RA", "RS", "AS", "R", "A", "S"]
    assert metrics["patterns"]["RAS"]["n"] == 40
    assert (metrics["folds"]["count"], metrics["folds"]["group"]) == (10, "patient")


def test_no_patient_is_in_two_splits_or_folds():
    patients = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    splits, folds = draw_splits(patients), draw_folds(patients)
    for drawn, count in ((splits, 3), (folds, 10)):
        assert len(set(drawn)) == count
        assert all(len(set(drawn[patients == patient])) == 1 for patient in range(50))
    assert [len(set(patients[splits == name])) for name in ("train", "valid", "test")] == [32, 8, 10]
    assert set(np.bincount(folds)) == {15}


def test_a_blank_stream_depends_on_no_other_video(table):
    """No statistic of other videos stands in for a blank cell, so none of the test videos can leak into it."""
    lines = rows()
    first = read(table(lines))
    lines[6]["amplitude_decrement_3"] = "1e30"
    second = read(table(lines))
    for name, stream in first.streams.items():
        for i in stream.ids:
            if i != "finger_tapping_0006":
                np.testing.assert_array_equal(stream.load(i), second.streams[name].load(i))
    assert "finger_tapping_0005" not in first.streams["amplitude"].ids


def test_participants_are_read_as_the_authors_do():
    assert participant("2018-10-08T14-45-31-091Z94-task2-right.webm") == "091Z94"
    assert participant("NIHXU164EVFHK-task2-2019-12-02T14-13-50-404Z--right.webm") == "NIHXU164EVFHK"
    with pytest.raises(AqaError, match=r"'a\.webm' is not the name of a video"):
        participant("a.webm")


def test_tables_of_another_form(table):
    lines, names = rows(), header()
    shorter = [name for name in names if name != "speed_1_denoised"]
    with pytest.raises(AqaError, match="23 columns of speed, expected 24; the published table is fingertapping_"):
        read(table(names=shorter))
    with pytest.raises(AqaError, match="has no column 'Rating3'"):
        read(table(names=[name for name in names if name != "Rating3"]))
    with pytest.raises(AqaError, match="has no video"):
        read(table([]))
    lines[2]["Rating"] = ""
    with pytest.raises(AqaError, match="video 3: Rating is '', not a number"):
        read(table(lines))
    lines = rows()
    lines[7]["speed_1_denoised"] = "fast"
    with pytest.raises(AqaError, match="video 8: speed_1_denoised is 'fast', not a number"):
        read(table(lines))


def test_arrays_hold_the_same_as_the_table(table, tmp_path):
    published = read(table())
    arrays = {}
    for name, stream in published.streams.items():
        blank = np.zeros((1, stream.width), np.float32)
        arrays[name] = np.stack([stream.load(i) if i in stream.ids else blank for i in published.samples])
    assert {name: width for name, (_, width) in STREAMS.items()} == {name: a.shape[2] for name, a in arrays.items()}
    columns = [[float(line[name]) for line in rows()] for name in ("Rating1", "Rating3", "Rating4")]
    consensus = list(published.labels["consensus"].values())
    arrays |= {"expert_ratings": np.stack(columns, axis=1), "labels": np.stack([consensus, consensus], axis=1)}
    arrays |= {
        "patient": np.arange(40) % PATIENTS,
        "hand_right": np.arange(40) < PATIENTS,
        "imputed": np.arange(40) == 5,
    }
    np.savez(tmp_path / "finger_tapping.npz", **arrays)
    convert(published, tmp_path / "csv.h5")
    convert(read(tmp_path / "finger_tapping.npz"), tmp_path / "npz.h5")
    with FeatureStore(tmp_path / "csv.h5") as one, FeatureStore(tmp_path / "npz.h5") as other:
        assert one.groups == other.groups
        np.testing.assert_array_equal(one.lengths, other.lengths)
        for modality in STREAMS:
            np.testing.assert_array_equal(one.read(modality), other.read(modality))
        for target in ("consensus", "expert_mean"):
            np.testing.assert_array_equal(one.target(target).values, other.target(target).values)
    np.savez(tmp_path / "finger_tapping.npz", **(arrays | {"speed": arrays["speed"][:, :, :3]}))
    with pytest.raises(AqaError, match=r"speed is float32 \(40, 1, 3\), expected numbers \(40, 1, 24\)"):
        read(tmp_path / "finger_tapping.npz")


@pytest.mark.skipif(not REAL.is_file(), reason="the arrays of finger tapping are not on this machine")
def test_the_real_videos(tmp_path):
    summary = convert(read(REAL), tmp_path / "x.h5")
    assert {name: len(ids) for name, ids in summary.splits.items()} == {"train": 313, "valid": 80, "test": 96}
    with np.load(REAL) as arrays, FeatureStore(tmp_path / "x.h5") as store:
        assert store.group("fold10") == arrays["fold10"].astype(str).tolist()
        for name, members in store.splits.items():
            assert (arrays["split"][members] == name).all()
        np.testing.assert_allclose(store.target("expert_mean").values, arrays["labels"][:, 1], atol=1e-6)
        np.testing.assert_array_equal(store.available.sum(axis=0), [489, 486, 489, 489, 489])
    assert inspect_store(tmp_path / "x.h5").usable
