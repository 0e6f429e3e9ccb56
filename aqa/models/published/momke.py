"""Checkpoints of MoMKE's authors (https://github.com/wxxv/MoMKE), of regression."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aqa.layers.by_modality import parameter_key
from aqa.models.published.method import Method, Shapes, Streams

# {s} is a modality's initial there, {m} its name here.
_BY_MODALITY = [
    ("{s}_in_proj", "projections.{m}"),
    ("router_{s}.fc1", "routers.{m}.0"),
    ("router_{s}.fc2", "routers.{m}.3"),
    *(
        (f"block.blocks.{{{{i}}}}.Transformer_{{s}}.{theirs}", f"experts.{{m}}.layers.{{{{i}}}}.{ours}")
        for theirs, ours in (
            ("q", "query"),
            ("k", "key"),
            ("v", "value"),
            ("mlp.fc1", "mlp.0"),
            ("mlp.fc2", "mlp.3"),
        )
    ),
]
_OWN_HEADS = "nlp_heads"  # those of the modalities, one below the other


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    own = [
        (theirs.format(s=initial), ours.format(m=parameter_key(name)))
        for theirs, ours in _BY_MODALITY
        for initial, name in streams.items()
    ]
    heads = [(f"nlp_head_{initial}", "own_scores") for initial in streams]
    return [*own, (_OWN_HEADS, "own_scores"), *heads, ("proj1", "joint.0"), ("nlp_head", "joint_score")]


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes show."""
    first = next(iter(streams))
    if (classes := shapes.size("nlp_head.weight", 0)) != 1:
        raise ValueError(f"it tells {classes} classes apart; a score is one number")
    return {
        "widths": {name: shapes.size(f"{initial}_in_proj.0.weight", 1) for initial, name in streams.items()},
        "hidden_dim": shapes.size(f"{first}_in_proj.0.weight", 0),
        "feedforward_dim": shapes.size(f"router_{first}.fc1.weight", 0),
        "n_encoder": shapes.layers("block.blocks."),
    }


def _prepare(weights: dict[str, Tensor], streams: Streams) -> dict[str, Tensor]:
    """The modalities' own heads as one layer with a row each."""
    kept = dict(weights)
    for part in ("weight", "bias"):
        heads = [f"nlp_head_{initial}.{part}" for initial in streams]
        if lacking := [name for name in heads if name not in weights]:
            raise ValueError(f"it lacks '{lacking[0]}'")
        kept[f"{_OWN_HEADS}.{part}"] = torch.cat([kept.pop(name) for name in heads])
    return kept


MOMKE = Method(
    title="MoMKE",
    model="momke",
    streams={"a": "audio", "t": "text", "v": "visual"},
    names=_names,
    sizes=_sizes,
    given={"n_head": 2},
    prepare=_prepare,
)
