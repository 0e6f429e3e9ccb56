"""Patterns that hide nothing but damage streams."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.missing.base import PATTERNS, Draws, MissingPattern


class Damage(MissingPattern):
    """The patterns that hide nothing but spoil streams. modalities: which, all by default."""

    affected: list[str]

    def damage(self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        return {m: self.spoil(m, x, lengths[m], draws) if m in self.affected else x for m, x in features.items()}

    def spoil(self, modality: str, stream: Tensor, length: Tensor, draws: Draws) -> Tensor:
        """One stream (B, T, D) of which length (B,) clips are real."""
        raise NotImplementedError

    def _name(self, what: str) -> str:
        return what if self.affected == list(self.modalities) else f"{what} of {'+'.join(self.affected)}"


@PATTERNS.register("gaps")
class Gaps(Damage):
    """A contiguous fraction of a stream is lost, at a random place: its clips become zeros.

    fraction: in [0, 1), of the real clips, rounded. Each stream loses its own stretch. Written {gaps: {fraction: 0.3}}.
    """

    def __init__(self, modalities: Sequence[str], *, fraction: float, affected: list[str] | None = None):
        super().__init__(modalities)
        if not 0 <= fraction < 1:
            raise AqaError(f"missing pattern 'gaps': fraction is {fraction}, not in [0, 1)")
        self.fraction, self.affected = fraction, self._index(affected)

    @property
    def name(self) -> str:
        return self._name(f"gaps({self.fraction:g})")

    def spoil(self, modality: str, stream: Tensor, length: Tensor, draws: Draws) -> Tensor:
        lost = (length * self.fraction).round()
        place = torch.from_numpy(draws.uniform(f"gap {modality}")[:, 0]).to(stream.device)
        start = (place * (length - lost + 1)).floor().unsqueeze(1)
        clip = torch.arange(stream.shape[1], device=stream.device)
        return stream.masked_fill(((clip >= start) & (clip < start + lost.unsqueeze(1))).unsqueeze(-1), 0.0)


@PATTERNS.register("noise")
class Noise(Damage):
    """Gaussian noise on the real clips: {noise: {std: 0.5}}, in units of the stream's own standard deviation."""

    def __init__(self, modalities: Sequence[str], *, std: float, affected: list[str] | None = None):
        super().__init__(modalities)
        if not 0 <= std < math.inf:
            raise AqaError(f"missing pattern 'noise': std is {std}, not a number of 0 or more")
        self.std, self.affected = std, self._index(affected)

    @property
    def name(self) -> str:
        return self._name(f"noise({self.std:g})")

    def spoil(self, modality: str, stream: Tensor, length: Tensor, draws: Draws) -> Tensor:
        spoiled = stream.clone()
        for row, key in enumerate(draws.keys(f"noise {modality}")):
            real = stream[row, : int(length[row])]
            if real.numel() > 1:
                generator = torch.Generator().manual_seed(int(key >> np.uint64(1)))
                noise = torch.randn(real.shape, generator=generator).to(stream.device)
                spoiled[row, : len(real)] += self.std * real.std() * noise
        return spoiled


@PATTERNS.register("shift")
class Shift(Damage):
    """Streams out of step: a stream is moved by some clips against the others: {shift: {clips: 4, affected: [audio]}}.

    clips: positive is later, negative earlier; what moves out at one end is lost, zeros move in at the other.
    random: the distance is drawn evenly from -clips to clips for each sample and stream.
    """

    def __init__(
        self, modalities: Sequence[str], *, clips: int, random: bool = False, affected: list[str] | None = None
    ):
        super().__init__(modalities)
        self.clips, self.random, self.affected = clips, random, self._index(affected)

    @property
    def name(self) -> str:
        return self._name(f"shift({'+-' if self.random else ''}{self.clips})")

    def spoil(self, modality: str, stream: Tensor, length: Tensor, draws: Draws) -> Tensor:
        distance = torch.full_like(length, self.clips)
        if self.random:
            place = torch.from_numpy(draws.uniform(f"shift {modality}")[:, 0]).to(stream.device)
            distance = (place * (2 * abs(self.clips) + 1)).floor().to(length.dtype) - abs(self.clips)
        clip = torch.arange(stream.shape[1], device=stream.device)
        source = clip - distance.unsqueeze(1)  # (B, T)
        real = (source >= 0) & (source < length.unsqueeze(1)) & (clip < length.unsqueeze(1))
        moved = stream.gather(1, source.clamp(0, stream.shape[1] - 1).unsqueeze(-1).expand_as(stream))
        return moved.masked_fill(~real.unsqueeze(-1), 0.0)
