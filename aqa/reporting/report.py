"""From finished runs to a report: the page, and the main table for papers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.comparison import draw_videos, rank_models
from aqa.reporting import charts, latex, writers
from aqa.reporting.collect import ModelRuns, Place, find_runs, read_scores, runs_by_model
from aqa.reporting.explained_videos import explained_videos
from aqa.reporting.naming import unique_names
from aqa.reporting.page import Figure, Ranked, render
from aqa.reporting.published import published_rows
from aqa.reporting.searches import search_tables
from aqa.reporting.sections import ReportSection, mean_section, target_section
from aqa.reporting.writers import PublishedNumbers
from aqa.runs.folder import changes_of_stores
from aqa.system.files import refuse_existing_together, write_table, write_text, written_together, written_whole
from aqa.system.saying import Say, silent

Drawn = tuple[ReportSection, list[Figure]]

MANY = 100  # runs, from which on it is worth starting processes
PAGE, MARKDOWN, LATEX, CSV, FIGURES = "index.html", "tables.md", "tables.tex", "tables.csv", "figures"
ALL_TARGETS = "all_targets.tex"


def report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    published: str | os.PathLike[str] | None = None,
    title: str = "Scores with missing modalities",
    overwrite: bool = False,
    say: Say = silent,
) -> Path:
    """Write a report of finished runs; returns its page.

    runs: folders of runs, or folders with runs below them. out: the report's folder. published: a YAML file of numbers
    reported by others, beside those that the project knows. AqaError for any mistake; what is in the folder is not
    overwritten unless asked.
    """
    out = Path(out)
    refuse_existing_together(out, (PAGE, MARKDOWN, LATEX, ALL_TARGETS, CSV, FIGURES), overwrite)
    known = [*published_rows(), *(published_rows(published) if published is not None else [])]
    found, warnings = find_runs(runs)
    changes = changes_of_stores([run.folder for run in found])
    for line in changes:
        say(line)
    by_place, repeated = runs_by_model(found)
    jobs = (os.cpu_count() or 1) if len(found) >= MANY else 1
    drawn = [pair for own in _by_data_set(by_place) for pair in _drawn_sections(own, known, jobs, out)]
    sections = [section for section, _ in drawn]
    rankings = rankings_of(sections)
    searches, unread = search_tables(found)
    with written_together(out, last=PAGE) as parts:
        (parts / FIGURES).mkdir()
        figures = [*(figure for _, own in drawn for figure in own), *(ranked.figure for ranked in rankings)]
        names = unique_names([figure.key for figure in figures])
        for figure, name in zip(figures, names, strict=True):
            write_text(parts / FIGURES / f"{name}.svg", charts.unlinked(figure.svg).replace(charts.INK, "black"))
            with written_whole(parts / FIGURES / f"{name}.pdf") as partial:
                partial.write_bytes(figure.drawing.pdf)
        write_text(parts / MARKDOWN, writers.markdown(sections, known, searches))
        write_text(parts / LATEX, latex.tables(sections, known))
        write_text(parts / ALL_TARGETS, latex.all_targets(sections))
        write_table(parts / CSV, writers.table(sections, known))
        files = {figure.key: name for figure, name in zip(figures, names, strict=True)}
        notes = [*changes, *warnings, *unread, *repeated]
        write_text(parts / PAGE, render(title, drawn, rankings, known, found, notes, searches, files))
    return out / PAGE


def _by_data_set(by_place: Mapping[Place, list[ModelRuns]]) -> list[dict[Place, list[ModelRuns]]]:
    names = dict.fromkeys(place.data_set for place in by_place)
    return [{place: found for place, found in by_place.items() if place.data_set == name} for name in names]


def _drawn_sections(
    by_place: Mapping[Place, list[ModelRuns]], published: PublishedNumbers, jobs: int, out: Path
) -> list[Drawn]:
    """A data set's sections with their figures: the mean over its targets, where there are several, then each."""
    counts = draw_videos({place.target: read_scores(own[0].first).drawn for place, own in by_place.items()})
    tasks = (
        joblib.delayed(_drawn_target)(place, own, counts[place.target], published, out)
        for place, own in by_place.items()
    )
    targets = list(joblib.Parallel(n_jobs=jobs)(tasks))
    whole = mean_section([section for section, _ in targets]) if len(targets) > 1 else None
    return [*([_drawn(whole, published)] if whole is not None and whole.rows else []), *targets]


