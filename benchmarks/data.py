"""How near to the speed of memory features are read and batched.

    python -m benchmarks.data

On a store of random features in a temporary folder, of Fis-V's size, whose file is in the page cache:
- the time to load it, every number checked, beside that of reading the bytes of its file into memory that is already
  there, and into fresh memory, which the system has to clear first as it has for features;
- the time to make a training batch beside that of MCMoE's training step at the published size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from aqa.features.batches import Features, training_batches
from aqa.missing import parse_pattern
from aqa.models import build
from aqa.store.store import FeatureStore, Modality
from aqa.store.write import write_store
from benchmarks.harness import Report, Work, by_turns, options, parsed, rates, ratios
from benchmarks.steps import random_batch, shape_of, training_step

CLIPS, BATCH = 124, 32
WIDTHS = shape_of("fisv").widths
VIDEO_BYTES = CLIPS * 4 * sum(WIDTHS.values())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    parser.add_argument("--only-loading", action="store_true")
    arguments, device = parsed(parser)
    report = Report("data", arguments, device)
    with tempfile.TemporaryDirectory() as folder:
        path = random_store(Path(folder) / "whole.h5", arguments.videos, arguments.dtype)
        loading(report, path, arguments.repeats, device)
        if not arguments.only_loading:
            batching(report, path, arguments.repeats, device)
    report.write()


def random_store(path: Path, videos: int, dtype: str) -> Path:
    """A store of random features, the same few videos over and over."""
    rng = np.random.default_rng(0)
    some = {m: rng.standard_normal((4, CLIPS, width), np.float32) for m, width in WIDTHS.items()}
    lengths = np.full(videos, CLIPS)
    write_store(
        path,
        name=path.stem,
        source="random numbers",
        ids=[f"video {i}" for i in range(videos)],
        modalities={m: Modality(width, lengths) for m, width in WIDTHS.items()},
        targets={},
        splits={},
        read=lambda modality, row: some[modality][row % 4],
        dtype=dtype,
    )
    return path


def loading(report: Report, path: Path, repeats: int, device: torch.device) -> None:
    """The time of loading beside that of a plain read of the file."""
    size = float(path.stat().st_size)
    memory = np.zeros(int(size), np.uint8)
    memory.fill(1)  # which leaves it in place
    works = {
        "plain read into memory at hand": Work(lambda: read_file(path, memory), size),
        "plain read into fresh memory": Work(lambda: read_file(path, np.empty(int(size), np.uint8)), size),
        "loading": Work(lambda: load(path, device), size),
    }
    seconds = by_turns(works, repeats, device)
    report.section(f"a store of {size / 1e6:.0f} MB")
    for name, work in works.items():
        report.add(name, [rate / 1e9 for rate in rates(work, seconds[name])], "GB/s")
    for name in list(works)[:2]:
        report.add(f"loading / {name}", ratios(seconds[name], seconds["loading"]), "of its bandwidth")


def load(path: Path, device: torch.device) -> Features:
    with FeatureStore(path) as store:
        return Features(store, device=device)


def read_file(path: Path, memory: np.ndarray) -> None:
    rest = memory.data
    with open(path, "rb", buffering=0) as file:
        while rest:
            rest = rest[file.readinto(rest) :]


def batching(report: Report, path: Path, repeats: int, device: torch.device) -> None:
    """The time of a training batch beside that of a training step."""
    features = load(path, device)
    step = training_step(build("mcmoe", widths=WIDTHS).to(device), random_batch(shape_of("fisv", BATCH), device))
    works = {"batches": Work(lambda: epoch_of(features, 0)), "step": Work(step)}
    seconds = by_turns(works, repeats, device)
    batches = -(-len(features.ids) // BATCH)
    report.section(f"a batch of {BATCH} videos")
    report.add("making it", [1000 * s / batches for s in seconds["batches"]], "ms")
    report.add("a training step on it", [1000 * s for s in seconds["step"]], "ms")
    report.add("making it / step", [r / batches for r in ratios(seconds["batches"], seconds["step"])])


def epoch_of(features: Features, epoch: int, size: int = BATCH) -> None:
    """Make all batches of an epoch."""
    pattern, rows = parse_pattern("random_subset", features.modalities, "missing.train"), np.arange(len(features.ids))
    available = features.available[rows]
    for _ in training_batches(features, rows, available, pattern, clips=CLIPS, size=size, seed=0, epoch=epoch):
        pass


if __name__ == "__main__":
    main()
