"""Early fusion: what the baselines that join streams over channels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import on_clips
from aqa.layers.grade_decoder import GradeTransformer, grade_deviation, projection
from aqa.layers.losses import hardest_triplet
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Positive, Several, Share


class EarlyFusion(AQAModel):
    """One GDLT for all streams: each is projected, and they are joined over channels, clip by clip.

    What takes the place of a hidden stream is up to the model: by `fill`, where something replaces its features,
    or by `project`. With one modality this is GDLT as it was published. Where `project` leaves zeros, streams are
    projected once for all patterns (`shares_patterns`); what `fill` puts there is projected with them, by pattern.

    widths: modality -> channels D. feedforward_dim: 3 * hidden_dim where None. alpha, margin: weight and margin of the
    triplet loss that keeps decoded queries apart. position: whether a sinusoid numbers the prototypes ("query"); GDLT
    has none. mask_padding: padded clips stay out of statistics and attention.
    """

    #: Whether the network is told which streams are visible, by a channel of ones or zeros for each.
    tells_visible = False

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 1,
        n_encoder: Positive = 1,
        n_decoder: Positive = 2,
        n_query: Several = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.3,
        alpha: float = 1.0,
        margin: float = 1.0,
        position: Literal["none", "query"] = "none",
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        self.alpha, self.margin, self.mask_padding = alpha, margin, mask_padding
        self.hidden_dim, streams = hidden_dim, len(widths)
        self.projections = ByModality({m: projection(width, hidden_dim) for m, width in widths.items()})
        if streams > 1:
            self.join = nn.Linear(streams * hidden_dim + (streams if self.tells_visible else 0), hidden_dim)
        self.network = GradeTransformer(
            hidden_dim, n_head, n_encoder, n_decoder, n_query, feedforward_dim, dropout, position
        )

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"position": "query", **options}

    def fill(self, features: Mapping[str, Tensor], visible: Tensor) -> dict[str, Tensor]:
        """Features (B, T, D) by modality, with something in the place of those that are hidden: here, zeros."""
        return fill_hidden(features, visible, dict.fromkeys(self.modalities, 0.0))

    def project(self, features: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Every stream in the shared space, (B, T, H) by modality."""
        filled = self.fill(features, visible)
        return {m: on_clips(self.projections[m], filled[m], clips) for m in self.modalities}

    def together(self, streams: Sequence[Tensor], visible: Tensor) -> Tensor:
        """Streams (B, T, H) as one, (B, T, H)."""
        parts = list(streams)
        if len(parts) == 1:
            return parts[0]
        if self.tells_visible:
            parts.append(visible.unsqueeze(1).expand(-1, parts[0].shape[1], -1).to(parts[0]))
        return self.join(torch.cat(parts, dim=-1))

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        clips = self.real_clips(features, lengths, seen)
        return Encoded({m: (stream,) for m, stream in self.project(features, seen, clips).items()}, clips)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """deviation (B,): of the distribution over grades whose mean is the score."""
        score, queries = self.grade(encoded, visible)
        return RowScores(score, {"deviation": grade_deviation(self.network.grades.weigh(queries))})

    def grade(self, encoded: Encoded, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B,) and decoded queries (B, n_query, H)."""
        streams = [stream for (stream,) in encoded.streams.values()]
        return self.network(self.together(streams, visible), encoded.clips)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """Mean squared error and the triplet loss of decoded queries. Xu et al. 2022, section 3.3."""
        score, queries = self.grade(self.encode(features, visible, lengths), visible)
        mse, triplet = F.mse_loss(score, target), hardest_triplet(queries, self.margin)
        return Loss(mse + self.alpha * triplet, {"mse": mse, "triplet": triplet})


def fill_hidden(
    features: Mapping[str, Tensor], visible: Tensor, values: Mapping[str, Tensor | float]
) -> dict[str, Tensor]:
    """Features (B, T, D) by modality, with its value (D,) in every clip of the rows where a modality is hidden.

    visible: (B, M), its columns in the order of `values`.
    """
    return {
        m: torch.where(seen.view(-1, 1, 1), features[m], value)
        for (m, value), seen in zip(values.items(), visible.T, strict=True)
    }
