"""FeatureStore: one HDF5 file a data set (schema 1).

    /                       attributes schema, name, created_by, source
    ids                     (N,) UTF-8
    features/M/values       (sum of lengths, D) float32 or float16
    features/M/offsets      (N + 1,) int64; a sample of length 0 lacks the modality
    features                attribute modalities: their order
    features/M              attributes extractor, clip_seconds where known
    targets/T               (N,) float64, NaN where unlabelled; attribute range (low, high);
                            attribute ceiling (JSON: pattern -> best possible SRCC) where it is known
    splits/S                (k,) int64 row numbers

Nothing in the file needs unpickling.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, first_line, nearest
from aqa.files import refuse_existing, written_whole

SCHEMA = 1
BENCHMARK_ORDER = ("visual", "audio", "flow")


@dataclass(frozen=True)
class Modality:
    """What is known of a stream before it is read: width D and the number of clips of each sample (N,)."""

    width: int
    lengths: NDArray[np.int64]
    extractor: str | None = None
    clip_seconds: float | None = None


@dataclass(frozen=True)
class Target:
    """One score a sample (N,), NaN where unlabelled, and the range that maps it to [0, 1].

    ceiling: best possible SRCC by pattern name, where the data's process is known.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    ceiling: Mapping[str, float] = field(default_factory=dict)

    def normalise(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the target's units to [0, 1]."""
        return (score - self.low) / (self.high - self.low)


class FeatureStore:
    """A data set's features, targets and splits, read from one HDF5 file.

    Opening reads the small parts (ids, offsets, targets, splits) and checks the structure; features are read on demand.
    Raises AqaError, naming the file and the place in it, for anything that is not schema 1.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_file():
            here = [p.name for p in self.path.parent.glob("*.h5")] if self.path.parent.is_dir() else []
            hint = nearest(self.path.name, here) if here else f"{self.path.parent} has no .h5 file"
            raise AqaError(f"no feature store at {self.path}; {hint}")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise AqaError(f"{self.path} is not a readable HDF5 file: {first_line(error)}") from None
        try:
            self._read_structure()
        except AqaError:
            self._file.close()
            raise
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            self._file.close()
            raise AqaError(f"{self.path} is damaged or not a feature store: {first_line(error)}") from None

    def _read_structure(self) -> None:
        attributes = self._file.attrs
        schema = attributes.get("schema")
        if schema is None or int(schema) != SCHEMA:
            raise AqaError(f"{self.path}: attribute 'schema' is {schema}; this version reads schema {SCHEMA}")
        self.name = str(attributes.get("name", self.path.stem))
        self.source = str(attributes.get("source", ""))
        self.created_by = str(attributes.get("created_by", ""))
        self.ids: list[str] = [_text(i) for i in self._dataset("ids", ndim=1)[()]]
        self.modalities: tuple[str, ...] = self._modality_order()
        self.widths: dict[str, int] = {}
        self.dtypes: dict[str, str] = {}
        self.offsets: dict[str, NDArray[np.int64]] = {}
        self._values: dict[str, h5py.Dataset] = {}
        self._places: dict[str, int | None] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        for modality in self.modalities:
            values = self._dataset(f"features/{modality}/values", ndim=2)
            if values.dtype not in (np.float32, np.float16):
                raise AqaError(f"{self.path}: features/{modality}/values is {values.dtype}, not float32 or float16")
            self.widths[modality] = int(values.shape[1])
            self.dtypes[modality] = str(values.dtype)
            self.offsets[modality] = self._offsets(modality, len(values))
            self._values[modality], self._places[modality] = values, self._place(values)
            self.attributes[modality] = dict(self._file[f"features/{modality}"].attrs)
        self.targets = {name: self._target(name) for name in self._group("targets")}
        self.splits = {name: self._split(name) for name in self._group("splits")}

    def _group(self, name: str) -> list[str]:
        group = self._file.get(name)
        if group is None:
            return []
        if not isinstance(group, h5py.Group):
            raise AqaError(f"{self.path}: '{name}' is not a group")
        for key in group:
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise AqaError(f"{self.path}: {name}/{key} is a link; a store holds its own data")
        return [str(key) for key in group]

    def _dataset(self, name: str, ndim: int) -> h5py.Dataset:
        parent, _, leaf = name.rpartition("/")
        group = self._file[parent] if parent else self._file
        if not isinstance(group, h5py.Group) or leaf not in group:
            raise AqaError(f"{self.path}: '{name}' is missing")
        if not isinstance(group.get(leaf, getlink=True), h5py.HardLink):
            raise AqaError(f"{self.path}: {name} is a link; a store holds its own data")
        dataset = group[leaf]
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != ndim:
            raise AqaError(f"{self.path}: '{name}' is not an array of {ndim} dimension{'s' * (ndim > 1)}")
        if dataset.external or dataset.is_virtual:
            raise AqaError(f"{self.path}: {name} keeps its data in another file; a store holds its own data")
        return dataset

    def _place(self, values: h5py.Dataset) -> int | None:
        """Where in the file the numbers of an array lie as they are in memory, all in one piece; None otherwise."""
        created = values.id.get_create_plist()
        plain = created.get_layout() == h5py.h5d.CONTIGUOUS and created.get_nfilters() == 0
        native = values.id.get_type().equal(h5py.h5t.py_create(values.dtype))
        place = values.id.get_offset() if plain and native else None  # None as well where nothing was ever written
        if place is None or self._file.driver != "sec2" or not hasattr(os, "preadv"):
            return None
        return int(place) if place + values.nbytes <= os.fstat(self._descriptor).st_size else None

    @property
    def _descriptor(self) -> int:
        return self._file.id.get_vfd_handle()

    def _modality_order(self) -> tuple[str, ...]:
        names = self._group("features")
        if not names:
            raise AqaError(f"{self.path}: no modality under 'features'")
        stated = self._file["features"].attrs.get("modalities")
        if stated is None:
            first = [m for m in BENCHMARK_ORDER if m in names]
            return tuple(first + sorted(set(names) - set(first)))
        order = tuple(_text(m) for m in stated)
        if sorted(order) != sorted(names):
            raise AqaError(f"{self.path}: attribute 'modalities' says {list(order)}, the file holds {sorted(names)}")
        return order

    def _offsets(self, modality: str, rows: int) -> NDArray[np.int64]:
        offsets = np.asarray(self._dataset(f"features/{modality}/offsets", ndim=1)[()], dtype=np.int64)
        where = f"{self.path}: features/{modality}/offsets"
        if len(offsets) != len(self.ids) + 1:
            raise AqaError(f"{where} has {len(offsets)} entries for {len(self.ids)} ids; expected one more than ids")
        if offsets[0] != 0 or offsets[-1] != rows or np.any(np.diff(offsets) < 0):
            raise AqaError(f"{where} do not rise from 0 to the {rows} rows of values")
        return offsets

    def _target(self, name: str) -> Target:
        dataset = self._dataset(f"targets/{name}", ndim=1)
        values = np.asarray(dataset[()], dtype=np.float64)
        if len(values) != len(self.ids):
            raise AqaError(f"{self.path}: targets/{name} has {len(values)} values for {len(self.ids)} ids")
        bounds = np.asarray(dataset.attrs.get("range", ()), dtype=np.float64)
        if bounds.shape != (2,) or not np.all(np.isfinite(bounds)) or not bounds[0] < bounds[1]:
            raise AqaError(f"{self.path}: targets/{name} needs an attribute 'range' (low, high), has {bounds.tolist()}")
        ceiling = json.loads(_text(dataset.attrs.get("ceiling", "{}")))
        return Target(values, float(bounds[0]), float(bounds[1]), ceiling)

    def _split(self, name: str) -> NDArray[np.int64]:
        rows = np.asarray(self._dataset(f"splits/{name}", ndim=1)[()], dtype=np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self.ids)):
            raise AqaError(f"{self.path}: splits/{name} names rows outside 0 to {len(self.ids) - 1}")
        return rows

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.ids)

    def close(self) -> None:
        """Close the file; what was read stays usable."""
        self._file.close()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Clips of each sample in each modality, (N, M)."""
        return np.stack([np.diff(self.offsets[m]) for m in self.modalities], axis=1)

    @property
    def available(self) -> NDArray[np.bool_]:
        """Which modalities each sample has, (N, M)."""
        return self.lengths > 0

    def target(self, name: str) -> Target:
        """The target called `name`; AqaError with the nearest name otherwise."""
        if name not in self.targets:
            raise AqaError(f"{self.path} has no target '{name}': {nearest(name, self.targets)}")
        return self.targets[name]

    def split(self, name: str) -> NDArray[np.int64]:
        """Row numbers of a split; AqaError with the nearest name otherwise."""
        if name not in self.splits:
            raise AqaError(f"{self.path} has no split '{name}': {nearest(name, self.splits)}")
        return self.splits[name]

    def read(self, modality: str) -> NDArray[np.float32]:
        """All clips of a modality, sample after sample: (sum of lengths, D) float32, in one contiguous read."""
        values = np.empty(self._values[modality].shape, self.dtypes[modality])
        self.read_into(modality, 0, values)
        return values.astype(np.float32, copy=False)

    def read_into(self, modality: str, first: int, out: NDArray[np.floating[Any]]) -> None:
        """Read the clips from number `first` on into a contiguous out (n, D) of the type on disk (`dtypes`).

        Where the file holds them as they are in memory this is a plain read, during which other threads run.
        """
        place = self._places[modality]
        if not out.size:
            return
        try:
            if place is None:
                self._values[modality].read_direct(out, np.s_[first : first + len(out)])
            else:
                _read_bytes(self._descriptor, place + first * out[0].nbytes, out)
        except OSError as error:
            raise AqaError(f"{self.path}: features/{modality} cannot be read: {first_line(error)}") from None

    def chunk(self, modality: str) -> int:
        """How many clips the file keeps together, to be read together; 1 where any can be read alone."""
        chunks = self._values[modality].chunks
        return chunks[0] if chunks else 1

    def read_sample(self, modality: str, row: int) -> NDArray[np.float32]:
        """One sample's clips, (T, D) float32; T is 0 where the modality is absent."""
        start, stop = self.offsets[modality][row : row + 2]
        return np.asarray(self._values[modality][start:stop], dtype=np.float32)


def _read_bytes(descriptor: int, place: int, out: NDArray[Any]) -> None:
    """Fill an array with a file's bytes from a place on; OSError where the file ends before."""
    rest = out.data.cast("B")
    while rest:
        count = os.preadv(descriptor, [rest], place)
        if not count:
            raise OSError("the file ends too early")
        rest, place = rest[count:], place + count


def differ_in_length(lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples (N,) have streams of different lengths (N, M), absent streams left aside."""
    return ((lengths > 0) & (lengths != lengths.max(axis=1, keepdims=True))).any(axis=1)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def write_store(
    path: str | os.PathLike[str],
    *,
    name: str,
    source: str,
    ids: Sequence[str],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, Sequence[int] | NDArray[np.int64]],
    read: Callable[[str, int], NDArray[np.floating[Any]]],
    dtype: str = "float32",
    overwrite: bool = False,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write a feature store, atomically: the file appears under its name when it is whole, or not at all.

    read(modality, row) returns the (T, D) clips of one sample, T as stated in `modalities`; it is not called for
    absent ones. progress(1) is called after each stream that was written. Raises AqaError where the file exists and
    `overwrite` is false, or where a stream has another shape than stated.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial, h5py.File(partial, "w") as file:
        _write(file, name, source, ids, modalities, targets, splits, read, dtype, progress)


def _write(
    file: h5py.File,
    name: str,
    source: str,
    ids: Sequence[str],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, Sequence[int] | NDArray[np.int64]],
    read: Callable[[str, int], NDArray[np.floating[Any]]],
    dtype: str,
    progress: Callable[[int], object] | None,
) -> None:
    from aqa import __version__

    file.attrs.update(schema=SCHEMA, name=name, source=source, created_by=f"aqa {__version__}")
    file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype("utf-8"), shape=(len(ids),))
    features = file.create_group("features")
    features.attrs["modalities"] = list(modalities)
    for modality, stream in modalities.items():
        group = features.create_group(modality)
        offsets = np.concatenate([[0], np.cumsum(stream.lengths)]).astype(np.int64)
        group.create_dataset("offsets", data=offsets)
        values = group.create_dataset("values", shape=(int(offsets[-1]), stream.width), dtype=dtype)
        for key in ("extractor", "clip_seconds"):
            if getattr(stream, key) is not None:
                group.attrs[key] = getattr(stream, key)
        for row in np.flatnonzero(stream.lengths):
            clips = read(modality, int(row))
            expected = (int(stream.lengths[row]), stream.width)
            if clips.shape != expected:
                raise AqaError(f"{modality} of '{ids[int(row)]}' has shape {clips.shape}, expected {expected}")
            values[offsets[row] : offsets[row + 1]] = clips
            if progress is not None:
                progress(1)
    for target_name, target in targets.items():
        dataset = file.create_dataset(f"targets/{target_name}", data=np.asarray(target.values, dtype=np.float64))
        dataset.attrs["range"] = (target.low, target.high)
        if target.ceiling:
            dataset.attrs["ceiling"] = json.dumps(dict(target.ceiling))
    for split, rows in splits.items():
        file.create_dataset(f"splits/{split}", data=np.asarray(rows, dtype=np.int64))
