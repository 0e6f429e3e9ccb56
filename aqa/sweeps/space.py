"""A search space: which settings are searched, by dotted key, and between what.

train.learning_rate: {log: [1e-4, 1e-2]}     numbers, evenly on a logarithmic scale
model.dropout: {float: [0, 0.5]}             numbers
model.n_encoder: {int: [1, 3]}               whole numbers, both ends among them
model.hidden_dim: [32, 64, 128]              one of a list
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aqa.config.dialect import in_one_line
from aqa.errors import AqaError, brief, nearest

Scale = Literal["log", "float", "int"]

SCALES: tuple[Scale, ...] = ("log", "float", "int")
FORMS = "a list of choices, {log: [low, high]}, {float: [low, high]} or {int: [low, high]}"
#: What may be searched: how a model is made and trained. All else decides what is measured, or on which videos.
SEARCHABLE = (
    "model",
    "missing.train",
    "data.align",
    "data.clips",
    "data.standardize",
    "train.epochs",
    "train.batch_size",
    "train.optimizer",
    "train.learning_rate",
    "train.final_learning_rate",
    "train.weight_decay",
    "train.gradient_clip",
    "train.patience",
)
OWN_KEY = {"model": "models", "model.name": "models", "train.seed": "seeds"}  # what has a key of its own in a tune file


@dataclass(frozen=True)
class Choices:
    """One of a list of values; each is called by the text that YAML writes for it."""

    values: Mapping[str, Any]

    def ends(self) -> list[Any]:
        """All of them, to be checked."""
        return list(self.values.values())

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Range:
    """The numbers from low to high, both among them."""

    scale: Scale
    low: float
    high: float

    def ends(self) -> list[Any]:
        """The lowest and the highest, to be checked."""
        return [self.low, self.high]

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (" (log)" if self.scale == "log" else "")


Space = Mapping[str, Choices | Range]


def parse_space(content: Mapping[str, Any], place: Callable[[str], str]) -> Space:
    """A space from a file; AqaError for what is none. place: of a key in that file, for messages."""
    space = {key: _span(content[key], f"{place(key)}: {key}") for key in content}
    for key in space:
        _require_searchable(key, place(key))
        inside = [other for other in space if other.startswith(f"{key}.")]
        if inside:
            raise AqaError(f"{place(key)}: {key} and {inside[0]} cannot both be searched: one is a part of the other")
    return space


def _require_searchable(key: str, where: str) -> None:
    if key in OWN_KEY:
        raise AqaError(f"{where}: {key} is not searched; list its values under {OWN_KEY[key]}")
    if key not in SEARCHABLE and not key.startswith(("model.", "missing.train.")):
        raise AqaError(
            f"{where}: {key} is not one of the settings that a search may choose: "
            f"{nearest(key, ['model.OPTION', *SEARCHABLE[1:]])}"
        )


def _span(value: Any, where: str) -> Choices | Range:
    if isinstance(value, list):
        if not value:
            raise AqaError(f"{where} lists no value; give two or more")
        named = {in_one_line(choice): choice for choice in value}
        if len(named) < len(value):
            raise AqaError(f"{where} lists a value twice")
        return Choices(named)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise AqaError(f"{where}: expected {FORMS}, got {brief(value)}")
    ((scale, ends),) = value.items()
    if scale not in SCALES:
        raise AqaError(f"{where}: unknown '{scale}': {nearest(str(scale), SCALES)}; expected {FORMS}")
    if not isinstance(ends, list) or len(ends) != 2 or not all(_is_number(end, scale) for end in ends):
        kind = "whole numbers" if scale == "int" else "numbers"
        raise AqaError(f"{where}: {scale} needs two {kind}, [low, high], got {brief(ends)}")
    low, high = ends
    if low >= high:
        raise AqaError(f"{where}: {scale} needs a low end below the high one, got {brief(ends)}")
    if scale == "log" and low <= 0:
        raise AqaError(f"{where}: log needs numbers above 0, got {brief(ends)}")
    return Range(scale, low, high)


def _is_number(value: Any, scale: str) -> bool:
    kinds = (int,) if scale == "int" else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def described(space: Space) -> dict[str, str]:
    """A space in words, by dotted key."""
    return {key: str(span) for key, span in space.items()}
