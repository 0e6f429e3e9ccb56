"""Reading label files: one video a line, its name and then its scores."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aqa.errors import AqaError, brief
from aqa.system.files import has_file

from .convert import Problem

MOST_BYTES = 2**26  # of a label file
# Spaces are last: fields of the other kinds may contain them.
_SEPARATORS = ("\t", ";", ",", None)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")


@dataclass(frozen=True)
class Row:
    """One line: the video's id and its scores, None if one is not a finite number (already noted as a problem)."""

    id: str
    scores: tuple[float | None, ...]


def read_rows(path: Path, columns: Sequence[str], problems: list[Problem], optional: int = 0) -> list[Row]:
    """The lines of a label file: an id, then `columns`, of which the last `optional` ones may be absent.

    Fields are separated by tabs, semicolons, commas or spaces, the same in the whole file. A first line without a
    single number in it is a header and left out. Lines that do not fit are added to `problems`, by id. Raises AqaError
    where the file is missing or not text, holds no line, or where not one line fits.
    """
    counts = range(len(columns) - optional, len(columns) + 1)
    rows = []
    for number, fields in _table(path, columns, counts):
        where = f"{path.name} line {number}"
        found = len(fields) - 1
        if found not in counts:
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
    return rows


def _table(path: Path, columns: Sequence[str], counts: range) -> list[tuple[int, list[str]]]:
    """Number and fields of every line, split by the separator with which most lines fit."""
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    tables = [_split(lines, separator) for separator in _SEPARATORS]
    best = max(tables, key=lambda table: _fitting(table, counts))  # the first of equals
    if not best:
        raise AqaError(f"{path} holds no labels")
    if not any(len(fields) - 1 in counts for _, fields in best):
        number = best[0][0]
        line = next(line for n, line in lines if n == number)
        raise AqaError(
            f"{path}: no line is a video's name and its scores ({_wanted(columns, counts)}), separated by tabs, "
            f"semicolons, commas or spaces; line {number} is {brief(line)}"
        )
    return best


def _wanted(columns: Sequence[str], counts: range) -> str:
    required, optional = columns[: counts.start], columns[counts.start :]
    return ", ".join([*required, *(f"{column} if known" for column in optional)])


def _split(lines: Sequence[tuple[int, str]], separator: str | None) -> list[tuple[int, list[str]]]:
    """Number and fields of every line except a header."""
    table = [(number, _fields(line, separator)) for number, line in lines]
    return [
        (number, fields)
        for number, fields in table
        if fields and (number > 1 or any(value_of(field) is not None for field in fields))
    ]


def _fields(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    try:
        (fields,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except csv.Error:  # a field longer than csv reads
        return [line]
    fields = [field.strip() for field in fields]
    while fields and not fields[-1]:  # a separator at the end of the line
        fields.pop()
    return fields


def _fitting(table: Sequence[tuple[int, Sequence[str]]], counts: range) -> tuple[int, int]:
    """Lines with nothing but numbers after the name, and lines with as many fields as there should be."""
    fitting = [fields for _, fields in table if len(fields) - 1 in counts]
    return sum(all(value_of(field) is not None for field in fields[1:]) for fields in fitting), len(fitting)


def read_text(path: Path) -> str:
    if not has_file(path):
        raise AqaError(f"{path} does not exist")
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise AqaError(f"{path} has {size} bytes; a label file has {MOST_BYTES} at most")
        content = path.read_bytes()
    except OSError as error:
        raise AqaError(f"{path} cannot be read: {error.strerror or error}") from None
    if _is_utf16(content):
        raise AqaError(
            f"{path} cannot be read as text: it is in UTF-16; save it again as UTF-8 (as a CSV or text file)"
        )
    if b"\0" in content:
        raise AqaError(f"{path} is not text, so it is no table: a label file is CSV or text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise AqaError(f"{path} cannot be read as text: line {line} is not UTF-8; save it again as UTF-8") from None


def _is_utf16(content: bytes) -> bool:
    """Whether it begins with the mark of UTF-16, or is text where most bytes at even or at odd places are zero."""
    places = max(len(content) // 2, 1)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    orders = [order for start, order in enumerate(("be", "le")) if 2 * content[start::2].count(0) > places]
    return any(_is_text(content, f"utf-16-{order}") for order in orders)


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        return "\0" not in content.decode(encoding)
    except UnicodeDecodeError:
        return False


def value_of(text: str) -> float | None:
    """The number in a field, also with a decimal comma; None if it is not one."""
    try:
        return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None


def _number(text: str) -> float | None:
    value = value_of(text)
    return value if value is not None and math.isfinite(value) else None
