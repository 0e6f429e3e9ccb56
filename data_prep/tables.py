"""Features in tables: a line a clip, a column a channel, with a column of ids where a file has many videos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, first_line, nearest

from .labels import value_of

Clips = NDArray[np.float64]


class Table(Mapping[str, Clips]):
    """The lines of a table as clips; after `by` a mapping of id -> clips (T, D), in the order of the file."""

    def __init__(self, path: Path, frame: pd.DataFrame):
        self.path, self.frame = path, frame
        self._clips: dict[str, Clips] = {}

    def clips(self) -> Clips:
        """All lines as numbers (n, D); AqaError, naming line and column, for a cell that is not one."""
        return self._numbers(self.frame)

    def by(self, column: str, option: str) -> Table:
        """The same table with its lines grouped by a column of ids; AqaError where it lacks the column."""
        names = list(self.frame.columns)
        if column not in names:
            raise AqaError(
                f"{option}: {self.path} has no column '{column}' with the ids: {nearest(column, names)}; say which "
                f"after a colon, {self.path.name}:COLUMN"
            )
        values = self._numbers(self.frame.drop(columns=column))
        ids = self.frame[column].map(_as_id)
        self._clips = {str(i): values[rows] for i, rows in ids.groupby(ids, sort=False).indices.items() if i}
        return self

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


def _as_numbers(cells: pd.Series[Any]) -> Clips | None:
    """A column as numbers (n,), also with decimal commas; None where a cell is not one."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    for decimal in (".", ","):
        try:
            texts = [str(cell).strip() for cell in cells]
            return np.array([text.replace(",", ".") if decimal == "," else text for text in texts], dtype=np.float64)
        except ValueError:
            continue
    return None


def _as_id(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value).strip()


def read_table(path: Path, frame: pd.DataFrame | None = None) -> Table:
    """A table from a text file, or one that was read already; AqaError where it cannot be read or has no line."""
    frame = _read_text(path) if frame is None else frame
    if not len(frame) or not len(frame.columns):
        raise AqaError(f"{path} has no line of features")
    frame.columns = [str(name).strip() for name in frame.columns]
    return Table(path, frame)


def _read_text(path: Path) -> pd.DataFrame:
    """All cells as text. The separator is one that is in the first line, which has names if a field is no number."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline().strip()
        separator = next((mark for mark in ("\t", ";", ",") if mark in first), None)
        fields = first.split(separator)
        named = any(value_of(field.strip(' "')) is None for field in fields)
        return pd.read_csv(
            path,
            sep=separator or r"\s+",
            header=0 if named else None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=separator is not None,
            index_col=False,
        )
    except UnicodeDecodeError:
        raise AqaError(f"{path} cannot be read as text: it is not UTF-8; save it again as UTF-8") from None
    except (ValueError, OSError) as error:  # a ParserError is a ValueError
        said = re.sub(r"^Error tokenizing data\. C error: ", "", first_line(error))
        raise AqaError(f"{path} cannot be read as a table: {said}") from None
