"""Targets from a label table: a column of scores, or the mean of several judges' columns, and the range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest

from .convert import Problem
from .labels import value_of
from .sheets import Sheet
from .words import numbered

MEANS = ("mean", "trimmed")
FEWEST_TO_TRIM = 3  # scores of which the highest and the lowest can be dropped
UNLABELLED = {"", "na", "n/a", "nan", "null", "none"}  # what spreadsheets and scripts write where there is no score
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class TargetWords:
    """What `--target` says: the target's name, the columns its scores come from and how, and its range if given.

    combine: "" for a single column, else one of MEANS.
    """

    name: str
    columns: Sequence[str]
    combine: str = ""
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class TargetScores:
    """Scores (N,) of a target, NaN if unlabelled; spread: the standard deviation of its judges (N,), if several."""

    words: TargetWords
    values: Scores
    spread: Scores | None = None


def target_words(text: str, sheet: Sheet) -> TargetWords:
    """What one `--target` says, as in "score", "score:0:100", "score=mean(judge1..judge5):0:10", "TES=tes_total".

    AqaError for a column that the table lacks, with the nearest, and for words that do not fit.
    """
    named, bounds = _bounds(text, sheet)
    if named in sheet.columns:
        return TargetWords(named, [named], "", bounds)
    name, equals, given = (part.strip() for part in named.partition("="))
    if not equals:
        if re.fullmatch(r".*\(.*\)", name):
            raise AqaError(f"--target {text}: a mean needs a name: write score={name}")
        sheet.column(name, f"--target {text}")
    if not (name and given):
        raise AqaError(f"--target {text}: write NAME, NAME=COLUMN or NAME=mean(COLUMNS), each also with :LOW:HIGH")
    call = re.fullmatch(r"(\w+)\((.*)\)", given)
    if given in sheet.columns or call is None:
        sheet.column(given, f"--target {text}")
        return TargetWords(name, [given], "", bounds)
    if call[1] not in MEANS:
        raise AqaError(f"--target {text}: '{call[1]}' is unknown: {nearest(call[1], MEANS)}")
    columns = _columns(call[2], text)
    for column in columns:
        sheet.column(column, f"--target {text}")
    if len(columns) < (FEWEST_TO_TRIM if call[1] == "trimmed" else 2):
        least = "three" if call[1] == "trimmed" else "two"
        raise AqaError(f"--target {text}: {call[1]} needs {least} columns or more, got {len(columns)}")
    return TargetWords(name, columns, call[1], bounds)


def _bounds(text: str, sheet: Sheet) -> tuple[str, tuple[float, float] | None]:
    """The words without the range, and the range; a column may have colons in its name."""
    if text in sheet.columns:
        return text, None
    parts = text.rsplit(":", 2)
    numbers = [value_of(part) for part in parts[1:]]
    if len(parts) == 1 or all(number is None for number in numbers):
        return text, None
    low, high = [*numbers, None][:2]
    if len(parts) < 3 or low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise AqaError(f"--target {text}: a range is two numbers, such as score:0:100")
    if not low < high:
        raise AqaError(f"--target {text}: the range is {low:g} to {high:g}; write the lower bound first")
    return parts[0], (low, high)


def _columns(text: str, target: str) -> list[str]:
    columns: list[str] = []
    for part in text.split(","):
        try:
            columns += numbered(part) or [part.strip()]
        except AqaError as error:
            raise AqaError(f"--target {target}: {error}") from None
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise AqaError(f"--target {target}: column '{twice[0]}' is named twice")
    return columns


def read_scores(words: TargetWords, sheet: Sheet, ids: Sequence[str], problems: list[Problem]) -> TargetScores:
    """The scores of a target; what is no number is added to `problems`, by id."""
    columns = [column_scores(column, sheet, ids, problems) for column in words.columns]
    if not words.combine:
        return TargetScores(words, columns[0])
    judges = np.stack(columns, axis=1)  # (N, J)
    known = [row[np.isfinite(row)] for row in judges]
    fewest = FEWEST_TO_TRIM if words.combine == "trimmed" else 1
    for i, scores in zip(ids, known, strict=True):
        if 0 < len(scores) < fewest:
            said = f"{words.name}: {len(scores)} of {len(words.columns)}; {fewest} are needed"
            problems.append(Problem(i, "too few judges for a trimmed mean", said))
    dropped = slice(1, -1) if words.combine == "trimmed" else slice(None)  # the lowest and the highest
    values = np.array([np.sort(scores)[dropped].mean() if len(scores) >= fewest else np.nan for scores in known])
    spread = np.array([scores.std(ddof=1) if len(scores) > 1 else np.nan for scores in known])
    return TargetScores(words, values, spread)


def column_scores(column: str, sheet: Sheet, ids: Sequence[str], problems: list[Problem]) -> Scores:
    """A column as numbers (N,), NaN for empty cells; decimal commas are read where no cell has a decimal point."""
    cells = sheet.column(column, "--target")
    found = np.full(len(cells), np.nan)
    points = next((cell for cell in cells if "." in cell and value_of(cell) is not None), None)
    for row, (cell, place) in enumerate(zip(cells, sheet.places, strict=True)):
        if cell.lower() in UNLABELLED:
            continue
        value = value_of(cell)
        if value is None or not math.isfinite(value):
            problems.append(Problem(ids[row], "label that is not a number", f"{place}: {column} '{cell}'"))
        elif "," in cell and points is not None:
            said = f"{place}: {column} '{cell}', elsewhere '{points}'"
            problems.append(Problem(ids[row], "decimal comma among decimal points", said))
        else:
            found[row] = value
    return found


def numeric_columns(sheet: Sheet, besides: Sequence[str | None]) -> list[str]:
    """The columns that could be targets: numbers or empty cells alone, one number at least."""
    found = []
    for column in sheet.columns:
        cells = [cell for cell in sheet.column(column, "") if cell.lower() not in UNLABELLED]
        if column not in besides and cells and all(value_of(cell) is not None for cell in cells):
            found.append(column)
    return found


def proposed_range(values: Scores) -> tuple[float, float]:
    """A range for labels (n,), one at least: their own, rounded outwards to the power of ten of its width."""
    low, high = float(values.min()), float(values.max())
    step = 10.0 ** math.floor(math.log10(high - low)) if high > low else 1.0
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (low, high) if low < high else (low, low + step)


def ranges_of(targets: Sequence[TargetScores], train: NDArray[np.bool_], notes: list[str]) -> Mapping[str, tuple]:
    """The range of each target, in its words or proposed from the labels of the videos in `train` (N,), which is said.

    Labels of other videos are not looked at: how scores are scaled must not tell what the test videos were given.
    """
    found = {}
    for target in targets:
        name, bounds = target.words.name, target.words.bounds
        if bounds is None:
            known = target.values[train & np.isfinite(target.values)]
            if not len(known):
                raise AqaError(f"--target {name}: no video that trains has a score; say the range: {name}:LOW:HIGH")
            bounds = proposed_range(known)
            whose = "the training labels" if not train.all() else "the labels"
            notes.append(
                f"target {name}: range {bounds[0]:g} to {bounds[1]:g}, proposed from {whose} "
                f"({known.min():g} to {known.max():g}); if the scoring system has another, say --target "
                f"{name}:LOW:HIGH"
            )
        found[name] = bounds
    return found
