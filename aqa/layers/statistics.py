"""Statistics of every channel of a stream over its real clips, by which a video becomes one row of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from aqa.layers.clips import before_padding, every_clip

QUANTILES = (0.1, 0.9)

# Each takes a stream (n, T, D) with zeros for padding, which clips are real (n, T, 1), and how many (n, 1); every video
# has one clip or more.
Statistic = Callable[[Tensor, Tensor, Tensor], Tensor]


def channel_mean(stream: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """The mean of each channel, (n, D)."""
    return stream.sum(dim=1) / count


def channel_deviation(stream: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """The standard deviation of each channel, divided by n and not n - 1, (n, D)."""
    apart = stream - channel_mean(stream, real, count).unsqueeze(1)
    return (apart.square().masked_fill(~real, 0.0).sum(dim=1) / count).sqrt()


def channel_slope(stream: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """How far the regression line of each channel on time rises from the first clip to the last, (n, D)."""
    clip = torch.arange(stream.shape[1], device=stream.device, dtype=stream.dtype)
    last = (count - 1).clamp(min=1).unsqueeze(-1)
    time = (clip.view(1, -1, 1) / last - 0.5).masked_fill(~real | (count == 1).unsqueeze(-1), 0.0)  # from -1/2 to 1/2
    return (time * stream).sum(dim=1) / time.square().sum(dim=1).clamp(min=torch.finfo(stream.dtype).tiny)


def channel_quantiles(stream: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """The 10 % and the 90 % quantile of each channel, interpolated between clips, (n, 2 D)."""
    ordered = stream.masked_fill(~real, torch.inf).sort(dim=1).values
    found = []
    for share in QUANTILES:
        place = share * (count - 1).to(stream.dtype).unsqueeze(-1).expand(-1, 1, stream.shape[2])
        below, above = (ordered.gather(1, at.long()) for at in (place.floor(), place.ceil()))
        found.append((below + (above - below) * place.frac()).squeeze(1))
    return torch.cat(found, dim=1)


def channel_autocorrelation(stream: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """The correlation of each channel with itself one clip later, 0 where it is constant, (n, D)."""
    apart = (stream - channel_mean(stream, real, count).unsqueeze(1)).masked_fill(~real, 0.0)
    square = apart.square().sum(dim=1)
    lagged = (apart[:, 1:] * apart[:, :-1]).sum(dim=1)
    return torch.where(square > 0, lagged / square, torch.zeros_like(square))


STATISTICS: Mapping[str, Statistic] = {
    "mean": channel_mean,
    "deviation": channel_deviation,
    "slope": channel_slope,
    "quantiles": channel_quantiles,
    "autocorrelation": channel_autocorrelation,
}
NUMBERS = {"quantiles": len(QUANTILES)}  # per channel; one where not listed


def channel_statistics(
    stream: Tensor, lengths: Tensor | None, names: Sequence[str] = ("mean", "deviation")
) -> list[Tensor]:
    """The named statistics of (n, T, D) over the clips before the padding, (n, D) each, (n, 2 D) for quantiles."""
    if lengths is None:
        real, count = every_clip(stream), torch.full((len(stream), 1), stream.shape[1], device=stream.device)
    else:
        real, count = before_padding(lengths, stream.shape[1]), lengths.unsqueeze(1)
    real = real.unsqueeze(-1)
    clean = stream.masked_fill(~real, 0.0)
    return [STATISTICS[name](clean, real, count) for name in names]
