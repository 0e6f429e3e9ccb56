"""Time of one training step and of one scoring of a batch, for every registered model.

    python -m benchmarks.models                    with one thread, and with all

Batches of 32 videos in the shapes of the synthetic preset fisv_small (124 clips, up to a third of them padding; 64, 48
and 64 channels), hidden width 64; the other options are those of experiments/sweeps/models.yaml. All models and one
large matrix product (2048 x 2048 on a CPU) take turns. The table at the end, in Markdown for docs/models.md, gives
times as multiples of that product's and of `mcmoe`'s. A model trained in stages is timed in its last one; ridge
regression has no steps: its fit to the batch stands in their place.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import yaml

from aqa.models import MODELS, AQAModel
from aqa.models.base import Example
from benchmarks.harness import Report, Work, by_turns, matrix_product, options, parsed, ratios, short
from benchmarks.steps import build_small, random_batch, scoring, shape_of, training_step

# The ensemble costs what its members do, LIMSSR what the language model that it is given does.
COMPARED = [name for name in MODELS.names() if name not in ("ensemble", "limssr")]
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", choices=COMPARED, default=COMPARED)
    arguments, device = parsed(parser)
    report = Report("models", arguments, device)
    shape, settings = shape_of("fisv_small"), model_settings()
    names = ["mcmoe", *(name for name in arguments.models if name != "mcmoe")]
    models = {name: build_small(name, shape.widths, **settings[name]).to(device) for name in names}
    batch = random_batch(shape, device, padded=True)
    table = {name: [f"`{name}`", f"{model.parameter_count:,}"] for name, model in models.items()}
    header = ["model", "parameters"]
    for threads in thread_counts(arguments, device):
        torch.set_num_threads(threads)
        for what, work in (("step", learning), ("scoring", scoring)):
            works = {name: Work(work(model, batch)) for name, model in models.items()}
            works["matrix product"] = matrix_product(device)
            seconds = by_turns(works, arguments.repeats, device)
            title = f"{what}, {threads} thread{'s' * (threads > 1)}"
            report.section(title)
            report.add("matrix product", seconds["matrix product"], "s")
            header += [f"{title}: of a product", "of mcmoe's"]
            for name in names:
                report.add(f"{name}: seconds", seconds[name], "s")
                of_product = report.add(f"{name}: / product", ratios(seconds[name], seconds["matrix product"]))
                of_mcmoe = report.add(f"{name}: / mcmoe", ratios(seconds[name], seconds["mcmoe"]))
                table[name] += [short(of_product.median), short(of_mcmoe.median)]
    report.write()
    print(markdown(header, list(table.values())))


def model_settings() -> dict[str, dict[str, Any]]:
    """The options that a comparison of all models gives to each."""
    base = yaml.safe_load((EXPERIMENTS / "fisv_small.yaml").read_text())
    chosen = yaml.safe_load((EXPERIMENTS / "sweeps" / "models.yaml").read_text())["grid"]["model"]
    found = {name: {**chosen.get(name, {}).get("model", base["model"])} for name in COMPARED}
    return {name: {key: value for key, value in options.items() if key != "name"} for name, options in found.items()}


def thread_counts(arguments: argparse.Namespace, device: torch.device) -> list[int]:
    """One and all on a CPU; a GPU is fed by whatever torch takes."""
    if device.type != "cpu":
        return [torch.get_num_threads()]
    return sorted({1, arguments.threads or len(os.sched_getaffinity(0))})


def learning(model: AQAModel, batch: Example) -> Any:
    """A step of the model's last stage, or its fit where it has no steps."""
    if model.closed_form:
        return lambda: model.fit([batch])
    step = training_step(model, batch)
    model.epochs = 2  # so that a stage of a share of them is short
    stages = [model.stage_length(value) for name, value in vars(model).items() if name.endswith("_epochs")]
    for epoch in range(1, max(stages, default=0) + 2):
        model.start_epoch(epoch)
        if model.surveys(epoch):
            with torch.no_grad():
                model.eval().survey([batch])
            model.train()
        step()
    return step


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table, sorted by its third column."""
    lines = [header, ["---"] * len(header), *sorted(rows, key=lambda row: float(row[2]))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
