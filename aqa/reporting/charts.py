"""The figures of a report, a function for each, in an ink that the page colours for light and for dark."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from aqa.drawing.boxes import WeightCell, weight_colours, write_weights
from aqa.drawing.frames import (
    BETWEEN,
    EDGE,
    Ends,
    Frame,
    ends_of,
    numbers_below,
    numbers_beside,
    outline,
    room_beside,
    ticks_below,
    ticks_of,
)
from aqa.drawing.marks import band, bars, levels, upright_lines
from aqa.drawing.panels import Panels, width_of_panels
from aqa.drawing.places import NamedPlaces
from aqa.drawing.words import Words, fitted, width_of, word
from aqa.errors import printable
from aqa.evaluation.comparison import Estimate
from aqa.evaluation.metrics import srcc
from aqa.modalities import find_subset, initials
from aqa.reporting.columns import AVERAGE
from aqa.reporting.drawing import Drawing, finished, styled
from aqa.reporting.intervals import PatternIntervals
from aqa.reporting.legends import add_legend, height_for
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import ReportSection, Row, missing_curve
from aqa.runs.table import number
from aqa.system.files import plain

INK = "#010203"  # what no figure uses otherwise: the page puts its own text colour there
GREY, BEST = "#8a8a8a", "#c0392b"
# Paul Tol's bright and muted schemes: told apart by the colour-blind, seen on light and on dark.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ddaa33", "#44aa99", "#999933", "#bb5566")
MOST_PANELS, MOST_ROUTERS, MOST_TICKS = 8, 3, 9
SIZE, BELOW = 9, 0.5  # points of words; inches for the numbers of an axis and its name
MOST_WIDTH = 14.0  # inches
LEVELS, SHARES = (0.385, 1.015), (0.35, 1.02)  # what the axes of reliability go from and to, unless a share is lower
_DOT = re.compile(r'<a xlink:href="dot-(\d+)-(\d+)"[^>]*>')  # a dot that is to be linked, as matplotlib writes it
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # fonts that journals take, and whose text can be searched
    "text.parse_math": False,  # names come from files, and a dollar in one is a dollar
    "text.color": INK,
    "figure.facecolor": "none",
    "lines.markersize": 5.3,
}


def srcc_by_pattern(section: ReportSection, published: Sequence[PublishedRow]) -> Drawing:
    """Bars by pattern and model with their intervals; published numbers and the best possible as marks."""
    columns = section.columns
    reported = [other.by_column(section.modalities, columns) for other in published]
    best = {x: section.ceiling[name] for x, name in enumerate(columns) if name in section.ceiling}
    beside = [*best.values(), *(value for values in reported for value in values.values())]
    heights = [{x: row.srcc[name] for x, name in enumerate(columns) if name in row.srcc} for row in section.rows]
    theirs = [other.label + (" †" if other.on_test else "") for other in published]
    with styled(STYLE):
        shown = ["mean" if name == AVERAGE else name for name in columns]
        names = [*map(_name, section.rows), *theirs, *["best possible"] * bool(best)]
        width = max(6.0, 0.16 * len(columns) * len(section.rows) + 2.5)
        frame = _by_name(width, shown, _ends_from_zero(heights, beside), "SRCC, 95 % interval", names)
        entries = _bars_by_model(frame, list(enumerate(section.rows)), heights)
        for i, (name, values) in enumerate(zip(theirs, reported, strict=True)):
            at, marker = [columns.index(column) for column in values], "dPX*"[i % 4]
            marks = frame.line(at, list(values.values()), linestyle="none", marker=marker, color=INK, zorder=3)
            entries.append((marks, name))
        if best:
            entries.append((levels(frame, best, color=BEST, linewidth=1.5), "best possible"))
        add_legend(frame.figure, entries)
        return finished(frame.figure, "patterns", *_key(section))


def srcc_by_missing(section: ReportSection) -> Drawing | None:
    """SRCC against the share of modalities that is missing in testing, a line per model."""
    curves = [(i, row, missing_curve(row, section.modalities)) for i, row in enumerate(section.rows)]
    curves = [(i, row, curve) for i, row, curve in curves if len(curve) > 1]
    if not curves:
        return None
    found = [estimate for _, _, curve in curves for _, estimate in curve]
    x = ends_of([share for _, _, curve in curves for share, _ in curve])
    y = ends_of(_values(found), [estimate.interval[:2] for estimate in found])
    with styled(STYLE):
        width, up = 6.0, ticks_of(y, MOST_TICKS)
        legend = height_for([_name(row) for _, row, _ in curves], width)
        frame = _frame(width, x, y, up, "SRCC, 95 % interval", legend + BELOW, room_beside(up, SIZE))
        along = ticks_below(frame, SIZE, MOST_TICKS)
        outline([frame], list(along), list(up), INK)
        numbers_below([frame], along, SIZE)
        word(frame.figure, frame.middle[0], legend + EDGE, "missing rate in testing (share of modalities)", SIZE, up=0)
        entries = []
        for i, row, curve in curves:
            shares, estimates = [share for share, _ in curve], [estimate for _, estimate in curve]
            lows, highs = zip(*(estimate.interval[:2] for estimate in estimates), strict=True)
            band(frame, shares, lows, highs, _colour(i))
            entries.append((frame.line(shares, _values(estimates), **_line(i, row, markersize=4)), _name(row)))
        add_legend(frame.figure, entries)
        return finished(frame.figure, "missing", *_key(section))


def worth_of_modalities(section: ReportSection) -> Drawing | None:
    """What SRCC loses when one modality goes, bars by modality and model."""
    rows = [(i, row) for i, row in enumerate(section.rows) if row.worth]
    if not rows:
        return None
    modalities = section.modalities
    heights = [{x: row.worth[name] for x, name in enumerate(modalities) if name in row.worth} for _, row in rows]
    with styled(STYLE):
        width = max(5.0, 0.3 * len(modalities) * len(rows) + 2)
        names = [_name(row) for _, row in rows]
        frame = _by_name(width, modalities, _ends_from_zero(heights), "SRCC lost without it", names)
        add_legend(frame.figure, _bars_by_model(frame, rows, heights))
        return finished(frame.figure, "worth", *_key(section))


def _ends_from_zero(heights: Sequence[Mapping[int, Estimate]], beside: Sequence[float] = ()) -> Ends:
    """What an axis goes from and to for bars with their intervals; no margin below bars that all go up."""
    found = [estimate for own in heights for estimate in own.values()]
    intervals = [estimate.interval[:2] for estimate in found]
    drawn = np.array([0.0, *_values(found), *(end for ends in intervals for end in ends), *beside])
    low, high = ends_of(drawn)
    return (low if (drawn < 0).any() else 0.0), high


def _bars_by_model(
    frame: Frame, rows: Sequence[tuple[int, Row]], heights: Sequence[Mapping[int, Estimate]]
) -> list[tuple[Artist, str]]:
    """Bars beside one another above each place, with their intervals; what each model's are, for the legend."""
    width, entries = 0.8 / len(rows), list[tuple[Artist, str]]()
    for place, ((i, row), known) in enumerate(zip(rows, heights, strict=True)):
        middles = [x - 0.4 + (place + 0.5) * width for x in known]
        estimates = list(known.values())
        style = {"hatch": "///", "edgecolor": INK} if row.on_test else {"edgecolor": "none"}
        entries.append(
            (bars(frame, middles, _values(estimates), 0.92 * width, facecolor=_colour(i), **style), _name(row))
        )
        ends = [estimate.interval[:2] for estimate in estimates]
        upright_lines(frame, middles, ends, color=INK, linewidth=0.9)
    frame.line(frame.x, [0, 0], color=INK, linewidth=0.8)
    return entries


