"""One .npz file with a whole data set, in which a row of each array is a video (`aqa prepare table --pack`).

streams      (N, T, D), or (N, D) for one clip a video; ``NAME_lengths`` (N,) says how many of the T clips are real, 0
             where the video lacks the stream. ``present`` (N, M) bool with ``modalities`` (M,) says the latter alone.
columns      (N,) numbers, truth values or texts: ids, groups, splits, folds, scores
(N, K)       up to 100 columns, named by ``NAME_names`` (K,), of "labels" also by ``label_names``; else NAME1, NAME2 ...
spreads      ``NAME_sd``, of "labels" also ``label_sd``, of the same shape: the standard deviation of the judges
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError

from .arrays import UNPACKED, pick, read_file
from .convert import Stream
from .sheets import Sheet, cell_text
from .targets import TargetScores

Array = NDArray[Any]
ROW = "row"  # the column of ids that is made where a pack has none
MOST_COLUMNS = 100  # an array (N, K) of more has features, not scores


@dataclass(frozen=True)
class Pack:
    """A pack's columns as a table, its streams by name, and the spread (N,) of columns that have one.

    streams: the array (N, T, D) and the number of real clips (N,).
    """

    sheet: Sheet
    streams: Mapping[str, tuple[Array, NDArray[np.int64]]]
    spreads: Mapping[str, Array]

    def of(self, sheet: Sheet) -> Pack:
        """The same for the rows that are left in a table."""
        numbers = {place: row for row, place in enumerate(self.sheet.places)}
        rows = [numbers[place] for place in sheet.places]
        streams = {name: (values[rows], lengths[rows]) for name, (values, lengths) in self.streams.items()}
        return Pack(sheet, streams, {name: spread[rows] for name, spread in self.spreads.items()})

    def with_spread(self, target: TargetScores) -> TargetScores:
        """Scores that are one column, with the spread of that column if it has one."""
        spread = self.spreads.get(target.words.columns[0])
        return target if target.words.combine or spread is None else replace(target, spread=spread)

    def stream(self, name: str, ids: Sequence[str], rate: float | None, extractor: str | None) -> Stream:
        """A stream of the videos that have it. ids: one for each row. rate: clips a second. extractor: what made it."""
        values, lengths = self.streams[name]
        rows = {i: row for row, i in enumerate(ids) if lengths[row]}

        def load(i: str) -> Array:
            return values[rows[i], : lengths[rows[i]]]

        return Stream(values.shape[2], rows.keys(), load, extractor, None if rate is None else 1 / rate)


def read_pack(given: str, streams: Mapping[str, str], id_columns: Sequence[str]) -> Pack:
    """A pack's streams and everything else in it as columns. streams: by name, which array it is.

    id_columns: how a column of ids may be called; where there is none of these, videos are numbered.
    AqaError, one line, where the file or an array is not as described above.
    """
    path = Path(given)
    if path.suffix.lower() != ".npz":
        raise AqaError(f"--pack {given}: a pack is one file that ends in .npz")
    arrays = _arrays(path)
    if not streams:
        known = [name for name, array in arrays.items() if array.ndim == 3]
        raise AqaError(f"--pack {given} needs --stream, at least one, such as --stream {_example(known)}")
    values = {name: _values(name, pick(arrays, array, given)) for name, array in streams.items()}
    counts = {name: len(array) for name, array in values.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise AqaError(f"--pack {given}: streams have different numbers of rows: {said}")
    rows = next(iter(counts.values()))
    lengths = {name: _lengths(given, arrays, array, values[name]) for name, array in streams.items()}
    columns, spreads = _columns(given, arrays, rows, set(streams.values()))
    if not any(name in columns for name in id_columns):
        columns = {ROW: [f"{path.stem}_{row:04d}" for row in range(rows)], **columns}
    cells = list(zip(*columns.values(), strict=True))
    sheet = Sheet(given, list(columns), cells, [f"row {row}" for row in range(rows)])
    return Pack(sheet, {name: (values[name], lengths[name]) for name in streams}, spreads)


def _arrays(path: Path) -> dict[str, Array]:
    """Every array of the file; AqaError where they would take too much memory together."""
    content = read_file(path)
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > UNPACKED:
            raise AqaError(f"{path} unpacks to more than {UNPACKED} bytes; write a file per stream")
    return {name: content[name] for name in content}


def _example(known: Sequence[str]) -> str:
    listed = f"; arrays of three dimensions are {', '.join(known)}" if known else ""
    return f"{known[0]}={known[0]}{listed}" if known else "visual=visual"


def _values(name: str, array: Array) -> Array:
    """The clips of a stream as (N, T, D)."""
    if array.dtype.kind not in "biuf":
        raise AqaError(f"--stream {name}: the array holds '{array.dtype}', not numbers")
    if array.ndim not in (2, 3) or not array.size:
        raise AqaError(f"--stream {name}: the array has shape {array.shape}; expected (videos, clips, channels)")
    return array[:, None] if array.ndim == 2 else array


def _lengths(given: str, arrays: Mapping[str, Array], name: str, values: Array) -> NDArray[np.int64]:
    """The number of real clips (N,) of a stream, by NAME_lengths and by `present`; all T without these."""
    rows, most = values.shape[:2]
    lengths = np.full(rows, most, np.int64)
    if f"{name}_lengths" in arrays:
        stated = arrays[f"{name}_lengths"]
        if stated.shape != (rows,) or stated.dtype.kind not in "iu" or ((stated < 0) | (stated > most)).any():
            raise AqaError(f"--pack {given}: {name}_lengths is not {rows} whole numbers from 0 to {most}")
        lengths = stated.astype(np.int64)
    if "present" in arrays and "modalities" in arrays:
        present, named = arrays["present"], arrays["modalities"].tolist()
        if present.shape != (rows, len(named)) or present.dtype != bool:
            raise AqaError(f"--pack {given}: present is {present.dtype} {present.shape}, not bool {(rows, len(named))}")
        if name in named:
            lengths[~present[:, named.index(name)]] = 0
    return lengths


def _columns(
    given: str, arrays: Mapping[str, Array], rows: int, streams: set[str]
) -> tuple[dict[str, list[str]], dict[str, Array]]:
    """The arrays with a row for each video as columns of text by name, and the spreads of those that have one."""
    columns: list[tuple[str, list[str]]] = []
    spreads: dict[str, Array] = {}
    spread_of = {name: _beside(arrays, name, "sd") for name in arrays}
    others = {"present", *streams, *(f"{name}_lengths" for name in streams), *spread_of.values()}
    for name, array in arrays.items():
        if name in others or array.ndim not in (1, 2) or len(array) != rows or array.size > MOST_COLUMNS * rows:
            continue
        table = array.reshape(rows, -1)
        names = _names(given, arrays, name, array)
        cells = [[cell_text(cell, f"{given}: {name}").strip() for cell in column] for column in table.T.tolist()]
        columns += zip(names, cells, strict=True)
        spread = arrays.get(spread_of[name] or "")
        if spread is not None and spread.shape == array.shape and spread.dtype.kind in "iuf":
            spreads |= zip(names, spread.reshape(rows, -1).T.astype(np.float64), strict=True)
    twice = [name for name, count in Counter(name for name, _ in columns).items() if count > 1]
    if twice:
        raise AqaError(f"--pack {given}: two columns are called '{twice[0]}'")
    return dict(columns), spreads


def _beside(arrays: Mapping[str, Array], name: str, what: str) -> str | None:
    """The array that says something of another: "label_names" or "labels_names" of "labels"."""
    return next((other for other in (f"{name}_{what}", f"{name.removesuffix('s')}_{what}") if other in arrays), None)


def _names(given: str, arrays: Mapping[str, Array], name: str, array: Array) -> list[str]:
    """What the columns of an array are called."""
    if array.ndim == 1:
        return [name]
    beside, count = _beside(arrays, name, "names"), array.shape[1]
    if beside is None:
        return [f"{name}{column + 1}" for column in range(count)]
    if arrays[beside].shape != (count,):
        raise AqaError(f"--pack {given}: {beside} has shape {arrays[beside].shape}; {name} has {count} columns")
    return [str(each) for each in arrays[beside].tolist()]
