"""Whether an explanation of clips is faithful: what deleting the clips that it names does to the score.

Deletion curves: Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC
2018. "Deleted" clips take the mean of their stream's others, as in `clips`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.explaining.clips import replaced, score_once
from aqa.models import AQAModel

Floats = NDArray[np.float64]


def deletion_curve(
    model: AQAModel,
    features: Mapping[str, Tensor],
    visible: Tensor,
    lengths: Mapping[str, Tensor],
    importance: Mapping[str, Tensor],
    shares: Sequence[float],
) -> Tensor:
    """How far the score falls when the clips of the highest importance are deleted: (shares, B), in [0, 1] units.

    importance: modality -> (B, T). Of the visible clips of all streams together a share is deleted, the first by
    importance. Negated importance deletes the clips that lower the score; random numbers delete random clips.
    """
    whole = score_once(model, features, visible, lengths)
    order = _ranks(model, visible, lengths, importance)
    counts = sum(lengths[m] * visible[:, i] for i, m in enumerate(model.modalities))
    assert isinstance(counts, Tensor)
    falls = []
    for share in shares:
        deleted = (share * counts).round().view(-1, 1)
        masks = {m: rank < deleted for m, rank in order.items()}
        falls.append(whole - score_once(model, replaced(features, lengths, masks), visible, lengths))
    return torch.stack(falls)


def _ranks(
    model: AQAModel, visible: Tensor, lengths: Mapping[str, Tensor], importance: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The place of each clip among the visible clips of its video, 0 for the most important: modality -> (B, T)."""
    joined = []
    for i, m in enumerate(model.modalities):
        values = importance[m].double()
        real = torch.arange(values.shape[1], device=values.device) < lengths[m].unsqueeze(1)
        joined.append(values.masked_fill(~(real & visible[:, i : i + 1]), -torch.inf))
    everything = torch.cat(joined, dim=1)
    ranks = everything.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
    return dict(zip(model.modalities, ranks.split([part.shape[1] for part in joined], dim=1), strict=True))
