"""The tables of a report as Markdown and CSV, and what the page and LaTeX share with them.

The main table has models in rows, patterns and their average in columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from aqa import plugins
from aqa.reporting import escaping
from aqa.reporting.columns import AVERAGE
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import ReportSection, Row
from aqa.reporting.tables import Cell, PlainTable, further_tables, heading, marked, selected_value, settings_text
from aqa.runs.selection import IMPORTED, UNKNOWN
from aqa.runs.table import UNDEFINED, interval_text, number

PublishedNumbers = Sequence[PublishedRow]
#: Models that follow their paper's abstract alone, and that paper: as they are registered, without importing them.
AFTER_ABSTRACT = {
    "mea": "arXiv 2407.04955",
    "mome": "Mixture-of-Modality-Experts with Holistic Token Learning, arXiv 2604.05947",
}
NOT_TESTED = "-"  # in the cells of patterns under which a row was not tested by every seed
ON_TEST = "† the epoch was selected on the test split, or may have been (imported): not comparable with the others"
CAPTION = (
    "SRCC on the test split. Mean over seeds (Fisher z) ± standard deviation over seeds, and the 95 % bootstrap "
    "interval over test videos. In bold: better than every other comparable row by the paired test."
)


def text(value: float) -> str:
    """An SRCC for people."""
    return UNDEFINED if np.isnan(value) else number(value)


def spread(row: Row, column: str) -> str:
    """The standard deviation over seeds, where there are several."""
    deviation = row.deviation(column)
    return "" if np.isnan(deviation) else f"± {deviation:.3f}"


def bounds(row: Row, column: str) -> str:
    """The bootstrap interval."""
    found = row.srcc[column].interval
    low, high = (None if np.isnan(v) else v for v in found[:2])
    return interval_text(low, high, found.why_none)


def seeds(row: Row) -> str:
    """How many seeds; targets may have been run with different ones."""
    return str(len(row.seeds)) if row.seeds else "differ"


def counts(section: ReportSection, column: str) -> str:
    """How many videos were scored, by all models or from the fewest to the most."""
    n = {row.n[column] for row in section.rows if column in row.n}
    return "" if not n else "-".join(str(v) for v in sorted({min(n), max(n)}))


def of_section(published: PublishedNumbers, section: ReportSection) -> list[PublishedRow]:
    """PublishedNumbers numbers on a section's target."""
    return [row for row in published if (row.data_set, row.target) == (section.data_set, section.target)]


def markdown(
    sections: Sequence[ReportSection], published: PublishedNumbers, searches: Sequence[PlainTable] = ()
) -> str:
    """A main table for each section, its settings, and what else is known of it; then the searches for settings."""
    parts = ["# SRCC by missing pattern", CAPTION]
    for section in sections:
        columns = section.columns
        lines = [
            ["model", *map(heading, columns), "seeds", "selected on"],
            ["n", *(counts(section, column) for column in columns), "", ""],
        ]
        for place, row in enumerate(section.rows):
            cells = [_markdown_cell(section, row, place, column) for column in columns]
            lines.append([escaping.markdown(marked(row)), *cells, seeds(row), escaping.markdown(selected_on(row))])
        for other in of_section(published, section):
            label = f"*{escaping.markdown(marked_published(other))}*"
            lines.append([label, *reported(other, section), "", escaping.markdown(other.selected_on)])
        words = [*notes_of(section, published), settings_text(section)]
        parts += [
            f"## {escaping.markdown(section.title)}",
            _table(lines),
            *map(escaping.paragraph, filter(None, words)),
        ]
        parts += [part for table in further_tables(section) for part in _plain(table)]
    if searches:
        parts += ["## Searches for settings", *(part for table in searches for part in _plain(table))]
    return "\n\n".join(parts) + "\n"


def _plain(table: PlainTable) -> list[str]:
    lines = [[escaping.markdown(cell) for cell in table.headings]]
    lines += [[_plain_cell(cell) for cell in line] for line in table.lines]
    return [f"### {escaping.markdown(table.title)}", escaping.markdown(table.caption) + ".", _table(lines)]


def _plain_cell(cell: Cell) -> str:
    text = escaping.markdown(cell.text)
    return " ".join(part for part in (f"**{text}**" if cell.best else text, escaping.markdown(cell.small)) if part)


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells that are Markdown already; the first is the heading."""
    heading_line, *rest = lines
    rows = [heading_line, ["---"] * len(heading_line), *rest]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def selected_on(row: Row) -> str:
    """The split that selected a row's epochs, and what its metric came to there."""
    value = selected_value(row)
    return row.selected_on + (f": {value}" if value else "")


def marked_published(row: PublishedRow) -> str:
    """A published row's label, with a sign where its epochs were selected on the test split."""
    return row.label + (" †" if row.on_test else "")


def reported(other: PublishedRow, section: ReportSection) -> list[str]:
    """PublishedNumbers numbers by column."""
    known = other.by_column(section.modalities, section.columns)
    return [text(known[column]) if column in known else "" for column in section.columns]


def _markdown_cell(section: ReportSection, row: Row, place: int, column: str) -> str:
    if column not in row.srcc:
        return NOT_TESTED
    value = text(row.srcc[column].value)
    value = f"**{value}**" if place in section.best(column) else value
    return " ".join(part for part in (value, spread(row, column), bounds(row, column)) if part)


