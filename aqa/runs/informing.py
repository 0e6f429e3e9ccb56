"""What missing patterns that have a reason may know of the videos of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aqa.features.alignment import Rows
from aqa.missing import MissingPattern, Videos, sample_keys
from aqa.store.store import FeatureStore, Target


def videos_of(store: FeatureStore, modalities: Sequence[str], rows: Rows, target: Target | None) -> Videos:
    """The videos of some rows (n,), labelled by a target, or with labels that are not to be known."""

    def energy(modality: str) -> NDArray[np.float64]:
        if modality not in store.modalities:
            return np.full(len(rows), np.nan)
        streams = [store.read_sample(modality, int(row)).astype(np.float64) for row in rows]
        return np.array([np.sqrt(np.mean(stream**2)) if stream.size else np.nan for stream in streams])

    lengths = [np.diff(store.offsets[m])[rows] if m in store.modalities else np.zeros(len(rows)) for m in modalities]
    keys = sample_keys(store.ids)[rows]
    return Videos(keys, np.stack(lengths, axis=1) > 0, None if target is None else target.values[rows], energy)


def informed(patterns: Mapping[str, MissingPattern], videos: Videos) -> dict[str, MissingPattern]:
    """Patterns by name, for these videos."""
    return {name: pattern.informed(videos) for name, pattern in patterns.items()}
