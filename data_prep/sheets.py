"""Label tables of any kind as columns of text: CSV and TSV, XLSX, Parquet, JSON lines."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aqa.errors import AqaError, brief, first_line, nearest, printable
from aqa.system.files import has_file

from .files import what_it_is
from .labels import MOST_BYTES, read_text, value_of
from .words import split_place

SEPARATORS = ("\t", ";", ",")
ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".jsonl", ".ndjson", ".json")
UNPACKED = 2**28  # bytes that the parts of a workbook or of a Parquet file may take
MOST_COLUMNS = 16_384


@dataclass(frozen=True)
class Sheet:
    """A table of text: the names of its columns, its rows (n, columns) with "" for an empty cell, and their places.

    where: the file, for messages. places: of each row, such as "line 3".
    """

    where: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    places: Sequence[str]

    def column(self, name: str, asked_by: str) -> list[str]:
        """The cells of a column (n,); AqaError with the nearest name. asked_by: the option, for messages."""
        if name not in self.columns:
            raise AqaError(f"{asked_by}: {self.where} has no column '{name}': {nearest(name, self.columns)}")
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def read_sheet(given: str) -> Sheet:
    """A table from a file; "labels.xlsx:Sheet2" is one of the sheets of a workbook.

    AqaError, one line, where the file is missing, damaged, too large or of another kind, where a line has more or fewer
    fields than the header, and where two columns have one name.
    """
    path, sheet = split_place(given, ENDINGS, "--labels")
    if not has_file(path):
        raise AqaError(f"--labels: there is no file {path}; {_nearest_file(path)}")
    if path.stat().st_size > MOST_BYTES:
        raise AqaError(f"{path} has {path.stat().st_size} bytes; a label file has {MOST_BYTES} at most")
    ending = path.suffix.lower()
    what = None if ending in (".xlsx", ".parquet") and path.stat().st_size else what_it_is(path)
    if what is not None:
        raise AqaError(f"{path} {what}")
    if sheet is not None and ending != ".xlsx":
        raise AqaError(f"--labels {given}: only a workbook (.xlsx) has sheets; leave ':{sheet}' out")
    if ending == ".xlsx":
        header, rows = _workbook(path, sheet)
    elif ending == ".parquet":
        header, rows = _parquet(path)
    elif ending in (".jsonl", ".ndjson", ".json"):
        header, rows = _json(path)
    else:
        header, rows = _separated(path)
    return _sheet(str(path), header, rows)


def _nearest_file(path: Path) -> str:
    here = [p.name for p in path.parent.iterdir() if p.suffix.lower() in ENDINGS] if path.parent.is_dir() else []
    return nearest(path.name, here) if here else f"{path.parent} has no label file"


def _sheet(where: str, header: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Sheet:
    """Names checked, empty lines and nameless empty columns left out."""
    names = [name.strip() for name in header]
    kept = [(place, [cell.strip() for cell in cells]) for place, cells in rows if any(cell.strip() for cell in cells)]
    for place, cells in kept:
        while len(cells) > len(names) and not cells[-1]:  # a separator at the end of the line
            cells.pop()
        if len(cells) != len(names):
            raise AqaError(
                f"{where}, {place}: {len(cells)} fields for {len(names)} columns ({_shown(names)}); a text with the "
                "separator in it needs quotation marks"
            )
    used = [k for k, name in enumerate(names) if name or any(cells[k] for _, cells in kept)]
    if any(not names[k] for k in used):
        raise AqaError(f"{where}: column {1 + next(k for k in used if not names[k])} has no name in the first line")
    if not used:
        raise AqaError(f"{where} is empty; a label file has a line with the names of its columns, then a line a video")
    twice = [name for name, count in Counter(names[k] for k in used).items() if count > 1]
    if twice:
        raise AqaError(f"{where}: two columns are called '{twice[0]}'")
    if len(used) > 1 and all(value_of(names[k]) is not None for k in used[1:]):
        raise AqaError(
            f"{where}: the first line names no columns, it is {brief(', '.join(names))}; write names there, such as "
            "id,score"
        )
    if not kept:
        raise AqaError(f"{where} has the names of its columns ({_shown(names)}) and no line below them")
    texts = [[cells[k] for k in used] for _, cells in kept]
    return Sheet(where, [names[k] for k in used], texts, [place for place, _ in kept])


def _shown(names: Sequence[str]) -> str:
    return printable(brief(", ".join(names)).strip("'"))


def _separated(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Of text: the separator is the one by which most lines have as many fields as the first, and more than one."""
    text = read_text(path)
    if text[:4].lower() == "sep=":  # what a spreadsheet program writes for another
        text = "\n" + text.partition("\n")[2]
    found = [_fields(text, separator) for separator in SEPARATORS]
    best = max((table for table in found if isinstance(table, list)), key=_regular, default=[])
    failed = [said for said in found if isinstance(said, str)]
    if failed and not _regular(best):
        raise AqaError(f"{path}: {failed[0]}")
    header = best[0][1] if best else []
    while header and not header[-1].strip():
        header = header[:-1]
    return header, best[1:]


