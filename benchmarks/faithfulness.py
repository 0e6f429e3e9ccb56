"""Whether explanations of clips are faithful: deletion curves, and the clips that decide where they are known.

    python -m benchmarks.faithfulness                               # preset moments, TES, three models
    python -m benchmarks.faithfulness --preset moments_tiny --models mcmoe --epochs 30
    python -m benchmarks.faithfulness --store data/pom.h5           # POM, persuasion
    python -m benchmarks.faithfulness --runs runs/a runs/b          # finished runs

Of each test video the clips of all streams together are ordered by an explanation. A share of them is deleted (each
clip takes the mean of its stream's other clips): once the clips that raise the score most, once those that lower it
most. "named" is how far the score moves in the direction that the explanation says, the mean of both. "random" is how
far it moves in either direction when as many random clips are deleted. Differences are paired: 95 % bootstrap intervals
over videos, in the target's units. Where the store says which clips decide, "found" is the probability that a clip that
decides is more important (in size) than one of the same stream that does not: 0.5 is chance.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

import aqa
from aqa.evaluation.bootstrap import RESAMPLES, Floats, interval, resamples
from aqa.evaluation.scorer import Scorer
from aqa.explaining.clips import cut, occlusion
from aqa.explaining.deletion import deletion_curve
from aqa.explaining.gradients import integrated_gradients
from aqa.explaining.tables import batches
from aqa.features.batches import Batch
from aqa.missing.hiding import Nothing
from aqa.runs.checkpoint import load_scorer, read_checkpoint
from aqa.runs.folder import RunFolder
from aqa.runs.prepare import labelled
from aqa.runs.table import align

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
DEEP = {"hidden_dim": 64, "n_encoder": 1, "n_decoder": 1, "dropout": 0.1, "mask_padding": True}
MODELS: dict[str, dict[str, Any]] = {"gaussian_process": {}, "ridge": {}, "mcmoe": DEEP}
HEADER = ["explanation", "deleted", "named", "random", "named - random", "95 % interval"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="moments", help="of synthetic performances")
    parser.add_argument("--store", type=Path, help="a feature store, in place of synthetic data")
    parser.add_argument("--target", help="by default TES or score, of a store persuasion")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, default=25, help="of the deep models")
    parser.add_argument("--runs", nargs="+", type=Path, help="finished runs, in place of new ones")
    parser.add_argument("--videos", type=int, help="at most so many test videos")
    parser.add_argument("--window", type=int, default=1, help="clips that are replaced together in occlusion")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aqa-faithful-") as folder:
        for run in given.runs or made_runs(given, Path(folder)):
            report(RunFolder.existing(run), given.videos, given.window)


def made_runs(given: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """Runs of the models that were asked for."""
    store, target = given.store, given.target or "persuasion"
    if store is None:
        store = folder / f"{given.preset}.h5"
        aqa.prepare("synthetic", store, preset=given.preset)
        with aqa.FeatureStore(store) as opened:
            target = given.target or next(iter(opened.targets))
    for name in given.models:
        missing = {"random_subset": {"per": "sample", "include_complete": True}} if MODELS[name] else "none"
        yield aqa.run(
            {
                "name": f"faithful-{name}",
                "data": {"store": str(Path(store).resolve()), "target": target, "standardize": True},
                "model": {"name": name, **MODELS[name]},
                "missing": {"train": missing},
                "train": {
                    "epochs": given.epochs,
                    "batch_size": 32,
                    "learning_rate": 5e-4 if given.store is None else 2e-3,
                    "weight_decay": 1e-2,
                    "device": "cpu",
                },
                "figures": False,
                "output": str(folder / name),
            }
        ).folder


def report(folder: RunFolder, most: int | None, window: int) -> None:
    """The tables of one run."""
    checkpoint = read_checkpoint(folder)
    with aqa.FeatureStore(folder.store) as store:
        scorer = load_scorer(checkpoint, store, torch.device("cpu"))
        target = store.target(checkpoint["target"]["name"])
        rows = labelled(store.split("test"), target)[:most]
        marks = {m: store.moments(m) for m in scorer.features.modalities}
    falls: dict[str, list[Floats]] = {}
    found: dict[str, list[Floats]] = {}
    for batch in batches(scorer, rows, Nothing(scorer.features.modalities)):
        scale = scorer.high - scorer.low
        random = {m: torch.rand(x.shape[:2], generator=seeded(batch)) for m, x in batch.features.items()}
        falls.setdefault("random", []).append(scale * curves(scorer, batch, random).numpy())
        for name, importance in importances(scorer, batch, window).items():
            falls.setdefault(name, []).append(scale * directed(scorer, batch, importance).numpy())
            if all(of is not None for of in marks.values()):
                found.setdefault(name, []).append(chance_of_finding(scorer, batch, importance, marks))
    by_name = {name: np.concatenate(parts, axis=1) for name, parts in falls.items()}
    count = by_name["random"].shape[1]
    draws = np.concatenate(list(resamples(count, RESAMPLES, 0)), axis=1) / count
    lines = []
    for name, moved in by_name.items():
        for share, named, by_chance in zip(SHARES, moved, np.abs(by_name["random"]), strict=True):
            if name != "random":
                ends = interval((named - by_chance) @ draws)
                numbers = [named.mean(), by_chance.mean(), (named - by_chance).mean()]
                shown = [f"{value:.3f}" for value in numbers]
                lines.append([name, f"{share:.0%}", *shown, f"[{ends.low:.3f}, {ends.high:.3f}]"])
    model, whose = checkpoint["model"], checkpoint["target"]["name"]
    spread = float(np.std(scorer.predict(rows, {"all": Nothing(scorer.features.modalities)})["all"]))
    print(f"\n{model} on {whose}, {count} test videos; standard deviation of their scores {spread:.3f}")
    print("\n".join(align([HEADER, *lines])))
    for name, parts in found.items():
        each = np.concatenate(parts, axis=1)
        for m, values in zip(scorer.features.modalities, each, strict=True):
            ends = interval(values @ draws)
            print(f"found by {name}, {m}: {values.mean():.3f} [{ends.low:.3f}, {ends.high:.3f}]", flush=True)


def seeded(batch: Batch) -> torch.Generator:
    return torch.Generator().manual_seed(int(batch.rows[0]))


def importances(scorer: Scorer, batch: Batch, window: int) -> dict[str, dict[str, Tensor]]:
    """What clips add by each explanation: modality -> (B, T)."""
    visible, modalities = batch.visible[0], scorer.features.modalities
    pairs = [(row, m) for row, seen in enumerate(visible.tolist()) for m in range(len(modalities)) if seen[m]]
    windows = [one for row, m in pairs for one in cut(row, m, int(batch.lengths[modalities[m]][row]), window)]
    lost = occlusion(scorer.model, batch.features, visible, batch.lengths, windows, 64)
    by_clip = {m: torch.zeros(x.shape[:2], dtype=torch.double) for m, x in batch.features.items()}
    for one, value in zip(windows, lost, strict=True):
        by_clip[modalities[one.stream]][one.row, one.start : one.stop] = value
    found = {"occlusion": by_clip}
    if scorer.model.differentiable:
        found["gradients"] = integrated_gradients(scorer.model, batch.features, visible, batch.lengths)
    return found


def curves(scorer: Scorer, batch: Batch, importance: Mapping[str, Tensor]) -> Tensor:
    return deletion_curve(scorer.model, batch.features, batch.visible[0], batch.lengths, importance, SHARES)


def directed(scorer: Scorer, batch: Batch, importance: Mapping[str, Tensor]) -> Tensor:
    """How far the score moves in the direction named, (shares, B): mean of the clips that raise and that lower it."""
    least = {m: -values for m, values in importance.items()}
    return (curves(scorer, batch, importance) - curves(scorer, batch, least)) / 2


def chance_of_finding(
    scorer: Scorer, batch: Batch, importance: Mapping[str, Tensor], marks: Mapping[str, Any]
) -> Floats:
    """By stream and video, how often a clip that decides is more important in size than one that does not: (M, B)."""
    place = scorer.features.alignment.spans(batch.rows.numpy(), batch.visible[0].numpy(), scorer.clips)
    found = np.full((len(importance), len(batch.rows)), np.nan)
    for i, (m, values) in enumerate(importance.items()):
        for at, row in enumerate(batch.rows.tolist()):
            kept, first = int(place.kept[at, i]), int(place.first[at, i])
            decides = marks[m][row][first : first + kept]
            ranks = rankdata(values[at, :kept].abs().numpy())
            n = int(decides.sum())
            found[i, at] = (ranks[decides].sum() - n * (n + 1) / 2) / (n * (kept - n))
    return found


if __name__ == "__main__":
    main()
