"""Settings for POM compared without its test split. Makes the table of settings in docs/pom.md.

    python -m benchmarks.pom_settings --store data/pom.h5 --only chosen "learning rate 4e-3"

Three folds of 150 of the 700 videos outside the test split are held out in turn; of the other 550, 100 select the
epoch. Nine targets are trained in each fold, 27 runs a setting. A run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aqa import FeatureStore, Modality, run, write_store
from aqa.evaluation.metrics import srcc
from aqa.modalities import subsets
from aqa.runs.table import align
from benchmarks.pom import ridge_scores

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "pom.yaml"
TARGETS = [
    "confidence",
    "voice_pleasant",
    "credibility",
    "expertise",
    "reserved",
    "relaxed",
    "nervous",
    "persuasion",
    "humorous",
]
FOLDS, HELD_OUT, SELECTING = 3, 150, 100
START = {"train.learning_rate": 5e-4, "train.weight_decay": 1e-4}  # where the search began
SETTINGS: dict[str, dict[str, Any]] = {
    "chosen": {},
    "learning rate 4e-3": {"train.learning_rate": 4e-3},
    "learning rate 1e-3": {"train.learning_rate": 1e-3},
    "learning rate 5e-4": {"train.learning_rate": 5e-4},
    "weight decay 1e-3": {"train.weight_decay": 1e-3},
    "weight decay 3e-2": {"train.weight_decay": 3e-2},
    "selected on average": {"select.pattern": "average"},
    "no auxiliary losses": {"model.alpha": 0.0, "model.reconstruction_weight": 0.0, "model.kl_weight": 0.0},
    "start": START,
    "start, width 32": {**START, "model.hidden_dim": 32},
    "start, subset a batch": {**START, "missing.train": "random_subset"},
    "start, weight decay 5e-2": {**START, "train.weight_decay": 5e-2},
    "start, weight decay 1e-2, nothing hidden": {**START, "train.weight_decay": 1e-2, "missing.train": "none"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("data/pom.h5"))
    parser.add_argument("--runs", type=Path, default=Path("runs/pom-settings"))
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET")
    arguments = parser.parse_args()

    arguments.runs.mkdir(parents=True, exist_ok=True)
    folds = [make_fold(arguments.store, arguments.runs / f"fold{fold}.h5", fold) for fold in range(FOLDS)]
    print_ridge(folds)
    tasks = [(s, fold, t) for s in arguments.only for fold in range(FOLDS) for t in arguments.targets]
    found: dict[str, list[tuple[float, float]]] = {}
    for setting, fold, target in tqdm(tasks):
        output = arguments.runs / f"{setting.replace(' ', '_').replace(',', '')}-{target}-{fold}"
        found.setdefault(setting, []).append(held_out(SETTINGS[setting], folds[fold], target, fold, output))
    rows = [["setting", "runs", "complete", "mean of six"]]
    for setting, pairs in found.items():
        rows.append([setting, str(len(pairs)), *(f"{mean:.3f}" for mean in np.mean(pairs, axis=0))])
    print("\n".join(align(rows)))


def make_fold(source: Path, out: Path, fold: int) -> Path:
    """A store whose test split is one fold of what is not in the test split of `source`."""
    if out.exists():
        return out
    with FeatureStore(source) as store:
        pool = np.concatenate([store.split("train"), store.split("valid")])
        order = np.random.default_rng(7).permutation(pool)
        held = np.sort(order[HELD_OUT * fold : HELD_OUT * (fold + 1)])
        write_store(
            out,
            name=store.name,
            source=f"{store.source}, fold {fold}",
            ids=store.ids,
            modalities={m: Modality(store.widths[m], np.diff(store.offsets[m])) for m in store.modalities},
            targets=store.targets,
            splits={"train": np.setdiff1d(pool, held), "test": held},
            read=store.read_sample,
        )
    return out


def held_out(setting: dict[str, Any], store: Path, target: str, fold: int, output: Path) -> tuple[float, float]:
    """SRCC on the fold that is held out: complete, and the mean of the incomplete patterns."""
    share = SELECTING / (700 - HELD_OUT)
    given = {"data.store": store, "data.target": target, "data.validation": share, "train.seed": fold, **setting}
    metrics = run(EXPERIMENT, [*(f"{k}={v}" for k, v in given.items()), "train.threads=1", f"output={output}"]).metrics
    return metrics["patterns"]["VAF"]["srcc"], metrics["average_incomplete"]["srcc"]


def print_ridge(folds: list[Path]) -> None:
    """Ridge regression on the same folds, means over folds and targets."""
    by_pattern: dict[str, list[float]] = {}
    for path in folds:
        with FeatureStore(path) as store:
            for (name, subset), target in itertools.product(subsets(store.modalities).items(), TARGETS):
                truth = store.target(target).values[store.split("test")]
                by_pattern.setdefault(name, []).append(srcc(ridge_scores(store, target, subset), truth))
    print("ridge regression:", ", ".join(f"{name} {np.mean(found):.3f}" for name, found in by_pattern.items()))


if __name__ == "__main__":
    main()
