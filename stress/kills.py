"""Nothing is lost when a command is killed: stop it anywhere, start it again, and compare with one that was left alone.

    python -m stress.kills                    SIGKILL at random moments of its time on the processor, 50 times each
    python -m stress.kills --how die          SIGKILL before every file-system call, and in the middle of files
    python -m stress.kills --how full         from that call on the disk is full; the command must say so, in a line
    python -m stress.kills --how term         SIGTERM at random moments; it must save and say how to resume

The commands are `aqa run`, `sweep` (two processes), `tune`, `prepare` (Fis-V's layout) and `report`, each in a fork of
this process, which has loaded torch already. Everything that they leave is compared byte by byte, except log.txt (what
was said), .claims (who ran what, when), the journal of a search and the seconds of a sweep or a search. The state after
the last epoch is compared as well where it is saved every epoch: weights, optimizer, scheduler, random numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import aqa.data_prep.prepare
import aqa.reporting.report
import aqa.runs.figures
import aqa.runs.run
import aqa.sweeps.ray_cluster
import aqa.sweeps.tables
from aqa.cli import main as aqa_command
from aqa.runs.folder import METRICS, STATE, RunFolder
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import RESULTS, SUMMARY, TRIALS_TABLE
from aqa.sweeps.study import JOURNAL
from aqa.system.files import COMPLETE, PARTIAL, STAGE
from aqa.system.torch_files import load_torch

EXPERIMENT = """
name: small
data: {{store: {store}, target: score}}
model: {{name: mcmoe, hidden_dim: 16, n_encoder: 1, n_decoder: 1, dropout: 0.1}}
train: {{epochs: {epochs}, batch_size: 16, learning_rate: 1.0e-3, threads: 1}}
"""
SEEDS = 3
SWEEP = f"""
name: swept
experiments: [e.yaml]
grid: {{train.seed: {list(range(SEEDS))}}}
set: {{save_every: 0.1}}
"""
WIDTHS = {"FISV_rgb_VST": 1024, "FISV_audio_AST": 768, "FISV_flow_I3D": 1024}
TUNE = """
name: tuned
experiments: [e.yaml]
space: {train.learning_rate: {log: [1e-4, 1e-2]}}
trials: 3
prune_after: 1
set: {save_every: 0.1}
"""
TRIALS_AND_REFIT = 4
COMMANDS = ("run", "sweep", "tune", "prepare", "report")
RESUMED, ANEW, AFTER = "from a saved state", "anew", "after the end"
LAST_STATE = "last.pt"
NOT_COMPARED = (".claims", "log.txt", "said.txt", STATE, JOURNAL, SUMMARY)
WAIT = 600.0  # seconds that a command may take at most
ORPHANS_END = 120.0  # seconds in which a worker whose parent is gone ends: it may be loading torch on a busy machine


def made(folder: Path, epochs: int) -> dict[str, list[str]]:
    """What the commands need, made in a folder; the commands, which write to the folder that they are started in."""
    make_synthetic("tiny", folder / "tiny.h5", samples=80)
    (folder / "e.yaml").write_text(EXPERIMENT.format(store=folder / "tiny.h5", epochs=epochs))
    (folder / "s.yaml").write_text(SWEEP)
    (folder / "t.yaml").write_text(TUNE)
    for seed in range(2):
        output = f"output={folder / 'finished' / str(seed)}"
        aqa.runs.run.run(folder / "e.yaml", [output, "train.epochs=1", f"train.seed={seed}"])
    _published(folder / "Fis-V")
    return {
        "run": ["run", str(folder / "e.yaml"), "output=out"],
        "sweep": ["sweep", str(folder / "s.yaml"), "--jobs", "2"],
        "tune": ["tune", str(folder / "t.yaml")],
        "prepare": ["prepare", "fisv", "--source", str(folder / "Fis-V"), "--out", "out/fisv.h5"],
        "report": ["report", str(folder / "finished"), "--out", "out"],
    }


def _published(folder: Path, videos: int = 60, clips: int = 100) -> None:
    """Features and labels as Fis-V is published."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, width in WIDTHS.items():
        samples = {str(i): rng.standard_normal((clips, width), dtype=np.float32) for i in range(videos)}
        np.save(folder / f"{name}.npy", np.array(samples, dtype=object), allow_pickle=True)
    for split, ids in {"train": range(videos - 10), "test": range(videos - 10, videos)}.items():
        lines = [f"{i} {20 + i / 10} {25 + i / 10}" for i in ids]
        (folder / f"{split}.txt").write_text("\n".join(["id TES PCS", *lines]) + "\n")


