"""Loss terms shared by models, in float32 whatever the models compute in."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from aqa.layers.clips import works_on_all
from aqa.system.precision import at_least_float32


def hardest_triplet(queries: Tensor, margin: float, rows: Tensor | None = None) -> Tensor:
    """Triplet loss with the hardest pairs of a batch, so that decoded queries keep their own meaning.

    queries: (B, Q, H) decoded queries; the index of a query is its label. Of all B * Q vectors, each is pulled towards
    the farthest of its own label and pushed from the nearest of another, in cosine distance, until they differ by
    `margin`. Returns a scalar. Hermans et al. 2017, section 3 (batch hard); Xu et al. 2022 (GDLT), section 3.3.
    rows: (B,) bool, those that count, all by default; 0 where none does.
    """
    count, labels, _ = queries.shape
    with torch.autocast(queries.device.type, enabled=False):
        vectors = F.normalize(at_least_float32(queries).flatten(0, 1), dim=-1)  # (B * Q, H)
        distance = 1.0 - vectors @ vectors.T
    label = torch.arange(labels, device=queries.device).repeat(count)
    same = label.unsqueeze(0) == label.unsqueeze(1)
    other = ~same
    if rows is not None:
        kept = rows.repeat_interleave(labels)
        same, other = same & kept, other & kept
    farthest_same = distance.masked_fill(~same, -torch.inf).amax(dim=1)
    nearest_other = distance.masked_fill(~other, torch.inf).amin(dim=1)
    by_vector = F.relu(farthest_same - nearest_other + margin)
    return by_vector.mean() if rows is None else masked_mean(by_vector, kept)


def masked_mean(values: Tensor, kept: Tensor) -> Tensor:
    """The mean of the values where kept, bool of the same shape, is true; 0 where it is nowhere."""
    return values.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)


def mean_where(values: Tensor, kept: Tensor) -> Tensor:
    """The mean of the values where kept, bool of the same shape, is true in some place."""
    return masked_mean(values, kept) if works_on_all(kept) else values[kept].mean()


def mean_loss(loss: Callable[..., Tensor], predicted: Tensor, truth: Tensor, rows: Tensor) -> Tensor:
    """One of torch's losses, its mean over the rows that count. predicted, truth: (n, ...), both from `rows_of`."""
    return masked_mean(loss(predicted, truth, reduction="none"), rows) if works_on_all(rows) else loss(predicted, truth)


def row_mean(values: Tensor, clips: Tensor | None) -> Tensor:
    """Mean of (B, T, C) over channels and real clips, a value per row (B,). clips: (B, T) bool, or None for all."""
    by_clip = values.mean(dim=-1)
    if clips is None:
        return by_clip.mean(dim=1)
    return (by_clip * clips).sum(dim=1) / clips.sum(dim=1).clamp(min=1)


def squared_error(prediction: Tensor, truth: Tensor, clips: Tensor | None = None) -> Tensor:
    """Mean squared difference of two streams (B, T, C), a value per row (B,)."""
    return row_mean((at_least_float32(prediction) - at_least_float32(truth)).square(), clips)


def channel_divergence(stream: Tensor, reference: Tensor, clips: Tensor | None = None) -> Tensor:
    """KL(softmax over channels of `reference` || softmax over channels of `stream`), (B, T, C) both.

    The mean is over elements, not clips, as the published MCMoE has it. Returns a value per row (B,).
    """
    told, expected = (at_least_float32(x).log_softmax(-1) for x in (stream, reference))
    return row_mean(F.kl_div(told, expected, reduction="none", log_target=True), clips)
