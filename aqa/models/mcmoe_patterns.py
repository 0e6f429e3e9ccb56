"""MCMoE under several missing patterns at once: what they have in common is done once.

A stream is the same under every pattern that shows it, and so is what the experts make of it. Each pattern adds what it
hides, and that is little:

- A generated stream is constant over time (unless `generator_queries="temporal"`). The experts' convolutions look one
  clip to each side, so what they make of it differs only in the first and the last clip: three clips stand for all.
- The fusion's first layer is linear, a sum of one part per modality: real parts are computed once, generated ones per
  pattern.
- Where few queries attend to many clips, the queries are taken to the clips and no clip is projected.

All of this is algebra: the scores are those of `MCMoE.score`, except for rounding. Below P counts patterns, B rows, M
modalities, T clips, and K the clips that stand for the T of a generated stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.fusion import fuse_linear_bn_eval

from aqa.layers.clips import before_padding
from aqa.layers.grade_decoder import GradeDecoder, grade_deviation
from aqa.models.base import PatternScores, showing
from aqa.system.host_masks import asked, likewise, places, row_numbers, slices

if TYPE_CHECKING:
    from aqa.models.mcmoe import GatedGenerator, MCMoE

PATTERNS_AT_ONCE = 8  # bounds the memory: the 7 subsets of three modalities go together, the 127 of seven do not


class Hidden(NamedTuple):
    """One modality where patterns hide it, in n pairs of a row and a pattern.

    pairs: the numbers of row and pattern, (n,) both. stream: (n, K, H), what takes its place. clips: (n, K) bool, the
    real ones, None if all are.
    """

    pairs: tuple[Tensor, ...]
    stream: Tensor
    clips: Tensor | None


def score_patterns(
    model: MCMoE, encoded: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None, diagnose: bool
) -> PatternScores:
    """Scores and, where asked, diagnostics under visible (P, B, M). encoded: streams (B, T, H).

    Of a row and a pattern that shows a stream which is not finite, all of them are NaN.
    """
    finite = torch.stack([x.flatten(1).isfinite().all(dim=1) for x in encoded.values()], dim=1)  # (B, M)
    encoded = {m: zeros_unless(kept, x) for (m, x), kept in zip(encoded.items(), finite.unbind(dim=1), strict=True)}
    linear, norm, _, second_linear, second_norm = cast("Iterable[Any]", model.fusion)
    first, second = fuse_linear_bn_eval(linear, norm), fuse_linear_bn_eval(second_linear, second_norm)
    weights = dict(zip(model.modalities, first.weight.chunk(len(model.modalities), dim=1), strict=True))
    real = torch.stack([F.linear(x, weights[m]) for m, x in model.mix(encoded, clips).items()], dim=1)  # (B, M, T, 2H)
    few_clips, spread = stand_in(model, encoded, clips)

    scores: list[Tensor] = []  # (B, P) each, as are the deviations; router weights (B, P, M, M)
    said: dict[str, list[Tensor]] = {"deviation": [], "router_weights": []}
    for start in range(0, len(visible), PATTERNS_AT_ONCE):
        seen = likewise(partial(patterns_from, start), visible)  # (B, P, M)
        hidden = fill_in(model, encoded, seen, clips, few_clips, spread.shape[2])
        generated = first.bias.repeat(*seen.shape[:2], spread.shape[2], 1)  # (B, P, K, 2H)
        for m, filled in hidden.items():
            generated[filled.pairs] += F.linear(model.mix({m: filled.stream}, filled.clips)[m], weights[m])
        memory = second(fuse(real, seen, generated, spread))  # (B, P, T, H)
        queries = decode(model.grades, memory, clips)  # (B * P, n_query, H)
        scores.append(model.grades.vote(queries).view(seen.shape[:2]))
        if diagnose:
            said["deviation"].append(grade_deviation(model.grades.weigh(queries)).view(seen.shape[:2]))
        if diagnose and model.use_experts:
            said["router_weights"].append(routed(model, encoded, seen, clips, hidden))

    scored, wrong = showing(visible), (visible & ~finite).any(dim=2)  # (P, B) both
    diagnostics = diagnosed({name: torch.cat(parts, dim=1) for name, parts in said.items() if parts}, scored, wrong)
    return PatternScores(torch.cat(scores, dim=1).T.masked_fill(~scored | wrong, torch.nan), diagnostics)


def diagnosed(said: Mapping[str, Tensor], scored: Tensor, wrong: Tensor) -> list[dict[str, Tensor]]:
    """Diagnostics (B, P, ...) by name, as each pattern's own of the rows that it scores. scored, wrong: (P, B)."""
    found: list[dict[str, Tensor]] = [{} for _ in scored]
    for name, together in said.items():
        values = together.transpose(0, 1)
        values = values.masked_fill(wrong.view(*wrong.shape, *[1] * (values.dim() - 2)), torch.nan)
        for own, each, rows in zip(found, values, slices(scored, 0), strict=True):
            own.update({name: each[row_numbers(rows)]} if asked(rows).any() else {})
    return found


def patterns_from(start: int, visible: Tensor) -> Tensor:
    """The patterns that go together with a first one: some of visible (P, B, M), row by row, (B, P', M)."""
    return visible[start : start + PATTERNS_AT_ONCE].transpose(0, 1)


