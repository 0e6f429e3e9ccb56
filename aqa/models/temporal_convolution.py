"""Convolutions over neighbouring clips of all streams together, then the mean over time: a plain sequence model.

Bai, Kolter and Koltun, An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling
(2018, arXiv 1803.01271), found convolutions over time a strong first choice. Theirs are causal and dilated, because
they predict the next step; a performance is scored once it is over, so here they look both ways and are not dilated.

Streams are added clip by clip, so the first convolution already sees which stream shows what before or after which
other one. A hidden stream adds nothing, and one learned vector says that it is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import clip_mean, every_clip
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Positive, Share


@register(
    "temporal_convolution",
    paper="An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling, "
    "arXiv 1803.01271",
    year=2018,
)
class TemporalConvolution(AQAModel):
    """Convolutions over time on the sum of the visible streams; the mean of what they find is the score.

    widths: modality -> channels D. n_layer: convolutions, each with a residual connection. kernel_size: clips that one
    of them sees, odd. mask_padding: padded clips are zeros in every layer and stay out of the mean.
    """

    fixed_shapes = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 64,
        n_layer: Positive = 2,
        kernel_size: Literal[1, 3, 5, 7, 9] = 5,
        dropout: Share = 0.1,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        self.mask_padding = mask_padding
        self.projections = ByModality({m: nn.Linear(width, hidden_dim) for m, width in widths.items()})
        self.hidden_streams = nn.Parameter(torch.zeros(len(widths), hidden_dim))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden_dim, hidden_dim, kernel_size, padding=kernel_size // 2) for _ in range(n_layer)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, 1)

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Each stream projected, (B, T, H)."""
        clips = self.real_clips(features, lengths, seen)
        streams = {}
        for m, rows in zip(self.modalities, seen.T, strict=True):
            hidden = ~rows.view(-1, 1, 1)
            stream = self.projections[m](features[m].masked_fill(hidden, 0.0))
            streams[m] = (stream.masked_fill(hidden, 0.0),)
        return Encoded(streams, every_clip(features[self.modalities[0]]) if clips is None else clips)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        clips = cast(Tensor, encoded.clips)
        found = self.convolve(self.join(encoded, visible), clips)
        return RowScores(self.head(self.dropout(clip_mean(found, clips))).squeeze(-1).sigmoid(), {})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """The mean squared error."""
        mse = F.mse_loss(self.score(features, visible, lengths), target)
        return Loss(mse, {"mse": mse})

    def join(self, encoded: Encoded, visible: Tensor) -> Tensor:
        """The sum of the visible streams, projected, and of a vector for each hidden one: (B, T, H)."""
        joined = (~visible).to(self.hidden_streams.dtype) @ self.hidden_streams  # (B, H)
        joined = joined.unsqueeze(1)
        for (stream,) in encoded.streams.values():
            joined = joined + stream
        return joined

    def convolve(self, stream: Tensor, clips: Tensor) -> Tensor:
        """(B, T, H), clips (B, T) bool -> (B, T, H), zeros where no clip is real."""
        padded = ~clips.unsqueeze(1)  # (B, 1, T)
        x = stream.transpose(1, 2).masked_fill(padded, 0.0)
        for convolution in self.convolutions:
            x = x + self.dropout(F.relu(convolution(x)))
            x = x.masked_fill(padded, 0.0)
        return x.transpose(1, 2)
