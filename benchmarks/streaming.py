"""What a store larger than memory costs: how fast its epochs are, and whether they keep to the memory allowed.

    python -m benchmarks.streaming

A store of random features that takes four times `data.memory`: an epoch without training beside a plain read of the
file, in turn. First, in a process of its own, the most memory that an epoch took above what the process held before it,
batches included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from aqa.features.streaming import StreamedFeatures, load_features
from aqa.store.store import FeatureStore
from aqa.system.memory import GIB
from benchmarks.data import BATCH, CLIPS, VIDEO_BYTES, epoch_of, random_store
from benchmarks.harness import Report, Work, by_turns, file_read, options, parsed, rates, ratios


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--store", type=float, default=4, help="GiB of the store")
    parser.add_argument("--memory", type=float, default=1, help="GiB that features and batches may take")
    parser.add_argument("--batch", type=int, default=BATCH)
    arguments, device = parsed(parser)
    report = Report("streaming", arguments, device)
    with tempfile.TemporaryDirectory() as folder:
        path = random_store(Path(folder) / "streamed.h5", int(arguments.store * GIB / VIDEO_BYTES), "float32")
        peak = in_a_process(peak_of_an_epoch, path, arguments.memory, arguments.batch, device)
        report.section(f"a store of {path.stat().st_size / GIB:.3g} GiB, {arguments.memory:g} GiB allowed")
        report.value("peak memory of an epoch", peak / GIB, "GiB")
        report.value("peak / allowed", peak / GIB / arguments.memory)
        speed(report, path, arguments, device)
    report.write()


def in_a_process(function: Callable[..., int], *arguments: object) -> int:
    """What a function returns, called in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
        return own.submit(function, *arguments).result()


def streamed(path: Path, memory: float, batch: int, device: torch.device) -> StreamedFeatures:
    """The features of a store, read in blocks."""
    with FeatureStore(path) as store:
        features = load_features(store, device=device, memory=memory, batch_size=batch, window=CLIPS)
    if not isinstance(features, StreamedFeatures):
        raise SystemExit(f"streaming: the store fits into {memory:g} GiB")
    return features


def peak_of_an_epoch(path: Path, memory: float, batch: int, device: torch.device) -> int:
    """Bytes of memory that an epoch took at most above what the process held before (Linux), or of a GPU's."""
    features = streamed(path, memory, batch, device)
    features.window(np.arange(batch), CLIPS)  # what torch itself takes for a batch, and for the first of its kernels
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        epoch_of(features, 1, batch)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
    before = held("VmRSS")
    epoch_of(features, 1, batch)
    return held("VmHWM") - before


def held(name: str) -> int:
    """Bytes, as the system counts the memory of this process."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def speed(report: Report, path: Path, arguments: argparse.Namespace, device: torch.device) -> None:
    """How fast epochs are, beside a plain read."""
    features = streamed(path, arguments.memory, arguments.batch, device)
    size = float(path.stat().st_size)
    works = {
        "plain read": file_read(path),
        "an epoch": Work(lambda: epoch_of(features, 1, arguments.batch), size),
    }
    seconds = by_turns(works, arguments.repeats, device)
    for name, work in works.items():
        report.add(name, [rate / 1e9 for rate in rates(work, seconds[name])], "GB/s")
    report.add("an epoch / plain read", ratios(seconds["an epoch"], seconds["plain read"]))


if __name__ == "__main__":
    main()
