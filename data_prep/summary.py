"""What a conversion wrote, in a dozen lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aqa.store.store import Modality, Target, differ_in_length


@dataclass(frozen=True)
class Summary:
    """What `convert` wrote; `str` is what a user reads.

    splits: ids per split. modalities, targets: as written. skipped: one line a problem of each sample left out. ids:
    all samples. groups: the label of each. notes: what was decided for the user.
    """

    name: str
    path: str
    splits: Mapping[str, Sequence[str]]
    modalities: Mapping[str, Modality]
    targets: Mapping[str, Target]
    skipped: Sequence[str]
    ids: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def unequal(self) -> int:
        """Videos whose streams differ in length, absent streams left aside."""
        lengths = np.stack([m.lengths for m in self.modalities.values()], axis=1)
        return int(np.count_nonzero(differ_in_length(lengths)))

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {len(ids)}" for name, ids in self.splits.items()) or f"{len(self.ids)}, no splits"
        if self.splits and (rest := len(self.ids) - sum(map(len, self.splits.values()))) > 0:
            sizes += f", in no split {rest}"
        lines = [f"{self.name} -> {self.path}", f"samples   {sizes}"]
        for name, target in self.targets.items():
            known = target.values[np.isfinite(target.values)]
            spread = f", {known.min():g} to {known.max():g}" if len(known) else ""
            lines.append(f"target    {name}: {len(known)} labelled{spread} (range {target.low:g} to {target.high:g})")
        for name, modality in self.modalities.items():
            lines.append(f"modality  {name}: width {modality.width}, {_lengths(modality)}")
        for name, labels in self.groups.items():
            lines.append(f"group     {name}: {len(set(labels) - {''})} labels")
        lines.append(f"videos whose streams differ in length: {self.unequal}")
        lines += [f"note      {note}" for note in self.notes]
        if self.skipped:
            lines += [f"skipped, {len(self.skipped)} problem{'s' * (len(self.skipped) != 1)}:", listed(self.skipped)]
        return "\n".join(lines)


def _lengths(modality: Modality) -> str:
    lengths = modality.lengths[modality.lengths > 0]
    absent = f", absent in {len(modality.lengths) - len(lengths)}" if len(lengths) < len(modality.lengths) else ""
    if not len(lengths):
        return "absent everywhere"
    return f"clips {lengths.min()} / {np.median(lengths):g} / {lengths.max()} (min / median / max){absent}"


def listed(lines: Sequence[str], most: int = 20) -> str:
    """Indented lines, the first `most` of them and a count of the others."""
    shown = [f"  {line}" for line in lines[:most]]
    if len(lines) > most:
        shown.append(f"  ... and {len(lines) - most} more")
    return "\n".join(shown)
