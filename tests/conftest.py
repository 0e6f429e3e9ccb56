"""What tests of several modules share."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import settings

import aqa
import aqa.runs.cross_validation
import aqa.runs.run
import aqa.sweeps.sweep
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from aqa.sweeps.local import run_if_free

# Models this small gain nothing from more threads, and wait long for those that another program holds up.
torch.set_num_threads(1)
# Under nohup a closed terminal is ignored, by the processes that tests start as well; tests send it to see it heard.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("busy", deadline=None)  # a machine that does other things is no fault
settings.load_profile("busy")

DRAWING = {
    "aqa.runs.run.draw": aqa.runs.run.draw,
    "aqa.runs.cross_validation.draw_out_of_fold": aqa.runs.cross_validation.draw_out_of_fold,
}


@pytest.fixture(scope="session", autouse=True)
def _no_figures():
    """Runs draw nothing but where a test asks for it: figures are most of the time of runs this small."""
    with pytest.MonkeyPatch.context() as patch:
        for name in DRAWING:
            patch.setattr(name, lambda *arguments: None)
        yield


@pytest.fixture(scope="session")
def drawing(_no_figures):
    """A context in which runs draw their figures, for fixtures."""

    @contextlib.contextmanager
    def drawn():
        with pytest.MonkeyPatch.context() as patch:
            for name, draw in DRAWING.items():
                patch.setattr(name, draw)
            yield

    return drawn


@pytest.fixture
def figures(drawing):
    """Lets the runs of a test draw their figures."""
    with drawing():
        yield


@pytest.fixture
def stopped_in_epoch(monkeypatch):
    """A context in which a run is stopped in the epoch of that number, with all epochs before it saved."""

    @contextlib.contextmanager
    def stopped(number):
        plain = aqa.runs.run.epoch_line

        def stopping(row):
            if row["epoch"] == number:
                raise KeyboardInterrupt
            return plain(row)

        with monkeypatch.context() as patch:
            patch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
            patch.setattr(aqa.runs.run, "epoch_line", stopping)
            with pytest.raises(KeyboardInterrupt):
                yield

    return stopped


@pytest.fixture(scope="session")
def sweeping_here():
    """A context in which sweeps run in the process of the test: starting others takes seconds. Gives the names run."""

    @contextlib.contextmanager
    def here():
        made = []

        def run_points(groups, folder, jobs, on_change=lambda: None):
            folder.make()
            for group in groups:
                left = [point for point in group if not folder.settled(point.name)]
                made.extend(point.name for point in left)
                assert not left or run_if_free(left, folder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aqa.sweeps.sweep, "run_points", run_points)
            yield made

    return here


@pytest.fixture
def in_this_process(sweeping_here):
    """Sweeps of a test run without processes of their own; the names of the runs, in the order they were made."""
    with sweeping_here() as made:
        yield made


WIDTHS = {"visual": 3, "audio": 2, "flow": 1}
LENGTHS = {  # clips of eight videos; 0: the stream is absent
    "visual": [4, 6, 2, 5, 0, 3, 0, 7],
    "audio": [4, 6, 3, 0, 4, 3, 0, 7],
    "flow": [4, 5, 2, 0, 4, 3, 0, 7],
}


def clips_of(modality: str, row: int, length: int) -> np.ndarray:
    """Clips (T, D) whose values tell their place: 100 a video, 1 a clip, a quarter a channel; audio negative."""
    values = 100 * row + np.arange(length)[:, None] + 0.25 * np.arange(WIDTHS[modality]) + 1
    return (-values if modality == "audio" else values).astype(np.float32)


def _write_unchecked(path, **parts):
    """A store as others may write it: without what `write_store` refuses of a store that is not usable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aqa.store.write.require_usable", lambda *arguments: None)
        patch.setattr("aqa.store.write._narrowed", lambda clips, dtype, *names: clips.astype(dtype))
        write_store(path, **parts)


@pytest.fixture
def write_unchecked():
    """`write_store`, of stores that are not usable too."""
    return _write_unchecked


@pytest.fixture
def tiny_store(tmp_path):
    """A function that writes a small feature store of eight videos, usable or not, and returns its path.

    lengths: clips of each video by modality. Anything else is given to `write_store`.
    """

    def write(lengths=None, name="tiny.h5", **changes):
        lengths = LENGTHS if lengths is None else lengths
        count = len(next(iter(lengths.values())))
        parts = {
            "name": "tiny",
            "source": "made for a test",
            "ids": [f"video {i}" for i in range(count)],
            "modalities": {m: Modality(WIDTHS[m], np.array(n)) for m, n in lengths.items()},
            "targets": {"TES": Target(np.arange(count) * 1.5 + 10, 0, 50)},
            "splits": {"train": range(count - 2), "test": range(count - 2, count)},
            "read": lambda modality, row: clips_of(modality, row, lengths[modality][row]),
        }
        _write_unchecked(tmp_path / name, **{**parts, **changes})
        return tmp_path / name

    return write


SWEEP = """
import signal, sys
from aqa.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
sys.exit(main(["sweep", "s.yaml", *sys.argv[1:]]))
"""


HANG = 600  # seconds: a deadline that nothing but a hang can reach


@pytest.fixture
def wait_for():
    """A function that waits until a condition holds."""

    def wait(condition):
        until = time.monotonic() + HANG
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)

    return wait


@pytest.fixture
def ended():
    """A function that waits until a process has ended and returns its exit status and what it said."""

    def wait(process):
        out, err = process.communicate(timeout=HANG)
        return process.returncode, f"{out or ''}{err or ''}"

    return wait


@pytest.fixture
def start_sweep():
    """A function that starts `aqa sweep s.yaml` in a folder, with a process group of its own, killed after the test."""
    started = []

    def start(folder, *arguments):
        command = [sys.executable, "-c", SWEEP, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function of an experiment of a model; returns one that makes its runs, each once, and gives their folders.

    The latter takes the model's name and changes by dotted key. The experiment has no output.
    """

    def runs_of(experiment):
        known = {}

        def make(model="zero_fill", **changes):
            key = repr((model, sorted(changes.items())))
            if key not in known:
                known[key] = tmp_path_factory.mktemp("run") / "run"
                aqa.run({**experiment(model), "output": str(known[key])}, changes)
            return known[key]

        return make

    return runs_of


class SavedStates(list):
    """Training states as they are read back from a file, in the order in which they were saved."""

    def save(self, state):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        self.append(torch.load(buffer, weights_only=True))


@pytest.fixture
def states():
    """What `states.save` was given, as a file gives it back."""
    return SavedStates()
