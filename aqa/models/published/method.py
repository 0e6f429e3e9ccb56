"""What is known of the checkpoints of one method: names, sizes, and what weights do not show."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from aqa.errors import AqaError
from aqa.models.base import AQAModel
from aqa.models.published.names import in_quotes

Weights = Mapping[str, Tensor]  # by their published names
Streams = Mapping[str, str]  # what a modality is called in the checkpoint -> what it is called here


def unchanged(weights: dict[str, Tensor], streams: Streams) -> dict[str, Tensor]:
    """The weights as they are."""
    return weights


def as_they_are(model: AQAModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by our names, all of them."""
    return tensors


@dataclass(frozen=True)
class Method:
    """How the checkpoints of a method's authors become a model of ours.

    title: what messages call the method. model: the name of the model here. streams: its modalities, in its own order.
    names(streams): beginnings of names of parameters, theirs and ours. sizes(shapes, streams): "widths" and the options
    that shapes show. given: the options that they do not show, as published. left_out: parameters that play no part.
    prepare: what has to be done to the weights before they are renamed. settle: those of the renamed ones that the
    model, once it is built, takes; ValueError where they are not for it.
    """

    title: str
    model: str
    streams: Streams
    names: Callable[[Streams], Sequence[tuple[str, str]]]
    sizes: Callable[[Shapes, Streams], dict[str, Any]]
    given: Mapping[str, Any] = field(default_factory=dict)
    left_out: str = ""
    prepare: Callable[[dict[str, Tensor], Streams], dict[str, Tensor]] = unchanged
    settle: Callable[[AQAModel, dict[str, Tensor]], dict[str, Tensor]] = as_they_are

    def is_left_out(self, name: str) -> bool:
        """Whether a published parameter plays no part in what the model computes."""
        return bool(self.left_out) and re.fullmatch(self.left_out, name) is not None


class Shapes:
    """The shapes in a checkpoint, by their published names; ValueError where they are not those of the method."""

    def __init__(self, weights: Weights):
        self.weights = weights

    def size(self, name: str, dimension: int) -> int:
        """A size of a matrix; a pointwise convolution is one."""
        shape = self.shape(name)
        if len(shape) == 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 2:
            raise ValueError(f"'{name}' has shape {tuple(self.weights[name].shape)}, not two dimensions")
        return shape[dimension]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a parameter."""
        if name not in self.weights:
            raise ValueError(f"it lacks '{name}'")
        return tuple(self.weights[name].shape)

    def layers(self, beginning: str) -> int:
        """How many numbers there are after a beginning of names."""
        return len({name.removeprefix(beginning).split(".")[0] for name in self.weights if name.startswith(beginning)})


def require_same(method: Method, expected: Weights, tensors: Weights, theirs: Callable[[str], str], place: str) -> None:
    """AqaError if a parameter is missing, is one too many, or has another shape than those before it imply."""
    not_whole = f"{place} is not a whole {method.title} checkpoint"
    lacking = [theirs(name) for name in expected if name not in tensors]
    if lacking:
        raise AqaError(f"{not_whole}: it lacks {in_quotes(lacking)}")
    for name, tensor in tensors.items():
        if name not in expected:
            raise AqaError(f"{not_whole}: '{theirs(name)}' is one too many")
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise AqaError(f"{not_whole}: '{theirs(name)}' has shape {shapes}")
