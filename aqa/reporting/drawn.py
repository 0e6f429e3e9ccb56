"""The sections of a report, its rankings and their figures, worked out in several processes where runs are many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.comparison import Ranking, draw_videos, rank_models
from aqa.reporting import charts, writers
from aqa.reporting.collect import ModelRuns, Place, read_scores
from aqa.reporting.columns import AVERAGE
from aqa.reporting.drawing import Drawing, drawn_as
from aqa.reporting.explained_videos import explained_videos
from aqa.reporting.page import Figure, Ranked
from aqa.reporting.ranks import critical_difference
from aqa.reporting.sections import ReportSection, mean_section, target_section
from aqa.reporting.writers import PublishedNumbers

Drawn = tuple[ReportSection, list[Figure]]
ByPlace = Mapping[Place, list[ModelRuns]]


@dataclass(frozen=True)
class Begun:
    """What is known before all figures are: the sections in order, with the figures of each, and rankings."""

    sections: list[tuple[ReportSection, Future[list[Figure]]]]
    rankings: list[tuple[str, Ranking]]

    def finished(self) -> tuple[list[Drawn], list[Ranked]]:
        """The sections and rankings, when all figures are drawn."""
        ranked = [
            Ranked(title, ranking, Figure(("ranks", title), title, critical_difference(ranking, title)))
            for title, ranking in self.rankings
        ]
        return [(section, figures.result()) for section, figures in self.sections], ranked


def begin(by_place: ByPlace, published: PublishedNumbers, out: Path, executor: Executor, pdf: bool) -> Begun:
    """A data set's sections after another: the mean over its targets, where there are several, then each.

    pdf: whether figures are drawn as PDF too.
    """
    counts = {place: drawn for own in _by_data_set(by_place) for place, drawn in _drawn_videos(own).items()}
    sizes = {place: len(counts[place]) * sum(len(model.runs) for model in own) for place, own in by_place.items()}
    largest_first = sorted(by_place, key=lambda place: -sizes[place])  # one at the end would be waited for
    begun = {place: executor.submit(_numbers, place, by_place[place], counts[place], out) for place in largest_first}
    targets = {place: begun[place].result() for place in by_place}
    sections = []
    for own in _by_data_set(by_place):
        whole = mean_section([targets[place] for place in own]) if len(own) > 1 else None
        sections += [whole] if whole is not None and whole.rows else []
        sections += [targets[place] for place in own]
    drawn = [(section, executor.submit(figures_of, section, published, pdf)) for section in sections]
    return Begun(drawn, rankings_of(sections))


def _by_data_set(by_place: ByPlace) -> list[dict[Place, list[ModelRuns]]]:
    names = dict.fromkeys(place.data_set for place in by_place)
    return [{place: found for place, found in by_place.items() if place.data_set == name} for name in names]


def _drawn_videos(by_place: ByPlace) -> dict[Place, Floats]:
    """How often each test video of each target of a data set was drawn."""
    counts = draw_videos({place.target: read_scores(own[0].first).drawn for place, own in by_place.items()})
    return {place: counts[place.target] for place in by_place}


def _numbers(place: Place, found: list[ModelRuns], counts: Floats, out: Path) -> ReportSection:
    section = target_section(place, found, counts)
    rows = [
        replace(row, explained=explained_videos(own.first.folder, out))
        for row, own in zip(section.rows, found, strict=True)
    ]
    return replace(section, rows=rows)


FIGURE_KINDS: dict[str, tuple[Callable[[ReportSection], Drawing | None], str]] = {
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


def figures_of(section: ReportSection, published: PublishedNumbers, pdf: bool = True) -> list[Figure]:
    """The figures that a section has something for. published: all numbers that others have reported."""
    with drawn_as(pdf):
        return _figures_of(section, published)


def _figures_of(section: ReportSection, published: PublishedNumbers) -> list[Figure]:
    whose = (section.target,) if section.target is not None else (f"mean of {section.targets} targets", "")
    others = writers.of_section(published, section)
    drawn: dict[str, tuple[Drawing | None, str]]
    drawn = {"patterns": (charts.srcc_by_pattern(section, others), "SRCC by missing pattern, with 95 % intervals")}
    drawn |= {kind: (draw(section), caption) for kind, (draw, caption) in FIGURE_KINDS.items()}
    return [
        Figure((kind, section.data_set, *whose), caption, drawing)
        for kind, (drawing, caption) in drawn.items()
        if drawing is not None
    ]


def rankings_of(sections: Sequence[ReportSection]) -> list[tuple[str, Ranking]]:
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
            for column, words in ((AVERAGE, "mean of incomplete patterns"), (None, "nothing missing")):
                ranking = rank_models(_scores(own, on_test, column))
                if ranking is not None:
                    selected = ", selected on TEST, or perhaps so (imported) †" if on_test else ""
                    found.append((f"{name}, {words}{selected}", ranking))
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
