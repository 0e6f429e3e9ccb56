"""Features of a store that is larger than the memory it may take: read in blocks, again in every epoch.

The training videos, in the order of the store, form blocks. An epoch takes the blocks in a random order, as many at a
time as memory holds, and shuffles the videos of those among themselves. That mixes less than a shuffle of all videos:
two that are far apart in the store are in one batch only if their blocks came together. Training videos that memory
would hold are shuffled all among themselves, as those of features in memory are: the order follows from what is trained
on, and from nothing else in the store.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError
from aqa.features.alignment import Align, Counted, Rows
from aqa.features.batches import Features, Held, scored_at_once
from aqa.features.loading import ALIGNMENT, Source, disk_type, fill, mapped, shaped
from aqa.features.statistics import Statistics, standardized
from aqa.store.store import FeatureStore
from aqa.system.memory import GIB, free_memory

BLOCKS = 16  # that fill the memory: more mix better, fewer are read in longer stretches
BATCHES = 4  # in memory at once: one in use, the next, its parts while they are joined or damaged, one to spare
CHUNK_CACHE = 2**20  # bytes that HDF5 keeps of an array that lies in chunks


def load_features(
    store: FeatureStore,
    *,
    modalities: Sequence[str] | None = None,
    widths: dict[str, int] | None = None,
    align: Align = "shortest",
    clips: int | None = None,
    device: torch.device | str = "cpu",
    memory: float | None = None,
    standardize: bool = False,
    batch_size: int = 0,
    window: int | None = None,
) -> Features:
    """The features of a store: all in memory, or streamed where with their batches they would take over `memory` GiB.

    align, clips: as in `Features`. standardize: whether they will be, for which they are held in float32. batch_size,
    window: videos and clips of the batches that are to be made, clips of the longest video by default. AqaError if
    features do not fit into the memory that is free and no `memory` is given, and where batches alone would take more
    than `memory` or than is free.
    """
    device = torch.device(device)
    known = [m for m in modalities or store.modalities if m in store.modalities]
    needed = sum(
        int(store.offsets[m][-1]) * store.widths[m] * _held_type(store, m, standardize).itemsize for m in known
    )
    chosen: dict[str, Any] = {"modalities": modalities, "widths": widths, "align": align, "clips": clips}
    chosen["device"] = device
    free, (videos, batch) = free_memory(device), _batch(store, known, batch_size, window)
    if free is not None and batch > free:
        raise AqaError(
            f"a batch of {videos} videos{f' of {window} clips' if window else ''} takes "
            f"{batch / GIB:.3g} GiB, {free / GIB:.3g} GiB are free on {device}; take fewer clips or smaller batches"
        )
    if memory is not None:
        beside = _beside(store, known, batch_size, window)
        if needed + beside > memory * GIB:
            capacity = int(memory * GIB) - beside
            if capacity <= 0:
                raise AqaError(
                    f"data.memory: {memory:.3g} GiB are allowed, and batches of {videos} videos alone take "
                    f"{beside / GIB:.3g} GiB"
                )
            return StreamedFeatures(store, capacity=capacity, standardize=standardize, **chosen)
    if memory is None and free is not None and needed > free:
        raise AqaError(
            f"{store.path}: the features take {needed / GIB:.3g} GiB, {free / GIB:.3g} GiB are free on {device}; set "
            "data.memory (to score: --memory) to the GiB that they may take, and they are read in blocks"
        )
    return Features(store, **chosen)


class StreamedFeatures(Features):
    """Features that are read when they are needed, at most `capacity` bytes at a time.

    standardize: whether they will be, for which they are held in float32.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        capacity: int,
        standardize: bool = False,
        **options: Any,
    ):
        super().__init__(store, **options)
        self._store = FeatureStore(store.path)  # its own, for as long as there are epochs
        self._types = {m: _held_type(store, m, standardize) for m in self.modalities}
        self._statistics: list[Statistics] = []
        self._capacity = capacity
        self._clip_bytes = np.array([self.widths[m] * self._types[m].itemsize for m in self.modalities])
        every = self._bytes(np.arange(len(self.ids)), self.available)
        largest = int(every.argmax())
        if every[largest] > self._capacity:
            needed = every[largest] / GIB
            raise AqaError(
                f"data.memory: '{self.ids[largest]}' of {store.path} alone takes {needed:.3g} GiB of features, and "
                f"batches leave {self._capacity / GIB:.3g} GiB of the memory that is allowed"
            )

    def _load(self, store: Source) -> dict[str, Tensor]:
        return {}

    def copy(self) -> StreamedFeatures:
        """The same features, that may be standardized apart."""
        twin = copy.copy(self)
        twin._statistics = list(self._statistics)
        return twin

    def standardize(self, statistics: Statistics) -> None:
        """Bring every channel to zero mean and unit deviation, whenever it is read from now on."""
        if statistics:
            self._statistics.append(statistics)

    def _bytes(self, rows: Rows, counted: Counted) -> NDArray[np.int64]:
        """What the streams that count take in memory, by row (n,)."""
        taken: NDArray[np.int64] = np.where(counted, self.stored[rows], 0) @ self._clip_bytes
        return taken

    def _blocks(self, rows: Rows, counted: Counted) -> NDArray[np.int64]:
        """The number of the block that each row is in, (n,): the rows in the order of the store, by their size."""
        along = np.argsort(rows, kind="stable")
        sizes = self._bytes(rows, counted)[along]
        blocks = np.empty(len(rows), np.int64)
        blocks[along] = (np.cumsum(sizes) - sizes) // max(self._capacity // BLOCKS, 1)
        return blocks

    def order(self, rows: Rows, counted: Counted, seed: int, epoch: int) -> NDArray[np.int64]:
        """Blocks in a random order, the videos of those that are in memory together shuffled among themselves."""
        bytes_of = self._bytes(rows, counted)
        if bytes_of.sum() <= self._capacity:  # as features that are all in memory have it
            return super().order(rows, counted, seed, epoch)
        generator = np.random.default_rng([seed, epoch])
        blocks, place = np.unique(self._blocks(rows, counted), return_inverse=True)
        shuffled = generator.permutation(len(blocks))
        sizes = np.bincount(place, weights=bytes_of, minlength=len(blocks))[shuffled]
        together = [shuffled[part] for part in _cut(sizes, self._capacity)]
        parts = [generator.permutation(np.flatnonzero(np.isin(place, some))) for some in together]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def portions(self, rows: Rows, counted: Counted) -> Iterator[tuple[slice, Held]]:
        """Stretches of a sequence of rows that memory holds, each row's features read once for each stretch it is in.

        Streams that do not count are not read. Memory is taken when the first is asked for, and kept to the last.
        """
        stretches = self._stretches(rows, counted)
        parts = [_united(rows[stretch], counted[stretch]) for stretch in stretches]
        most = max((int(self._bytes(*part).sum()) for part in parts), default=0) + ALIGNMENT * len(self.modalities)
        if parts:
            memory = mapped(most, self.device)
        for stretch, part in zip(stretches, parts, strict=True):
            yield stretch, self._read(*part, memory)

    def _room(self, rows: int, clips: int, width: int) -> Tensor:
        count = rows * clips * width
        return mapped(4 * count, self.device)[: 4 * count].view(torch.float32).view(rows, clips, width)

    def _stretches(self, rows: Rows, counted: Counted) -> list[slice]:
        """Cuts a sequence wherever no block is needed on both sides, and where memory would not hold more."""
        block, sizes = self._blocks(rows, counted), self._bytes(rows, counted)
        places = np.arange(len(rows))
        last = np.zeros(int(block.max(initial=0)) + 1, np.int64)
        np.maximum.at(last, block, places)
        found, start = [], 0
        for stop in np.flatnonzero(np.maximum.accumulate(last[block]) == places) + 1:
            parts = _cut(sizes[start:stop], self._capacity)
            found += [slice(start + part.start, start + part.stop) for part in parts]
            start = int(stop)
        return found

    def _read(self, rows: Rows, counted: Counted, memory: Tensor) -> Held:
        """Streams of some rows, in rising order, packed into the memory given."""
        values, offsets, used = {}, np.zeros_like(self.offsets), 0
        for i, m in enumerate(self.modalities):
            present = rows[counted[:, i] & (self.stored[rows, i] > 0)]
            first, length = self.offsets[present, i], self.stored[present, i]
            place = np.cumsum(length) - length
            offsets[present, i] = place
            clips = int(length.sum())
            stream = shaped(memory, used, clips, self.widths[m], self._types[m])
            used += -(-stream.nbytes // ALIGNMENT) * ALIGNMENT
            # One read for each run of videos whose clips follow each other in the file.
            begins = np.flatnonzero(first != np.append(-1, first + length)[:-1])
            for run, stop in pairwise([*begins, len(present)]):
                out = stream[place[run] : place[stop - 1] + length[stop - 1]]
                fill(self._store, m, int(first[run]), out, threads=1)
            for statistics in self._statistics:
                stream = standardized(stream, statistics[m])
            values[m] = stream
        return Held(values, offsets)


def _united(rows: Rows, counted: Counted) -> tuple[Rows, Counted]:
    """Rows (n,) in rising order, each once, and the streams (n, M) that count wherever the row occurs."""
    unique, place = np.unique(rows, return_inverse=True)
    wanted = np.zeros((len(unique), counted.shape[1]), bool)
    np.logical_or.at(wanted, place, counted)
    return unique, wanted


def _beside(store: FeatureStore, modalities: Sequence[str], batch_size: int, window: int | None) -> int:
    """Bytes that batches take, and HDF5 where arrays lie in chunks."""
    chunks = {m: store.chunk(m) for m in modalities}
    read = [CHUNK_CACHE + n * store.widths[m] * disk_type(store, m).itemsize for m, n in chunks.items() if n > 1]
    return BATCHES * _batch(store, modalities, batch_size, window)[1] + sum(read)


def _batch(store: FeatureStore, modalities: Sequence[str], batch_size: int, window: int | None) -> tuple[int, int]:
    """Videos and bytes of the largest batches, which are those that are scored."""
    clips, widths = window or int(store.lengths.max(initial=0)), [store.widths[m] for m in modalities]
    videos = min(scored_at_once(batch_size, clips, widths), len(store.ids))
    return videos, videos * clips * 4 * sum(widths)


def _held_type(store: FeatureStore, modality: str, standardize: bool) -> torch.dtype:
    return torch.float32 if standardize else disk_type(store, modality)


def _cut(sizes: NDArray[Any], capacity: int) -> list[slice]:
    """Successive parts of a sequence whose sizes together stay within the capacity."""
    ends = np.cumsum(sizes)
    parts, start = [], 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + capacity, "right")), start + 1)
        parts.append(slice(start, stop))
        start = stop
    return parts
