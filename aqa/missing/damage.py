"""Patterns that hide nothing but damage streams."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from aqa.errors import AqaError
from aqa.missing.base import PATTERNS, Draws, MissingPattern
from aqa.system.devices import on_device


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
        place = on_device(draws.uniform(f"gap {modality}")[:, 0], stream.device)
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
        _, clips, width = stream.shape
        padding = (torch.arange(clips, device=stream.device) >= length.unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
        scale = (self.std * _deviation(stream, padding, length)).to(stream.dtype).view(-1, 1, 1)
        noise = normal_numbers(draws.keys(f"noise {modality}"), clips, width, stream.device).mul_(scale)
        return stream + noise.masked_fill_(padding, 0.0)


def _deviation(stream: Tensor, padding: Tensor, length: Tensor) -> Tensor:
    """The standard deviation (B,) of each video's real numbers, 0 where there are not two, in float64."""
    count = (length * stream.shape[2]).double()
    # Clips are summed one by one and their sums in float64, so that it makes no difference how many follow as padding.
    mean = stream.masked_fill(padding, 0.0).sum(dim=2).double().sum(dim=1) / count.clamp(min=1)
    apart = (stream - mean.to(stream.dtype).view(-1, 1, 1)).masked_fill_(padding, 0.0)
    return (apart.square_().sum(dim=2).double().sum(dim=1) / (count - 1).clamp(min=1)).sqrt()


def normal_numbers(keys: NDArray[np.uint64], clips: int, width: int, device: torch.device) -> Tensor:
    """Standard normal numbers (B, clips, width) that follow from the keys (B,) of samples and their own place.

    Two of them (Box and Muller 1958) come of 64 bits, which are a place's counter through the finaliser of splitmix64,
    as in `Draws`; the device computes them, with no generator's state.
    """
    pairs = -(-width // 2)
    counter = torch.arange(1, clips * pairs + 1, device=device) * _signed(0x9E3779B97F4A7C15)
    bits = counter + on_device(keys.view(np.int64), device).unsqueeze(1)  # (B, clips * pairs), wraps around
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(_signed(factor))
    angle = (bits & 0xFFFFFFFF).float().mul_(2 * math.pi * 2.0**-32)
    radius = (bits >> 32).bitwise_and_(0xFFFFFFFF).float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    both = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return both.view(len(keys), clips, 2 * pairs)[:, :, :width]


def _signed(bits: int) -> int:
    """Of 64 bits, the number that they are in two's complement."""
    return bits - (1 << 64) if bits >> 63 else bits


#: How far a stream may be moved; beyond any video.
Distance = Annotated[int, Field(gt=-(2**31), lt=2**31)]


@PATTERNS.register("shift")
class Shift(Damage):
    """Streams out of step: a stream is moved by some clips against the others: {shift: {clips: 4, affected: [audio]}}.

    clips: positive is later, negative earlier; what moves out at one end is lost, zeros move in at the other.
    random: the distance is drawn evenly from -clips to clips for each sample and stream.
    """

    def __init__(
        self, modalities: Sequence[str], *, clips: Distance, random: bool = False, affected: list[str] | None = None
    ):
        super().__init__(modalities)
        self.clips, self.random, self.affected = clips, random, self._index(affected)

    @property
    def name(self) -> str:
        return self._name(f"shift({'+-' if self.random else ''}{self.clips})")

    def spoil(self, modality: str, stream: Tensor, length: Tensor, draws: Draws) -> Tensor:
        distance = torch.full_like(length, self.clips)
        if self.random:
            place = on_device(draws.uniform(f"shift {modality}")[:, 0], stream.device)
            distance = (place * (2 * abs(self.clips) + 1)).floor().to(length.dtype) - abs(self.clips)
        clip = torch.arange(stream.shape[1], device=stream.device)
        source = clip - distance.unsqueeze(1)  # (B, T)
        real = (source >= 0) & (source < length.unsqueeze(1)) & (clip < length.unsqueeze(1))
        moved = stream.gather(1, source.clamp(0, stream.shape[1] - 1).unsqueeze(-1).expand_as(stream))
        return moved.masked_fill(~real.unsqueeze(-1), 0.0)
