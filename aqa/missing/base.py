"""What every missing pattern is made of: random draws, and the interface."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, nearest
from aqa.registry import Registry, check_options

Visibility = NDArray[np.bool_]


def sample_keys(ids: Sequence[str]) -> NDArray[np.uint64]:
    """A number (N,) for each sample's id, from which its random draws follow."""
    digests = (hashlib.blake2b(i.encode("utf-8"), digest_size=8).digest() for i in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014): every input bit flips half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Draws:
    """Random numbers that belong to samples, not to places in a batch.

    sample: (N,) keys of the samples; batch: (N,) the number, within the epoch, of the batch each sample is in; part:
    which of several patterns in one draws, so that they draw independently.
    """

    seed: int
    epoch: int
    sample: NDArray[np.uint64]
    batch: NDArray[np.int64]
    part: str = ""

    @classmethod
    def once(cls, seed: int, sample: NDArray[np.uint64]) -> Draws:
        """Draws that do not change from epoch to epoch nor with the batch: for testing, and for fixed patterns."""
        return cls(seed, 0, sample, sample.astype(np.int64))

    def at(self, rows: NDArray[np.int64] | slice) -> Draws:
        """The same draws for some of the samples."""
        return replace(self, sample=self.sample[rows], batch=self.batch[rows])

    def of_part(self, part: str) -> Draws:
        """Draws for one part of a pattern, independent of those for its other parts."""
        return replace(self, part=f"{self.part} {part}")

    def keys(self, purpose: str, per: Literal["sample", "batch"] = "sample") -> NDArray[np.uint64]:
        """A key (N,) for one purpose, the same for all samples of a batch with per="batch"."""
        salt = sample_keys([f"{purpose} {self.seed} {self.epoch}{self.part}"])
        own = self.sample if per == "sample" else self.batch.astype(np.uint64)
        return _mixed(_mixed(own) ^ salt)

    def uniform(self, purpose: str, width: int = 1, per: Literal["sample", "batch"] = "sample") -> NDArray[np.float64]:
        """Uniform numbers in [0, 1), (N, width)."""
        steps = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mixed(self.keys(purpose, per)[:, None] + steps)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Videos:
    """What is known of the videos that a pattern is for: n of one split.

    keys: (n,) as `sample_keys` gives them; available: (n, M); scores: (n,) their labels, None where they are not to be
    known; energy: a function from a modality's name to (n,), the root mean square of its features, NaN where absent.
    """

    keys: NDArray[np.uint64]
    available: Visibility
    scores: NDArray[np.float64] | None
    energy: Callable[[str], NDArray[np.float64]]


class MissingPattern:
    """A rule by which modalities go missing. Subclasses change what they need; the base hides nothing."""

    def __init__(self, modalities: Sequence[str]):
        self.modalities = tuple(modalities)

    @property
    def name(self) -> str:
        """What tables and files call the pattern."""
        raise NotImplementedError

    @classmethod
    def parse(cls, modalities: Sequence[str], value: Any, where: str) -> MissingPattern:
        """Build from what an experiment file gives after the pattern's name."""
        options = {} if value is None else value
        if not isinstance(options, Mapping):
            raise AqaError(f"{where} takes named options, got {value!r}")
        return cls(modalities, **check_options(cls, options, where))

    def informed(self, videos: Videos) -> MissingPattern:
        """The pattern for these videos, where it goes by what is known of them; the others are as they are."""
        return self

    def remaining(self, available: Visibility, draws: Draws) -> Visibility:
        """What the data set itself still has: streams taken away here are never seen, not even as targets."""
        return available

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        """What the model may look at, a subset of `available`."""
        return available

    def damage(self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        """The features as the model gets them. features: modality -> (B, T, D); lengths: modality -> (B,)."""
        return dict(features)

    @property
    def damages(self) -> bool:
        """Whether `damage` may change features."""
        return type(self).damage is not MissingPattern.damage

    @property
    def has_a_reason(self) -> bool:
        """Whether what is hidden follows from something known of the videos, and is not drawn alike for all."""
        return type(self).informed is not MissingPattern.informed

    def _index(self, names: Sequence[str] | None) -> list[str]:
        """Modalities that an option names, all where it names none."""
        for name in names or ():
            if name not in self.modalities:
                raise AqaError(f"unknown modality '{name}': {nearest(name, self.modalities)}")
        return list(names or self.modalities)


def keep_one(visible: Visibility, available: Visibility, draws: Draws) -> Visibility:
    """Show one available modality, drawn evenly, of each sample that would be left with none."""
    count = available.sum(axis=1)
    chosen = np.floor(draws.uniform("keep one")[:, 0] * count)
    nth = available & (np.cumsum(available, axis=1) - 1 == chosen[:, None])
    return np.where(visible.any(axis=1, keepdims=True), visible, nth)


PATTERNS: Registry[type[MissingPattern]] = Registry("missing pattern", "aqa.missing")
