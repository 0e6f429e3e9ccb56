"""The journal of a search: lines that processes add, whatever one of them left half-written."""

import json

import pytest

from aqa.errors import AqaError
from aqa.sweeps.journal import Journal


def test_lines_are_read_from_a_number_on_by_every_process(tmp_path):
    mine, theirs = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    mine.append_logs([{"a": 0}, {"a": 1}])
    assert list(theirs.read_logs(0)) == [{"a": 0}, {"a": 1}]
    theirs.append_logs([{"a": 2}])
    assert list(mine.read_logs(2)) == [{"a": 2}]
    assert list(mine.read_logs(1)) == [{"a": 1}, {"a": 2}]
    assert list(mine.read_logs(3)) == []


def test_half_a_line_of_a_process_that_was_killed_is_left_out_and_removed(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append_logs([{"a": 0}])
    with open(tmp_path / "j", "a") as file:
        file.write('{"a": 1, "b')
    assert list(journal.read_logs(0)) == [{"a": 0}]
    journal.append_logs([{"a": 2}])
    assert list(Journal(tmp_path / "j").read_logs(0)) == list(journal.read_logs(0)) == [{"a": 0}, {"a": 2}]
    assert [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()] == [{"a": 0}, {"a": 2}]


def test_nothing_but_half_a_line_is_an_empty_journal(tmp_path):
    (tmp_path / "j").write_text('{"a"')
    journal = Journal(tmp_path / "j")
    assert list(journal.read_logs(0)) == []
    journal.append_logs([{"a": 1}])
    assert list(journal.read_logs(0)) == [{"a": 1}]


@pytest.mark.parametrize("line", ["not json", "[1]", "7"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    (tmp_path / "j").write_text(f'{{"a": 0}}\n{line}\n{{"a": 2}}\n')
    with pytest.raises(AqaError, match=r"j, line 2, is not a line of a search's journal"):
        list(Journal(tmp_path / "j").read_logs(0))
