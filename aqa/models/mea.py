"""MEA, after the abstract of its paper: modality-exclusive and -agnostic representations of unaligned streams.

Paper: Yang et al., Asynchronous Multimodal Video Sequence Fusion via Learning Modality-Exclusive and -Agnostic
Representations, IEEE TCSVT 2024, https://arxiv.org/abs/2407.04955 (multimodal sentiment and emotion recognition).

Streams come in as they are, of whatever lengths and rates. Every stream is read twice: by an encoder of its own, in
whose space predictive self-attention follows the stream's dynamics (modality-exclusive), and by one encoder that all
streams share, in whose space cross-modal attention relates their clips level by level (modality-agnostic). Two
discriminators keep the spaces apart: each tells the modality of a representation; the exclusive encoders help theirs,
the agnostic side is trained against its own. Each space is a graph whose nodes are the streams; both graphs are fused
by attention along their edges, and what they say together is regressed.

Changed, to regress scores from clip features with streams missing:

- a stream that is hidden has no clips to attend to, no node in a graph and no term in a loss;
- the regression is a distribution over grades, as GDLT has it, where the paper has a class or a sentiment;
- the projections are batch-normalized, which removes the most obvious marks of a modality;
- `mask_padding=True` keeps padded clips out of everything.

No published code was found, and only the abstract of the paper was available. Chosen for what it leaves open:

- predictive self-attention, after Wang et al. 2021 ("Evolving Attention with Residual Convolutions", ICML): the
  attention map of a layer is predicted from the map of the layer before by a 3 x 3 convolution, and mixed with the
  layer's own;
- a level of the hierarchical attention lets each stream attend to all clips of the others as the level before left
  them, so that all rise together; its weights are shared by the streams, so that no stream has a mapping of its own;
- adversarial training by gradient reversal (Ganin et al. 2016); the discriminators read a stream's mean over its clips,
  which is also its node in the graph. The agnostic one learns ten times as fast as the rest: one that lags behind is
  misled without anything being hidden;
- the graphs are decoupled: no edge joins the spaces, and edges are scaled dot products of learned nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, clip_mean, on_clips, rows_of
from aqa.layers.grade_decoder import grade_deviation, mean_grade, sinusoid
from aqa.layers.losses import mean_loss
from aqa.layers.transformer import check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Natural, Positive, Several, Share
from aqa.system.host_masks import slices


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is reversed and weighed. Ganin et al. 2016, section 4.2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


def masked_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the last dimension of what is allowed (bool, broadcast); zeros where nothing is."""
    weights = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~allowed, 0.0)


class Attention(nn.Module):
    """Multi-head attention that shows its map, the logits before the softmax, and can be given another."""

    def __init__(self, hidden_dim: int, n_head: int):
        super().__init__()
        self.n_head = n_head
        self.query, self.key, self.value, self.out = (nn.Linear(hidden_dim, hidden_dim) for _ in range(4))

    def map(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B, T, H), context (B, S, H) -> logits (B, heads, T, S)."""
        query, key = self._split(self.query(x)), self._split(self.key(context))
        return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])

    def read(self, logits: Tensor, context: Tensor, keys: Tensor) -> Tensor:
        """What the map takes from the context where keys (B, S) allow: (B, T, H), zeros where they allow nothing."""
        weights = masked_softmax(logits, keys[:, None, None])
        taken = (weights @ self._split(self.value(context))).transpose(1, 2).flatten(2)
        return self.out(taken) * keys.any(dim=1).view(-1, 1, 1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, heads, T, H / heads)


class Layer(nn.Module):
    """What a transformer puts around an attention: residuals, norms and a feed-forward network (post-norm)."""

    def __init__(self, hidden_dim: int, n_head: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.attention = Attention(hidden_dim, n_head)
        self.feedforward = nn.Sequential(
            nn.Linear(hidden_dim, feedforward_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward_dim, hidden_dim),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def add(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer, from what its attention found: (B, T, H)."""
        x = self.norms[0](x + self.dropout(attended))
        return self.norms[1](x + self.dropout(self.feedforward(x)))


