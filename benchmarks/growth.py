"""How MCMoE's training step grows: time and peak memory against clips, batch, width, modalities and number of videos.

    python -m benchmarks.growth                    figures, and benchmarks/results/growth.png

Sizes are small where they are not what grows, so that it is quick. All sizes of an axis take turns. Memory is what a
process of its own takes beyond what it held before the model was built (on a GPU: what torch allocates). Of both the
exponent of size is given: fitted on log-log over all sizes; between the two largest; and, since much of either does not
grow at all at these sizes, p of c + a size^p through the three largest, which is what growth tends to.

For attention over T clips nothing may grow faster than T^2, and memory no faster than T where attention is fused. What
the step keeps for its backward pass of size T x T is listed, with the line that keeps it.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

from aqa.features.batches import Features, training_batches
from aqa.missing import parse_pattern
from aqa.models import AQAModel
from aqa.models.base import Example
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store
from benchmarks.harness import Report, Work, by_turns, matrix_product, options, parsed, peak_memory, ratios
from benchmarks.steps import build_small, random_batch, scoring, small_shape, training_step

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

WIDTH = 16
CLIPS_CHECKED = 512  # where tensors of T x T are looked for


@dataclass(frozen=True)
class Axis:
    """What grows, through which sizes, evenly spaced on a logarithmic axis; the highest exponents of time and of memory
    that are right; what else is set."""

    sizes: tuple[int, ...]
    time: float
    memory: float
    others: Mapping[str, int]


LONG = Axis((64, 128, 256, 512, 1024, 2048, 4096), 2, 1, {"batch": 2, "hidden_dim": 16, "modalities": 2})
AXES = {
    "clips": LONG,
    "clips, scoring": LONG,
    "batch": Axis((8, 16, 32, 64, 128), 1, 1, {"clips": 64, "hidden_dim": 32, "modalities": 3}),
    "hidden_dim": Axis((32, 64, 128, 256, 512), 2, 2, {"batch": 4, "clips": 32, "modalities": 3}),
    "modalities": Axis((2, 4, 8), 2, 2, {"batch": 16, "clips": 64, "hidden_dim": 32}),
    "videos": Axis((64, 256, 1024, 4096), 1, 1, {"batch": 32, "clips": 32, "modalities": 3}),
}


@dataclass(frozen=True)
class Growth:
    """Of one quantity along one axis: values (n,) at sizes (n,), and the highest exponent that is right."""

    sizes: Sequence[int]
    values: Sequence[float]
    unit: str
    limit: float

    @property
    def exponent(self) -> float:
        """Fitted on log-log over all sizes."""
        return exponent(self.sizes, self.values)

    @property
    def last_exponent(self) -> float:
        """Between the two largest sizes."""
        return exponent(self.sizes[-2:], self.values[-2:])

    @property
    def growing_exponent(self) -> float:
        """p of c + a size^p through the three largest sizes; NaN if values do not grow."""
        return growing_exponent(self.sizes[-3:], self.values[-3:])


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of the least-squares line through log values over log sizes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def growing_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """p of c + a size^p through three values at sizes a constant factor apart; NaN if they do not grow."""
    first, second = np.diff(values)
    if first <= 0 or second <= 0:
        return math.nan
    return float(np.log(second / first) / np.log(sizes[-1] / sizes[-2]))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--dropout", type=float, default=0.3, help="0.3, as training has it")
    parser.add_argument("--most-clips", type=int, default=4096, help="leave out longer videos")
    arguments, device = parsed(parser)
    report = Report("growth", arguments, device)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.axes:
            sizes = [s for s in AXES[name].sizes if s <= arguments.most_clips or not name.startswith("clips")]
            works = works_along(name, sizes, arguments.dropout, device, Path(folder))
            found[name] = measure(name, works, arguments.repeats, device, report)
    if "clips" in arguments.axes:
        report_squares(arguments.dropout, device, report)
    report.write()
    print(f"plot: {draw(found, report.out.with_suffix('.png'))}")


def works_along(
    name: str, sizes: Sequence[int], dropout: float, device: torch.device, folder: Path
) -> dict[int, tuple[Any, ...]]:
    """By size, a function that makes the work and its arguments."""
    if name == "videos":
        return {size: (reading, write_videos(folder / f"{size}.h5", size), device) for size in sizes}
    make = scoring_at if name == "clips, scoring" else step_at
    settings = [{**AXES[name].others, name.split(",")[0]: size, "dropout": dropout} for size in sizes]
    return {size: (make, given, device) for size, given in zip(sizes, settings, strict=True)}


def measure(
    name: str, works: Mapping[int, tuple[Any, ...]], repeats: int, device: torch.device, report: Report
) -> list[Growth]:
    """Time and memory at each size, and how they grow."""
    timed = {str(size): Work(make(*given)) for size, (make, *given) in works.items()}
    seconds = by_turns({"product": matrix_product(device), **timed}, repeats, device)
    memory = [peak_memory(make, *given, device=device).added / 2**20 for make, *given in works.values()]
    axis, sizes = AXES[name], list(works)
    report.section(f"{name} {sizes[0]} to {sizes[-1]}; {', '.join(f'{k} {v}' for k, v in axis.others.items())}")
    report.add("matrix product", seconds["product"], "s")
    for size, held in zip(sizes, memory, strict=True):
        report.add(f"{size}: time", seconds[str(size)], "s")
        report.add(f"{size}: time / matrix product", ratios(seconds[str(size)], seconds["product"]))
        report.value(f"{size}: memory", held, "MiB")
    medians = [statistics.median(seconds[str(size)]) for size in sizes]
    grown = [Growth(sizes, medians, "s", axis.time), Growth(sizes, memory, "MiB", axis.memory)]
    for what, growth in zip(("time", "memory"), grown, strict=True):
        report.value(f"{what}: exponent over all sizes", growth.exponent)
        report.value(f"{what}: exponent of the two largest", growth.last_exponent)
        report.value(
            f"{what}: exponent of the part that grows", growth.growing_exponent, f"(at most {growth.limit:g} is right)"
        )
    return grown


def step_at(settings: Mapping[str, Any], device: torch.device) -> Callable[[], object]:
    """A training step of MCMoE with batch, clips, modalities and options as given."""
    return training_step(*model_and_batch(settings, device))


def scoring_at(settings: Mapping[str, Any], device: torch.device) -> Callable[[], object]:
    """A scoring of a batch, likewise."""
    return scoring(*model_and_batch(settings, device))


def model_and_batch(settings: Mapping[str, Any], device: torch.device) -> tuple[AQAModel, Example]:
    shape = small_shape(settings["modalities"], WIDTH, settings["clips"], settings["batch"])
    wanted = {"n_head": 2, "n_encoder": 1, "n_decoder": 1, "mask_padding": True, **settings}
    return build_small("mcmoe", shape.widths, **wanted).to(device), random_batch(shape, device, padded=True)


def write_videos(path: Path, videos: int) -> Path:
    """A store of so many random videos."""
    clips, streams = AXES["videos"].others["clips"], AXES["videos"].others["modalities"]
    values = np.random.default_rng(0).standard_normal((clips, WIDTH), dtype=np.float32)
    write_store(
        path,
        name="videos",
        source="random numbers",
        ids=[f"{i:06d}" for i in range(videos)],
        modalities={f"m{i}": Modality(WIDTH, np.full(videos, clips)) for i in range(streams)},
        targets={"score": Target(np.zeros(videos), 0.0, 1.0)},
        splits={"train": np.arange(videos)},
        read=lambda modality, row: values,
    )
    return path


def reading(path: Path, device: torch.device) -> Callable[[], object]:
    """Opening a store, loading it and making one epoch's batches of it."""
    clips, size = AXES["videos"].others["clips"], AXES["videos"].others["batch"]

    def read() -> None:
        with FeatureStore(path) as store:
            features = Features(store, device=device)
            rows = store.split("train")
        pattern = parse_pattern("random_subset", features.modalities, "missing.train")
        available = features.available[rows]
        for _ in training_batches(features, rows, available, pattern, clips=clips, size=size, seed=0, epoch=1):
            pass

    return read


