"""What a run says of the data that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aqa.evaluation.bootstrap import FEWEST
from aqa.store.checks import Rows
from aqa.store.store import Target


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
