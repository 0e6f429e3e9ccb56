"""One step of training, as the training loop and the benchmarks do it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from aqa.models import AQAModel, Loss
from aqa.models.base import Example
from aqa.system.precision import Precision, autocast, float32_products
from aqa.training.compiling import CompiledLoss


class TrainingStep:
    """Loss, backward, and the optimizer's step.

    gradient_clip: the largest norm of the gradient. compiled_rows: batches of so many rows go through a compiled loss.
    Nothing here reads a number from the device, so that a GPU's queue of work is never waited for.
    """

    def __init__(
        self,
        model: AQAModel,
        optimizer: torch.optim.Optimizer,
        *,
        gradient_clip: float | None = None,
        precision: Precision = "float32",
        compiled_rows: int | None = None,
    ):
        self.model, self.optimizer = model, optimizer
        self.gradient_clip, self.precision = gradient_clip, precision
        self.device = next(model.parameters()).device
        self.loss = model.loss if compiled_rows is None else CompiledLoss(model, compiled_rows, self.device)

    def __call__(self, batch: Example, idle: Iterable[nn.Module] = ()) -> Loss:
        """Take a step on a batch; returns its loss. idle: parts of the model that the batch has nothing to teach."""
        self.optimizer.zero_grad(set_to_none=True)
        with float32_products(self.precision):
            with autocast(self.precision, self.device):
                loss = self.loss(batch.features, batch.target, batch.visible, batch.available, batch.lengths)
            loss.total.backward()
        for part in idle:  # no gradient is not a gradient of zero, after which Adam would move by its momentum
            part.zero_grad(set_to_none=True)
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()
        return Loss(loss.total.detach(), {name: value.detach() for name, value in loss.parts.items()})
