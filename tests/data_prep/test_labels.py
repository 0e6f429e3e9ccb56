"""Label files are read with any usual separator; a file of another form is one line, not one problem per video."""

from __future__ import annotations

import os

import pytest

from aqa.data_prep.labels import Row, read_rows
from aqa.errors import AqaError

COLUMNS = ("TES", "PCS", "deductions")
ROWS = [Row("a 1", (28.71, 29.5)), Row("b", (30.0, -1.25))]


def read(path, content, columns=COLUMNS):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = []
    return read_rows(path, columns, problems, optional=1), [str(problem) for problem in problems]


@pytest.mark.parametrize(
    "content",
    [
        "id\tTES\tPCS\na 1\t28.71\t29.5\nb\t30\t-1.25\n",
        "id\tTES\tPCS\na 1\t28,71\t29,5\nb\t30\t-1,25\n",
        "id;TES;PCS\na 1;28,71;29,5\nb;30;-1,25\n",
        "id; TES; PCS\r\na 1; 28.71; 29.5;\r\nb; 30; -1.25;\r\n",
        "id,TES,PCS\na 1,28.71,29.5\nb,30,-1.25\n",
        "a 1, 28.71, 29.5\n\nb, 30, -1.25",
        '"id","TES","PCS"\n"a 1","28.71","29.5"\n"b","30","-1.25"\n',
        '"a 1","28,71","29,5"\n"b",30,"-1,25"\n',
        "\ufeffa 1;28.71;29.5\nb;30;-1.25\n",
    ],
)
def test_every_separator_and_decimal_commas(tmp_path, content):
    assert read(tmp_path / "train.csv", content) == (ROWS, [])


def test_spaces_with_decimal_commas(tmp_path):
    assert read(tmp_path / "x.txt", "a   28,5 29,5 0\nb 30 31,25 1")[0][1] == Row("b", (30.0, 31.25, 1.0))


def test_a_line_of_another_form_among_others_is_a_problem_of_its_own(tmp_path):
    rows, problems = read(tmp_path / "x.txt", "a,1,2\nb,1\nc,x,2\n")
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert problems == [
        "b: label line of another form (x.txt line 2: 1 values)",
        "c: label that is not a number (x.txt line 3: TES 'x')",
    ]


@pytest.mark.parametrize("separator", ["|", ":", "/"])
def test_a_file_with_another_separator_is_one_line(tmp_path, separator):
    lines = [separator.join(("id", "TES", "PCS")), *(separator.join((f"v{i}", "1.5", "2.5")) for i in range(40))]
    with pytest.raises(AqaError) as error:
        read(tmp_path / "x.txt", "\n".join(lines))
    message = str(error.value)
    assert "\n" not in message
    assert "name and its scores (TES, PCS, deductions if known), separated by tabs, semicolons, commas or" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path, encoding):
    with pytest.raises(AqaError, match=r"x\.txt cannot be read as text: it is in UTF-16; save it again as UTF-8"):
        read(tmp_path / "x.txt", "id TES PCS\n1 2.5 3.5\n".encode(encoding))


def test_other_encodings_name_the_line(tmp_path):
    with pytest.raises(AqaError, match=r"x\.txt cannot be read as text: line 2 is not UTF-8"):
        read(tmp_path / "x.txt", "a 1 2\nü 1 2\n".encode("latin1"))


def test_what_is_not_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.txt")
    with pytest.raises(AqaError, match="is a pipe, not a file"):
        read_rows(tmp_path / "x.txt", COLUMNS, [])
    with pytest.raises(AqaError, match="does not exist"):
        read_rows(tmp_path / "y.txt", COLUMNS, [])
