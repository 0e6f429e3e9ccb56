"""`aqa inspect` describes a store and finds every kind of problem in it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import Modality, Target
from aqa.store.write import write_store

WIDTHS = {"visual": 4, "audio": 2, "flow": 3}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """Stores as others may write them: without what `write_store` refuses."""
    monkeypatch.setattr("aqa.store.write.require_usable", lambda *arguments: None)
    monkeypatch.setattr("aqa.store.write._narrowed", lambda clips, dtype, *names: clips.astype(dtype))


def write(path, lengths=None, change=None, **parts):
    """Six samples; `change(modality, row, clips)` may spoil features on their way into the file."""
    lengths = {"visual": [3, 3, 0, 4, 3, 2], "audio": [3, 4, 2, 4, 3, 2], "flow": [3, 3, 0, 4, 3, 0]} | (lengths or {})
    rng = np.random.default_rng(0)

    def read(modality, row):
        clips = rng.normal(size=(lengths[modality][row], WIDTHS[modality]))
        return clips if change is None else change(modality, row, clips)

    given = {
        "name": "mini",
        "source": "made for a test",
        "ids": list("abcdef"),
        "modalities": {
            m: Modality(WIDTHS[m], np.array(n), "VST" if m == "visual" else None) for m, n in lengths.items()
        },
        "targets": {"TES": Target(np.array([1, 2, 3, 4, 5, 6.0]), 0, 10, {"VAF": 0.91234, "A": 0.5})},
        "splits": {"train": [0, 1, 2, 3], "test": [4, 5]},
        "read": read,
    }
    write_store(path, **{**given, **parts})
    return inspect_store(path)


def test_sound_store(tmp_path):
    inspection = write(tmp_path / "x.h5", dtype="float16")
    assert inspection.usable
    assert not inspection.warnings
    assert str(inspection).splitlines() == [
        f"{tmp_path / 'x.h5'}: mini",
        "source    made for a test",
        "samples   6",
        "splits    test 2, train 4",
        "modality  visual: width 4, float16, clips 2 / 3 / 4 (min / median / max), in 5 of 6, VST",
        "modality  audio: width 2, float16, clips 2 / 3 / 4 (min / median / max), in 6 of 6",
        "modality  flow: width 3, float16, clips 3 / 3 / 4 (min / median / max), in 4 of 6",
        "available VAF: 4, A: 1, VA: 1",
        "available in test: VAF: 1, VA: 1",
        "available in train: VAF: 3, A: 1",
        "streams of one video differ in length: in 1 sample: b",
        "data.align: shortest cuts off 1 of 18 clips of audio (5.56 %)",
        "target    TES: 6 of 6 labelled, range 0 to 10, 1 / 3.5 / 6 (min / mean / max), best possible SRCC "
        "VAF 0.912, A 0.500",
        "no problem found",
    ]


def spoiled(modality_, rows, value):
    def change(modality, row, clips):
        if modality == modality_ and row in rows:
            clips[-1, -1:] = value
        return clips

    return change


def zeroed(modality, row, clips):
    return np.zeros_like(clips) if modality == "visual" and row in (0, 4) else clips


def target(*values):
    return {"targets": {"TES": Target(np.array(values, dtype=float), 0, 10)}}


PROBLEMS = {
    "NaN": (
        {"change": spoiled("audio", range(6), np.nan)},
        "features/audio: NaN or inf in 6 samples: a, b, c, d, e and",
    ),
    "inf": ({"change": spoiled("flow", [3], np.inf)}, "features/flow: NaN or inf in 1 sample: d"),
    "id twice": ({"ids": list("abcdea")}, "ids: used more than once: a"),
    "overlap": ({"splits": {"test": [3, 4], "train": [0, 1, 2, 3]}}, "splits/test and splits/train share 1 sample: d"),
    "row twice": ({"splits": {"train": [0, 1, 1]}}, "splits/train: names more than once 1 sample: b"),
    "empty split": ({"splits": {"train": range(6), "test": []}}, "splits/test: empty"),
    "no modality": ({"lengths": {"audio": [3, 5, 0, 4, 3, 2]}}, "features: no modality at all in 1 sample: c"),
    "outside": (target(1, 2, 3, 4, 11, -1), "targets/TES: outside 0 to 10 in 2 samples: e (11), f (-1)"),
    "infinite": (target(1, 2, 3, 4, 5, np.inf), "targets/TES: outside 0 to 10 in 1 sample: f (inf)"),
    "constant": (target(3, 3, 3, np.nan, 5, 6), "targets/TES: the same score, 3, wherever labelled in train"),
    "unlabelled": (target(*[np.nan] * 4, 5, 6), "targets/TES: never labelled in train"),
}


@pytest.mark.parametrize(("parts", "line"), PROBLEMS.values(), ids=PROBLEMS)
def test_problem(tmp_path, parts, line):
    inspection = write(tmp_path / "x.h5", **parts)
    assert not inspection.usable
    assert [problem.startswith(line) for problem in inspection.problems] == [True]
    assert f"problems:\n  {line}" in str(inspection)
    assert str(inspection).endswith("\n1 found: not usable as it is")


def test_empty_ids_are_a_problem(tmp_path):
    """write_store refuses them; a store may come from elsewhere."""
    write(tmp_path / "x.h5", ids=["a", "(1)", "c", "d", "(4)", "f"])
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["ids"]
        file["ids"] = np.array([b"a", b"", b"c", b"d", b" ", b"f"])
    assert "ids: empty: row 1, row 4" in inspect_store(tmp_path / "x.h5").problems


WARNINGS = {
    "zeros": ({"change": zeroed}, "features/visual: all zeros in 2 samples: a, e; a missing modality is a stream of"),
    "no split": ({"splits": {}}, "splits: none; the videos can be predicted"),
    "no target": ({"targets": {}}, "targets: none; the videos can be predicted"),
    "in no split": ({"splits": {"train": [0, 1, 2, 3]}}, "splits: no split names 2 samples: e, f"),
    "other rates": (
        {"lengths": {"audio": [30, 40, 2, 40, 30, 20]}},
        "features: data.align: shortest would cut off 145 of 162 clips of audio (89.5 %); use data.align: time",
    ),
    "unlabelled": (target(1, 2, 3, np.nan, 5, 6), "targets: none for 1 sample: d; such samples can be predicted"),
}


@pytest.mark.parametrize(("parts", "line"), WARNINGS.values(), ids=WARNINGS)
def test_warning(tmp_path, parts, line):
    inspection = write(tmp_path / "x.h5", **parts)
    assert inspection.usable
    assert [warning.startswith(line) for warning in inspection.warnings] == [True]
    assert f"warnings:\n  {line}" in str(inspection)


def test_no_samples(tmp_path):
    nothing = dict.fromkeys(WIDTHS, np.zeros(0, dtype=int))
    inspection = write(tmp_path / "x.h5", lengths=nothing, ids=[], splits={"train": []}, **target())
    assert "no samples" in inspection.problems
    assert "available nothing" in str(inspection)


def test_modalities_that_begin_alike(tmp_path):
    parts = {m: Modality(4, np.ones(6, dtype=int)) for m in ("face", "flow")}
    clips = np.random.default_rng(0).normal(size=(1, 4))
    assert "available face+flow: 6" in str(write(tmp_path / "x.h5", modalities=parts, read=lambda modality, row: clips))


def test_clip_seconds(tmp_path):
    parts = {"visual": Modality(4, np.ones(6, dtype=int), "VST", 2.5)}
    inspection = write(tmp_path / "x.h5", modalities=parts, read=lambda modality, row: np.ones((1, 4)))
    assert ", VST, 2.5 s a clip" in str(inspection)


def test_file_that_is_no_store(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(AqaError, match="attribute 'schema' is None"):
        inspect_store(tmp_path / "x.h5")
