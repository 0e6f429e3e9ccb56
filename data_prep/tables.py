"""Features in tables: a line a clip, a column a channel, with a column of ids where a file has many videos.

Where the words name columns, the others are not read; a column that rows are ordered by is no channel.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, first_line, nearest

from .labels import value_of
from .words import Columns, nearest_of_many, numbered

Clips = NDArray[np.float64]
SEPARATORS = ("\t", ";", ",")  # of text; spaces, where a first line has none of them


class Table(Mapping[str, Clips]):
    """A table of features; after `by` a mapping of id -> clips (T, D), in the order of the file.

    frame: what was read already; by default the file is text, which is read when its numbers are asked for. names: of
    the columns, None if the first line of the text has numbers.
    """

    def __init__(self, path: Path, frame: pd.DataFrame | None = None):
        self.path, self.frame = path, frame
        self.separator: str | None = None
        self.names: list[str] | None = None
        if frame is None:
            self._read_first_line()
        else:
            self.names = [str(name) for name in frame.columns]
        if self.names is not None and "" in self.names:
            raise AqaError(
                f"{path}: column {self.names.index('') + 1} has no name; if these are the row numbers of pandas, write "
                "the file without them, to_csv(index=False)"
            )
        self.columns: Columns | None = None
        self._clips: dict[str, Clips] = {}

    def choose(self, columns: Columns) -> Table:
        """The same table, of which only some columns are channels."""
        self.columns = columns
        return self

    def clips(self) -> Clips:
        """All lines as numbers (n, D); AqaError, naming column and row, for a cell that is not one."""
        frame = self._read(None)
        return self._numbers(self._features(frame, None))[self._in_order(frame, np.arange(len(frame)))]

    def by(self, column: str, option: str) -> Table:
        """The same table with its lines grouped by a column of ids; AqaError where it lacks the column."""
        if self.names is None or column not in self.names:
            hint = "its first line names none" if self.names is None else nearest(column, self.names)
            raise AqaError(
                f"{option}: {self.path} has no column '{column}' with the ids: {hint}; say which after a colon, "
                f"{self.path.name}:COLUMN"
            )
        frame = self._read(column)
        values = self._numbers(self._features(frame, column))
        ids = frame[column].map(_as_id)
        found = {str(i): rows for i, rows in ids.groupby(ids, sort=False).indices.items() if i}
        self._clips = {i: values[self._in_order(frame, np.asarray(rows, np.int64))] for i, rows in found.items()}
        return self

    def _features(self, frame: pd.DataFrame, ids: str | None) -> pd.DataFrame:
        """The columns that are channels: those that the words name, or all but the ids."""
        if self.columns is not None:
            return frame[self._channels(self.columns, ids)]
        return frame if ids is None else frame.drop(columns=ids)

    def _channels(self, chosen: Columns, ids: str | None) -> list[str]:
        """The columns that the words name, in order; AqaError for one that is not there, or is named twice."""
        if self.names is None:
            raise AqaError(f"{chosen.option}: {self.path} names no columns in its first line")
        named = [name for text in chosen.texts for name in _span(text, self.names)]
        for name in [*named, *([] if chosen.order is None else [chosen.order])]:
            if name not in self.names:
                hint = nearest_of_many(name, self.names)
                raise AqaError(f"{chosen.option}: {self.path} has no column '{name}': {hint}")
            if name == ids:
                raise AqaError(f"{chosen.option}: column '{name}' of {self.path} has the ids; it is no channel")
        twice = next((name for name in named if named.count(name) > 1 or name == chosen.order), None)
        if twice is not None:
            raise AqaError(f"{chosen.option}: column '{twice}' is named twice")
        left = [name for name in self.names if name not in (ids, chosen.order)]
        if not (named or left):
            raise AqaError(f"{chosen.option}: {self.path} has no other column, which could be a channel")
        return named or left

    def _in_order(self, frame: pd.DataFrame, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of one video by the column that orders them; AqaError where it has no number or one twice."""
        if self.columns is None or self.columns.order is None:
            return rows
        name = self.columns.order
        at = self._numbers(frame[[name]].iloc[rows])[:, 0]
        ordered = rows[np.argsort(at, kind="stable")]
        at = np.sort(at)
        if np.isnan(at).any() or (np.diff(at) == 0).any():
            twice = at[1:][np.diff(at) == 0]
            what = f"has {twice[0]:g} twice in one video" if len(twice) else "has an empty cell"
            raise AqaError(f"{self.path}: column '{name}' {what}; rows are ordered by numbers that differ")
        return ordered

    def _read_first_line(self) -> None:
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                first = file.readline().strip("\r\n")
        except UnicodeDecodeError:
            raise _not_text(self.path) from None
        self.separator = next((mark for mark in SEPARATORS if mark in first), None)
        fields = [field.strip(' "') for field in first.split(self.separator)]
        # What pandas calls columns that have no names of their own: 0, 1, 2 ...
        counted = len(fields) > 1 and fields == [str(place) for place in range(len(fields))]
        if counted or any(value_of(field) is None for field in fields):
            self.names = fields

    def _read(self, ids: str | None) -> pd.DataFrame:
        """The table as numbers, `ids` as text; all of it as text where not every other cell is a plain number.

        Where the words name columns, the others are text.
        """
        if self.frame is not None:
            frame = self.frame
        else:
            unread = [] if ids is None else [ids]
            if self.columns is not None:
                read = [*self._channels(self.columns, ids), self.columns.order]
                unread = [name for name in self.names or () if name not in read]
            types = defaultdict(lambda: "float64", dict.fromkeys(unread, "str"))
            try:
                frame = self._read_text(types)
            except ValueError:  # among them what pandas says of lines of different lengths, which it then says again
                try:
                    frame = self._read_text("str")
                except UnicodeDecodeError:
                    raise _not_text(self.path) from None
                except ValueError as error:
                    said = re.sub(r"^Error tokenizing data\. C error: ", "", first_line(error))
                    raise AqaError(f"{self.path} cannot be read as a table: {said}") from None
        if not len(frame) or not len(frame.columns):
            raise AqaError(f"{self.path} has no line of features")
        return frame

    def _read_text(self, types: Any) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # fields that pandas would leave out
            try:
                return pd.read_csv(
                    self.path,
                    sep=self.separator or r"\s+",
                    header=None,
                    names=self.names,
                    skiprows=0 if self.names is None else 1,
                    dtype=types,
                    na_filter=False,
                    encoding="utf-8-sig",
                    skipinitialspace=self.separator is not None,
                    index_col=False,
                )
            except pd.errors.ParserWarning:
                raise ValueError(f"its lines have more fields than the first, {len(self.names or ())}") from None

    def _numbers(self, frame: pd.DataFrame) -> Clips:
        values = np.empty(frame.shape, np.float64)
        for place, (name, cells) in enumerate(frame.items()):
            numbers = _as_numbers(cells)
            if numbers is None:
                row, cell = next((k, c) for k, c in enumerate(cells) if value_of(str(c)) is None)
                raise AqaError(
                    f"{self.path}: column '{name}', row {row + 1}, is {brief(cell)}, not a number; where not every "
                    f"column is a feature, name those that are: {self.path.name}[f0..f127]"
                )
            values[:, place] = numbers
        return values

    def __getitem__(self, name: str) -> Clips:
        return self._clips[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)


def _span(text: str, names: Sequence[str]) -> Sequence[str]:
    """The columns of a text: one, or a range of numbers ("f0..f127"), or from one to another as they stand."""
    if text in names or ".." not in text:
        return [text]
    first, last = (part.strip() for part in text.split("..", 1))
    try:
        return numbered(text) or [text]
    except AqaError:
        if missing := [name for name in (first, last) if name not in names]:
            return missing
        if names.index(first) > names.index(last):
            raise
        return names[names.index(first) : names.index(last) + 1]


def _not_text(path: Path) -> AqaError:
    return AqaError(f"{path} cannot be read as text: it is not UTF-8; save it again as UTF-8")


def _as_numbers(cells: pd.Series[Any]) -> Clips | None:
    """A column as numbers (n,), also with decimal commas; None where a cell is not one."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    texts = [str(cell).strip() for cell in cells]
    for decimal in (".", ","):
        try:
            return np.array([text.replace(",", ".") if decimal == "," else text for text in texts], dtype=np.float64)
        except ValueError:
            continue
    return None


def _as_id(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value).strip()
