"""What a reader of the page may choose: which models, patterns and targets are shown, and which two are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aqa.reporting.sections import ReportSection, differences
from aqa.reporting.tables import heading, marked

DIGITS = 4


def choices(sections: Sequence[ReportSection]) -> dict[str, Any]:
    """Models, columns of the tables and targets by name, and the numbers of every comparable pair of models."""
    return {
        "models": _once(marked(row) for section in sections for row in section.rows),
        "columns": _once(heading(column) for section in sections for column in section.columns),
        "targets": _once(section.title for section in sections if section.target is not None),
        "compared": [_compared(section) for section in sections],
    }


def _once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _compared(section: ReportSection) -> dict[str, Any]:
    """A section's numbers: SRCC by model and column, and by pair of models and column the difference with its ends.

    What is not known is None. Pairs are of places in `models`.
    """
    pairs: dict[tuple[int, int], list[list[float | None] | None]] = {}
    for place, column in enumerate(section.columns):
        for one, other, found in differences(section, column):
            key = section.rows.index(one), section.rows.index(other)
            numbers = pairs.setdefault(key, [None] * len(section.columns))
            numbers[place] = [_rounded(number) for number in (found.value, *found.interval[:2])]
    values = [[_rounded(row.srcc[c].value) if c in row.srcc else None for c in section.columns] for row in section.rows]
    return {
        "title": section.title,
        "models": list(map(marked, section.rows)),
        "columns": list(map(heading, section.columns)),
        "srcc": values,
        "pairs": [[*key, numbers] for key, numbers in pairs.items()],
    }


def _rounded(number: float) -> float | None:
    return None if np.isnan(number) else round(float(number), DIGITS)
