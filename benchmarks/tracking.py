"""What Weights & Biases costs a run: untracked, offline, and online with a server that refuses or never answers.

    python benchmarks/tracking.py

Runs experiments/quickstart.yaml for some epochs in each way by turns, and prints seconds a run and the ratio to the
untracked run of the same turn. No server outside this machine is asked.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aqa import run

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
KEY = "0" * 40  # of the right form; nobody's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, silent_server() as silent:
        folder = Path(name)
        settings = [f"data.store={folder / 'tiny.h5'}", f"train.epochs={arguments.epochs}", "train.threads=2"]
        run(EXPERIMENT, [*settings, "train.epochs=1", f"output={folder / 'warm'}"])  # makes the store
        ways = {
            "disabled": ("disabled", {}),
            "offline": ("offline", {}),
            "online, refused": ("online", {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}),
            "online, no answer": ("online", {"WANDB_BASE_URL": silent, "WANDB_API_KEY": KEY}),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for repeat in range(arguments.repeats):
            for way, (mode, environment) in ways.items():
                output = folder / f"{way}-{repeat}".replace(" ", "")
                overrides = [*settings, f"tracking.wandb={mode}", f"output={output}"]
                found[way].append(seconds(overrides, environment, folder))
    plain = np.array(found["disabled"])
    for way, values in found.items():
        took, ratio = np.array(values), np.array(values) / plain
        print(
            f"{way:18s} median {np.median(took):5.1f} s ({took.min():.1f} to {took.max():.1f}), "
            f"{np.median(took - plain):+5.1f} s, ratio {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f})"
        )


def seconds(overrides: list[str], environment: dict[str, str], folder: Path) -> float:
    """How long a run takes as a command; it must succeed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "aqa.cli", "run", str(EXPERIMENT), *overrides],
        env={**clean, "HOME": str(folder), **environment},
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
