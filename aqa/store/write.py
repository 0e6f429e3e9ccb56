"""Writing a feature store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest
from aqa.names import check_id, check_key, check_modalities
from aqa.store.checks import content_problems
from aqa.store.plain import (
    plain_array,
    plain_groups,
    plain_modalities,
    plain_moments,
    plain_splits,
    plain_targets,
    plain_texts,
    plain_type,
)
from aqa.store.store import ABOUT_MODALITY, CRC, FOLDS, FORMAT, SCHEMA, Modality, Target, crc_of, crc_of_texts
from aqa.system.files import Sink, made, refuse_existing, sink, written_whole
from aqa.system.signals import stop_here_if_asked


def write_store(
    path: str | os.PathLike[str],
    *,
    name: str,
    source: str,
    ids: Sequence[Any],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, Any],
    read: Callable[[str, int], Any],
    groups: Mapping[str, Any] | None = None,
    folds: Sequence[str] = (),
    moments: Mapping[str, Sequence[Any]] | None = None,
    dtype: str = "float32",
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write a feature store, atomically: the file appears under its name when it is whole, or not at all.

    ids: one text or whole number per sample. splits: each names its samples by row number, by id or by a boolean mask
    (N,). groups: each says for every sample to whom it belongs (an athlete, a surgeon, a fold): N labels, None or ""
    where this is not known. folds: which of the groups are folds of a cross-validation. moments: where they are known,
    by modality which clips decide the score, N boolean masks (T,); no model sees them. read(modality, row) returns the
    (T, D) clips of one sample, T as stated in `modalities`, as an array, a tensor or lists; it is not called for absent
    ones. dtype: float32 or float16. progress(1) is called after each stream that was written. Raises AqaError if the
    file exists and `overwrite` is false, where a stream has another shape than stated or holds NaN or infinity, and for
    what makes a store wrong for any use: nothing is written then.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    try:
        ids = plain_texts(ids, "ids")
        modalities, targets = plain_modalities(modalities, len(ids)), plain_targets(targets, len(ids))
        splits, dtype = plain_splits(splits, ids), plain_type(dtype)
        groups = plain_groups({} if groups is None else groups, len(ids))
        _require_groups(folds, groups)
        marks = plain_moments({} if moments is None else moments, modalities)
    except AqaError as error:
        raise AqaError(f"{path}: {error}") from None
    check_names(ids, modalities, targets, splits, groups, str(path))
    require_usable(path, ids, modalities, targets, splits)

    def done(streams: int) -> None:
        output.check()
        stop_here_if_asked()
        if progress is not None:
            progress(streams)

    with (
        made(path.parent),
        written_whole(path, overwrite) as unfinished,
        sink(unfinished) as output,
        h5py.File(output, "w", libver=FORMAT) as file,
    ):
        _write(file, name, source, ids, modalities, targets, splits, groups, read, dtype, output, done)
        for each in folds:
            _state(file[f"groups/{each}"], FOLDS, "yes")
        for modality, mask in marks.items():
            _create(file, f"moments/{modality}", mask)


def _require_groups(folds: Sequence[str], groups: Iterable[str]) -> None:
    for each in folds:
        if each not in groups:
            raise AqaError(f"folds: there is no group '{each}': {nearest(each, groups)}")


def check_names(
    ids: Iterable[str],
    modalities: Iterable[str],
    targets: Iterable[str],
    splits: Iterable[str],
    groups: Iterable[str],
    where: str,
) -> None:
    """AqaError, with the name, for one that the rules of `aqa.names` refuse."""
    for each in ids:
        check_id(each, f"{where}: id")
    check_modalities(modalities, where)
    for kind, names in (("target", targets), ("split", splits), ("group", groups)):
        for each in names:
            check_key(each, f"{where}: {kind}")


def require_usable(
    path: Path,
    ids: Sequence[str],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, NDArray[np.int64]],
) -> None:
    """AqaError with the first thing that makes a store unusable, before it is written."""
    available = np.stack([stream.lengths > 0 for stream in modalities.values()], axis=1)
    problems = content_problems(ids, available, targets, splits)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AqaError(f"{path}: {problems[0]}{more}; nothing was written")


def _write(
    file: h5py.File,
    name: str,
    source: str,
    ids: Sequence[str],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, NDArray[np.int64]],
    groups: Mapping[str, Sequence[str]],
    read: Callable[[str, int], Any],
    dtype: str,
    output: Sink,
    progress: Callable[[int], object],
) -> None:
    from aqa.version import __version__

    created_by = f"aqa {__version__}"
    file.attrs["schema"] = SCHEMA
    for key, text in (("name", name), ("source", source), ("created_by", created_by)):
        _state(file, key, text)
    file.attrs[CRC] = np.uint32(crc_of_texts([name, source, created_by]))
    _create_texts(file, "ids", ids)
    for group_name, labels in groups.items():
        _create_texts(file, f"groups/{group_name}", labels)
    features = file.create_group("features")
    features.attrs["modalities"] = _fixed(list(modalities))
    for modality, stream in modalities.items():
        _write_modality(features.create_group(modality), stream, ids, partial(read, modality), dtype, output, progress)
    for target_name, target in targets.items():
        values = target.values
        ceiling = json.dumps(dict(target.ceiling)) if target.ceiling else None
        dataset = file.create_dataset(f"targets/{target_name}", data=values)
        dataset.attrs["range"] = (target.low, target.high)
        if ceiling is not None:
            _state(dataset, "ceiling", ceiling)
        dataset.attrs[CRC] = np.uint32(crc_of(values) ^ crc_of_texts([str(ceiling)]))
        if target.spread is not None:
            _create(file, f"spreads/{target_name}", target.spread)
    for split, rows in splits.items():
        _create(file, f"splits/{split}", rows)


def _write_modality(
    group: h5py.Group,
    stream: Modality,
    ids: Sequence[str],
    read: Callable[[int], Any],
    dtype: str,
    output: Sink,
    progress: Callable[[int], object],
) -> None:
    """The streams of all samples, one after the other, each with its checksum."""
    modality = group.name.rpartition("/")[2]
    offsets = np.concatenate([[0], np.cumsum(stream.lengths)]).astype(np.int64)
    _create(group, "offsets", offsets)
    place = _room(group, (int(offsets[-1]), stream.width), dtype, output)
    for key in ABOUT_MODALITY:
        known = getattr(stream, key)
        if known is not None:
            _state(group, key, known)
    group.attrs[CRC] = np.uint32(crc_of_texts([str(stream.extractor)]))
    checksums = np.zeros(len(ids), np.uint32)
    for row in map(int, np.flatnonzero(stream.lengths)):
        expected = (int(stream.lengths[row]), stream.width)
        clips = _fitting(read(row), expected, dtype, f"{modality} of '{ids[row]}'")
        checksums[row] = crc_of(clips)
        output.write_at(place + int(offsets[row]) * clips[0].nbytes, clips)
        progress(1)
    group.create_dataset(CRC, data=checksums)


def _room(group: h5py.Group, shape: tuple[int, int], dtype: str, output: Sink) -> int:
    """Create the array of a modality's clips, and say where in the file its numbers are to be written.

    They go there without HDF5, which would copy them; it writes nothing in their place meanwhile.
    """
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    values = group.create_dataset("values", shape=shape, dtype=dtype, dcpl=layout)
    place = int(values.id.get_offset() or 0)  # none where there are no clips
    output.reserve(place, values.nbytes)
    output.check()  # no room: known before anything is read
    return place


def _fixed(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Texts (n,) in UTF-8, of one length: those of any length HDF5 keeps in a heap that has no checksum.

    A damaged one can make the library go in circles.
    """
    encoded = [text.encode() for text in texts]
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max([1, *map(len, encoded)])))


