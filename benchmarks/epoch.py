"""What share of an epoch is data: batches made as training makes them, against the epoch's steps alone.

    python -m benchmarks.epoch                     the shapes of Fis-V, FS1000 and RG, 64 videos each

Three things are timed in turn: an epoch as training does it (`training_batches` into `train_epoch`); the same steps on
the same batches, made before; the batches alone, without steps. The share of data is what the epoch takes beyond its
steps, as a part of the epoch; it can come out below zero where it is less than the machine's unrest. The batches alone
stand beside copying as many bytes in memory.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from aqa.config.schema import TrainConfig
from aqa.features.batches import Batch, Features, training_batches
from aqa.missing import parse_pattern
from aqa.models import build
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic
from aqa.training.loop import train_epoch, training_step
from benchmarks.harness import Report, Work, by_turns, memory_copy, options, parsed, rates, ratios
from benchmarks.steps import shape_of


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", nargs="+", choices=["fisv", "fs1000", "rg"], default=["fisv", "fs1000", "rg"])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden-dim", type=int, default=256)
    arguments, device = parsed(parser)
    report = Report("epoch", arguments, device)
    for data in arguments.data:
        measure(data, arguments, device, report)
    report.write()


def measure(data: str, arguments: argparse.Namespace, device: torch.device, report: Report) -> None:
    features = synthetic_features(data, arguments.videos, device)
    clips = shape_of(data).clips
    rows = np.arange(arguments.videos)
    available = features.available[rows]
    pattern = parse_pattern("random_subset", features.modalities, "missing.train")
    target = torch.rand(arguments.videos, device=device)
    torch.manual_seed(0)
    model = build("mcmoe", widths=features.widths, hidden_dim=arguments.hidden_dim).to(device)
    step = training_step(model, TrainConfig())

    def batches() -> Iterator[Batch]:
        size = arguments.batch
        yield from training_batches(features, rows, available, pattern, clips=clips, size=size, seed=0, epoch=1)

    made = list(batches())
    copy = memory_copy(device)
    works = {
        "epoch": Work(lambda: train_epoch(step, batches(), target)),
        "steps": Work(lambda: train_epoch(step, iter(made), target)),
        "data": Work(lambda: [None for _ in batches()], float(sum(read_and_written(batch) for batch in made))),
        "copy": copy,
    }
    seconds = by_turns(works, arguments.repeats, device)
    report.section(f"{data}: {arguments.videos} videos of {clips} clips, batches of {arguments.batch}")
    for name in ("epoch", "steps", "data"):
        report.add(name, seconds[name], "s")
    beyond = [epoch - steps for epoch, steps in zip(seconds["epoch"], seconds["steps"], strict=True)]
    report.add("share of data: (epoch - steps) / epoch", ratios(beyond, seconds["epoch"]))
    report.add("share of data: data alone / epoch", ratios(seconds["data"], seconds["epoch"]))
    rate, copy_rate = rates(works["data"], seconds["data"]), rates(copy, seconds["copy"])
    report.add("copying in memory", [r / 1e9 for r in copy_rate], "GB/s")
    report.add("data alone / copying as many bytes", ratios(copy_rate, rate))


def synthetic_features(data: str, videos: int, device: torch.device) -> Features:
    """The first videos of a synthetic data set's training split, on the device."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_synthetic(data, Path(folder) / "data.h5", samples=videos)
        with FeatureStore(path) as store:
            return Features(store, device=device)


def read_and_written(batch: Batch) -> int:
    """Bytes of a batch's features, read once and written once."""
    return 2 * sum(values.numel() * values.element_size() for values in batch.features.values())


if __name__ == "__main__":
    main()