def predicted_against_true(section: ReportSection) -> Drawing | None:
    """A panel a model: the score of every test video over its label, everything visible, the lowest seed's run."""
    rows = [(i, row, shown) for i, (row, shown) in enumerate(zip(section.rows, section.shown, strict=False))]
    rows = [(i, row, shown) for i, row, shown in rows if not np.isnan(shown).all()][:MOST_PANELS]
    if not rows:
        return None
    with styled(STYLE):
        ends = [section.truth.min(), section.truth.max()]
        across, up = ends_of(ends), ends_of(ends, *(shown for _, _, shown in rows))
        panels = Panels(len(rows), 2.4, 0.35, below=0.5, x=across, y=up)
        panels.frame(color=INK)
        for place, (i, row, shown) in enumerate(rows):
            frame = panels.frames[place]
            frame.line(ends, ends, color=GREY, linewidth=0.8)
            dots = frame.dots(section.truth, shown, 2.65, alpha=0.55, facecolors=_colour(i))
            if row.explained is not None and row.explained.anchors:
                dots.set_urls(
                    [f"dot-{i}-{n}" if row.explained.link(one) else None for n, one in enumerate(section.ids)]
                )
            scored = ~np.isnan(shown)
            value = number(plain(srcc(shown[scored], section.truth[scored])))
            panels.title(place, f"{_name(row)}\nseed {row.seeds[0]}, SRCC {value}")
        panels.names(f"true {section.target}", "predicted", 0.05, SIZE)
        return finished(panels.figure, "predicted", *_key(section))


