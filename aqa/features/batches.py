"""Features on the device: cropped, padded and batched by gathers, without per-sample Python.

What is here reads all features once and holds them; `streaming` has those of a store that memory does not hold.

A batch is `features` (modality -> (B, T, D)), `lengths` (modality -> (B,)), and what a missing pattern made of the
samples' availability: `available` and `visible`, (B, M) bool.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, nearest
from aqa.features.alignment import Align, Alignment, Counted, Rows, resampled
from aqa.features.loading import Source, allocate, disk_type, fill, shaped
from aqa.features.statistics import Moments, Statistics, standardized
from aqa.missing import Draws, MissingPattern, sample_keys
from aqa.system.devices import on_device
from aqa.system.host_masks import asked, known

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


SCORED_TO_TRAINED, SCORED_BYTES = 4, 2**22  # the most in a batch that is scored, beside one in training and in all


def scored_at_once(batch_size: int, clips: int, widths: Iterable[int]) -> int:
    """Videos in a batch that is scored, where one in training has `batch_size` of a window of `clips`.

    More than in training where they are small: operations on small arrays take as long as those on larger ones.
    """
    a_video = 4 * clips * sum(widths)
    return max(batch_size, min(SCORED_TO_TRAINED * batch_size, SCORED_BYTES // max(a_video, 1)))


class Features:
    """All features of a store on one device, in the type that they have on disk (float16 takes half the room).

    modalities: which, and in which order; all of the store's by default. A modality that the store does not have is
    absent from every sample, if its width is given in `widths`.
    align: how streams of different lengths are brought together (`alignment`). clips: `data.clips`, to which "time"
    resamples every video, where it is given.
    """

    def __init__(
        self,
        store: Source,
        *,
        modalities: Sequence[str] | None = None,
        widths: dict[str, int] | None = None,
        align: Align = "shortest",
        clips: int | None = None,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.ids = store.ids
        self.keys = sample_keys(store.ids)
        self.modalities = tuple(modalities or store.modalities)
        self.widths = self._widths(store, widths or {})
        self.alignment = Alignment.of(store, self.modalities, align, clips)
        self.stored = self.alignment.stored  # clips of each stream in the store, (N, M)
        absent = np.zeros(len(store) + 1, np.int64)
        offsets = np.stack([store.offsets.get(m, absent) for m in self.modalities], axis=1)
        self.offsets = offsets[:-1]  # where each stream begins among the store's clips, (N, M)
        self.available: NDArray[np.bool_] = self.stored > 0
        self.values = self._load(store)

    def _load(self, store: Source) -> dict[str, Tensor]:
        """All clips by modality (sum of lengths, D), in one contiguous read each."""
        values = {}
        for m in self.modalities:
            clips, dtype = int(store.offsets[m][-1]) if m in store.modalities else 0, disk_type(store, m)
            memory = allocate(clips * self.widths[m] * dtype.itemsize, self.device)
            values[m] = shaped(memory, 0, clips, self.widths[m], dtype)
            if clips:
                fill(store, m, 0, values[m])
        return values

    def _widths(self, store: Source, widths: dict[str, int]) -> dict[str, int]:
        found = {}
        for m in self.modalities:
            if m not in store.modalities and m not in widths:
                raise AqaError(f"{store.path} has no modality '{m}': {nearest(m, store.modalities)}")
            found[m] = store.widths.get(m, widths.get(m, 0))
            if found[m] != widths.get(m, found[m]):
                raise AqaError(f"{store.path}: {m} has {found[m]} channels, the model was trained on {widths[m]}")
        return found

    def portions(self, rows: Rows, counted: Counted) -> Iterator[tuple[slice, Held]]:
        """A sequence of rows in successive stretches, each with what holds its features; valid until the next.

        counted: (n, M), which streams of each row are wanted.
        """
        if len(rows):
            yield slice(0, len(rows)), Held(self.values, self.offsets)

    def order(self, rows: Rows, counted: Counted, seed: int, epoch: int) -> NDArray[np.int64]:
        """The order in which an epoch of training takes the rows, as places in `rows`: here, any of all orders."""
        return np.random.default_rng([seed, epoch]).permutation(len(rows))

    def statistics(self, rows: Rows, available: Counted, clips: int | None = None) -> Statistics:
        """Mean and standard deviation of each channel over the clips of some samples, where available (n, M).

        Of clips as they are once aligned. clips: of the window, to which "time" may resample.
        """
        for i, m in enumerate(self.modalities):
            if not available[:, i].any():
                raise AqaError(f"data.standardize: no training video has {m}; leave it out of data.modalities")
        lengths = self.alignment.lengths(rows, available, clips)
        # Video after video, so that the sums are the same however many videos are in memory at once.
        sums = {m: Moments(width, self.device) for m, width in self.widths.items()}
        for stretch, held in self.portions(rows, available):
            for at in range(len(rows))[stretch]:
                for m, clip_values in self._aligned(held, rows[at], available[at], lengths[at]).items():
                    sums[m].add(clip_values)
        return {m: moments.mean_and_deviation(m) for m, moments in sums.items()}

    def _aligned(self, held: Held, row: int, counted: Counted, lengths: NDArray[np.int64]) -> dict[str, Tensor]:
        """The clips (n, D) of those streams of a row that count (M,), once aligned to so many clips (M,)."""
        chosen = {m: i for i, m in enumerate(self.modalities) if counted[i]}
        if self.alignment.kind == "time":
            window, _ = self._window(held, np.array([row]), counted[None], int(lengths.max()), None)
            return {m: window[m][0] for m in chosen}
        begin = held.offsets[row]
        return {m: held.values[m][begin[i] : begin[i] + lengths[i]] for m, i in chosen.items()}

    def copy(self) -> Features:
        """The same features, that may be standardized apart."""
        twin = copy.copy(self)
        twin.values = {m: values.clone() for m, values in self.values.items()}
        return twin

    def standardize(self, statistics: Statistics) -> None:
        """Bring every channel to zero mean and unit deviation by the statistics of a training set, in float32."""
        for m in statistics:
            self.values[m] = standardized(self.values[m], statistics[m])

    def window(
        self, rows: Rows, clips: int, place: NDArray[np.float64] | None = None, counted: Counted | None = None
    ) -> Window:
        """`clips` clips of each sample: features (B, clips, D) in float32 and lengths (B,) by modality.

        A video with longer streams is cropped or resampled, as `Alignment.spans` says. Shorter streams are followed by
        zeros. counted: (B, M), the streams to show; by default all that the sample has. Others are zeros throughout,
        of length 0.
        """
        chosen = self.available[rows] if counted is None else counted
        return next(self.windows([rows], clips, [chosen], None if place is None else [place]))

    def windows(
        self,
        batches: Sequence[Rows],
        clips: int,
        counted: Sequence[Counted],
        places: Sequence[NDArray[np.float64]] | None = None,
    ) -> Iterator[Window]:
        """The window of each of some batches of rows, one after the other, features read as their turn comes."""
        if not batches:
            return
        rows, chosen = np.concatenate(batches), np.concatenate(counted)
        place = None if places is None else np.concatenate(places)
        ends = np.cumsum([len(batch) for batch in batches])
        pieces: list[Window] = []
        start = 0
        for stretch, held in self.portions(rows, chosen):
            while start < stretch.stop:
                end = ends[np.searchsorted(ends, start, "right")]
                piece = slice(start, min(end, stretch.stop))
                crop = None if place is None else place[piece]
                pieces.append(self._window(held, rows[piece], chosen[piece], clips, crop))
                start = piece.stop
                if start == end:
                    yield self._joined(pieces)
                    pieces = []

    def _window(
        self, held: Held, rows: Rows, counted: Counted, clips: int, place: NDArray[np.float64] | None
    ) -> Window:
        spans = self.alignment.spans(rows, counted, clips, place)
        begin = held.offsets[rows]  # (B, M)
        first = on_device(begin + spans.first.astype(np.int64), self.device)
        kept = on_device(spans.kept, self.device)
        clip = torch.arange(clips, device=self.device)
        features, lengths = {}, {}
        for i, m in enumerate(self.modalities):
            stream = self._room(len(rows), clips, self.widths[m])
            lengths[m], features[m] = known(kept[:, i], torch.from_numpy(spans.kept[:, i])), stream
            if not spans.kept[:, i].any():
                stream.zero_()
            elif (spans.step[:, i] != 1).any():
                resampled(held.values[m], begin[:, i], spans, i, stream)
            else:
                padding = clip >= kept[:, i, None]  # (B, T)
                index = (first[:, i, None] + clip).masked_fill_(padding, 0)
                _gather(held.values[m], index.flatten(), stream.view(index.numel(), -1))
                if not (spans.kept[:, i] == clips).all():
                    stream.masked_fill_(padding.unsqueeze(-1), 0.0)
        return features, lengths

    def _joined(self, pieces: Sequence[Window]) -> Window:
        """Windows of successive rows as one."""
        if len(pieces) == 1:
            return pieces[0]
        features, lengths = {}, {}
        for m in self.modalities:
            parts = [streams[m] for streams, _ in pieces]
            features[m] = self._room(sum(len(part) for part in parts), *parts[0].shape[1:])
            torch.cat(parts, out=features[m])
            kept = [one[m] for _, one in pieces]
            lengths[m] = known(torch.cat(kept), torch.cat([asked(one) for one in kept]))
        return features, lengths

    def _room(self, rows: int, clips: int, width: int) -> Tensor:
        """Memory for a stream of a batch, (rows, clips, width), not set."""
        return torch.empty(rows, clips, width, device=self.device)


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
    counted: Counted,
    crop: Literal["middle", "random"],
) -> Iterator[Batch]:
    """The batches that hold the chosen places of `rows`, damaged as the pattern says. visible: (n, M) or (P, n, M).

    counted: (n, M), the streams that batches hold; of the others they have neither numbers nor lengths.
    """
    places = draws.uniform("crop")[:, 0]
    crops = None if crop == "middle" else [places[at] for at in chosen]
    windows = features.windows([rows[at] for at in chosen], clips, [counted[at] for at in chosen], crops)
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
    order = features.order(rows, available, seed, epoch)
    batch_number = np.empty(len(rows), np.int64)
    batch_number[order] = np.arange(len(rows)) // size
    draws = Draws(seed, epoch, features.keys[rows], batch_number)
    visible = pattern.visible(available, draws)
    seen: NDArray[np.bool_] = np.asarray(visible.any(axis=1))
    successive = (order[start : start + size] for start in range(0, len(rows), size))
    chosen = [at[seen[at]] for at in successive if seen[at].any()]
    yield from _batches(features, rows, chosen, clips, pattern, draws, available, visible, available, crop="random")


def scoring_batches(
    features: Features, rows: Rows, patterns: Sequence[MissingPattern], *, clips: int, size: int, seed: int
) -> Iterator[Batch]:
    """The rows that some pattern leaves something of, in order, with middle crops; visible is (P, B, M).

    All the patterns are given the same features, of all streams that one of them leaves: a pattern that damages
    features has to be the only one, and the others have to agree on windows (`Alignment.decisive`).
    """
    draws = Draws.once(seed, features.keys[rows])
    visible = np.stack([scoring_visibility(features, rows, pattern, seed) for pattern in patterns])
    scorable = np.flatnonzero(visible.any(axis=(0, 2)))
    chosen = [scorable[start : start + size] for start in range(0, len(scorable), size)]
    available, counted = features.available[rows], np.asarray(visible.any(axis=0))
    yield from _batches(features, rows, chosen, clips, patterns[0], draws, available, visible, counted, crop="middle")


def scoring_visibility(features: Features, rows: Rows, pattern: MissingPattern, seed: int) -> NDArray[np.bool_]:
    """What a pattern leaves of some rows when they are scored, (n, M)."""
    draws = Draws.once(seed, features.keys[rows])
    return pattern.visible(pattern.remaining(features.available[rows], draws), draws)
