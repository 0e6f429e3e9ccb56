"""The tables beside the main one, as the page, Markdown and LaTeX show them: differences, errors, settings, runs."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aqa.errors import printable
from aqa.evaluation.comparison import Estimate, best_by_measure
from aqa.reporting.collect import FinishedRun
from aqa.reporting.columns import AVERAGE
from aqa.reporting.folds import FoldNumbers
from aqa.reporting.intervals import PatternIntervals
from aqa.reporting.measures import MeasureNumbers
from aqa.reporting.sections import ReportSection, Row, differences, verdict
from aqa.runs.selection import UNKNOWN
from aqa.runs.table import UNDEFINED, interval_text, number


class Cell(NamedTuple):
    """What a cell shows, and what it is sorted by: a number, or its words where it is None.

    small: what stands below the text; best: whether the text is in bold; link: where the text leads on the page.
    """

    text: str
    value: float | None = None
    small: str = ""
    best: bool = False
    link: str = ""


@dataclass(frozen=True)
class PlainTable:
    """A table without groups; the first column has names."""

    title: str
    caption: str
    headings: list[str]
    lines: list[list[Cell]]

    @property
    def of_words(self) -> list[bool]:
        """Which columns hold words alone."""
        return [all(line[i].value is None for line in self.lines) for i in range(len(self.headings))]


def heading(column: str) -> str:
    """A column's name."""
    return "mean of incomplete" if column == AVERAGE else column


def marked(row: Row) -> str:
    """A row's label with its signs."""
    return row.label + row.marks


def further_tables(section: ReportSection) -> list[PlainTable]:
    """What a section has beside its main table; tables without lines are left out."""
    if section not in _further:
        _further[section] = [table for table in _all_tables(section) if table.lines]
    return _further[section]


#: The page, Markdown and LaTeX show the same, and every cell of a difference has been tested.
_further: weakref.WeakKeyDictionary[ReportSection, list[PlainTable]] = weakref.WeakKeyDictionary()


def _all_tables(section: ReportSection) -> tuple[PlainTable, ...]:
    return (
        differences_table(section),
        ensembles_table(section),
        folds_table(section),
        *measure_tables(section),
        area_table(section),
        coverage_table(section),
        width_table(section),
        widest_table(section),
        worth_table(section),
        errors_table(section),
        settings_table(section),
    )


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


def ensembles_table(section: ReportSection) -> PlainTable:
    """The mean scores of each model's seeds as one model, and what it has over single seeds."""
    columns = [c for c in (section.complete, AVERAGE) if any(c in row.ensemble for row in section.rows)]
    lines = []
    for row in section.rows:
        if row.ensemble:
            cells = [cell for column in columns for cell in _over_single_seeds(row, column)]
            lines.append([Cell(f"{marked(row)}: ensemble of seeds"), Cell(str(len(row.seeds)), len(row.seeds)), *cells])
    words = ("SRCC", "over single seeds", "95 % interval", "verdict")
    caption = (
        "SRCC of the mean of the seeds' scores, and its difference from the mean SRCC of single seeds, paired on the "
        "same test videos: 95 % interval, and whether the ensemble is higher, lower or not told apart by it"
    )
    headings = ["model", "seeds", *(f"{heading(column)}, {word}" for column in columns for word in words)]
    return PlainTable("Ensembles of seeds", caption, headings, lines)


def _over_single_seeds(row: Row, column: str) -> list[Cell]:
    if column not in row.ensemble:
        return [Cell("")] * 4
    found = row.ensemble[column]
    text = UNDEFINED if np.isnan(found.value) else number(found.value)
    return [Cell(text, found.value), *_difference(found - row.srcc[column])]


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


def measure_tables(section: ReportSection) -> list[PlainTable]:
    """A table for each further measure that a row has."""
    names = dict.fromkeys(name for row in section.rows for name in row.measures)
    return [_measure_table(section, name) for name in names]


def _measure_table(section: ReportSection, name: str) -> PlainTable:
    own = {place: row.measures[name] for place, row in enumerate(section.rows) if name in row.measures}
    about = next(iter(own.values())).about
    columns = [column for column in section.columns if any(column in one.found for one in own.values())]
    lines = []
    best = {column: _best_of_measure(section, own, column, about["better"]) for column in columns}
    for place, one in own.items():
        cells = [_measured(one, column, place in best[column]) for column in columns]
        lines.append([Cell(marked(section.rows[place])), *cells])
    units = ", in the target's units" if about["in_units"] else ""
    units = ", in squared units of the target" if name == "mse" else units
    better = f", {about['better']} is better" if about["better"] else ""
    caption = f"{about['title']}{units}{better}: mean over seeds ± standard deviation over seeds, 95 % bootstrap "
    caption += "interval where asked; in bold: better than every comparable row by the paired test"
    return PlainTable(str(about["title"]), caption, ["model", *map(heading, columns)], lines)


