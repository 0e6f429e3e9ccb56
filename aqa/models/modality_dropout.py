"""Modality dropout: early fusion trained with whole streams hidden at random.

Paper: Neverova et al., ModDrop: Adaptive Multi-Modal Gesture Recognition, TPAMI 2016 (arXiv 1501.00102).

ModDrop drops the input of each modality independently, sample by sample, while the fused network trains, so that it
learns from any of them and from what they say together. Here the fused network is the grade decoder with zeros for
whatever is hidden, by the pattern of the experiment or by dropping. The paper first trains one network per modality and
initializes the fused one from them; here all is trained at once, as is usual since. At the default rate of a half every
subset of the visible modalities is about as likely as any other; a row keeps one of them, chosen evenly, where all
would go.

With `missing.train: none` the dropping is all that hides; with a pattern that hides too, both do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aqa.models import register
from aqa.models.base import Loss
from aqa.models.early_fusion import EarlyFusion
from aqa.registry import Share


@register("modality_dropout", paper="ModDrop: Adaptive Multi-Modal Gesture Recognition, arXiv 1501.00102", year=2016)
class ModalityDropout(EarlyFusion):
    """Early fusion trained with streams hidden at random (ModDrop).

    rate: probability that a visible stream of a training video is hidden.
    """

    fixed_shapes = True

    def __init__(self, widths: Mapping[str, int], *, rate: Share = 0.5, **options: Any):
        super().__init__(widths, **options)
        self.rate = rate

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        if self.training:
            visible = dropped(visible, self.rate)
        return super().loss(features, target, visible, available, lengths)


def dropped(visible: Tensor, rate: float) -> Tensor:
    """Visibility (B, M) with each entry taken away at a rate, but never a row's last."""
    draw = torch.rand(visible.shape, device=visible.device).masked_fill(~visible, -1.0)
    highest = draw == draw.amax(dim=1, keepdim=True)  # whichever is drawn highest would go last
    return visible & ((draw >= rate) | highest)
