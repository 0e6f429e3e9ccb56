"""Published .npy files are read; what else a pickle may ask for is refused by name and not run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import warnings
from collections import OrderedDict, defaultdict
from tokenize import TokenError

import numpy as np
import pytest

from aqa.data_prep.npy import load_mapping, load_npy, shape_of
from aqa.errors import AqaError

HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(127) + b"\n"


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dumped(path, content, protocol=4):
    """The published layout, with the pickle at any protocol and numpy 1 names on demand."""
    outer = np.empty((), dtype=object)
    outer[()] = content
    path.write_bytes(HEADER + pickle.dumps(outer, protocol=protocol))
    return path


def samples():
    return {
        "1": np.arange(6, dtype=np.float32).reshape(2, 3),
        "2": np.asfortranarray(np.arange(12, dtype=">f8").reshape(3, 4)),
        "3": np.zeros((0, 3), dtype=np.float16),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_mapping_of_every_protocol(tmp_path, protocol):
    loaded = load_mapping(dumped(tmp_path / "x.npy", samples(), protocol))
    assert list(loaded) == ["1", "2", "3"]
    for i, expected in samples().items():
        np.testing.assert_array_equal(loaded[i], expected)
        assert loaded[i].dtype == expected.dtype


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_numpy_1_and_2_names(tmp_path, protocol):
    """Files written by numpy 1 name numpy.core, by numpy 2 numpy._core; the reader's own numpy does not matter."""
    path = dumped(tmp_path / "x.npy", samples(), protocol)
    swaps = [(b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")]
    for old, new in swaps:
        data = path.read_bytes()
        if old in data and protocol == 2:  # names are lines there, in later protocols they carry their length
            path.write_bytes(data.replace(old, new))
        np.testing.assert_array_equal(load_mapping(path)["1"], samples()["1"])


def test_as_numpy_saves_it(tmp_path):
    np.save(tmp_path / "x.npy", samples())
    np.testing.assert_array_equal(load_mapping(tmp_path / "x.npy")["2"], samples()["2"])


def test_plain_array(tmp_path):
    expected = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.save(tmp_path / "x.npy", expected)
    np.testing.assert_array_equal(load_npy(tmp_path / "x.npy"), expected)


ARRAYS = {
    "one clip": np.arange(5.0),
    "one number": np.array(3.0),
    "no clips": np.zeros((0, 4), np.float32),
    "column by column": np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4)),
    "three dimensions": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "truth values": np.eye(3, dtype=bool),
    "whole numbers": np.arange(6, dtype=">i8").reshape(2, 3),
    "many": np.ones((1, 123_456), np.int8),
}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_what_numpy_reads(tmp_path, array, version):
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version)
    loaded, expected = load_npy(path), np.load(path)
    np.testing.assert_array_equal(loaded, expected)
    assert (loaded.dtype, loaded.shape) == (expected.dtype, expected.shape)
    assert (loaded.flags.c_contiguous, loaded.flags.writeable) == (expected.flags.c_contiguous, True)
    assert shape_of(path) in ((array.shape,) if version == (1, 0) else (None,))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(2, 3), }  ", b"(2,3)}     "),  # as others may write it
        (b"'fortran_order': False, 'shape'", b"'shape':(2,3),'fortran_order'"),
        (b"(2, 3)", b"(2, 3"),
        (b"(2, 3), ", b"(02, 3),"),
        (b"(2, 3), ", b"(-2, 3),"),
        (b"(2, 3), ", b"(6),    "),
        (b"(2, 3), }         ", b"(1000000000, 1), }"),
        (b"'<f4'", b"'<c8'"),
        (b"'<f4'", b"'|O4'"),
        (b"}", b"]"),
        (b"\n", b" "),
        (b"v\x00", b"w\x00"),
        (b"\x01\x00v", b"\x09\x00v"),
    ],
)
def test_a_header_is_read_as_numpy_reads_it_or_refused_in_one_line(tmp_path, old, new):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((2, 3), np.float32))
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    assert shape_of(path) is None
    try:
        expected = np.load(path)
    except (ValueError, EOFError, OSError, TokenError):
        with pytest.raises(AqaError, match=r"x\.npy (is cut off or not a feature file|holds)") as error:
            load_npy(path)
        assert "\n" not in str(error.value)
    else:
        np.testing.assert_array_equal(load_npy(path), expected)


