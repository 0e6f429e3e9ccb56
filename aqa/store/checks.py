"""What a run refuses of a data set, and what it says of one that it takes.

`aqa inspect` reads the features too, and says more (`inspect`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError
from aqa.store.store import FeatureStore, Target

Rows = NDArray[np.int64]
SHOWN = 5
MUCH = 0.1  # of the clips of a modality: from so large a share on, what an alignment leaves out is worth a warning


def require_sound(
    store: FeatureStore, name: str, parts: Mapping[str, Rows], unlabelled: Mapping[str, Rows] | None = None
) -> None:
    """AqaError if numbers of target `name`, from the rows of some splits, would be wrong.

    That is an id used twice, a video named twice in a split or by two splits, a label outside the target's range.
    unlabelled: rows of further splits, which must not share a video with these; their labels are not read.
    """
    problems = repeated_ids(store.ids)
    problems += split_problems(store.ids, {**parts, **(unlabelled or {})})
    rows = np.unique(np.concatenate(list(parts.values())))
    problems += range_problems(store.ids, name, store.target(name), rows)
    if problems:
        raise AqaError(f"{store.path}: {problems[0]}; see aqa inspect")


def content_problems(
    ids: Sequence[str],
    available: NDArray[np.bool_],
    targets: Mapping[str, Target],
    splits: Mapping[str, Rows],
) -> list[str]:
    """What makes a store, its features aside, wrong for any use. available: (N, M)."""
    problems = _sample_problems(ids, available)
    problems += [f"splits/{name}: empty" for name, rows in splits.items() if not len(rows)]
    problems += split_problems(ids, splits)
    for name, target in targets.items():
        problems += range_problems(ids, name, target, np.arange(len(ids)))
    return problems


def _sample_problems(ids: Sequence[str], available: NDArray[np.bool_]) -> list[str]:
    problems = [] if ids else ["no samples"]
    problems += repeated_ids(ids)
    empty = [f"row {row}" for row, i in enumerate(ids) if not i.strip()]
    if empty:
        problems.append(f"ids: empty: {first(empty)}")
    bare = [ids[int(row)] for row in np.flatnonzero(~available.any(axis=1))]
    if bare:
        problems.append(f"features: no modality at all in {counted(bare)}")
    return problems


def teaching_problems(samples: int, targets: Mapping[str, Target], splits: Mapping[str, Rows]) -> list[str]:
    """Targets of which nothing can be learned."""
    problems = []
    for name, target in targets.items():
        known = target.values[splits.get("train", np.arange(samples))]
        known = known[~np.isnan(known)]
        where = "in train" if "train" in splits else "at all"
        if not len(known):
            problems.append(f"targets/{name}: never labelled {where}")
        elif known.min() == known.max():
            problems.append(f"targets/{name}: the same score, {known[0]:g}, wherever labelled {where}")
    return problems


def repeated_ids(ids: Sequence[str]) -> list[str]:
    """The problem of ids that are used more than once."""
    twice = [i for i, count in Counter(ids).items() if count > 1]
    return [f"ids: used more than once: {first(twice)}"] if twice else []


def similar_ids(ids: Sequence[str]) -> list[list[str]]:
    """Ids that differ in nothing but case, spaces or the way their letters are encoded, in groups."""
    groups: dict[str, list[str]] = {}
    for i in dict.fromkeys(ids):
        plain = "".join(unicodedata.normalize("NFKC", i).casefold().split())
        groups.setdefault(plain, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def split_problems(ids: Sequence[str], parts: Mapping[str, Rows]) -> list[str]:
    """Videos that a split names more than once, and those that two splits share."""
    problems = []
    names = list(parts)
    for place, name in enumerate(names):
        rows = parts[name]
        repeated = [ids[row] for row, count in Counter(rows.tolist()).items() if count > 1]
        if repeated:
            problems.append(f"splits/{name}: names more than once {counted(repeated)}")
        for other in names[place + 1 :]:
            shared = np.intersect1d(rows, parts[other])
            if len(shared):
                problems.append(f"splits/{name} and splits/{other} share {counted([ids[r] for r in shared])}")
    return problems


def range_problems(ids: Sequence[str], name: str, target: Target, rows: Rows) -> list[str]:
    """Labels outside the target's range, infinite ones among them; NaN means unlabelled."""
    values = target.values[rows]
    outside = rows[(values < target.low) | (values > target.high)]
    if not len(outside):
        return []
    named = [f"{ids[row]} ({target.values[row]:g})" for row in outside]
    return [f"targets/{name}: outside {target.low:g} to {target.high:g} in {counted(named)}"]


def lost_to_shortest(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Clips of each modality (M,) that are lost where streams of lengths (n, M) are cut to the shortest of a video."""
    shortest = np.where(lengths > 0, lengths, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
    return np.asarray((lengths - np.minimum(lengths, shortest)).sum(axis=0))


def cut_text(modalities: Sequence[str], lost: NDArray[np.int64], clips: NDArray[np.int64]) -> str:
    """How many clips of each modality are lost, of how many (M,); empty if none is."""
    parts = [
        f"{gone} of {total} clips of {modality} ({100 * gone / total:.3g} %)"
        for modality, gone, total in zip(modalities, lost, clips, strict=True)
        if gone
    ]
    return ", ".join(parts)


def counted(ids: Sequence[str]) -> str:
    """How many samples, and the first of them."""
    return f"{len(ids)} sample{'s' * (len(ids) != 1)}: {first(ids)}"


def first(ids: Iterable[str]) -> str:
    """The first of some names, and how many more there are."""
    ids = list(ids)
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
