"""A model's loss through torch.compile."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from aqa.errors import AqaError, first_line
from aqa.models import AQAModel, Loss
from aqa.models.base import Example

BACKEND = "inductor"  # torch's own: C++ on a CPU, Triton on a GPU


class CompiledLoss:
    """A model's loss, compiled for batches of so many rows; those of fewer rows, an epoch's last, go uncompiled.

    Compiled whole, or not at all: what cannot be is an error and no quiet return to the interpreter. On a GPU the work
    of a step is captured as a CUDA graph and replayed.
    """

    def __init__(self, model: AQAModel, rows: int, device: torch.device):
        self.plain, self.rows, self.graphs = model.loss, rows, device.type == "cuda"
        options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": BACKEND}
        options["isolate_recompiles"] = True  # what other models of this process compiled does not count against this
        if self.graphs:
            options["mode"] = "reduce-overhead"
        self.compiled = torch.compile(model.loss, **options)

    def __call__(self, *batch: Any) -> Loss:
        """What the model's loss takes and gives."""
        if len(Example(*batch).target) != self.rows:
            return self.plain(*batch)
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self.compiled(*batch)


def require_compiling(model: AQAModel, name: str, rows: int, batch_size: int, device: torch.device) -> None:
    """AqaError if `train.compile` is not for a model, a training set of so many rows, or this machine."""
    if not model.fixed_shapes:
        raise AqaError(f"train.compile: model '{name}' picks the rows that it works on; leave it out")
    if rows < batch_size:
        raise AqaError(
            f"train.compile: only batches of train.batch_size {batch_size} videos are compiled, "
            f"and {rows} videos train; lower it or leave compile out"
        )
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        raise AqaError(f"train.compile needs torch 2.13 or later, this is {torch.__version__}")
    try:
        torch.compile(_probe, backend=BACKEND, dynamic=False)(torch.zeros(64, device=device))
    except Exception as error:  # torch has a class of its own for each compiler that may be missing
        raise AqaError(f"train.compile: torch cannot compile here: {first_line(error)}") from None


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1
