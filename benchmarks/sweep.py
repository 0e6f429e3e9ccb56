"""What a sweep costs beside its runs: the same small runs by `aqa sweep` and by a plain loop, in seconds per run.

    python -m benchmarks.sweep

Both are measured as whole commands, so that starting Python and torch is in both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from aqa.store.synthetic import make_synthetic

LIMIT = 0.5  # seconds a run
EXPERIMENT = """
name: small
data: {store: tiny.h5, target: score}
model: {name: mcmoe, hidden_dim: 16, n_encoder: 1, n_decoder: 1}
train: {epochs: 2, batch_size: 32, threads: 1}
"""
LOOP = """
from aqa import run
for seed in range({runs}):
    run("base.yaml", [f"train.seed={{seed}}", f"output=plain{repeat}/{{seed}}"])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    plain, swept = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_synthetic("tiny", folder / "tiny.h5", samples=60)
        (folder / "base.yaml").write_text(EXPERIMENT)
        for repeat in range(arguments.repeats):
            seeds = list(range(arguments.runs))
            sweep = f"name: s{repeat}\nexperiments: [base.yaml]\ngrid: {{train.seed: {seeds}}}\n"
            (folder / "s.yaml").write_text(sweep)
            plain.append(seconds(["-c", LOOP.format(runs=arguments.runs, repeat=repeat)], folder))
            swept.append(seconds(["-m", "aqa.cli", "sweep", "s.yaml"], folder))
    over = (np.array(swept) - np.array(plain)) / arguments.runs
    print(f"plain loop: median {np.median(plain) / arguments.runs:.2f} s per run, {arguments.runs} runs")
    print(f"aqa sweep:  median {np.median(swept) / arguments.runs:.2f} s a run")
    ratio = np.array(swept) / np.array(plain)
    print(f"ratio: median {np.median(ratio):.3f} ({ratio.min():.3f} to {ratio.max():.3f}, n={len(ratio)})")
    print(f"overhead: median {np.median(over):.3f} s per run ({over.min():.3f} to {over.max():.3f}); limit {LIMIT} s")


def seconds(arguments: list[str], folder: Path) -> float:
    """How long a Python command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
