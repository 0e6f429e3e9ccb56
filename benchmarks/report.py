"""How long a report of 1,000 runs takes, beside how long reading their files takes.

    python -m benchmarks.report

Makes run folders as `aqa run` leaves them, 13 targets (of the sizes of Fis-V, FS1000 and RG) x 11 models x 7 seeds, of
made-up predictions; then times `aqa report` on them, and plain reading of the same files by pandas, json and yaml.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from aqa.config.dialect import FastLoader, parse
from aqa.config.load import load_experiment
from aqa.evaluation.metrics import summarize
from aqa.modalities import subsets
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.predictions import save_predictions
from aqa.system.files import plain

TARGETS = {
    **{("fisv", t): 100 for t in ("TES", "PCS")},
    **{("fs1000", t): 247 for t in ("TES", "PCS", "SS", "TR", "PE", "CO", "IN")},
    **{("rg", t): 50 for t in ("Ball", "Clubs", "Hoop", "Ribbon")},
}
MODALITIES = ("visual", "audio", "flow")
LIMIT = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=11)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        for (data_set, target), n in TARGETS.items():
            for model in range(arguments.models):
                for seed in range(arguments.seeds):
                    make_run(runs / f"{data_set}-{target}-{model}-{seed}", data_set, target, model, seed, n)
        count = len(list(runs.iterdir()))
        print(f"{count} runs, {sum(f.stat().st_size for f in runs.rglob('*.*')) / 2**20:.0f} MiB")
        reading, reporting = [], []
        for repeat in range(arguments.repeats):
            start = time.perf_counter()
            read(runs)
            reading.append(time.perf_counter() - start)
            start = time.perf_counter()
            out = str(Path(folder) / f"report{repeat}")
            subprocess.run([sys.executable, "-m", "aqa.cli", "report", str(runs), "--out", out], check=True)
            reporting.append(time.perf_counter() - start)
    for name, seconds in {"plain reading": reading, "aqa report": reporting}.items():
        print(f"{name}: median {np.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}, n={len(seconds)})")
    ratios = np.array(reporting) / np.array(reading)
    print(f"ratio: median {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    print(f"limit {LIMIT:.0f} s: {'met' if np.median(reporting) < LIMIT else 'MISSED'}")


def make_run(path: Path, data_set: str, target: str, model: int, seed: int, n: int) -> None:
    """A run's folder without its checkpoint and figures, which a report does not read."""
    config = load_experiment(
        {
            "name": "{target}-{seed}",
            "data": {"store": f"{data_set}.h5", "target": target},
            "model": {"name": "mcmoe", "hidden_dim": 32 + model},
            "train": {"seed": seed},
        }
    )
    folder = RunFolder.start(path, config.resolved(), overwrite=False)
    rows = np.arange(n)
    truth = np.random.default_rng([n, len(target)]).uniform(0, 40, n)
    rng = np.random.default_rng([n, model, seed])
    names = subsets(MODALITIES)
    predictions = {name: truth + (20 + 3 * model / sum(s)) * rng.normal(size=n) for name, s in names.items()}
    found = summarize(predictions, truth, list(names)[1:], 0, 40, resamples=100)
    about = {"data_set": data_set, "target": target, "model": "mcmoe", "seed": seed, "modalities": MODALITIES}
    selection = {"split": "valid", "metric": "srcc", "pattern": "complete", "epoch": 3, "value": 0.5, "epochs": 9}
    router = {name: rng.dirichlet([5, 5, 5], size=3).tolist() for name in names}
    save_predictions(path / PREDICTIONS, [f"{data_set} {target} {i}" for i in rows], rows, truth, target, predictions)
    folder.finish(plain({**found, **about, "selection": selection, "router_weights": router}))


def read(runs: Path) -> None:
    """Every file that a report is made of."""
    for folder in runs.iterdir():
        pd.read_csv(folder / PREDICTIONS)
        json.loads((folder / "metrics.json").read_text())
        parse((folder / "config.yaml").read_text(), loader=FastLoader)


if __name__ == "__main__":
    main()