def _best_of_measure(section: ReportSection, own: Mapping[int, MeasureNumbers], column: str, better: str) -> set[int]:
    found: set[int] = set()
    for group in section.groups():
        places = [section.rows.index(row) for row in group]
        best = best_by_measure({i: own[i].found[column] for i in places if i in own and column in own[i].found}, better)
        found |= set() if best is None else {best}
    return found


def _measured(numbers: MeasureNumbers, column: str, is_best: bool) -> Cell:
    if column not in numbers.found:
        return Cell("-", float("nan"))
    found, deviation = numbers.found[column], numbers.deviation(column)
    spread = "" if np.isnan(deviation) else f"± {deviation:.3f} "
    text = UNDEFINED if np.isnan(found.value) else number(found.value)
    return Cell(text, found.value, f"{spread}{_bounds(found)}".strip(), is_best)


def _bounds(found: Estimate) -> str:
    """The interval; empty where none was asked, or where the value itself is undefined."""
    if not len(found.draws) or np.isnan(found.value):
        return ""
    low, high = (None if np.isnan(end) else float(end) for end in found.interval[:2])
    return interval_text(low, high, found.interval.why_none)


def area_table(section: ReportSection) -> PlainTable:
    """The area under SRCC against missing rates of the rows that were tested at several."""
    lines = []
    for row in section.rows:
        if row.area is not None:
            value = row.area.value
            text = UNDEFINED if np.isnan(value) else number(value)
            lines.append([Cell(marked(row)), Cell(text, value), Cell(_bounds(row.area), row.area.interval.low)])
    caption = "Area under SRCC against the missing rate, over the width of the rates that were tested"
    return PlainTable("Area under missing rates", caption, ["model", "area", "95 % interval"], lines)


def coverage_table(section: ReportSection) -> PlainTable:
    """How often the intervals of scores hold the label, by pattern; or why a model's scores have none."""
    lines = []
    for row in section.rows:
        if row.intervals is not None:
            by_pattern = row.intervals.by_pattern
            cells = [_covered(by_pattern[p]) if p in by_pattern else Cell("-", np.nan) for p in section.patterns]
            made_from = row.intervals.made_from or row.intervals.why_none
            lines.append([Cell(marked(row)), Cell(f"{row.intervals.level:g}", row.intervals.level), *cells])
            lines[-1] += [Cell(made_from)] if section.target is not None else []
    caption = "The share of test videos whose label is in the interval of the score, "
    if section.target is None:
        caption += "mean over targets ± standard deviation over targets"
        return PlainTable("Coverage of intervals", caption, ["model", "level", *section.patterns], lines)
    caption += "mean over seeds, with its 95 % binomial interval over videos, and on which side of the level that lies"
    return PlainTable("Coverage of intervals", caption, ["model", "level", *section.patterns, "made from"], lines)


def _covered(found: PatternIntervals) -> Cell:
    one = found.asked
    if np.isnan(one.share):
        return Cell("none bounded" if found.unbounded else "-", one.share)
    if np.isnan(one.low):
        return Cell(number(one.share), one.share, f"± {found.deviation:.3f}")
    unbounded = f"{found.unbounded} unbounded" if found.unbounded else ""
    ends = interval_text(one.low, one.high)
    return Cell(number(one.share), one.share, " ".join(filter(None, [ends, one.verdict, unbounded])))


def width_table(section: ReportSection) -> PlainTable:
    """The mean width of the intervals of scores, by pattern."""
    lines = []
    for row in section.rows if section.target is not None else ():
        if row.intervals is not None and row.intervals.by_pattern:
            found = {name: one.width for name, one in row.intervals.by_pattern.items()}
            cells = [_number(found.get(name, np.nan)) for name in section.patterns]
            lines.append([Cell(marked(row)), Cell(f"{row.intervals.level:g}", row.intervals.level), *cells])
    caption = "Mean width of the intervals that are bounded, in the target's units, mean over seeds"
    return PlainTable("Width of intervals", caption, ["model", "level", *section.patterns], lines)


def _number(value: float) -> Cell:
    return Cell("-" if np.isnan(value) else number(value), value)


