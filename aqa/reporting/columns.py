"""The columns of a report: missing patterns, and the mean over those that are subsets with something missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aqa.modalities import find_subset

AVERAGE = "average"  # the mean over the incomplete subsets, beside the patterns


def incomplete_subsets(modalities: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """Those of the patterns that are subsets with something missing."""
    found = {name: find_subset(modalities, name) for name in patterns}
    return [name for name, subset in found.items() if subset is not None and not all(subset)]