def test_no_shape_of_what_cannot_be_read(tmp_path):
    assert shape_of(tmp_path / "x.npy") is None
    assert shape_of(tmp_path) is None
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-1])
    assert shape_of(tmp_path / "x.npy") is None
    (tmp_path / "x.npy").write_bytes(content + b"more")
    assert shape_of(tmp_path / "x.npy") == (2, 3)
    np.testing.assert_array_equal(load_npy(tmp_path / "x.npy"), np.ones((2, 3)))
    np.save(tmp_path / "x.npy", samples())
    assert shape_of(tmp_path / "x.npy") is None


def test_mapping_wanted_but_plain(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    with pytest.raises(AqaError, match=r"x\.npy holds one array of shape \(2, 3\); expected video id -> array"):
        load_mapping(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}",), "posix.system"),
        (builtins.eval, ("open('{}', 'w')",), "builtins.eval"),
        (builtins.getattr, ("{}", "upper"), "builtins.getattr"),
        (subprocess.check_call, (["touch", "{}"],), "subprocess.check_call"),
        (np.load, ("{}",), "numpy.load"),
        (pickle.loads, (pickle.dumps(Calls(os.system, "touch {}")),), r"_pickle\.loads"),
    ],
)
def test_calls_are_refused_by_name(tmp_path, function, arguments, name):
    victim = tmp_path / "victim"
    filled = tuple(a.format(victim) if isinstance(a, str) else a for a in arguments)
    path = dumped(tmp_path / "x.npy", {"1": samples()["1"], "2": Calls(function, *filled)})
    with pytest.raises(AqaError, match=rf"x\.npy asks to run {name}: refused") as refused:
        load_npy(path)
    assert "\n" not in str(refused.value)
    assert not victim.exists()


def test_scalar_that_unpickles_its_bytes(tmp_path):
    """numpy's own scalar constructor unpickles the bytes of an object scalar, without any restriction."""
    victim = tmp_path / "victim"
    scalar = np._core.multiarray.scalar
    inner = pickle.dumps(Calls(os.system, f"touch {victim}"))
    path = dumped(tmp_path / "x.npy", {"1": Calls(scalar, np.dtype("O"), inner)})
    with pytest.raises(AqaError, match=r"asks to run numpy\.core\.multiarray\.scalar of type 'O8': refused"):
        load_npy(path)
    assert not victim.exists()


def test_codecs_only_for_bytes(tmp_path):
    import codecs

    path = dumped(tmp_path / "x.npy", {"1": Calls(codecs.encode, "abc", "rot13")})
    with pytest.raises(AqaError, match=r"_codecs\.encode to 'rot13': refused"):
        load_npy(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([{"a": 1}, None], dtype=object), "'1' is an array of objects"),
        (np.array(["a", "b"]), "'1' is an array of type '<U1', not of numbers"),
        (np.zeros(2, dtype=[("a", "f4")]), "'1' is an array of type 'V4'"),
        ([1.0, 2.0], "'1' holds a list of 2 entries, not an array; save np.stack of it"),
        ({"visual": np.zeros((2, 3))}, "'1' holds a mapping of 1 entries, not an array; save that mapping by itself"),
        (None, "'1' holds a NoneType, not an array"),
    ],
)
def test_what_is_no_array_of_numbers(tmp_path, value, message):
    with pytest.raises(AqaError, match=message):
        load_mapping(dumped(tmp_path / "x.npy", {"1": value}))


@pytest.mark.parametrize("key", [1.5, None, True, (1, 2), b"1"])
def test_ids_are_text(tmp_path, key):
    with pytest.raises(AqaError, match=r"the id .* is not text|holds values|cut off or not"):
        load_mapping(dumped(tmp_path / "x.npy", {key: samples()["1"]}))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.str_])
def test_whole_numbers_and_numpy_texts_as_ids_become_text(tmp_path, kind, protocol):
    path = dumped(tmp_path / "x.npy", {kind(7): samples()["1"]}, protocol)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = load_mapping(path)
    assert list(loaded) == ["7"]
    assert [str(w.message).endswith("1 ids are numbers and are read as text, such as '7'") for w in said] == (
        [] if kind is np.str_ else [True]
    )