def widest_table(section: ReportSection) -> PlainTable:
    """The videos with the widest intervals, model by model; those of a model that gives all the same width say so."""
    lines = []
    for row in section.rows:
        found = row.intervals
        if found is None or not found.widest:
            continue
        if found.as_wide > len(found.widest):
            alike = Cell(f"{found.as_wide} videos, all as wide")
            lines.append([Cell(marked(row)), alike, *[Cell("")] * 4, _number(found.widest[0].width), Cell("")])
            continue
        for video in found.widest:
            ends = (video.score, video.label, video.low, video.high, video.width)
            holds = Cell("yes" if video.holds else "no")
            link = row.explained.link(video.id) if row.explained is not None else ""
            lines.append([Cell(marked(row)), Cell(printable(video.id), link=link), *map(_number, ends), holds])
    caption = "Test videos with the widest intervals, nothing hidden, by the run of the lowest seed"
    headings = ["model", "video", "score", "label", "low", "high", "width", "holds the label"]
    return PlainTable("Widest intervals", caption, headings, lines)


def _difference(found: Estimate) -> list[Cell]:
    low, high = found.interval[:2]
    words = verdict(found)
    shown = UNDEFINED if np.isnan(found.value) else f"{found.value:+.3f}"
    bounds = f"[{words}]" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
    return [Cell(shown, found.value), Cell(bounds, low), Cell(words)]


def worth_table(section: ReportSection) -> PlainTable:
    """What another stream is worth: how much smaller errors and intervals are with it, on the same videos."""
    of_target = section.target is not None
    lines = []
    for row in section.rows:
        for one in row.streams:
            error, width = (one.smaller_error, one.smaller_width) if of_target else (one.error_share, one.width_share)
            cells = [Cell(marked(row)), Cell(one.visible), Cell(one.stream), Cell(str(one.n or "differs"), one.n)]
            cells += [_number(one.error), *_difference(error)] if of_target else _difference(error)
            nothing = [Cell("-", np.nan), Cell("", np.nan), Cell("")]
            shrinks = nothing if width is None else _difference(width)
            lines.append([*cells, *([_number(one.width)] if of_target else []), *shrinks])
    caption = (
        "Test videos that have the stream, with it and without it: by how much the mean absolute error and the mean "
    )
    caption += "width of intervals shrink, paired on the same videos, with 95 % intervals; "
    caption += "in the target's units" if of_target else "in percent, mean over targets"
    shrinking = (["error"] if of_target else []) + ["error smaller by", "95 % interval", "verdict"]
    shrinking += (["width"] if of_target else []) + ["width smaller by", "95 % interval", "verdict"]
    return PlainTable("What another stream is worth", caption, ["model", "visible", "add", "n", *shrinking], lines)


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


def marked_split(split: str) -> str:
    """The split that selected a run's epoch, with the sign of those whose scores are too good, or may be."""
    return {"test": "TEST †", UNKNOWN: f"{UNKNOWN} †"}.get(split, split)


def runs_table(runs: Sequence[FinishedRun]) -> PlainTable:
    """A line for each run."""
    lines = []
    for run in runs:
        metrics, selection = run.metrics, run.metrics["selection"]
        first, scores = next(iter(metrics["patterns"].items()))
        average = metrics["average_incomplete"]
        chosen = selection.get("value")
        imported = run.selected_on == UNKNOWN
        epoch = "by fold" if selection["epoch"] is None else f"{selection['epoch']} of {selection['epochs']}"
        lines.append(
            [
                Cell(printable(str(run.folder))),
                Cell(f"{run.place.data_set} {run.place.target}"),
                Cell(str(metrics["model"])),
                _known(run.seed, UNKNOWN if imported else str(run.seed)),
                Cell(marked_split(run.selected_on)),
                _known(selection["epoch"], UNKNOWN if imported else epoch),
                _known(chosen, "" if chosen is None else f"{str(selection.get('metric', '')).upper()} {chosen:.3f}"),
                _known(scores["srcc"], f"{first} {number(scores['srcc'])}"),
                _known(average["srcc"], number(average["srcc"]) if average["patterns"] else ""),
            ]
        )
    headings = ["run", "target", "model", "seed", "selected on", "epoch", "value there", "test SRCC, first pattern"]
    return PlainTable("Runs", "As each run reported them", [*headings, "mean of incomplete"], lines)


def _known(value: float | None, words: str) -> Cell:
    return Cell(words, float("nan") if value is None else value)
