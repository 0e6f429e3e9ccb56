"""MCMoE against ridge regression on POM: real ratings, faces really missing. Makes the tables of docs/pom.md.

    aqa prepare pom --source FOLDER --out data/pom.h5
    aqa sweep experiments/sweeps/pom.yaml --jobs 2
    python -m benchmarks.pom

Intervals are percentile bootstraps over test videos, the same draws for both models, every target and every seed.
"""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aqa import FeatureStore
from aqa.evaluation.bootstrap import Floats, ResampledTarget
from aqa.evaluation.comparison import Estimate, draw_videos, estimate, mean
from aqa.modalities import subsets
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.sections import ReportSection, mean_section, target_section
from aqa.runs.table import align


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("data/pom.h5"))
    parser.add_argument("--runs", type=Path, default=Path("runs/pom"))
    arguments = parser.parse_args()

    by_place, _ = runs_by_model(find_runs([arguments.runs])[0])
    ids = {place.target: read_scores(found[0].first).ids for place, found in by_place.items()}
    counts = draw_videos(ids)
    sections = {p.target: target_section(p, found, counts[p.target]) for p, found in by_place.items()}
    with FeatureStore(arguments.store) as store:
        ridge = {target: ridge_estimates(store, section, counts[target]) for target, section in sections.items()}
    show(sections["persuasion"], ridge["persuasion"])
    whole = mean_section(list(sections.values()))
    show(whole, {name: mean(found[name] for found in ridge.values()) for name in whole.patterns})


def show(section: ReportSection, ridge: dict[str, Estimate]) -> None:
    """A table of one target, or of the mean over all."""
    (mcmoe,) = section.rows
    rows = [["pattern", "n", "MCMoE", "over seeds", "ridge", "MCMoE - ridge"]]
    for name in section.patterns:
        ours, theirs = mcmoe.srcc[name], ridge[name]
        shown = [with_interval(found) for found in (ours, theirs, ours - theirs)]
        rows.append([name, str(mcmoe.n[name]), shown[0], f"sd {mcmoe.deviation(name):.3f}", *shown[1:]])
    print(f"\n{section.title}, {len(mcmoe.seeds)} seeds")
    print("\n".join(align(rows)))


def ridge_estimates(store: FeatureStore, section: ReportSection, counts: Floats) -> dict[str, Estimate]:
    """SRCC by pattern, on the videos that have a modality of it."""
    test = store.split("test")
    resampled = ResampledTarget(section.truth, counts)
    assert np.array_equal(store.target(section.target).values[test], section.truth)
    found = {}
    for name, subset in subsets(store.modalities).items():
        scored = store.available[test][:, list(subset)].any(axis=1)
        found[name] = estimate(np.where(scored, ridge_scores(store, section.target, subset), np.nan), resampled)
    return found


def ridge_scores(store: FeatureStore, target: str, subset: tuple[bool, ...]) -> Floats:
    """Ridge regression on each channel's mean and standard deviation, zeros where a stream is absent: (n,)."""
    x = np.concatenate([statistics(store, m) for m in itertools.compress(store.modalities, subset)], axis=1)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 5, 21)))
    model.fit(x[store.split("train")], store.target(target).values[store.split("train")])
    return model.predict(x[store.split("test")])


@lru_cache
def statistics(store: FeatureStore, modality: str) -> Floats:
    """Mean and standard deviation of each channel of each video (N, 2D)."""
    clips = [store.read_sample(modality, row) for row in range(len(store))]
    absent = np.zeros(2 * store.widths[modality])
    return np.stack([np.r_[c.mean(0), c.std(0)] if len(c) else absent for c in clips])


def with_interval(found: Estimate) -> str:
    """An estimate with its interval."""
    return f"{found.value:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}]"


if __name__ == "__main__":
    main()
