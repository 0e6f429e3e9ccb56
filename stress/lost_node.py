"""What a lost node costs a sweep on a Ray cluster: undisturbed, then with one of two nodes lost half-way.

    python -m stress.lost_node                 its processes are killed
    python -m stress.lost_node --how freeze    they are stopped, as a machine that is cut off looks

Both nodes are on this machine, with one CPU each; the cluster is new for each sweep. A frozen node wakes up once Ray
has given it up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import Point, load_sweep, points_of

RUNS = 8
EXPERIMENT = """
name: small
data: {{store: tiny.h5, target: score}}
model: {{name: mcmoe, hidden_dim: 8, n_encoder: 1, n_decoder: 1}}
train: {{epochs: {epochs}, batch_size: 16}}
"""
SWEEP = """
name: {name}
experiments: [base.yaml]
grid: {{train.seed: {seeds}}}
launcher: {{ray: {{address: "{address}"}}}}
"""
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=["kill", "freeze"], default="kill")
    parser.add_argument("--epochs", type=int, default=150)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lost") as name:
        os.chdir(name)
        make_synthetic("tiny", Path("tiny.h5"), samples=40)
        Path("base.yaml").write_text(EXPERIMENT.format(epochs=arguments.epochs))
        undisturbed = sweep("undisturbed", None)
        disturbed = sweep("disturbed", arguments.how)
    print(f"undisturbed {undisturbed:.0f} s, a node lost {disturbed:.0f} s, ratio {disturbed / undisturbed:.2f}")


def sweep(name: str, how: str | None) -> float:
    """Run the sweep, lose a node half-way through it if asked, and say what that did; returns its seconds."""
    with cluster() as (address, second):
        Path(f"{name}.yaml").write_text(SWEEP.format(name=name, seeds=list(range(RUNS)), address=address))
        points, folder = points_of(load_sweep(f"{name}.yaml"), Path()), SweepFolder(Path("runs") / name)
        command = [sys.executable, "-m", "aqa.cli", "sweep", f"{name}.yaml"]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if how is not None:
            lose(second, how, points, folder)
        assert process.wait() == 0
        seconds = time.perf_counter() - start
    logs = [(folder.run(p.name) / "log.txt").read_text() for p in points]
    epochs = sum(log.count("\nepoch ") + log.startswith("epoch ") for log in logs)
    expected = sum(len((folder.run(p.name) / "history.csv").read_text().splitlines()) - 1 for p in points)
    states = [folder.state(p.name) for p in points]
    begun = max(log.count("epoch 1:") for log in logs)
    print(f"{name}: {states.count('done')} of {RUNS} runs done, none begun more than {begun} time(s), ", end="")
    print(f"{epochs - expected} of {expected} epochs run again, {seconds:.0f} s")
    return seconds


def lose(node: int, how: str, points: list[Point], folder: SweepFolder) -> None:
    """Lose a node while it trains, once a quarter of the runs is done; say when Ray noticed."""
    while not (mine := training_on(node, points, folder)) or done(points, folder) < RUNS // 4:
        time.sleep(0.1)
    send(node, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    start = time.perf_counter()
    while "was lost" not in (folder.path / "ray.log").read_text():
        time.sleep(0.1)
    print(f"{how}: Ray noticed after {time.perf_counter() - start:.1f} s", flush=True)
    if how == "freeze":
        print(f"meanwhile {mine[0]} is {folder.state(mine[0])}: its claim is held")
        send(node, signal.SIGCONT)


def done(points: list[Point], folder: SweepFolder) -> int:
    return sum(folder.settled(point.name) == "done" for point in points)


def training_on(node: int, points: list[Point], folder: SweepFolder) -> list[str]:
    """Runs on a node that have trained for some epochs."""
    found = []
    for point in points:
        pid, log = folder.holder(point.name)["pid"], folder.run(point.name) / "log.txt"
        if pid in members(node) and not folder.settled(point.name) and log.is_file() and "epoch 9:" in log.read_text():
            found.append(point.name)
    return found


@contextlib.contextmanager
def cluster() -> Iterator[tuple[str, int]]:
    """The address of a cluster of two nodes, and the session of the second."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        sessions = []
        try:
            head = ["--head", "--port", address.partition(":")[2], "--include-dashboard=false", "--temp-dir", folder]
            sessions = [node(*head)]
            sessions.append(node("--address", address))
            yield address, sessions[1]
        finally:
            for session in sessions:
                send(session, signal.SIGKILL)


def node(*arguments: str) -> int:
    """Start a node of one CPU as a session of its own, whose number is returned."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus", "1", "--num-gpus", "0"]
    started = subprocess.Popen(
        [*command, "--node-ip-address", "127.0.0.1", *arguments],
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    assert started.wait() == 0
    return started.pid


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry)) == session:
                found.append(int(entry))
    return found


def send(session: int, what: signal.Signals) -> None:
    """A signal to every process of a session."""
    for pid in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


if __name__ == "__main__":
    main()
