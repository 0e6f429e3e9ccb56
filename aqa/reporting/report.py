"""From finished runs to a report: the page, and the main table for papers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aqa.reporting import charts, latex, writers
from aqa.reporting.collect import find_runs, run_folders, runs_by_model
from aqa.reporting.drawing import drawn_as
from aqa.reporting.drawn import Drawn, begin
from aqa.reporting.naming import unique_names
from aqa.reporting.page import Ranked, render
from aqa.reporting.processes import processes
from aqa.reporting.published import published_rows
from aqa.reporting.searches import search_tables
from aqa.runs.folder import changes_of_stores
from aqa.system.files import refuse_existing_together, write_table, write_text, written_together, written_whole
from aqa.system.saying import Say, silent

PAGE, MARKDOWN, LATEX, CSV, FIGURES = "index.html", "tables.md", "tables.tex", "tables.csv", "figures"
ALL_TARGETS = "all_targets.tex"


def report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    published: str | os.PathLike[str] | None = None,
    title: str = "Scores with missing modalities",
    pdf: bool = True,
    overwrite: bool = False,
    say: Say = silent,
) -> Path:
    """Write a report of finished runs; returns its page.

    runs: folders of runs, or folders with runs below them. out: the report's folder. published: a YAML file of numbers
    reported by others, beside those that the project knows. pdf: whether figures are written as PDF too. AqaError for
    any mistake; what is in the folder is not overwritten unless asked.
    """
    out = Path(out)
    refuse_existing_together(out, (PAGE, MARKDOWN, LATEX, ALL_TARGETS, CSV, FIGURES), overwrite)
    known = [*published_rows(), *(published_rows(published) if published is not None else [])]
    with processes(sum(1 for path in runs for _ in run_folders(Path(path)))) as executor, drawn_as(pdf):
        found, warnings = find_runs(runs, executor)
        changes = changes_of_stores((run.folder, run.origin) for run in found)
        for line in changes:
            say(line)
        by_place, repeated = runs_by_model(found)
        begun = begin(by_place, known, out, executor, pdf)
        sections = [section for section, _ in begun.sections]
        searches, unread = search_tables(found)
        tables = {
            MARKDOWN: writers.markdown(sections, known, searches),
            LATEX: latex.tables(sections, known),
            ALL_TARGETS: latex.all_targets(sections),
        }
        drawn, rankings = begun.finished()
    with written_together(out, last=PAGE) as parts:
        files = _write_figures(parts / FIGURES, drawn, rankings)
        for name, text in tables.items():
            write_text(parts / name, text)
        write_table(parts / CSV, writers.table(sections, known))
        notes = [*changes, *warnings, *unread, *repeated]
        write_text(parts / PAGE, render(title, drawn, rankings, known, found, notes, searches, files))
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
