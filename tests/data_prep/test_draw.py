"""A split that is drawn keeps groups whole and depends on nothing but ids, groups and seed."""

from __future__ import annotations

import numpy as np
import pytest

from aqa.data_prep.draw import draw_split
from aqa.errors import AqaError

IDS = [f"v{k:02d}" for k in range(50)]
ATHLETES = [f"athlete {k % 10}" for k in range(50)]


def draw(ids=IDS, labels=ATHLETES, seed=0, labelled=None):
    known = np.ones(len(ids), bool) if labelled is None else labelled
    return draw_split(ids, known, labels, None if labels is None else "athlete", seed)


def test_a_fifth_by_whole_groups():
    splits, said = draw()
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 40, "test": 10}
    athletes = {name: {ATHLETES[IDS.index(i)] for i in ids} for name, ids in splits.items()}
    assert not athletes["train"] & athletes["test"]
    assert said.startswith(
        "splits: none are given, so 10 of 50 labelled videos were drawn for test by seed 0, by whole groups of "
        "'athlete'; --split names a column"
    )


def test_without_groups():
    splits, said = draw(labels=None)
    assert len(splits["test"]) == 10
    assert "groups" not in said


def test_other_seeds_draw_others_and_the_order_of_lines_does_not_matter():
    drawn = set(draw()[0]["test"])
    assert drawn != set(draw(seed=1)[0]["test"])
    assert set(draw(IDS[::-1], ATHLETES[::-1])[0]["test"]) == drawn


def test_videos_of_no_known_group_are_groups_of_their_own():
    splits, _ = draw(labels=[""] * 50)
    assert len(splits["test"]) == 10


def test_videos_without_a_label_are_in_no_split():
    splits, _ = draw(labelled=np.arange(50) >= 10)
    assert sorted(splits["train"] + splits["test"]) == IDS[10:]


@pytest.mark.parametrize(
    ("labels", "labelled", "message"),
    [
        (["x"] * 50, None, "only one athlete has labelled videos"),
        (None, np.arange(50) == 3, "1 labelled videos"),
    ],
)
def test_what_cannot_be_drawn(labels, labelled, message):
    with pytest.raises(AqaError, match=f"no split can be drawn: {message}; name a column with --split"):
        draw(labels=labels, labelled=labelled)


def test_a_group_with_nearly_all_videos_trains():
    splits, _ = draw(labels=["x"] * 48 + ["y", "z"])
    assert sorted(splits["test"]) in (["v48"], ["v49"], ["v48", "v49"])
