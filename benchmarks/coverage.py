"""How often intervals of scores hold the label: on synthetic data of 5,000 test videos, and on POM.

    python -m benchmarks.coverage                                     # synthetic, five models
    python -m benchmarks.coverage --pom data/pom.h5 --epochs 15       # POM, persuasion, the same models

Synthetic: the process of the preset `tiny` with 600 videos to learn from, 10,000 to calibrate on and 5,000 to test.
Each line is a pattern; a cell is the coverage in percent at the level of 90 %. "alike" calibrates on videos masked to
the same pattern, as `aqa run` does; "complete" on complete videos only, for comparison; "left out" on the training
videos, each left out in closed form, where the model has that.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import aqa
from aqa.evaluation.intervals import Bounds, Residuals, binomial, interval_summary, within
from aqa.modalities import find_subset
from aqa.runs.calibration import Calibration, calibration_in
from aqa.runs.checkpoint import read_checkpoint
from aqa.runs.folder import PREDICTIONS, RunFolder
from aqa.runs.predictions import read_predictions
from aqa.runs.table import align
from aqa.store.synthetic import PRESETS, make_synthetic

SPLITS = {"train": 600, "valid": 10_000, "test": 5_000}
DEEP = {"hidden_dim": 32, "n_encoder": 1, "n_decoder": 1, "dropout": 0.1}
MODELS: dict[str, dict[str, Any]] = {
    "ridge": {},
    "gaussian_process": {},
    "mcmoe": DEEP,
    "late_fusion": DEEP,
    "grade_decoder": DEEP,
}
LEVEL = 0.9
HEADER = ["pattern", "n", "alike", "95 %", "width", "complete", "left out"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pom", type=Path, help="the store of POM, in place of synthetic data")
    parser.add_argument("--targets", nargs="+", default=["persuasion"], help="of POM; of several the mean and spread")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=4, help="of the deep models")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic data and of the runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqa-coverage-") as folder:
        store, targets = given.pom, given.targets
        if store is None:
            store, targets = Path(folder) / "coverage.h5", ["score"]
            with patch.dict(PRESETS, {"coverage": replace(PRESETS["tiny"], splits=SPLITS)}):
                make_synthetic("coverage", store, seed=given.seed)
        for name in given.models:
            by_target = []
            for target in targets:
                output = Path(folder) / name / target
                result = aqa.run(experiment(name, store, target, given.epochs, given.seed, output))
                by_target.append(rows_of(result))
            print(f"\n{name} on {', '.join(targets)}: coverage in percent of intervals at {LEVEL:.0%}")
            rows = by_target[0] if len(targets) == 1 else over_targets(by_target)
            print("\n".join(align([HEADER, *rows])), flush=True)


def over_targets(by_target: Sequence[list[list[str]]]) -> list[list[str]]:
    """The mean of each cell over targets, and the standard deviation of the coverage in the place of its interval."""
    found = []
    for rows in zip(*by_target, strict=True):
        numbers = {at: [float(row[at]) for row in rows if row[at]] for at in (2, 4, 5, 6)}
        means = {at: f"{np.mean(values):.1f}" if values else "" for at, values in numbers.items()}
        found.append([*rows[0][:2], means[2], f"sd {np.std(numbers[2], ddof=1):.1f}", means[4], means[5], means[6]])
    return found


def experiment(name: str, store: Path, target: str, epochs: int, seed: int, output: Path) -> dict[str, Any]:
    return {
        "name": f"coverage-{name}",
        "data": {"store": str(store.resolve()), "target": target, "standardize": True},
        "model": {"name": name, **MODELS[name]},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}, "test": "all_subsets"},
        "train": {
            "epochs": epochs,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "seed": seed,
            "device": "cpu",
            "threads": 1,
        },
        "evaluate": {"level": LEVEL},
        "figures": False,
        "output": str(output),
    }


def rows_of(result: aqa.Result) -> list[list[str]]:
    """A line of the table for each pattern."""
    folder = RunFolder.existing(result.folder)
    checkpoint, scores = read_checkpoint(folder), read_predictions(folder.path / PREDICTIONS)
    calibration, modalities = calibration_in(checkpoint), tuple(checkpoint["widths"])
    complete = calibration.of("", (True,) * len(modalities), LEVEL)
    rows = []
    for pattern, predicted in scores.by_pattern.items():
        subset = find_subset(modalities, pattern)
        assert subset is not None
        own = result.metrics["patterns"][pattern]["interval"]
        ends = "-".join(f"{100 * end:.1f}" for end in binomial(own["covered"], own["n"]))
        others = [
            coverage(predicted, scores.truth, r, calibration) for r in (complete, calibration.left_out.get(subset))
        ]
        rows.append([pattern, str(own["n"]), f"{100 * own['coverage']:.1f}", ends, f"{own['width']:.3g}", *others])
    return rows


def coverage(scores: Any, truth: Any, residuals: Residuals | None, calibration: Calibration) -> str:
    """The coverage of intervals of one half width for all scores, from some residuals; empty where there are none."""
    if residuals is None:
        return ""
    bounds: Bounds = within(residuals.ends(np.asarray(scores), LEVEL), *calibration.range)
    found: Mapping[str, Any] = interval_summary(bounds, truth)
    return f"{100 * found['coverage']:.1f}"


if __name__ == "__main__":
    main()
