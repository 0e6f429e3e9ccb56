"""Reading label files: one video a line, its name and then its scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aqa.errors import AqaError

from .convert import Problem

MOST_BYTES = 2**26  # of a label file


@dataclass(frozen=True)
class Row:
    """One line: the video's id and its scores, None where one is not a finite number (already noted as a problem)."""

    id: str
    scores: tuple[float | None, ...]


def read_rows(path: Path, columns: Sequence[str], problems: list[Problem], optional: int = 0) -> list[Row]:
    """The lines of a label file: an id, then `columns`, of which the last `optional` ones may be absent.

    A first line without a single number in it is a header and left out. Lines that do not fit are added to
    `problems`, by id. Raises AqaError where the file is not text or holds no line.
    """
    rows = []
    for number, fields in _lines(path):
        where = f"{path.name} line {number}"
        found = len(fields) - 1
        if not len(columns) - optional <= found <= len(columns):
            problems.append(Problem(fields[0], "label line of another form", f"{where}: {found} values"))
            rows.append(Row(fields[0], (None,) * len(columns)))
            continue
        scores = []
        for column, text in zip(columns, fields[1:], strict=False):
            score = _number(text)
            if score is None:
                problems.append(Problem(fields[0], "label that is not a number", f"{where}: {column} '{text}'"))
            scores.append(score)
        rows.append(Row(fields[0], tuple(scores)))
    if not rows:
        raise AqaError(f"{path} holds no labels")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    if path.stat().st_size > MOST_BYTES:
        raise AqaError(f"{path} has {path.stat().st_size} bytes; a label file has {MOST_BYTES} at most")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AqaError(f"{path} cannot be read as text: {error}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        is_header = number == 1 and not any(_is_numeric(field) for field in fields)
        if fields and not is_header:
            yield number, fields


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float | None:
    value = float(text) if _is_numeric(text) else math.nan
    return value if math.isfinite(value) else None
