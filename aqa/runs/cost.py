"""What training on long windows costs, estimated before it begins."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aqa.layers.transformer import SelfAttention
from aqa.models import AQAModel
from aqa.runs.table import duration
from aqa.system.memory import GIB

LONG = 2048  # clips: in shorter windows attention is a small part of a step
PROBE = 8  # clips of the shortest of three windows on which a model is tried out
PASSES = 3  # forward, and twice as much backward


def attention_note(
    model: AQAModel, clips: int, lengths: NDArray[np.int64], batch_size: int, device: torch.device
) -> list[str]:
    """A line on the memory and the time of a step, where windows of so many clips are long; otherwise none.

    lengths: (n, M), clips of the training videos' streams, 0 for absent ones.
    """
    if clips < LONG or model.closed_form:
        return []
    rows = min(batch_size, len(lengths))
    numbers, operations = probe(model, device)
    step = f"about {rows * clips * numbers * 4 / GIB:.2g} GiB"
    if operations:
        seconds = PASSES * rows * operations * clips**2 / speed(device)
        step += f" and, for attention alone, {duration(seconds)}"
    median = int(np.median(lengths.max(axis=1)))
    return [
        f"a window has {clips} clips, the median training video {median}: a step of {rows} videos takes {step}; "
        "data.clips crops long videos"
    ]


def probe(model: AQAModel, device: torch.device) -> tuple[float, float]:
    """Numbers that a training step keeps per video and clip, and attention's operations per video and pair of clips.

    Counted on a copy of the model, in windows of a few clips of one video with all modalities.
    """
    twin = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[]):
        (first, _), (second, _), (third, operations) = (tried(twin, i * PROBE, device) for i in (1, 2, 3))
    # What is quadratic in clips, attention's weights, is not kept in long windows; the linear part of the three is.
    quadratic = (third - 2 * second + first) / (2 * PROBE**2)
    return max((second - first) / PROBE - 3 * PROBE * quadratic, 0.0), operations


def tried(model: AQAModel, clips: int, device: torch.device) -> tuple[int, float]:
    """Numbers kept by the loss of two equal videos per video, and attention's operations per pair of clips."""
    kept, operations = [0], [0.0]

    def keep(tensor: Tensor) -> Tensor:
        kept[0] += tensor.numel()
        return tensor

    def count(module: nn.Module, given: tuple[Any, ...], found: object) -> None:
        rows, steps, width = given[0].shape
        operations[0] += 4 * rows * steps**2 * width

    attention = [module for module in model.modules() if isinstance(module, SelfAttention)]
    handles = [module.register_forward_hook(count) for module in attention]
    features = {m: torch.zeros(2, clips, width, device=device) for m, width in model.widths.items()}
    seen = torch.ones(2, len(model.widths), dtype=torch.bool, device=device)
    lengths = {m: torch.full((2,), clips, device=device) for m in model.widths}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(features, torch.zeros(2, device=device), seen, seen, lengths)
    for handle in handles:
        handle.remove()
    return kept[0] // 2, operations[0] / 2 / clips**2


def speed(device: torch.device, clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations of a matrix product a second."""
    size = 512
    matrix = torch.ones(size, size, device=device)
    (matrix @ matrix).sum().item()
    begun = clock()
    (matrix @ matrix).sum().item()
    return 2 * size**3 / max(clock() - begun, 1e-6)
