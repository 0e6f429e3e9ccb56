"""How far a full-size training step of MCMoE is from what the machine's matrix products allow.

    python benchmarks/train_step.py                            Fis-V's shape, 32 videos of 124 clips
    python benchmarks/train_step.py --data fisv fs1000 rg      those of FS1000 (95 clips) and RG (68 clips) as well

One step is what training does: loss, backward, Adam. Its time stands beside the time that floating-point operations
would take at the rate of one large matrix product of the same precision, measured by turns with it in the same process.
Two counts of operations are set against it:

- "published": those of the step as it was published, 272 GFLOP at Fis-V's shape, whatever this version computes. The
  figure to compare between versions, and the one with a limit: at most 1.6. Work that was saved lowers it.
- "counted": those that this version's step does, by torch's counter: how well it keeps the processor busy. It does not
  show work that was saved; what is computed twice to save memory counts twice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from harness import Report, Work, by_turns, matrix_product, operations, options, parsed, peak_memory, rates, ratios
from steps import PRECISIONS, random_batch, shape_of, training_step

from aqa.models import build

# Of 32 videos' step: each of the T clips its own generator query, the encoder's attention as matrix products.
PUBLISHED_GFLOP = {"fisv": 272.05, "fs1000": 203.04, "rg": 146.66}
LIMIT = 1.6


def main() -> None:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--data", nargs="+", choices=list(PUBLISHED_GFLOP), default=["fisv"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    arguments, device = parsed(parser)
    report = Report("train_step", arguments, device)
    for data in arguments.data:
        measure(data, arguments, device, report)
    report.write()


def measure(data: str, arguments: argparse.Namespace, device: torch.device, report: Report) -> None:
    shape = shape_of(data, arguments.batch)
    step = full_size_step(data, shape.rows, arguments.precision, device)
    product = matrix_product(device, torch.bfloat16 if arguments.precision == "bfloat16" else torch.float32)
    counted, published = operations(step), 1e9 * PUBLISHED_GFLOP[data] * shape.rows / 32
    seconds = by_turns({"product": product, "step": Work(step)}, arguments.repeats, device)
    product_rates = rates(product, seconds["product"])

    report.section(f"{data}: {shape.rows} videos of {shape.clips} clips, {'/'.join(map(str, shape.widths.values()))}")
    report.add("matrix product", [rate / 1e9 for rate in product_rates], "GFLOP/s")
    report.add("step", seconds["step"], "s")
    report.value("operations, published", published / 1e9, "GFLOP")
    report.add("step / published at that rate", ratios(seconds["step"], [published / r for r in product_rates]))
    report.value("  asked for, at most", LIMIT)
    report.value("operations, counted", counted / 1e9, "GFLOP")
    report.add("step / counted at that rate", ratios(seconds["step"], [counted / r for r in product_rates]))
    memory = peak_memory(full_size_step, data, shape.rows, arguments.precision, device, device=device)
    report.value("peak memory", memory.peak / 2**30, "GiB")


def full_size_step(data: str, rows: int, precision: str, device: torch.device) -> Callable[[], object]:
    """A step at the published size, two of three streams visible in every row."""
    batch = random_batch(shape_of(data, rows), device)
    model = build("mcmoe", widths=shape_of(data).widths).to(device)
    return training_step(model, batch, precision)


if __name__ == "__main__":
    main()
