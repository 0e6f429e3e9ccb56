"""Long use leaks nothing, and sweeps and reports on one folder do not get in each other's way.

    python -m stress.soak                     300 short runs in one process: its memory, open files and threads
    python -m stress.soak --contention 120    two sweeps and a report after the other on one folder, for about 120 s

A leak is a slope: the median of the slopes between all pairs of points (Theil and Sen) after the first third, in which
caches fill. The exit status is 1 where there is one, or where something went wrong.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import theilslopes

from aqa import run
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import load_sweep, points_of

EXPERIMENT = """
name: small
data: {store: tiny.h5, target: score}
model: {name: mcmoe, hidden_dim: 8, n_encoder: 1, n_decoder: 1}
train: {epochs: 2, batch_size: 16, learning_rate: 1.0e-3, threads: 1}
"""
KIB_A_RUN = 40.0  # of growth that is still called flat: 300 runs take 12 MiB
NO_RUN_YET = "holds no finished run"


class Held(NamedTuple):
    """What a process holds: memory in KiB, open files, threads."""

    memory: int
    files: int
    threads: int


def held() -> Held:
    """What this process holds now."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0])
    return Held(memory, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")))


def soak(folder: Path, runs: int) -> list[Held]:
    """What this process holds after each of some runs, each of another seed and written to a folder of its own."""
    make_synthetic("tiny", folder / "tiny.h5", samples=40)
    (folder / "base.yaml").write_text(EXPERIMENT.replace("tiny.h5", str(folder / "tiny.h5")))
    after = []
    for seed in range(runs):
        run(folder / "base.yaml", [f"train.seed={seed}", f"output={folder / 'runs' / str(seed)}"])
        after.append(held())
    return after


def slopes(after: Sequence[Held]) -> Held:
    """Growth a run of each, after the first third."""
    late = np.array(after[len(after) // 3 :], dtype=float)
    return Held(*(theilslopes(column).slope for column in late.T))


def table(after: Sequence[Held], lines: int = 10) -> str:
    """What was held after about so many of the runs."""
    rows = sorted({round(place) for place in np.linspace(0, len(after) - 1, lines)})
    head = f"{'runs':>5} {'memory MiB':>11} {'files':>6} {'threads':>8}"
    body = [f"{i + 1:5d} {after[i].memory / 1024:11.1f} {after[i].files:6d} {after[i].threads:8d}" for i in rows]
    return "\n".join([head, *body])


def is_flat(growth: Held) -> bool:
    return growth.memory <= KIB_A_RUN and growth.files <= 0 and growth.threads <= 0


def contention(folder: Path, seconds: float, runs: int) -> list[str]:
    """What went wrong while two sweeps share some runs and reports are written of what is there; prints what was."""
    make_synthetic("tiny", folder / "tiny.h5", samples=40)
    (folder / "base.yaml").write_text(EXPERIMENT)
    (folder / "s.yaml").write_text(f"name: s\nexperiments: [base.yaml]\ngrid: {{train.seed: {list(range(runs))}}}\n")
    os.chdir(folder)
    points, swept = points_of(load_sweep("s.yaml"), Path()), SweepFolder(Path("runs") / "s")
    start = time.monotonic()
    sweeps = [_command("sweep", "s.yaml") for _ in range(2)]
    wrong, reports, early = [], 0, 0
    while any(sweep.poll() is None for sweep in sweeps) and time.monotonic() - start < 10 * seconds:
        reporting = _command("report", "runs/s", "--out", "report", "--overwrite")
        _, said = reporting.communicate()
        if reporting.returncode == 0:
            reports += 1
        elif NO_RUN_YET in said or "no folder at" in said:
            early += 1
        else:
            wrong.append(f"report: status {reporting.returncode}: {said[-500:]}")
    for number, sweep in enumerate(sweeps):
        if sweep.poll() is None:
            wrong.append(f"sweep {number} has not ended")
            sweep.kill()
        elif sweep.returncode:
            wrong.append(f"sweep {number}: status {sweep.returncode}: {sweep.communicate()[1][-500:]}")
    begun = [(swept.run(point.name) / "log.txt").read_text().count("epoch 1:") for point in points]
    wrong += [f"a run was begun {count} times" for count in begun if count != 1]
    workers = len({swept.holder(point.name)["pid"] for point in points})
    took = time.monotonic() - start
    print(
        f"{runs} runs by {workers} workers of two sweeps in {took:.0f} s; {reports} reports, {early} too early for one"
    )
    return wrong


def _command(*arguments: str) -> subprocess.Popen[str]:
    """An `aqa` command that is running."""
    command = [sys.executable, "-m", "aqa.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--contention", type=float, metavar="SECONDS", help="two sweeps and reports instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        if arguments.contention is not None:
            wrong = contention(Path(name), arguments.contention, max(2, round(arguments.contention / 2)))
            print("\n".join(wrong) or "every run once, no report failed, all ended")
            os.chdir("/")
            sys.exit(1 if wrong else 0)
        torch.set_num_threads(1)
        after = soak(Path(name), arguments.runs)
    growth = slopes(after)
    print(table(after))
    print(
        f"growth a run: {growth.memory:.1f} KiB, {growth.files:g} files, {growth.threads:g} threads: "
        + ("flat" if is_flat(growth) else "it leaks")
        + f" (bound {KIB_A_RUN:g} KiB, 0, 0)"
    )
    sys.exit(0 if is_flat(growth) else 1)


if __name__ == "__main__":
    main()
