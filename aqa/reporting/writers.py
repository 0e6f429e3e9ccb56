"""The main table of a report as Markdown, LaTeX and CSV: rows models, columns patterns and their average."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from aqa.errors import printable
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import AVERAGE, ReportSection, Row
from aqa.runs.table import UNDEFINED, interval, number

Published = Sequence[PublishedRow]
NOT_TESTED = "-"  # in the cells of patterns under which a row was not tested by every seed
ON_TEST = "† the epoch was selected on the test split: not comparable with the others"
CAPTION = (
    "SRCC on the test split. Mean over seeds (Fisher z) ± standard deviation over seeds, and the 95 % bootstrap "
    "interval over test videos. Best of the comparable rows in bold."
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
    return interval(low, high, found.why_none)


def seeds(row: Row) -> str:
    """How many seeds; targets may have been run with different ones."""
    return str(len(row.seeds)) if row.seeds else "differ"


def counts(section: ReportSection, column: str) -> str:
    """How many videos were scored, by all models or from the fewest to the most."""
    n = {row.n[column] for row in section.rows if column in row.n}
    return "" if not n else "-".join(str(v) for v in sorted({min(n), max(n)}))


def heading(column: str) -> str:
    """A column's name."""
    return "mean of incomplete" if column == AVERAGE else column


def of_section(published: Published, section: ReportSection) -> list[PublishedRow]:
    """Published numbers on a section's target."""
    return [row for row in published if (row.data_set, row.target) == (section.data_set, section.target)]


def markdown(sections: Sequence[ReportSection], published: Published) -> str:
    """A table a section."""
    parts = ["# SRCC by missing pattern", CAPTION]
    for section in sections:
        columns = section.columns
        lines = [
            ["model", *map(heading, columns), "seeds", "selected on"],
            ["---"] * (len(columns) + 3),
            ["*n*", *(counts(section, column) for column in columns), "", ""],
        ]
        for place, row in enumerate(section.rows):
            cells = [_markdown_cell(section, row, place, column) for column in columns]
            lines.append([_marked(row), *cells, seeds(row), row.selected_on])
        for other in of_section(published, section):
            lines.append([f"*{_marked(other)}*", *_reported(other, section), "", other.selected_on])
        table = "\n".join("| " + " | ".join(map(_md, line)) + " |" for line in lines)
        parts += [f"## {_md(section.title)}", table, *map(_md, notes_of(section, published))]
    return "\n\n".join(parts) + "\n"


def _md(words: str) -> str:
    """Words as Markdown shows them: no cell ends in them, and no HTML begins."""
    return printable(words).replace("|", "\\|").replace("<", "&lt;")


def _reported(other: PublishedRow, section: ReportSection) -> list[str]:
    """Published numbers by column."""
    known = other.by_column(section.modalities, section.columns)
    return [text(known[column]) if column in known else "" for column in section.columns]


def _markdown_cell(section: ReportSection, row: Row, place: int, column: str) -> str:
    if column not in row.srcc:
        return NOT_TESTED
    value = text(row.srcc[column].value)
    value = f"**{value}**" if place in section.best(column) else value
    return " ".join(part for part in (value, spread(row, column), bounds(row, column)) if part)


def notes_of(section: ReportSection, published: Published) -> list[str]:
    """What must be said under a section's table."""
    others = of_section(published, section)
    notes = [f"{other.label}: {other.source}" + (f"; {other.note}" if other.note else "") for other in others]
    on_test = [ON_TEST] if _any_on_test(section.rows) or _any_on_test(others) else []
    return [*on_test, *_average_notes(section), *untested_notes(section), *notes]


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
            notes.append(f"{_marked(row)}: {who} under {', '.join(names)} (cells with {NOT_TESTED})")
        if AVERAGE in section.columns and AVERAGE not in row.srcc:
            notes.append(f"{_marked(row)}: no mean of incomplete, which is over {', '.join(section.averaged)}")
    return notes


def _any_on_test(rows: Sequence[Row] | Published) -> bool:
    return any(row.on_test for row in rows)


def _marked(row: Row | PublishedRow) -> str:
    return row.label + (" †" if row.on_test else "")


def latex(sections: Sequence[ReportSection], published: Published) -> str:
    """A booktabs table a section; each model takes two lines, the second its intervals."""
    parts = [f"% {CAPTION}\n% \\usepackage{{booktabs}}; Mean: over the incomplete patterns"]
    for section in sections:
        columns = section.columns
        lines = [
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_tex(section.title)}. {_tex(' '.join([CAPTION, *notes_of(section, published)]))}}}",
            rf"\begin{{tabular}}{{p{{2.6cm}}{'c' * len(columns)}c}}",
            r"\toprule",
            _tex_line(["Model", *("Mean" if column == AVERAGE else column for column in columns), "Seeds"]),
            _tex_line(["$n$", *(counts(section, column) for column in columns), ""]),
            r"\midrule",
        ]
        for place, row in enumerate(section.rows):
            cells = [_tex_cell(section, row, place, column) for column in columns]
            lines.append(f"{_tex(_marked(row))} & {' & '.join(cells)} & {seeds(row)} \\\\")
            small = [rf"{{\tiny {_tight(bounds(row, c))}}}" if c in row.srcc else "" for c in columns]
            lines.append(f" & {' & '.join(small)} & \\\\")
        others = of_section(published, section)
        lines += [r"\midrule"] if others else []
        for other in others:
            lines.append(_tex_line([_marked(other), *_reported(other, section), ""]))
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"]))
    return "\n\n".join(parts) + "\n"


def _tex_cell(section: ReportSection, row: Row, place: int, column: str) -> str:
    if column not in row.srcc:
        return NOT_TESTED
    value = text(row.srcc[column].value)
    value = rf"\textbf{{{value}}}" if place in section.best(column) else value
    deviation = row.deviation(column)
    return value if np.isnan(deviation) else rf"{value}{{\tiny$\pm${_tight(f'{deviation:.3f}')}}}"


def _tight(numbers: str) -> str:
    """Without the zeros before points, as narrow columns want it."""
    return re.sub(r"(?<!\d)0\.", ".", numbers)


def _tex_line(cells: Sequence[str]) -> str:
    return " & ".join(cell if cell == "$n$" else _tex(cell) for cell in cells) + r" \\"


SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"$\dagger$",
    "±": r"$\pm$",
}


def _tex(words: str) -> str:
    return "".join(SPECIAL.get(c, c) for c in printable(words))


def table(sections: Sequence[ReportSection], published: Published) -> pd.DataFrame:
    """A line a model and target, for CSV: SRCC by column, with sd, low, high and n; full precision, undefined empty."""
    lines = []
    for section in sections:
        for place, row in enumerate(section.rows):
            lines.append({**_about(section, row, "aqa"), "seeds": seeds(row), **_numbers(section, row, place)})
        for other in of_section(published, section):
            lines.append(
                {**_about(section, other, other.source), **other.by_column(section.modalities, section.columns)}
            )
    return pd.DataFrame(lines)


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
    return found
