"""What reading every stream of a store tells: numbers that are none, streams alike, channels that know the score."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.store.store import FeatureStore, Target, crc_of

IN_CACHE = 2**19  # bytes that are read, checked and summed before the next: half the L2 cache of a common processor
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
    alike_by_crc: dict[tuple[int, int], list[int]] = {}
    lengths = np.diff(store.offsets[modality])
    if not store.widths[modality]:
        return replace(found, zero=np.flatnonzero(lengths).tolist())
    memory = _block(store, modality)
    for row in map(int, np.flatnonzero(lengths)):
        crc, low, high, total = _read_through(store, modality, row, memory)
        if store.is_intact(modality, row, crc) is False:
            found.damaged.append(row)
        if math.isnan(low):
            found.bad.append(row)
            continue
        if low == high == 0:
            found.zero.append(row)
        found.means[row] = total / lengths[row]
        found.largest = max(found.largest, -low, high)
        alike_by_crc.setdefault((int(lengths[row]), crc), []).append(row)
    found.constant = _is_constant(store, modality, found.means)
    for rows in alike_by_crc.values():
        found.alike += equal_streams(store, modality, rows) if len(rows) > 1 else []
    return found


def _block(store: FeatureStore, modality: str) -> NDArray[np.floating[Any]]:
    """Memory for clips (n, D) that are read together, whole chunks of the file: for all, as fresh memory costs more."""
    dtype, chunk = np.dtype(store.dtypes[modality]), store.chunk(modality)
    clips = max(IN_CACHE // (store.widths[modality] * dtype.itemsize), 1)
    longest = int(np.diff(store.offsets[modality]).max(initial=0))
    return np.empty((min(-(-clips // chunk) * chunk, longest), store.widths[modality]), dtype)


def _read_through(
    store: FeatureStore, modality: str, row: int, memory: NDArray[np.floating[Any]]
) -> tuple[int, float, float, NDArray[np.float64]]:
    """A stream's checksum, lowest and highest number and sum over clips (D,), all of a block while it is in cache.

    Lowest and highest are NaN where a number is not finite.
    """
    crc, low, high = 0, math.inf, -math.inf
    total = np.zeros(memory.shape[1])
    start, stop = map(int, store.offsets[modality][row : row + 2])
    for first in range(start, stop, len(memory)):
        stored = memory[: stop - first]
        store.read_into(modality, first, stored)
        crc = crc_of(stored, crc)
        clips = stored.astype(np.float32, copy=False)
        lowest, highest = float(clips.min()), float(clips.max())  # either is NaN where one of the numbers is
        if math.isfinite(lowest) and math.isfinite(highest):
            low, high = min(low, lowest), max(high, highest)  # and stay NaN where they are
            total += clips.sum(axis=0, dtype=np.float64)
        else:
            low = high = math.nan
    return crc, low, high, total


def _is_constant(store: FeatureStore, modality: str, means: NDArray[np.float64]) -> bool:
    """Whether every clip of every video is the same. means: (N, D), NaN for videos that do not count.

    Then all means are; only where they are is anything read again.
    """
    rows = [int(row) for row in np.flatnonzero(~np.isnan(means[:, 0]))]
    if not rows or not all(np.array_equal(means[row], means[rows[0]]) for row in rows):
        return False
    return all((store.read_sample(modality, row) == means[rows[0]]).all() for row in rows)


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
    there = np.isfinite(means).all(axis=1)
    for name, target in targets.items():
        rows = np.flatnonzero(np.isfinite(target.values) & there)
        if len(rows) < FEWEST_FOR_LEAK:
            continue
        score = _centred_ranks(target.values[rows][:, None])[:, 0]
        if not score.any():  # nothing follows scores that are all the same
            continue
        may_leak = _may_leak(means, rows, score)
        channels = _centred_ranks(means[np.ix_(rows, may_leak)])
        size = np.sqrt((channels**2).sum(axis=0) * (score**2).sum())
        srcc = np.divide(channels.T @ score, size, out=np.zeros(len(size)), where=size > 0)
        leaking = np.flatnonzero(abs(srcc) >= LEAK)
        found += [(name, int(may_leak[each]), float(srcc[each]), len(rows)) for each in leaking]
    return found


def _may_leak(means: NDArray[np.float64], rows: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Channels of means (N, D) that order pairs of videos nearly as the score (n,) does, or the other way round.

    All others cannot reach LEAK, and need no ranks. With ranks u of a channel and v of the score, both of length 1,
    |u - v|^2 = 2 (1 - SRCC). A pair that v has apart by g, and u not in that order, adds g^2 / 2 or more to it. score:
    centred ranks. Each video is in one pair, those in the middle of the order aside.
    """
    order = np.argsort(score)
    low, high = order[: len(order) // 2], order[-(len(order) // 2) :]
    gaps = (score[high] - score[low]) ** 2 / (score**2).sum()
    apart = means[rows[high]] - means[rows[low]]
    agreeing = np.maximum(gaps @ (apart > 0), gaps @ (apart < 0))
    return np.flatnonzero(agreeing >= gaps.sum() - 4 * (1 - LEAK) - 1e-9)


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
