"""Early fusion in which a hidden stream is the training mean of its modality's features.

Filling with training means is the usual baseline beside zeros; Che et al., Recurrent Neural Networks for Multivariate
Time Series with Missing Values (arXiv 1606.01865), compare it for deep sequence models. The mean of each channel is
over the real clips of all training videos that have the modality, whether the pattern hides it or not, and is
updated batch by batch: exact after one epoch, and saved with the weights. The network is not told what is missing.

Where `data.standardize` has brought every channel's mean to zero this is `zero_fill`, almost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aqa.layers.clips import before_padding, every_clip, works_on_all
from aqa.models import register
from aqa.models.base import Loss
from aqa.models.early_fusion import EarlyFusion, fill_hidden


@register(
    "mean_fill",
    paper="Recurrent Neural Networks for Multivariate Time Series with Missing Values, arXiv 1606.01865",
    year=2016,
)
class MeanFill(EarlyFusion):
    """Early fusion; the features of a hidden stream are their training mean."""

    fixed_shapes = True

    mean: Tensor  # (sum of widths,), modality by modality
    clips: Tensor  # (M,), how many it is the mean of

    def __init__(self, widths: Mapping[str, int], **options: Any):
        super().__init__(widths, **options)
        self.register_buffer("mean", torch.zeros(sum(widths.values())))
        self.register_buffer("clips", torch.zeros(len(widths), dtype=torch.long))

    def means(self) -> dict[str, Tensor]:
        """The mean clip (D,) of each modality so far, a view of the buffer."""
        return dict(zip(self.modalities, self.mean.split(list(self.widths.values())), strict=True))

    def fill(self, features: Mapping[str, Tensor], visible: Tensor) -> dict[str, Tensor]:
        """Features (B, T, D) by modality, the mean of those that training has seen where hidden."""
        return fill_hidden(features, visible, self.means())

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        if self.training:
            self.take_in(features, available, lengths)
        return super().loss(features, target, visible, available, lengths)

    @torch.no_grad()
    def take_in(self, features: Mapping[str, Tensor], available: Tensor, lengths: Mapping[str, Tensor] | None) -> None:
        """Bring the means up to date with the real clips of a batch."""
        for i, (m, mean) in enumerate(self.means().items()):
            stream = features[m]
            real = every_clip(stream) if lengths is None else before_padding(lengths[m], stream.shape[1])
            real = real & available[:, i : i + 1]  # (B, T)
            self.clips[i] += real.sum()
            apart = (stream - mean).masked_fill(~real.unsqueeze(-1), 0.0) if works_on_all(real) else stream[real] - mean
            mean += apart.flatten(0, -2).sum(dim=0) / self.clips[i].clamp(min=1)