class PredictiveEncoder(nn.Module):
    """Self-attention layers, each of whose maps is partly predicted from the map of the layer before.

    prediction: the share of the prediction in a map; the rest is the layer's own.
    """

    def __init__(
        self, hidden_dim: int, n_head: int, n_layer: int, feedforward_dim: int, dropout: float, prediction: float
    ):
        super().__init__()
        self.prediction = prediction
        self.layers = nn.ModuleList(Layer(hidden_dim, n_head, feedforward_dim, dropout) for _ in range(n_layer))
        self.predictors = nn.ModuleList(nn.Conv2d(n_head, n_head, 3, padding=1) for _ in range(n_layer - 1))
        for predictor in cast(Iterable[nn.Conv2d], self.predictors):
            nn.init.dirac_(predictor.weight)  # the first guess is the map of the layer before, unchanged

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        """stream (B, T, H), clips (B, T) bool: which may be looked at -> (B, T, H)."""
        return self.attend(stream, clips)[0]

    def attend(self, stream: Tensor, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Also the map of each layer, logits (B, heads, T, T)."""
        real = (clips.unsqueeze(2) & clips.unsqueeze(1)).unsqueeze(1)  # a convolution must not see maps of padding
        maps: list[Tensor] = []
        for i, layer in enumerate(cast(Iterable[Layer], self.layers)):
            logits = layer.attention.map(stream, stream)
            if maps:
                predicted = self.predictors[i - 1](maps[-1].masked_fill(~real, 0.0))
                logits = self.prediction * predicted + (1 - self.prediction) * logits
            maps.append(logits)
            stream = layer.add(stream, layer.attention.read(logits, stream, clips))
        return stream, maps


class CrossModalLevel(Layer):
    """One level of the hierarchy: each stream attends to all clips of the other streams."""

    def forward(self, streams: list[Tensor], clips: list[Tensor]) -> list[Tensor]:
        """streams M of (B, T_m, H), clips M of (B, T_m) bool -> M of (B, T_m, H)."""
        return [self.add(stream, self._from_others(i, streams, clips)) for i, stream in enumerate(streams)]

    def _from_others(self, i: int, streams: list[Tensor], clips: list[Tensor]) -> Tensor:
        if len(streams) == 1:
            return torch.zeros_like(streams[i])
        context = torch.cat(streams[:i] + streams[i + 1 :], dim=1)
        keys = torch.cat(clips[:i] + clips[i + 1 :], dim=1)
        return self.attention.read(self.attention.map(streams[i], context), context, keys)


class GraphFusion(nn.Module):
    """One space's graph: its nodes exchange messages along weighted edges, then their weighted mean is read."""

    def __init__(self, hidden_dim: int, dropout: float):
        super().__init__()
        self.source, self.sink, self.message = (nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.importance = nn.Linear(hidden_dim, 1)
        self.norm = nn.LayerNorm(hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def edges(self, nodes: Tensor, visible: Tensor) -> Tensor:
        """How much node i listens to node j, (B, M, M): a distribution over the visible ones, zeros for hidden i."""
        logits = self.sink(nodes) @ self.source(nodes).transpose(1, 2) / math.sqrt(nodes.shape[-1])
        return masked_softmax(logits, visible.unsqueeze(1)) * visible.unsqueeze(2)

    def forward(self, nodes: Tensor, visible: Tensor) -> Tensor:
        """nodes (B, M, H), visible (B, M) bool -> (B, H)."""
        heard = F.gelu(self.edges(nodes, visible) @ self.message(nodes))
        nodes = self.norm(nodes + self.dropout(heard))
        weights = masked_softmax(self.importance(nodes).squeeze(-1), visible)
        return (weights.unsqueeze(1) @ nodes).squeeze(1)


def discriminator(hidden_dim: int, modalities: int) -> nn.Sequential:
    """Tells the modality of a representation: (n, H) -> logits (n, M)."""
    return nn.Sequential(
        nn.Linear(hidden_dim, 4 * hidden_dim), nn.LeakyReLU(0.1), nn.Linear(4 * hidden_dim, modalities)
    )


@register("mea", paper="arXiv 2407.04955", year=2024, after_abstract=True)
class MEA(AQAModel):
    """After the abstract of MEA: modality-exclusive and -agnostic representations of unaligned streams, as graphs.

    widths: modality -> channels D. n_encoder: layers of predictive self-attention. n_level: levels of cross-modal
    attention. feedforward_dim: 2 * hidden_dim where None. prediction: share of an attention map that is predicted from
    the layer before, in [0, 1]. exclusive_weight: weight of the exclusive discriminator's loss. agnostic_weight: weight
    of the reversed gradient. discriminator_rate: factor on the learning rate of the agnostic discriminator.
    """

    fixed_shapes = True
    takes_unaligned = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 64,
        n_head: Positive = 4,
        n_encoder: Natural = 2,
        n_level: Natural = 2,
        n_query: Several = 5,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.1,
        prediction: Annotated[float, Field(ge=0, le=1)] = 0.5,
        agnostic_weight: float = 0.1,
        exclusive_weight: float = 0.1,
        discriminator_rate: float = 10.0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'mea'", hidden_dim, n_head)
        self.agnostic_weight, self.exclusive_weight = agnostic_weight, exclusive_weight
        self.discriminator_rate, self.mask_padding = discriminator_rate, mask_padding
        feedforward_dim = feedforward_dim or 2 * hidden_dim

        self.projections = ByModality({m: nn.Conv1d(d, hidden_dim, 3, padding=1) for m, d in widths.items()})
        self.norms = ByModality({m: nn.BatchNorm1d(hidden_dim) for m in widths})
        self.exclusive_encoders = ByModality({m: nn.Linear(hidden_dim, hidden_dim) for m in widths})
        self.agnostic_encoder = nn.Linear(hidden_dim, hidden_dim)
        self.self_attention = ByModality(
            {m: PredictiveEncoder(hidden_dim, n_head, n_encoder, feedforward_dim, dropout, prediction) for m in widths}
        )
        self.cross_modal_levels = nn.ModuleList(
            CrossModalLevel(hidden_dim, n_head, feedforward_dim, dropout) for _ in range(n_level)
        )
        self.exclusive_discriminator = discriminator(hidden_dim, len(widths))
        self.agnostic_discriminator = discriminator(hidden_dim, len(widths))
        self.exclusive_graph = GraphFusion(hidden_dim, dropout)
        self.agnostic_graph = GraphFusion(hidden_dim, dropout)
        self.grades = nn.Sequential(
            nn.Linear(2 * hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, n_query)
        )

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Each stream's exclusive representation (B, H), its clips in the shared space (B, T, H) and which are real."""
        streams = {}
        for i, m in enumerate(self.modalities):
            clips = seen[:, i : i + 1] & self.real_clips_of(m, features, lengths)
            stream = features[m].masked_fill(~clips.unsqueeze(-1), 0.0)
            stream = self.projections[m](stream.transpose(1, 2)).transpose(1, 2)
            stream = on_clips(self.norms[m], stream, clips) if any_of(clips) else stream
            place = sinusoid(stream.shape[1], stream.shape[2], stream.device)
            exclusive = self.self_attention[m](self.exclusive_encoders[m](stream) + place, clips)
            shared = (self.agnostic_encoder(stream) + place).masked_fill(~clips.unsqueeze(-1), 0.0)
            streams[m] = clip_mean(exclusive, clips), shared, clips
        return Encoded(streams)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The mean grade of what the two graphs say together.

        exclusive_edges and agnostic_edges (B, M, M): how much stream i listens to stream j in either graph.
        deviation (B,): of the distribution over grades whose mean is the score.
        """
        exclusive, agnostic = self.represent(encoded, visible)
        grades = self.distribution(exclusive, agnostic, visible)
        diagnostics = {
            "exclusive_edges": self.exclusive_graph.edges(exclusive, visible),
            "agnostic_edges": self.agnostic_graph.edges(agnostic, visible),
            "deviation": grade_deviation(grades),
        }
        return RowScores(mean_grade(grades), diagnostics)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        exclusive, agnostic = self.represent(self.encode(features, visible, lengths), visible)
        mse = F.mse_loss(mean_grade(self.distribution(exclusive, agnostic, visible)), target)
        exclusive_loss = modality_loss(self.exclusive_discriminator(exclusive), visible)
        # The weight applies to the gradient into the encoders; the discriminator itself learns at full strength.
        reversed_agnostic = ReverseGradient.apply(agnostic, self.agnostic_weight)
        agnostic_loss = modality_loss(self.agnostic_discriminator(reversed_agnostic), visible)
        total = 10 * mse + self.exclusive_weight * exclusive_loss + agnostic_loss
        return Loss(total, {"mse": mse, "exclusive": exclusive_loss, "agnostic": agnostic_loss})

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        return {"agnostic_discriminator": self.discriminator_rate}

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        shown = visible.any(dim=0)
        idle = [self.norms[m] for m, seen in zip(self.modalities, shown, strict=True) if not seen]
        if shown.sum() == 1:  # which has no other to attend to
            idle += [cast(Layer, level).attention for level in self.cross_modal_levels]
        return idle

    def represent(self, encoded: Encoded, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Each stream's exclusive and its agnostic representation, (B, M, H) both; zeros where not visible.

        Cross-modal attention is among the streams that some row shows: a stream that none shows costs nothing.
        """
        exclusive, shared, clips = zip(*encoded.streams.values(), strict=True)
        shown = [i for i, rows in enumerate(slices(visible, 1)) if any_of(rows)]
        related, real = [shared[i] for i in shown], [clips[i] for i in shown]
        for level in self.cross_modal_levels:
            related = level(related, real)
        agnostic = [torch.zeros_like(node) for node in exclusive]
        for i, stream, own in zip(shown, related, real, strict=True):
            agnostic[i] = clip_mean(stream, own)
        return torch.stack(exclusive, dim=1), torch.stack(agnostic, dim=1)

    def distribution(self, exclusive: Tensor, agnostic: Tensor, visible: Tensor) -> Tensor:
        """The distribution over grades (B, n_query) from the two graphs' nodes."""
        fused = torch.cat([self.exclusive_graph(exclusive, visible), self.agnostic_graph(agnostic, visible)], dim=-1)
        return cast(Tensor, self.grades(fused)).softmax(dim=-1)


def modality_loss(logits: Tensor, visible: Tensor) -> Tensor:
    """Cross-entropy of telling the modality of each visible representation; logits (B, M, M), visible (B, M)."""
    truth = torch.arange(visible.shape[1], device=visible.device).expand_as(visible)
    rows, said = visible.flatten(), logits.flatten(0, 1)  # (B * M,), (B * M, M)
    return mean_loss(F.cross_entropy, rows_of(said, rows), rows_of(truth.flatten(), rows), rows)
