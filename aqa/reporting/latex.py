"""The tables of a report for papers, with booktabs and graphicx: as wide as both columns of a page at the most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from aqa.reporting.columns import AVERAGE
from aqa.reporting.escaping import latex as escaped
from aqa.reporting.sections import ReportSection, Row
from aqa.reporting.tables import Cell, PlainTable, further_tables, marked, settings_text
from aqa.reporting.writers import (
    CAPTION,
    NOT_TESTED,
    PublishedNumbers,
    bounds,
    counts,
    marked_published,
    notes_of,
    of_section,
    reported,
    seeds,
    text,
)

PREAMBLE = r"% \usepackage{booktabs,graphicx}"
MOST_TARGETS = 10  # columns of the table of all targets; more make another table
NAME_WIDTH = "2.6cm"


def tables(sections: Sequence[ReportSection], published: PublishedNumbers) -> str:
    """For each section its main table, in which a model takes two lines, and the tables beside it."""
    parts = [f"% {CAPTION}\n{PREAMBLE}; Mean: over the incomplete patterns"]
    for section in sections:
        parts.append(_main_table(section, published))
        parts += [_plain_table(section, table) for table in further_tables(section)]
    return "\n\n".join(parts) + "\n"


def _main_table(section: ReportSection, published: PublishedNumbers) -> str:
    columns = section.columns
    body = [
        _line(["Model", *("Mean" if column == AVERAGE else column for column in columns), "Seeds"]),
        _line(["n", *(counts(section, column) for column in columns), ""]),
        r"\midrule",
    ]
    for place, row in enumerate(section.rows):
        cells = [_cell(section, row, place, column) for column in columns]
        body.append(f"{_name(marked(row))} & {' & '.join(cells)} & {seeds(row)} \\\\")
        small = [rf"{{\tiny {_tight(bounds(row, c))}}}" if c in row.srcc else "" for c in columns]
        body.append(f" & {' & '.join(small)} & \\\\")
    others = of_section(published, section)
    body += [r"\midrule"] if others else []
    body += [_line([marked_published(other), *reported(other, section), ""]) for other in others]
    notes = " ".join(
        f"{note.removesuffix('.')}." for note in [*notes_of(section, published), settings_text(section)] if note
    )
    caption = rf"{escaped(section.title)}. {escaped(CAPTION)} {escaped(notes)}".strip()
    return _floating(caption, "c" * len(columns) + "c", body)


def _plain_table(section: ReportSection, table: PlainTable) -> str:
    body = [_line(table.headings), r"\midrule", *(part for line in table.lines for part in _plain_line(line))]
    caption = f"{escaped(section.title)}. {escaped(table.title)}. {escaped(table.caption)}."
    return _floating(caption, "l" * (len(table.headings) - 1), body)


def _plain_line(cells: Sequence[Cell]) -> Iterator[str]:
    """A line of a table, and below it what stands small in its cells."""
    first, *others = cells
    texts = (rf"\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text) for cell in others)
    yield " & ".join([_name(first.text), *texts]) + r" \\"
    if any(cell.small for cell in cells):
        small = (rf"{{\tiny {escaped(_tight(cell.small))}}}" if cell.small else "" for cell in others)
        yield " & ".join(["", *small]) + r" \\"


def all_targets(sections: Sequence[ReportSection]) -> str:
    """One table of every target: models in rows, targets in columns, everything visible above, the mean below."""
    shown = [section for section in sections if section.rows]
    parts = [PREAMBLE]
    for start in range(0, len(shown), MOST_TARGETS):
        part = shown[start : start + MOST_TARGETS]
        more = f", part {start // MOST_TARGETS + 1}" if len(shown) > MOST_TARGETS else ""
        body = [*_heads(part), *_block(part, "Nothing missing", None), *_block(part, "Mean of incomplete", AVERAGE)]
        caption = escaped(f"SRCC of every target{more}. {CAPTION}")
        parts.append(_floating(caption, "c" * len(part), body))
    return "\n\n".join(parts) + "\n"


def _heads(sections: Sequence[ReportSection]) -> list[str]:
    """Data sets above their targets."""
    names = [section.data_set for section in sections]
    runs = [(name, names.count(name)) for name in dict.fromkeys(names)]
    rules, column = [], 2
    for _, width in runs:
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    sets = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{escaped(name)}}}" for name, width in runs)
    return [f" & {sets} \\\\", "".join(rules), _line(["Model", *(section.target or "mean" for section in sections)])]


def _block(sections: Sequence[ReportSection], title: str, column: str | None) -> Iterator[str]:
    """The lines of all models, those that were selected on the test split last. column: the complete one if None."""
    by_key = [{(row.on_test, marked(row)): (place, row) for place, row in enumerate(s.rows)} for s in sections]
    keys = sorted(dict.fromkeys(key for own in by_key for key in own), key=lambda key: key[0])
    yield r"\midrule"
    yield rf"\multicolumn{{{len(sections) + 1}}}{{l}}{{\emph{{{title}}}}} \\"
    for on_test, label in keys:
        cells = []
        for section, own in zip(sections, by_key, strict=True):
            name = column or section.complete
            found = own.get((on_test, label))
            cells.append(NOT_TESTED if found is None else _cell(section, found[1], found[0], name))
        yield f"{_name(label)} & {' & '.join(cells)} \\\\"


def _floating(caption: str, columns: str, body: Sequence[str]) -> str:
    """A table over both columns, made smaller where it would be wider than they are."""
    lines = [
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{p{{{NAME_WIDTH}}}{columns}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def _cell(section: ReportSection, row: Row, place: int, column: str) -> str:
    if column not in row.srcc:
        return NOT_TESTED
    value = text(row.srcc[column].value)
    value = rf"\textbf{{{value}}}" if place in section.best(column) else value
    deviation = row.deviation(column)
    return value if np.isnan(deviation) else rf"{value}{{\tiny$\pm${_tight(f'{deviation:.3f}')}}}"


def _tight(numbers: str) -> str:
    """Without the zeros before points, as narrow columns want it."""
    return re.sub(r"(?<!\d)0\.", ".", numbers)


def _name(words: str) -> str:
    """The first cell of a line, a narrow paragraph."""
    return rf"\raggedright {escaped(words)}"


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    return " & ".join([_name(first), *map(escaped, others)]) + r" \\"
