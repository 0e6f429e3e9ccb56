"""What reading every stream of a store tells: numbers that are none, streams alike, channels that know the score."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aqa.store.store import FeatureStore, Target, crc_of

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
    alike_by_crc: dict[tuple[int, int], list[int]] = {}
    offsets = store.offsets[modality]
    longest = int(np.diff(offsets).max(initial=0))
    memory = np.empty((longest, store.widths[modality]), store.dtypes[modality])  # for all: fresh memory costs more
    for row in map(int, np.flatnonzero(np.diff(offsets))):
        stored = memory[: offsets[row + 1] - offsets[row]]
        store.read_into(modality, int(offsets[row]), stored)
        crc = crc_of(stored)
        if store.is_intact(modality, row, stored, crc) is False:
            found.damaged.append(row)
        clips = stored.astype(np.float32, copy=False)
        low, high = clips.min(axis=0), clips.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):  # either is NaN where one of the numbers is
            found.bad.append(row)
            continue
        if not (low.any() or high.any()):
            found.zero.append(row)
        found.means[row] = clips.mean(axis=0, dtype=np.float64)
        lowest, highest = np.minimum(lowest, low), np.maximum(highest, high)
        alike_by_crc.setdefault((len(clips), crc), []).append(row)
    known = np.isfinite(lowest)
    found.largest = float(np.maximum(-lowest, highest)[known].max(initial=0.0))
    found.constant = bool(known.any() and (lowest == highest)[known].all())
    for rows in alike_by_crc.values():
        found.alike += equal_streams(store, modality, rows) if len(rows) > 1 else []
    return found


def equal_streams(store: FeatureStore, modality: str, rows: Sequence[int]) -> list[list[int]]:
    """Those of the rows whose streams are equal to the bit, in groups, but for streams of a few numbers.

    A checksum of 32 bits finds candidates at a fifth of the cost, but two videos of a large store may share one by
    chance. So these few are read again for a digest that tells all streams apart.
    """
    digests: dict[bytes, list[int]] = {}
    for row in rows:
        clips = store.read_sample(modality, row)
        if len(np.unique(clips)) >= FEWEST_DISTINCT:
            digests.setdefault(hashlib.blake2b(clips.tobytes(), digest_size=16).digest(), []).append(row)
    return [group for group in digests.values() if len(group) > 1]


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
    """Average ranks within each column (N, D) of finite numbers, less their mean."""
    by_channel = np.ascontiguousarray(columns.T)
    order = np.argsort(by_channel, axis=1)
    rising = np.take_along_axis(by_channel, order, axis=1)
    ranks = np.empty_like(by_channel)
    np.put_along_axis(ranks, order, np.arange(1.0, len(columns) + 1)[None], axis=1)
    tied = (rising[:, 1:] == rising[:, :-1]).any(axis=1)
    if tied.any():  # seldom: means of clips hardly ever are
        import pandas as pd  # here: it takes longer to import than a small store to read

        ranks[tied] = pd.DataFrame(by_channel[tied].T).rank().to_numpy().T
    return ranks.T - (len(columns) + 1) / 2


def split_of(splits: Mapping[str, Sequence[int] | NDArray[np.int64]], row: int) -> str:
    """The splits that name a row."""
    return "/".join(name for name, rows in splits.items() if row in rows) or "no split"
