"""Seeds of a small model: all in one process (`vectorize: seeds`), a process each one by one, or two at a time.

    python -m benchmarks.seeds                 # whole commands, start-up and scoring included
    python -m benchmarks.seeds --stacking      # single steps: models in turn against stacked by torch.func

Figures are ratios to the seeds in one process, which trains them one after another on features that it loads once,
measured in the same round: above 1, the seeds in one process are faster. The last are ratios of all seeds, shared out
to two processes (`--jobs 2`), to one seed alone. Each process has one thread, but where two are named. Data have the
shapes of the quick start or of POM; their values are random.

The stacked models are what stacking could give at best: all see the same streams and drop nothing out, so that no shape
and no mask differs between them, which in training they do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from aqa.models import build
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from benchmarks.harness import Report, adopt_orphans, options, orphans, parsed

R = TypeVar("R")

MODALITIES = ("visual", "audio", "flow")
BATCH = 32


@dataclass(frozen=True)
class Size:
    """A model and the shapes of its data."""

    hidden_dim: int
    widths: tuple[int, int, int]
    clips: tuple[int, int]  # fewest and most of a video
    splits: tuple[int, int, int]  # videos that train, validate and test


SIZES = {
    "quickstart": Size(32, (16, 12, 16), (8, 12), (1000, 200, 600)),
    "pom": Size(64, (41, 43, 41), (10, 20), (600, 100, 203)),
}


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 3, 5])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only-shared", action="store_true", help="only the ratios to one seed alone")
    parser.add_argument("--stacking", action="store_true")
    arguments, device = parsed(parser)
    if device.type != "cpu":
        sys.exit("seeds: processes of one thread are compared, on a CPU")
    os.environ["OMP_NUM_THREADS"] = "1"
    report = Report("seeds-stacking" if arguments.stacking else "seeds", arguments, device)
    for name in arguments.sizes:
        if arguments.stacking:
            compare_steps(report, name, arguments.seeds, arguments.repeats)
        else:
            epochs, repeats = arguments.epochs, arguments.repeats
            compare_commands(report, name, arguments.seeds, epochs, repeats, arguments.only_shared)
    report.write()


def compare_commands(
    report: Report, name: str, counts: Sequence[int], epochs: int, repeats: int, only_shared: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), SIZES[name], epochs)
        for count in counts:
            found: dict[str, list[float]] = {}
            for repeat in range(repeats):
                for row, ratio in compared(folder, count, f"{count}-{repeat}", only_shared).items():
                    found.setdefault(row, []).append(ratio)
            report.section(f"{name}, {count} seeds of {epochs} epochs")
            for row, ratios in found.items():
                report.add(row, ratios)


def compared(folder: str, count: int, place: str, only_shared: bool) -> dict[str, float]:
    """The ratios of one round."""
    alone, memory = measured(run_all, folder, 1, 1, f"alone-{place}")
    shared, _ = measured(sweep, folder, count, f"shared-{place}", "vectorize: seeds", 2)
    wide, _ = measured(run_all, folder, 1, 1, f"wide-{place}", 2)
    to_one = {
        "shared out to two processes / one alone": shared / alone,
        "the same / one alone with two threads": shared / wide,
    }
    if only_shared:
        return to_one
    together, several = measured(sweep, folder, count, f"together-{place}", "vectorize: seeds")
    after, _ = measured(sweep, folder, count, f"after-{place}")
    pairs, _ = measured(run_all, folder, count, 2, f"pairs-{place}")
    return {
        "one alone, times the seeds / in one process": count * alone / together,
        "aqa sweep without / in one process": after / together,
        "two at a time / in one process": pairs / together,
        **to_one,
        "memory in one process / of one seed": several / memory,
    }


def write_files(folder: Path, size: Size, epochs: int) -> None:
    """A store of random features, and an experiment over it."""
    rng = np.random.default_rng(0)
    count = sum(size.splits)
    lengths = rng.integers(*size.clips, endpoint=True, size=count)
    ends = np.cumsum(size.splits)
    widths = dict(zip(MODALITIES, size.widths, strict=True))
    write_store(
        folder / "store.h5",
        name="random",
        source="made for a benchmark",
        ids=[f"video {i}" for i in range(count)],
        modalities={m: Modality(width, lengths) for m, width in widths.items()},
        targets={"score": Target(rng.uniform(0, 10, count), 0, 10)},
        splits={"train": range(ends[0]), "valid": range(ends[0], ends[1]), "test": range(ends[1], ends[2])},
        read=lambda m, row: rng.standard_normal((lengths[row], widths[m])).astype(np.float32),
    )
    experiment = {
        "name": "small",
        "data": {"store": "store.h5", "target": "score"},
        "model": {"name": "mcmoe", **model_options(size), "dropout": 0.3, "mask_padding": True},
        "missing": {"train": {"random_subset": {"per": "sample"}}},
        "train": {"epochs": epochs, "batch_size": BATCH, "learning_rate": 1e-3, "threads": 1},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(experiment))


def model_options(size: Size) -> dict[str, int]:
    return {"hidden_dim": size.hidden_dim, "n_encoder": 1, "n_decoder": 1}


def run_all(folder: str, seeds: int, at_once: int, name: str, threads: int = 1) -> int:
    """Each seed by a process of its own; returns the most memory that one of them took, in bytes."""
    how = ("run", "small.yaml", f"train.threads={threads}")
    waiting, running, most = list(range(seeds)), [], 0
    while waiting or running:
        while waiting and len(running) < at_once:
            seed = waiting.pop(0)
            running.append(start(folder, *how, f"train.seed={seed}", f"output={name}/{seed}"))
        most = max(most, ended(running.pop(0)))
    return most


def sweep(folder: str, seeds: int, name: str, more: str = "", jobs: int = 1) -> int:
    """All seeds by one `aqa sweep`; returns the most memory that one of its processes took, in bytes."""
    content = f"name: {name}\nexperiments: [small.yaml]\ngrid: {{train.seed: {list(range(seeds))}}}\n{more}\n"
    (Path(folder) / f"{name}.yaml").write_text(content)
    adopt_orphans()
    most = ended(start(folder, "sweep", f"{name}.yaml", "--jobs", str(jobs)))
    return max(most, *(used.ru_maxrss * 1024 for used in orphans()))


def start(folder: str, *arguments: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "-m", "aqa.cli", *arguments], cwd=folder, stdout=quiet, stderr=quiet)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; returns the most memory that it or one of its children took, in bytes."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with status {process.returncode}")
    return usage.ru_maxrss * 1024


def measured(work: Callable[..., R], *arguments: object) -> tuple[float, R]:
    """Wall-clock time of one call, and what it returned."""
    begin = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begin, result


def compare_steps(report: Report, name: str, counts: Sequence[int], repeats: int) -> None:
    for count in counts:
        in_turn, stacked = training_steps(SIZES[name], count)
        apart = max(float((in_turn() - stacked()).abs().max()) for _ in range(20))
        ratios = []
        for _ in range(repeats):
            one, _ = measured(in_turn)
            other, _ = measured(stacked)
            ratios.append(one / other)
        report.section(f"{name}, {count} models")
        report.add("a step in turn / stacked", ratios)
        report.value("losses over 20 steps apart", apart)


class LossOf(nn.Module):
    """A model's loss where every sample has all streams and one is hidden."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.available = torch.ones(BATCH, len(MODALITIES), dtype=torch.bool)
        self.visible = self.available.clone()
        self.visible[torch.arange(BATCH), torch.arange(BATCH) % len(MODALITIES)] = False

    def forward(self, features: dict[str, Tensor], target: Tensor) -> Tensor:
        return self.model.loss(features, target, self.visible, self.available).total


