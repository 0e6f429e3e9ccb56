"""Features that runs of one process share: a store is read once, and standardized once by the same statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aqa.features.alignment import Align
from aqa.features.batches import Features
from aqa.features.statistics import Statistics
from aqa.features.streaming import load_features
from aqa.store.store import FeatureStore


class FeatureLoader:
    """Loads features for some runs, whose number is `runs`. What it gave to one is never changed for another."""

    def __init__(self, runs: int = 1):
        self.runs = runs
        self._loaded: dict[tuple[object, ...], Features] = {}
        self._standardized: list[tuple[Features, Statistics, Features]] = []

    def load(
        self,
        store: FeatureStore,
        modalities: Sequence[str],
        align: Align,
        device: torch.device,
        clips: int | None = None,
        memory: float | None = None,
        standardize: bool = False,
        batch_size: int = 0,
        window: int | None = None,
    ) -> Features:
        """Features as they are in the store; clips and what follows it: as `load_features` has them."""
        fill = align == "time" and clips is not None  # all that features have of `clips`
        batches = (0, None) if memory is None else (batch_size, window)  # which matter to no features held whole
        asked = (tuple(modalities), align, fill, str(device), memory, standardize)
        key = (str(store.path), store.stamp, *asked, *batches)
        if key not in self._loaded:
            self._loaded[key] = load_features(
                store,
                modalities=modalities,
                align=align,
                clips=clips,
                device=device,
                memory=memory,
                standardize=standardize,
                batch_size=batch_size,
                window=window,
            )
        return self._loaded[key]

    def standardized(self, features: Features, statistics: Statistics) -> Features:
        """Loaded features, standardized by statistics: in place for one run, in a copy where others may need others."""
        if not statistics:
            return features
        for source, known, result in self._standardized:
            if source is features and _equal(known, statistics):
                return result
        result = features
        if self.runs > 1:
            result = features.copy()
        result.standardize(statistics)
        self._standardized.append((features, statistics, result))
        return result


def _equal(some: Statistics, others: Statistics) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(mine, theirs) for m in some for mine, theirs in zip(some[m], others[m], strict=True)
    )
