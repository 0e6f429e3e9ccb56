"""What `aqa inspect` says about groups."""

from __future__ import annotations

import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.store.fingerprint import fingerprint_at
from aqa.store.groups import rows_by_label
from aqa.store.inspect import inspect_store
from aqa.store.store import Modality, Target
from aqa.store.write import write_store


def write(path, groups=None, audio=(1, 1, 1, 1, 1, 1), folds=()):
    """Six samples, four of them in train."""
    lengths = {"visual": np.ones(6, dtype=int), "audio": np.array(audio)}
    rng = np.random.default_rng(0)
    write_store(
        path,
        name="mini",
        source="made for a test",
        ids=list("abcdef"),
        modalities={modality: Modality(3, each) for modality, each in lengths.items()},
        targets={"TES": Target(np.arange(1, 7.0), 0, 10)},
        splits={"train": range(4), "test": [4, 5]},
        read=lambda modality, row: rng.normal(size=(lengths[modality][row], 3)),
        groups=groups,
        folds=folds,
    )
    return path


def test_rows_by_label():
    rows = rows_by_label(["y", "x", "", "y"])
    assert {label: each.tolist() for label, each in rows.items()} == {"x": [1], "y": [0, 3]}


def test_groups_that_splits_do_not_share(tmp_path):
    inspection = inspect_store(write(tmp_path / "x.h5", {"athlete": list("xxyzww")}))
    assert inspection.warnings == []
    assert (
        "group     athlete: 4 labels, videos 1 / 1.5 / 2 (min / median / max) each, in test 1, in train 3"
        in inspection.facts
    )


def test_a_group_in_two_splits_is_a_warning(tmp_path):
    inspection = inspect_store(write(tmp_path / "x.h5", {"athlete": list("xyyzxw"), "fold": list("123451")}))
    assert inspection.usable
    assert inspection.warnings == [
        "groups/athlete: 1 of 4 is in more than one split, so scores also measure how well a known athlete is "
        "recognized: x (test, train)",
        "groups/fold: 1 of 5 is in more than one split, so scores also measure how well a known fold is recognized: "
        "1 (test, train)",
    ]


def test_folds_are_shared_by_splits_without_a_warning(tmp_path):
    groups = {"athlete": list("xyyzww"), "part": list("123451")}
    inspection = inspect_store(write(tmp_path / "x.h5", groups, folds=["part"]))
    assert inspection.warnings == []
    assert any(line.startswith("group     part: 5 labels") for line in inspection.facts)
    with pytest.raises(AqaError, match="folds: there is no group 'parts': did you mean 'part'"):
        write(tmp_path / "y.h5", groups, folds=["parts"])
    assert fingerprint_at(write(tmp_path / "z.h5", groups)) == fingerprint_at(tmp_path / "x.h5")


def test_samples_of_no_known_group(tmp_path):
    inspection = inspect_store(write(tmp_path / "x.h5", {"athlete": ["x", None, "x", "", "", "y"]}))
    assert inspection.warnings == ["groups/athlete: not known for 3 samples: b, d, e"]
    assert inspection.facts[-1].endswith("in test 1, in train 1, not known for 3 samples")


def test_availability_by_group_and_split(tmp_path):
    inspection = inspect_store(write(tmp_path / "x.h5", {"athlete": list("xxyzww")}, audio=(1, 1, 0, 1, 0, 0)))
    assert [line for line in inspection.facts if line.startswith("available")] == [
        "available VA: 3, V: 3",
        "available in test: V: 2",
        "available in train: VA: 3, V: 1",
    ]
    assert inspection.facts[-1] == "group     athlete: no audio in any video of 2: w, y"


@pytest.mark.parametrize(
    "groups", [{"athlete": list("xxyzww")}, {"athlete": list("xxyzwv")}, {"judge": list("xxyzww")}]
)
def test_groups_are_part_of_the_fingerprint(tmp_path, groups):
    prints = {fingerprint_at(write(tmp_path / "x.h5")), fingerprint_at(write(tmp_path / "g.h5", groups))}
    assert len(prints) == 2
    assert fingerprint_at(write(tmp_path / "again.h5", groups)) in prints