def test_an_id_as_a_number_and_as_text_is_refused(tmp_path):
    with pytest.raises(AqaError, match="the id '1' is there twice, as a number and as text"):
        load_mapping(dumped(tmp_path / "x.npy", {1: samples()["1"], "1": samples()["1"]}))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "make", [OrderedDict, lambda content: defaultdict(None, content), lambda content: defaultdict(list, content)]
)
def test_other_dictionaries_are_read_as_plain_ones(tmp_path, make, protocol):
    loaded = load_mapping(dumped(tmp_path / "x.npy", make(samples()), protocol))
    assert type(loaded) is dict
    np.testing.assert_array_equal(loaded["2"], samples()["2"])


def test_a_defaultdict_may_make_its_entries_by_nothing_that_runs(tmp_path):
    with pytest.raises(AqaError, match=r"asks to run posix\.getcwd"):
        load_mapping(dumped(tmp_path / "x.npy", defaultdict(os.getcwd, samples())))
    for call in (Calls(list, "ab"), Calls(dict, [("a", 1)]), Calls(int, "7")):  # named, and never called
        with pytest.raises(AqaError, match=r"x\.npy is cut off or not a feature file"):
            load_mapping(dumped(tmp_path / "x.npy", {"1": call}))
    with pytest.raises(AqaError, match=r"x\.npy is cut off or not a feature file: a defaultdict of"):
        load_mapping(dumped(tmp_path / "x.npy", {"1": Calls(defaultdict, Calls(OrderedDict))}))


def test_masked_arrays_are_named_as_such(tmp_path):
    with pytest.raises(AqaError, match=r"holds masked arrays, which are not read; save each as array\.filled\(0\)"):
        load_mapping(dumped(tmp_path / "x.npy", {"1": np.ma.masked_array(np.zeros((2, 3)), mask=True)}))


@pytest.mark.parametrize("content", [[1, 2], "text", None, {1, 2}])
def test_what_is_no_mapping(tmp_path, content):
    with pytest.raises(AqaError, match="expected video id -> array"):
        load_npy(dumped(tmp_path / "x.npy", content))


def test_one_dimensional_object_array(tmp_path):
    np.save(tmp_path / "x.npy", np.array([None, {}], dtype=object))
    with pytest.raises(AqaError, match=r"holds objects of type 'object' in shape \(2,\)"):
        load_npy(tmp_path / "x.npy")


def test_shape_that_its_bytes_do_not_fill(tmp_path):
    """A forged shape must not reach memory beyond the bytes that came."""
    outer = pickle.dumps(np.array({"1": np.zeros((2, 3), dtype=np.float32)}, dtype=object), protocol=4)
    forged = outer.replace(b"K\x02K\x03\x86", b"K\xffK\xff\x86")
    assert forged != outer
    (tmp_path / "x.npy").write_bytes(HEADER + forged)
    with pytest.raises(AqaError, match="'1' is cannot reshape"):
        load_npy(tmp_path / "x.npy")


def test_every_truncation_is_one_line(tmp_path):
    whole = io.BytesIO()
    np.save(whole, {"1": np.ones((2, 3), dtype=np.float32)})
    plain = io.BytesIO()
    np.save(plain, np.ones((2, 3), dtype=np.float32))
    path = tmp_path / "x.npy"
    for data in (whole.getvalue(), plain.getvalue()):
        for end in range(len(data)):
            path.write_bytes(data[:end])
            with pytest.raises(AqaError, match=r"x\.npy") as error:
                load_npy(path)
            assert "\n" not in str(error.value)


def test_garbage_never_escapes(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.npy"
    whole = pickle.dumps(np.array({"1": np.ones((2, 3), dtype=np.float32)}, dtype=object), protocol=4)
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), size=3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(HEADER + bytes(data))
        message = ""
        try:
            load_npy(path)
        except AqaError as error:
            message = str(error)
        assert "\n" not in message


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"not numpy at all", HEADER, HEADER + b"\x80\x04N."])
def test_not_a_feature_file(tmp_path, data):
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(AqaError, match=r"x\.npy"):
        load_npy(tmp_path / "x.npy")


def test_text_array(tmp_path):
    np.save(tmp_path / "x.npy", np.array(["a"]))
    with pytest.raises(AqaError, match="not numbers"):
        load_npy(tmp_path / "x.npy")


def test_missing_file(tmp_path):
    with pytest.raises(AqaError, match=r"x\.npy cannot be read: No such file"):
        load_npy(tmp_path / "x.npy")
