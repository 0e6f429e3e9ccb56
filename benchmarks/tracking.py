"""What Weights & Biases costs a run: untracked, offline, and online with a server that misbehaves.

    python -m benchmarks.tracking                            every way three times
    python -m benchmarks.tracking --ways "lost, hangs"       one of them, beside the untracked run

Runs experiments/quickstart.yaml for some epochs in each way in turn, and prints seconds per run, the ratio to the
untracked run of the same turn, what was said of the tracking, and whether history, metrics, predictions and checkpoint
are those of the untracked run to the byte. A server that is lost has taken the run and misbehaves two seconds later. No
server outside this machine is asked; the address of the black hole is one that the internet leaves unused (RFC 5737).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aqa import run
from stress.wandb_server import GOOD, HANGS, Server

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
KEY = "0" * 40  # of the right form; nobody's
COMPARED = ("history.csv", "metrics.json", "predictions.csv", "checkpoint.pt")
BEFORE_IT_IS_LOST = 2.0  # seconds that a server which took the run behaves

# mode of tracking; the server's address, or its mood from the start or once it has taken the run
WAYS: dict[str, tuple[str, str, str | int]] = {
    "offline": ("offline", "", ""),
    "refused": ("online", "address", "http://127.0.0.1:9"),
    "black hole": ("online", "address", "http://192.0.2.1"),
    "no answer": ("online", "silent", ""),
    "HTTP 401": ("online", "always", 401),
    "HTTP 500": ("online", "always", 500),
    "lost, hangs": ("online", "later", HANGS),
    "lost, HTTP 500": ("online", "later", 500),
    "lost, HTTP 401": ("online", "later", 401),
    "good": ("online", "later", GOOD),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        threads = f"train.threads={arguments.threads}"
        settings = [f"data.store={folder / 'tiny.h5'}", f"train.epochs={arguments.epochs}", threads]
        run(EXPERIMENT, [*settings, "train.epochs=1", f"output={folder / 'warm'}"])  # makes the store
        found: dict[str, list[float]] = {way: [] for way in ["disabled", *arguments.ways]}
        said: dict[str, set[str]] = {way: set() for way in found}
        for repeat in range(arguments.repeats):
            plain = folder / f"disabled-{repeat}"
            for way in found:
                output = folder / f"{way}-{repeat}".replace(" ", "").replace(",", "-")
                with environment(way) as variables:
                    overrides = [
                        *settings,
                        f"tracking.wandb={WAYS[way][0] if way in WAYS else way}",
                        f"output={output}",
                    ]
                    run_took, words = seconds(overrides, variables, folder)
                found[way].append(run_took)
                same = all((output / name).read_bytes() == (plain / name).read_bytes() for name in COMPARED)
                said[way] |= {line.replace(str(output), "RUN") for line in words} | (set() if same else {"DIFFERS"})
    baseline = np.array(found["disabled"])
    for way, values in found.items():
        took, more, ratio = np.array(values), np.array(values) - baseline, np.array(values) / baseline
        print(
            f"{way:15s} median {np.median(took):5.1f} s ({took.min():.1f} to {took.max():.1f}), "
            f"{np.median(more):+5.1f} s, ratio {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f})"
        )
        for line in sorted(said[way]):
            print(f"{'':15s} {line}")


def seconds(overrides: list[str], variables: dict[str, str], folder: Path) -> tuple[float, list[str]]:
    """How long a run takes as a command, which must succeed; and what it says of the tracking."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "aqa.cli", "run", str(EXPERIMENT), *overrides],
        env={**clean, "HOME": str(folder), **variables},
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - start, [line for line in done.stderr.splitlines() if "wandb sync" in line]


@contextmanager
def environment(way: str) -> Iterator[dict[str, str]]:
    """The environment in which a run meets what a way is called by."""
    _, kind, what = WAYS.get(way, ("", "", ""))
    key = {"WANDB_API_KEY": KEY}
    if kind == "":
        yield {}
    elif kind == "address":
        yield {**key, "WANDB_BASE_URL": str(what)}
    elif kind == "silent":
        with silent_server() as address:
            yield {**key, "WANDB_BASE_URL": address}
    else:
        server = Server()
        if kind == "always":
            server.mood = what
        else:
            threading.Thread(target=_lose, args=(server, what), daemon=True).start()
        yield {**key, "WANDB_BASE_URL": server.address}
        server.closed.set()
        server.shutdown()
        server.server_close()


def _lose(server: Server, mood: str | int) -> None:
    """Let a server change its mood some time after it has taken a run."""
    while not server.run and not server.closed.wait(0.05):
        pass
    server.closed.wait(BEFORE_IT_IS_LOST)
    server.mood = mood


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
