"""Reading the checkpoints that the authors of MCMoE publish."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.models.mcmoe import MCMoE
from aqa.system.files import has_file
from aqa.system.torch_files import load_torch

MODALITIES = {"v": "visual", "a": "audio", "f": "flow"}

# Published name -> ours; {m} is a modality's initial there and its name here.
RENAMES = [
    (r"in_proj\.([vaf])\.(.+)", r"projections.{m}.\2"),
    (r"experts\.([vaf])\.0\.(.+)", r"experts.{m}.conv.\2"),
    (r"experts\.([vaf])\.1\.(.+)", r"experts.{m}.rest.0.\2"),
    (r"experts\.([vaf])\.3\.(.+)", r"experts.{m}.rest.2.\2"),
    (r"experts\.([vaf])\.4\.(.+)", r"experts.{m}.rest.3.\2"),
    (r"generators\.([vaf])\.cross_attn\.(.+)", r"generators.{m}.attention.\2"),
    (r"generators\.([vaf])\.gate\.0\.(.+)", r"generators.{m}.gate.\2"),
    (r"router_mix\.fc1\.(.+)", r"router.0.\1"),
    (r"router_mix\.fc2\.(.+)", r"router.2.\1"),
    (r"transformer\.encoder\.(.+)", r"encoder.\1"),
    (r"transformer\.decoder\.(.+)", r"grades.decoder.\1"),
    (r"fusion\.(.+)", r"fusion.\1"),
    (r"prototype\.weight", r"grades.prototypes"),
    (r"regressor\.(.+)", r"grades.regressor.\1"),
]
POSITIONS = "pos_encoder.pe"  # a fixed sinusoid, computed here


def our_name(published: str) -> str:
    """The name that a published parameter or buffer has in this project; AqaError for one that MCMoE does not have."""
    for pattern, replacement in RENAMES:
        match = re.fullmatch(pattern, published)
        if match:
            modality = MODALITIES.get(match.group(1), "") if match.groups() else ""
            return match.expand(replacement.replace("{m}", modality))
    raise AqaError(f"'{published}' is no parameter of the published MCMoE")


def load_published_mcmoe(
    checkpoint: str | os.PathLike[str] | Mapping[str, Any],
    n_head: int = 2,
    prototype_position: Literal["query", "batch_row"] = "batch_row",
    **options: Any,
) -> MCMoE:
    """An MCMoE with published weights, in evaluation mode.

    checkpoint: a .pkl or .pt file (read without running code from it), or a mapping of names to tensors or arrays; the
    names may carry a prefix "state." or "module.". Every size is inferred but n_head, which weights do not show.
    prototype_position: "batch_row" reproduces the published scores, which depend on the order of the batch; "query"
    gives every video the same score in any batch.
    options: any other option of MCMoE (dropout, alpha ... for training on). AqaError for anything that is no MCMoE.
    """
    where = "checkpoint" if isinstance(checkpoint, Mapping) else str(checkpoint)
    state = dict(checkpoint) if isinstance(checkpoint, Mapping) else _read(Path(checkpoint))
    if any(str(name).startswith("state.") for name in state):  # among other arrays, as in an archive of results
        state = {name: value for name, value in state.items() if str(name).startswith("state.")}
    state = {re.sub(r"^(state\.|module\.)+", "", str(name)): value for name, value in state.items()}
    state.pop(POSITIONS, None)
    try:
        tensors = {our_name(name): torch.as_tensor(value) for name, value in state.items()}
    except AqaError as error:
        raise AqaError(f"{where}: {error}") from None
    # Pointwise convolutions there are linear layers here.
    tensors = {
        name: value.squeeze(-1) if value.dim() == 3 and ".conv." not in name else value
        for name, value in tensors.items()
    }
    try:
        model = MCMoE(
            **_sizes(tensors),
            n_head=n_head,
            prototype_position=prototype_position,
            **options,
        )
        model.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        message = re.sub(r"\s+", " ", str(error))
        raise AqaError(f"{where} is no whole MCMoE checkpoint: {message}") from None
    return model.eval()


def _read(path: Path) -> Mapping[str, Tensor]:
    if not has_file(path):
        raise AqaError(f"no checkpoint at {path}")
    state = load_torch(path)
    if not isinstance(state, Mapping):
        raise AqaError(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = {
        part: len({name.split(".layers.")[1].split(".")[0] for name in tensors if name.startswith(f"{part}.layers.")})
        for part in ("encoder", "grades.decoder")
    }
    n_query, hidden_dim = tensors["grades.prototypes"].shape
    return {
        "widths": {m: tensors[f"projections.{m}.0.weight"].shape[1] for m in MODALITIES.values()},
        "hidden_dim": hidden_dim,
        "n_query": n_query,
        "n_encoder": layers["encoder"],
        "n_decoder": layers["grades.decoder"],
        "feedforward_dim": tensors["encoder.layers.0.linear1.weight"].shape[0],
    }
