"""Modalities by short names, and their subsets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from aqa.errors import AqaError

MOST_MODALITIES = 10  # subsets are enumerated: 2 ** 10 is still cheap


def initials(modalities: Sequence[str]) -> list[str]:
    """What each modality is called in pattern names: its initial, or its name where initials do not tell them apart.

    That is where two share an initial, or one begins with a mark or a space. No name holds "+" (`aqa.names`), which
    joins them, so that no two subsets have one name.
    """
    first = [m[0].upper() for m in modalities]
    return first if len(set(first)) == len(first) and all(map(str.isalnum, first)) else list(modalities)


def subset_name(modalities: Sequence[str], subset: Sequence[bool]) -> str:
    """The name of a subset in tables: "VA"; names are joined by "+" where initials would be ambiguous."""
    short = initials(modalities)
    joint = "" if all(len(s) == 1 for s in short) else "+"
    return joint.join(itertools.compress(short, subset))


def find_subset(modalities: Sequence[str], name: str) -> tuple[bool, ...] | None:
    """The non-empty subset of that name, None if no subset has it; for any number of modalities."""
    short = initials(modalities)
    parts = list(name) if all(len(s) == 1 for s in short) else name.split("+")
    subset = tuple(s in parts for s in short)
    return subset if any(subset) and subset_name(modalities, subset) == name else None


def subsets(modalities: Sequence[str]) -> dict[str, tuple[bool, ...]]:
    """All non-empty subsets by name, the largest first: VAF, VA, VF, AF, V, A, F."""
    if len(modalities) > MOST_MODALITIES:
        raise AqaError(f"{len(modalities)} modalities have too many subsets to list; name the subsets to use")
    every = [s for s in itertools.product((True, False), repeat=len(modalities)) if any(s)]
    return {subset_name(modalities, s): s for s in sorted(every, key=lambda s: -sum(s))}
