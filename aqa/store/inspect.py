"""What is in a feature store, and what is wrong with it: the text of ``aqa inspect``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aqa.errors import printable
from aqa.modalities import subset_name
from aqa.store.checks import (
    MUCH,
    content_problems,
    counted,
    cut_text,
    first,
    lost_to_shortest,
    similar_ids,
    teaching_problems,
)
from aqa.store.groups import group_facts, group_warnings, split_availability
from aqa.store.scan import LARGEST, LEAK, Scan, alike, leaks, scan, split_of
from aqa.store.store import FeatureStore, Target, differ_in_length


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


def inspect(store: str | os.PathLike[str]) -> Inspection:
    """Read a store from end to end, one stream at a time, and describe it.

    Raises AqaError if the file cannot be opened as a feature store at all.
    """
    with FeatureStore(store) as opened:
        return _inspection(opened)


inspect_store = inspect  # as it was called in 0.1


def _inspection(store: FeatureStore) -> Inspection:
    problems = content_problems(store.ids, store.available, store.targets, store.splits)
    problems += teaching_problems(len(store), store.targets, store.splits)
    warnings = _label_warnings(store) + _id_warnings(store) + _split_warnings(store)
    scans = {modality: scan(store, modality) for modality in store.modalities}
    for modality, found in scans.items():
        if found.damaged:
            damaged = counted([store.ids[r] for r in found.damaged])
            problems.append(f"features/{modality}: not what was written, by its checksum, in {damaged}")
        if found.bad:
            problems.append(f"features/{modality}: NaN or inf in {counted([store.ids[r] for r in found.bad])}")
        warnings += _stream_warnings(store, modality, found)
    warnings += _alike_warnings(store, scans) + _alignment_warnings(store) + group_warnings(store)
    facts = [*_general(store), *_modality_facts(store), *_availability_facts(store)]
    facts += [*_target_facts(store), *group_facts(store), *_moment_facts(store)]
    return Inspection(facts, problems, warnings)


def _stream_warnings(store: FeatureStore, modality: str, found: Scan) -> list[str]:
    where = f"features/{modality}"
    warnings = []
    if found.zero:
        zero = counted([store.ids[row] for row in found.zero])
        warnings.append(f"{where}: all zeros in {zero}; a missing modality is a stream of length 0")
    elif found.constant:
        warnings.append(f"{where}: the same numbers in every clip of every video")
    if found.largest > LARGEST:
        warnings.append(f"{where}: numbers up to {found.largest:.3g}; data.standardize brings them to unit deviation")
    known = leaks(found.means, store.targets)
    for name in store.targets:
        of_target = [f"{channel} (SRCC {srcc:+.3f}, n = {n})" for target, channel, srcc, n in known if target == name]
        if of_target:
            warnings.append(
                f"{where}: the mean of channel {first(of_target)} follows targets/{name} at {LEAK} or more; is the "
                "score among the features?"
            )
    return warnings


def _alike_warnings(store: FeatureStore, scans: Mapping[str, Scan]) -> list[str]:
    """Streams that two videos share to the bit: across splits a model is tested on what it has learned by heart."""
    across: list[str] = []
    within: list[str] = []
    for rows, modalities in alike(scans).items():
        splits = [split_of(store.splits, row) for row in rows]
        videos = " = ".join(f"{store.ids[row]} ({split})" for row, split in zip(rows, splits, strict=True))
        (across if len(set(splits)) > 1 else within).append(f"{videos} in {', '.join(modalities)}")
    warnings = []
    if across:
        warnings.append(f"features: equal streams in videos of different splits, which is leakage: {first(across)}")
    if within:
        warnings.append(f"features: equal streams in videos of one split: {first(within)}")
    return warnings


def _alignment_warnings(store: FeatureStore) -> list[str]:
    """Streams of different rates, of which data.align: shortest, the default, would leave a part."""
    lost, clips = lost_to_shortest(store.lengths), store.lengths.sum(axis=0)
    much = lost > MUCH * clips
    if not much.any():
        return []
    cut = cut_text(store.modalities, np.where(much, lost, 0), clips)
    return [f"features: data.align: shortest would cut off {cut}; use data.align: time, which averages over time"]


def _id_warnings(store: FeatureStore) -> list[str]:
    warnings = []
    if groups := [" = ".join(map(repr, group)) for group in similar_ids(store.ids)]:
        warnings.append(f"ids: differ in case, spaces or encoding alone: {first(groups)}")
    if formulas := [i for i in store.ids if i.startswith(("=", "+", "-", "@"))]:
        warnings.append(
            f"ids: a spreadsheet that opens the CSV files of a run may run as a formula {counted(formulas)}"
        )
    return warnings


def _split_warnings(store: FeatureStore) -> list[str]:
    """Splits without a modality, and test labels that are all the same."""
    warnings = []
    for name, rows in store.splits.items():
        if not len(rows):
            continue
        has = np.atleast_1d(store.available[rows].any(axis=0))
        absent = [m for m, there in zip(store.modalities, has, strict=True) if not there]
        if absent and has.any():
            warnings.append(f"splits/{name}: no video has {', '.join(absent)}")
        for target_name, target in store.targets.items():
            known = target.values[rows][~np.isnan(target.values[rows])]
            if name != "train" and len(known) > 1 and known.min() == known.max():
                warnings.append(f"targets/{target_name}: the same score, {known[0]:g}, wherever labelled in {name}")
    return warnings


def _label_warnings(store: FeatureStore) -> list[str]:
    warnings = []
    if not store.splits or not store.targets:
        lacking = " and ".join(part for part in ("splits", "targets") if not getattr(store, part))
        warnings.append(f"{lacking}: none; the videos can be predicted, not learned from")
    if store.splits:
        used = np.concatenate(list(store.splits.values()))
        unused = [store.ids[row] for row in np.setdiff1d(np.arange(len(store)), used)]
        if unused:
            warnings.append(f"splits: no split names {counted(unused)}")
    if store.targets:
        labelled = np.stack([~np.isnan(target.values) for target in store.targets.values()]).any(axis=0)
        unlabelled = [store.ids[row] for row in np.flatnonzero(~labelled)]
        if unlabelled:
            warnings.append(f"targets: none for {counted(unlabelled)}; such samples can be predicted, not learned from")
    return warnings


def _general(store: FeatureStore) -> list[str]:
    splits = ", ".join(f"{name} {len(rows)}" for name, rows in store.splits.items()) or "none"
    unchecked = [m for m in store.modalities if m not in store.checksums]
    return [
        f"{store.path}: {store.name}",
        f"source    {store.source or 'not stated'}",
        *([f"checksums none of {', '.join(unchecked)}: a damaged number there is not noticed"] if unchecked else []),
        *([f"converted {_conversions(store)}"] if store.converted else []),
        f"samples   {len(store)}",
        f"splits    {splits}",
    ]


def _conversions(store: FeatureStore) -> str:
    read = [
        f"{modality} is {kept} in the file, read as {store.dtypes[modality]}"
        for modality, kept in store.converted.items()
    ]
    return "; ".join(read)


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
    lines = [
        f"available {counts or 'nothing'}",
        *split_availability(store),
        "streams of one video differ in length: " + (f"in {counted(unequal)}" if unequal else "nowhere"),
    ]
    if unequal:
        cut = cut_text(store.modalities, lost_to_shortest(store.lengths), store.lengths.sum(axis=0))
        lines.append(f"data.align: shortest cuts off {cut}")
    return lines


def _moment_facts(store: FeatureStore) -> list[str]:
    lines = []
    for modality in store.modalities:
        known = store.moments(modality)
        if known is not None:
            counts = [int(marks.sum()) for marks in known if len(marks)] or [0]
            spread = f"{min(counts)} / {np.median(counts):g} / {max(counts)}"
            lines.append(
                f"moments   {modality}: known, {spread} (min / median / max) clips of a video; no model sees them"
            )
    return lines


def _target_facts(store: FeatureStore) -> list[str]:
    return [_target_fact(name, target, len(store)) for name, target in store.targets.items()]


def _target_fact(name: str, target: Target, samples: int) -> str:
    known = target.values[~np.isnan(target.values)]
    line = f"target    {name}: {len(known)} of {samples} labelled, range {target.low:g} to {target.high:g}"
    if len(known):
        line += f", {known.min():g} / {known.mean():g} / {known.max():g} (min / mean / max)"
    if target.spread is not None and np.isfinite(target.spread).any():
        several = target.spread[np.isfinite(target.spread)]
        line += f", judges differ by {several.mean():.3g} (mean of {len(several)} standard deviations)"
    if target.ceiling:
        best = ", ".join(f"{pattern} {srcc:.3f}" for pattern, srcc in target.ceiling.items())
        line += f", best possible SRCC {best}"
    return line
