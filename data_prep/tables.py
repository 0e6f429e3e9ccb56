"""Features in tables: a line a clip, a column a channel, with a column of ids where a file has many videos."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, first_line, nearest

from .labels import value_of

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
        self._clips: dict[str, Clips] = {}

    def clips(self) -> Clips:
        """All lines as numbers (n, D); AqaError, naming column and row, for a cell that is not one."""
        return self._numbers(self._read(None))

    def by(self, column: str, option: str) -> Table:
        """The same table with its lines grouped by a column of ids; AqaError where it lacks the column."""
        if self.names is None or column not in self.names:
            hint = "its first line names none" if self.names is None else nearest(column, self.names)
            raise AqaError(
                f"{option}: {self.path} has no column '{column}' with the ids: {hint}; say which after a colon, "
                f"{self.path.name}:COLUMN"
            )
        frame = self._read(column)
        values = self._numbers(frame.drop(columns=column))
        ids = frame[column].map(_as_id)
        self._clips = {str(i): values[rows] for i, rows in ids.groupby(ids, sort=False).indices.items() if i}
        return self

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
        """The table as numbers, `ids` as text; all of it as text where not every other cell is a plain number."""
        if self.frame is not None:
            frame = self.frame
        else:
            types = defaultdict(lambda: "float64", {} if ids is None else {ids: "str"})
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
                    f"{self.path}: column '{name}', row {row + 1}, is {brief(cell)}, not a number; a table of features "
                    "has numbers alone, besides a column of ids"
                )
            values[:, place] = numbers
        return values

    def __getitem__(self, name: str) -> Clips:
        return self._clips[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clips)

    def __len__(self) -> int:
        return len(self._clips)


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
