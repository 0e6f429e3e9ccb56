"""What a store larger than memory costs: how fast its epochs are, and whether they keep to the memory allowed.

    python -m benchmarks.streaming

A store of random features that takes four times `data.memory`, in a process of its own, in turn:
- an epoch without training, read ahead and read at need, beside a plain read of the file;
- an epoch with work after each batch that takes about as long as reading: what reading ahead is for.
Then the most memory that an epoch took above what the process held before it, batches included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
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

AHEAD, AT_NEED = "read ahead", "read at need"


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


def streamed(path: Path, memory: float, batch: int, device: torch.device) -> dict[str, StreamedFeatures]:
    """The features of a store, read ahead and read at need."""
    with FeatureStore(path) as store:
        ahead = load_features(store, device=device, memory=memory, batch_size=batch, window=CLIPS)
    if not isinstance(ahead, StreamedFeatures):
        raise SystemExit(f"streaming: the store fits into {memory:g} GiB")
    at_need = ahead.copy()
    at_need.read_ahead = False
    return {AHEAD: ahead, AT_NEED: at_need}


def peak_of_an_epoch(path: Path, memory: float, batch: int, device: torch.device) -> int:
    """Bytes of memory that an epoch took at most above what the process held before (Linux), or of a GPU's."""
    features = streamed(path, memory, batch, device)[AHEAD]
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
    """How fast epochs are, without and with work."""
    memory, batch = arguments.memory, arguments.batch
    size = float(path.stat().st_size)
    works = {"plain read": file_read(path)}
    for way, features in streamed(path, memory, batch, device).items():
        works[way] = Work(lambda features=features: epoch_of(features, 1, batch), size)
    begin = time.perf_counter()
    works[AT_NEED].run()
    share = (time.perf_counter() - begin) * batch * VIDEO_BYTES / size

    def busy() -> None:
        until = time.perf_counter() + share
        while time.perf_counter() < until:
            matrix @ matrix

    matrix = torch.randn(256, 256)
    for way, features in streamed(path, memory, batch, device).items():
        works[f"{way}, with work"] = Work(lambda features=features: epoch_of(features, 1, batch, busy), size)
    seconds = by_turns(works, arguments.repeats, device)
    for name, work in works.items():
        report.add(name, [rate / 1e9 for rate in rates(work, seconds[name])], "GB/s")
    for more in ("", ", with work"):
        report.add(f"at need / ahead{more}", ratios(seconds[AT_NEED + more], seconds[AHEAD + more]))


if __name__ == "__main__":
    main()