def zeros_unless(kept: Tensor, stream: Tensor) -> Tensor:
    """A stream (B, T, H), zeros in the rows that are not kept (B,): what is hidden is taken times zero, NaN or not."""
    if stream.device.type == "cpu" and kept.all():
        return stream
    return stream.masked_fill(~kept.view(-1, 1, 1), 0.0)


def stand_in(model: MCMoE, encoded: Mapping[str, Tensor], clips: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Which of the K clips that stand for all T are real, (B, K) bool or None, and for which they stand, (B, T, K)."""
    some = next(iter(encoded.values()))
    rows, steps, _ = some.shape
    if model.use_generator and model.generator_queries == "temporal":
        return clips, torch.eye(steps, device=some.device).expand(rows, -1, -1)
    count = min(steps, 3)
    length = some.new_full((rows,), steps, dtype=torch.long) if clips is None else clips.sum(dim=1)
    clip = torch.arange(steps, device=some.device)
    last = length.clamp(max=count).unsqueeze(1) - 1
    place = torch.where(clip == length.unsqueeze(1) - 1, last, clip.clamp(max=1))  # (B, T)
    return None if clips is None else before_padding(length, count), F.one_hot(place, count).to(some)


def fill_in(
    model: MCMoE,
    encoded: Mapping[str, Tensor],
    seen: Tensor,
    clips: Tensor | None,
    few_clips: Tensor | None,
    count: int,
) -> dict[str, Hidden]:
    """What takes the place of each modality where patterns hide it from rows that they leave something of."""
    context = torch.cat(list(encoded.values()), dim=1)  # (B, M * T, H)
    _, steps, width = encoded[model.modalities[0]].shape
    ignored = (~seen).repeat_interleave(steps, dim=2)  # (B, P, M * T)
    if clips is not None:
        ignored = ignored | ~clips.repeat(1, len(model.modalities)).unsqueeze(1)
    found = {}
    twin = asked(seen)  # (B, P, M), on the host, as are `pairs` and `some`
    for i, m in enumerate(model.modalities):
        pairs = twin.any(dim=2) & ~twin[:, :, i]
        if not pairs.any():
            continue
        row, pattern = places(pairs, context.device)
        if not model.use_generator:
            stream = context.new_zeros(len(row), count, width)
        elif model.generator_queries == "temporal":
            stream = model.generators[m](context[row], ignored[row, pattern], steps)
        else:
            some = pairs.any(dim=0)  # the patterns that hide it from any row
            taken = ignored[:, places(some, context.device)[0]]
            generated = generate(cast("GatedGenerator", model.generators[m]), context, taken)  # for all rows
            stream = generated[places(pairs[:, some], context.device)].unsqueeze(1).expand(-1, count, -1)
        kept = None if few_clips is None else few_clips[row]
        found[m] = Hidden((row, pattern), stream if kept is None else stream * kept.unsqueeze(2), kept)
    return found


def generate(generator: GatedGenerator, context: Tensor, ignored: Tensor) -> Tensor:
    """The one clip of a stream for each row and pattern: context (B, S, H), ignored (B, P, S) bool -> (B, P, H)."""
    taken = (~ignored).to(context)
    context_mean = taken @ context / taken.sum(dim=2, keepdim=True)
    stream = torch.zeros_like(context_mean)
    for attention in generator.attention:
        stream = attention(stream, context, ignored)
    return generator.gate(torch.cat([stream, context_mean], dim=2)).sigmoid() * stream


def fuse(real: Tensor, seen: Tensor, generated: Tensor, spread: Tensor) -> Tensor:
    """The fusion's first half, of real parts (B, M, T, C) and generated ones (B, P, K, C): (B, P, T, C)."""
    fused = torch.bmm(seen.to(real), real.flatten(2)).unflatten(2, real.shape[2:])
    fused.flatten(0, 1).baddbmm_(spread.repeat_interleave(seen.shape[1], dim=0), generated.flatten(0, 1))
    return fused.relu_()


def decode(grades: GradeDecoder, memory: Tensor, clips: Tensor | None) -> Tensor:
    """The decoded queries (B * P, n_query, H) of memory (B, P, T, H), of which clips (B, T) are real, None if all."""
    rows, patterns = memory.shape[:2]
    padding = None if clips is None else ~clips.repeat_interleave(patterns, dim=0)
    queries = grades.placed(rows).repeat_interleave(patterns, dim=0)  # (B * P, n_query, H)
    return cast(Tensor, grades.decoder(queries, memory.flatten(0, 1), padding))


def routed(
    model: MCMoE, encoded: Mapping[str, Tensor], seen: Tensor, clips: Tensor | None, hidden: Mapping[str, Hidden]
) -> Tensor:
    """Router weights (B, P, M, M), means over clips, of the real streams and of those in the place of hidden ones."""
    found = []
    for m, stream in encoded.items():
        weights = model.mean_router_weights(stream, clips).unsqueeze(1).repeat(1, seen.shape[1], 1)  # (B, P, M)
        if m in hidden:
            weights[hidden[m].pairs] = model.mean_router_weights(hidden[m].stream, hidden[m].clips)
        found.append(weights)
    return torch.stack(found, dim=2)
