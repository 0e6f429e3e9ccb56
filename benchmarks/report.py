"""How long a report of 1,000 runs takes, beside how long reading their files takes.

    python -m benchmarks.report

Makes run folders as `aqa run` leaves them, 13 targets (of the sizes of Fis-V, FS1000 and RG) x 11 models x 7 seeds, of
made-up predictions; then times `aqa report` on them, and plain reading of the same files by pandas, json and yaml.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
LIMIT = 8.0  # seconds


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
        reports = {"aqa report": [], "aqa report --no-pdf": ["--no-pdf"]}
        spent = {name: [] for name in ("plain reading", *reports)}  # (seconds, processor seconds) of each repeat
        for repeat in range(arguments.repeats):
            begun = time.perf_counter(), processor_seconds()
            read(runs)
            spent["plain reading"].append(since(*begun))
            for place, (name, more) in enumerate(reports.items()):
                out = str(Path(folder) / f"report{repeat}-{place}")
                command = [sys.executable, "-m", "aqa.cli", "report", str(runs), "--out", out, *more]
                begun = time.perf_counter(), processor_seconds()
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                spent[name].append(since(*begun))
    for name, pairs in spent.items():
        print(f"{name}: {spread([pair[0] for pair in pairs])} s, processor {spread([pair[1] for pair in pairs])} s")
    reading = np.array(spent["plain reading"])
    for report in reports:
        reporting = np.array(spent[report])
        for name, ratios in zip(("by the clock", "processor"), (reporting / reading).T, strict=True):
            print(f"{report} / plain reading, {name}: {spread(ratios)}")
        print(f"{report}, limit {LIMIT:.0f} s: {'met' if np.median(reporting[:, 0]) < LIMIT else 'MISSED'}")


def processor_seconds() -> float:
    """Of this process and all that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def since(clock: float, processor: float) -> tuple[float, float]:
    return time.perf_counter() - clock, processor_seconds() - processor


def spread(values: Sequence[float]) -> str:
    return f"median {np.median(values):.1f} ({min(values):.1f} to {max(values):.1f}, n={len(values)})"


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
