"""What is in a feature store, and what is wrong with it: the text of ``aqa inspect``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from aqa.data.store import FeatureStore, Target, differ_in_length
from aqa.errors import printable
from aqa.modalities import subset_name

SHOWN = 5


@dataclass(frozen=True)
class Inspection:
    """The findings on one store; `str` is what a user reads.

    facts: lines of description. problems: what makes results from the store wrong or impossible. warnings: what may be
    intended, and may not.
    """

    facts: Sequence[str]
    problems: Sequence[str]
    warnings: Sequence[str]

    @property
    def usable(self) -> bool:
        """Whether no problem was found; warnings do not count."""
        return not self.problems

    def __str__(self) -> str:
        lines = list(self.facts)
        for title, found in (("problems", self.problems), ("warnings", self.warnings)):
            if found:
                lines += [f"{title}:", *(f"  {line}" for line in found)]
        lines = [printable(line) for line in lines]
        lines.append("no problem found" if self.usable else f"{len(self.problems)} found: not usable as it is")
        return "\n".join(lines)


def inspect_store(path: str | os.PathLike[str]) -> Inspection:
    """Read a store from end to end, one stream at a time, and describe it.

    Raises AqaError where the file cannot be opened as a feature store at all.
    """
    with FeatureStore(path) as store:
        problems = _sample_problems(store) + _split_problems(store) + _target_problems(store)
        warnings = _id_warnings(store) + _label_warnings(store)
        for modality in store.modalities:
            bad, zero, damaged = _scan(store, modality)
            if damaged:
                problems.append(f"features/{modality}: not what was written, by its checksum, in {_count(damaged)}")
            if bad:
                problems.append(f"features/{modality}: NaN or inf in {_count(bad)}")
            if zero:
                warnings.append(
                    f"features/{modality}: all zeros in {_count(zero)}; a missing modality is a stream of length 0"
                )
        facts = [*_general(store), *_modality_facts(store), *_availability_facts(store), *_target_facts(store)]
        return Inspection(facts, problems, warnings)


def _scan(store: FeatureStore, modality: str) -> tuple[list[str], list[str], list[str]]:
    """Ids of the samples whose stream holds NaN or inf, is all zeros, or is not what was written."""
    bad, zero, damaged = [], [], []
    for row in np.flatnonzero(np.diff(store.offsets[modality])):
        if store.is_intact(modality, int(row)) is False:
            damaged.append(store.ids[row])
        clips = store.read_sample(modality, int(row))
        if not np.isfinite(clips).all():
            bad.append(store.ids[row])
        elif not clips.any():
            zero.append(store.ids[row])
    return bad, zero, damaged


def _sample_problems(store: FeatureStore) -> list[str]:
    problems = []
    if not store.ids:
        problems.append("no samples")
    twice = [i for i, count in Counter(store.ids).items() if count > 1]
    if twice:
        problems.append(f"ids: used more than once: {_first(twice)}")
    empty = [f"row {row}" for row, i in enumerate(store.ids) if not i.strip()]
    if empty:
        problems.append(f"ids: empty: {_first(empty)}")
    bare = [store.ids[row] for row in np.flatnonzero(~store.available.any(axis=1))]
    if bare:
        problems.append(f"features: no modality at all in {_count(bare)}")
    return problems


def _split_problems(store: FeatureStore) -> list[str]:
    problems = []
    names = list(store.splits)
    for place, name in enumerate(names):
        rows = store.splits[name]
        if not len(rows):
            problems.append(f"splits/{name}: empty")
        repeated = [store.ids[row] for row, count in Counter(rows.tolist()).items() if count > 1]
        if repeated:
            problems.append(f"splits/{name}: names more than once {_count(repeated)}")
        for other in names[place + 1 :]:
            shared = np.intersect1d(rows, store.splits[other])
            if len(shared):
                problems.append(f"splits/{name} and splits/{other} share {_count([store.ids[r] for r in shared])}")
    return problems


def _target_problems(store: FeatureStore) -> list[str]:
    problems = []
    for name, target in store.targets.items():
        values = target.values
        # Infinity is outside every range; NaN means unlabelled.
        outside = np.flatnonzero((values < target.low) | (values > target.high))
        if len(outside):
            ids = [f"{store.ids[row]} ({values[row]:g})" for row in outside]
            problems.append(f"targets/{name}: outside {target.low:g} to {target.high:g} in {_count(ids)}")
        train = store.splits.get("train", np.arange(len(store)))
        where = "in train" if "train" in store.splits else "at all"
        known = values[train][~np.isnan(values[train])]
        if not len(known):
            problems.append(f"targets/{name}: never labelled {where}")
        elif known.min() == known.max():
            problems.append(f"targets/{name}: the same score, {known[0]:g}, wherever labelled {where}")
    return problems


def _id_warnings(store: FeatureStore) -> list[str]:
    formulas = [i for i in store.ids if i.startswith(("=", "+", "-", "@"))]
    if not formulas:
        return []
    return [f"ids: a spreadsheet that opens the CSV files of a run may run as a formula {_count(formulas)}"]


def _label_warnings(store: FeatureStore) -> list[str]:
    warnings = []
    if not store.splits or not store.targets:
        lacking = " and ".join(part for part in ("splits", "targets") if not getattr(store, part))
        warnings.append(f"{lacking}: none; the videos can be predicted, not learned from")
    if store.splits:
        used = np.concatenate(list(store.splits.values()))
        unused = [store.ids[row] for row in np.setdiff1d(np.arange(len(store)), used)]
        if unused:
            warnings.append(f"splits: no split names {_count(unused)}")
    if store.targets:
        labelled = np.stack([~np.isnan(target.values) for target in store.targets.values()]).any(axis=0)
        unlabelled = [store.ids[row] for row in np.flatnonzero(~labelled)]
        if unlabelled:
            warnings.append(f"targets: none for {_count(unlabelled)}; such samples can be predicted, not learned from")
    return warnings


def _general(store: FeatureStore) -> list[str]:
    splits = ", ".join(f"{name} {len(rows)}" for name, rows in store.splits.items()) or "none"
    unchecked = [m for m in store.modalities if m not in store.checksums]
    return [
        f"{store.path}: {store.name}",
        f"source    {store.source or 'not stated'}",
        *([f"checksums none of {', '.join(unchecked)}: a damaged number there is not noticed"] if unchecked else []),
        f"samples   {len(store)}",
        f"splits    {splits}",
    ]


def _modality_facts(store: FeatureStore) -> list[str]:
    lines = []
    for modality, lengths in zip(store.modalities, store.lengths.T, strict=True):
        there = lengths[lengths > 0]
        spread = f"{there.min()} / {np.median(there):g} / {there.max()}" if len(there) else "none"
        line = (
            f"modality  {modality}: width {store.widths[modality]}, {store.dtypes[modality]}, "
            f"clips {spread} (min / median / max), in {len(there)} of {len(store)}"
        )
        known = store.attributes[modality]
        if "extractor" in known:
            line += f", {known['extractor']}"
        if "clip_seconds" in known:
            line += f", {float(known['clip_seconds']):g} s a clip"
        lines.append(line)
    return lines


def _availability_facts(store: FeatureStore) -> list[str]:
    combinations = Counter(subset_name(store.modalities, row.tolist()) for row in store.available)
    counts = ", ".join(f"{name or 'nothing'}: {count}" for name, count in combinations.most_common())
    unequal = [store.ids[row] for row in np.flatnonzero(differ_in_length(store.lengths))]
    return [
        f"available {counts or 'nothing'}",
        "streams of one video differ in length: " + (f"in {_count(unequal)}" if unequal else "nowhere"),
    ]


def _target_facts(store: FeatureStore) -> list[str]:
    return [_target_fact(name, target, len(store)) for name, target in store.targets.items()]


def _target_fact(name: str, target: Target, samples: int) -> str:
    known = target.values[~np.isnan(target.values)]
    line = f"target    {name}: {len(known)} of {samples} labelled, range {target.low:g} to {target.high:g}"
    if len(known):
        line += f", {known.min():g} / {known.mean():g} / {known.max():g} (min / mean / max)"
    if target.ceiling:
        best = ", ".join(f"{pattern} {srcc:.3f}" for pattern, srcc in target.ceiling.items())
        line += f", best possible SRCC {best}"
    return line


def _count(ids: Sequence[str]) -> str:
    return f"{len(ids)} sample{'s' * (len(ids) != 1)}: {_first(ids)}"


def _first(ids: Iterable[str]) -> str:
    ids = list(ids)
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
