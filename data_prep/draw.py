"""A split of own data into train and test, drawn where the labels have none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError

TEST_SHARE = 0.2


def draw_split(
    ids: Sequence[str],
    labelled: NDArray[np.bool_],
    labels: Sequence[str] | None,
    group: str | None,
    seed: int,
) -> tuple[dict[str, list[str]], str]:
    """The ids of train and test, and what a user is told. A fifth of the labelled videos is drawn, by whole groups.

    labels: the group of each video (N,), "" where it is not known, which makes the video a group of its own; None
    without groups. The draw depends on ids, groups and seed, not on the order of the lines. AqaError where there is
    only one group, or too few videos.
    """
    own = (
        [f"\0{i}" for i in ids] if labels is None else [label or f"\0{i}" for i, label in zip(ids, labels, strict=True)]
    )
    members: dict[str, list[str]] = {}
    for i, label, known in zip(ids, own, labelled, strict=True):
        if known:
            members.setdefault(label, []).append(i)
    count, wanted = int(labelled.sum()), TEST_SHARE * int(labelled.sum())
    if len(members) < 2:
        what = f"only one {group} has labelled videos" if group else f"{count} labelled videos"
        raise AqaError(f"no split can be drawn: {what}; name a column with --split, or say --split none")
    names = sorted(members)
    test: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(names)):
        more = members[names[place]]
        if not test or abs(len(test) + len(more) - wanted) <= abs(len(test) - wanted):
            test.update(more)
        if len(test) >= wanted:
            break
    splits = {"train": [i for i, known in zip(ids, labelled, strict=True) if known and i not in test]}
    if not splits["train"]:
        raise AqaError(f"no split can be drawn: one {group} has nearly all videos; name a column with --split")
    splits["test"] = [i for i in ids if i in test]
    by = f", by whole groups of '{group}'" if group else ""
    said = (
        f"splits: none are given, so {len(test)} of {count} labelled videos were drawn for test by seed {seed}{by}; "
        "--split names a column, --seed draws others, --split none makes a store for cross-validation"
    )
    return splits, said
