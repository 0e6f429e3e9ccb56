"""What reading every stream of a store tells: numbers that are none, streams alike, channels that know the score."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aqa.store.store import FeatureStore, Target

LARGEST = 1e6  # above it a network's products in float32 lose what is small
LEAK = 0.98  # rank correlation of a channel's mean with a target from which on it is said to know the score
FEWEST_FOR_LEAK = 12  # labelled videos; among as few, chance reaches LEAK in one of 10 ** 7 channels
FEWEST_DISTINCT = 8  # different numbers in a stream without which two streams may be equal by chance


@dataclass
class Scan:
    """One modality, read from end to end.

    bad, zero, damaged: rows whose stream holds NaN or infinity, or zeros alone, or is not what was written. means:
    (N, D) of each channel over a video's clips, NaN without. largest: of the sizes of all numbers. alike: rows with
    streams equal to the bit, in groups. constant: whether every channel holds one number throughout.
    """

    bad: list[int] = field(default_factory=list)
    zero: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    means: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    largest: float = 0.0
    alike: list[list[int]] = field(default_factory=list)
    constant: bool = False


def scan(store: FeatureStore, modality: str) -> Scan:
    """Read one modality, a stream at a time."""
    found = Scan(means=np.full((len(store), store.widths[modality]), np.nan))
    lowest, highest = np.full(store.widths[modality], np.inf), np.full(store.widths[modality], -np.inf)
    digests: dict[bytes, list[int]] = {}
    for row in map(int, np.flatnonzero(np.diff(store.offsets[modality]))):
        stored = store.read_stored(modality, row)
        if store.is_intact(modality, row, stored) is False:
            found.damaged.append(row)
        clips = stored.astype(np.float32, copy=False)
        if not np.isfinite(clips).all():
            found.bad.append(row)
            continue
        if not clips.any():
            found.zero.append(row)
        found.means[row] = clips.mean(axis=0, dtype=np.float64)
        lowest, highest = np.minimum(lowest, clips.min(axis=0)), np.maximum(highest, clips.max(axis=0))
        digests.setdefault(hashlib.blake2b(clips.tobytes(), digest_size=16).digest(), []).append(row)
    known = np.isfinite(lowest)
    found.largest = float(np.maximum(-lowest, highest)[known].max(initial=0.0))
    found.constant = bool(known.any() and (lowest == highest)[known].all())
    for rows in digests.values():
        if len(rows) > 1 and len(np.unique(store.read_sample(modality, rows[0]))) >= FEWEST_DISTINCT:
            found.alike.append(rows)
    return found


def alike(scans: Mapping[str, Scan]) -> dict[tuple[int, ...], list[str]]:
    """Rows whose streams are equal to the bit, and the modalities in which they are."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for modality, found in scans.items():
        for rows in found.alike:
            groups.setdefault(tuple(rows), []).append(modality)
    return groups


def leaks(means: NDArray[np.float64], targets: Mapping[str, Target]) -> list[tuple[str, int, float, int]]:
    """Channels whose mean over a video knows its score: target, channel, rank correlation, labelled videos.

    means: (N, D), NaN if a video has none. Of Spearman's correlation the size counts, from LEAK on.
    """
    found = []
    ranks: dict[bytes, NDArray[np.float64]] = {}  # targets that are labelled for the same videos share them
    for name, target in targets.items():
        rows = np.isfinite(target.values) & np.isfinite(means).all(axis=1)
        count = int(rows.sum())
        if count < FEWEST_FOR_LEAK:
            continue
        if rows.tobytes() not in ranks:
            ranks[rows.tobytes()] = _centred_ranks(means[rows])
        channels, score = ranks[rows.tobytes()], _centred_ranks(target.values[rows][:, None])[:, 0]
        size = np.sqrt((channels**2).sum(axis=0) * (score**2).sum())
        srcc = np.divide(channels.T @ score, size, out=np.zeros(len(size)), where=size > 0)
        found += [(name, int(channel), float(srcc[channel]), count) for channel in np.flatnonzero(abs(srcc) >= LEAK)]
    return found


def _centred_ranks(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average ranks within each column (N, D), less their mean."""
    return pd.DataFrame(columns).rank().to_numpy() - (len(columns) + 1) / 2


def split_of(splits: Mapping[str, Sequence[int] | NDArray[np.int64]], row: int) -> str:
    """The splits that name a row."""
    return "/".join(name for name, rows in splits.items() if row in rows) or "no split"
