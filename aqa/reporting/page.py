"""The report's HTML page: one file that opens from disk, with its figures, style and script inside."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from aqa.errors import printable
from aqa.evaluation.bootstrap import RESAMPLES
from aqa.evaluation.comparison import Ranking
from aqa.reporting import charts, writers
from aqa.reporting.choosing import choices
from aqa.reporting.collect import FinishedRun
from aqa.reporting.explained_videos import lacking_text
from aqa.reporting.naming import unique_names
from aqa.reporting.sections import ReportSection, Row
from aqa.reporting.tables import (
    PlainTable,
    further_tables,
    heading,
    marked,
    runs_table,
    selected_value,
    settings_text,
)
from aqa.reporting.writers import PublishedNumbers
from aqa.runs.table import number
from aqa.version import __version__

WIDE = 520  # points
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("aqa.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
)


@dataclass(frozen=True)
class Figure:
    """A drawing, what it is of (kind, data set, target), and what it shows."""

    key: tuple[str, ...]
    caption: str
    drawing: charts.Drawing

    @property
    def svg(self) -> str:
        """The drawing as an SVG element."""
        return self.drawing.svg

    @property
    def wide(self) -> bool:
        """Whether it cannot be read on a phone without scrolling."""
        width = re.search(r'width="([\d.]+)pt"', self.svg)
        return width is not None and float(width[1]) > WIDE


@dataclass(frozen=True)
class Ranked:
    """A ranking, what it is of, and its diagram."""

    title: str
    ranking: Ranking
    figure: Figure


def render(
    title: str,
    sections: Sequence[tuple[ReportSection, Sequence[Figure]]],
    rankings: Sequence[Ranked],
    published: PublishedNumbers,
    runs: Sequence[FinishedRun],
    warnings: Sequence[str],
    searches: Sequence[PlainTable] = (),
    files: Mapping[tuple[str, ...], str] | None = None,
) -> str:
    """The page. sections: by data set, the mean over targets before the targets, each with its figures.

    searches: tables of the searches that chose the settings of some runs. files: the names of figures' files by key.
    """
    names = list(dict.fromkeys(section.data_set for section, _ in sections))
    targets = sum(section.target is not None for section, _ in sections)
    script = asset("tables.js") + asset("report.js")
    return TEMPLATES.get_template("report.html.j2").render(
        title=title,
        summary=f"{len(runs)} runs; {targets} target{'s' * (targets > 1)} of {', '.join(names)}",
        on_test=any(row.on_test for section, _ in sections for row in section.rows),
        learned=any(row.learned for section, _ in sections for row in section.rows),
        warnings=list(map(printable, warnings)),
        data_sets=_data_sets(names, sections, published, files or {}),
        rankings=[
            {"title": r.title, "text": _ranking_text(r.ranking), **_figure(r.figure, files or {})} for r in rankings
        ],
        choices=choices([section for section, _ in sections]),
        runs=runs_table(runs),
        searches=searches,
        resamples=RESAMPLES,
        version=__version__,
        date=datetime.date.today().isoformat(),
        css=Markup(asset("report.css")),
        js=Markup(script),
        policy=policy(script),
    )


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    assert TEMPLATES.loader is not None
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]


def policy(script: str) -> str:
    """What the page may do: run its own script alone, show what is in it, and ask the network for nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = {"script-src": f"'sha256-{digest}'", "style-src": "'unsafe-inline'", "img-src": "data:"}
    allowed |= {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    return "; ".join(f"{kind} {source}" for kind, source in allowed.items())


def _inline(svg: str) -> Markup:
    """A figure whose ink is the page's own colour. It is made here, of text that matplotlib has escaped."""
    return Markup(svg.replace(charts.INK, "currentColor"))


def _data_sets(
    names: Sequence[str],
    sections: Sequence[tuple[ReportSection, Sequence[Figure]]],
    published: PublishedNumbers,
    files: Mapping[tuple[str, ...], str],
) -> list[dict[str, Any]]:
    own = {name: [pair for pair in sections if pair[0].data_set == name] for name in names}
    targets = [(name, section.target) for name in names for section, _ in own[name] if section.target is not None]
    keys = [*((name,) for name in names), *targets]
    anchors = dict(zip(keys, unique_names(keys, taken=("runs", "ranks", "searches", "choose", "compare")), strict=True))
    found = []
    for name in names:
        views = [
            {
                **_section(section, published, is_only=len(own[name]) == 1),
                "figures": [_figure(figure, files, section) for figure in figures],
                "anchor": anchors.get((name, str(section.target))),
                "is_mean": section.target is None,
            }
            for section, figures in own[name]
        ]
        mean = next((view for view in views if view["is_mean"]), None)
        targets_of = [view for view in views if not view["is_mean"]]
        found.append({"name": name, "anchor": anchors[name,], "mean": mean, "targets": targets_of})
    return found


def _figure(
    figure: Figure, files: Mapping[tuple[str, ...], str], section: ReportSection | None = None
) -> dict[str, Any]:
    """file: the name of its PDF in the folder of figures, without its ending; None where it has none."""
    svg = figure.svg if section is None else charts.linked(figure.svg, section)
    drawn = {"caption": figure.caption, "svg": _inline(svg), "wide": figure.wide}
    return {**drawn, "file": None if figure.drawing.pdf is None else files.get(figure.key)}


def _section(section: ReportSection, published: PublishedNumbers, is_only: bool) -> dict[str, Any]:
    columns = section.columns
    return {
        "title": section.title,
        "name": section.target or f"mean of {section.targets} targets",
        "open": is_only,
        "headings": [heading(column) for column in columns],
        "n": [writers.counts(section, column) for column in columns],
        "groups": [[_row(section, row) for row in group] for group in section.groups()],
        "published": [_published(section, row) for row in writers.of_section(published, section)],
        "notes": writers.notes_of(section, published),
        "settings": settings_text(section),
        "tables": further_tables(section),
        **_explanations(section),
    }


def _explanations(section: ReportSection) -> dict[str, Any]:
    """Whether videos lead to their explanations, and what is said of models without any."""
    found = [(marked(row), row.explained) for row in section.rows if row.explained is not None]
    lacking, commands = lacking_text(found)
    linked = any(each.anchors for _, each in found)
    return {"linked": linked, "lacking": lacking, "commands": commands}


def _row(section: ReportSection, row: Row) -> dict[str, Any]:
    place = section.rows.index(row)
    return {
        "label": row.label,
        "marked": marked(row),
        "on_test": row.on_test,
        "marks": row.marks,
        "selected_on": row.selected_on,
        "selected_value": selected_value(row),
        "selected_number": row.selected_value.value,
        "seeds": writers.seeds(row),
        "cells": [_cell(section, row, place, column) for column in section.columns],
    }


def _cell(section: ReportSection, row: Row, place: int, column: str) -> dict[str, Any] | None:
    """A cell of the main table; None if the row was not tested."""
    if column not in row.srcc:
        return None
    return {
        "column": column,
        "value": row.srcc[column].value,
        "text": writers.text(row.srcc[column].value),
        "best": place in section.best(column),
        "spread": writers.spread(row, column),
        "bounds": writers.bounds(row, column),
    }


def _published(section: ReportSection, row: Any) -> dict[str, Any]:
    known = row.by_column(section.modalities, section.columns)
    cells = [{"value": known.get(c, "NaN"), "text": number(known[c]) if c in known else ""} for c in section.columns]
    return {"label": row.label, "on_test": row.on_test, "selected_on": row.selected_on, "cells": cells}


def _ranking_text(found: Ranking) -> str:
    words = f"{found.targets} targets, {len(found.ranks)} models. Friedman's chi square {found.statistic:.2f}, "
    words += f"p = {found.p_value:.2g}. Critical difference of mean ranks {found.critical_difference:.2f}. Mean ranks: "
    words += "; ".join(f"{model} {rank:.2f}" for model, rank in found.ranks.items()) + "."
    if found.left_out:
        words += f" Left out, for want of a number for every model: {', '.join(found.left_out)}."
    return words
