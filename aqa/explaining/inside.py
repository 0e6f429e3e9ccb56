"""What a model itself says of how it came to a score: attention over clips, routers and gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aqa.layers.grade_decoder import GradeDecoder
from aqa.layers.transformer import DecoderLayer, FewQueryAttention
from aqa.models import AQAModel
from aqa.system.precision import float32_products

NOT_WEIGHTS = ("deviation", "contributions")  # diagnostics that are said elsewhere
NUMBERED = ("policy", "members")  # those whose places are levels, networks or models, however many streams there are


class Curve(NamedTuple):
    """Weights over the clips of a video's window, (T,). kind: "attention" or "router"; of: which part or stream."""

    kind: str
    of: str
    to: str
    weights: NDArray[np.float64]


class Weight(NamedTuple):
    """One number of a router or gate. of, to: a stream or its number, "" where there is none."""

    name: str
    of: str
    to: str
    value: float


def curves(
    model: AQAModel, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor]
) -> list[Curve]:
    """What the model weighs clip by clip in one video: features (1, T, D), visible (1, M), lengths (1,).

    "attention": how much the grade prototypes look at each clip, the mean over heads and prototypes of the last decoder
    layer; "router": how much a stream's clip listens to each expert. Of models from several seeds the mean.
    """
    found: dict[tuple[str, str, str], list[Tensor]] = {}
    with torch.inference_mode(), float32_products("float32"):
        for member in model.trained_apart:
            with _attention_of(member) as attention:
                member.score(features, visible, lengths)
            for name, weights in attention:
                found.setdefault(("attention", name, ""), []).append(weights)
            for m, by_clip in member.clip_weights(features, visible, lengths).items():
                for expert, weights in zip(member.modalities, by_clip[0].T, strict=True):
                    found.setdefault(("router", m, expert), []).append(weights)
    steps = next(iter(features.values())).shape[1]
    known = {key: torch.stack(parts).mean(dim=0) for key, parts in found.items()}
    return [
        Curve(*key, weights.double().cpu().numpy())
        for key, weights in known.items()
        if weights.shape == (steps,) and not weights.isnan().all()
    ]


@contextmanager
def _attention_of(model: AQAModel) -> Iterator[list[tuple[str, Tensor]]]:
    """In the block, what the grade decoders of a model look at of the one video that it scores: names and (S,)."""
    found: list[tuple[str, Tensor]] = []
    handles = []
    for name, part in model.named_modules():
        if isinstance(part, GradeDecoder):
            attention = cast(DecoderLayer, part.decoder.layers[-1]).multihead_attn
            handles.append(attention.register_forward_hook(_recorder(_short(model, name), found)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _recorder(name: str, found: list[tuple[str, Tensor]]) -> Any:
    def record(attention: nn.Module, given: tuple[Any, ...], said: Tensor) -> None:
        assert isinstance(attention, FewQueryAttention)
        found.append((name, attention.attention(*given)[0].mean(dim=(0, 1))))

    return record


def _short(model: AQAModel, name: str) -> str:
    """The modality that a part of a model belongs to, or "all" streams together."""
    return next((m for m in model.modalities if m in name.split(".")), "all")


def weights(
    model: AQAModel, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor]
) -> list[list[Weight]]:
    """The routers and gates of each video, from `AQAModel.diagnostics`: B lists of numbers. visible: (B, M)."""
    with torch.inference_mode(), float32_products("float32"):
        said = model.score_patterns(features, visible.unsqueeze(0), lengths, diagnose=True).diagnostics[0]
    found: list[list[Weight]] = [[] for _ in range(len(visible))]
    for name, values in said.items():
        if name in NOT_WEIGHTS:
            continue
        for (row, *place), value in np.ndenumerate(values.double().cpu().numpy()):
            of, to = _named(model, name, place, tuple(values.shape[1:]))
            if not np.isnan(value):
                found[row].append(Weight(name, of, to, float(value)))
    return found


def _named(model: AQAModel, name: str, place: list[int], shape: tuple[int, ...]) -> tuple[str, str]:
    """The place of a number in (M,), (M, M) or another shape that ends with the modalities; numbers elsewhere."""
    count = len(model.modalities)
    words = [str(i) for i in place]
    if place and name not in NUMBERED and shape[-1] == count:
        words[-1] = model.modalities[place[-1]]
        if shape == (count, count):
            words[0] = model.modalities[place[0]]
    return " ".join(words[:-1]), words[-1] if words else ""