def linked(svg: str, section: ReportSection) -> str:
    """A figure of a section for its page: each dot whose video is explained leads there, and says which it is."""

    def link(found: re.Match[str]) -> str:
        i, n = int(found[1]), int(found[2])
        explained, video = section.rows[i].explained, section.ids[n]
        assert explained is not None
        words = f"{printable(video)}: predicted {number(section.shown[i][n])}, label {number(section.truth[n])}"
        return f'<a class="dot" href="{escape(explained.link(video))}"><title>{escape(words)}</title>'

    return _DOT.sub(link, svg)


def unlinked(svg: str) -> str:
    """A figure for a file of its own, without links."""
    return _DOT.sub("", svg).replace("</a>", "")


def reliability_by_pattern(section: ReportSection) -> Drawing | None:
    """A panel a pattern: the share of labels that intervals hold over the level asked for, a line per model."""
    rows = [(i, row, row.intervals.by_pattern) for i, row in enumerate(section.rows) if row.intervals is not None]
    rows = [(i, row, found) for i, row, found in rows if found]
    patterns = [name for name in section.patterns if any(_is_bounded(found.get(name)) for _, _, found in rows)]
    if not patterns:
        return None
    patterns = patterns[:MOST_PANELS]
    bounded = [one for _, _, found in rows for name in patterns if name in found for one in found[name].reliability]
    lowest = min(SHARES[0], *(one.low - 0.02 for one in bounded if one.n))
    shares = lowest, SHARES[1]
    with styled(STYLE):
        legend = height_for([_name(row) for _, row, _ in rows], width_of_panels(len(patterns), 1.9))
        panels = Panels(len(patterns), 1.9, 0.15, below=0.5 + legend, x=LEVELS, y=shares)
        ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] if lowest < SHARES[0] else [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
        panels.frame(x=[0.5, 0.7, 0.9], y=ticks, color=INK)
        entries: list[tuple[Artist, str]] = []
        for place, (frame, pattern) in enumerate(zip(panels.frames, patterns, strict=True)):
            frame.line([0.4, 1], [0.4, 1], color=GREY, linewidth=0.8)
            for beside, (i, row, found) in enumerate(rows):
                known = [one for one in found[pattern].reliability if one.n] if pattern in found else []
                asked, held = [one.level for one in known], [one.share for one in known]
                drawn = frame.line(asked, held, **_line(i, row, markersize=3))
                entries += [(drawn, _name(row))] if place == 0 else []
                places = [level + 0.004 * (beside - (len(rows) - 1) / 2) for level in asked]
                ends = [(one.low, one.high) for one in known]
                upright_lines(frame, places, ends, color=_colour(i), linewidth=0.8)
            panels.title(place, pattern)
        panels.names("level asked for", "labels in their interval", legend + 0.05, SIZE)
        add_legend(panels.figure, entries)
        return finished(panels.figure, "reliability", *_key(section))


def interval_widths(section: ReportSection) -> Drawing | None:
    """The mean width of intervals under each pattern, a line per model; patterns by how many streams are missing."""
    if section.target is None:
        return None  # widths are in the units of a target
    rows = [(i, row, row.intervals.by_pattern) for i, row in enumerate(section.rows) if row.intervals is not None]
    rows = [(i, row, found) for i, row, found in rows if any(map(_is_bounded, found.values()))]
    if not rows:
        return None
    patterns = section.patterns
    missing = [_missing(section, name) for name in patterns]
    low, high = ends_of(*([one.width for one in found.values()] for _, _, found in rows))
    with styled(STYLE):
        names = [_name(row) for _, row, _ in rows]
        y = low, high + 0.1 * (high - low)  # words stand at the top
        frame = _by_name(max(5.0, 0.45 * len(patterns) + 1.5), patterns, y, "mean width of intervals", names)
        edges = [x for x in range(1, len(patterns)) if missing[x] != missing[x - 1]]
        parted = [(x - 0.5, np.nan) for x in edges]  # a line ends where one more stream is missing
        entries = []
        for i, row, found in rows:
            known = [(x, found[name].width if name in found else np.nan) for x, name in enumerate(patterns)]
            style = _line(i, row, markersize=4, linewidth=0.8)
            entries.append((frame.line(*zip(*sorted([*known, *parted]), strict=True), **style), _name(row)))
        counts = Words(frame.figure, up=1, ha="left", fontsize=7)
        upright_lines(frame, [x - 0.5 for x in edges], [frame.y] * len(edges), color=GREY, linewidth=0.5)
        for x in (0, *edges):
            counts.add(frame.across(x - 0.45), frame.top, missing[x])
        add_legend(frame.figure, entries)
        return finished(frame.figure, "widths", *_key(section))


def _is_bounded(found: PatternIntervals | None) -> bool:
    return found is not None and any(one.n for one in found.reliability)


def _missing(section: ReportSection, pattern: str) -> str:
    """How many streams a pattern hides, in words."""
    subset = find_subset(section.modalities, pattern)
    if subset is None:
        return "other"
    return "complete" if all(subset) else f"{len(subset) - sum(subset)} missing"


def router_weights(section: ReportSection) -> Drawing | None:
    """Heat maps, a line per model and a block a pattern: how much each stream listens to each modality's expert."""
    rows = [row for row in section.rows if row.router][:MOST_ROUTERS]
    if not rows:
        return None
    patterns, streams = list(rows[0].router)[:MOST_PANELS], len(section.modalities)
    cell, head, left = 0.38, 0.62, 0.6  # inches
    block = cell * (streams + 1)
    with styled(STYLE):
        width, height = left + block * len(patterns) - cell + 0.15, (cell * streams + head) * len(rows) + 0.4
        figure = Figure(figsize=(width, height))
        titles, headings = Words(figure, up=0, ha="left", fontsize=8), Words(figure, up=0, fontsize=8, weight="bold")
        names, upright = Words(figure, fontsize=7), Words(figure, fontsize=7, rotation=90)
        cells: list[WeightCell] = []
        for line, row in enumerate(rows):
            bottom = height - (line + 1) * (cell * streams + head)
            top = bottom + cell * streams
            titles.add(left, top + 0.22, fitted(_name(row), 8, width - left - EDGE))
            upright.add(left - 0.22, (bottom + top) / 2, "stream")
            for i, name in enumerate(initials(section.modalities)):
                names.add(left - 0.05 - 0.04 * len(name), top - (i + 0.5) * cell, name)
            for place, name in enumerate(patterns):
                start = left + place * block
                weights = row.router.get(name, np.full((streams, streams), np.nan))
                cells += [
                    (start + j * cell, top - (i + 1) * cell, cell, cell, weight)
                    for (i, j), weight in np.ndenumerate(weights)
                    if not np.isnan(weight)
                ]
                for j, column in enumerate(initials(section.modalities)):
                    names.add(start + (j + 0.5) * cell, bottom - 0.1, column)
                headings.add(start + streams * cell / 2, top + 0.08, name)
        names.add((width + left - 0.15) / 2, bottom - 0.24, "expert")
        write_weights(figure, cells, 7)
        figure.add_artist(weight_colours(cells, transform=figure.dpi_scale_trans))
        return finished(figure, "router", *_key(section))


def _by_name(width: float, names: Sequence[str], y: Ends, label: str, legend: Sequence[str]) -> Frame:
    """A frame with a place a name, slanted where they have no room beside one another, above a legend of some names."""
    width, up = min(width, MOST_WIDTH), ticks_of(y, MOST_TICKS)
    beside = room_beside(up, SIZE)
    room = (width - beside) / len(names) - BETWEEN
    slanted = any(width_of(name, SIZE) > room for name in names)
    places = NamedPlaces([(name,) for name in names], SIZE, slanted)
    below, left = height_for(legend, width) + places.below, max(beside, places.left)
    frame = _frame(width, places.ends, y, up, label, below, left)
    outline([frame], range(len(places.lines)), list(up), INK)
    places.write(frame)
    return frame


def _frame(width: float, x: Ends, y: Ends, up: Mapping[float, str], label: str, below: float, left: float) -> Frame:
    """A frame 3 inches high whose y axis has numbers and a name. up: the numbers; below, left: inches beside it."""
    figure = Figure(figsize=(width, below + 3.0 + EDGE))
    frame = Frame(figure, left, below, width - left - EDGE, 3.0, x, y)
    numbers_beside([frame], up, SIZE)
    frame.name_upright(0.0, label, SIZE)
    return frame


def _line(i: int, row: Row, **of: Any) -> dict[str, Any]:
    """How a model's line is drawn: broken where its epochs were selected on the test."""
    return {"color": _colour(i), "linestyle": "--" if row.on_test else "-", "marker": "o", **of}


def _values(found: Sequence[Estimate]) -> list[float]:
    return [estimate.value for estimate in found]


def _key(section: ReportSection) -> tuple[str, str]:
    return section.data_set, str(section.target)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _name(row: Row) -> str:
    return row.label + row.marks