def _drawn_target(
    place: Place, found: list[ModelRuns], counts: Floats, published: PublishedNumbers, out: Path
) -> Drawn:
    section = target_section(place, found, counts)
    rows = [
        replace(row, explained=explained_videos(own.first.folder, out))
        for row, own in zip(section.rows, found, strict=True)
    ]
    return _drawn(replace(section, rows=rows), published)


def _drawn(section: ReportSection, published: PublishedNumbers) -> Drawn:
    return section, figures_of(section, writers.of_section(published, section))


FIGURE_KINDS: dict[str, tuple[Callable[[ReportSection], charts.Drawing | None], str]] = {
    "missing": (charts.srcc_by_missing, "SRCC against the missing rate in testing"),
    "worth": (charts.worth_of_modalities, "What each modality is worth: SRCC lost when it goes"),
    "predicted": (charts.predicted_against_true, "Predicted against true scores, nothing missing, lowest seed"),
    "reliability": (
        charts.reliability_by_pattern,
        "How often intervals hold the label (bars: 95 % binomial intervals)",
    ),
    "widths": (charts.interval_widths, "Mean width of the intervals by what is visible"),
    "router": (charts.router_weights, "Router weights by pattern: which expert (column) each stream (row) listens to"),
}


def figures_of(section: ReportSection, published: PublishedNumbers) -> list[Figure]:
    """The figures that a section has something for."""
    whose = (section.target,) if section.target is not None else (f"mean of {section.targets} targets", "")
    drawn: dict[str, tuple[charts.Drawing | None, str]]
    drawn = {"patterns": (charts.srcc_by_pattern(section, published), "SRCC by missing pattern, with 95 % intervals")}
    drawn |= {kind: (draw(section), caption) for kind, (draw, caption) in FIGURE_KINDS.items()}
    return [
        Figure((kind, section.data_set, *whose), caption, drawing)
        for kind, (drawing, caption) in drawn.items()
        if drawing is not None
    ]


def rankings_of(sections: Sequence[ReportSection]) -> list[Ranked]:
    """Models ranked over targets: of each data set, and of all where there are several; by how epochs were selected.

    By the mean of incomplete patterns, and with nothing missing.
    """
    targets = [section for section in sections if section.target is not None]
    sets = {name: [s for s in targets if s.data_set == name] for name in dict.fromkeys(s.data_set for s in targets)}
    if len(sets) > 1:
        sets["all data sets"] = targets
    found = []
    for name, own in sets.items():
        for on_test in (False, True):
            for column, words in ((writers.AVERAGE, "mean of incomplete patterns"), (None, "nothing missing")):
                ranking = rank_models(_scores(own, on_test, column))
                if ranking is not None:
                    title = f"{name}, {words}" + (", selected on TEST, or perhaps so (imported) †" if on_test else "")
                    drawing = charts.critical_difference(ranking, title)
                    found.append(Ranked(title, ranking, Figure(("ranks", title), title, drawing)))
    return found


def _scores(sections: Sequence[ReportSection], on_test: bool, column: str | None) -> pd.DataFrame:
    """SRCC of the models that all sections have (targets x models); column: nothing missing, where it is None."""
    lines = {
        section.title: {
            row.label: row.srcc[name].value if name in row.srcc else np.nan
            for row in section.rows
            if row.on_test == on_test
        }
        for section in sections
        for name in [column or section.complete]
    }
    table = pd.DataFrame.from_dict(lines, orient="index").dropna(axis=1, how="all")
    everywhere = [model for model in table if all(model in line for line in lines.values())]
    return table[everywhere]