def start(command: list[str], place: Path, before: Callable[[], object] = lambda: None) -> int:
    """Start a command in a folder as a session of its own; what it says goes to said.txt. Its process id."""
    place.mkdir(exist_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        os.chdir(place)
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        torch.set_num_threads(1)
        before()
        status = aqa_command(command)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(pid: int, seconds: float = WAIT) -> int:
    """A process's exit status, below zero the signal that ended it; AssertionError where it does not end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    raise AssertionError(f"did not end within {seconds:.0f} s")


def worked(session: int) -> float:
    """Seconds of the processor that a session's processes took: how far they are, however busy the machine is."""
    return sum(float(after[11]) + float(after[12]) for _, after in _stats(session)) / os.sysconf("SC_CLK_TCK")


def orphans(session: int, seconds: float) -> list[int]:
    """What is left of a session's processes after some time."""
    until = time.monotonic() + seconds
    while (left := _members(session)) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def _members(session: int) -> list[int]:
    return [pid for pid, about in _stats(session) if about[0] != "Z"]


def _stats(session: int) -> Iterator[tuple[int, list[str]]]:
    """What the kernel says of each process of a session, after its name."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            about = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            if int(about[3]) == session:
                yield int(entry), about


# Faults in file-system calls


class Faults:
    """Counts the file-system calls of this process below its folder, and makes the one of a number fail.

    They are what Python tells its audit hooks of, and fsync. how "die": SIGKILL before the call; a file that was to be
    forced to the disk is cut in half first, as if the process had died while it wrote. "full": no space is left from
    then on for what takes some.
    """

    SPACE = ("open", "os.mkdir", "fsync")

    def __init__(self, how: str, number: int, count: Path | None = None):
        self.how, self.number, self.count_to = how, number, count
        self.calls = 0
        self.here = os.getcwd() + os.sep
        self.fsync = os.fsync
        os.fsync = self._fsync
        sys.addaudithook(self._heard)

    def _heard(self, event: str, about: tuple[object, ...]) -> None:
        if event == "open":
            path, flags = about[0], about[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"):
            path = about[0]
        else:
            return
        if isinstance(path, (str, Path)) and os.path.abspath(path).startswith(self.here):
            self._called(event)

    def _fsync(self, handle: int) -> None:
        self._called("fsync", handle)
        self.fsync(handle)

    def _called(self, event: str, handle: int | None = None) -> None:
        self.calls += 1
        if self.count_to is not None:
            descriptor = os.open(self.count_to, os.O_RDWR)
            os.pwrite(descriptor, f"{self.calls:8d}".encode(), 0)
            os.close(descriptor)
        if self.how == "die" and self.calls == self.number:
            if handle is not None:
                path = os.readlink(f"/proc/self/fd/{handle}")
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "full" and self.number <= self.calls and event in self.SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def calls_of(command: list[str], place: Path) -> int:
    """How many calls a command makes that is left alone."""
    count = place.parent / f"{place.name}.count"
    count.write_text("0")
    status = ended(start(command, place, lambda: Faults("", 0, count)))
    assert status == 0, (place / "said.txt").read_text()
    return int(count.read_text())


# What is left


def left(place: Path) -> dict[str, bytes]:
    """Every file that is compared, by its path."""
    files = [path for path in place.rglob("*") if path.is_file()]
    kept = [path for path in files if not set(path.relative_to(place).parts) & set(NOT_COMPARED)]
    return {str(path.relative_to(place)): content(path) for path in kept}


def content(path: Path) -> bytes:
    """What is in a file; of a state its numbers, as tensors may share memory in one and not in another.

    Of the tables of a search all but the seconds.
    """
    if path.name in (TRIALS_TABLE, RESULTS) and "seconds" in path.read_text().partition("\n")[0]:
        return pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv().encode()
    if path.name != LAST_STATE:
        return path.read_bytes()
    return repr(list(numbers(load_torch(path)))).encode()


def numbers(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """Every number of a state by its place, tensors as bytes."""
    if isinstance(value, torch.Tensor):
        yield place, (str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes())
    elif isinstance(value, (dict, list, tuple)):
        for key, inner in sorted(value.items(), key=str) if isinstance(value, dict) else enumerate(value):
            yield from numbers(inner, f"{place}/{key}")
    else:
        yield place, value


def last_state_kept() -> None:
    """In a command's process: let the state after the last epoch stay when the run is finished."""
    finish = RunFolder.finish

    def keeping(folder: RunFolder, metrics: Mapping[str, object]) -> Mapping[str, object]:
        shutil.copy(folder.path / STATE, folder.path / LAST_STATE)
        return finish(folder, metrics)

    RunFolder.finish = keeping


@dataclass
class Trial:
    """What came of one: whether the command had ended before, what the next did, and what was wrong."""

    status: int
    outcome: str
    wrong: str = ""


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> str:
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"differ: {', '.join(names)}" if names else ""


def half_done(place: Path) -> bool:
    """Whether anything is left that a process had only begun to write."""
    return any(path.name.endswith(PARTIAL) or path.name in (STAGE, COMPLETE, STATE) for path in place.rglob("*"))


class Campaign:
    """The trials of one command against one that was left alone."""

    def __init__(self, name: str, command: list[str], folder: Path, how: str, seed: int):
        self.name, self.folder, self.how = name, folder, how
        self.random = random.Random(f"{name} {seed}")
        self.intervals: list[float | None] = [None]
        if name == "run":  # asked to stop it saves the last epoch where none was saved before it
            self.intervals = [0.15, 600.0] if how == "term" else [0.0, 0.15]
        self.commands = {i: command + ([f"save_every={i}"] if i is not None else []) for i in self.intervals}
        self.expected: dict[float | None, dict[str, bytes]] = {}
        self.seconds = 0.0
        self.calls: dict[float | None, int] = {}
        folder.mkdir(exist_ok=True)
        for number, interval in enumerate(self.intervals):
            place = folder / f"{name}-alone-{number}"
            if how in ("die", "full"):
                self.calls[interval] = calls_of(self.commands[interval], place)
                shutil.rmtree(place)
            pid = start(self.commands[interval], place, self._before(interval))
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                self.seconds = max(self.seconds, worked(pid))
                time.sleep(0.005)
            status = ended(pid)
            assert status == 0, (place / "said.txt").read_text()
            self.expected[interval] = left(place)

    def _before(self, interval: float | None) -> Callable[[], object]:
        return last_state_kept if interval == 0.0 else lambda: None

    def moments(self, count: int) -> Iterator[tuple[float | None, float]]:
        """When to stop which command: seconds, or the number of a call."""
        if self.how in ("die", "full"):
            every = [(interval, number) for interval in self.intervals for number in range(1, self.calls[interval] + 1)]
            chosen = every if len(every) <= count else sorted(self.random.sample(every, count))
            yield from chosen
        else:
            for number in range(count):
                yield self.intervals[number % len(self.intervals)], self.random.uniform(0, 1.05 * self.seconds)

    def trial(self, number: int, interval: float | None, moment: float) -> Trial:
        """Stop a command at a moment, start it again, and compare."""
        place = self.folder / f"{self.name}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        command, ready = self.commands[interval], self._before(interval)
        status, wrong = self._stopped(command, place, moment, ready, number)
        outcome = self._outcome(place)
        log = place / "out" / "log.txt"
        if self.name == "run" and status == 143 and outcome == ANEW and log.exists() and "epoch 1:" in log.read_text():
            wrong += f" the last epoch was not saved: {log.read_text()}{(place / 'said.txt').read_text()[-2000:]}"
        refused = outcome == AFTER and self.name in ("prepare", "report")  # to overwrite what is whole
        again = ended(start(command, place, ready))
        said = (place / "said.txt").read_text()
        if again != (2 if refused else 0) or refused != ("exists; choose" in said):
            wrong += f" then status {again}: {said[-2000:]}"
        if outcome == RESUMED and self.name == "run" and "resuming after" not in (place / "out/log.txt").read_text():
            wrong += " the saved state was not used"
        wrong += differences(left(place), self.expected[interval])
        wrong += " something half-done is left" if half_done(place) else ""
        if not wrong:
            shutil.rmtree(place)
        return Trial(status, outcome, wrong)

    def _outcome(self, place: Path) -> str:
        """How the next start will resume."""
        done = len(list(place.rglob(METRICS)))
        stage = place / "out" / STAGE / COMPLETE
        after = {
            "run": done == 1,
            "sweep": done == SEEDS,
            "tune": done == TRIALS_AND_REFIT,
            "prepare": (place / "out" / "fisv.h5").exists(),
            "report": (place / "out" / "index.html").exists() and not stage.exists(),
        }
        if after[self.name]:
            return AFTER
        return RESUMED if done or any(place.rglob(STATE)) else ANEW

    def _stopped(
        self, command: list[str], place: Path, moment: float, ready: Callable[[], object], number: int
    ) -> tuple[int, str]:
        """Stop a command: how it ended, and what was wrong with that."""
        if self.how in ("die", "full"):
            status = ended(start(command, place, lambda: (ready(), Faults(self.how, int(moment)))))
            said = (place / "said.txt").read_text()
            if self.how == "full" and status != 0:
                lines = [line for line in said.splitlines() if line.startswith("aqa: ")]
                one_line = status == 2 and len(lines) == 1 and "No space left" in lines[0] and "Traceback" not in said
                return status, "" if one_line else f"full disk: status {status}: {said[-2000:]}"
            return status, ""
        pid = start(command, place, ready)
        while worked(pid) < moment and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.02))
        if self.how == "kill" and number % 2 == 0:
            with contextlib.suppress(ProcessLookupError):  # all of it, as when the machine goes down
                os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL if self.how == "kill" else signal.SIGTERM)
        status = ended(pid)
        said = (place / "said.txt").read_text()
        wrong = ""
        if self.how == "term" and status not in (0, 143, -signal.SIGTERM):  # -SIGTERM: before the command began
            wrong = f"status {status}: {said[-2000:]}"
        if self.how == "term" and status == 143 and (said.count("aqa: stopped") != 1 or "Traceback" in said):
            wrong = f"said {said[-2000:]}"
        if remaining := orphans(pid, ORPHANS_END):
            wrong += f" processes that outlive it: {remaining}"
            os.killpg(pid, signal.SIGKILL)
        return status, wrong


