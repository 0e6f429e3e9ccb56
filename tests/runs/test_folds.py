"""Which videos a fold trains on, selects on and tests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.config.load import load_experiment
from aqa.config.schema import FoldsConfig
from aqa.errors import AqaError
from aqa.runs.folds import cut_by_group, make_folds
from aqa.store.store import FeatureStore, Target


class Store:
    """What folds need of a feature store."""

    path = "x.h5"

    def __init__(self, count, groups=None, splits=None):
        self.ids = [f"v{i}" for i in range(count)]
        self.groups, self.splits = groups or {}, splits or {}

    def __len__(self):
        return len(self.ids)

    split, group = FeatureStore.split, FeatureStore.group


def folds(store, values=None, **asked):
    values = np.arange(len(store), dtype=float) if values is None else values
    return make_folds(store, FoldsConfig(**asked), Target(values, -1e6, 1e6))


def mistake(store, **asked):
    with pytest.raises(AqaError) as caught:
        folds(store, **asked)
    return str(caught.value)


ATHLETES = [f"athlete {i}" for i in (0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 5, 6, 7, 7)]


@given(
    st.lists(st.integers(0, 12), min_size=8, max_size=60).filter(lambda labels: len(set(labels)) >= 4),
    st.integers(2, 4),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 5),
)
@settings(max_examples=25)
def test_no_group_is_in_two_folds_and_each_video_is_tested_once_per_repeat(labels, count, repeats, stratify, seed):
    store = Store(len(labels), {"athlete": [str(label) for label in labels]})
    found = folds(store, count=count, group="athlete", repeats=repeats, stratify=stratify, seed=seed)
    assert len(found.test) == count * repeats
    for repeat in range(repeats):
        tested = [rows for i, rows in enumerate(found.test) if found.repeat(i) == repeat]
        assert sorted(np.concatenate(tested)) == list(range(len(labels)))
        whose = [{labels[row] for row in rows} for rows in tested]
        assert sum(map(len, whose)) == len(set(labels))
    for i, rows in enumerate(found.test):
        assert sorted([*rows, *found.train(i)]) == list(range(len(labels)))


def test_labels_decide_nothing_unless_folds_are_stratified():
    store = Store(len(ATHLETES), {"athlete": ATHLETES})
    rng = np.random.default_rng(0)
    unlabelled = np.where(rng.random(len(ATHLETES)) < 0.5, np.nan, 1.0)
    for asked in ({"count": 3}, {"count": 3, "group": "athlete"}, {"leave_out": "athlete"}):
        plain = folds(store, **asked)
        for values in (rng.normal(size=len(ATHLETES)), unlabelled):
            assert all(map(np.array_equal, plain.test, folds(store, values, **asked).test))


def test_folds_are_drawn_by_their_own_seed():
    store = Store(30)
    assert all(map(np.array_equal, folds(store, count=3).test, folds(store, count=3).test))
    assert not all(map(np.array_equal, folds(store, count=3).test, folds(store, count=3, seed=1).test))
    twice = folds(store, count=3, repeats=2).test
    assert all(map(np.array_equal, folds(store, count=3).test, twice))  # as many as there are of the first
    assert not all(map(np.array_equal, twice[:3], twice[3:]))


def test_stratified_folds_have_the_labels_alike():
    values = np.repeat(np.arange(5.0), 20)
    for group in (None, "video"):
        store = Store(100, {"video": [str(i) for i in range(100)]})
        for rows in folds(store, values, count=4, stratify=True, group=group).test:
            assert np.bincount(values[rows].astype(int)).tolist() == [5, 5, 5, 5, 5]


def test_folds_of_groups_have_like_numbers_of_videos():
    labels = [str(i) for i in range(40) for _ in range(1 + i % 7)]
    sizes = [len(rows) for rows in folds(Store(len(labels), {"athlete": labels}), count=5, group="athlete").test]
    assert max(sizes) - min(sizes) <= 7


def test_one_surgeon_is_left_out_at_a_time():
    store = Store(6, {"surgeon": ["B", "C", "B", "10", "9", "C"]})
    found = folds(store, leave_out="surgeon")
    assert [rows.tolist() for rows in found.test] == [[3], [4], [0, 2], [1, 5]]
    assert found.names[2] == "surgeon B left out"
    assert folds(Store(3, {"trial": ["10", "9", "2"]}), leave_out="trial").names[0] == "trial 2 left out"


def test_published_folds_are_taken_as_they_are():
    store = Store(5, {"fold": ["1", "0", "10", "1", "0"], "athlete": ["a", "b", "c", "a", "b"]})
    assert [rows.tolist() for rows in folds(store, column="fold", group="athlete").test] == [[1, 4], [0, 3], [2]]
    torn = Store(5, {"fold": ["1", "0", "10", "1", "0"], "athlete": ["a", "a", "c", "a", "b"]})
    assert mistake(torn, column="fold", group="athlete") == (
        "data.folds: x.h5: groups/athlete is in more than one fold of groups/fold: a (0, 1)"
    )


def test_the_splits_named_take_part_and_no_other():
    store = Store(8, splits={"train": np.arange(4), "valid": np.array([4, 5]), "test": np.array([6, 7])})
    assert folds(store, count=2).taking_part.tolist() == list(range(8))
    found = folds(store, count=2, of=["train", "valid"])
    assert sorted(np.concatenate(found.test)) == list(range(6))
    assert set(found.train(0)) <= set(range(6))
    assert mistake(store, count=2, of=["tran"]).endswith("has no split 'tran': did you mean 'train'?")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"count": 9}, "data.folds.count: 9 folds of 5 videos in x.h5"),
        ({"count": 4, "group": "athlete"}, "data.folds.count: 4 folds of 3 labels of groups/athlete in x.h5"),
        ({"count": 2, "group": "athlet"}, "data.folds.group: x.h5 has no group 'athlet': did you mean 'athlete'?"),
        ({"leave_out": "one"}, "data.folds: x.h5: groups/one has one label, x; there is nothing to train on"),
        (
            {"column": "some"},
            "data.folds.column: x.h5: groups/some is not known for 2 samples: v1, v3; "
            "add it, or name with data.folds.of the splits that have it",
        ),
    ],
)
def test_folds_that_a_store_does_not_allow_are_one_line(asked, message):
    groups = {"athlete": ["a", "b", "c", "a", "b"], "one": ["x"] * 5, "some": ["1", "", "2", "", "1"]}
    assert mistake(Store(5, groups), **asked) == message


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("{}", "give one of count, leave_out and column, not none of them"),
        ("{count: 5, column: fold}", "give one of count, leave_out and column, not count and column"),
        ("{column: fold, repeats: 2}", "repeats goes with count only; nothing is drawn with column"),
        ("{leave_out: surgeon, group: surgeon}", "leave_out has its own group"),
        ("{count: 1}", "data.folds.count: must be 2 or more"),
        ("{cuont: 5}", "unknown key 'data.folds.cuont': did you mean 'count'?"),
    ],
)
def test_folds_that_contradict_themselves_are_one_line(asked, message):
    with pytest.raises(AqaError) as caught:
        load_experiment({"name": "x", "data": {"store": "x.h5", "target": "s"}}, [f"data.folds={asked}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_groups_are_text_as_they_are_typed_and_null_where_they_are_not_given():
    content = {"name": "x", "data": {"store": "x.h5", "target": "s"}}
    folds = load_experiment(content, ["data.folds.leave_out=030", "data.folds.group=null"]).data.folds
    assert (folds.leave_out, folds.group) == ("030", None)


@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 9))
@settings(max_examples=25)
def test_the_validation_split_of_a_fold_shares_no_group_with_its_training_videos(labels, share, seed):
    names, rows = [str(label) for label in labels], np.arange(len(labels))
    if len(set(labels)) == 1:
        with pytest.raises(AqaError, match="no other is left to select the epoch on"):
            cut_by_group(rows, names, share, seed, "athlete")
        return
    select, train = cut_by_group(rows, names, share, seed, "athlete")
    assert sorted([*select, *train]) == list(range(len(labels)))
    assert {labels[row] for row in select}.isdisjoint({labels[row] for row in train})
    assert len(select)
    assert len(train)
