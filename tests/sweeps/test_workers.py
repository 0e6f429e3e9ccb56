"""Processes that share out work: how they start, and what they begin with."""

import json
import os
import subprocess
import sys

import pytest

from aqa.sweeps import workers

PROGRAM = """
import json, os, sys, time
from pathlib import Path

def work(file):
    from aqa.sweeps import workers
    known = [name for name in workers.PRELOADED if name in sys.modules]
    environment = [os.environ.get(name) for name in ("SET", "UNSET")]
    Path(file).write_text(json.dumps([*environment, os.getcwd(), known, sys.argv[1:]]))

if __name__ == "__main__":
    from aqa.sweeps import workers
    if sys.argv[1] == "together":
        workers.import_once()
    os.environ["SET"] = "after it was started"
    os.environ.pop("UNSET")
    os.mkdir("later")
    os.chdir("later")
    workers.POLL = 600  # that a process has ended is known at once, not when it is next asked for
    workers.keep_at_work(1, work, (sys.argv[2],), lambda: True, print)
"""


@pytest.mark.parametrize(("how", "backend"), [("together", "agg"), ("together", "nonsense"), ("each by itself", "agg")])
def test_a_process_begins_as_its_parent_is_when_it_starts_it(tmp_path, how, backend):
    """Also where a module cannot be imported, as matplotlib where its backend is none: not every run needs it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", how, str(tmp_path / "found.json")]
    environment = {**os.environ, "UNSET": "before it was started", "MPLBACKEND": backend}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    set_, unset, folder, known, arguments = json.loads((tmp_path / "found.json").read_text())
    assert (set_, unset, folder) == ("after it was started", None, str(tmp_path / "later"))
    assert arguments == command[2:]
    if how != "together" or sys.platform != "linux":
        assert known == []
    else:
        assert known == [name for name in workers.PRELOADED if backend == "agg" or name != "aqa.runs.figures"]
