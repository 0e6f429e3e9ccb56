"""Ridge regression in which a hidden stream is what the most similar training videos have there.

Filling by retrieval is a baseline of Zhou et al., BriMA: Bridged Modality Adaptation for Multi-Modal Continual Action
Quality Assessment (arXiv 2602.19170): the videos of a memory that are most alike in the visible streams, by cosine
similarity, give their mean to the hidden ones. The same idea as nearest-neighbour imputation in general: Troyanskaya et
al., Missing value estimation methods for DNA microarrays, Bioinformatics 2001.

Theirs completes sequences of features, weights the streams 5 : 3 : 1 in the similarity, and learns one task after
another from a small buffer of complete videos. Here there is one task, and the memory is all training videos: a hidden
stream is filled from those that have it and all that is visible, or is the mean of the training videos where there is
none. What is compared, filled and regressed on is the mean and the standard deviation of each channel over the real
clips, as in `ridge`, each standardized by the training videos that have it. So what this model is ahead of `ridge`, or
behind it, is due to what stands in the place of hidden streams. A training video that is seen incompletely is filled
from the others, never from itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.layers.statistics import channel_statistics
from aqa.models import register
from aqa.models.base import AQAModel, Example
from aqa.models.ridge import ALPHAS, Penalties
from aqa.registry import Positive

ROUNDING = 2.0**-20  # relative; a number that deviates by less is constant as far as float32 can tell


@register("retrieval_fill", paper="BriMA: Bridged Modality Adaptation, arXiv 2602.19170", year=2026)
class RetrievalFill(AQAModel):
    """Ridge regression on channel means and deviations; hidden ones are those of the nearest videos.

    neighbours: how many training videos a hidden stream is the mean of, 3 as in the authors' code; all where there are
    fewer. alphas: the penalties of which leave-one-out cross-validation chooses.
    """

    closed_form = True
    takes_unaligned = True
    why_no_program = "looks up other videos for each visible set that a batch shows, set by set"

    # What was fitted, P = 2 * sum of widths numbers for each of N training videos.
    centre: Tensor  # (P,)
    stretch: Tensor  # (P,) 1 / standard deviation; 0 for constants
    memory: Tensor  # (N, P) standardized, 0 where absent
    present: Tensor  # (N, M) 1 where a video has the modality, else 0
    weight: Tensor  # (P,)
    bias: Tensor  # ()
    alpha: Tensor  # (), the penalty chosen

    def __init__(self, widths: Mapping[str, int], *, neighbours: Positive = 3, alphas: Penalties = ALPHAS):
        super().__init__(widths)
        self.neighbours, self.alphas = neighbours, alphas
        numbers = 2 * sum(widths.values())
        for name, shape in {
            "centre": (numbers,),
            "stretch": (numbers,),
            "memory": (0, numbers),
            "present": (0, len(widths)),
            "weight": (numbers,),
            "bias": (),
            "alpha": (),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.double))

    @property
    def parameter_count(self) -> int:
        return len(self.weight) + 1

    def fit(self, batches: Iterable[Example]) -> dict[str, float]:
        """Keep the training videos, and fit to them as they are visible; "loss" is the squared error on them.

        A stream that the training pattern hides for an epoch is in the memory all the same; one that a `fixed` pattern
        hides never is.
        """
        from sklearn.linear_model import RidgeCV  # here: it takes seconds to import, and other models do not need it

        parts = [(self._raw(e.features, e.available, e.lengths), e.available, e.visible, e.target) for e in batches]
        if not parts:
            raise AqaError("missing.train leaves no training sample with a visible modality")
        raw, available, visible, target = (torch.cat(part) for part in zip(*parts, strict=True))
        self._standardize(raw, self._numbers(available))
        self.memory, self.present = self._standardized(raw, available), available.double()
        filled = self._filled(self._standardized(raw, visible), visible, torch.arange(len(raw), device=raw.device))
        inputs, truth = filled.cpu().numpy(), target.double().cpu().numpy()
        with np.errstate(invalid="ignore"):  # nothing can be left out of a single video, or of equal ones
            ridge = RidgeCV(np.array(self.alphas)).fit(inputs, truth)
        for buffer, value in ((self.weight, ridge.coef_), (self.bias, ridge.intercept_), (self.alpha, ridge.alpha_)):
            buffer.copy_(torch.as_tensor(value, dtype=torch.double))
        return {"loss": float(np.mean((ridge.predict(inputs) - truth) ** 2))}

    def _standardize(self, raw: Tensor, known: Tensor) -> None:
        """Centre and stretch each number by the videos in which it is known, (N, P) both; zeros elsewhere."""
        count = known.sum(dim=0).clamp(min=1)
        self.centre = raw.sum(dim=0) / count
        deviation = (((raw - self.centre) * known).square().sum(dim=0) / count).sqrt()
        varies = deviation > ROUNDING * raw.abs().amax(dim=0)
        self.stretch = torch.where(varies, 1 / deviation, 0.0)

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        described = self._standardized(self._raw(features, visible, lengths), visible)
        filled = self._filled(described, visible, None)
        return (filled @ self.weight + self.bias).clamp(0, 1).float()

    def _filled(self, described: Tensor, visible: Tensor, rows: Tensor | None) -> Tensor:
        """Standardized videos (B, P), seen through (B, M), with means of their neighbours where they are hidden.

        rows: (B,) which of the memory's videos each is, and so none of its neighbours; None for videos that are new.
        """
        filled, has = described.clone(), self.present.bool()
        for subset in torch.unique(visible, dim=0):
            among = (visible == subset).all(dim=1).nonzero().squeeze(1)
            known = self._numbers(subset.unsqueeze(0))[0]  # (P,)
            for hidden in (~subset).nonzero().squeeze(1).tolist():
                donors = (has[:, subset].all(dim=1) & has[:, hidden]).nonzero().squeeze(1)
                itself = None if rows is None else rows[among].unsqueeze(1) == donors  # (b, D)
                columns = self._columns(hidden)
                looked, kept = described[among][:, known], self.memory[donors][:, known]
                filled[among, columns] = self._retrieved(looked, kept, self.memory[donors, columns], itself)
        return filled

    def _retrieved(self, videos: Tensor, memory: Tensor, wanted: Tensor, itself: Tensor | None) -> Tensor:
        """The mean of what is wanted (D, p) of the D videos that are nearest to each of b, by cosine similarity."""
        lengths = memory.norm(dim=1).clamp(min=torch.finfo(torch.double).tiny)
        similarity = videos @ memory.T / lengths  # (b, D), but for the length of each of b, which changes no order
        if itself is not None:
            similarity = similarity.masked_fill(itself, -torch.inf)
        ordered = similarity.sort(dim=1, descending=True, stable=True)
        counts = ordered.values[:, : self.neighbours].isfinite().unsqueeze(2)  # (b, k, 1)
        nearest = wanted[ordered.indices[:, : self.neighbours]]  # (b, k, p)
        return (nearest * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)

    def _columns(self, modality: int) -> slice:
        """The numbers of a modality."""
        sizes = [2 * width for width in self.widths.values()]
        return slice(sum(sizes[:modality]), sum(sizes[: modality + 1]))

    def _raw(self, features: Mapping[str, Tensor], has: Tensor, lengths: Mapping[str, Tensor] | None) -> Tensor:
        """Mean and standard deviation of each channel, modality by modality, zeros where a video lacks one: (B, P)."""
        parts = []
        for m, rows in zip(self.modalities, has.T, strict=True):
            part = self.centre.new_zeros(len(rows), 2 * self.widths[m])
            clips = None if lengths is None else lengths[m][rows]
            part[rows] = torch.cat(channel_statistics(features[m][rows].double(), clips), dim=1)
            parts.append(part)
        return torch.cat(parts, dim=1)

    def _standardized(self, raw: Tensor, has: Tensor) -> Tensor:
        return torch.where(self._numbers(has), (raw - self.centre) * self.stretch, 0.0)

    def _numbers(self, has: Tensor) -> Tensor:
        """Which numbers of each video belong to the modalities that it has (B, M): (B, P)."""
        counts = torch.tensor([2 * width for width in self.widths.values()], device=has.device)
        return has.repeat_interleave(counts, dim=1)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Take as many videos as the state has."""
        for name in ("memory", "present"):
            given, buffer = state_dict.get(prefix + name), getattr(self, name)
            if given is not None and given.dim() == 2:
                setattr(self, name, buffer.new_zeros(len(given), buffer.shape[1]))
        super()._load_from_state_dict(state_dict, prefix, *others)
