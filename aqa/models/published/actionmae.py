"""Checkpoints of ActionMAE's authors (https://github.com/sangminwoo/ActionMAE).

The convolutional backbones are left out: features are what comes out of them. The projection that stands in for them
here leaves features as they are. The classes of a checkpoint are taken for grades from worst to best.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aqa.layers.by_modality import parameter_key
from aqa.models.published.method import Method, Shapes, Streams

# Blocks of timm and ours, by what their names begin with there and here.
_BLOCKS = {"encoder": "encoder", "decoder": "decoder", "fusion_module.transformer": "fusion"}
_IN_A_BLOCK = [
    ("norm1", "norm1"),
    ("norm2", "norm2"),
    ("attn.qkv.weight", "self_attn.in_proj_weight"),
    ("attn.qkv.bias", "self_attn.in_proj_bias"),
    ("attn.proj", "self_attn.out_proj"),
    ("mlp.fc1", "linear1"),
    ("mlp.fc2", "linear2"),
]


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    blocks, own = dict(_BLOCKS), []
    for theirs, name in streams.items():
        m = parameter_key(name)
        blocks[f"t_encoder.{theirs}"] = f"temporal.{m}.blocks"
        own += [
            (f"s_encoder.{theirs}", f"temporal.{m}.projection"),
            (f"t_cls_token.{theirs}", f"temporal.{m}.class_token"),
            (f"t_encoder_norm.{theirs}", f"temporal.{m}.blocks.norm"),
            (f"fusion_module.fc.{theirs}", f"grades.{m}"),
        ]
    return [
        *own,
        *(
            (f"{theirs}.blocks.{{i}}.{inner}", f"{ours}.layers.{{i}}.{our_inner}")
            for theirs, ours in blocks.items()
            for inner, our_inner in _IN_A_BLOCK
        ),
        ("encoder_norm", "encoder.norm"),
        ("decoder_norm", "decoder.norm"),
        ("decoder_pred", "prediction"),
        ("mem_token", "memory"),
        ("mask_token", "mask_token"),
        ("fusion_module.cls_token", "class_token"),
        ("fusion_module.fc", "grades"),
    ]


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes show."""
    first = next(iter(streams))
    hidden_dim = shapes.size("decoder_pred.weight", 0)
    fusion, layer = "sum", f"fusion_module.fc.{first}.weight"
    if layer not in shapes.weights:
        layer = "fusion_module.fc.weight"
        fusion = "transformer" if "fusion_module.cls_token" in shapes.weights else "concat"
    return {
        "widths": dict.fromkeys(streams.values(), hidden_dim),
        "hidden_dim": hidden_dim,
        "feedforward_dim": shapes.size("encoder.blocks.0.mlp.fc1.weight", 0),
        "n_temporal": shapes.layers(f"t_encoder.{first}.blocks."),
        "n_encoder": shapes.layers("encoder.blocks."),
        "n_decoder": shapes.layers("decoder.blocks."),
        "n_memory": shapes.shape("mem_token")[1] if "mem_token" in shapes.weights else 0,
        "n_query": shapes.size(layer, 0),
        "fusion": fusion,
        **({"n_fusion": shapes.layers("fusion_module.transformer.blocks.")} if fusion == "transformer" else {}),
    }


def _prepare(weights: dict[str, Tensor], streams: Streams) -> dict[str, Tensor]:
    """Features go in as they are."""
    width = len(weights["decoder_pred.weight"])
    made = {} if "mem_token" in weights else {"mem_token": torch.zeros(0, width)}
    for stream in streams:
        made[f"s_encoder.{stream}.weight"] = torch.eye(width)
        made[f"s_encoder.{stream}.bias"] = torch.zeros(width)
    return {**weights, **made}


ACTIONMAE = Method(
    title="ActionMAE",
    model="actionmae",
    streams={"rgb": "rgb", "depth": "depth", "ir": "ir"},
    names=_names,
    sizes=_sizes,
    given={"n_head": 8},
    left_out=r"(s_encoder|skel_encoder|skel_embed)\..*",
    prepare=_prepare,
)