def _state(place: h5py.Group | h5py.Dataset, key: str, value: str | float) -> None:
    """Write an attribute, a text or a number."""
    if isinstance(value, str):
        place.attrs.create(key, value.encode(), dtype=h5py.string_dtype("utf-8", max(1, len(value.encode()))))
    else:
        place.attrs[key] = value


def _create(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """A small array with its checksum."""
    group.create_dataset(name, data=values).attrs[CRC] = np.uint32(crc_of(values))


def _create_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Texts with their checksum."""
    group.create_dataset(name, data=_fixed(texts)).attrs[CRC] = np.uint32(crc_of_texts(texts))


def _fitting(given: Any, shape: tuple[int, int], dtype: str, what: str) -> NDArray[np.floating[Any]]:
    """Clips as they lie in the file; AqaError where they have another shape than (T, D) or hold what cannot be kept."""
    clips = plain_array(given, what)
    if clips.shape != shape:
        raise AqaError(f"{what} has shape {clips.shape}, expected {shape}")
    return np.ascontiguousarray(_narrowed(clips, dtype, what))


def _narrowed(clips: NDArray[Any], dtype: str, what: str) -> NDArray[np.floating[Any]]:
    """Clips in the type of the file; AqaError for a number that is not finite, or would not be there."""
    stored: NDArray[np.floating[Any]] = clips
    if clips.dtype != dtype:
        with np.errstate(over="ignore"):
            stored = clips.astype(dtype)
    sound = np.isfinite(stored)
    if not sound.all():
        number = clips[~sound][0]
        why = f"which {dtype} cannot hold" if np.isfinite(number) else "which is not a feature"
        raise AqaError(f"{what} holds {number:g}, {why}")
    return stored
