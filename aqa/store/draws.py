"""What the processes of synthetic data share: rows, random generators that belong to videos, and mixed channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Clips = NDArray[np.float32]

# What a random generator is for; part of its key, so that no two draws share their numbers.
MIXING, LENGTH, EVIDENCE, CLIPS = range(4)


class Sized(Protocol):
    """What every preset states: targets, videos per split, and whether each video is labelled for one target only."""

    @property
    def targets(self) -> Mapping[str, Any]: ...
    @property
    def splits(self) -> Mapping[str, int]: ...
    @property
    def one_target_a_video(self) -> bool: ...


@dataclass(frozen=True)
class Video:
    """One row of the data set; `number` is its key, the same however many videos are written."""

    id: str
    number: int
    split: str
    target: str | None


class DrawnVideos(NamedTuple):
    """A data set of N videos as a process draws it.

    process: what drew it, in words. quality: q of mean 0 and variance 1 (N,), by target. ceilings: best possible SRCC
    by target and pattern. read(modality, row): the clips (T, D) of one video. moments: where the process knows them,
    by modality which clips of each video show what decides the score, N of (T,). remark: more for the store's source.
    """

    process: str
    quality: Mapping[str, Floats]
    ceilings: Mapping[str, Mapping[str, float]]
    read: Callable[[str, int], Clips]
    moments: Mapping[str, Sequence[NDArray[np.bool_]]] | None = None
    remark: str = ""


def videos(preset: Sized, samples: int | None = None) -> list[Video]:
    """The rows of a data set, at most `samples` of them a split (and target, where each video has one)."""
    rows, number = [], 0
    for split, count in preset.splits.items():
        for target in preset.targets if preset.one_target_a_video else (None,):
            keep = count if samples is None else min(samples, count)
            prefix = f"{target}_" if target else ""
            rows += [Video(f"{prefix}{i:04d}", i, split, target) for i in range(number, number + keep)]
            number += count
    return rows


def generator(seed: int, *key: int) -> np.random.Generator:
    """The random generator of one purpose and, where the key has more numbers, of one video and stream."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def ar1(innovations: Floats, phi: float) -> Floats:
    """Stationary AR(1) of unit variance along axis 1, from independent standard normal numbers (n, T, K)."""
    innovations[:, 1:] *= math.sqrt(1 - phi**2)
    return scipy.signal.lfilter([1.0], [1.0, -phi], innovations, axis=1)


@lru_cache(maxsize=16)
def mixing(width: int, directions: int, position: int, seed: int) -> tuple[Clips, Clips]:
    """Orthonormal directions (D, K) in the channels of the stream at `position`, and each channel's offset (D,)."""
    rng = generator(seed, MIXING, position)
    basis, _ = np.linalg.qr(rng.standard_normal((width, directions)))
    return basis.astype(np.float32), rng.standard_normal(width).astype(np.float32)
