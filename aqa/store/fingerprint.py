"""What tells the content of a feature store from another's, wherever the file lies and whatever it is called."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np

from aqa.store.store import FeatureStore, Stamp, stamp_of

SAMPLED = 4096  # videos, evenly spread, of whose features a fingerprint takes a clip

_KNOWN: dict[str, tuple[Stamp, str]] = {}  # by the file's real path


def fingerprint_at(path: str | os.PathLike[str]) -> str:
    """The fingerprint of the store at a path, computed once by a process for as long as the file stays the same."""
    real = os.path.realpath(path)
    if os.path.isfile(real) and real in _KNOWN and _KNOWN[real][0] == stamp_of(real):
        return _KNOWN[real][1]
    with FeatureStore(path) as store:
        return fingerprint_of(store)


def fingerprint_of(store: FeatureStore) -> str:
    """The same of a store that is open."""
    real = os.path.realpath(store.path)
    known = _KNOWN.get(real)
    if known is None or known[0] != store.stamp:
        known = _KNOWN[real] = store.stamp, _digest(store)
    return known[1]


def _digest(store: FeatureStore) -> str:
    """A digest of everything in a store: features by the checksums that the file has of each video.

    Besides, for files without checksums and for changes that left them as they were: a clip in the middle of each
    video, in a large store not of every video.
    """
    small = [store.name, store.ids, store.modalities, store.widths, store.dtypes, store.attributes]
    digest = hashlib.sha256(json.dumps(small, sort_keys=True, default=str).encode())
    for name, target in sorted(store.targets.items()):
        digest.update(f"{name} {target.low} {target.high}".encode() + target.values.tobytes())
        if target.spread is not None:
            digest.update(b"spread" + target.spread.tobytes())
    for name, members in sorted(store.splits.items()):
        digest.update(name.encode() + members.tobytes())
    for name, labels in sorted(store.groups.items()):
        digest.update(json.dumps(["group", name, labels]).encode())
    for modality in store.modalities:
        for marks in store.moments(modality) or ():
            digest.update(b"moments" + marks.tobytes())
    rows = np.linspace(0, len(store.ids) - 1, min(len(store.ids), SAMPLED), dtype=np.int64)
    for modality, offsets in store.offsets.items():
        digest.update(offsets.tobytes())
        if modality in store.checksums:
            digest.update(store.checksums[modality].tobytes())
        clip = np.empty((1, store.widths[modality]), store.dtypes[modality])
        for start, stop in zip(offsets[rows], offsets[rows + 1], strict=True):
            if stop > start:
                store.read_into(modality, int(start + stop) // 2, clip)
                digest.update(clip.tobytes())
    return digest.hexdigest()
