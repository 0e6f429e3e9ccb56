"""Checkpoints that the authors of a method publish, read into this project's model of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, cast

from torch import Tensor

from aqa.errors import AqaError, brief, nearest
from aqa.models import AQAModel, build, check
from aqa.models.mcmoe import MCMoE
from aqa.models.published.actionmae import ACTIONMAE
from aqa.models.published.gdlt import GDLT
from aqa.models.published.limssr import LIMSSR_OF_ITS_AUTHORS
from aqa.models.published.mcmoe import MCMOE
from aqa.models.published.method import Method, Shapes, Streams, require_same
from aqa.models.published.momke import MOMKE
from aqa.models.published.names import Names, in_quotes
from aqa.models.published.pamfn import PAMFN_OF_ITS_AUTHORS
from aqa.models.published.reading import read_weights, where

METHODS: Mapping[str, Method] = {
    "actionmae": ACTIONMAE,
    "gdlt": GDLT,
    "limssr": LIMSSR_OF_ITS_AUTHORS,
    "mcmoe": MCMOE,
    "momke": MOMKE,
    "pamfn": PAMFN_OF_ITS_AUTHORS,
}


def load_published(
    method: str,
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    *,
    modalities: Mapping[str, str] | None = None,
    **options: Any,
) -> AQAModel:
    """A method's model with its authors' weights, in evaluation mode.

    method: gdlt, mcmoe, momke, pamfn, actionmae or limssr. checkpoint: a .pkl, .pt or .pth file (read without running
    code from it), or a mapping of names to tensors or arrays. The weights may be under "state_dict",
    "model_state_dict", "model" or "net", beside other things, and their names may have the prefixes that wrappers give
    them ("module.", "model.", "net.", "_orig_mod.", "state."); a warning says what was left out. Sizes are inferred.
    modalities: what a modality of the checkpoint is called here, such as {"v": "visual"}; the method's own by default.
    options: what weights do not show (n_head ...; as published by default), and any other option of the model (dropout,
    alpha ... to train it further), checked as `aqa.models.build` checks them.
    AqaError for anything that is not the method's, and for weights that are NaN or infinite.
    """
    return read_published(method, checkpoint, modalities, options)[0]


def read_published(
    method: str,
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    modalities: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> tuple[AQAModel, dict[str, Any]]:
    """The model of `load_published`, and all options that build it: also those that are read from the weights."""
    known = find_method(method)
    streams = _streams(known, modalities)
    checked = check(known.model, {**known.given, **options})
    names, place = Names(known.names(streams)), where(checkpoint)
    try:
        weights = {name: x for name, x in read_weights(checkpoint).items() if not known.is_left_out(name)}
        _require_known(weights, names, known)
        sizes = known.sizes(Shapes(weights), streams)
        weights = known.prepare(weights, streams)
    except ValueError as error:
        raise _not_whole(known, place, error) from None
    for name in sizes:
        if name in options:
            raise AqaError(f"model '{known.model}', option '{name}': it is read from the weights, and cannot be given")
    model = build(known.model, **{**checked, **sizes})
    expected = model.state_dict()
    tensors = {str(names.ours(name)): value for name, value in weights.items()}
    try:
        tensors = known.settle(model, tensors)
    except ValueError as error:
        raise _not_whole(known, place, error) from None
    tensors = {name: _shaped(value, expected.get(name)) for name, value in tensors.items()}
    require_same(known, expected, tensors, names.theirs, place)
    model.load_state_dict(tensors)
    return model.eval(), {**checked, **{name: value for name, value in sizes.items() if name != "widths"}}


def load_published_mcmoe(
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    n_head: int = 2,
    prototype_position: Literal["query", "batch_row"] = "batch_row",
    **options: Any,
) -> MCMoE:
    """`load_published("mcmoe", ...)`: an MCMoE with published weights, in evaluation mode.

    prototype_position: "batch_row" reproduces the published scores, which depend on the order of the batch; "query"
    gives every video the same score in any batch.
    """
    model = load_published("mcmoe", checkpoint, n_head=n_head, prototype_position=prototype_position, **options)
    return cast(MCMoE, model)


def find_method(name: str) -> Method:
    """What is known of a method's checkpoints; AqaError with the nearest name where nothing is."""
    if name not in METHODS:
        raise AqaError(f"no published checkpoints are known of '{name}': {nearest(str(name), METHODS)}")
    return METHODS[name]


def _streams(method: Method, modalities: Mapping[str, str] | None) -> Streams:
    """What the modalities of a checkpoint are called here."""
    named = dict(modalities or {})
    for name in named:
        if name not in method.streams:
            raise AqaError(f"modalities: {method.title} has no modality '{name}': {nearest(str(name), method.streams)}")
    streams = {**method.streams, **named}
    given = list(streams.values())
    if not all(isinstance(name, str) and name for name in given) or len(set(given)) < len(given):
        raise AqaError(f"modalities: {brief(streams)} does not give each modality a name of its own")
    return streams


def _not_whole(method: Method, place: str, error: ValueError) -> AqaError:
    return AqaError(f"{place} is not a whole {method.title} checkpoint: {error}")


def _require_known(weights: Mapping[str, Tensor], names: Names, method: Method) -> None:
    """ValueError for what is not a parameter of the method."""
    strange = [name for name in weights if names.ours(name) is None]
    if strange:
        verb = "is not a parameter" if len(strange) == 1 else "are not parameters"
        raise ValueError(f"{in_quotes(strange)} {verb} of the published {method.title}")


def _shaped(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """A tensor without the dimensions of size 1 that ours lacks: pointwise convolutions are linear layers here."""
    if expected is None or [n for n in tensor.shape if n != 1] != [n for n in expected.shape if n != 1]:
        return tensor
    return tensor.reshape(expected.shape)
