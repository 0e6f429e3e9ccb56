"""What scoring a batch under all its missing patterns costs beside scoring it under the complete one, by model.

    python -m benchmarks.patterns --processor-time                  one thread

Batches and models as in `benchmarks.models`: 32 videos in the shapes of the synthetic preset fisv_small, a third of
whose clips may be padding, hidden width 64. Of each model whose patterns share work the complete pattern alone, the
seven subsets together, and the seven one after the other take turns in one process. The ratios of their times are the
figures to compare; with --processor-time they are of seconds that other programs do not lengthen. Beside them are
the ratios of the operations counted, which do not depend on the machine. The table at the end, in Markdown, is for
docs/performance.md. `--models` takes others too: their patterns are scored one by one. `--memory` measures, in place of
times, the most memory that scoring takes at once, in a process of its own for each figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from aqa.models import MODELS, AQAModel
from aqa.models.base import Example
from aqa.models.ensemble import visible_sets
from benchmarks.harness import (
    Report,
    Spread,
    Work,
    add_processor_time,
    by_turns,
    clock_of,
    operations,
    options,
    parsed,
    peak_memory,
    ratios,
    short,
)
from benchmarks.models import COMPARED, markdown, model_settings
from benchmarks.steps import Shape, build_small, random_batch, shape_of

SHARING = [name for name in COMPARED if MODELS.get(name).make.shares_patterns]
HEADER = ["model", "seven / complete", "operations, likewise", "one by one / complete", "operations, likewise"]


class Ways(NamedTuple):
    """Three ways to score a batch."""

    complete: Callable[[], Tensor]
    together: Callable[[], Tensor]
    apart: Callable[[], Tensor]


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--models", nargs="+", choices=COMPARED, default=SHARING)
    parser.add_argument("--preset", default="fisv_small", help="the synthetic data set whose shapes are taken")
    parser.add_argument("--rows", type=int, default=32, help="videos in the batch")
    parser.add_argument("--memory", action="store_true", help="measure memory in place of time")
    add_processor_time(parser)
    arguments, device = parsed(parser)
    clock = clock_of(arguments)
    if arguments.memory:
        memory(Report("patterns_memory", arguments, device), arguments, device)
        return
    report, settings = Report("patterns", arguments, device), model_settings()
    shape = shape_of(arguments.preset, arguments.rows)
    batch, rows = random_batch(shape, device, padded=True), []
    for name in arguments.models:
        report.section(name)
        model = build_small(name, shape.widths, **settings[name]).to(device).eval()
        ways = ways_to_score(model, batch, shape)
        works = {way: Work(run) for way, run in ways._asdict().items()}
        with torch.no_grad():
            seconds = by_turns(works, arguments.repeats, device, clock)
        counted = {way: operations(run) for way, run in ways._asdict().items()}  # the counter follows gradients
        row = [f"`{name}`"]
        for way, title in (("together", "seven"), ("apart", "one by one")):
            found = report.add(f"{title} / complete", ratios(seconds[way], seconds["complete"]))
            report.value("  operations, likewise", counted[way] / counted["complete"])
            row += [with_range(found), short(counted[way] / counted["complete"])]
        report.value("largest difference of a score", float((ways.together() - ways.apart()).detach().abs().max()))
        rows.append(row)
    report.write()
    print(markdown(HEADER, rows))


def memory(report: Report, arguments: argparse.Namespace, device: torch.device) -> None:
    """The most memory at once while a batch is scored, beyond what is held before there are model and batch."""
    for name in arguments.models:
        report.section(name)
        for way, title in (("complete", "complete"), ("together", "seven together")):
            taken = peak_memory(one_way, name, arguments.preset, arguments.rows, device, way, device=device)
            report.value(f"peak memory, {title}", taken.added / 2**20, "MiB")
    report.write()


def one_way(name: str, preset: str, rows: int, device: torch.device, way: str) -> Callable[[], Tensor]:
    """One of the ways to score a batch by a model that is made here."""
    shape = shape_of(preset, rows)
    model = build_small(name, shape.widths, **model_settings()[name]).to(device).eval()
    score = getattr(ways_to_score(model, random_batch(shape, device, padded=True), shape), way)
    return cast("Callable[[], Tensor]", torch.no_grad()(score))


def ways_to_score(model: AQAModel, batch: Example, shape: Shape) -> Ways:
    """The complete pattern alone, all subsets of the modalities together, and one after the other."""
    sets = torch.tensor(visible_sets(len(shape.widths)), device=batch.visible.device)
    visible = sets.unsqueeze(1).expand(-1, shape.rows, -1)  # (P, B, M), the complete one first
    return Ways(
        partial(scored, model.score_patterns, batch, visible[:1]),
        partial(scored, model.score_patterns, batch, visible),
        partial(scored, model.score_one_by_one, batch, visible),
    )


def scored(score: Callable[..., tuple[Tensor, object]], batch: Example, visible: Tensor) -> Tensor:
    """Scores (P, B), by the one way or the other."""
    return score(batch.features, visible, batch.lengths)[0]


def with_range(found: Spread) -> str:
    """A figure as the documents give it."""
    return f"{short(found.median)} ({short(found.low)} to {short(found.high)}, n={found.n})"


if __name__ == "__main__":
    main()
