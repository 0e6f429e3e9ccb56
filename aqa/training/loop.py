"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from aqa.config.schema import TrainConfig
from aqa.errors import AqaError, NotANumber
from aqa.features.batches import Batch
from aqa.models import AQAModel
from aqa.models.base import Example
from aqa.system.signals import uninterrupted
from aqa.training.optimizers import optimizer_of
from aqa.training.random_state import random_state, set_random_state
from aqa.training.schedules import scheduler_of, stage_of, stages_of
from aqa.training.step import TrainingStep

BAR = "{desc} {bar} {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
SECONDS_BETWEEN_SAVES = 30.0  # where an experiment does not say


@dataclass
class Progress:
    """How far training is, and the best weights so far by the selection metric."""

    epoch: int = 0  # epochs done
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0  # 0: the selection metric was undefined in every epoch so far
    best_value: float = math.nan
    best_weights: dict[str, Tensor] = field(default_factory=dict)


class Diverged(NotANumber):
    """Training that came to numbers which are none; progress is that of the epochs before."""

    def __init__(self, what: str, epoch: int, progress: Progress):
        super().__init__(f"{what} in epoch {epoch}; a lower train.learning_rate may help")
        self.progress = progress


def train(
    model: AQAModel,
    batches: Callable[[int], Iterator[Batch]],
    target: Tensor,
    measure: Callable[[], Mapping[str, float]],
    metric: Literal["srcc", "mse"],
    measured_on: str,
    settings: TrainConfig,
    saved: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    show_progress: bool = True,
    save_every: float | None = None,
    stop: Callable[[int, float], bool] | None = None,
    others: Tensor | None = None,
) -> Progress:
    """Train a model, and remember its weights in the epoch with the best selection metric.

    batches(epoch) yields an epoch's batches; target (N,) in [0, 1] is indexed by their rows. measure() returns the
    model's selection metrics on the split `measured_on`; the highest "srcc" or the lowest "mse" decides. saved: a state
    passed to `save` earlier, from which training resumes exactly; save_every: seconds between two. One that is stopped
    between epochs saves those that it did; by Ctrl-C or SIGTERM in the middle of one, it ends that first if there are
    others to save. stop(epoch, value): whether training ends after an epoch, by the selection metric's value in it.
    A `closed_form` model is fitted in one epoch; others (N, K): further labels that it learns from, NaN where unknown.
    Diverged, an AqaError, where the loss, a weight or a score is no longer a number.
    """
    if model.closed_form:
        return _fitted(model, batches, target, others, measure, metric, measured_on, on_epoch)
    model.epochs = settings.epochs
    stages = stages_of(model, settings)
    stage = stage_of(stages, _epochs_done(saved))
    step = training_step(model, stage.settings)
    scheduler = scheduler_of(step.optimizer, stage.settings)
    progress = Progress() if saved is None else _resumed(saved, model, step.optimizer, scheduler)

    interval = SECONDS_BETWEEN_SAVES if save_every is None else save_every
    last_save, saved_epoch = time.monotonic(), progress.epoch
    random, in_order = random_state(), True  # in_order: the model is as it was at the end of progress.epoch

    def keep() -> None:
        nonlocal saved_epoch, last_save
        if save is not None and progress.epoch > saved_epoch:
            save(_state(model, step.optimizer, scheduler, progress, random))
            saved_epoch, last_save = progress.epoch, time.monotonic()

    try:
        with _bar(progress.epoch, settings.epochs, show_progress) as bar:
            while not _is_over(progress, settings, f"{measured_on}_{metric}", stop):
                in_order = False
                if (ahead := stage_of(stages, progress.epoch + 1)) != stage:
                    stage, scheduler = ahead, _begin(step, ahead.settings)
                with uninterrupted() if progress.epoch > saved_epoch else nullcontext():
                    try:
                        row = _epoch(step, progress.epoch + 1, batches, target, scheduler)
                        row |= {f"{measured_on}_{name}": value for name, value in measure().items()}
                    except NotANumber as error:
                        raise Diverged(str(error), progress.epoch + 1, progress) from None
                    _note(progress, row, row[f"{measured_on}_{metric}"], metric, model)
                    if on_epoch is not None:
                        on_epoch(row)
                    random, in_order = random_state(), True
                    bar.update()
                    bar.set_postfix_str(shown_values(row, measured_on, metric))
                    if time.monotonic() - last_save > interval:
                        keep()
    except KeyboardInterrupt:
        if in_order:
            keep()
        raise
    keep()  # what follows, scoring and figures, may be stopped as well
    if not progress.best_epoch:
        progress.best_weights = model.state_dict()
    return progress


