"""All files of a report, from the runs that were found. matplotlib and pandas take a second to import."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

from aqa.reporting import charts, latex, writers
from aqa.reporting.collect import FinishedRun, runs_by_model
from aqa.reporting.drawing import drawn_as
from aqa.reporting.drawn import Drawn, begin
from aqa.reporting.naming import unique_names
from aqa.reporting.page import Ranked, render
from aqa.reporting.report import ALL_TARGETS, CSV, FIGURES, LATEX, MARKDOWN, PAGE
from aqa.reporting.searches import search_tables
from aqa.reporting.writers import PublishedNumbers
from aqa.system.files import write_table, write_text, written_together, written_whole


def write_report(
    found: Sequence[FinishedRun],
    notes: Sequence[str],
    out: Path,
    published: PublishedNumbers,
    title: str,
    pdf: bool,
    executor: Executor,
) -> Path:
    """Write the report of some runs; returns its page. notes: on runs, for the reader; executor: what works it out."""
    by_place, repeated = runs_by_model(found)
    with drawn_as(pdf):
        begun = begin(by_place, published, out, executor, pdf)
        sections = [section for section, _ in begun.sections]
        searches, unread = search_tables(found)
        tables = {
            MARKDOWN: writers.markdown(sections, published, searches),
            LATEX: latex.tables(sections, published),
            ALL_TARGETS: latex.all_targets(sections),
        }
        drawn, rankings = begun.finished()
    with written_together(out, last=PAGE) as parts:
        files = _write_figures(parts / FIGURES, drawn, rankings)
        for name, text in tables.items():
            write_text(parts / name, text)
        write_table(parts / CSV, writers.table(sections, published))
        notes = [*notes, *unread, *repeated]
        write_text(parts / PAGE, render(title, drawn, rankings, published, found, notes, searches, files))
    return out / PAGE


def _write_figures(folder: Path, drawn: Sequence[Drawn], rankings: Sequence[Ranked]) -> dict[tuple[str, ...], str]:
    """Write all figures into a new folder; returns the names of their files, without what says the format, by key."""
    folder.mkdir()
    figures = [*(figure for _, own in drawn for figure in own), *(ranked.figure for ranked in rankings)]
    names = unique_names([figure.key for figure in figures])
    for figure, name in zip(figures, names, strict=True):
        write_text(folder / f"{name}.svg", charts.unlinked(figure.svg).replace(charts.INK, "black"))
        if figure.drawing.pdf is not None:
            with written_whole(folder / f"{name}.pdf") as partial:
                partial.write_bytes(figure.drawing.pdf)
    return {figure.key: name for figure, name in zip(figures, names, strict=True)}
