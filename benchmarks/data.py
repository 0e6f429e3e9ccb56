"""How near to the speed of memory features are read and batched, and what a store larger than memory costs.

    python benchmarks/data.py

Three figures, on stores of random features in a temporary folder:
- the time to load a store of Fis-V's size, every number checked, beside that of reading the same bytes of the file into
  memory that is already there, measured in turn with it in the same process (the file is in the page cache);
- the time to make a training batch beside that of MCMoE's training step at the published size, in turn with it;
- an epoch of a store that takes four times `data.memory`: how fast it is read, and the most memory it took, in its
  own process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import spread, timed
from steps import random_batch, shape_of, training_step

from aqa.data.batches import Features, training_batches
from aqa.data.memory import GIB
from aqa.data.store import FeatureStore, Modality, write_store
from aqa.data.streaming import load_features
from aqa.missing import parse_pattern
from aqa.models import build

CLIPS, BATCH = 124, 32
WIDTHS = shape_of("fisv").widths
VIDEO_BYTES = CLIPS * 4 * sum(WIDTHS.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="training steps that batches are compared with")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    parser.add_argument("--streamed", type=float, default=4, help="GiB of the store that is streamed")
    parser.add_argument("--memory", type=float, default=1, help="GiB that its features may take")
    parser.add_argument("--only-stream", type=Path, help=argparse.SUPPRESS)  # the part in a process of its own
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.only_stream is not None:
        streamed_epoch(arguments.only_stream, arguments.memory, device)
        return

    print(f"device {device}, threads {torch.get_num_threads()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        path = random_store(Path(folder) / "whole.h5", arguments.videos, arguments.dtype)
        loading(path, arguments.repeats, device)
        batching(path, arguments.repeats, arguments.steps, device)
        path.unlink()
        if arguments.streamed:
            videos = int(arguments.streamed * GIB / VIDEO_BYTES)
            path = random_store(Path(folder) / "streamed.h5", videos, "float32")
            own = ["--only-stream", str(path), "--memory", str(arguments.memory), "--device", str(device)]
            subprocess.run([sys.executable, __file__, *own], check=True)


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


def loading(path: Path, repeats: int, device: torch.device) -> None:
    """Print the time of loading beside that of a plain read of the file."""
    size = path.stat().st_size
    memory = memoryview(bytearray(size))  # set to zero, which leaves it in place
    plain, loads = [], []
    for _ in range(repeats + 1):
        plain.append(timed(lambda: read_file(path, memory), torch.device("cpu")))
        loads.append(timed(lambda: load(path, device), device))
    plain, loads = plain[1:], loads[1:]  # the first of each fills the page cache
    print(f"store                  {size / 1e6:.0f} MB")
    print(f"plain read             {spread([size / s / 1e9 for s in plain])} GB/s")
    print(f"loading                {spread([size / s / 1e9 for s in loads])} GB/s")
    print(f"loading / plain read   {spread([p / s for p, s in zip(plain, loads, strict=True)])} of its bandwidth")


def load(path: Path, device: torch.device) -> Features:
    with FeatureStore(path) as store:
        return Features(store, device=device)


def read_file(path: Path, memory: memoryview) -> None:
    with open(path, "rb", buffering=0) as file:
        while memory:
            memory = memory[file.readinto(memory) :]


def batching(path: Path, repeats: int, steps: int, device: torch.device) -> None:
    """Print the time of a training batch beside that of a training step."""
    features = load(path, device)
    step = training_step(build("mcmoe", widths=WIDTHS).to(device), random_batch(shape_of("fisv", BATCH), device))
    rows = np.arange(len(features.ids))
    step()
    batches, trained = [], []
    for repeat in range(max(repeats, steps)):
        batches.append(timed(lambda epoch=repeat: epoch_of(features, rows, epoch), device) / (len(rows) / BATCH))
        if repeat < steps:
            trained.append(timed(step, device))
    print(f"batch                  {spread([1000 * s for s in batches])} ms")
    print(f"training step          {spread([1000 * s for s in trained])} ms")
    print(f"batch / step           {spread([100 * b / s for b, s in zip(batches, trained, strict=False)])} %")


def epoch_of(features: Features, rows: np.ndarray, epoch: int) -> None:
    """Make all batches of an epoch, and nothing of them."""
    pattern = parse_pattern("random_subset", features.modalities, "missing.train")
    available = features.available[rows]
    for _ in training_batches(features, rows, available, pattern, clips=CLIPS, size=BATCH, seed=0, epoch=epoch):
        pass


def streamed_epoch(path: Path, memory: float, device: torch.device) -> None:
    """Print the time and the memory of an epoch that is streamed."""
    with FeatureStore(path) as store:
        features = load_features(store, device=device, memory=memory)
    rows = np.arange(len(features.ids))
    features.window(rows[:BATCH], CLIPS)  # what torch itself takes for a batch, and for the first of its kernels
    before = most_memory()
    start = time.perf_counter()
    epoch_of(features, rows, 1)
    took = time.perf_counter() - start
    size = path.stat().st_size
    print(f"streamed store         {size / GIB:.2f} GiB, {memory:g} GiB allowed ({type(features).__name__})")
    a_batch = 1000 * took * BATCH / len(rows)
    print(f"streamed epoch         {took:.2f} s, {size / took / 1e9:.2f} GB/s, {a_batch:.1f} ms a batch")
    print(f"peak memory            {(most_memory() - before) / GIB:.2f} GiB above the {before / GIB:.2f} GiB before")


def most_memory() -> int:
    """Bytes of memory that this process had at most so far (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
