"""The weights in a file of their authors: read without running code, out of what trainers put around them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aqa.errors import AqaError, brief, printable
from aqa.models.published.names import in_quotes
from aqa.system.files import has_file
from aqa.system.torch_files import load_torch

# Where trainers keep the weights beside an epoch and an optimizer, and what wrappers put before their names.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
PREFIX = re.compile(r"((?:state|module|model|net|_orig_mod)\.)+")


def read_weights(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint by their published names; a warning says what was left out.

    checkpoint: a .pkl or .pt file, or a mapping of names to tensors or arrays. AqaError where it is neither; ValueError
    for what is not numbers, and for weights that are NaN or infinite.
    """
    content = checkpoint if isinstance(checkpoint, Mapping) else _read(Path(checkpoint))
    return {name: _tensor(name, value) for name, value in _unwrapped(content, where(checkpoint)).items()}


def where(checkpoint: str | os.PathLike[str] | Mapping[str, Any]) -> str:
    """What a checkpoint is called in messages."""
    return "checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)


def _read(path: Path) -> Mapping[str, Any]:
    if not has_file(path):
        raise AqaError(f"no checkpoint at {path}")
    state = load_torch(path)
    if not isinstance(state, Mapping):
        raise AqaError(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def _unwrapped(content: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The weights by their published names, out of what trainers put around them; a warning says what that was."""
    said = []
    while found := [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]:
        if len(found) > 1:
            raise AqaError(
                f"{place} holds weights under {in_quotes(found)}; give one of them: checkpoint['{found[0]}']"
            )
        beside = [str(key) for key in content if key != found[0]]
        said.append(f"the weights under '{found[0]}' are read")
        if beside:
            said[-1] += f", not {in_quotes(beside)} beside them"
        content = content[found[0]]
    if any(str(name).startswith("state.") for name in content):  # among other arrays, as in an archive of results
        content = {name: value for name, value in content.items() if str(name).startswith("state.")}
    state: dict[str, Any] = {}
    prefixes: dict[str, None] = {}
    for name, value in content.items():
        prefix = PREFIX.match(str(name))
        if prefix and prefix[0] != "state.":
            prefixes[prefix[0]] = None
        state[PREFIX.sub("", str(name), count=1) if prefix else str(name)] = value
    if prefixes:
        said.append(f"names are read without {in_quotes(prefixes)}")
    if said:
        warnings.warn(printable(f"{place}: {'; '.join(said)}"), stacklevel=5)
    return state


def _tensor(name: str, value: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"'{name}' is {brief(value)}, not numbers") from None
    if not torch.isfinite(tensor).all():
        raise ValueError(f"'{name}' holds NaN or infinite weights")
    return tensor