def campaign(name: str, command: list[str], folder: Path, how: str, count: int, seed: int) -> bool:
    """Stop one command many times, and print what came of it; whether all was well."""
    own = Campaign(name, command, folder, how, seed)
    outcomes: Counter[str] = Counter()
    bad = 0
    for number, (interval, moment) in enumerate(own.moments(count)):
        trial = own.trial(number, interval, moment)
        outcomes[trial.outcome] += 1
        if trial.wrong:
            bad += 1
            print(f"  {name} {number} at {moment:.3f}, save_every {interval}, status {trial.status}: {trial.wrong}")
    total = sum(outcomes.values())
    split = ", ".join(f"{outcomes[kind]} {kind}" for kind in (RESUMED, ANEW, AFTER))
    span = f"{sum(own.calls.values())} calls" if own.calls else f"{own.seconds:.1f} s of the processor"
    print(f"{name}, {how} ({span}): {total} times; went on {split}; identical {total - bad} of {total}", flush=True)
    return not bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=["kill", "die", "full", "term"], default="kill")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--count", type=int, default=50, help="times each command; of calls no more than there are")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills") as name:
        commands = made(Path(name), arguments.epochs)
        fine = [
            campaign(command, commands[command], Path(name), arguments.how, arguments.count, arguments.seed)
            for command in arguments.commands
        ]
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
