"""Features on the device: cropped, padded and batched by gathers, without per-sample Python.

What is here reads all features once and holds them; `streaming` has those of a store that memory does not hold.

A batch is `features` (modality -> (B, T, D)), `lengths` (modality -> (B,)), and what a missing pattern made of the
samples' availability: `available` and `visible`, (B, M) bool.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, nearest
from aqa.features.loading import allocate, disk_type, fill, shaped
from aqa.missing import Draws, MissingPattern, sample_keys
from aqa.store.store import FeatureStore
from aqa.system.devices import on_device

ROUNDING = 2.0**-24  # of a channel's mean: a deviation that small is what float32 leaves of a constant
Rows = NDArray[np.int64]
Statistics = dict[str, tuple[Tensor, Tensor]]  # modality -> mean (D,), standard deviation (D,)
Window = tuple[dict[str, Tensor], dict[str, Tensor]]  # modality -> (B, T, D), modality -> (B,)


@dataclass(frozen=True)
class Batch:
    """Samples as a model takes them; rows are their row numbers in the store.

    available and visible: (B, M); visible is (P, B, M) where samples are scored under P patterns. on_host: the two once
    more, visible first, on the CPU, where they can be asked without waiting for a GPU.
    """

    rows: Tensor
    features: dict[str, Tensor]
    lengths: dict[str, Tensor]
    available: Tensor
    visible: Tensor
    on_host: tuple[Tensor, Tensor]


class Held(NamedTuple):
    """Features in memory: by modality the clips of some videos (n, D), and where those of each video begin (N, M)."""

    values: dict[str, Tensor]
    offsets: NDArray[np.int64]


class Features:
    """All features of a store on one device, in the type that they have on disk (float16 takes half the room).

    modalities: which, and in which order; all of the store's by default. A modality that the store does not have is
    absent from every sample, if its width is given in `widths`.
    align: "shortest" cuts the streams of a video to the shortest one it has; "none" leaves them.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        modalities: Sequence[str] | None = None,
        widths: dict[str, int] | None = None,
        align: Literal["shortest", "none"] = "shortest",
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.ids = store.ids
        self.keys = sample_keys(store.ids)
        self.modalities = tuple(modalities or store.modalities)
        self.widths = self._widths(store, widths or {})
        absent = np.zeros(len(store) + 1, np.int64)
        offsets = np.stack([store.offsets.get(m, absent) for m in self.modalities], axis=1)
        self.offsets, self.stored = offsets[:-1], np.diff(offsets, axis=0)  # in and of the store's clips, (N, M) both
        self.available: NDArray[np.bool_] = self.stored > 0
        self.lengths = self.stored
        if align == "shortest":
            shortest = np.where(self.available, self.stored, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
            self.lengths = np.minimum(self.stored, shortest)
        self.cut = int((self.lengths != self.stored).any(axis=1).sum())  # videos that lost clips to the alignment
        self.values = self._load(store)

    def _load(self, store: FeatureStore) -> dict[str, Tensor]:
        """All clips by modality (sum of lengths, D), in one contiguous read each."""
        values = {}
        for m in self.modalities:
            clips, dtype = int(store.offsets[m][-1]) if m in store.modalities else 0, disk_type(store, m)
            memory = allocate(clips * self.widths[m] * dtype.itemsize, self.device)
            values[m] = shaped(memory, 0, clips, self.widths[m], dtype)
            if clips:
                fill(store, m, 0, values[m])
        return values

    def _widths(self, store: FeatureStore, widths: dict[str, int]) -> dict[str, int]:
        found = {}
        for m in self.modalities:
            if m not in store.modalities and m not in widths:
                raise AqaError(f"{store.path} has no modality '{m}': {nearest(m, store.modalities)}")
            found[m] = store.widths.get(m, widths.get(m, 0))
            if found[m] != widths.get(m, found[m]):
                raise AqaError(f"{store.path}: {m} has {found[m]} channels, the model was trained on {widths[m]}")
        return found

    def portions(self, rows: Rows) -> Iterator[tuple[slice, Held]]:
        """A sequence of rows in successive stretches, each with what holds its features; valid until the next."""
        if len(rows):
            yield slice(0, len(rows)), Held(self.values, self.offsets)

    def order(self, rows: Rows, seed: int, epoch: int) -> NDArray[np.int64]:
        """The order in which an epoch of training takes the rows, as places in `rows`: here, any of all orders."""
        return np.random.default_rng([seed, epoch]).permutation(len(rows))

    def statistics(self, rows: Rows, available: NDArray[np.bool_]) -> Statistics:
        """Mean and standard deviation of each channel over the clips of some samples, where available (n, M)."""
        for i, m in enumerate(self.modalities):
            if not available[:, i].any():
                raise AqaError(f"data.standardize: no training video has {m}; leave it out of data.modalities")
        # Video after video, so that the sums are the same however many videos are in memory at once.
        sums = {m: _Moments(width, self.device) for m, width in self.widths.items()}
        for stretch, held in self.portions(rows):
            for i, m in enumerate(self.modalities):
                taken = rows[stretch][available[stretch, i]]
                for first, length in zip(held.offsets[taken, i], self.lengths[taken, i], strict=True):
                    sums[m].add(held.values[m][first : first + length])
        return {m: moments.mean_and_deviation() for m, moments in sums.items()}

    def copy(self) -> Features:
        """The same features, that may be standardised apart."""
        twin = copy.copy(self)
        twin.values = {m: values.clone() for m, values in self.values.items()}
        return twin

    def standardise(self, statistics: Statistics) -> None:
        """Bring every channel to zero mean and unit deviation by the statistics of a training set, in float32."""
        for m in statistics:
            self.values[m] = standardised(self.values[m], statistics[m])

    def window(self, rows: Rows, clips: int, place: NDArray[np.float64] | None = None) -> Window:
        """`clips` clips of each sample: features (B, clips, D) in float32 and lengths (B,) by modality.

        A video with longer streams is cropped: the middle, or at `place` (B,) in [0, 1) between the first and the last
        possible start, the same for all its streams. Of streams that differ in length the longest fills the window and
        the others keep the same share of their clips, so that all show the same stretch of the video. Shorter streams
        are followed by zeros.
        """
        return next(self.windows([rows], clips, None if place is None else [place]))

    def windows(
        self, batches: Sequence[Rows], clips: int, places: Sequence[NDArray[np.float64]] | None = None
    ) -> Iterator[Window]:
        """The window of each of some batches of rows, one after the other, features read as their turn comes."""
        if not batches:
            return
        rows = np.concatenate(batches)
        place = None if places is None else np.concatenate(places)
        ends = np.cumsum([len(batch) for batch in batches])
        pieces: list[Window] = []
        start = 0
        for stretch, held in self.portions(rows):
            while start < stretch.stop:
                end = ends[np.searchsorted(ends, start, "right")]
                piece = slice(start, min(end, stretch.stop))
                pieces.append(self._window(held, rows[piece], clips, None if place is None else place[piece]))
                start = piece.stop
                if start == end:
                    yield self._joined(pieces)
                    pieces = []

    def _window(self, held: Held, rows: Rows, clips: int, place: NDArray[np.float64] | None) -> Window:
        length = self.lengths[rows]  # (B, M)
        longest = np.maximum(length.max(axis=1, keepdims=True), 1)
        keep = -(-length * np.minimum(longest, clips) // longest)  # rounded up
        spare = length - keep
        start = spare // 2 if place is None else np.floor(place[:, None] * (spare + 1)).astype(np.int64)
        first = on_device(held.offsets[rows] + start, self.device)
        kept = on_device(keep, self.device)
        clip = torch.arange(clips, device=self.device)
        features, lengths = {}, {}
        for i, m in enumerate(self.modalities):
            padding = clip >= kept[:, i, None]  # (B, T)
            index = (first[:, i, None] + clip).masked_fill_(padding, 0)
            values = held.values[m] if len(held.values[m]) else held.values[m].new_zeros(1, self.widths[m])
            stream = self._room(len(rows), clips, self.widths[m])
            _gather(values, index.flatten(), stream.view(index.numel(), -1))
            features[m] = stream if (keep[:, i] == clips).all() else stream.masked_fill_(padding.unsqueeze(-1), 0.0)
            lengths[m] = kept[:, i]
        return features, lengths

    def _joined(self, pieces: Sequence[Window]) -> Window:
        """Windows of successive rows as one."""
        if len(pieces) == 1:
            return pieces[0]
        features = {}
        for m in self.modalities:
            parts = [streams[m] for streams, _ in pieces]
            features[m] = self._room(sum(len(part) for part in parts), *parts[0].shape[1:])
            torch.cat(parts, out=features[m])
        return features, {m: torch.cat([lengths[m] for _, lengths in pieces]) for m in self.modalities}

    def _room(self, rows: int, clips: int, width: int) -> Tensor:
        """Memory for a stream of a batch, (rows, clips, width), not set."""
        return torch.empty(rows, clips, width, device=self.device)


class _Moments:
    """Mean and squared deviations (D,) of the clips so far, video by video (Chan, Golub and LeVeque 1979)."""

    def __init__(self, width: int, device: torch.device):
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, clips: Tensor) -> None:
        """Take in the clips (n, D) of one more video, n at least 1."""
        variance, mean = torch.var_mean(clips.double(), dim=0, correction=0)
        count = self.count + len(clips)
        apart = mean - self.mean
        self.squares += len(clips) * (variance + apart.square() * (self.count / count))
        self.mean += apart * (len(clips) / count)
        self.count = count

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        deviation = (self.squares / self.count).sqrt()
        varies = deviation > ROUNDING * self.mean.abs()
        return self.mean.float(), torch.where(varies, deviation, 1.0).float()


def standardised(values: Tensor, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Clips (n, D) less the mean, over the deviation: in place in float32, as a new tensor where they are narrower."""
    mean, deviation = (number.to(values.device) for number in statistics)
    return values.float().sub_(mean).div_(deviation)


def _gather(values: Tensor, index: Tensor, out: Tensor) -> None:
    """Some clips (n, D), of any type, into out (n, D) float32."""
    if values.dtype == out.dtype:
        torch.index_select(values, 0, index, out=out)
    else:
        out.copy_(values.index_select(0, index))


def _batches(
    features: Features,
    rows: Rows,
    chosen: Sequence[NDArray[np.int64]],
    clips: int,
    pattern: MissingPattern,
    draws: Draws,
    available: NDArray[np.bool_],
    visible: NDArray[np.bool_],
    crop: Literal["middle", "random"],
) -> Iterator[Batch]:
    """The batches that hold the chosen places of `rows`, damaged as the pattern says. visible: (n, M) or (P, n, M)."""
    places = draws.uniform("crop")[:, 0]
    crops = None if crop == "middle" else [places[at] for at in chosen]
    windows = features.windows([rows[at] for at in chosen], clips, crops)
    for at in chosen:
        seen, there = visible[..., at, :], available[at]
        streams, lengths = next(windows)
        streams = pattern.damage(streams, lengths, draws.at(at))  # under the same name: the first may go
        yield Batch(
            rows=on_device(rows[at], features.device),
            features=streams,
            lengths=lengths,
            available=on_device(there, features.device),
            visible=on_device(seen, features.device),
            on_host=(torch.from_numpy(seen), torch.from_numpy(there)),
        )


def training_batches(
    features: Features,
    rows: Rows,
    available: NDArray[np.bool_],
    pattern: MissingPattern,
    *,
    clips: int,
    size: int,
    seed: int,
    epoch: int,
) -> Iterator[Batch]:
    """One epoch of shuffled batches with random crops. available: (n, M), what each of `rows` still has.

    A row that the pattern leaves without any modality is left out.
    """
    order = features.order(rows, seed, epoch)
    batch_number = np.empty(len(rows), np.int64)
    batch_number[order] = np.arange(len(rows)) // size
    draws = Draws(seed, epoch, features.keys[rows], batch_number)
    visible = pattern.visible(available, draws)
    seen: NDArray[np.bool_] = np.asarray(visible.any(axis=1))
    successive = (order[start : start + size] for start in range(0, len(rows), size))
    chosen = [at[seen[at]] for at in successive if seen[at].any()]
    yield from _batches(features, rows, chosen, clips, pattern, draws, available, visible, crop="random")


def scoring_batches(
    features: Features, rows: Rows, patterns: Sequence[MissingPattern], *, clips: int, size: int, seed: int
) -> Iterator[Batch]:
    """The rows that some pattern leaves something of, in order, with middle crops; visible is (P, B, M).

    All the patterns are given the same features: a pattern that damages features has to be the only one.
    """
    draws = Draws.once(seed, features.keys[rows])
    visible = np.stack([scoring_visibility(features, rows, pattern, seed) for pattern in patterns])
    scorable = np.flatnonzero(visible.any(axis=(0, 2)))
    chosen = [scorable[start : start + size] for start in range(0, len(scorable), size)]
    yield from _batches(
        features, rows, chosen, clips, patterns[0], draws, features.available[rows], visible, crop="middle"
    )


def scoring_visibility(features: Features, rows: Rows, pattern: MissingPattern, seed: int) -> NDArray[np.bool_]:
    """What a pattern leaves of some rows when they are scored, (n, M)."""
    draws = Draws.once(seed, features.keys[rows])
    return pattern.visible(pattern.remaining(features.available[rows], draws), draws)
