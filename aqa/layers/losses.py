"""Loss terms shared by models, in float32 whatever the models compute in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def hardest_triplet(queries: Tensor, margin: float) -> Tensor:
    """Triplet loss with the hardest pairs of a batch, so that decoded queries keep their own meaning.

    queries: (B, Q, H) decoded queries; the index of a query is its label. Of all B * Q vectors, each is pulled towards
    the farthest of its own label and pushed from the nearest of another, in cosine distance, until they differ by
    `margin`. Returns a scalar. Hermans et al. 2017, section 3 (batch hard); Xu et al. 2022 (GDLT), section 3.3.
    """
    rows, labels, _ = queries.shape
    with torch.autocast(queries.device.type, enabled=False):
        vectors = F.normalize(queries.float().flatten(0, 1), dim=-1)  # (B * Q, H)
        distance = 1.0 - vectors @ vectors.T
    label = torch.arange(labels, device=queries.device).repeat(rows)
    same = label.unsqueeze(0) == label.unsqueeze(1)
    farthest_same = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest_other = distance.masked_fill(same, torch.inf).amin(dim=1)
    return F.relu(farthest_same - nearest_other + margin).mean()


def row_mean(values: Tensor, clips: Tensor | None) -> Tensor:
    """Mean of (B, T, C) over channels and real clips, a value per row (B,). clips: (B, T) bool, or None for all."""
    by_clip = values.mean(dim=-1)
    if clips is None:
        return by_clip.mean(dim=1)
    return (by_clip * clips).sum(dim=1) / clips.sum(dim=1).clamp(min=1)


def squared_error(prediction: Tensor, truth: Tensor, clips: Tensor | None = None) -> Tensor:
    """Mean squared difference of two streams (B, T, C), a value per row (B,)."""
    return row_mean((prediction.float() - truth.float()).square(), clips)


def channel_divergence(stream: Tensor, reference: Tensor, clips: Tensor | None = None) -> Tensor:
    """KL(softmax over channels of `reference` || softmax over channels of `stream`), (B, T, C) both.

    The mean is over elements, not clips, as the published MCMoE has it. Returns a value per row (B,).
    """
    told, expected = stream.float().log_softmax(-1), reference.float().log_softmax(-1)
    return row_mean(F.kl_div(told, expected, reduction="none", log_target=True), clips)
