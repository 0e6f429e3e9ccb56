"""The words in which files are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from aqa.data_prep.words import Columns, named, nearest_of_many, numbered, split_columns, split_place
from aqa.errors import AqaError

ENDINGS = (".npy", ".npz", ".h5")


@pytest.mark.parametrize(
    ("given", "path", "place"),
    [
        ("a.npz", "a.npz", None),
        ("a.NPZ:audio", "a.NPZ", "audio"),
        ("C:/data/{id}.npz:audio", "C:/data/{id}.npz", "audio"),
        ("all.h5:{id}/visual", "all.h5", "{id}/visual"),
        ("a:b.npy", "a:b.npy", None),
        ("a.h5:b.h5:c", "a.h5:b.h5", "c"),
    ],
)
def test_path_and_place(given, path, place):
    assert split_place(given, ENDINGS, "--stream") == (Path(path), place)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.npyy", r"--stream a\.npyy: .* by its ending '\.npyy'; did you mean '\.npy'"),
        ("folder", "known: .npy, .npz, .h5"),
        ("a.npz:", "nothing follows the colon"),
    ],
)
def test_other_endings_are_refused(given, message):
    with pytest.raises(AqaError, match=message):
        split_place(given, ENDINGS, "--stream")


@pytest.mark.parametrize(
    ("given", "before", "texts", "order"),
    [
        ("v/{id}.csv[f0..f127]", "v/{id}.csv", ("f0..f127",), None),
        ("all.CSV:video[ a, b by frame ]", "all.CSV:video", ("a", "b"), "frame"),
        ("all.parquet[by time]", "all.parquet", (), "time"),
        ("x.csv[by_frame,bypass]", "x.csv", ("by_frame", "bypass"), None),
        ("a[1]/{id}.csv", "a[1]/{id}.csv", None, None),
        ("a.h5:features[0]", "a.h5:features[0]", None, None),  # the name of an array
    ],
)
def test_columns_in_brackets(given, before, texts, order):
    columns = None if texts is None else Columns(texts, order, f"--stream v= {given}")
    assert split_columns(given, (".csv", ".parquet"), "--stream v=") == (before, columns)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("x.csv[]", r"--stream v= x\.csv\[\]: brackets name columns, such as \[f0\.\.f127\], \[f0,f1\], \[by frame\]"),
        ("x.csv[a,,b]", "brackets name columns"),
        ("x.csv[a, by t]", "brackets name columns"),
        ("x.npy[0..5]", r"columns in brackets are those of a table \(\.csv\)"),
    ],
)
def test_brackets_that_name_no_columns(given, message):
    with pytest.raises(AqaError, match=message):
        split_columns(given, (".csv",), "--stream v=")


def test_numbered_columns():
    assert numbered("judge1..judge3") == ["judge1", "judge2", "judge3"]
    assert numbered("J09..J11") == ["J09", "J10", "J11"]
    assert numbered("2 .. 4") == ["2", "3", "4"]
    assert numbered("judge1") is None


@pytest.mark.parametrize("text", ["judge1..jury3", "judge3..judge1", "a..b", "..", "j1..j99999"])
def test_ranges_of_columns_that_are_none(text):
    with pytest.raises(AqaError, match=r"two names that end in numbers, such as judge1\.\.judge5"):
        numbered(text)


def test_name_and_value():
    assert named("visual = a=b.npy", "--stream", "x=y") == ("visual", "a=b.npy")
    for text in ("visual", "=a.npy", "visual="):
        with pytest.raises(AqaError, match=r"--stream .*: write NAME=VALUE, such as --stream x=y"):
            named(text, "--stream", "x=y")


def test_the_nearest_of_many_names():
    many = [f"file{k}" for k in range(2000)]
    assert nearest_of_many("fil7", many) == "did you mean 'file7'?"
    assert nearest_of_many("x", many) == "there are file0, file1, file2, file3, file4, file5, file6, file7 ..."
    assert nearest_of_many("x", ["a", "b"]) == "known: a, b"
