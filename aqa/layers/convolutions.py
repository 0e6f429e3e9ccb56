"""Convolutions over neighbouring clips, and pooling, with padding kept out of both."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.clips import clip_mean, on_clips, works_on_all


class Convolution(nn.Module):
    """A convolution over neighbouring clips, batch norm and an activation: (B, T, C) -> (B, T, C'), padding stays 0."""

    def __init__(self, width: int, hidden_dim: int, activation: type[nn.Module], kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv1d(width, hidden_dim, kernel_size, padding=kernel_size // 2)
        self.rest = nn.Sequential(nn.BatchNorm1d(hidden_dim), activation())

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        out = self.conv(stream.transpose(1, 2))  # (B, C', T)
        several = out.shape[0] * out.shape[2] > 1 or not self.training
        if several and not works_on_all(out) and clips.all():  # as torch has it, to the last digits
            return self.rest(out).transpose(1, 2)
        return on_clips(self.rest, out.transpose(1, 2), clips)


class Pair(nn.Module):
    """Two convolutions."""

    def __init__(self, width: int, hidden_dim: int, activation: type[nn.Module]):
        super().__init__()
        self.first = Convolution(width, hidden_dim, activation)
        self.second = Convolution(hidden_dim, hidden_dim, activation)

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        return self.second(self.first(stream, clips), clips)


def pool(stream: Tensor, clips: Tensor, whole: bool = False) -> tuple[Tensor, Tensor]:
    """Means over pairs of clips, or over the whole video: (B, T, C) -> (B, T', C), and which T' hold data.

    clips (B, T) bool: those that count. As published the last clip of an odd number is dropped, unless it is the only
    one.
    """
    if whole:
        return clip_mean(stream, clips).unsqueeze(1), pooled_clips(clips, whole)
    count = _in_pairs(clips).sum(dim=-1)  # (B, T')
    kept = _in_pairs(stream.masked_fill(~clips.unsqueeze(-1), 0.0).transpose(1, 2)).sum(dim=-1).transpose(1, 2)
    real = pooled_clips(clips)
    return (kept / count.clamp(min=1).unsqueeze(-1)).masked_fill(~real.unsqueeze(-1), 0.0), real


def pooled_clips(clips: Tensor, whole: bool = False) -> Tensor:
    """Which clips (B, T') hold data once clips (B, T) are pooled."""
    if whole:
        return clips.any(dim=1, keepdim=True)
    pairs = _in_pairs(clips)
    real = pairs.all(dim=-1)
    real[:, 0] |= pairs[:, 0].any(dim=-1)
    return real


def _in_pairs(x: Tensor) -> Tensor:
    """(..., T) -> (..., T', 2): without the last of an odd number, a single one beside nothing."""
    steps = x.shape[-1]
    x = F.pad(x, (0, 1)) if steps == 1 else x[..., : steps - steps % 2]
    return x.unflatten(-1, (-1, 2))
