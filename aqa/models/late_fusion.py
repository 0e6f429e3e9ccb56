"""Late fusion: one network per modality, each with its own score, and the mean of those that are visible.

What early and late fusion are, and that the latter needs nothing for what is missing, is in Baltrusaitis et al.,
Multimodal Machine Learning: A Survey and Taxonomy (TPAMI 2019, arXiv 1705.09406), section 6.1. The networks are those
of `grade_decoder` for one modality, GDLT as published. Each learns by itself from the videos in which its modality is
visible; nothing is learned of how they go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, counted_clips, on_clips, rows_of, scatter_rows, works_on_all
from aqa.layers.grade_decoder import GradeTransformer, grade_deviation, projection
from aqa.layers.losses import hardest_triplet, mean_loss
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Positive, Several, Share
from aqa.system.host_masks import slices


@register("late_fusion", paper="Multimodal Machine Learning: A Survey and Taxonomy, arXiv 1705.09406", year=2017)
class LateFusion(AQAModel):
    """One grade decoder per modality; the mean of the visible ones' scores.

    widths: modality -> channels D. feedforward_dim: 3 * hidden_dim where None. alpha, margin: weight and margin of the
    triplet loss. position: whether a sinusoid numbers the prototypes ("query"); GDLT has none. mask_padding: padded
    clips stay out of statistics and attention.
    """

    fixed_shapes = True
    takes_unaligned = True
    shares_patterns = True

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
        self.n_query = n_query
        self.projections = ByModality({m: projection(width, hidden_dim) for m, width in widths.items()})
        sizes = (hidden_dim, n_head, n_encoder, n_decoder, n_query, feedforward_dim)
        self.networks = ByModality({m: GradeTransformer(*sizes, dropout, position) for m in widths})

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"position": "query", **options}

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Each modality's score (B,) and its weights of the grades (B, n_query); zeros where it is not seen."""
        streams = {}
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            score, grades = torch.zeros(0, device=seen.device), torch.zeros(0, self.n_query, device=seen.device)
            if any_of(rows):
                score, queries = self.grade(m, features, rows, lengths)
                grades = cast(GradeTransformer, self.networks[m]).grades.weigh(queries)
            streams[m] = scatter_rows(score, rows), scatter_rows(grades, rows)
        return Encoded(streams)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The mean of the visible modalities' scores.

        deviation (B,): of the mean of the visible modalities' distributions over grades.
        """
        scores, grades = (sum(parts[1:], start=parts[0]) for parts in zip(*encoded.streams.values(), strict=True))
        count = visible.sum(dim=1)
        return RowScores(scores / count, {"deviation": grade_deviation(grades / count.unsqueeze(1))})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """The mean over modalities of what each network would be trained with alone."""
        errors, triplets = [], []
        for m, rows in zip(self.modalities, visible.T, strict=True):
            if any_of(rows):
                score, queries = self.grade(m, features, rows, lengths)
                errors.append(mean_loss(F.mse_loss, score, rows_of(target, rows), rows))
                triplets.append(hardest_triplet(queries, self.margin, rows if works_on_all(rows) else None))
        seen = visible.any(dim=0).sum()  # of a modality that no row shows both are 0
        mse, triplet = torch.stack(errors).sum() / seen, torch.stack(triplets).sum() / seen
        return Loss(mse + self.alpha * triplet, {"mse": mse, "triplet": triplet})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        unseen = [m for m, seen in zip(self.modalities, visible.any(dim=0), strict=True) if not seen]
        return [part[m] for m in unseen for part in (self.projections, self.networks)]

    def grade(
        self, m: str, features: Mapping[str, Tensor], rows: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Scores (n,) and decoded queries (n, n_query, H) of modality m in the n of the rows (B,) that have it."""
        real = self.real_clips_of(m, features, lengths)
        stream = on_clips(self.projections[m], rows_of(features[m], rows), counted_clips(real, rows))
        return self.networks[m](stream, attended_clips(real, rows))
