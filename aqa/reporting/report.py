"""From finished runs to a report: the page, and the main table for papers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aqa.reporting.collect import folders_of, read_runs
from aqa.reporting.processes import processes
from aqa.reporting.published import published_rows
from aqa.runs.folder import changes_of_stores
from aqa.system.files import refuse_existing_together
from aqa.system.garbage import uncollected
from aqa.system.saying import Say, silent
from aqa.system.signals import uninterrupted

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
    folders = folders_of(runs)
    count = sum(map(len, folders.values()))
    with uncollected():  # what is read and worked out is needed until the end
        with processes(count) as executor:
            found, left_out = read_runs(folders, executor, meanwhile=_import_all)
        changes = changes_of_stores((run.folder, run.origin) for run in found)
        for line in changes:
            say(line)
        from aqa.reporting.written import write_report

        with processes(count) as executor:  # which have what was imported
            return write_report(found, [*changes, *left_out], out, known, title, pdf, executor)


def _import_all() -> None:
    with uninterrupted():  # or a library's own beginning is left in the middle
        import aqa.reporting.written  # noqa: F401