def squares_kept(model: AQAModel, batch: Example) -> Counter[str]:
    """What the loss keeps for its backward pass that has T x T numbers per video or more, by the line that keeps it."""
    rows, clips = next(iter(batch.features.values())).shape[:2]
    kept: Counter[str] = Counter()

    def look(tensor: Tensor) -> Tensor:
        if tensor.numel() >= rows * clips**2:
            call = [c for c in traceback.extract_stack()[:-1] if "/torch/" not in c.filename][-1]
            kept[f"{Path(call.filename).name}:{call.lineno} {' x '.join(map(str, tensor.shape))}"] += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(look, lambda tensor: tensor):
        model.train().loss(*batch)
    return kept


def report_squares(dropout: float, device: torch.device, report: Report) -> None:
    """Say which tensors of T x T a training step keeps, if any."""
    model, batch = model_and_batch({**AXES["clips"].others, "clips": CLIPS_CHECKED, "dropout": dropout}, device)
    kept = squares_kept(model, batch)
    report.section(f"tensors of T x T kept for the backward pass at T = {CLIPS_CHECKED}, dropout {dropout}")
    for line, count in kept.items():
        report.value(line, count)
    report.value("all", sum(kept.values()))


def draw(found: Mapping[str, Sequence[Growth]], path: Path) -> Path:
    """Time above memory, a column an axis, with the fitted lines."""
    figure, axes = plt.subplots(2, len(found), figsize=(3.6 * len(found), 6.4), squeeze=False, layout="constrained")
    for column, (name, grown) in enumerate(found.items()):
        for plot, growth, what in zip(axes[:, column], grown, ("time", "memory"), strict=True):
            sizes = np.array(growth.sizes, dtype=float)
            slope = growth.exponent
            middle = np.exp(np.mean(np.log(growth.values)) - slope * np.mean(np.log(sizes)))
            plot.loglog(sizes, growth.values, "o", color="#1f4e79")
            plot.loglog(sizes, middle * sizes**slope, "-", color="#c55a11", label=f"all sizes: {slope:.2f}")
            plot.plot([], [], " ", label=f"two largest: {growth.last_exponent:.2f}")
            plot.plot([], [], " ", label=f"growing part: {growth.growing_exponent:.2f}")
            plot.set_xticks(growth.sizes, [str(size) for size in growth.sizes], rotation=45)
            plot.minorticks_off()
            plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            plot.yaxis.set_major_formatter("{x:g}")
            plot.set_xlabel(name)
            plot.set_ylabel(f"{what} ({growth.unit})")
            plot.grid(alpha=0.3)
            plot.legend(title="exponent", fontsize=8, title_fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