def training_steps(size: Size, count: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A step of so many models in turn, and of the same models stacked; each returns their losses."""
    widths = dict(zip(MODALITIES, size.widths, strict=True))
    losses = []
    for seed in range(count):
        torch.manual_seed(seed)
        losses.append(LossOf(build("mcmoe", widths=widths, **model_options(size), dropout=0.0)).train())
    features = {m: torch.randn(count, BATCH, size.clips[1], width) for m, width in widths.items()}
    target = torch.rand(count, BATCH)
    optimizers = [torch.optim.Adam(loss.parameters(), lr=1e-4) for loss in losses]
    first, buffers = torch.func.stack_module_state(losses)
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in first.items()}
    together = torch.optim.Adam(weights.values(), lr=1e-4)

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], *given: object) -> Tensor:
        return torch.func.functional_call(losses[0], (weights, buffers), given)

    def in_turn() -> Tensor:
        found = []
        for i, (loss, optimizer) in enumerate(zip(losses, optimizers, strict=True)):
            value = loss({m: x[i] for m, x in features.items()}, target[i])
            found.append(step(value, optimizer))
        return torch.stack(found)

    def stacked() -> Tensor:
        values = torch.vmap(one)(weights, buffers, features, target)
        step(values.sum(), together)
        return values.detach()

    return in_turn, stacked


def step(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


if __name__ == "__main__":
    main()
