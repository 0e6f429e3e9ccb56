"""What `aqa inspect` says about groups: whose videos they are, where they are, and what they lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from aqa.modalities import subset_name
from aqa.store.checks import Rows, counted, first
from aqa.store.store import FeatureStore


def rows_by_label(labels: Sequence[str]) -> dict[str, Rows]:
    """Row numbers of each label, sorted by label; samples without one ("") are left out."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label:
            rows.setdefault(label, []).append(row)
    return {label: np.array(rows[label], dtype=np.int64) for label in sorted(rows)}


def group_facts(store: FeatureStore) -> list[str]:
    """For each group its number of labels, in all and in each split, how many videos they have, and what they lack."""
    lines = []
    for name, labels in store.groups.items():
        rows = rows_by_label(labels)
        sizes = [len(each) for each in rows.values()]
        line = f"group     {name}: {len(rows)} labels"
        if sizes:
            line += f", videos {min(sizes)} / {np.median(sizes):g} / {max(sizes)} (min / median / max) each"
        by_split = [f"{split} {len({labels[row] for row in part} - {''})}" for split, part in store.splits.items()]
        line += "".join(f", in {split}" for split in by_split)
        unknown = labels.count("")
        lines.append(line + (f", not known for {unknown} samples" if unknown else ""))
        lines += _lacking(store, name, rows)
    return lines


def _lacking(store: FeatureStore, name: str, rows: Mapping[str, Rows]) -> list[str]:
    """Modalities of which whole groups have nothing: a fold that leaves one out is tested without them."""
    lines = []
    for modality, there in zip(store.modalities, store.available.T, strict=True):
        without = [label for label, each in rows.items() if not there[each].any()]
        if without:
            lines.append(f"group     {name}: no {modality} in any video of {len(without)}: {first(without)}")
    return lines


def split_availability(store: FeatureStore) -> list[str]:
    """The combinations of modalities in each split, where some video lacks one."""
    if store.available.all():
        return []
    lines = []
    for split, rows in store.splits.items():
        combinations = Counter(subset_name(store.modalities, each.tolist()) for each in store.available[rows])
        counts = ", ".join(f"{name or 'nothing'}: {count}" for name, count in combinations.most_common())
        lines.append(f"available in {split}: {counts or 'nothing'}")
    return lines


def group_warnings(store: FeatureStore) -> list[str]:
    """Groups that two splits share: a model is then tested on people (or places) that it was trained on."""
    warnings = []
    for name, labels in store.groups.items():
        places: dict[str, list[str]] = {}
        for split, rows in store.splits.items():
            for label in {labels[row] for row in rows} - {""}:
                places.setdefault(label, []).append(split)
        shared = [f"{label} ({', '.join(splits)})" for label, splits in sorted(places.items()) if len(splits) > 1]
        if shared and name not in store.folds:
            verb = "is" if len(shared) == 1 else "are"
            warnings.append(
                f"groups/{name}: {len(shared)} of {len(places)} {verb} in more than one split, so scores also measure "
                f"how well a known {name} is recognized: {first(shared)}"
            )
        if unknown := [i for i, label in zip(store.ids, labels, strict=True) if not label]:
            warnings.append(f"groups/{name}: not known for {counted(unknown)}")
    return warnings