def _fields(text: str, separator: str) -> list[tuple[str, list[str]]] | str:
    """Place and fields of each line that is not empty; a text that says why there are none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    lines = []
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                lines.append((f"line {reader.line_num}", fields))
    except csv.Error as error:
        begun = text.split("\n")[len(lines) : len(lines) + 1]
        return f"a quotation mark near line {len(lines) + 1} ({brief(*begun)}) is not closed: {first_line(error)}"
    return lines


def _regular(table: Sequence[tuple[str, Sequence[str]]]) -> int:
    """Lines of as many fields as the first, where that has more than one."""
    width = len(table[0][1]) if table else 0
    return sum(len(fields) == width for _, fields in table) if width > 1 else 0


def _json(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """JSON lines, an object a line, or one list of objects."""
    text = read_text(path)
    records: list[tuple[str, Any]] = []
    if text.lstrip().startswith("["):
        listed = _parsed(text, str(path))
        records = [(f"entry {number}", record) for number, record in enumerate(listed, start=1)]
    else:
        for number, line in enumerate(text.split("\n"), start=1):  # other marks of a line's end may be in a text
            if line.strip():
                records.append((f"line {number}", _parsed(line, f"{path}, line {number}")))
    names: dict[str, None] = {}
    for place, record in records:
        if not isinstance(record, dict):
            raise AqaError(f'{path}, {place}: {brief(record)} is not an object, such as {{"id": "a", "score": 7.5}}')
        names.update(dict.fromkeys(record))
    rows = [
        (place, [cell_text(record.get(name), f"{path}, {place}: '{name}'") for name in names])
        for place, record in records
    ]
    return list(names), rows


def _parsed(text: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise AqaError(f"{where}: '{printable(twice[0])}' is there twice")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise AqaError(f"{where} is not JSON: {first_line(error)}") from None


def cell_text(value: Any, where: str) -> str:
    """A value as text: whole numbers without a point, nothing for null and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or hasattr(value, "dtype"):
        value = value.item() if hasattr(value, "item") else value
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    raise AqaError(f"{where} is {brief(value)}; a cell is a text or a number")


def _workbook(path: Path, sheet: str | None) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Of a workbook: the sheet named, or the first."""
    openpyxl = needed_package("openpyxl", path)
    _check_unpacked(path)
    try:
        values, formulas = (openpyxl.load_workbook(path, read_only=True, data_only=only) for only in (True, False))
        names = values.sheetnames
        if sheet is not None and sheet not in names:
            raise AqaError(f"--labels: {path} has no sheet '{sheet}': {nearest(sheet, names)}")
        chosen = names[0] if sheet is None else sheet
        rows = list(_cells(path, values[chosen], formulas[chosen]))
    except AqaError:
        raise
    except Exception as error:  # openpyxl's reader fails in many ways on a damaged file
        raise AqaError(f"{path} cannot be read as a workbook: {first_line(error)}") from None
    return (rows[0][1], rows[1:]) if rows else ([], [])


def _cells(path: Path, values: Any, formulas: Any) -> Iterator[tuple[str, list[str]]]:
    """Place and texts of each row that is not empty; AqaError for a formula whose value was never saved."""
    for number, (row, written) in enumerate(zip(values.iter_rows(), formulas.iter_rows(), strict=True), start=1):
        if len(row) > MOST_COLUMNS:
            raise AqaError(f"{path}, row {number}: {len(row)} columns; {MOST_COLUMNS} are the most")
        cells = []
        for column, (cell, source) in enumerate(zip(row, written, strict=True), start=1):
            where = f"{path}, row {number}, column {column}"
            if cell.value is None and source.value is not None:
                raise AqaError(f"{where} is a formula without a value; open the file in a spreadsheet and save it")
            if cell.data_type == "e":
                raise AqaError(f"{where} is the error {cell.value}; mend it or leave the cell empty")
            text = cell_text(cell.value, where)
            shown = str(getattr(cell, "number_format", ""))
            if isinstance(cell.value, int) and shown and set(shown) == {"0"}:  # 1 that is shown as 001
                text = text.zfill(len(shown))
            cells.append(text)
        if any(cells):
            yield f"row {number}", cells


def _check_unpacked(path: Path) -> None:
    """AqaError if a workbook is no archive, or one that takes much memory to unpack."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise AqaError(f"{path} is not a workbook (.xlsx), or damaged; save it again, or as CSV in UTF-8") from None
    if unpacked > UNPACKED:
        raise AqaError(f"{path} unpacks to {unpacked} bytes; {UNPACKED} are the most for labels")


def _parquet(path: Path) -> tuple[list[str], list[tuple[str, list[str]]]]:
    table = parquet_table(path, UNPACKED)
    names = [str(name) for name in table.column_names]
    columns = [column.to_pylist() for column in table.columns]
    rows = [
        (
            f"row {number}",
            [cell_text(value, f"{path}, row {number}: '{n}'") for n, value in zip(names, values, strict=True)],
        )
        for number, values in enumerate(zip(*columns, strict=True), start=1)
    ]
    return names, rows


def parquet_table(path: Path, most: int) -> Any:
    """A Parquet file as an Arrow table that takes `most` bytes; AqaError for anything else."""
    needed_package("pyarrow", path)
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        about = file.metadata
        unpacked = sum(about.row_group(k).total_byte_size for k in range(about.num_row_groups))
        if unpacked > most:
            raise AqaError(f"{path} unpacks to {unpacked} bytes; {most} are the most")
        return file.read()
    except AqaError:
        raise
    except Exception as error:  # Arrow's own errors are of several kinds
        raise AqaError(f"{path} cannot be read as Parquet: {first_line(error)}") from None


def needed_package(name: str, path: Path) -> Any:
    """A package that only some files need; AqaError, with the command that installs it, where it is absent."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise AqaError(
            f"{path}: files that end in {path.suffix} need the package {name}; install it with: pip install "
            "'aqa-incomplete[table]', or save the file as CSV"
        ) from None
