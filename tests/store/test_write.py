"""`write_store` converts what is plain, refuses the rest before it writes, and writes a file whole or not at all."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store

WIDTHS = {"visual": 4, "audio": 2}
LENGTHS = {"visual": [3, 0, 2, 4], "audio": [3, 5, 0, 4]}


def features():
    rng = np.random.default_rng(0)
    return {m: [rng.normal(size=(n, WIDTHS[m])).astype(np.float32) for n in LENGTHS[m]] for m in LENGTHS}


def write(path, **changes):
    clips = features()
    parts = {
        "name": "mini",
        "source": "made for a test",
        "ids": ["a", "b", "c", "d"],
        "modalities": {m: Modality(WIDTHS[m], np.array(n)) for m, n in LENGTHS.items()},
        "targets": {"TES": Target(np.array([1, 2, np.nan, 4.0]), 0, 10)},
        "splits": {"train": [0, 1, 2], "test": [3]},
        "read": lambda modality, row: clips[modality][row],
    }
    write_store(path, **{**parts, **changes})
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "x.h5")


def test_failure_while_writing_leaves_nothing(tmp_path):
    def read(modality, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.h5", read=read)
    assert list(tmp_path.iterdir()) == []


def test_failure_while_replacing_keeps_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(AqaError, match=r"visual of 'a' has shape \(1, 4\), expected \(3, 4\)"):
        write(path, overwrite=True, read=lambda modality, row: np.zeros((1, 4)))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_existing_file_is_not_replaced(path):
    before = path.read_bytes()
    with pytest.raises(AqaError, match="exists; choose another name, or replace it with --overwrite"):
        write(path)
    assert path.read_bytes() == before
    write(path, overwrite=True, name="second")
    assert FeatureStore(path).name == "second"


def test_progress_counts_streams(tmp_path):
    steps = []
    write(tmp_path / "x.h5", progress=steps.append)
    assert steps == [1] * 6


@pytest.mark.parametrize(("dtype", "number"), [("float16", 70_000.0), ("float32", 1e39), ("float16", -1e30)])
def test_a_number_that_the_files_type_cannot_hold_is_refused(tmp_path, dtype, number):
    clips = {m: [c.astype(np.float64) for c in samples] for m, samples in features().items()}
    clips["visual"][2][1, 3] = number
    with pytest.raises(AqaError, match=rf"visual of 'c' holds {number:g}".replace("+", r"\+") + f", which {dtype}"):
        write(tmp_path / "large.h5", dtype=dtype, read=lambda modality, row: clips[modality][row])
    assert not (tmp_path / "large.h5").exists()


@pytest.mark.parametrize("name", ["", " ", "/", "a/b", ".", "..", "a\nb", "https://judge"])
@pytest.mark.parametrize("what", ["modalities", "targets", "splits"])
def test_names_that_no_store_can_hold_are_refused_before_anything_is_written(tmp_path, what, name):
    content = {
        "modalities": {name: Modality(4, np.array(LENGTHS["visual"]))},
        "targets": {name: Target(np.array([1, 2, np.nan, 4.0]), 0, 10)},
        "splits": {name: [0]},
    }
    with pytest.raises(AqaError, match=r"x\.h5: (modality|target|split), '") as error:
        write(tmp_path / "new" / "x.h5", **{what: content[what]})
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["NO", "null", "1", "1_000", "2024-01-01", "~", "<<", "a: b", "#2", "[x]", "@", "`"])
def test_odd_names_of_targets_are_read_as_they_were_written(tmp_path, name):
    write(tmp_path / "x.h5", targets={name: Target(np.array([1, 2, np.nan, 4.0]), 0, 10)})
    with FeatureStore(tmp_path / "x.h5") as store:
        assert list(store.targets) == [name]


def test_modalities_whose_patterns_would_have_one_name_are_refused(tmp_path):
    streams = {name: Modality(4, np.array(LENGTHS["visual"])) for name in ("rgb", "flow", "rgb+flow")}
    with pytest.raises(AqaError, match=r"modality, 'rgb\+flow', holds '\+', which joins modalities"):
        write(tmp_path / "new.h5", modalities=streams)


# What scripts hand over

IDS = {
    "numbers": ([7, 8, 9, 10], ["7", "8", "9", "10"]),
    "numpy": (np.array([7, 8, 9, 10]), ["7", "8", "9", "10"]),
    "numpy numbers": ([np.int32(7), np.uint8(8), "9", "x"], ["7", "8", "9", "x"]),
    "bytes": ([b"a", "ü".encode(), b"c", b"d"], ["a", "ü", "c", "d"]),
    "numpy texts": (np.array(["a", "b", "c", "d"]), list("abcd")),
    "numpy bytes": (np.array([b"a", b"b", b"c", b"d"]), list("abcd")),
    "objects": (np.array(["a", 2, b"c", "d"], dtype=object), ["a", "2", "c", "d"]),
    "tensor": (torch.arange(4), list("0123")),
    "generator": ((i for i in "abcd"), list("abcd")),
}


@pytest.mark.parametrize(("ids", "expected"), IDS.values(), ids=IDS)
def test_ids_become_texts(tmp_path, ids, expected):
    with FeatureStore(write(tmp_path / "x.h5", ids=ids)) as store:
        assert store.ids == expected


SPLITS = {
    "ids": {"train": ["a", "c"], "test": [b"d"]},
    "array of ids": {"train": np.array(["a", "c"]), "test": np.array(["d"], dtype=object)},
    "mask": {"train": np.array([True, False, True, False]), "test": [False, False, False, True]},
    "tensors": {"train": torch.tensor([0, 2]), "test": torch.tensor([False, False, False, True])},
    "arrays": {"train": np.array([0, 2], dtype=np.uint8), "test": range(3, 4)},
}


@pytest.mark.parametrize("splits", SPLITS.values(), ids=SPLITS)
def test_splits_become_row_numbers(tmp_path, splits):
    with FeatureStore(write(tmp_path / "x.h5", splits=splits)) as store:
        assert {name: rows.tolist() for name, rows in store.splits.items()} == {"train": [0, 2], "test": [3]}


@pytest.mark.parametrize(
    "change",
    [
        torch.from_numpy,
        np.ndarray.tolist,
        lambda clips: clips.astype(object),
        lambda clips: clips.astype(">f8"),
        lambda clips: torch.from_numpy(clips).requires_grad_(),
        np.asfortranarray,
        lambda clips: clips.repeat(2, axis=1)[:, ::2],
    ],
    ids=["tensor", "lists", "objects", "big-endian", "needs gradient", "column by column", "every other column"],
)
def test_features_become_arrays(tmp_path, change):
    clips = features()
    path = write(tmp_path / "x.h5", read=lambda modality, row: change(clips[modality][row]))
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.read("visual"), np.concatenate(clips["visual"]))
    assert inspect_store(path).usable


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_is_what_hdf5_itself_reads(tmp_path, dtype):
    """The numbers are not written by HDF5: they must lie where it looks for them, in one piece and unpacked."""
    clips = features()
    lengths = {**LENGTHS, "flow": [0, 0, 0, 0]}
    modalities = {m: Modality(WIDTHS.get(m, 3), np.array(n), extractor=m) for m, n in lengths.items()}
    path = write(tmp_path / "x.h5", dtype=dtype, modalities=modalities, groups={"who": list("wxyz")})
    with h5py.File(path) as file:
        assert [int(crc) for crc in file["features/visual/crc32"]] == [
            zlib.crc32(each.astype(dtype).tobytes()) for each in clips["visual"]
        ]
        for modality in lengths:
            values = file[f"features/{modality}/values"]
            expected = np.concatenate(clips[modality]).astype(dtype) if modality in clips else np.zeros((0, 3))
            np.testing.assert_array_equal(values[()], expected)
            assert (values.dtype, values.chunks, values.compression) == (np.dtype(dtype), None, None)
            assert file[f"features/{modality}"].attrs["extractor"].decode() == modality


def test_whole_numbers_and_bfloat16_become_features(tmp_path):
    def read(modality, row):
        clips = np.full((LENGTHS[modality][row], WIDTHS[modality]), row + 1)
        return clips if modality == "audio" else torch.from_numpy(clips).to(torch.bfloat16)

    with FeatureStore(write(tmp_path / "x.h5", read=read)) as store:
        assert store.read_sample("audio", 1)[0, 0] == 2
        assert store.read_sample("visual", 3)[0, 0] == 4


def test_lengths_and_scores_may_be_lists_or_tensors(tmp_path):
    path = write(
        tmp_path / "x.h5",
        modalities={
            "visual": Modality(np.int64(4), LENGTHS["visual"]),
            "audio": Modality(2, torch.tensor([3, 5, 0, 4])),
        },
        targets={"a": Target([1, None, 3, 4], 0, np.float32(10)), "b": Target(torch.arange(4), 0, 10)},
    )
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(store.targets["a"].values, [1, np.nan, 3, 4])
        np.testing.assert_array_equal(store.targets["b"].values, [0, 1, 2, 3])


def stream(**changes):
    return {"modalities": {"visual": Modality(**{"width": 4, "lengths": LENGTHS["visual"], **changes})}}


def target(values, low=0, high=10):
    return {"targets": {"TES": Target(values, low, high)}}


REFUSED = {
    "an id too few": ({"ids": ["a", "b", "c"]}, "lengths of modality 'visual': 4 values for 3 ids"),
    "an id twice": ({"ids": ["a", "b", "c", "a"]}, "ids: used more than once: a"),
    "an id twice by conversion": ({"ids": [1, "1", 2, 3]}, "ids: used more than once: 1"),
    "no id": ({"ids": ["a", None, "c", "d"]}, "ids: entry 1 is None, a NoneType; a name is a text or a whole number"),
    "a float as id": ({"ids": [1.0, 2, 3, 4]}, "ids: entry 0 is 1.0, a float"),
    "one text": ({"ids": "abcd"}, "ids is 'abcd'; expected a sequence of names"),
    "bytes that are no text": ({"ids": [b"\xff", "b", "c", "d"]}, "which is not UTF-8"),
    "a length too few": (stream(lengths=[3, 0, 2]), "lengths of modality 'visual': 3 values for 4 ids"),
    "a negative length": (stream(lengths=[3, -1, 2, 4]), "are not whole numbers from 0 on"),
    "half a clip": (stream(lengths=[3, 0.5, 2, 4]), "are not whole numbers from 0 on"),
    "no width": (stream(width=0), "modality 'visual' has width 0; expected a whole number from 1 to"),
    "a width in words": (stream(width="4"), "modality 'visual' has width '4'"),
    "no modality": ({"modalities": {}}, "modalities: 0 are given"),
    "bare lengths": ({"modalities": {"visual": [3, 0, 2, 4]}}, "expected a Modality"),
    "a score too few": (target([1, 2, 3]), "target 'TES': 3 values for 4 ids"),
    "a column": (target(np.ones((4, 1))), r"an array of shape \(4, 1\) for 4 ids; .* values.ravel"),
    "words as scores": (target(["1", "2", "3", "4"]), "target 'TES' is of type <U1; expected numbers"),
    "masked scores": (target(np.ma.masked_array([1.0, 2, 3, 4], [0, 1, 0, 0])), "masked numbers; fill them"),
    "outside": (target([1, 2, 3, 11]), r"targets/TES: outside 0 to 10 in 1 sample: d \(11\)"),
    "no range": (target([1, 2, 3, 4], 10, 0), "the range of target 'TES' is 10 to 0"),
    "range of NaN": (target([1, 2, 3, 4], np.nan, 0), "the range of target 'TES' holds nan"),
    "a row too many": ({"splits": {"train": [0, 4]}}, "split 'train' names row 4; rows are 0 to 3"),
    "a row below": ({"splits": {"train": [0, -1]}}, "split 'train' names row -1"),
    "an unknown id": ({"splits": {"train": ["a", "dd"]}}, "names 'dd', which is not among the ids: did you mean 'd'"),
    "a short mask": ({"splits": {"train": [True, False]}}, "the mask of split 'train': 2 values for 4 ids"),
    "half rows": ({"splits": {"train": [0.5, 1]}}, "expected row numbers, ids or a boolean mask"),
    "rows and ids": ({"splits": {"train": [0, "b"]}}, "split 'train' is of type"),
    "a row in two": ({"splits": {"train": [0, 1], "test": [1]}}, "splits/train and splits/test share 1 sample: b"),
    "an empty split": ({"splits": {"train": [0], "test": []}}, "splits/test: empty"),
    "nothing of a video": (stream(), "features: no modality at all in 1 sample: b"),
    "float64": ({"dtype": "float64"}, "dtype is 'float64': features are kept as float32 or float16"),
    "shape": ({"read": lambda modality, row: np.ones(4)}, r"visual of 'a' has shape \(4,\), expected \(3, 4\)"),
    "ragged": ({"read": lambda modality, row: [[1, 2], [3]]}, "visual of 'a' is .*expected an array of numbers"),
    "NaN": ({"read": lambda modality, row: np.full((3, 4), np.nan)}, "visual of 'a' holds nan, which is not a feature"),
}


def test_a_range_in_words_is_refused():
    with pytest.raises(AqaError, match="range 'low' to 10: expected two numbers"):
        Target([1, 2, 3, 4], "low", 10)


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_the_rest_is_refused_in_one_line_and_nothing_is_written(tmp_path, changes, message):
    with pytest.raises(AqaError, match=message) as error:
        write(tmp_path / "deep" / "x.h5", **changes)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.h5"))


VALUES = st.one_of(st.integers(-2, 5), st.text("ab/", max_size=2), st.none(), st.booleans(), st.floats(0, 3))


@given(
    ids=st.lists(st.one_of(st.integers(0, 9), st.text("abü /", max_size=3), st.binary(max_size=2)), max_size=4),
    lengths=st.lists(st.integers(-1, 2), max_size=4),
    scores=st.lists(st.one_of(st.none(), st.floats(-1, 11), st.integers(0, 10)), max_size=4),
    train=st.lists(VALUES, max_size=4),
)
def test_what_is_written_is_usable(tmp_path_factory, ids, lengths, scores, train):
    path = tmp_path_factory.mktemp("given") / "x.h5"
    try:
        write(
            path,
            ids=ids,
            modalities={"visual": Modality(4, lengths)},
            targets={"TES": Target(scores, 0, 10)},
            splits={"train": train},
            read=lambda modality, row: np.full((lengths[row], 4), row),
        )
    except AqaError:
        return
    problems = inspect_store(path).problems
    assert not [p for p in problems if "never labelled" not in p and "the same score" not in p]


# Groups

GROUPS = {
    "texts": (["x", "y", "x", ""], ["x", "y", "x", ""]),
    "numbers": (np.array([1, 2, 1, 2]), ["1", "2", "1", "2"]),
    "not known": ([7, None, b"7", " z "], ["7", "", "7", "z"]),
}


@pytest.mark.parametrize(("labels", "expected"), GROUPS.values(), ids=GROUPS)
def test_groups_become_texts(tmp_path, labels, expected):
    with FeatureStore(write(tmp_path / "x.h5", groups={"athlete": labels})) as store:
        assert store.groups == {"athlete": expected}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"athlete": ["x", "y"]}, "group 'athlete': 2 labels for 4 ids; expected one for each"),
        ({"athlete": "abcd"}, "group 'athlete' is 'abcd'; expected one label for each sample"),
        ({"athlete": [1.5, 2, 3, 4]}, "group 'athlete': entry 0 is 1.5, a float"),
        ({"athlete": ["x" * 251, "y", "y", "y"]}, "group 'athlete': label, .* has 251 characters"),
        ({"athlete": ["x\n", "y", "y", "y"]}, "group 'athlete': label, .* holds control characters"),
        ({"a/b": list("wxyz")}, "group, 'a/b', is a path"),
    ],
)
def test_groups_that_are_refused(tmp_path, groups, message):
    with pytest.raises(AqaError, match=message) as error:
        write(tmp_path / "x.h5", groups=groups)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
