"""What a run refuses of a data set, and what it says of one that it takes."""

import numpy as np
import pytest

from aqa.cli import main
from aqa.errors import AqaError
from aqa.store.checks import require_sound, similar_ids
from aqa.store.store import FeatureStore, Target

ROWS = {"train": np.array([0, 1, 2, 3]), "test": np.array([4, 5, 6, 7])}


def labels(**at):
    values = np.arange(8.0) + 1
    for row, value in at.items():
        values[int(row[1:])] = value
    return {"targets": {"TES": Target(values, 0, 10)}}


@pytest.mark.parametrize(
    ("changes", "parts", "line"),
    [
        ({"ids": list("abcdefga")}, ROWS, "ids: used more than once: a; see aqa inspect"),
        ({}, {**ROWS, "test": np.array([3, 4])}, "splits/train and splits/test share 1 sample: video 3; see"),
        ({}, {**ROWS, "test": np.array([5, 4, 5])}, "splits/test: names more than once 1 sample: video 5; see"),
        (labels(r6=11), ROWS, "targets/TES: outside 0 to 10 in 1 sample: video 6 (11); see"),
        (
            labels(r0=-0.5, r6=-np.inf),
            ROWS,
            "targets/TES: outside 0 to 10 in 2 samples: video 0 (-0.5), video 6 (-inf)",
        ),
    ],
)
def test_what_would_make_numbers_wrong_is_refused(tiny_store, changes, parts, line):
    with FeatureStore(tiny_store(**changes)) as store, pytest.raises(AqaError) as error:
        require_sound(store, "TES", parts)
    assert str(error.value).startswith(f"{store.path}: {line}")
    assert "\n" not in str(error.value)


def test_what_is_sound_passes_and_what_is_not_used_does_not_matter(tiny_store):
    with FeatureStore(tiny_store(**labels(r7=99, r2=np.nan))) as store:
        require_sound(store, "TES", {"train": np.array([0, 1, 2]), "test": np.array([4, 5])})


def test_ids_that_look_the_same_go_together():
    # The last two: an e with an accent in one character and in two; a full-width digit.
    ids = ["clip1", "Clip1", "clip 1 ", "clip2", "clip3", "caf\u00e9", "cafe\u0301", "a\uff11", "a1"]
    assert similar_ids(ids) == [["clip1", "Clip1", "clip 1 "], ["caf\u00e9", "cafe\u0301"], ["a\uff11", "a1"]]
    assert similar_ids(["a", "a", "b"]) == []  # the same id twice is another mistake


SPEC = """
name: x
data: {store: tiny.h5, target: TES}
model: {name: ridge}
missing: {train: none}
"""


@pytest.mark.parametrize(
    ("changes", "status", "line"),
    [
        ({"splits": {"train": range(6), "test": range(4, 8)}}, 2, "splits/train and splits/test share 2 samples"),
        (
            {"splits": {"train": range(4), "valid": [4, 5, 6], "test": [5, 6, 7]}},
            2,
            "splits/valid and splits/test share",
        ),
        (labels(r1=np.inf), 2, "targets/TES: outside 0 to 10 in 1 sample: video 1 (inf)"),
        ({"ids": [*"abcdefg", "a"]}, 2, "ids: used more than once: a"),
        ({"splits": {"train": range(5), "valid": [5, 6], "test": [7, 3]}}, 2, "splits/train and splits/test share"),
        ({"splits": {"train": range(5), "valid": [5, 6, 2], "test": [7]}}, 2, "splits/train and splits/valid share"),
        ({"splits": {"train": range(5), "valid": [5, 6], "test": [7]}}, 0, "2 labelled videos in 'valid': SRCC is"),
    ],
)
def test_a_run_says_so_on_the_command_line(tiny_store, tmp_path, monkeypatch, capsys, changes, status, line):
    monkeypatch.chdir(tmp_path)
    tiny_store(**changes)
    (tmp_path / "e.yaml").write_text(SPEC)
    monkeypatch.setattr("aqa.runs.run.draw", lambda *arguments: None)
    assert main(["run", "e.yaml"]) == status
    said = capsys.readouterr()
    assert line in said.err
    assert (tmp_path / "runs").exists() == (status == 0)
    if status:
        assert said.err.count("\n") == 1
    else:
        assert "the last epoch, 1 of 1: SRCC (complete) on valid was undefined in every epoch" in said.out
        assert "SRCC undefined: VAF (1 video)" in said.out
