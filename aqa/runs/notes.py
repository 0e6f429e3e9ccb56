"""What a run says of the data that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aqa.evaluation.bootstrap import FEWEST
from aqa.features.alignment import Alignment, Counted
from aqa.store.checks import MUCH, Rows, cut_text, lost_to_shortest
from aqa.store.store import Target

ENOUGH_EPOCHS = 5  # after which a network should know more than the mean label
UNLEARNED = 0.98


def label_notes(target: Target, parts: Mapping[str, Rows]) -> list[str]:
    """Splits, of labelled videos alone, for which no rank correlation is defined whatever is predicted."""
    notes = []
    for name, rows in parts.items():
        known = target.values[rows]
        if len(known) < FEWEST and name != "train":
            notes.append(f"{len(known)} labelled videos in '{name}': SRCC is undefined for fewer than {FEWEST}")
        elif known.min() == known.max():
            what = "there is nothing to learn" if name == "train" else "SRCC is undefined"
            notes.append(f"every label in '{name}' is {known[0]:g}: {what}")
    return notes


def absence_notes(modalities: Sequence[str], parts: Mapping[str, NDArray[np.bool_]]) -> list[str]:
    """Modalities that no video of a split has. parts: by split, what its videos have, (n, M)."""
    return [
        f"no video of '{name}' has {modality}: "
        + ("a score by it alone is a guess" if name == "train" else "it cannot be scored by it alone")
        for name, available in parts.items()
        for modality, has in zip(modalities, np.atleast_1d(available.any(axis=0)), strict=True)
        if not has
    ]


def alignment_notes(streams: Alignment, modalities: Sequence[str], rows: Rows, available: Counted) -> list[str]:
    """How much of the training videos' streams the alignment leaves out, and what would leave out less."""
    stored = np.where(available, streams.stored[rows], 0)
    if streams.kind == "none":
        return []
    lost = lost_to_shortest(stored) if streams.kind == "shortest" else streams.left_out(rows, available)
    cut = cut_text(modalities, lost, stored.sum(axis=0))
    if not cut:
        return []
    much = bool((lost > MUCH * stored.sum(axis=0)).any())
    if streams.kind == "time":
        advice = "; check clip_seconds in the store" if much else ""
        return [f"data.align: time leaves out, beyond the shortest stream of each training video, {cut}{advice}"]
    advice = "; use data.align=time, which averages over time instead" if much else ""
    return [f"data.align: shortest cuts off {cut} of the training videos{advice}"]


def unlearned_notes(
    history: Sequence[Mapping[str, float]], target: NDArray[np.float64], weight_decay: float
) -> list[str]:
    """Whether a network did no better than a constant, on the videos that it was trained on.

    history: a row per epoch with "loss_mse", the squared error of labels in [0, 1]. target (n,): those labels.
    """
    errors = [row["loss_mse"] for row in history if "loss_mse" in row]
    if len(errors) < ENOUGH_EPOCHS or min(errors) < UNLEARNED * target.var():
        return []
    advice = f"; a smaller train.weight_decay than {weight_decay:g} may help" if weight_decay else ""
    return [
        f"in no epoch was the training error below {UNLEARNED:.0%} of the labels' variance: little was learned{advice}"
    ]
