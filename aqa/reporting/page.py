"""The report's HTML page: one file that opens from disk, with its figures, style and script inside."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from aqa.errors import printable
from aqa.evaluation.comparison import RESAMPLES, Estimate, Ranking
from aqa.reporting import charts, writers
from aqa.reporting.collect import FinishedRun
from aqa.reporting.sections import ReportSection, Row, differences, verdict
from aqa.reporting.writers import Published
from aqa.runs.table import number
from aqa.version import __version__

WIDE = 520  # points
TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("aqa.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
)


@dataclass(frozen=True)
class Figure:
    """An SVG element, the name of its file, and what it shows."""

    name: str
    caption: str
    svg: str

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
    published: Published,
    runs: Sequence[FinishedRun],
    warnings: Sequence[str],
) -> str:
    """The page. sections: by data set, the mean over targets before the targets, each with its figures."""
    names = list(dict.fromkeys(section.data_set for section, _ in sections))
    targets = sum(section.target is not None for section, _ in sections)
    return TEMPLATES.get_template("report.html.j2").render(
        title=title,
        summary=f"{len(runs)} runs; {targets} target{'s' * (targets > 1)} of {', '.join(names)}",
        on_test=any(row.on_test for section, _ in sections for row in section.rows),
        warnings=list(map(printable, warnings)),
        data_sets=[_data_set(name, sections, published) for name in names],
        rankings=[{"title": r.title, "text": _ranking_text(r.ranking), "svg": _inline(r.figure.svg)} for r in rankings],
        runs=_runs_table(runs),
        resamples=RESAMPLES,
        version=__version__,
        date=datetime.date.today().isoformat(),
        css=Markup(_asset("report.css")),
        js=Markup(_asset("report.js")),
        policy=_policy(_asset("report.js")),
    )


def _asset(name: str) -> str:
    assert TEMPLATES.loader is not None
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]


def _policy(script: str) -> str:
    """What the page may do: run its own script alone, show what is in it, and ask the network for nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = {"script-src": f"'sha256-{digest}'", "style-src": "'unsafe-inline'", "img-src": "data:"}
    allowed |= {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'"}
    return "; ".join(f"{kind} {source}" for kind, source in allowed.items())


def _inline(svg: str) -> Markup:
    """A figure whose ink is the page's own colour. It is made here, of text that matplotlib has escaped."""
    return Markup(svg.replace(charts.INK, "currentColor"))


def _data_set(
    name: str, sections: Sequence[tuple[ReportSection, Sequence[Figure]]], published: Published
) -> dict[str, Any]:
    own = [(section, figures) for section, figures in sections if section.data_set == name]
    views = [_section(section, figures, published, is_only=len(own) == 1) for section, figures in own]
    return {
        "name": name,
        "anchor": name,
        "mean": next((view for view, (section, _) in zip(views, own, strict=True) if section.target is None), None),
        "targets": [view for view, (section, _) in zip(views, own, strict=True) if section.target is not None],
    }


def _section(section: ReportSection, figures: Sequence[Figure], published: Published, is_only: bool) -> dict[str, Any]:
    columns = section.columns
    return {
        "title": section.title,
        "name": section.target or f"mean of {section.targets} targets",
        "anchor": f"{section.data_set}-{section.target}",
        "open": is_only,
        "headings": [writers.heading(column) for column in columns],
        "n": [writers.counts(section, column) for column in columns],
        "groups": [[_row(section, row) for row in group] for group in section.groups()],
        "published": [_published(section, row) for row in writers.of_section(published, section)],
        "notes": writers.notes_of(section, published),
        "figures": [{"caption": f.caption, "svg": _inline(f.svg), "wide": f.wide} for f in figures],
        "tables": [table for table in (_differences(section), _errors(section)) if table["lines"]],
    }


def _row(section: ReportSection, row: Row) -> dict[str, Any]:
    place = section.rows.index(row)
    return {
        "label": row.label,
        "on_test": row.on_test,
        "selected_on": row.selected_on,
        "seeds": writers.seeds(row),
        "cells": [_cell(section, row, place, column) for column in section.columns],
    }


def _cell(section: ReportSection, row: Row, place: int, column: str) -> dict[str, Any] | None:
    """A cell of the main table; None where the row was not tested."""
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


def _differences(section: ReportSection) -> dict[str, Any]:
    """Every pair of comparable models, everything visible and on average."""
    columns = [c for c in (section.complete, writers.AVERAGE) if c in section.columns]
    pairs: dict[tuple[str, str], dict[str, Estimate]] = {}
    for column in columns:
        for one, other, difference in differences(section, column):
            pairs.setdefault((one.label, other.label), {})[column] = difference
    lines = [
        [_text(f"{one} - {other}"), *(cell for column in columns for cell in _difference(found.get(column)))]
        for (one, other), found in pairs.items()
    ]
    headings = [h for column in columns for h in (writers.heading(column), "95 % interval")]
    return {
        "title": "Model against model",
        "caption": "Differences of SRCC, paired on the same test videos",
        "headings": ["models", *headings],
        "lines": lines,
    }


def _difference(found: Estimate | None) -> list[dict[str, Any]]:
    if found is None:
        return [_text(""), _text("")]
    low, high = found.interval[:2]
    shown = f"{found.value:+.3f}" if not np.isnan(found.value) else writers.text(found.value)
    bounds = f"[{low:+.3f}, {high:+.3f}]" if not np.isnan(low) else f"[{verdict(found)}]"
    return [_number(found.value, shown), _number(low, bounds)]


def _errors(section: ReportSection) -> dict[str, Any]:
    """Mean squared error and relative L2, means over seeds."""
    patterns = section.patterns
    lines = []
    for row in section.rows:
        for name, found in (("MSE", row.mse), ("R-l2 %", row.rl2)):
            if found:
                cells = [_number(found[p], f"{found[p]:.3f}") if p in found else _text("") for p in patterns]
                lines.append([_text(row.label + (" †" if row.on_test else "")), _text(name), *cells])
    return {
        "title": "MSE and relative L2",
        "caption": "Means over seeds; MSE in squared units of the target",
        "headings": ["model", "error", *patterns],
        "lines": lines,
    }


def _runs_table(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    lines = []
    for run in runs:
        metrics, selection = run.metrics, run.metrics["selection"]
        first, scores = next(iter(metrics["patterns"].items()))
        average = metrics["average_incomplete"]
        lines.append(
            [
                _text(printable(str(run.folder))),
                _text(f"{run.place.data_set} {run.place.target}"),
                _text(str(metrics["model"])),
                _number(run.seed, str(run.seed)),
                _text("TEST †" if run.selected_on == "test" else run.selected_on),
                _number(selection["epoch"], f"{selection['epoch']} of {selection['epochs']}"),
                _number(scores["srcc"], f"{first} {number(scores['srcc'])}"),
                _number(average["srcc"], number(average["srcc"]) if average["patterns"] else ""),
            ]
        )
    headings = ["run", "target", "model", "seed", "selected on", "epoch", "SRCC, first pattern", "mean of incomplete"]
    return {"caption": "As each run reported them", "headings": headings, "lines": lines}


def _ranking_text(found: Ranking) -> str:
    words = f"{found.targets} targets, {len(found.ranks)} models. Friedman's chi square {found.statistic:.2f}, "
    words += f"p = {found.p_value:.2g}. Critical difference of mean ranks {found.critical_difference:.2f}. Mean ranks: "
    words += "; ".join(f"{model} {rank:.2f}" for model, rank in found.ranks.items()) + "."
    if found.left_out:
        words += f" Left out, for want of a number for every model: {', '.join(found.left_out)}."
    return words


def _text(words: str) -> dict[str, Any]:
    return {"text": words, "value": None}


def _number(value: float | None, words: str) -> dict[str, Any]:
    return {"text": words, "value": "NaN" if value is None else value}
