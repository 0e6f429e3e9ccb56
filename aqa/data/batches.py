"""Features on the device: cropped, padded and batched by gathers, without per-sample Python.

A batch is `features` (modality -> (B, T, D)), `lengths` (modality -> (B,)), and what a missing pattern made of the
samples' availability: `available` and `visible`, (B, M) bool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.data.store import FeatureStore
from aqa.errors import AqaError, nearest
from aqa.missing import Draws, MissingPattern, sample_keys

Rows = NDArray[np.int64]
Statistics = dict[str, tuple[Tensor, Tensor]]  # modality -> mean (D,), standard deviation (D,)


@dataclass(frozen=True)
class Batch:
    """Samples as a model takes them; rows are their row numbers in the store.

    available and visible: (B, M); visible is (P, B, M) where samples are scored under P patterns.
    """

    rows: Tensor
    features: dict[str, Tensor]
    lengths: dict[str, Tensor]
    available: Tensor
    visible: Tensor


class Features:
    """All features of a store on one device.

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
        self.values: dict[str, Tensor] = {}
        offsets, lengths = [], []
        for m in self.modalities:
            known = m in store.modalities
            values = store.read(m) if known else np.zeros((0, self.widths[m]), np.float32)
            if not np.isfinite(values).all():
                row = int(
                    np.searchsorted(store.offsets[m], np.flatnonzero(~np.isfinite(values).all(axis=1))[0], "right")
                )
                raise AqaError(f"{store.path}: {m} of '{store.ids[row - 1]}' holds NaN or inf; see aqa inspect")
            self.values[m] = torch.from_numpy(values).to(self.device)
            offsets.append(store.offsets[m][:-1] if known else np.zeros(len(store), np.int64))
            lengths.append(np.diff(store.offsets[m]) if known else np.zeros(len(store), np.int64))
        self.offsets, own = np.stack(offsets, axis=1), np.stack(lengths, axis=1)  # (N, M) both
        self.available: NDArray[np.bool_] = own > 0
        self.lengths = own
        if align == "shortest":
            shortest = np.where(self.available, own, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
            self.lengths = np.minimum(own, shortest)
        self.cut = int((self.lengths != own).any(axis=1).sum())  # videos that lost clips to the alignment

    def _widths(self, store: FeatureStore, widths: dict[str, int]) -> dict[str, int]:
        found = {}
        for m in self.modalities:
            if m not in store.modalities and m not in widths:
                raise AqaError(f"{store.path} has no modality '{m}': {nearest(m, store.modalities)}")
            found[m] = store.widths.get(m, widths.get(m, 0))
            if found[m] != widths.get(m, found[m]):
                raise AqaError(f"{store.path}: {m} has {found[m]} channels, the model was trained on {widths[m]}")
        return found

    def statistics(self, rows: Rows, available: NDArray[np.bool_]) -> Statistics:
        """Mean and standard deviation of each channel over the clips of some samples, where available (n, M)."""
        result = {}
        for i, m in enumerate(self.modalities):
            taken = rows[available[:, i]]
            clips = [
                self.values[m][o : o + n] for o, n in zip(self.offsets[taken, i], self.lengths[taken, i], strict=True)
            ]
            if not clips:
                raise AqaError(f"data.standardize: no training video has {m}; leave it out of data.modalities")
            std, mean = torch.std_mean(torch.cat(clips).double(), dim=0, correction=0)
            result[m] = mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float()
        return result

    def standardise(self, statistics: Statistics) -> None:
        """Bring every channel to zero mean and unit deviation by the statistics of a training set, in place."""
        for m, (mean, std) in statistics.items():
            self.values[m].sub_(mean.to(self.device)).div_(std.to(self.device))

    def window(
        self, rows: Rows, clips: int, place: NDArray[np.float64] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`clips` clips of each sample: features (B, clips, D) and lengths (B,) by modality.

        A video with longer streams is cropped: the middle, or at `place` (B,) in [0, 1) between the first and the last
        possible start, the same for all its streams. Of streams that differ in length the longest fills the window and
        the others keep the same share of their clips, so that all show the same stretch of the video. Shorter streams
        are followed by zeros.
        """
        length = self.lengths[rows]  # (B, M)
        longest = np.maximum(length.max(axis=1, keepdims=True), 1)
        keep = -(-length * np.minimum(longest, clips) // longest)  # rounded up
        spare = length - keep
        start = spare // 2 if place is None else np.floor(place[:, None] * (spare + 1)).astype(np.int64)
        first = torch.from_numpy(self.offsets[rows] + start).to(self.device)
        kept = torch.from_numpy(keep).to(self.device)
        clip = torch.arange(clips, device=self.device)
        features, lengths = {}, {}
        for i, m in enumerate(self.modalities):
            real = clip < kept[:, i, None]  # (B, T)
            index = torch.where(real, first[:, i, None] + clip, 0)
            values = self.values[m] if len(self.values[m]) else self.values[m].new_zeros(1, self.widths[m])
            features[m] = values[index].masked_fill(~real.unsqueeze(-1), 0.0)
            lengths[m] = kept[:, i]
        return features, lengths

    def batch(
        self,
        rows: Rows,
        clips: int,
        pattern: MissingPattern,
        draws: Draws,
        available: NDArray[np.bool_],
        visible: NDArray[np.bool_],
        crop: Literal["middle", "random"],
    ) -> Batch:
        """One batch of rows whose draws, availability and visibility are given, damaged as the pattern says."""
        place = draws.uniform("crop")[:, 0] if crop == "random" else None
        features, lengths = self.window(rows, clips, place)
        return Batch(
            rows=torch.from_numpy(rows).to(self.device),
            features=pattern.damage(features, lengths, draws),
            lengths=lengths,
            available=torch.from_numpy(available).to(self.device),
            visible=torch.from_numpy(visible).to(self.device),
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
    order = np.random.default_rng([seed, epoch]).permutation(len(rows))
    batch_number = np.empty(len(rows), np.int64)
    batch_number[order] = np.arange(len(rows)) // size
    draws = Draws(seed, epoch, features.keys[rows], batch_number)
    visible = pattern.visible(available, draws)
    for start in range(0, len(rows), size):
        at = order[start : start + size]
        at = at[visible[at].any(axis=1)]
        if len(at):
            yield features.batch(rows[at], clips, pattern, draws.at(at), available[at], visible[at], crop="random")


def scoring_batches(
    features: Features, rows: Rows, patterns: Sequence[MissingPattern], *, clips: int, size: int, seed: int
) -> Iterator[Batch]:
    """The rows that some pattern leaves something of, in order, with middle crops; visible is (P, B, M).

    All the patterns are given the same features: a pattern that damages features has to be the only one.
    """
    draws = Draws.once(seed, features.keys[rows])
    available = features.available[rows]
    visible = np.stack([scoring_visibility(features, rows, pattern, seed) for pattern in patterns])
    scorable = np.flatnonzero(visible.any(axis=(0, 2)))
    for start in range(0, len(scorable), size):
        at = scorable[start : start + size]
        yield features.batch(rows[at], clips, patterns[0], draws.at(at), available[at], visible[:, at], crop="middle")


def scoring_visibility(features: Features, rows: Rows, pattern: MissingPattern, seed: int) -> NDArray[np.bool_]:
    """What a pattern leaves of some rows when they are scored, (n, M)."""
    draws = Draws.once(seed, features.keys[rows])
    return pattern.visible(pattern.remaining(features.available[rows], draws), draws)
