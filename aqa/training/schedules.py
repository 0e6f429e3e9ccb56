"""Learning rates over the epochs, and the stages in which optimizer and rate begin anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from aqa.config.schema import TrainConfig
from aqa.models import AQAModel


class Stage(NamedTuple):
    """Epochs that share an optimizer and a schedule. first: counted from 1; settings: `epochs` is the stage's own."""

    first: int
    settings: TrainConfig


def stages_of(model: AQAModel, settings: TrainConfig) -> list[Stage]:
    """The stages of a training: those that the experiment lists, else where the model says that one begins."""
    if settings.stages:
        each = settings.by_stage()
        firsts = [1 + sum(before.epochs for before in each[:number]) for number in range(len(each))]
        return [Stage(first, own) for first, own in zip(firsts, each, strict=True)]
    firsts = sorted({1, *(first for first in model.stage_starts() if first <= settings.epochs)})
    ends = [*firsts[1:], settings.epochs + 1]
    lengths = [end - first for first, end in zip(firsts, ends, strict=True)]
    return [
        Stage(first, settings.model_copy(update={"epochs": length}))
        for first, length in zip(firsts, lengths, strict=True)
    ]


def stage_of(stages: list[Stage], epoch: int) -> Stage:
    """The stage that an epoch, counted from 1, belongs to."""
    return [stage for stage in stages if stage.first <= max(epoch, 1)][-1]


def scheduler_of(optimizer: torch.optim.Optimizer, settings: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of each epoch of a stage, for each group of parameters.

    Every group ends at the same rate, `final_learning_rate` times `learning_rate`, under `cosine`, as in torch.
    """
    lowest = settings.learning_rate * settings.final_learning_rate
    if settings.schedule == "cosine" and not settings.warmup:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.epochs, eta_min=lowest)
    ends = [lowest / group["lr"] for group in optimizer.param_groups]
    rates: list[Callable[[int], float]] = [partial(share_of_rate, settings, end) for end in ends]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def share_of_rate(settings: TrainConfig, end: float, epoch: int) -> float:
    """Which share of its learning rate a group has in an epoch, counted from 0; end: where a cosine leads.

    Warm-up: (1, 2, ...) / warmup in its epochs; the schedule begins after it, at the full rate.
    """
    if epoch < settings.warmup:
        return (epoch + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "step":
        return settings.step_factor ** steps_done(settings.steps or [], epoch)
    done = (epoch - settings.warmup) / max(settings.epochs - settings.warmup, 1)
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2


def steps_done(steps: int | Sequence[int], epoch: int) -> int:
    """How often the rate has been lowered when so many epochs are done."""
    return epoch // steps if isinstance(steps, int) else sum(step <= epoch for step in steps)
