"""Reading the checkpoints that the authors of MCMoE publish."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aqa.errors import AqaError, brief, printable
from aqa.models import check
from aqa.models.mcmoe import MCMoE
from aqa.system.files import has_file
from aqa.system.torch_files import load_torch

MODALITIES = {"v": "visual", "a": "audio", "f": "flow"}

# What a published name begins with, and what ours does; {m} is a modality's initial there and its name here.
RENAMES = [
    ("in_proj.{m}", "projections.{m}"),
    ("experts.{m}.0", "experts.{m}.conv"),
    ("experts.{m}.1", "experts.{m}.rest.0"),
    ("experts.{m}.3", "experts.{m}.rest.2"),
    ("experts.{m}.4", "experts.{m}.rest.3"),
    ("generators.{m}.cross_attn", "generators.{m}.attention"),
    ("generators.{m}.gate.0", "generators.{m}.gate"),
    ("router_mix.fc1", "router.0"),
    ("router_mix.fc2", "router.2"),
    ("transformer.encoder", "encoder"),
    ("transformer.decoder", "grades.decoder"),
    ("fusion", "fusion"),
    ("prototype.weight", "grades.prototypes"),
    ("regressor", "grades.regressor"),
]
BEGINNINGS = [
    (published.format(m=initial), ours.format(m=name))
    for published, ours in RENAMES
    for initial, name in MODALITIES.items()
]
POSITIONS = "pos_encoder.pe"  # a fixed sinusoid, computed here
# Where trainers keep the weights beside an epoch and an optimizer, and what wrappers put before their names.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
PREFIX = re.compile(r"((?:state|module|model|net|_orig_mod)\.)+")
SHOWN = 3  # names of parameters in a message


def our_name(published: str) -> str | None:
    """The name that a published parameter or buffer has in this project; None for one that MCMoE does not have."""
    for theirs, ours in BEGINNINGS:
        if published == theirs or published.startswith(f"{theirs}."):
            return ours + published.removeprefix(theirs)
    return None


def load_published_mcmoe(
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    n_head: int = 2,
    prototype_position: Literal["query", "batch_row"] = "batch_row",
    **options: Any,
) -> MCMoE:
    """An MCMoE with published weights, in evaluation mode.

    checkpoint: a .pkl or .pt file (read without running code from it), or a mapping of names to tensors or arrays. The
    weights may be under "state_dict", "model_state_dict", "model" or "net", beside other things, and their names may
    have the prefixes that wrappers give them ("module.", "model.", "net.", "_orig_mod.", "state."); a warning says what
    was left out. Every size is inferred but n_head, which weights do not show.
    prototype_position: "batch_row" reproduces the published scores, which depend on the order of the batch; "query"
    gives every video the same score in any batch.
    options: any other option of MCMoE (dropout, alpha ... to train it further), checked as `build` checks them.
    AqaError for anything that is not an MCMoE, and for weights that are NaN or infinite.
    """
    given = {"n_head": n_head, "prototype_position": prototype_position, **options}
    checked = check("mcmoe", given)
    where = "checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)
    try:
        state = _weights(checkpoint if isinstance(checkpoint, Mapping) else _read(Path(checkpoint)), where)
        tensors = _tensors(state)
        sizes = _sizes(tensors)
    except ValueError as error:
        raise AqaError(f"{where} is not a whole MCMoE checkpoint: {error}") from None
    for name in sizes:
        if name in options:
            raise AqaError(f"model 'mcmoe', option '{name}': it is read from the weights, and cannot be given")
    model = MCMoE(**{**checked, **sizes})
    _require_same(model.state_dict(), tensors, where)
    model.load_state_dict(tensors)
    return model.eval()


def _read(path: Path) -> Mapping[str, Any]:
    if not has_file(path):
        raise AqaError(f"no checkpoint at {path}")
    state = load_torch(path)
    if not isinstance(state, Mapping):
        raise AqaError(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def _weights(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The weights by their published names, out of what trainers put around them; a warning says what that was."""
    said = []
    while found := [key for key in CONTAINERS if isinstance(content.get(key), Mapping)]:
        if len(found) > 1:
            raise AqaError(f"{where} holds weights under {_named(found)}; give one of them: checkpoint['{found[0]}']")
        beside = [str(key) for key in content if key != found[0]]
        said.append(f"the weights under '{found[0]}' are read")
        if beside:
            said[-1] += f", not {_named(beside)} beside them"
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
        said.append(f"names are read without {_named(list(prefixes))}")
    if said:
        warnings.warn(printable(f"{where}: {'; '.join(said)}"), stacklevel=3)
    state.pop(POSITIONS, None)
    return state


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by our names; ValueError for what is not a weight of MCMoE, or not finite."""
    ours = {name: our_name(name) for name in state}
    strange = [name for name, known in ours.items() if known is None]
    if strange:
        verb = "is not a parameter" if len(strange) == 1 else "are not parameters"
        raise ValueError(f"{_named(strange)} {verb} of the published MCMoE")
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"'{name}' is {brief(value)}, not numbers") from None
        if not torch.isfinite(tensor).all():
            raise ValueError(f"'{name}' holds NaN or infinite weights")
        # Pointwise convolutions there are linear layers here.
        known = str(ours[name])
        tensors[known] = tensor.squeeze(-1) if tensor.dim() == 3 and ".conv." not in known else tensor
    return tensors


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options and widths that shapes show."""

    def size(name: str, dimension: int) -> int:
        if name not in tensors:
            raise ValueError(f"it lacks {_theirs(name)}")
        if tensors[name].dim() != 2:
            raise ValueError(f"{_theirs(name)} has shape {tuple(tensors[name].shape)}, not two dimensions")
        return tensors[name].shape[dimension]

    layers = {
        part: len({name.split(".layers.")[1].split(".")[0] for name in tensors if name.startswith(f"{part}.layers.")})
        for part in ("encoder", "grades.decoder")
    }
    return {
        "widths": {m: size(f"projections.{m}.0.weight", 1) for m in MODALITIES.values()},
        "hidden_dim": size("grades.prototypes", 1),
        "n_query": size("grades.prototypes", 0),
        "n_encoder": layers["encoder"],
        "n_decoder": layers["grades.decoder"],
        "feedforward_dim": size("encoder.layers.0.linear1.weight", 0),
    }


def _require_same(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """AqaError if a parameter is missing, is one too many, or has another shape than those before it imply."""
    lacking = [_theirs(name) for name in expected if name not in tensors]
    if lacking:
        raise AqaError(f"{where} is not a whole MCMoE checkpoint: it lacks {_listed(lacking)}")
    for name, tensor in tensors.items():
        if name not in expected:
            raise AqaError(f"{where} is not a whole MCMoE checkpoint: {_theirs(name)} is one too many")
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise AqaError(f"{where} is not a whole MCMoE checkpoint: {_theirs(name)} has shape {shapes}")


def _theirs(our_name: str) -> str:
    """What a parameter of ours is called in published checkpoints, quoted."""
    for theirs, ours in BEGINNINGS:
        if our_name == ours or our_name.startswith(f"{ours}."):
            return f"'{theirs}{our_name.removeprefix(ours)}'"
    return f"'{our_name}'"


def _named(names: list[str]) -> str:
    return _listed([f"'{name}'" for name in names])


def _listed(names: list[str]) -> str:
    """The first few names, and how many there are beside them."""
    more = len(names) - SHOWN
    if more > 0:
        return f"{', '.join(names[:SHOWN])} and {more} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
