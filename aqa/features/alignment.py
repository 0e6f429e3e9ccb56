"""Which of a stream's clips a window shows, where streams differ in length or rate.

The streams of a video that *count* decide it: in scoring those that are visible, in training those that are visible or
may teach. Of the others not even the lengths are looked at, and a window shows nothing of them.

- "shortest" cuts the streams of a video to its shortest one: clip number t of one goes with clip number t of another.
- "none" leaves each stream its own clips.
- "time" averages every stream over equal shares of the video's duration, as many as its slowest stream has clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aqa.features.loading import Source
from aqa.store.checks import Rows
from aqa.system.devices import on_device

Align = Literal["shortest", "none", "time"]
Counted = NDArray[np.bool_]
ROUNDING = 1e-6  # of a clip: two durations in seconds that are closer are one


class Spans(NamedTuple):
    """Clip t of a window is the mean of a stream from first + t * step to first + (t + 1) * step, in clips of it.

    kept: how many clips of the window are real, 0 for a stream that does not count. All (B, M).
    """

    first: NDArray[np.float64]
    step: NDArray[np.float64]
    kept: NDArray[np.int64]


@dataclass(frozen=True)
class Alignment:
    """How the streams of each video of a store become windows.

    stored: clips of each stream (N, M), 0 where it is absent. seconds: that one clip takes (M,), NaN if not known.
    fill: with "time", resample every video to all clips of the window, whatever its streams have.
    """

    kind: Align
    stored: NDArray[np.int64]
    seconds: NDArray[np.float64]
    fill: bool = False

    @classmethod
    def of(cls, store: Source, modalities: Sequence[str], kind: Align, clips: int | None = None) -> Alignment:
        """Of a store's modalities, absent ones among them. clips: `data.clips`, None if it is not given."""
        absent = np.zeros(len(store), np.int64)
        lengths = [np.diff(store.offsets[m]) if m in store.modalities else absent for m in modalities]
        seconds = np.array([store.clip_seconds(m) for m in modalities])
        return cls(kind, np.stack(lengths, axis=1), seconds, fill=clips is not None)

    def decisive(self, rows: Rows, counted: Counted, clips: int) -> NDArray[np.float64]:
        """What the streams that count say of how a row becomes a window, (B, 2), 0 where none does.

        Two choices of streams that agree in it show the streams that they share alike, and so do both together.
        """
        stored = np.where(counted, self.stored[rows], 0)
        other = np.zeros(len(rows))
        if self.kind == "shortest":
            return np.stack([_least(stored), other], axis=1)
        if self.kind == "none":
            longest = stored.max(axis=1, initial=0)
            return np.stack([np.where(longest, np.maximum(longest, clips), 0), other], axis=1)
        covered, duration = self._covered(stored)
        slowest = np.minimum(np.ceil(_least(covered) - ROUNDING), clips)
        resampled = np.where(stored.any(axis=1), clips, 0) if self.fill else slowest
        return np.stack([resampled, duration], axis=1)

    def spans(self, rows: Rows, counted: Counted, clips: int, place: NDArray[np.float64] | None = None) -> Spans:
        """The window of `clips` clips of each row: the middle of a longer video, or by `place` (B,) in [0, 1).

        place: between the first and the last possible start, the same for all streams of a video. Streams that keep
        different lengths ("none") keep the same share of their clips, so that all show the same stretch of the video;
        the longest fills the window. With "time" a window shows the whole video.
        """
        stored = np.where(counted, self.stored[rows], 0)
        whole = np.ones(stored.shape)
        if self.kind == "time":
            resampled = self.decisive(rows, counted, clips)[:, :1]
            step = np.where(stored > 0, self._covered(stored)[0] / np.maximum(resampled, 1), whole)
            return Spans(np.zeros(stored.shape), step, np.where(stored > 0, resampled, 0).astype(np.int64))
        length = self._left(stored)
        longest = np.maximum(length.max(axis=1, keepdims=True, initial=0), 1)
        kept = -(-length * np.minimum(longest, clips) // longest)  # rounded up
        spare = length - kept
        start = spare // 2 if place is None else np.floor(place[:, None] * (spare + 1))
        return Spans(start.astype(np.float64), whole, kept)

    def lengths(self, rows: Rows, counted: Counted, clips: int | None = None) -> NDArray[np.int64]:
        """Clips of each stream that counts once aligned, (B, M), before any window crops it.

        clips: to which "time" may resample; by default as many as the slowest stream has.
        """
        stored = np.where(counted, self.stored[rows], 0)
        if self.kind == "time":
            return self.spans(rows, counted, clips or int(stored.max(initial=1))).kept
        return self._left(stored)

    def left_out(self, rows: Rows, counted: Counted) -> NDArray[np.int64]:
        """Clips of each modality (M,) that "time" does not look at: those beyond the duration that streams share."""
        stored = np.where(counted, self.stored[rows], 0)
        return np.floor(stored - self._covered(stored)[0] + ROUNDING).sum(axis=0).astype(np.int64)

    def _left(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the clips (B, M) of the streams that count, those that "shortest" or "none" leaves."""
        shortest = _least(stored)[:, None].astype(np.int64)
        return np.minimum(stored, shortest) if self.kind == "shortest" else stored

    def _covered(self, stored: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The clips of each stream (B, M) that the video's duration covers, and that duration (B,) in seconds.

        It is the duration that all streams have in common, where it is known of all that count how long a clip takes.
        Where it is not, 0 stands for it, and every stream is taken to span the whole video.
        """
        counts = stored > 0
        known = np.asarray(counts.any(axis=1) & (~counts | np.isfinite(self.seconds)).all(axis=1))
        duration = np.where(known, _least(np.where(counts, stored * np.nan_to_num(self.seconds), 0.0)), 0.0)
        with np.errstate(invalid="ignore"):
            covered = np.where(known[:, None] & counts, duration[:, None] / self.seconds, stored)
        near = np.round(covered)
        return np.minimum(np.where(abs(covered - near) < ROUNDING, near, covered), stored), duration


def _least(numbers: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The least in each row (B, M) of those that are not 0, (B,); 0 where all are."""
    least = np.where(numbers > 0, numbers, np.inf).min(axis=1, initial=np.inf)
    return np.where(np.isfinite(least), least, 0.0)


def resampled(values: Tensor, begin: Rows, spans: Spans, stream: int, out: Tensor) -> None:
    """Windows of one stream into out (B, T, D): each clip the mean of its span, weighted by how much of a clip it has.

    values: clips (n, D) of any type. begin: where in them the stream of each video begins, (B,). stream: its column in
    spans. The means are sums of products with weights that add up to 1, clip after clip, so that they do not depend on
    the other rows, and a span of exactly one clip is that clip.
    """
    index, weight, bags = _averaged(begin, spans, stream, out.shape[1])
    flat = out.view(len(bags), -1)
    if values.dtype == out.dtype:
        flat.copy_(_bag_means(values, index, weight, bags))
        return
    # Narrower numbers are widened before they are added up, not more of them at a time than the window has clips.
    ends = np.append(bags[1:], len(index))
    start = 0
    while start < len(bags):
        stop = max(int(np.searchsorted(ends, bags[start] + len(bags), "right")), start + 1)
        part = slice(bags[start], ends[stop - 1])
        wide = values.index_select(0, on_device(index[part], out.device)).to(out.dtype)
        place = np.arange(len(wide))
        flat[start:stop] = _bag_means(wide, place, weight[part], bags[start:stop] - bags[start])
        start = stop


def _averaged(begin: Rows, spans: Spans, stream: int, clips: int) -> tuple[Rows, NDArray[np.float32], Rows]:
    """The clips that windows average, one after the other: their numbers and weights, (S,) both.

    And where the clips of each of the B * T spans begin among them.
    """
    first, step, kept = (part[:, stream : stream + 1] for part in spans)
    low = first + np.arange(clips) * step  # (B, T)
    start = np.floor(low + ROUNDING).astype(np.int64)
    count = np.maximum(np.ceil(low + step - ROUNDING).astype(np.int64) - start, 1)
    count = np.where(np.arange(clips) < kept, count, 0).ravel()
    bags = np.cumsum(count) - count
    clip = np.repeat(start.ravel() - bags, count) + np.arange(count.sum())
    below, span = np.repeat(low.ravel(), count), np.repeat(np.broadcast_to(step, low.shape).ravel(), count)
    weight = (np.minimum(clip + 1, below + span) - np.maximum(clip, below)) / span
    total = np.add.reduceat(np.append(weight, 0.0), bags)
    weight /= np.repeat(np.where(count, total, 1.0), count)
    return np.repeat(np.repeat(begin, clips), count) + clip, weight.astype(np.float32), bags


def _bag_means(values: Tensor, index: Rows, weight: NDArray[np.float32], bags: Rows) -> Tensor:
    """Weighted sums of clips (n, D) in successive bags, (bags, D)."""
    clips, shares, begins = (on_device(part, values.device) for part in (index, weight, bags))
    return F.embedding_bag(clips, values, begins, mode="sum", per_sample_weights=shares)
