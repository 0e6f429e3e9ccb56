"""Several labels of a video as a few components that are not correlated, so that one process learns from all of them.

Bonilla, Chai and Williams, Multi-task Gaussian Process Prediction, NeurIPS 2007: labels that are independent mixtures
of processes with one kernel. Here the mixtures are the principal components of the training labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 30  # of filling in what is not labelled
LEAST_VARIANCE = 1e-9  # of a component; below it there is nothing to learn


def standardized_labels(labels: Tensor) -> Tensor:
    """Each label (N, K) with mean 0 and deviation 1 over the videos that have it; NaN as it was, constants as 0."""
    known = ~labels.isnan()
    count = known.sum(dim=0).clamp(min=1)
    centred = labels - labels.nan_to_num(0.0).sum(dim=0) / count
    spread = (centred.nan_to_num(0.0).square().sum(dim=0) / count).sqrt()
    return centred / torch.where(spread > 0, spread, 1.0)


def label_components(labels: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Components (N, C) of standardized labels (N, K), and what the first label has of each, (C,).

    `most` principal components and, as the last, what they leave of the first label, so that components @ loading is
    the first label exactly. Of that label every video has a value. Others are NaN where they are not known: what the
    components say of them is filled in, from the video's known labels.
    """
    if labels.shape[1] == 1:
        return labels, labels.new_ones(1)
    filled, known = labels.nan_to_num(0.0), ~labels.isnan()
    axes = _principal_axes(filled, most)
    for _ in range(0 if known.all() else ROUNDS):
        filled = torch.where(known, filled, filled @ axes @ axes.T)
        axes = _principal_axes(filled, most)
    components = torch.cat([filled @ axes, (filled[:, 0] - filled @ axes @ axes[0]).unsqueeze(1)], dim=1)
    loading = torch.cat([axes[0], axes.new_ones(1)])
    worth = components.square().mean(dim=0) > LEAST_VARIANCE
    return (components[:, worth], loading[worth]) if worth.any() else (labels[:, :1], labels.new_ones(1))


def _principal_axes(labels: Tensor, most: int) -> Tensor:
    """The directions (K, C) in which labels (N, K) vary most."""
    return torch.linalg.eigh(labels.T @ labels).eigenvectors[:, -most:]
