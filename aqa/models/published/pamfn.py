"""Checkpoints of PAMFN's authors (https://github.com/qinghuannn/PAMFN): the whole model's state dict.

The files that they publish of single branches are pickled modules, which are not read.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from aqa.layers.by_modality import parameter_key
from aqa.models.published.method import Method, Shapes, Streams

_LEVELS = (1, 2, 3)
_PAIR = [("0", "first.conv"), ("1", "first.rest.0"), ("3", "second.conv"), ("4", "second.rest.0")]
_ATTENTION = [("0", "query"), ("1", "key"), ("2", "value")]
# Their attention has negative logits: the query's weights and bias change sign. In the cross-modal decoder the query
# that goes in is negative already, so that the bias alone does.
_SPECIFIC, _CROSS = "s_fusion.fusion_s.linear_layers", "f_fusion.fusion_f.linear_layers"
_NEGATIVE = re.compile(rf"stage\d\.({re.escape(_SPECIFIC)}\.0\..*|{re.escape(_CROSS)}\.0\.bias)")


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    pairs = [("fc", "mixed.head"), ("tau", "mixed.temperature")]
    for initial, name in streams.items():
        theirs, ours = f"model_{initial}", f"branches.{parameter_key(name)}"
        pairs += [(f"{theirs}.embedding", f"{ours}.embedding"), (f"{theirs}.fc", f"{ours}.head")]
        for n in _LEVELS:
            for their_half, half in (("conv1", "first"), ("conv2", "second")):
                block, ours_block = f"{theirs}.stage{n}.{their_half}", f"{ours}.levels.{n - 1}.{half}"
                pairs += [(f"{block}.0", f"{ours_block}.conv"), (f"{block}.1", f"{ours_block}.rest.0")]
    for n in _LEVELS:
        theirs, ours = f"stage{n}", f"mixed.blocks.{n - 1}"
        pairs += [(f"{theirs}.conv.{i}", f"{ours}.digest.{part}") for i, part in _PAIR]
        pairs += [(f"{theirs}.f_fusion.ffn.{{i}}.{i}", f"{ours}.fusion.refine.{{i}}.{part}") for i, part in _PAIR]
        pairs += [(f"{theirs}.{_SPECIFIC}.{i}", f"{ours}.specific.{part}") for i, part in _ATTENTION]
        pairs += [(f"{theirs}.{_CROSS}.{i}", f"{ours}.crossmodal.{part}") for i, part in _ATTENTION]
        pairs += [
            (f"{theirs}.f_fusion.proj1.{i}", f"{ours}.fusion.weigh.{parameter_key(name)}")
            for i, name in enumerate(streams.values())
        ]
        pairs += [
            (f"{theirs}.short_cut.0", f"{ours}.shortcut.conv"),
            (f"{theirs}.short_cut.1", f"{ours}.shortcut.rest.0"),
            (f"{theirs}.s_fusion.proj.0", f"{ours}.specific_query"),
            (f"{theirs}.f_fusion.proj2.0", f"{ours}.crossmodal_query"),
            (f"{theirs}.f_fusion.policy.0", f"{ours}.fusion.policy"),
        ]
    return pairs


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes show."""
    first = next(iter(streams))
    hidden_dim = shapes.size(f"model_{first}.embedding.3.weight", 0)
    return {
        "widths": {name: shapes.size(f"model_{initial}.embedding.0.weight", 1) for initial, name in streams.items()},
        "hidden_dim": hidden_dim,
        "embedding_dim": shapes.size(f"model_{first}.embedding.0.weight", 0),
        "n_fusion": shapes.size("stage1.f_fusion.policy.0.weight", 0),
        "head_reduction": max(hidden_dim // shapes.size("fc.1.weight", 0), 1),
    }


def _prepare(weights: dict[str, Tensor], streams: Streams) -> dict[str, Tensor]:
    """The weights of a plain attention."""
    return {name: -x if _NEGATIVE.fullmatch(name) else x for name, x in weights.items()}


PAMFN_OF_ITS_AUTHORS = Method(
    title="PAMFN",
    model="pamfn",
    streams={"r": "visual", "f": "flow", "a": "audio"},
    names=_names,
    sizes=_sizes,
    given={"specific_heads": 1, "cross_heads": 1},
    left_out=r"c|stage\d\.[sf]_fusion\.fusion_[sf]\.norm\..*",  # zeros, and norms that are not applied
    prepare=_prepare,
)
