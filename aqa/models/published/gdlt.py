"""Checkpoints of GDLT's authors (https://github.com/xuangch/CVPR22_GDLT): one stream."""

from __future__ import annotations

from typing import Any

from aqa.layers.by_modality import parameter_key
from aqa.models.published.method import Method, Shapes, Streams


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    (stream,) = streams.values()
    return [
        ("in_proj", f"projections.{parameter_key(stream)}"),
        ("transformer.encoder", "network.encoder"),
        ("transformer.decoder", "network.grades.decoder"),
        ("prototype.weight", "network.grades.prototypes"),
        ("regressor", "network.grades.regressor"),
    ]


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes show."""
    (stream,) = streams.values()
    return {
        "widths": {stream: shapes.size("in_proj.0.weight", 1)},
        "hidden_dim": shapes.size("prototype.weight", 1),
        "n_query": shapes.size("prototype.weight", 0),
        "n_encoder": shapes.layers("transformer.encoder.layers."),
        "n_decoder": shapes.layers("transformer.decoder.layers."),
        "feedforward_dim": shapes.size("transformer.encoder.layers.0.linear1.weight", 0),
    }


GDLT = Method(
    title="GDLT",
    model="grade_decoder",
    streams={"video": "visual"},
    names=_names,
    sizes=_sizes,
    given={"n_head": 1},
)
