"""Raw streams to what a model sees, as a module: standardized, cut or resampled, and padded, on any batch.

The same as `aqa.features` does with a store: `Alignment.spans` in the operations of torch, so that an exported program
holds it. Lengths tell what is visible: of a stream with length 0 nothing is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aqa.features.alignment import ROUNDING


class StreamWindow(nn.Module):
    """Streams (B, T, D) of any lengths -> windows (B, clips, D), by modality, and how many clips are real (B, M)."""

    seconds: Tensor  # (M,) that a clip takes, NaN if not known

    def __init__(self, checkpoint: Mapping[str, Any], seconds: Mapping[str, float]):
        super().__init__()
        self.modalities, self.clips = tuple(checkpoint["widths"]), int(checkpoint["clips"])
        self.kind, self.fill = checkpoint["align"], checkpoint.get("data_clips") is not None
        known = [seconds.get(m, torch.nan) for m in self.modalities]
        self.register_buffer("seconds", torch.tensor(known, dtype=torch.double))
        for number, m in enumerate(self.modalities if checkpoint["statistics"] else ()):
            mean, deviation = checkpoint["statistics"][m]
            self.register_buffer(f"mean{number}", mean)
            self.register_buffer(f"deviation{number}", deviation)
        self.standardizes = bool(checkpoint["statistics"])

    def forward(self, streams: Mapping[str, Tensor], lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """lengths: (B, M), the clips of each stream, 0 where a video lacks it."""
        if self.kind == "time":
            return self._resampled(streams, lengths)
        left = lengths
        if self.kind == "shortest":
            left = torch.where(lengths > 0, self._least(lengths).unsqueeze(1), 0)
        longest = left.amax(dim=1, keepdim=True).clamp(min=1)
        kept = (left * longest.clamp(max=self.clips) + longest - 1) // longest  # rounded up
        start = (left - kept) // 2
        clip = torch.arange(self.clips, device=lengths.device)
        windows = {}
        for i, m in enumerate(self.modalities):
            padding = clip >= kept[:, i : i + 1]  # (B, clips)
            place = (start[:, i : i + 1] + clip).masked_fill(padding, 0)
            stream = torch.gather(streams[m], 1, place.unsqueeze(-1).expand(-1, -1, streams[m].shape[2]))
            windows[m] = self._standardized(stream, i).masked_fill(padding.unsqueeze(-1), 0.0)
        return windows, kept

    def _resampled(self, streams: Mapping[str, Tensor], lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Every stream averaged over equal shares of the video's duration."""
        stored, has = lengths.double(), lengths > 0
        covered = self._covered(stored, has)
        slowest = torch.ceil(self._least(covered) - ROUNDING).clamp(max=self.clips)
        count = torch.full_like(slowest, self.clips) if self.fill else slowest  # (B,) clips of the window
        kept = torch.where(has, count.unsqueeze(1), 0.0)
        step = torch.where(has, covered / count.clamp(min=1).unsqueeze(1), 1.0)  # (B, M)
        clip = torch.arange(self.clips, device=lengths.device, dtype=torch.double).view(1, -1, 1)
        windows = {}
        for i, m in enumerate(self.modalities):
            source = torch.arange(streams[m].shape[1], device=lengths.device).view(1, 1, -1)  # clips of the stream
            low = clip * step[:, i].view(-1, 1, 1)
            high = low + step[:, i].view(-1, 1, 1)
            shared = torch.minimum(high, source + 1.0) - torch.maximum(low, source.double())  # (B, clips, T)
            weight = shared.masked_fill((shared <= ROUNDING) | (clip >= kept[:, i].view(-1, 1, 1)), 0.0)
            weight = weight / weight.sum(dim=2, keepdim=True).clamp(min=ROUNDING)
            real = (source < lengths[:, i].view(-1, 1, 1)).transpose(1, 2)  # (B, T, 1)
            stream = self._standardized(streams[m], i).masked_fill(~real, 0.0)
            windows[m] = weight.float() @ stream
        return windows, kept.long()

    def _covered(self, stored: Tensor, has: Tensor) -> Tensor:
        """The clips of each stream (B, M) that the duration covers which all streams of the video share."""
        known = (~has | self.seconds.isfinite()).all(dim=1, keepdim=True) & has
        seconds = self.seconds.nan_to_num(1.0)
        duration = self._least(stored * seconds).unsqueeze(1)
        covered = torch.where(known, duration / seconds, stored)
        near = covered.round()
        return torch.minimum(torch.where((covered - near).abs() < ROUNDING, near, covered), stored)

    def _standardized(self, stream: Tensor, number: int) -> Tensor:
        stream = stream.float()
        if not self.standardizes:
            return stream
        return (stream - getattr(self, f"mean{number}")) / getattr(self, f"deviation{number}")

    @staticmethod
    def _least(numbers: Tensor) -> Tensor:
        """The least in each row (B, M) of those that are not 0, (B,); 0 where all are."""
        most = numbers.amax(dim=1, keepdim=True)
        return torch.where(numbers > 0, numbers, most).amin(dim=1)
