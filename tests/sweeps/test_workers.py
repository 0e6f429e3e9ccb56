"""Processes that share out work: how they start, and what they begin with."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aqa.runs.predictions import save_predictions
from aqa.sweeps import workers

PROGRAM = """
import json, os, sys, time
from pathlib import Path

def work(file):
    from aqa.sweeps import workers
    known = [name for name in [*workers.PRELOADED, "wandb"] if name in sys.modules]
    environment = [os.environ.get(name) for name in ("SET", "UNSET")]
    Path(file).write_text(json.dumps([*environment, os.getcwd(), known, sys.argv[1:]]))

if __name__ == "__main__":
    from aqa.sweeps import workers
    if sys.argv[1] == "together":
        workers.import_once(Path("plan.yaml"))
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
    (tmp_path / "plan.yaml").write_text(f"set: {{tracking.wandb: {'offline' if backend == 'agg' else 'disabled'}}}")
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
        tracked = ["wandb"] if importlib.util.find_spec("wandb") else []
        without_figures = [name for name in workers.PRELOADED if name != "aqa.runs.figures"]
        assert known == ([*workers.PRELOADED, *tracked] if backend == "agg" else without_figures)


TRACKING = """
import json, os, sys
from pathlib import Path

def work(place):
    from aqa.config.schema import TrackingConfig
    from aqa.runs.tracking import begin_service, tracked
    known, said = "wandb" in sys.modules, []
    settings, folder = TrackingConfig(wandb="offline"), Path(place) / str(os.getpid())
    folder.mkdir()
    begin_service(settings)
    with tracked(settings, "name", {}, folder, said.append) as tracker:
        tracker.epoch({"epoch": 1.0, "loss": 0.5})
        tracker.result({"patterns": {}, "average_incomplete": {}, "selection": {}}, Path(place))
    (folder / "found.json").write_text(json.dumps([known, said]))

if __name__ == "__main__":
    from aqa.sweeps import workers
    workers.import_once(Path("plan.yaml"))
    workers.keep_at_work(2, work, (sys.argv[1],), lambda: True, print)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_processes_that_are_forked_from_one_that_imported_wandb_track_runs_of_their_own(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "program.py").write_text(TRACKING)
    (tmp_path / "plan.yaml").write_text("tracking: {wandb: offline}")
    scores = {"VA": np.array([0.1, 0.2])}
    save_predictions(tmp_path / "predictions.csv", ["a", "b"], np.arange(2), np.ones(2), "score", scores)
    command = [sys.executable, "program.py", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    folders = sorted(path.parent for path in tmp_path.glob("*/found.json"))
    assert len(folders) == 2
    for folder in folders:
        said = [f"tracked offline: wandb sync {folder}/wandb/offline-run-*"]
        assert json.loads((folder / "found.json").read_text()) == [True, said]
        assert list(folder.glob("wandb/offline-run-*/files/media/table/predictions_*.table.json"))
    assert len({path.stem for path in tmp_path.glob("*/wandb/offline-run-*/run-*.wandb")}) == 2


@pytest.mark.parametrize(
    ("plan", "asks"),
    [
        ("set: {tracking.wandb: offline}", True),
        ('{"set": {"tracking.wandb": "online"}}', True),
        ("tracking: {project: aqa, wandb: offline}", True),
        ("grid: {tracking.wandb: [online]}", True),
        ("experiments: [tracked.yaml]", True),
        ('{"experiments": ["a.yaml", "tracked.yaml"]}', True),
        ("experiments:\n- tracked.yaml\n", True),
        ("experiments: [a.yaml, missing.yaml]", False),
        ("set: {tracking.wandb: disabled}", False),
        ("", False),
    ],
)
def test_a_plan_asks_for_wandb_where_it_or_an_experiment_that_it_names_does(tmp_path, plan, asks):
    (tmp_path / "tracked.yaml").write_text("tracking:\n  wandb: online\n")
    (tmp_path / "a.yaml").write_text("tracking: {wandb: disabled}")
    (tmp_path / "plan.yaml").write_text(plan)
    assert workers.asks_for_wandb(tmp_path / "plan.yaml") == asks


def test_a_plan_that_cannot_be_read_twice_or_at_all_is_left_to_what_reads_it(tmp_path):
    assert not workers.asks_for_wandb(tmp_path / "missing.yaml")
    assert not workers.asks_for_wandb(tmp_path)
    assert not workers.asks_for_wandb(Path("a\0b.yaml"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")  # to open it would wait for a writer
        assert not workers.asks_for_wandb(tmp_path / "pipe.yaml")
