"""What each clip adds to a score by the model's gradient: integrated gradients.

Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, equation 1. The straight path leads from
a video whose clips are all alike, each stream the mean of its clips, to the video itself. What all clips of a video
add up to is its score minus that of the video of like clips, up to the error of the sum that stands for the integral.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from aqa.models import AQAModel
from aqa.system.precision import float32_products

STEPS = 32  # of the midpoint rule


def integrated_gradients(
    model: AQAModel,
    features: Mapping[str, Tensor],
    visible: Tensor,
    lengths: Mapping[str, Tensor],
    steps: int = STEPS,
) -> dict[str, Tensor]:
    """What each clip adds, in [0, 1] units: modality -> (B, T), 0 for padding and for hidden streams.

    features, visible, lengths: as `AQAModel.score` takes them; the model is one that is `differentiable`.
    """
    seen = dict(zip(model.modalities, visible.T, strict=True))
    level = {m: level_stream(x, lengths[m], seen[m]) for m, x in features.items()}
    step = {m: (features[m] - level[m]).masked_fill(~seen[m].view(-1, 1, 1), 0.0) for m in features}
    slopes = {m: torch.zeros_like(x) for m, x in features.items()}
    for place in (torch.arange(steps) + 0.5) / steps:
        at = {m: (level[m] + float(place) * step[m]).requires_grad_() for m in features}
        with torch.enable_grad(), float32_products("float32"):
            score = model.score(at, visible, lengths).sum()
        for m, slope in zip(at, torch.autograd.grad(score, list(at.values()), allow_unused=True), strict=True):
            if slope is not None:
                slopes[m] += slope.masked_fill(~seen[m].view(-1, 1, 1), 0.0) / steps
    return {m: (step[m] * slopes[m]).sum(dim=-1).double() for m in features}


def level_stream(stream: Tensor, lengths: Tensor, seen: Tensor) -> Tensor:
    """A stream (B, T, D) whose real clips are all their mean; padding, and rows in which it is hidden, as they are."""
    real = (torch.arange(stream.shape[1], device=stream.device) < lengths.unsqueeze(1)) & seen.unsqueeze(1)
    total = stream.masked_fill(~real.unsqueeze(-1), 0.0).sum(dim=1, keepdim=True)
    mean = total / real.sum(dim=1).clamp(min=1).view(-1, 1, 1)
    return torch.where(real.unsqueeze(-1), mean, stream)
