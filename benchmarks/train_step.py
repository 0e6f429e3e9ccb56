"""How far a full-size training step of MCMoE is from what the machine's matrix products allow.

    python benchmarks/train_step.py

One step is what training does: loss, backward, Adam. Its time stands beside the time that its floating-point operations
would take at the rate of one large matrix product, measured in turn with it in the same process; their ratio is the
figure to compare between versions. Inputs have the shapes of Fis-V: 32 videos of 124 clips.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from aqa.models import build

WIDTHS = {"visual": 1024, "audio": 768, "flow": 1024}
MATMUL = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clips", type=int, default=124)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    step = training_step(arguments.batch, arguments.clips, device)
    matrix = torch.randn(MATMUL, MATMUL, device=device)
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    operations = counter.get_total_flops()

    steps, products = [], []
    for _ in range(arguments.repeats):
        products.append(seconds(lambda: matrix @ matrix, device))
        steps.append(seconds(step, device))
    ratios = [s / (operations * p / (2 * MATMUL**3)) for s, p in zip(steps, products, strict=True)]

    print(f"device {device}, threads {torch.get_num_threads()}, torch {torch.__version__}")
    print(f"operations of a step   {operations / 1e9:.0f} GFLOP")
    print(f"matrix product         {spread([2 * MATMUL**3 / p / 1e9 for p in products])} GFLOP/s")
    print(f"step                   {spread(steps)} s")
    print(f"step / matrix products {spread(ratios)}")
    print(f"peak memory            {peak_memory(device) / 2**30:.2f} GiB")


def training_step(rows: int, clips: int, device: torch.device) -> Callable[[], object]:
    """A step at the published size, two of three streams visible in every row."""
    torch.manual_seed(0)
    model = build("mcmoe", widths=WIDTHS).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)
    features = {m: torch.randn(rows, clips, width, device=device) for m, width in WIDTHS.items()}
    target = torch.rand(rows, device=device)
    available = torch.ones(rows, len(WIDTHS), dtype=torch.bool, device=device)
    visible = available.clone()
    visible[torch.arange(rows), torch.arange(rows) % len(WIDTHS)] = False

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(features, target, visible, available).total.backward()
        optimizer.step()

    return step


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f} (from {min(values):.2f} to {max(values):.2f}, n={len(values)})"


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device where it counts them, of the whole process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
