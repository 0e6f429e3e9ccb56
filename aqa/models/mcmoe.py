"""MCMoE: Completing Missing Modalities with Mixture of Experts for Incomplete Multimodal Action Quality Assessment.

Paper: https://arxiv.org/abs/2511.17397 (AAAI 2026). Official code: https://github.com/XuHuangbiao/MCMoE.

The sections of the paper's method, in the order of the code (its equation numbers could not be had):

1. Shared temporal enhancement: each stream is projected to H channels, and one transformer encodes them all: `enhance`.
2. Adaptive gated modality generator: rebuilds the hidden streams from the visible ones: `GatedGenerator`, `complete`.
3. Mixture of modality experts: one expert per modality; each reads every stream, real or rebuilt, and a router mixes
   their outputs clip by clip: `Expert`, `mix`. The mixed streams are joined over channels: `join`.
4. Score regression: grade prototypes attend to the fused stream and vote for a score: `GradeDecoder`.
5. Training: the true encoded stream teaches the generator, an expert on its own modality's true stream teaches the
   mixture, and a triplet loss keeps the prototypes apart: `loss`.

Four choices of the published code are options here. By default a video's score depends on its own visible features
alone:

- which streams are visible is an argument, a boolean per sample and modality, not a stream that sums to zero;
- `prototype_position="query"` numbers the prototypes; the published "batch_row" numbers the rows of the batch. On
  random weights this moves scores by up to 0.05 (`pytest tests/golden` prints it);
- `generator_queries="shared"` computes the one query that the published generator repeats T times (its output is
  constant over time); "temporal" gives each clip a query of its own;
- `mask_padding=True` keeps padded clips out of attention, statistics and losses. By default they are attended to, as
  in the published code; all videos of a run are padded to one number of clips.

For ablations, `use_generator=False` leaves hidden streams zero and `use_experts=False` fuses the streams as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import clip_mean, in_rows, on_clips
from aqa.layers.grade_decoder import GradeDecoder, grade_deviation, projection, sinusoid, xavier
from aqa.layers.losses import channel_divergence, hardest_triplet, squared_error
from aqa.layers.transformer import Encoder, FewQueryAttention, check_heads
from aqa.models import mcmoe_patterns, register
from aqa.models.base import AQAModel, Loss, PatternScores, seen_by_any
from aqa.registry import Natural, Positive, Several, Share
from aqa.system.host_masks import likewise, slices, told


class GatedGenerator(nn.Module):
    """Rebuild one hidden modality's stream from the visible ones.

    Two cross-attention layers from queries to the context, then a gate from the means of both.
    """

    def __init__(self, hidden_dim: int, queries: str):
        super().__init__()
        self.queries = queries
        self.attention = nn.ModuleList(FewQueryAttention(hidden_dim, 4, batch_first=True) for _ in range(2))
        self.gate = nn.Linear(2 * hidden_dim, hidden_dim)

    def forward(self, context: Tensor, hidden_keys: Tensor, clips: int) -> Tensor:
        """context (B, S, H), hidden_keys (B, S) bool: not to be looked at -> (B, clips, H)."""
        context_mean = clip_mean(context, ~hidden_keys)
        rows, _, width = context.shape
        if self.queries == "temporal":
            stream = sinusoid(clips, width, context.device).expand(rows, -1, -1)
        else:
            stream = context.new_zeros(rows, 1, width)
        for attention in self.attention:
            stream = attention(stream, context, hidden_keys)
        gate = self.gate(torch.cat([stream.mean(dim=1), context_mean], dim=-1)).sigmoid()
        return (gate.unsqueeze(1) * stream).expand(-1, clips, -1)


class Expert(nn.Module):
    """One modality's expert, which reads every stream (B, T, H) -> (B, T, H)."""

    def __init__(self, hidden_dim: int):
        super().__init__()
        self.conv = nn.Conv1d(hidden_dim, hidden_dim // 2, kernel_size=3, padding=1)
        self.rest = nn.Sequential(
            nn.BatchNorm1d(hidden_dim // 2),
            nn.GELU(),
            nn.Linear(hidden_dim // 2, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
        )

    def forward(self, stream: Tensor, clips: Tensor | None = None) -> Tensor:
        return self.say(hear([self], stream)[0], clips)

    def say(self, heard: Tensor, clips: Tensor | None) -> Tensor:
        """What it says (B, T, H) of what it heard (B, T, H / 2)."""
        return on_clips(self.rest, heard, clips)


def hear(experts: Sequence[Expert], stream: Tensor) -> list[Tensor]:
    """Each expert's convolution of a stream (B, T, H): (B, T, H / 2) each, all by one matrix product."""
    weight = torch.cat([expert.conv.weight for expert in experts])  # (E H / 2, H, 3)
    bias = torch.cat([cast(Tensor, expert.conv.bias) for expert in experts])
    around = F.pad(stream, (0, 0, 1, 1))  # (B, 1 + T + 1, H)
    around = torch.cat([around[:, :-2], stream, around[:, 2:]], dim=-1)  # (B, T, 3 H)
    heard = F.linear(around, weight.transpose(1, 2).flatten(1), bias)
    return [h.contiguous() for h in heard.chunk(len(experts), dim=-1)]


@register("mcmoe", paper="arXiv 2511.17397", year=2025)
class MCMoE(AQAModel):
    """Gated modality generator, then a mixture of modality experts.

    widths: modality -> channels D. feedforward_dim: 3 * hidden_dim where None. alpha, margin: weight and margin of the
    triplet loss. reconstruction_weight, kl_weight: 1 in the paper.
    """

    fixed_shapes = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 2,
        n_encoder: Natural = 3,
        n_decoder: Natural = 3,
        n_query: Several = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.3,
        alpha: float = 0.5,
        margin: float = 1.0,
        reconstruction_weight: float = 1.0,
        kl_weight: float = 1.0,
        prototype_position: Literal["query", "batch_row"] = "query",
        generator_queries: Literal["shared", "temporal"] = "shared",
        mask_padding: bool = False,
        use_generator: bool = True,
        use_experts: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'mcmoe'", hidden_dim, n_head, factor=4)
        self.alpha, self.margin, self.mask_padding = alpha, margin, mask_padding
        self.reconstruction_weight, self.kl_weight = reconstruction_weight, kl_weight
        self.numbers_rows = prototype_position == "batch_row"
        self.generator_queries = generator_queries
        feedforward_dim = feedforward_dim or 3 * hidden_dim

        self.projections = ByModality({m: projection(width, hidden_dim) for m, width in widths.items()})
        self.encoder = Encoder(n_encoder, hidden_dim, n_head, feedforward_dim, dropout)
        self.use_generator, self.use_experts = use_generator, use_experts
        if use_generator:
            self.generators = ByModality({m: GatedGenerator(hidden_dim, generator_queries) for m in widths})
        if use_experts:
            self.experts = ByModality({m: Expert(hidden_dim) for m in widths})
            self.router = nn.Sequential(
                nn.Linear(hidden_dim, hidden_dim // 2), nn.GELU(), nn.Linear(hidden_dim // 2, len(widths))
            )
        self.fusion = nn.Sequential(
            nn.Linear(len(widths) * hidden_dim, 2 * hidden_dim),
            nn.BatchNorm1d(2 * hidden_dim),
            nn.ReLU(),
            nn.Linear(2 * hidden_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
        )
        self.grades = GradeDecoder(
            hidden_dim, n_query, n_head, n_decoder, feedforward_dim, dropout, position=prototype_position
        )
        xavier(self.encoder)
        xavier(self.grades.decoder)

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        clips = self.real_clips(features, lengths, visible)
        streams = self.complete(self.enhance(features, visible, clips), visible, clips)
        return self.grades(self.join(self.mix(streams, clips), clips), clips)[0]

    def score_patterns(
        self,
        features: Mapping[str, Tensor],
        visible: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
        *,
        diagnose: bool = False,
    ) -> PatternScores:
        """Scores under P patterns, (P, B, M), in little more than the time of one: see `mcmoe_patterns`."""
        visible = told(visible)
        seen = seen_by_any(visible)
        if not self.encodes_alike(seen, lengths):
            return self.score_one_by_one(features, visible, lengths, diagnose=diagnose)
        clips = self.real_clips(features, lengths, seen)
        return mcmoe_patterns.score_patterns(self, self.enhance(features, seen, clips), visible, clips, diagnose)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """Section 5: 10 MSE + alpha triplet + reconstruction + KL, summed over modalities."""
        clips = self.real_clips(features, lengths, available)
        encoded = self.enhance(features, available, clips)
        streams = self.complete(encoded, visible, clips)
        heard = self.hear(streams)
        mixed = self.mix(streams, clips, heard)
        score, queries = self.grades(self.join(mixed, clips), clips)

        # A row's term counts the same whichever patterns the other rows have: sums over rows, divided by the batch.
        hidden = available & ~visible
        reconstruction = kl = torch.zeros((), device=target.device)
        for i, m in enumerate(self.modalities):
            if self.use_generator:
                reconstruction = reconstruction + (squared_error(streams[m], encoded[m], clips) * hidden[:, i]).mean()
            if self.use_experts:
                own = self._heard_of_own(m, heard[m][i], encoded[m], visible[:, i])
                expected = self._expert_on_own(m, own, available[:, i], clips)
                kl = kl + (channel_divergence(mixed[m], expected, clips) * available[:, i]).mean()

        mse, triplet = F.mse_loss(score, target), hardest_triplet(queries, self.margin)
        total = 10 * mse + self.alpha * triplet + self.reconstruction_weight * reconstruction + self.kl_weight * kl
        return Loss(total, {"mse": mse, "triplet": triplet, "reconstruction": reconstruction, "kl": kl})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        hidden, some = (~visible).any(dim=0), available.any(dim=0)  # (M,) both
        idle = [self.projections[m] for i, m in enumerate(self.modalities) if not some[i]]
        if self.use_generator:
            idle += [self.generators[m] for i, m in enumerate(self.modalities) if not hidden[i]]
        return idle

    def enhance(self, features: Mapping[str, Tensor], seen: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Section 1, shared temporal enhancement: project each stream, encode all with one encoder; else zeros."""
        steps = features[self.modalities[0]].shape[1]
        real = seen.T.unsqueeze(-1).expand(-1, -1, steps)  # (M, B, T)
        real = real if clips is None else real & clips
        projected = [on_clips(self.projections[m], features[m], real[i]) for i, m in enumerate(self.modalities)]
        padding = None if clips is None else ~clips.repeat(len(self.modalities), 1)  # (M * B, T)
        encoded = in_rows(None, likewise(lambda x: x.T.flatten(), seen), self.encoder, torch.cat(projected), padding)
        encoded = encoded if padding is None else encoded.masked_fill(padding.unsqueeze(-1), 0.0)
        return dict(zip(self.modalities, encoded.unflatten(0, (len(self.modalities), -1)).unbind(), strict=True))

    def complete(self, encoded: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Section 2, adaptive gated modality generator: a generated stream wherever a modality is not visible."""
        if not self.use_generator:
            return {m: encoded[m] * visible[:, i].view(-1, 1, 1) for i, m in enumerate(self.modalities)}
        steps = encoded[self.modalities[0]].shape[1]
        context = torch.cat(list(encoded.values()), dim=1)  # (B, M * T, H)
        hidden_keys = (~visible).repeat_interleave(steps, dim=1)
        if clips is not None:
            hidden_keys = hidden_keys | ~clips.repeat(1, len(self.modalities))
        return {
            m: in_rows(encoded[m], hidden, partial(self._generate, m), context, hidden_keys, clips)
            for m, hidden in zip(self.modalities, slices(likewise(torch.logical_not, visible), 1), strict=True)
        }

    def hear(self, streams: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """What each of the M experts hears of every stream: M of (B, T, H / 2) by modality."""
        experts = cast(Sequence[Expert], list(self.experts.values())) if self.use_experts else []
        return {m: hear(experts, stream) for m, stream in streams.items() if experts}

    def mix(
        self,
        streams: Mapping[str, Tensor],
        clips: Tensor | None,
        heard: Mapping[str, Sequence[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Section 3, mixture of modality experts: every stream through every expert, weighted by the router per clip.

        heard: by `hear`, where it is known already.
        """
        if not self.use_experts:
            return dict(streams)
        experts = cast(Sequence[Expert], list(self.experts.values()))
        heard = self.hear(streams) if heard is None else heard
        mixed = {}
        for m, stream in streams.items():
            weights = self.router(stream).softmax(dim=-1).split(1, dim=-1)  # M of (B, T, 1)
            said = [expert.say(h, clips) for expert, h in zip(experts, heard[m], strict=True)]  # M of (B, T, H)
            parts = [opinion * weight for opinion, weight in zip(said, weights, strict=True)]
            mixed[m] = sum(parts[1:], start=parts[0])
        return mixed

    def join(self, mixed: Mapping[str, Tensor], clips: Tensor | None) -> Tensor:
        """End of section 3: the mixed streams joined over channels and projected to H, (B, T, H)."""
        return on_clips(self.fusion, torch.cat(list(mixed.values()), dim=-1), clips)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """router_weights (B, M, M): how much stream i listens to expert j, the mean over its clips.

        deviation (B,): of the distribution over grades whose mean is the score.
        """
        clips = self.real_clips(features, lengths, visible)
        streams = self.complete(self.enhance(features, visible, clips), visible, clips)
        queries = self.grades(self.join(self.mix(streams, clips), clips), clips)[1]
        found = {"deviation": grade_deviation(self.grades.weigh(queries))}
        if self.use_experts:
            weights = [self.mean_router_weights(stream, clips) for stream in streams.values()]
            found["router_weights"] = torch.stack(weights, dim=1)
        return found

    def clip_weights(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """By stream, how much each of its clips listens to each expert; streams that are made up have weights too."""
        if not self.use_experts:
            return {}
        clips = self.real_clips(features, lengths, visible)
        streams = self.complete(self.enhance(features, visible, clips), visible, clips)
        return {m: self.router(stream).softmax(dim=-1) for m, stream in streams.items()}

    def mean_router_weights(self, stream: Tensor, clips: Tensor | None) -> Tensor:
        """How much a stream (B, T, H) listens to each expert, the mean over its clips: (B, M)."""
        return clip_mean(self.router(stream).softmax(dim=-1), clips)

    def _generate(self, m: str, context: Tensor, hidden_keys: Tensor, clips: Tensor | None) -> Tensor:
        """The stream of m as its generator rebuilds it from the context (n, M * T, H): (n, T, H), zeros in padding."""
        generated = self.generators[m](context, hidden_keys, context.shape[1] // len(self.modalities))
        return generated if clips is None else generated * clips.unsqueeze(-1)

    def _heard_of_own(self, m: str, heard: Tensor, encoded: Tensor, visible: Tensor) -> Tensor:
        """What expert m hears of the true stream of m. heard: of the completed one, true where visible."""
        expert = cast(Expert, self.experts[m])
        return in_rows(heard, ~visible, lambda stream: hear([expert], stream)[0], encoded)

    def _expert_on_own(self, m: str, heard: Tensor, rows: Tensor, clips: Tensor | None) -> Tensor:
        """What expert m says of the true stream of m; rows that lack it stay out of its batch statistics."""
        every_clip = rows.unsqueeze(1).expand(heard.shape[:2])
        return cast(Expert, self.experts[m]).say(heard, every_clip if clips is None else every_clip & clips)