def notes_of(section: ReportSection, published: PublishedNumbers) -> list[str]:
    """What must be said under a section's table."""
    others = of_section(published, section)
    notes = [f"{other.label}: {other.words}" for other in others]
    on_test = [ON_TEST] if _any_on_test(section.rows) or _any_on_test(others) else []
    imported = [f"{marked(row)}: {IMPORTED}" for row in section.rows if row.selected_on == UNKNOWN]
    learned = [f"{marked(row)}: {row.learned}" for row in section.rows if row.learned]
    of_folds = [section.note] if section.note else []
    return [
        *on_test,
        *imported,
        *learned,
        *of_folds,
        *_average_notes(section),
        *untested_notes(section),
        *_after_abstract(section.rows),
        *notes,
    ]


def _after_abstract(rows: Sequence[Row]) -> list[str]:
    """Which models are no method as published: their papers' equations could not be had."""
    known = {**AFTER_ABSTRACT, **_plugins_after_abstract()}
    names = [name for name in dict.fromkeys(row.model for row in rows) if name in known]
    return [
        f"{name}: after the abstract of its paper ({known[name]}), whose equations could not be had" for name in names
    ]


def _plugins_after_abstract() -> dict[str, str]:
    """The same of all models of this process, where it has any from outside."""
    if not plugins.loaded():
        return {}
    from aqa.models import MODELS  # seconds to import, and a report runs no model

    return {entry.name: entry.about["paper"] for entry in MODELS.entries() if entry.about.get("after_abstract")}


def _average_notes(section: ReportSection) -> list[str]:
    """Which of the tested patterns the mean of incomplete patterns leaves out."""
    known = [*section.averaged, section.complete]
    left_out = [name for name in section.patterns if name not in known]
    if AVERAGE not in section.columns or not left_out:
        return []
    return [f"mean of incomplete: over {', '.join(section.averaged)}, without {', '.join(left_out)}"]


def untested_notes(section: ReportSection) -> list[str]:
    """Why cells of a row are empty: which of its seeds were not tested under which patterns."""
    notes = []
    for row in section.rows:
        by_seeds: dict[tuple[int, ...], list[str]] = {}
        for name, lacking in row.untested.items():
            by_seeds.setdefault(lacking, []).append(heading(name))
        for lacking, names in by_seeds.items():
            some = f"seed{'s' * (len(lacking) > 1)} {', '.join(map(str, lacking))} not tested"
            who = "not tested" if lacking == row.seeds else some
            notes.append(f"{marked(row)}: {who} under {', '.join(names)} (cells with {NOT_TESTED})")
        if AVERAGE in section.columns and AVERAGE not in row.srcc:
            notes.append(f"{marked(row)}: no mean of incomplete, which is over {', '.join(section.averaged)}")
    return notes


def _any_on_test(rows: Sequence[Row] | PublishedNumbers) -> bool:
    return any(row.on_test for row in rows)


def table(sections: Sequence[ReportSection], published: PublishedNumbers) -> pd.DataFrame:
    """A line per model and target, for CSV: what selected its epochs, and SRCC by column, with sd, low, high and n.

    Full precision, undefined empty.

    For people, in spreadsheets: a name that one would work out as a formula has an apostrophe before it.
    """
    lines = []
    for section in sections:
        for place, row in enumerate(section.rows):
            selected = {f"selection_{name}": value for name, value in asdict(row.selected_value).items()}
            about = {**_about(section, row, "aqa"), "learned": row.learned, **selected, "seeds": seeds(row)}
            lines.append({**about, **_numbers(section, row, place)})
        for other in of_section(published, section):
            known = other.by_column(section.modalities, section.columns)
            squared = {f"{column}_mse": value for column, value in other.mse.items() if column in section.columns}
            lines.append({**_about(section, other, other.source), **known, **squared})
    return pd.DataFrame(lines).map(escaping.spreadsheet)


def _about(section: ReportSection, row: Row | PublishedRow, source: str) -> dict[str, object]:
    return {
        "data_set": section.data_set,
        "target": section.target or f"mean of {section.targets} targets",
        "model": row.label,
        "source": source,
        "selected_on": row.selected_on,
    }


def _numbers(section: ReportSection, row: Row, place: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for column, estimate in row.srcc.items():
        low, high = estimate.interval[:2]
        found |= {column: estimate.value, f"{column}_sd": row.deviation(column)}
        found |= {f"{column}_low": low, f"{column}_high": high, f"{column}_best": place in section.best(column)}
        found |= {f"{column}_n": row.n[column]} if column in row.n else {}
    for name, measure in row.measures.items():
        for column, estimate in measure.found.items():
            about = {"": estimate.value, "_sd": measure.deviation(column)}
            about |= dict(zip(("_low", "_high"), estimate.interval[:2], strict=True))
            found |= {f"{column}_{name}{end}": value for end, value in about.items()}
    if row.intervals is not None:
        found["interval_level"] = row.intervals.level
        for column, one in row.intervals.by_pattern.items():
            found |= {f"{column}_coverage": one.asked.share, f"{column}_width": one.width}
            found |= {f"{column}_coverage_low": one.asked.low, f"{column}_coverage_high": one.asked.high}
    if row.area is not None:
        low, high = row.area.interval[:2]
        found |= {"area_under_rates": row.area.value, "area_under_rates_low": low, "area_under_rates_high": high}
    return found
