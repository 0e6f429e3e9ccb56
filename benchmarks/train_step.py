"""How far a full-size training step of MCMoE is from what the machine's matrix products allow.

    python -m benchmarks.train_step                            Fis-V's shape, 32 videos of 124 clips
    python -m benchmarks.train_step --data fisv fs1000 rg      those of FS1000 (95 clips) and RG (68 clips) as well
    python -m benchmarks.train_step --device cuda --precision float32 tf32 bf16 --compile

One step is what training does: loss, backward, Adam. Its time stands beside the time that floating-point operations
would take at the rate of one large matrix product of the same precision, measured in turn with it in the same process.
Two counts of operations are set against it:

- "published": those of the step as it was published, 272 GFLOP at Fis-V's shape, whatever this version computes. The
  figure to compare between versions, and the one with a limit: at most 1.3. Work that was saved lowers it.
- "counted": those that this version's step does, by torch's counter: how well it keeps the processor busy. It does not
  show work that was saved; what is computed twice to save memory counts twice.

--compile: the step with `train.compile` as well, in turn with the plain one. The rates of matrix products and of the
memory of a GPU stand beside those of its data sheet, where that is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import get_args

import torch
from torch._dynamo.utils import counters

from aqa.models import build
from aqa.system.precision import Precision
from benchmarks.harness import (
    Report,
    Work,
    add_processor_time,
    beside_data_sheet,
    by_turns,
    clock_of,
    matrix_product,
    memory_copy,
    operations,
    options,
    parsed,
    peak_memory,
    rates,
    ratios,
    timed,
)
from benchmarks.steps import random_batch, shape_of, training_step

# Of 32 videos' step: each of the T clips its own generator query, the encoder's attention as matrix products.
PUBLISHED_GFLOP = {"fisv": 272.05, "fs1000": 203.04, "rg": 146.66}
LIMIT = 1.3


def main() -> None:
    parser = options(__doc__, repeats=9)
    parser.add_argument("--data", nargs="+", choices=list(PUBLISHED_GFLOP), default=["fisv"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", nargs="+", choices=get_args(Precision), default=["float32"])
    parser.add_argument("--compile", action="store_true")
    add_processor_time(parser)
    arguments, device = parsed(parser)
    clock_of(arguments)
    report = Report("train_step", arguments, device)
    if device.type == "cuda":
        measure_memory(arguments, device, report)
    for data in arguments.data:
        for precision in arguments.precision:
            measure(data, precision, arguments, device, report)
    report.write()


def measure_memory(arguments: argparse.Namespace, device: torch.device, report: Report) -> None:
    """How fast the GPU's memory is, which bounds what is not a matrix product."""
    copy = memory_copy(device, 2**30)
    found = rates(copy, by_turns({"copy": copy}, arguments.repeats, device)["copy"])
    report.section("memory")
    report.add("copy, read and written", [rate / 1e9 for rate in found], "GB/s")
    beside_data_sheet(report, "memory", found, device)


def measure(
    data: str, precision: Precision, arguments: argparse.Namespace, device: torch.device, report: Report
) -> None:
    shape = shape_of(data, arguments.batch)
    step = full_size_step(data, shape.rows, precision, device)
    product = matrix_product(device, precision)
    counted, published = operations(step), 1e9 * PUBLISHED_GFLOP[data] * shape.rows / 32
    works, steps = {"product": product, "step": Work(step)}, {"step": False}
    report.section(
        f"{data}, {precision}: {shape.rows} videos of {shape.clips} clips, {'/'.join(map(str, shape.widths.values()))}"
    )
    if arguments.compile:
        compiled = full_size_step(data, shape.rows, precision, device, compiled=True)
        report.value("first compiled step", timed(compiled, device), "s")
        works["compiled step"], steps["compiled step"] = Work(compiled), True
    seconds = by_turns(works, arguments.repeats, device, clock_of(arguments))
    if arguments.compile and device.type == "cuda":
        report.value("graphs that torch would not capture", counters["inductor"]["cudagraph_skips"])
    product_rates = rates(product, seconds["product"])

    report.add("matrix product", [rate / 1e9 for rate in product_rates], "GFLOP/s")
    beside_data_sheet(report, precision, product_rates, device)
    report.value("operations, published", published / 1e9, "GFLOP")
    report.value("operations, counted", counted / 1e9, "GFLOP")
    for name, is_compiled in steps.items():
        report.add(name, seconds[name], "s")
        report.add(f"{name} / published at that rate", ratios(seconds[name], [published / r for r in product_rates]))
        report.value("  asked for, at most", LIMIT)
        report.add(f"{name} / counted at that rate", ratios(seconds[name], [counted / r for r in product_rates]))
        memory = peak_memory(full_size_step, data, shape.rows, precision, device, is_compiled, device=device)
        report.value(f"{name}: peak memory", memory.peak / 2**30, "GiB")
    if arguments.compile:
        report.add("compiled step / step", ratios(seconds["compiled step"], seconds["step"]))


def full_size_step(
    data: str, rows: int, precision: Precision, device: torch.device, compiled: bool = False
) -> Callable[[], object]:
    """A step at the published size, two of three streams visible in every row."""
    batch = random_batch(shape_of(data, rows), device)
    model = build("mcmoe", widths=shape_of(data).widths).to(device)
    return training_step(model, batch, precision, compiled)


if __name__ == "__main__":
    main()
