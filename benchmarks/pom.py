"""MCMoE against ridge regression on POM: real ratings, faces really missing. Makes the tables of docs/pom.md.

    aqa prepare pom --source FOLDER --out data/pom.h5
    python benchmarks/pom.py --jobs 2

Runs experiments/pom.yaml for every target and five seeds, each in its own folder; a run that is there is not run
again. Intervals are percentile bootstraps over test videos, the same draws for every model, target and seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from aqa import FeatureStore, run
from aqa.modalities import subsets
from aqa.reporting.tables import align

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "pom.yaml"
DRAWS = 1000
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("data/pom.h5"))
    parser.add_argument("--runs", type=Path, default=Path("runs/pom-table"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()

    with FeatureStore(arguments.store) as store:
        targets, patterns = sorted(store.targets), subsets(store.modalities)
        test = store.split("test")
        truth = np.stack([store.target(t).values[test] for t in targets])  # (targets, n)
        available = np.stack([np.diff(store.offsets[m])[test] > 0 for m in store.modalities], axis=1)
        ridge = {name: ridge_scores(store, targets, subset) for name, subset in patterns.items()}
    tasks = [
        (str(arguments.store), t, seed, str(arguments.runs / f"{t}-{seed}"))
        for t in targets
        for seed in range(arguments.seeds)
    ]
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        predictions = pd.concat(tqdm(pool.map(train, *zip(*tasks, strict=True)), total=len(tasks)))

    for chosen in (["persuasion"], targets):
        which = [targets.index(t) for t in chosen]
        rows = [["pattern", "n", "MCMoE", "over seeds", "ridge", "MCMoE - ridge"]]
        for name, subset in patterns.items():
            scored = available[:, list(subset)].any(axis=1)
            mcmoe = np.stack([scores_of(predictions, targets[i], name, arguments.seeds) for i in which])
            rows.append([name, str(scored.sum()), *compared(mcmoe, ridge[name][which], truth[which], scored)])
        print(f"\n{chosen[0] if len(chosen) == 1 else f'mean of {len(chosen)} targets'}, {arguments.seeds} seeds")
        print("\n".join(align(rows)))


def train(store: str, target: str, seed: int, output: str) -> pd.DataFrame:
    """One run; its predictions.csv with the seed as a column."""
    overrides = [f"data.store={store}", f"data.target={target}", f"train.seed={seed}", f"output={output}"]
    found = run(EXPERIMENT, [*overrides, "train.threads=1"])
    return pd.read_csv(found.folder / "predictions.csv").assign(seed=seed)


def ridge_scores(store: FeatureStore, targets: list[str], subset: tuple[bool, ...]) -> Floats:
    """Ridge regression on each channel's mean and standard deviation, zeros where a stream is absent: (targets, n)."""
    features = []
    for modality, taken in zip(store.modalities, subset, strict=True):
        if taken:
            clips = [store.read_sample(modality, row) for row in range(len(store))]
            absent = np.zeros(2 * store.widths[modality])
            features.append(np.stack([np.r_[c.mean(0), c.std(0)] if len(c) else absent for c in clips]))
    x = np.concatenate(features, axis=1)
    fitted = []
    for target in targets:
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 21)))
        model.fit(x[store.split("train")], store.target(target).values[store.split("train")])
        fitted.append(model.predict(x[store.split("test")]))
    return np.stack(fitted)


def scores_of(predictions: pd.DataFrame, target: str, pattern: str, seeds: int) -> Floats:
    """(seeds, n), NaN for videos without a modality of the pattern."""
    found = predictions[(predictions["target"] == target) & (predictions["pattern"] == pattern)]
    return np.stack([found.loc[found["seed"] == seed, "score"].to_numpy() for seed in range(seeds)])


def compared(mcmoe: Floats, ridge: Floats, truth: Floats, scored: NDArray[np.bool_]) -> list[str]:
    """Cells of the table. mcmoe: (targets, seeds, n); ridge, truth: (targets, n); scored: (n,)."""
    mcmoe, ridge, truth = mcmoe[..., scored], ridge[..., scored], truth[..., scored]
    generator = np.random.default_rng(0)
    draws = [np.arange(truth.shape[1]), *(generator.integers(0, truth.shape[1], truth.shape[1]) for _ in range(DRAWS))]
    by_seed = np.stack([mean_srcc(mcmoe[..., d], truth[:, None, d]) for d in draws])  # (1 + DRAWS, seeds)
    ours = np.tanh(np.arctanh(by_seed).mean(axis=1))
    theirs = np.stack([mean_srcc(ridge[:, d], truth[:, d]) for d in draws])
    deviation = by_seed[0].std(ddof=1) if by_seed.shape[1] > 1 else np.nan
    return [with_interval(ours), f"sd {deviation:.3f}", with_interval(theirs), with_interval(ours - theirs)]


def mean_srcc(prediction: Floats, truth: Floats) -> Floats:
    """Fisher-z mean over the first axis (targets) of SRCC over the last (videos)."""
    x, y = (rankdata(v, axis=-1) for v in (prediction, truth))
    x, y = (v - v.mean(axis=-1, keepdims=True) for v in (x, y))
    srcc = (x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.tanh(np.arctanh(srcc).mean(axis=0))


def with_interval(values: Floats) -> str:
    """The estimate, first, with the percentile interval of the draws, the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
