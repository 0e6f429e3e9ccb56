"""What a GPU makes of training and scoring, in one table that takes minutes.

    python -m benchmarks.gpu               on a GPU; where there is none, a dry run
    python -m benchmarks.gpu --dry-run     small shapes on the CPU, to see that all of it works

By data set: a step of MCMoE at the published size in float32, TF32 and bfloat16, as it is and replayed as a CUDA graph
(`train.compile`), in ms. Beside it the limit: the time that the step's operations, as torch counts them, would take at
the rate that the GPU's data sheet promises for dense products of that precision, and at the rate of one large product
measured in turn with the step. Then scoring under seven patterns relative to the complete one alone, and a step of each
of five seeds of a small model, one after another and on a CUDA stream each.

The figures of a dry run mean nothing. What a CPU cannot do is listed with "needs CUDA", and never replaced by what it
can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from aqa.evaluation.scorer import Scorer
from aqa.missing import parse_test_patterns
from aqa.models import build
from aqa.models.mcmoe import MCMoE
from aqa.system.precision import Precision
from benchmarks.evaluation import WIDTHS, features
from benchmarks.harness import (
    DATA_SHEETS,
    Report,
    Work,
    by_turns,
    device_name,
    matrix_product,
    operations,
    options,
    parsed,
    rates,
    ratios,
    timed,
)
from benchmarks.seeds import SIZES, model_options
from benchmarks.steps import Shape, random_batch, shape_of, small_shape, training_step

SEEDS = 5
SMALL = {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}


class Plan(NamedTuple):
    """What is measured: batches, the model's options, the side of the large product, and how many videos and clips."""

    steps: Mapping[str, Shape]
    model: Mapping[str, Any]
    product: int
    scored: tuple[int, int]


def main() -> None:
    there = torch.cuda.is_available()
    parser = options(__doc__, device="cuda" if there else "cpu")
    parser.add_argument("--dry-run", action="store_true", help="small shapes on the CPU")
    arguments, device = parsed(parser)
    dry = arguments.dry_run or device.type == "cpu"
    device = torch.device("cpu") if dry else device
    report = Report("gpu", arguments, device)
    plan = Plan({data: shape_of(data) for data in ("fisv", "fs1000", "rg")}, {}, 8192, (100, 124))
    if dry:
        why = "" if there else "torch sees no GPU here: "
        print(f"dry run: {why}small shapes on the CPU, whose figures mean nothing")
        plan = Plan({"small": small_shape(3, 12, 6, 4)}, SMALL, 64, (4, 3))
    for name, shape in plan.steps.items():
        for precision in get_args(Precision):
            measure_step(report, f"{name}, {precision}", shape, plan, precision, device)
    measure_patterns(report, plan, device)
    measure_seeds(report, plan, device)
    report.write()


def measure_step(
    report: Report, title: str, shape: Shape, plan: Plan, precision: Precision, device: torch.device
) -> None:
    """A step in one precision, plain and as a CUDA graph, beside its limits."""
    report.section(f"a step of {shape.rows} videos of {shape.clips} clips: {title}")
    on_gpu = device.type == "cuda"
    if precision == "tf32" and not on_gpu:
        report.needs_cuda("step")
        return
    batch = random_batch(shape, device)

    def made(compiled: bool) -> Callable[[], object]:
        return training_step(build("mcmoe", widths=shape.widths, **plan.model).to(device), batch, precision, compiled)

    step, product = made(False), matrix_product(device, precision, plan.product)
    counted, sheet = operations(step), DATA_SHEETS.get(device_name(device))
    works = {"product": product, "step": Work(step)}
    if on_gpu:
        graph = made(True)
        report.value("first step of the CUDA graph, compiling", timed(graph, device), "s")
        works["step as a CUDA graph"] = Work(graph)
    seconds = by_turns(works, report.repeats, device)
    limits = [counted / rate for rate in rates(product, seconds["product"])]
    for name in list(works)[1:]:
        report.add(name, milliseconds(seconds[name]), "ms")
        report.add(f"{name} / its operations at the product's rate", ratios(seconds[name], limits))
        if sheet is not None:
            report.value("  its operations by the data sheet", 1e3 * counted / (1e12 * sheet[precision]), "ms")
            share = [counted / (1e12 * sheet[precision]) / taken for taken in seconds[name]]
            report.add("  data sheet / step", share)
    if not on_gpu:
        report.needs_cuda("step as a CUDA graph")
        report.needs_cuda("data sheet / step")
    elif sheet is None:
        report.unknown("data sheet / step", f"the data sheet of {device_name(device)} is not in DATA_SHEETS")


def measure_patterns(report: Report, plan: Plan, device: torch.device) -> None:
    """Scoring under all seven patterns, and under the complete one alone."""
    videos, clips = plan.scored
    report.section(f"seven patterns: {videos} videos of {clips} clips")
    torch.manual_seed(0)
    model = MCMoE(WIDTHS, **plan.model).to(device)
    held = features(videos, clips, device)
    scorer = Scorer(model, held, low=0, high=1, clips=clips, batch_size=32, seed=0)
    patterns = parse_test_patterns("all_subsets", tuple(WIDTHS), "patterns")
    complete, rows = {"VAF": patterns["VAF"]}, np.arange(videos)
    ways = {"complete": lambda: scorer.predict(rows, complete), "seven": lambda: scorer.predict(rows, patterns)}
    seconds = by_turns({way: Work(score) for way, score in ways.items()}, report.repeats, device)
    report.add("complete pattern alone", milliseconds(seconds["complete"]), "ms")
    report.add("seven patterns", milliseconds(seconds["seven"]), "ms")
    report.add("seven / complete", ratios(seconds["seven"], seconds["complete"]))


def measure_seeds(report: Report, plan: Plan, device: torch.device) -> None:
    """A step of each of five seeds: one after another, as `vectorize: seeds` trains them, and on a stream each."""
    size = SIZES["quickstart"]
    widths = dict(zip(WIDTHS, size.widths, strict=True))
    shape = Shape(widths, size.clips[1], min(32, *(shape.rows for shape in plan.steps.values())))
    report.section(f"five seeds of the quick start's model, {shape.rows} videos of {shape.clips} clips")
    batch, steps = random_batch(shape, device), []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        steps.append(training_step(build("mcmoe", widths=widths, **model_options(size)).to(device), batch))
    works = {"a step of one seed": Work(steps[0]), "of each of five, one after another": Work(in_turn(steps))}
    if device.type == "cuda":
        works["of each of five, on a CUDA stream each"] = Work(on_streams(steps))
    seconds = by_turns(works, report.repeats, device)
    for name, taken in seconds.items():
        report.add(name, milliseconds(taken), "ms")
    if device.type != "cuda":
        report.needs_cuda("of each of five, on a CUDA stream each")
    five = seconds["of each of five, one after another"]
    report.add("five / five times one", [ratio / SEEDS for ratio in ratios(five, seconds["a step of one seed"])])


def in_turn(steps: list[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [step() for step in steps]


def on_streams(steps: list[Callable[[], object]]) -> Callable[[], object]:
    streams = [torch.cuda.Stream() for _ in steps]

    def run() -> None:
        for stream, step in zip(streams, steps, strict=True):
            with torch.cuda.stream(stream):
                step()

    return run


def milliseconds(seconds: list[float]) -> list[float]:
    return [1e3 * s for s in seconds]


if __name__ == "__main__":
    main()
