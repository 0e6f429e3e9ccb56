"""Training steps and scorings for benchmarks to time, on random features of the data sets' shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

import aqa.training.loop
from aqa.config.schema import TrainConfig
from aqa.models import MODELS, AQAModel, build
from aqa.models.base import Example
from aqa.registry import option_names
from aqa.store.synthetic import PRESETS
from aqa.system.precision import Precision


class Shape(NamedTuple):
    """What a batch has: the channels of each modality, clips per video, videos."""

    widths: Mapping[str, int]
    clips: int
    rows: int = 32


def shape_of(preset: str, rows: int = 32) -> Shape:
    """A batch of a data set's full-size windows."""
    process = PRESETS[preset]
    return Shape({m: stream.width for m, stream in process.streams.items()}, process.lengths[1], rows)


def small_shape(modalities: int, width: int, clips: int, rows: int) -> Shape:
    """Any number of modalities of one width."""
    return Shape({f"m{i}": width for i in range(modalities)}, clips, rows)


def random_batch(shape: Shape, device: torch.device, padded: bool = False) -> Example:
    """Every row lacks one of its modalities, in turn; padded: up to a third of a row's clips are padding."""
    torch.manual_seed(0)
    rows, names = torch.arange(shape.rows, device=device), list(shape.widths)
    features = {m: torch.randn(shape.rows, shape.clips, width, device=device) for m, width in shape.widths.items()}
    available = torch.ones(shape.rows, len(names), dtype=torch.bool, device=device)
    visible = available.clone()
    visible[rows, rows % len(names)] = len(names) == 1
    lengths = shape.clips - rows % (shape.clips // 3 + 1)
    target = torch.rand(shape.rows, device=device)
    return Example(features, target, visible, available, dict.fromkeys(names, lengths) if padded else None)


def training_step(
    model: AQAModel, batch: Example, precision: Precision = "float32", compiled: bool = False
) -> Callable[[], object]:
    """What training does with a batch, by the code that does it."""
    settings = TrainConfig(precision=precision, compile=compiled, batch_size=len(batch.target))
    step = aqa.training.loop.training_step(model.train(), settings)
    idle = model.idle_parts(batch.visible.cpu(), batch.available.cpu())
    return lambda: step(batch, idle)


def scoring(model: AQAModel, batch: Example) -> Callable[[], object]:
    """What testing does with a batch under one pattern."""
    model.eval()

    def score() -> None:
        with torch.inference_mode():
            model.score(batch.features, batch.visible, batch.lengths)

    return score


def build_small(name: str, widths: Mapping[str, int], **wanted: Any) -> AQAModel:
    """A model with those of the wanted options that it takes."""
    torch.manual_seed(0)
    taken = option_names(MODELS.get(name).make)
    return build(name, widths=widths, **{key: value for key, value in wanted.items() if key in taken})
