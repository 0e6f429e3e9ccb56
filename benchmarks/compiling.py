"""How far training compiled by torch's own compiler is from plain training, and how long compiling takes.

    python -m benchmarks.compiling                             all models that can be compiled: half an hour on a CPU
    python -m benchmarks.compiling --models mean_fill pamfn

Small models (width 16) and batches of eight videos, without dropout. The plain model and the compiled one get the same
random numbers, and take six steps of Adam on batches that show other modalities each. The differences are the largest
of the first loss and of its gradients, of the last loss as a share of it, and of the weights after the last step: in
float64, where a fault would not hide behind rounding errors, and in float32.

In float32 weights are apart that have no gradient but rounding errors, such as a bias before a batch norm: Adam makes
steps of these. Batch norms begin with biases other than zero. At zero, where they do begin, a batch norm of equal
numbers leaves rounding errors, whose sign decides what the ReLU after it lets through: see tests/training/test_step.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aqa.config.schema import TrainConfig
from aqa.models import MODELS, AQAModel
from aqa.models.base import Example
from aqa.models.ensemble import visible_sets
from aqa.training.loop import training_step
from benchmarks.harness import Report, options, parsed, timed
from benchmarks.steps import Shape, build_small, random_batch

FIXED = [entry.name for entry in MODELS.entries() if entry.make.fixed_shapes]
SMALL = {"hidden_dim": 16, "n_encoder": 1, "n_decoder": 1, "n_fusion": 2, "dropout": 0.0, "mask_padding": True}
SHAPE = Shape({"visual": 12, "audio": 8, "flow": 10}, clips=9, rows=8)
STEPS = 6


class Trained(NamedTuple):
    """What training gives: each loss, the gradients of the first, and the weights in the end."""

    losses: Tensor
    gradients: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    first_step: float  # seconds


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--models", nargs="+", choices=FIXED, default=FIXED)
    arguments, device = parsed(parser)
    report = Report("compiling", arguments, device)
    for name in arguments.models:
        for dtype in (torch.float64, torch.float32):
            report.section(f"{name}, {str(dtype).removeprefix('torch.')}")
            with numbers_in(dtype), torch._inductor.config.patch(fallback_random=True):
                plain, compiled = (train(name, device, way) for way in (False, True))
            last, other = plain.losses[-1], compiled.losses[-1]
            report.value("first loss", float((compiled.losses[0] - plain.losses[0]).abs()))
            report.value("its gradients", apart(compiled.gradients, plain.gradients))
            report.value(f"loss of step {STEPS}, a share", float((other - last).abs() / last))
            report.value(f"weights after step {STEPS}", apart(compiled.weights, plain.weights))
            report.value("first step, compiling", compiled.first_step, "s")
    report.write()


@contextmanager
def numbers_in(dtype: torch.dtype) -> Any:
    """Inside, new tensors are of a type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def train(name: str, device: torch.device, compiled: bool) -> Trained:
    """Six steps of a model on six batches."""
    model = off_zero(build_small(name, SHAPE.widths, **SMALL)).to(device).train()
    step = training_step(model, TrainConfig(batch_size=SHAPE.rows, compile=compiled))
    losses: list[Tensor] = []
    gradients: dict[str, Tensor] = {}
    seconds: list[float] = []
    for number in range(STEPS):
        batch = batch_of(number, device)
        torch.manual_seed(number)
        idle = model.idle_parts(batch.visible.cpu(), batch.available.cpu())
        seconds.append(timed(lambda: losses.append(step(batch, idle).total), device))  # noqa: B023
        if number == 0:
            gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    return Trained(torch.stack(losses), gradients, model.state_dict(), seconds[0])


def off_zero(model: AQAModel) -> AQAModel:
    """The model with biases of batch norms that are not zero."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.bias.data.uniform_(-0.1, 0.1)
    return model


def batch_of(number: int, device: torch.device) -> Example:
    """A batch whose rows show every set of modalities; every second batch every set without the last one."""
    batch = random_batch(SHAPE, device, padded=True)
    sets = torch.tensor(visible_sets(len(SHAPE.widths)), device=device)
    sets = sets[~sets[:, -1]] if number % 2 else sets
    return batch._replace(visible=sets[(torch.arange(SHAPE.rows, device=device) + number) % len(sets)])


def apart(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference of two sets of tensors of the same names."""
    if found.keys() != expected.keys():
        raise ValueError(f"only one of the two has {sorted(found.keys() ^ expected.keys())}")
    return max(float((found[key].double() - each.double()).abs().max()) for key, each in expected.items())


if __name__ == "__main__":
    main()
