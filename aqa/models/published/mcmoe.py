"""Checkpoints of MCMoE's authors (https://github.com/XuHuangbiao/MCMoE)."""

from __future__ import annotations

from typing import Any

from aqa.layers.by_modality import parameter_key
from aqa.models.published.method import Method, Shapes, Streams

# What a published name begins with, and what ours does; {m} is a modality's initial there and its name here.
_BY_MODALITY = [
    ("in_proj.{m}", "projections.{m}"),
    ("experts.{m}.0", "experts.{m}.conv"),
    ("experts.{m}.1", "experts.{m}.rest.0"),
    ("experts.{m}.3", "experts.{m}.rest.2"),
    ("experts.{m}.4", "experts.{m}.rest.3"),
    ("generators.{m}.cross_attn", "generators.{m}.attention"),
    ("generators.{m}.gate.0", "generators.{m}.gate"),
]
_SHARED = [
    ("router_mix.fc1", "router.0"),
    ("router_mix.fc2", "router.2"),
    ("transformer.encoder", "encoder"),
    ("transformer.decoder", "grades.decoder"),
    ("fusion", "fusion"),
    ("prototype.weight", "grades.prototypes"),
    ("regressor", "grades.regressor"),
]


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    own = [
        (theirs.format(m=initial), ours.format(m=parameter_key(name)))
        for theirs, ours in _BY_MODALITY
        for initial, name in streams.items()
    ]
    return [*own, *_SHARED]


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes show."""
    return {
        "widths": {name: shapes.size(f"in_proj.{initial}.0.weight", 1) for initial, name in streams.items()},
        "hidden_dim": shapes.size("prototype.weight", 1),
        "n_query": shapes.size("prototype.weight", 0),
        "n_encoder": shapes.layers("transformer.encoder.layers."),
        "n_decoder": shapes.layers("transformer.decoder.layers."),
        "feedforward_dim": shapes.size("transformer.encoder.layers.0.linear1.weight", 0),
    }


MCMOE = Method(
    title="MCMoE",
    model="mcmoe",
    streams={"v": "visual", "a": "audio", "f": "flow"},
    names=_names,
    sizes=_sizes,
    given={"n_head": 2, "prototype_position": "batch_row"},
    left_out=r"pos_encoder\.pe",  # a fixed sinusoid, computed here
)
