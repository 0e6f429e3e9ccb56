"""Checkpoints of LIMSSR's authors (https://github.com/XuHuangbiao/LIMSSR).

They hold the language model too, with the adapters that peft made in it. It has to be at `llm` as well, unchanged, and
`prompt` has to say what the authors' prompt says for the scores to be theirs.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor

from aqa.layers.by_modality import parameter_key
from aqa.models.base import AQAModel
from aqa.models.limssr import LIMSSR
from aqa.models.published.method import Method, Shapes, Streams

_THEIR_LLM, _LLM = "language_model.base_model.model", "language_model.network"
_ADAPTER = re.compile(r".*\.(?P<layer>[^.]+)\.lora_A\.[^.]+\.weight")


def _names(streams: Streams) -> list[tuple[str, str]]:
    """Beginnings of names, theirs and ours."""
    by_modality = [
        (theirs.format(initial), f"{ours}.{parameter_key(name)}")
        for initial, name in streams.items()
        for theirs, ours in (("feature_to_llm.{}", "projections"), ("modal_norms.{}", "auxiliary.norms"))
    ]
    return [
        (f"{_THEIR_LLM}.model.embed_tokens.weight", "embeddings"),
        (f"{_THEIR_LLM}.model", _LLM),
        *by_modality,
        ("token_role_weight", "main.importance"),
        ("LN", "main.norm"),
        ("cond_head", "main.refinement"),
        ("cond_gate.0", "main.gate"),
        ("regressor", "main.regressor"),
        ("cross_modal_attn", "auxiliary.attention"),
        ("modal_gate", "auxiliary.weigh"),
        ("missing_confidence", "auxiliary.confidence"),
        ("auxiliary_regressor", "auxiliary.regressor"),
        ("w1", "main_share"),
    ]


def _sizes(shapes: Shapes, streams: Streams) -> dict[str, Any]:
    """The options and widths that shapes and names show."""
    adapters = {found["layer"]: name for name in shapes.weights if (found := _ADAPTER.fullmatch(name))}
    if not adapters:
        raise ValueError("it has no adapters (lora_A)")
    return {
        "widths": {name: shapes.size(f"feature_to_llm.{initial}.0.weight", 1) for initial, name in streams.items()},
        "n_fusion": shapes.shape("token_role_weight")[0],
        "lora_rank": shapes.size(next(iter(adapters.values())), 0),
        "lora_targets": tuple(sorted(adapters)),
    }


def _settle(built: AQAModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the frozen weights, which have to be those at `llm`, and with the embeddings in use alone."""
    model, kept = cast(LIMSSR, built), dict(tensors)
    own = {name for name, _ in model.named_parameters()}
    frozen = dict(model.named_buffers())
    for name in [name for name in tensors if name.startswith(f"{_LLM}.") and name not in own]:
        if name not in frozen or not torch.equal(kept.pop(name), frozen[name]):
            raise ValueError(f"its '{name.removeprefix(f'{_LLM}.')}' is not that of the language model at `llm`")
    table = kept.get("embeddings")
    if table is not None and table.dim() == 2 and len(table) > max(model.used):
        kept["embeddings"] = table[model.used]
    return {**kept, "language_model.fingerprint": model.language_model.fingerprint}


LIMSSR_OF_ITS_AUTHORS = Method(
    title="LIMSSR",
    model="limssr",
    streams={"v": "visual", "a": "audio", "f": "flow"},
    names=_names,
    sizes=_sizes,
    left_out=re.escape(f"{_THEIR_LLM}.lm_head.weight"),  # its words are not asked for
    settle=_settle,
)
