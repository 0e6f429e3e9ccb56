"""Label tables of every kind are read as the same texts; what is wrong with one is a line."""

from __future__ import annotations

import datetime
import json
import zipfile

import openpyxl
import pandas as pd
import pytest

from aqa.data_prep.sheets import read_sheet
from aqa.errors import AqaError

COLUMNS = ["id", "score", "split"]
ROWS = [["001", "7.5", "train"], ["002", "", "test"], ["x 3", "9", ""]]


def as_workbook(path, rows, formats=()):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for cell, shown in formats:
        book.active[cell].number_format = shown
    book.create_sheet("other").append(["id", "grade"])
    book["other"].append(["a", 1])
    book.save(path)


TEXTS = {
    "comma": "id,score,split\n001,7.5,train\n002,,test\nx 3,9,\n",
    "bom and semicolons": "\ufeffid;score;split\r\n001;7.5;train\r\n002;;test\r\nx 3;9;\r\n",
    "tabs": "id\tscore\tsplit\n001\t7.5\ttrain\n002\t\ttest\nx 3\t9\t\n",
    "blank lines": "\n\nid,score,split\n\n001,7.5,train\n,,\n002,,test\nx 3,9,\n\n",
    "quotation marks": '"id","score","split"\n"001", "7.5","train"\n"002","","test"\n"x 3",9,""\n',
    "a separator at the end": "id,score,split,\n001,7.5,train,\n002,,test,\nx 3,9,,\n",
    "a spreadsheet's line": "sep=;\nid;score;split\n001;7.5;train\n002;;test\nx 3;9;\n",
    "an empty column": "id,,score,split\n001,,7.5,train\n002,,,test\nx 3,,9,\n",
    "spaces": " id , score,split \n 001 ,7.5, train\n002,,test\nx 3,9,\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text(tmp_path, text):
    (tmp_path / "labels.csv").write_bytes(text.encode())
    sheet = read_sheet(str(tmp_path / "labels.csv"))
    assert (sheet.columns, sheet.rows) == (COLUMNS, ROWS)


def test_decimal_commas_are_kept_for_those_who_read_numbers(tmp_path):
    (tmp_path / "labels.csv").write_text("id;score\na;7,5\n")
    assert read_sheet(str(tmp_path / "labels.csv")).column("score", "--target") == ["7,5"]


def test_places_are_lines(tmp_path):
    (tmp_path / "labels.csv").write_text('id,note\n\na,"two\nlines"\nb,x\n')
    assert read_sheet(str(tmp_path / "labels.csv")).places == ["line 4", "line 5"]


def test_json_lines(tmp_path):
    lines = ['{"id": "001", "score": 7.5, "split": "train"}', "", '{"id": "002", "split": "test", "score": null}']
    (tmp_path / "labels.jsonl").write_text("\n".join([*lines, '{"id": "x 3", "score": 9}']))
    sheet = read_sheet(str(tmp_path / "labels.jsonl"))
    assert (sheet.columns, sheet.rows) == (COLUMNS, ROWS)
    assert sheet.places == ["line 1", "line 3", "line 4"]


def test_json_list(tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps([{"id": 7, "score": 1e-3, "late": True}, {"id": 8.0}]))
    assert read_sheet(str(tmp_path / "labels.json")).rows == [["7", "0.001", "True"], ["8", "", ""]]


def test_workbook(tmp_path):
    rows = [COLUMNS, [1, 7.5, "train"], [2, None, "test"], ["x 3", 9.0, None], [None, None, None]]
    as_workbook(tmp_path / "labels.xlsx", rows, [("A2", "000"), ("A3", "000")])
    sheet = read_sheet(str(tmp_path / "labels.xlsx"))
    assert (sheet.columns, sheet.rows, sheet.places) == (COLUMNS, ROWS, ["row 2", "row 3", "row 4"])
    assert read_sheet(f"{tmp_path / 'labels.xlsx'}:other").columns == ["id", "grade"]


def test_dates_of_a_workbook(tmp_path):
    as_workbook(tmp_path / "labels.xlsx", [["id", "day"], ["a", datetime.date(2024, 5, 1)]])
    assert read_sheet(str(tmp_path / "labels.xlsx")).rows[0][1].startswith("2024-05-01")


def test_parquet(tmp_path):
    frame = pd.DataFrame({"id": ["001", "002", "x 3"], "score": [7.5, None, 9], "split": ["train", "test", None]})
    frame.to_parquet(tmp_path / "labels.parquet")
    sheet = read_sheet(str(tmp_path / "labels.parquet"))
    assert (sheet.columns, sheet.rows) == (COLUMNS, ROWS)


def formula(path):
    as_workbook(path, [["id", "score"], ["a", "=1+1"]])


def no_workbook(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


SPOILED = {
    "empty": ("x.csv", b"", r"x\.csv is empty"),
    "blank": ("x.csv", b"\n \n", r"x\.csv is empty; a label file has a line with the names of its columns"),
    "header alone": ("x.csv", b"id,score\n", r"has the names of its columns \(id, score\) and no line below them"),
    "no header": ("x.csv", b"a,1,2\nb,3,4\n", r"the first line names no columns, it is 'a, 1, 2'"),
    "too many fields": ("x.csv", b"id,score\na,1\nb,2,3\n", r"x\.csv, line 3: 3 fields for 2 columns \(id, score\)"),
    "too few fields": ("x.csv", b"id,score,split\na,1,train\nb,2\n", r"x\.csv, line 3: 2 fields for 3 columns"),
    "decimal commas": ("x.csv", b"id,score\na,7,5\nb,8,1\n", r"line 2: 3 fields for 2 columns"),
    "a name twice": ("x.csv", b"id,score,score\na,1,2\n", "two columns are called 'score'"),
    "no name": ("x.csv", b"id,,score\na,1,2\n", "column 2 has no name"),
    "an open quotation mark": ("x.csv", b'id,score\na,"1\nb,2\n', "a quotation mark near line 2 .* is not closed"),
    "an image": (
        "x.csv",
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        r"is an image \(PNG\), not a table",
    ),
    "a video": ("x.csv", bytes(3) + b"\x18ftypmp42" + bytes(40), r"is a video or a sound \(MP4\), not a table"),
    "noise": ("x.csv", bytes(range(256)) * 2, "is not text, so it is no table: a label file is CSV or text in UTF-8"),
    "zeros": ("x.csv", bytes(64), "is not text, so it is no table"),
    "UTF-16": ("x.csv", "id,score\na,1\n".encode("utf-16"), "it is in UTF-16; save it again as UTF-8"),
    "Latin-1": ("x.csv", "id,score\nMüller,1\n".encode("latin-1"), "line 2 is not UTF-8; save it again as UTF-8"),
    "a web page": ("x.csv", b"<!DOCTYPE html><html></html>", "is a web page"),
    "a workbook called CSV": ("x.csv", no_workbook, "is a zip archive; unpack it"),
    "JSON that is none": ("x.jsonl", b'{"id": "a"}\n{"id": \n', r"x\.jsonl, line 2 is not JSON"),
    "JSON of lists": ("x.jsonl", b"[1, 2]", r"entry 1: 1 is not an object"),
    "JSON with a key twice": ("x.jsonl", b'{"id": "a", "id": "b"}', "line 1: 'id' is there twice"),
    "nested JSON": ("x.jsonl", b'{"id": "a", "score": [1, 2]}', r"line 1: 'score' is \[1, 2\]; a cell is a text or"),
    "deep JSON": ("x.json", b"[" * 100_000, r"x\.json is not JSON"),
    "a formula": ("x.xlsx", formula, "row 2, column 2 is a formula without a value; open the file in a spreadsheet"),
    "no workbook": ("x.xlsx", no_workbook, r"x\.xlsx cannot be read as a workbook"),
    "text called a workbook": ("x.xlsx", b"id,score\n", r"x\.xlsx is not a workbook \(\.xlsx\), or damaged"),
    "no Parquet": ("x.parquet", b"id,score\n", r"x\.parquet cannot be read as Parquet"),
    "an old workbook": ("x.xls", b"", r"by its ending '\.xls'; did you mean '\.xlsx'"),
}


@pytest.mark.parametrize(("name", "content", "message"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_label_file_is_one_line(tmp_path, name, content, message):
    if callable(content):
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AqaError, match=message) as error:
        read_sheet(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_file_and_a_sheet_that_are_not_there(tmp_path):
    as_workbook(tmp_path / "labels.xlsx", [["id"], ["a"]])
    with pytest.raises(AqaError, match=r"there is no file .*label\.xlsx; did you mean 'labels\.xlsx'"):
        read_sheet(str(tmp_path / "label.xlsx"))
    with pytest.raises(AqaError, match="has no sheet 'others': did you mean 'other'"):
        read_sheet(f"{tmp_path / 'labels.xlsx'}:others")
    (tmp_path / "a.csv").write_text("id\na\n")
    with pytest.raises(AqaError, match=r"only a workbook \(\.xlsx\) has sheets; leave ':b' out"):
        read_sheet(f"{tmp_path / 'a.csv'}:b")


def test_a_column_that_is_not_there(tmp_path):
    (tmp_path / "a.csv").write_text("id,score\na,1\n")
    with pytest.raises(AqaError, match=r"--target: .*a\.csv has no column 'scores': did you mean 'score'"):
        read_sheet(str(tmp_path / "a.csv")).column("scores", "--target")


def test_a_workbook_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.data_prep.sheets.UNPACKED", 1000)
    as_workbook(tmp_path / "x.xlsx", [["id"], ["a"]])
    with pytest.raises(AqaError, match=r"unpacks to .* bytes; 1000 are the most"):
        read_sheet(str(tmp_path / "x.xlsx"))


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    as_workbook(tmp_path / "x.xlsx", [["id"], ["a"]])
    with pytest.raises(
        AqaError, match=r"\.xlsx need the package openpyxl; install it with: pip install 'aqa-incomplete\[table\]'"
    ):
        read_sheet(str(tmp_path / "x.xlsx"))
