"""Features of a store that is larger than the memory it may take: read in blocks, again in every epoch.

The videos of a store, in their order, form blocks. An epoch takes the blocks in a random order, as many at a time as
memory holds, and shuffles the videos of those among themselves. That mixes less than a shuffle of all videos: two that
are far apart in the store are in one batch only if their blocks came together.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.data.batches import Features, Held, Rows, Statistics, standardised
from aqa.data.loading import ALIGNMENT, allocate, disk_type, fill, shaped
from aqa.data.memory import GIB, free_memory
from aqa.data.store import FeatureStore
from aqa.errors import AqaError

BLOCKS = 16  # that fill the memory: more mix better, fewer are read in longer stretches


def load_features(
    store: FeatureStore,
    *,
    modalities: Sequence[str] | None = None,
    widths: dict[str, int] | None = None,
    align: Literal["shortest", "none"] = "shortest",
    device: torch.device | str = "cpu",
    memory: float | None = None,
    standardise: bool = False,
) -> Features:
    """The features of a store: all in memory, or streamed where they would take more than `memory` GiB.

    standardise: whether they will be, for which they are held in float32. AqaError where they do not fit into the
    memory that is free and no `memory` is given.
    """
    device = torch.device(device)
    known = [m for m in modalities or store.modalities if m in store.modalities]
    needed = sum(
        int(store.offsets[m][-1]) * store.widths[m] * _held_type(store, m, standardise).itemsize for m in known
    )
    chosen: dict[str, Any] = {"modalities": modalities, "widths": widths, "align": align, "device": device}
    if memory is not None and needed > memory * GIB:
        return StreamedFeatures(store, capacity=int(memory * GIB), standardise=standardise, **chosen)
    free = free_memory(device)
    if memory is None and free is not None and needed > free:
        raise AqaError(
            f"{store.path}: the features take {needed / GIB:.3g} GiB, {free / GIB:.3g} GiB are free on {device}; set "
            "data.memory (to score: --memory) to the GiB that they may take, and they are read in blocks"
        )
    return Features(store, **chosen)


class StreamedFeatures(Features):
    """Features that are read when their turn comes, at most `capacity` bytes at a time.

    standardise: whether they will be, for which they are held in float32.
    """

    def __init__(self, store: FeatureStore, *, capacity: int, standardise: bool = False, **options: Any):
        super().__init__(store, **options)
        self._store = FeatureStore(store.path)  # its own, for as long as there are epochs
        self._types = {m: _held_type(store, m, standardise) for m in self.modalities}
        self._statistics: list[Statistics] = []
        self._capacity = capacity
        clip_bytes = np.array([self.widths[m] * self._types[m].itemsize for m in self.modalities])
        self._bytes = self.stored @ clip_bytes  # (N,)
        largest = int(self._bytes.argmax())
        if self._bytes[largest] > capacity:
            needed = self._bytes[largest] / GIB
            raise AqaError(
                f"data.memory: '{self.ids[largest]}' of {store.path} alone takes {needed:.3g} GiB of features, "
                f"{capacity / GIB:.3g} GiB are allowed"
            )
        before = np.cumsum(self._bytes) - self._bytes
        self._block = before // max(capacity // BLOCKS, 1)  # (N,) the number of each video's block

    def _load(self, store: FeatureStore) -> dict[str, Tensor]:
        return {}

    def copy(self) -> StreamedFeatures:
        """The same features, that may be standardised apart."""
        twin = copy.copy(self)
        twin._statistics = list(self._statistics)
        return twin

    def standardise(self, statistics: Statistics) -> None:
        """Bring every channel to zero mean and unit deviation, whenever it is read from now on."""
        if statistics:
            self._statistics.append(statistics)

    def order(self, rows: Rows, seed: int, epoch: int) -> NDArray[np.int64]:
        """Blocks in a random order, the videos of those that are in memory together shuffled among themselves."""
        generator = np.random.default_rng([seed, epoch])
        blocks, place = np.unique(self._block[rows], return_inverse=True)
        shuffled = generator.permutation(len(blocks))
        sizes = np.bincount(place, weights=self._bytes[rows], minlength=len(blocks))[shuffled]
        together = [shuffled[part] for part in _cut(sizes, self._capacity)]
        parts = [generator.permutation(np.flatnonzero(np.isin(place, some))) for some in together]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def portions(self, rows: Rows) -> Iterator[tuple[slice, Held]]:
        """Stretches of a sequence of rows that memory holds, each row's features read once for each stretch it is in.

        Memory is taken when the first is asked for, and kept to the last.
        """
        stretches = self._stretches(rows)
        memory = allocate(self._capacity + ALIGNMENT * len(self.modalities), self.device)
        for stretch in stretches:
            yield stretch, self._read(np.unique(rows[stretch]), memory)

    def _stretches(self, rows: Rows) -> list[slice]:
        """Cuts a sequence wherever no block is needed on both sides, and where memory would not hold more."""
        block = self._block[rows]
        places = np.arange(len(rows))
        last = np.zeros(int(self._block.max(initial=0)) + 1, np.int64)
        np.maximum.at(last, block, places)
        found, start = [], 0
        for stop in np.flatnonzero(np.maximum.accumulate(last[block]) == places) + 1:
            parts = _cut(self._bytes[rows[start:stop]], self._capacity)
            found += [slice(start + part.start, start + part.stop) for part in parts]
            start = int(stop)
        return found

    def _read(self, rows: Rows, memory: Tensor) -> Held:
        """The features of some rows, in rising order, packed into the memory given."""
        values, offsets, used = {}, np.zeros_like(self.offsets), 0
        for i, m in enumerate(self.modalities):
            present = rows[self.stored[rows, i] > 0]
            first, length = self.offsets[present, i], self.stored[present, i]
            place = np.cumsum(length) - length
            offsets[present, i] = place
            clips = int(length.sum())
            stream = shaped(memory, used, clips, self.widths[m], self._types[m])
            used += -(-stream.nbytes // ALIGNMENT) * ALIGNMENT
            # One read for each run of videos whose clips follow each other in the file.
            begins = np.flatnonzero(first != np.append(-1, first + length)[:-1])
            for run, stop in pairwise([*begins, len(present)]):
                fill(self._store, m, int(first[run]), stream[place[run] : place[stop - 1] + length[stop - 1]])
            for statistics in self._statistics:
                stream = standardised(stream, statistics[m])
            values[m] = stream
        return Held(values, offsets)


def _held_type(store: FeatureStore, modality: str, standardise: bool) -> torch.dtype:
    return torch.float32 if standardise else disk_type(store, modality)


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