def _begin(step: TrainingStep, settings: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Go on with the optimizer of another stage, as new; returns its schedule."""
    step.optimizer, step.gradient_clip = optimizer_of(step.model, settings), settings.gradient_clip
    return scheduler_of(step.optimizer, settings)


def _epochs_done(saved: Mapping[str, Any] | None) -> int:
    """How many epochs a saved state has; 0 where there is none, or one of something else."""
    progress = saved.get("progress") if isinstance(saved, Mapping) else None
    done = progress.get("epoch") if isinstance(progress, Mapping) else None
    return done if isinstance(done, int) else 0


def _resumed(
    saved: Mapping[str, Any],
    model: AQAModel,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> Progress:
    """Bring everything to a saved state, torch's random numbers included; AqaError if it is another model's."""
    try:
        progress = Progress(**saved["progress"])
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])
        set_random_state(saved["random"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise AqaError(f"the saved state is not one of this model: {' '.join(str(error).split())[:300]}") from None
    return progress


def _bar(done: int, epochs: int, shown: bool) -> tqdm:
    """A progress bar, where there is a terminal to show it."""
    return tqdm(
        total=epochs,
        initial=done,
        unit="epoch",
        desc="training",
        disable=None if shown else True,
        dynamic_ncols=True,
        bar_format=BAR,
    )


def shown_values(row: Mapping[str, float], measured_on: str, metric: str) -> str:
    """The loss and the selection metric of an epoch, as the progress bar has room for."""
    return f"loss {row['loss']:.3g}, {measured_on} {metric.upper()} {row[f'{measured_on}_{metric}']:.3f}"


def _epoch(
    step: TrainingStep,
    epoch: int,
    batches: Callable[[int], Iterator[Batch]],
    target: Tensor,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> dict[str, float]:
    """Train for an epoch; returns its row of the history, except for what is measured. NotANumber where it diverged."""
    learning_rate = float(scheduler.get_last_lr()[0])
    step.model.start_epoch(epoch)
    if step.model.surveys(epoch):
        step.model.eval()
        with torch.no_grad():
            step.model.survey(_example(batch, target) for batch in batches(epoch))
    losses = train_epoch(step, batches(epoch), target)
    if not math.isfinite(losses["loss"]):
        raise NotANumber(f"the loss is {losses['loss']}")
    if not weights_are_finite(step.model):
        raise NotANumber("the loss is a number but a weight is none")
    scheduler.step()
    return {"epoch": float(epoch), "learning_rate": learning_rate, **losses}


def _note(progress: Progress, row: dict[str, float], value: float, metric: str, model: AQAModel) -> None:
    """An epoch is done: keep its row, and the weights where its value of the selection metric is the best so far."""
    progress.epoch = int(row["epoch"])
    progress.history.append(row)
    if _better(value, progress.best_value, metric):
        progress.best_epoch, progress.best_value = progress.epoch, value
        progress.best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}


def train_epoch(step: TrainingStep, batches: Iterator[Batch], target: Tensor) -> dict[str, float]:
    """One pass over the training set; returns the means over its batches of the loss and its parts."""
    step.model.train()
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        loss = step(_example(batch, target), step.model.idle_parts(*batch.on_host))
        # Summed on the device: reading a number here would stop the queue of work.
        for name, value in {"": loss.total, **loss.parts}.items():
            key = f"loss_{name}" if name else "loss"
            sums[key] = sums.get(key, torch.zeros_like(value)) + value
        count += 1
    if not count:
        raise AqaError("missing.train leaves no training sample with a visible modality")
    return {name: float(value) / count for name, value in sums.items()}


def _example(batch: Batch, target: Tensor) -> Example:
    return Example(batch.features, target[batch.rows], batch.visible, batch.available, batch.lengths)


def weights_are_finite(model: torch.nn.Module) -> bool:
    """Whether every parameter and buffer of a model is a finite number."""
    numbers = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return not numbers or bool(torch.stack([tensor.isfinite().all() for tensor in numbers]).all())


def _fitted(
    model: AQAModel,
    batches: Callable[[int], Iterator[Batch]],
    target: Tensor,
    others: Tensor | None,
    measure: Callable[[], Mapping[str, float]],
    metric: str,
    measured_on: str,
    on_epoch: Callable[[Mapping[str, float]], None] | None,
) -> Progress:
    """The one epoch of a model that is fitted in closed form; there is nothing to choose."""
    losses = model.fit(
        Example(
            batch.features,
            target[batch.rows],
            batch.visible,
            batch.available,
            batch.lengths,
            None if others is None else others[batch.rows],
        )
        for batch in batches(1)
    )
    measured = {f"{measured_on}_{name}": value for name, value in measure().items()}
    row = {"epoch": 1.0, "learning_rate": 0.0, **losses, **measured}
    if on_epoch is not None:
        on_epoch(row)
    return Progress(1, [row], 1, measured[f"{measured_on}_{metric}"], model.state_dict())


def training_step(model: AQAModel, settings: TrainConfig) -> TrainingStep:
    """A step with the optimizer that the settings ask for."""
    return TrainingStep(
        model,
        optimizer_of(model, settings),
        gradient_clip=settings.gradient_clip,
        precision=settings.precision,
        compiled_rows=settings.batch_size if settings.compile else None,
    )


def _better(value: float, best: float, metric: str) -> bool:
    if math.isnan(value):
        return False
    return math.isnan(best) or (value > best if metric == "srcc" else value < best)


def _is_over(progress: Progress, settings: TrainConfig, metric: str, stop: Callable[[int, float], bool] | None) -> bool:
    """Whether no epoch follows: all are done, patience is out, or `stop` says so of the last one's `metric`."""
    patience, done = settings.patience, progress.epoch
    if done >= settings.epochs or (patience is not None and done - progress.best_epoch >= patience):
        return True
    return stop is not None and done > 0 and stop(done, progress.history[-1][metric])


def _state(
    model: AQAModel,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    progress: Progress,
    random: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "progress": asdict(progress),
        "random": random,
    }
