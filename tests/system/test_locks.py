"""Locks between processes: one holder at a time, which others can name."""

import errno
import os
import subprocess
import sys

import pytest

from aqa.system import locks
from aqa.system.locks import claimed, holder_in, holder_text, is_claimed, note_holder


def test_a_lock_has_one_holder_until_its_block_ends(tmp_path):
    lock = tmp_path / "a.lock"
    assert not is_claimed(lock)
    with claimed(lock) as first, claimed(lock) as second:
        assert (first, second) == (True, False)
        assert is_claimed(lock)
    assert not is_claimed(lock)
    with claimed(lock) as again:
        assert again


@pytest.mark.parametrize("remove", [False, True])
def test_its_file_is_removed_where_that_is_asked_for(tmp_path, remove):
    with claimed(tmp_path / "a.lock", remove=remove):
        assert os.listdir(tmp_path) == ["a.lock"]
    assert os.listdir(tmp_path) == [] if remove else ["a.lock"]


def test_a_lock_goes_with_the_process_that_had_it(tmp_path):
    code = "import os, sys; from pathlib import Path; from aqa.system.locks import claimed\n"
    code += "with claimed(Path(sys.argv[1])) as ours: print(ours, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.lock")], capture_output=True, text=True)
    assert done.stdout == "True\n"
    assert not is_claimed(tmp_path / "a.lock")


def test_a_holder_is_named_with_its_machine_and_since_when(tmp_path):
    note_holder(tmp_path / "a.json")
    assert holder_in(tmp_path / "a.json")["pid"] == os.getpid()
    assert holder_text(tmp_path / "a.json").startswith(f"process {os.getpid()} on {os.uname().nodename}, since 20")


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"pid": 5, "time": "x"}', '{"pid": 5, "time": 1e300}'])
def test_a_note_that_is_missing_or_broken_names_nobody(tmp_path, text):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    assert holder_text(tmp_path / "a.json") == "another process"


def test_a_file_system_without_locks_is_told_from_other_errors():
    assert locks.has_no_locks(OSError(errno.ENOLCK, ""))
    assert not locks.has_no_locks(PermissionError(errno.EACCES, ""))
