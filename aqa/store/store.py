"""FeatureStore: one HDF5 file a data set (schema 1).

    /                       attributes schema, name, created_by, source
    ids                     (N,) UTF-8
    features/M/values       (sum of lengths, D) float32 or float16; other numbers are converted to float32
    features/M/offsets      (N + 1,) int64; a sample of length 0 lacks the modality
    features/M/crc32        (N,) uint32, of the bytes of each sample's values; older stores have none
    features                attribute modalities: their order
    features/M              attributes extractor, clip_seconds where known
    targets/T               (N,) float64, NaN if unlabelled; attribute range (low, high);
                            attribute ceiling (JSON: pattern -> best possible SRCC) where it is known
    spreads/T               (N,) float64, standard deviation of the judges' scores whose mean T is; NaN if not known
    splits/S                (k,) int64 row numbers
    groups/G                (N,) UTF-8: the athlete, surgeon, fold ... of each sample, empty where it is not known;
                            attribute `folds` where it is the folds of a cross-validation
    moments/M               (sum of lengths,) uint8, 1 for clips that decide the score, where they are known
    /, ids, M, offsets, T, S, G  attribute crc32, of their bytes and texts; older stores have none

Nothing in the file needs unpickling.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, first_line, nearest
from aqa.names import check_modalities
from aqa.store import hdf5
from aqa.system.files import has_file

SCHEMA = 1
WIDEST = 1e100  # of a score, up or down: squared errors and their sums are then numbers
MOST_MODALITIES, MOST_CHANNELS = 64, 2**20
CRC = "crc32"
FOLDS = "folds"
ABOUT_MODALITY = ("extractor", "clip_seconds")
# Since HDF5 1.10 (2016) all but the numbers themselves and the ids carries checksums of the library.
FORMAT = ("v110", "v110")
BENCHMARK_ORDER = ("visual", "audio", "flow")


Stamp = tuple[int, int, int]  # of a file: see `stamp_of`


@dataclass(frozen=True)
class Modality:
    """What is known of a stream before it is read: width D and the number of clips of each sample (N,)."""

    width: int
    lengths: NDArray[np.int64]
    extractor: str | None = None
    clip_seconds: float | None = None


@dataclass(frozen=True)
class Target:
    """One score per sample (N,), NaN if unlabelled, and the range that maps it to [0, 1].

    ceiling: best possible SRCC by pattern name, where the data's process is known. spread: of each sample (N,) the
    standard deviation of the judges' scores of which the value is the mean, NaN where it is not known.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    ceiling: Mapping[str, float] = field(default_factory=dict)
    spread: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        try:
            widest = max(abs(float(self.low)), abs(float(self.high)))
        except (TypeError, ValueError):
            raise AqaError(f"range {brief(self.low)} to {brief(self.high)}: expected two numbers") from None
        if widest > WIDEST:
            raise AqaError(f"range {self.low:g} to {self.high:g}: squared errors need scores up to {WIDEST:g} at most")

    def normalize(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the target's units to [0, 1]."""
        return (score - self.low) / (self.high - self.low)


class FeatureStore:
    """A data set's features, targets, splits and groups, read from one HDF5 file.

    Opening reads the small parts (ids, offsets, targets, splits, groups) and checks the structure; features are read on
    demand. Raises AqaError, naming the file and the place in it, for anything that is not schema 1.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not has_file(self.path):
            here = [p.name for p in self.path.parent.glob("*.h5")] if self.path.parent.is_dir() else []
            hint = nearest(self.path.name, here) if here else f"{self.path.parent} has no .h5 file"
            raise AqaError(f"no feature store at {self.path}; {hint}")
        try:
            self._file = h5py.File(self.path, "r")
        except hdf5.DAMAGE as error:
            why = hdf5.held_by_a_writer(error) or f"is not a readable HDF5 file: {first_line(error)}"
            raise AqaError(f"{self.path} {why}") from None
        try:
            # Asked once: it takes as long as reading a short stream. None where HDF5 reads in another way.
            self._descriptor = self._file.id.get_vfd_handle() if self._file.driver == "sec2" else None
            self.stamp = self._stamp()
            self._read_structure()
        except AqaError:
            self._file.close()
            raise
        except hdf5.DAMAGE as error:
            self._file.close()
            raise AqaError(f"{self.path} is damaged or not a feature store: {first_line(error)}") from None

    def _read_structure(self) -> None:
        schema = hdf5.attribute(self._file, "/", "schema")
        if schema is None or isinstance(schema, str) or int(schema) != SCHEMA:
            raise AqaError(f"{self.path}: attribute 'schema' is {schema}; this version reads schema {SCHEMA}")
        self.name, self.source, self.created_by = (
            str(default if value is None else value)
            for key, default in (("name", self.path.stem), ("source", ""), ("created_by", ""))
            for value in [hdf5.attribute(self._file, "/", key)]
        )
        self._verify("/", crc_of_texts([self.name, self.source, self.created_by]))
        self.ids = hdf5.texts(self._file, "ids")
        self._verify("ids", crc_of_texts(self.ids))
        self.modalities: tuple[str, ...] = self._modality_order()
        self.widths: dict[str, int] = {}
        self.dtypes: dict[str, str] = {}  # in which features are read: float16, or float32
        self.converted: dict[str, str] = {}  # the file's own type, of modalities that have another
        self.offsets: dict[str, NDArray[np.int64]] = {}
        self.checksums: dict[str, NDArray[np.uint32]] = {}
        self._values: dict[str, h5py.Dataset] = {}
        self._places: dict[str, int | None] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        for modality in self.modalities:
            self._read_modality(modality)
        self.targets = {name: self._target(name) for name in hdf5.members(self._file, "targets")}
        self.splits = {name: self._split(name) for name in hdf5.members(self._file, "splits")}
        self.groups = {name: self._group(name) for name in hdf5.members(self._file, "groups")}
        # Groups that are folds of a cross-validation, whom no video belongs to; stores of before do not say so.
        self.folds = [name for name in self.groups if hdf5.attribute(self._file, f"groups/{name}", FOLDS) is not None]
        self._moments = {name: self._marks(name) for name in hdf5.members(self._file, "moments")}

    def _read_modality(self, modality: str) -> None:
        place = f"features/{modality}"
        values = hdf5.dataset(self._file, f"{place}/values", ndim=2)
        if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
            raise AqaError(f"{self.path}: {place}/values is {values.dtype}, not numbers of 64 bits at most")
        if values.shape[1] > MOST_CHANNELS:
            raise AqaError(f"{self.path}: {place}/values has {values.shape[1]} channels; {MOST_CHANNELS} are the most")
        hdf5.check_size(self._file, values, f"{place}/values", hdf5.UNPACKED)
        self.widths[modality] = int(values.shape[1])
        self.dtypes[modality] = "float16" if values.dtype in (np.dtype("<f2"), np.dtype(">f2")) else "float32"
        if values.dtype != np.dtype(self.dtypes[modality]):
            self.converted[modality] = f"{'big-endian ' * (values.dtype.byteorder == '>')}{values.dtype.name}"
        self.offsets[modality] = self._offsets(modality, len(values))
        self._values[modality], self._places[modality] = values, self._place(values, self.dtypes[modality])
        if f"{place}/{CRC}" in self._file:
            self.checksums[modality] = hdf5.numbers(self._file, f"{place}/{CRC}", "u", np.uint32, len(self.ids))
        about = {key: hdf5.attribute(self._file, place, key) for key in ABOUT_MODALITY}
        self.attributes[modality] = {key: value for key, value in about.items() if value is not None}
        self._verify(place, crc_of_texts([str(about["extractor"])]))

    def _verify(self, name: str, crc: int) -> None:
        """AqaError if a small part of the file is not what was written."""
        known = hdf5.attribute(self._file, name, CRC)
        if known is not None and int(known) != crc:
            raise AqaError(
                f"{self.path}: {name} does not fit its checksum: the file is damaged, or {name} was changed since; "
                f"if you changed it, delete the attribute '{CRC}' of {name}"
            )

    def _place(self, values: h5py.Dataset, dtype: str) -> int | None:
        """Where in the file the numbers of an array lie as in memory, all in one piece; None otherwise."""
        created = values.id.get_create_plist()
        plain = created.get_layout() == h5py.h5d.CONTIGUOUS and created.get_nfilters() == 0
        native = values.id.get_type().equal(h5py.h5t.py_create(np.dtype(dtype)))
        place = values.id.get_offset() if plain and native else None  # None as well where nothing was ever written
        if place is None or self._descriptor is None or not hasattr(os, "preadv"):
            return None
        return int(place) if place + values.nbytes <= os.fstat(self._descriptor).st_size else None

    def _modality_order(self) -> tuple[str, ...]:
        names = hdf5.members(self._file, "features")
        if not names:
            raise AqaError(f"{self.path}: no modality under 'features'")
        if len(names) > MOST_MODALITIES:
            raise AqaError(f"{self.path}: features has {len(names)} modalities; {MOST_MODALITIES} are the most")
        check_modalities(names, str(self.path))
        stated = hdf5.attribute(self._file, "features", "modalities", (len(names),))
        if stated is None:
            first = [m for m in BENCHMARK_ORDER if m in names]
            return tuple(first + sorted(set(names) - set(first)))
        order = tuple(map(str, stated))
        if sorted(order) != sorted(names):
            raise AqaError(f"{self.path}: attribute 'modalities' says {list(order)}, the file holds {sorted(names)}")
        return order

    def _offsets(self, modality: str, rows: int) -> NDArray[np.int64]:
        where = f"features/{modality}/offsets"
        entries = len(hdf5.dataset(self._file, where, ndim=1))
        if entries != len(self.ids) + 1:
            raise AqaError(
                f"{self.path}: {where} has {entries} entries for {len(self.ids)} ids; expected one more than ids"
            )
        offsets = hdf5.numbers(self._file, where, "iu", np.int64)
        self._verify(where, crc_of(offsets))
        if offsets[0] != 0 or offsets[-1] != rows or np.any(offsets[1:] < offsets[:-1]):
            raise AqaError(f"{self.path}: {where} do not rise from 0 to the {rows} rows of values")
        return offsets

    def _target(self, name: str) -> Target:
        place = f"targets/{name}"
        values = hdf5.numbers(self._file, place, "iuf", np.float64, len(self.ids))
        ceiling = hdf5.attribute(self._file, place, "ceiling")
        self._verify(place, crc_of(values) ^ crc_of_texts([str(ceiling)]))
        bounds = hdf5.attribute(self._file, place, "range", (2,))
        if bounds is None or isinstance(bounds[0], str) or not np.all(np.isfinite(bounds)) or not bounds[0] < bounds[1]:
            has = [] if bounds is None else [str(bound) for bound in bounds]
            raise AqaError(f"{self.path}: {place} needs an attribute 'range' (low, high), has {has}")
        known = {} if ceiling is None else json.loads(str(ceiling))
        if not isinstance(known, dict) or not all(type(value) in (int, float) for value in known.values()):
            raise AqaError(f"{self.path}: attribute 'ceiling' of {place} does not hold an SRCC by pattern")
        try:
            best = {k: float(v) for k, v in known.items()}
            return Target(values, float(bounds[0]), float(bounds[1]), best, self._spread(name))
        except AqaError as error:
            raise AqaError(f"{self.path}: {place}: {error}") from None

    def _spread(self, target: str) -> NDArray[np.float64] | None:
        if target not in hdf5.members(self._file, "spreads"):
            return None
        place = f"spreads/{target}"
        spread = hdf5.numbers(self._file, place, "iuf", np.float64, len(self.ids))
        self._verify(place, crc_of(spread))
        return spread

    def _split(self, name: str) -> NDArray[np.int64]:
        rows = hdf5.numbers(self._file, f"splits/{name}", "iu", np.int64)
        self._verify(f"splits/{name}", crc_of(rows))
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self.ids)):
            raise AqaError(f"{self.path}: splits/{name} names rows outside 0 to {len(self.ids) - 1}")
        return rows

    def _group(self, name: str) -> list[str]:
        labels = hdf5.texts(self._file, f"groups/{name}")
        self._verify(f"groups/{name}", crc_of_texts(labels))
        if len(labels) != len(self.ids):
            raise AqaError(f"{self.path}: groups/{name} has {len(labels)} labels for {len(self.ids)} ids")
        return labels

    def _marks(self, modality: str) -> NDArray[np.uint8]:
        place = f"moments/{modality}"
        if modality not in self.modalities:
            raise AqaError(f"{self.path}: {place}: {nearest(modality, self.modalities)}")
        marks = hdf5.numbers(self._file, place, "u", np.uint8)
        self._verify(place, crc_of(marks))
        clips = int(self.offsets[modality][-1])
        if len(marks) != clips or (len(marks) and marks.max() > 1):
            raise AqaError(f"{self.path}: {place} has {len(marks)} values; expected 0 or 1 for each of {clips} clips")
        return marks

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.ids)

    def close(self) -> None:
        """Close the file; what was read stays usable."""
        self._file.close()
        self._descriptor = None  # the number may become another file's

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Clips of each sample in each modality, (N, M)."""
        return np.stack([np.diff(self.offsets[m]) for m in self.modalities], axis=1)

    @property
    def available(self) -> NDArray[np.bool_]:
        """Which modalities each sample has, (N, M)."""
        return self.lengths > 0

    def clip_seconds(self, modality: str) -> float:
        """How long a clip of a modality takes, NaN if the file does not say or the store lacks the modality."""
        seconds = self.attributes.get(modality, {}).get("clip_seconds")
        return float(seconds) if isinstance(seconds, (int, float, np.number)) and 0 < seconds < np.inf else np.nan

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

    def group(self, name: str) -> list[str]:
        """The label of each sample in a group (N,), "" where it is not known; AqaError with the nearest name."""
        if name not in self.groups:
            raise AqaError(f"{self.path} has no group '{name}': {nearest(name, self.groups)}")
        return self.groups[name]

    def moments(self, modality: str) -> list[NDArray[np.bool_]] | None:
        """Which clips of each sample decide the score, N masks (T,); None where this is not known of a modality.

        Synthetic stores know it. It serves to check explanations of scores; no model sees it.
        """
        marks = self._moments.get(modality)
        return None if marks is None else np.split(marks.astype(bool), self.offsets[modality][1:-1])

    def read(self, modality: str) -> NDArray[np.float32]:
        """All clips of a modality, sample after sample: (sum of lengths, D) float32, in one contiguous read."""
        values = np.empty(self._values[modality].shape, self.dtypes[modality])
        self.read_into(modality, 0, values)
        return values.astype(np.float32, copy=False)

    def read_into(self, modality: str, first: int, out: NDArray[np.floating[Any]]) -> None:
        """Read the clips from number `first` on into a contiguous out (n, D) of type `dtypes[modality]`.

        What the file keeps in another type is converted by HDF5. Where the file holds them as they are in memory this
        is a plain read, during which other threads run.
        """
        place = self._places[modality]
        if not out.size:
            return
        try:
            if place is None or self._descriptor is None:
                self._values[modality].read_direct(out, np.s_[first : first + len(out)])
            else:
                _read_bytes(self._descriptor, place + first * out[0].nbytes, out)
        except hdf5.DAMAGE as error:
            if self._file:
                self._require_unchanged()
            raise AqaError(f"{self.path}: features/{modality} cannot be read: {first_line(error)}") from None
        self._require_unchanged()

    def _stamp(self) -> Stamp:
        return stamp_of(self.path if self._descriptor is None else self._descriptor)

    def _require_unchanged(self) -> None:
        """AqaError if the open file is not as it was when it was opened: what was read may be of either content."""
        if self._stamp() != self.stamp:
            raise AqaError(
                f"{self.path} was changed while it was being read, and reading stops here; "
                "put the file back as it was, or start again with the new one"
            )

    def chunk(self, modality: str) -> int:
        """How many clips the file keeps together, to be read together; 1 where any can be read alone."""
        chunks = self._values[modality].chunks
        return chunks[0] if chunks else 1

    def read_sample(self, modality: str, row: int) -> NDArray[np.float32]:
        """One sample's clips, (T, D) float32; T is 0 where the modality is absent."""
        return self.read_stored(modality, row).astype(np.float32, copy=False)

    def is_intact(self, modality: str, row: int, crc: int | None = None) -> bool | None:
        """Whether a sample's clips fit the checksum that was written with them; None without one.

        crc: of what `read_stored` gives, where it is known.
        """
        known = self.checksums.get(modality)
        if known is None:
            return None
        if modality in self.converted:  # the checksum is of the file's own bytes
            start, stop = self.offsets[modality][row : row + 2]
            crc = crc_of(self._values[modality][start:stop])
        return bool((crc_of(self.read_stored(modality, row)) if crc is None else crc) == known[row])

    def read_stored(self, modality: str, row: int) -> NDArray[np.floating[Any]]:
        """One sample's clips (T, D) in the type `dtypes[modality]`."""
        start, stop = self.offsets[modality][row : row + 2]
        clips = np.empty((int(stop - start), self.widths[modality]), self.dtypes[modality])
        self.read_into(modality, int(start), clips)
        return clips


def stamp_of(file: str | os.PathLike[str] | int) -> Stamp:
    """What shows, without reading a file, that it was changed: its number, size and time of modification.

    file: its path or its descriptor; of a file that was replaced meanwhile, the descriptor is that of the old one.
    """
    found = os.stat(file)
    return found.st_ino, found.st_size, found.st_mtime_ns


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


def crc_of(values: NDArray[Any], crc: int = 0) -> int:
    """CRC-32 of an array's bytes, as zlib and many a tool compute it. crc: of the bytes before them."""
    return zlib.crc32(np.ascontiguousarray(values).data, crc) if values.size else crc


def crc_of_texts(texts: Sequence[str]) -> int:
    """CRC-32 of texts in UTF-8, a zero byte after each."""
    return zlib.crc32("".join(f"{text}\0" for text in texts).encode())
