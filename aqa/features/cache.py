"""Features that runs of one process share: a store is read once, and standardised once by the same statistics."""

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
        self._standardised: list[tuple[Features, Statistics, Features]] = []

    def load(
        self,
        store: FeatureStore,
        modalities: Sequence[str],
        align: Align,
        device: torch.device,
        clips: int | None = None,
        memory: float | None = None,
        standardise: bool = False,
        batch_size: int = 0,
        window: int | None = None,
    ) -> Features:
        """Features as they are in the store; clips and what follows it: as `load_features` has them."""
        fill = align == "time" and clips is not None  # all that features have of `clips`
        batches = (0, None) if memory is None else (batch_size, window)  # which matter to no features held whole
        asked = (tuple(modalities), align, fill, str(device), memory, standardise)
        key = (str(store.path), store.stamp, *asked, *batches)
        if key not in self._loaded:
            self._loaded[key] = load_features(
                store,
                modalities=modalities,
                align=align,
                clips=clips,
                device=device,
                memory=memory,
                standardise=standardise,
                batch_size=batch_size,
                window=window,
            )
        return self._loaded[key]

    def standardised(self, features: Features, statistics: Statistics) -> Features:
        """Loaded features, standardised by statistics: in place for one run, in a copy where others may need others."""
        if not statistics:
            return features
        for source, known, result in self._standardised:
            if source is features and _equal(known, statistics):
                return result
        result = features
        if self.runs > 1:
            result = features.copy()
        result.standardise(statistics)
        self._standardised.append((features, statistics, result))
        return result


def _equal(some: Statistics, others: Statistics) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(mine, theirs) for m in some for mine, theirs in zip(some[m], others[m], strict=True)
    )
