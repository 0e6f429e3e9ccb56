"""The tables beside the main one, as the page, Markdown and LaTeX show them: differences, errors, settings, runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aqa.errors import printable
from aqa.evaluation.comparison import Estimate
from aqa.reporting.collect import FinishedRun
from aqa.reporting.folds import FoldNumbers
from aqa.reporting.sections import AVERAGE, ReportSection, Row, differences, verdict
from aqa.runs.table import UNDEFINED, interval_text, number


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted by: a number, or its words where it is None."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class PlainTable:
    """A table without groups; the first column has names."""

    title: str
    caption: str
    headings: list[str]
    lines: list[list[Cell]]


def heading(column: str) -> str:
    """A column's name."""
    return "mean of incomplete" if column == AVERAGE else column


def marked(row: Row) -> str:
    """A row's label, with a sign where its epochs were selected on the test split."""
    return row.label + (" †" if row.on_test else "")


def further_tables(section: ReportSection) -> list[PlainTable]:
    """What a section has beside its main table; tables without lines are left out."""
    found = (differences_table(section), folds_table(section), errors_table(section), settings_table(section))
    return [table for table in found if table.lines]


def differences_table(section: ReportSection) -> PlainTable:
    """Every pair of comparable models, everything visible and on average, with what the paired test says."""
    columns = [c for c in (section.complete, AVERAGE) if c in section.columns]
    by_folds = any(row.folds is not None for row in section.rows)
    pairs: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for column in columns:
        for one, other, difference in differences(section, column):
            cells = _difference(difference) + ([_t_test(one, other, column)] if by_folds else [])
            pairs.setdefault((marked(one), marked(other)), {})[column] = cells
    words = ("95 % interval", "verdict", *(["t test p"] if by_folds else []))
    empty = [Cell("")] * (len(words) + 1)
    lines = [
        [Cell(f"{one} - {other}"), *(cell for column in columns for cell in found.get(column, empty))]
        for (one, other), found in pairs.items()
    ]
    caption = (
        "Differences of SRCC, paired on the same test videos: 95 % interval, and whether the first model is higher, "
        "lower or not told apart by it"
    )
    if by_folds:
        caption += "; t test p: of SRCC by fold, by the corrected resampled t test (Nadeau and Bengio, 2003)"
    headings = ["models", *(h for column in columns for h in (heading(column), *words))]
    return PlainTable("Model against model", caption, headings, lines)


def _t_test(one: Row, other: Row, column: str) -> Cell:
    """The p value of two models' SRCC by fold; empty where they were not tested in the same folds."""
    found = one.folds.t_test(other.folds, column) if one.folds is not None and other.folds is not None else None
    if found is None:
        return Cell("")
    return Cell(UNDEFINED if np.isnan(found.p_value) else f"{found.p_value:.3g}", found.p_value)


def folds_table(section: ReportSection) -> PlainTable:
    """The Fisher-z mean over folds of each model, with its deviation over folds, and its interval."""
    lines = []
    for row in section.rows:
        if row.folds is not None:
            known = [name for name in section.columns if name in row.folds.mean]
            cells = {name: _mean_of_folds(row.folds, name) for name in known}
            lines.append([Cell(marked(row)), *(cells.get(name, Cell("-")) for name in section.columns)])
    caption = "Fisher-z mean over folds of the SRCC in each, ± its standard deviation over folds, 95 % interval"
    return PlainTable("Mean of folds", caption, ["model", *map(heading, section.columns)], lines)


def _mean_of_folds(folds: FoldNumbers, column: str) -> Cell:
    found = folds.mean[column]
    if np.isnan(found.value):
        return Cell(UNDEFINED, found.value)
    low, high = (None if np.isnan(end) else float(end) for end in found.interval[:2])
    bounds = interval_text(low, high, found.interval.why_none)
    return Cell(f"{found.value:.3f} ± {folds.deviation(column):.3f} {bounds}", found.value)


def _difference(found: Estimate) -> list[Cell]:
    low, high = found.interval[:2]
    words = verdict(found)
    shown = UNDEFINED if np.isnan(found.value) else f"{found.value:+.3f}"
    bounds = f"[{words}]" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
    return [Cell(shown, found.value), Cell(bounds, low), Cell(words)]


def errors_table(section: ReportSection) -> PlainTable:
    """Mean squared error and relative L2, means over seeds."""
    patterns = section.patterns
    lines = []
    for row in section.rows:
        for name, found in (("MSE", row.mse), ("R-l2 %", row.rl2)):
            if found:
                cells = [Cell(f"{found[p]:.3f}", found[p]) if p in found else Cell("-", float("nan")) for p in patterns]
                lines.append([Cell(marked(row)), Cell(name), *cells])
    caption = "Means over seeds; MSE in squared units of the target"
    return PlainTable("MSE and relative L2", caption, ["model", "error", *patterns], lines)


def settings_text(section: ReportSection) -> str:
    """The settings that all rows share, in a sentence."""
    shared = section.shared_settings()
    if not shared:
        return ""
    whose = "all rows" if len(section.rows) > 1 else "the row"
    return f"Settings of {whose}: {'; '.join(f'{key} {value}' for key, value in shared.items())}."


def settings_table(section: ReportSection) -> PlainTable:
    """The settings in which rows differ, a line for each; the models' own options aside."""
    shared = section.shared_settings()
    keys = dict.fromkeys(key for row in section.rows for key in row.settings if key not in shared)
    lines = [[Cell(key), *(Cell(row.settings.get(key, "not set")) for row in section.rows)] for key in keys]
    caption = "Settings in which rows differ, except for the options of the models themselves"
    return PlainTable("Settings by model", caption, ["setting", *map(marked, section.rows)], lines)


def selected_value(row: Row) -> str:
    """What the selection metric came to on the split that selected the epochs, mean over seeds."""
    known = row.selected_value
    if np.isnan(known.value):
        return ""
    return f"{known.metric.upper()} {known.value:.3f} ({known.pattern})"


def runs_table(runs: Sequence[FinishedRun]) -> PlainTable:
    """A line for each run."""
    lines = []
    for run in runs:
        metrics, selection = run.metrics, run.metrics["selection"]
        first, scores = next(iter(metrics["patterns"].items()))
        average = metrics["average_incomplete"]
        chosen = selection.get("value")
        epoch = "by fold" if selection["epoch"] is None else f"{selection['epoch']} of {selection['epochs']}"
        lines.append(
            [
                Cell(printable(str(run.folder))),
                Cell(f"{run.place.data_set} {run.place.target}"),
                Cell(str(metrics["model"])),
                _known(run.seed, str(run.seed)),
                Cell("TEST †" if run.selected_on == "test" else run.selected_on),
                _known(selection["epoch"], epoch),
                _known(chosen, "" if chosen is None else f"{str(selection.get('metric', '')).upper()} {chosen:.3f}"),
                _known(scores["srcc"], f"{first} {number(scores['srcc'])}"),
                _known(average["srcc"], number(average["srcc"]) if average["patterns"] else ""),
            ]
        )
    headings = ["run", "target", "model", "seed", "selected on", "epoch", "value there", "test SRCC, first pattern"]
    return PlainTable("Runs", "As each run reported them", [*headings, "mean of incomplete"], lines)


def _known(value: float | None, words: str) -> Cell:
    return Cell(words, float("nan") if value is None else value)
