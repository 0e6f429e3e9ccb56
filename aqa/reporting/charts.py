"""The figures of a report, a function for each, in an ink that the page colours for light and for dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from aqa.drawing.boxes import corners_of, weight_colours, write_weights
from aqa.drawing.frames import ends_of
from aqa.drawing.panels import Panels, empty
from aqa.drawing.words import Words
from aqa.errors import printable
from aqa.evaluation.comparison import Estimate, Ranking
from aqa.evaluation.metrics import srcc
from aqa.modalities import find_subset, initials
from aqa.reporting.drawing import Drawing, finished, styled
from aqa.reporting.intervals import PatternIntervals
from aqa.reporting.legends import add_legend, height_for
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import AVERAGE, ReportSection, Row, missing_curve
from aqa.runs.table import number
from aqa.system.files import plain

INK = "#010203"  # what no figure uses otherwise: the page puts its own text colour there
GREY, BEST = "#8a8a8a", "#c0392b"
# Paul Tol's bright and muted schemes: told apart by the colour-blind, seen on light and on dark.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ddaa33", "#44aa99", "#999933", "#bb5566")
MOST_PANELS, MOST_ROUTERS = 8, 3
LEVELS, SHARES = (0.385, 1.015), (0.35, 1.02)  # what the axes of reliability go from and to
_DOT = re.compile(r'<a xlink:href="dot-(\d+)-(\d+)"[^>]*>')  # a dot that is to be linked, as matplotlib writes it
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # fonts that journals take, and whose text can be searched
    "text.parse_math": False,  # names come from files, and a dollar in one is a dollar
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.markersize": 5.3,
    "axes.titley": 1.0,  # else it is looked for among all ticks where it fits
}


def srcc_by_pattern(section: ReportSection, published: Sequence[PublishedRow]) -> Drawing:
    """Bars by pattern and model with their intervals; published numbers and the best possible as marks."""
    columns, rows = section.columns, section.rows
    width = 0.8 / len(rows)
    with styled(STYLE):
        long = max(map(len, columns)) > 10
        names = [*map(_name, rows), *(other.label for other in published), *["best possible"] * bool(section.ceiling)]
        figure, axes = _axes(max(6.0, 0.16 * len(columns) * len(rows) + 2.5), names, below=1.1 if long else 0.35)
        for i, row in enumerate(rows):
            known = [(x, row.srcc[name]) for x, name in enumerate(columns) if name in row.srcc]
            places = [x - 0.4 + (i + 0.5) * width for x, _ in known]
            found = [estimate for _, estimate in known]
            _bars(axes, places, _values(found), 0.92 * width, facecolor=_colour(i), label=_name(row), **_hatch(row))
            _whiskers(axes, places, found)
        for i, other in enumerate(published):
            reported = other.by_column(section.modalities, columns)
            places = [float(columns.index(name)) for name in reported]
            label = other.label + (" †" if other.on_test else "")
            axes.plot(places, list(reported.values()), "dPX*"[i % 4], color=INK, zorder=3, label=label)
        best = [(x, section.ceiling[name]) for x, name in enumerate(columns) if name in section.ceiling]
        if best:
            _levels(axes, best, "best possible")
        shown = ["mean" if name == AVERAGE else name for name in columns]
        axes.set_xticks(range(len(columns)), shown, rotation=40 if long else 0, ha="right" if long else "center")
        axes.set_ylabel("SRCC, 95 % interval")
        axes.axhline(0, color=INK, linewidth=0.8)
        add_legend(axes)
        return finished(figure, "patterns", *_key(section))


def srcc_by_missing(section: ReportSection) -> Drawing | None:
    """SRCC against the share of modalities that is missing in testing, a line per model."""
    curves = [(i, row, missing_curve(row, section.modalities)) for i, row in enumerate(section.rows)]
    curves = [(i, row, curve) for i, row, curve in curves if len(curve) > 1]
    if not curves:
        return None
    with styled(STYLE):
        figure, axes = _axes(6.0, [_name(row) for _, row, _ in curves])
        for i, row, curve in curves:
            shares, found = [share for share, _ in curve], [estimate for _, estimate in curve]
            lows, highs = zip(*(estimate.interval[:2] for estimate in found), strict=True)
            style = "--" if row.on_test else "-"
            axes.plot(shares, _values(found), style, marker="o", markersize=4, color=_colour(i), label=_name(row))
            axes.fill_between(shares, lows, highs, color=_colour(i), alpha=0.12, linewidth=0)
        axes.set_xlabel("missing rate in testing (share of modalities)")
        axes.set_ylabel("SRCC, 95 % interval")
        add_legend(axes)
        return finished(figure, "missing", *_key(section))


def worth_of_modalities(section: ReportSection) -> Drawing | None:
    """What SRCC loses when one modality goes, bars by modality and model."""
    rows = [(i, row) for i, row in enumerate(section.rows) if row.worth]
    if not rows:
        return None
    width = 0.8 / len(rows)
    with styled(STYLE):
        width_of_all = max(5.0, 0.3 * len(section.modalities) * len(rows) + 2)
        figure, axes = _axes(width_of_all, [_name(row) for _, row in rows], below=0.35)
        for place, (i, row) in enumerate(rows):
            known = [(x, row.worth[name]) for x, name in enumerate(section.modalities) if name in row.worth]
            places = [x - 0.4 + (place + 0.5) * width for x, _ in known]
            found = [estimate for _, estimate in known]
            _bars(axes, places, _values(found), 0.92 * width, facecolor=_colour(i), label=_name(row), **_hatch(row))
            _whiskers(axes, places, found)
        axes.set_xticks(range(len(section.modalities)), section.modalities)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylabel("SRCC lost without it")
        add_legend(axes)
        return finished(figure, "worth", *_key(section))


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
            inside = panels.inside(place)
            panels.axes.plot(ends, ends, color=GREY, linewidth=0.8, **inside)
            dots = panels.axes.scatter(section.truth, shown, s=7, alpha=0.55, color=_colour(i), linewidths=0, **inside)
            if row.explained is not None and row.explained.anchors:
                dots.set_urls(
                    [f"dot-{i}-{n}" if row.explained.link(one) else None for n, one in enumerate(section.ids)]
                )
            scored = ~np.isnan(shown)
            value = number(plain(srcc(shown[scored], section.truth[scored])))
            panels.title(place, f"{_short(_name(row))}\nseed {row.seeds[0]}, SRCC {value}")
        panels.figure.supxlabel(f"true {_short(str(section.target))}", fontsize=9)
        panels.figure.supylabel("predicted", fontsize=9)
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
    with styled(STYLE):
        legend = height_for([_name(row) for _, row, _ in rows])
        panels = Panels(len(patterns), 1.9, 0.15, below=0.5 + legend, x=LEVELS, y=SHARES)
        panels.frame(x=[0.5, 0.7, 0.9], y=[0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], color=INK)
        axes = panels.axes
        for place, pattern in enumerate(patterns):
            inside = panels.inside(place)
            axes.plot([0.4, 1], [0.4, 1], color=GREY, linewidth=0.8, **inside)
            for beside, (i, row, found) in enumerate(rows):
                known = [one for one in found[pattern].reliability if one.n] if pattern in found else []
                levels, shares = [one.level for one in known], [one.share for one in known]
                style = "--" if row.on_test else "-"
                label = _name(row) if place == 0 else "_"
                axes.plot(levels, shares, style, marker="o", markersize=3, color=_colour(i), label=label, **inside)
                places = [level + 0.004 * (beside - (len(rows) - 1) / 2) for level in levels]
                _strokes(axes, places, [(one.low, one.high) for one in known], _colour(i), 0.8, **inside)
            panels.title(place, _short(pattern))
        figure = panels.figure
        figure.supxlabel("level asked for", fontsize=9, y=(legend + 0.03) / figure.get_figheight())
        figure.supylabel("labels in their interval", fontsize=9)
        add_legend(axes)
        return finished(figure, "reliability", *_key(section))


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
    with styled(STYLE):
        long = max(map(len, patterns)) > 10 or len(patterns) > 16
        names = [_name(row) for _, row, _ in rows]
        figure, axes = _axes(max(5.0, 0.45 * len(patterns) + 1.5), names, below=1.1 if long else 0.35)
        for i, row, found in rows:
            for count in dict.fromkeys(missing):
                known = [(x, found[p]) for x, p in enumerate(patterns) if missing[x] == count and p in found]
                places, widths = [x for x, _ in known], [one.width for _, one in known]
                label = _name(row) if count == missing[0] else "_"
                style = "o--" if row.on_test else "o-"
                axes.plot(places, widths, style, markersize=4, linewidth=0.8, color=_colour(i), label=label)
        top = axes.get_xaxis_transform()
        for x, count in enumerate(missing):
            if x == 0 or count != missing[x - 1]:
                axes.axvline(x - 0.5, color=GREY, linewidth=0.5)
                axes.text(x - 0.45, 1.0, count, fontsize=7, va="top", transform=top)
        axes.set_xlim(-0.5, len(patterns) - 0.5)
        axes.margins(y=0.15)
        axes.set_xticks(range(len(patterns)), patterns, rotation=40 if long else 0, ha="right" if long else "center")
        axes.set_ylabel("mean width of intervals")
        add_legend(axes)
        return finished(figure, "widths", *_key(section))


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
        size = (left + block * len(patterns) - cell + 0.15, (cell * streams + head) * len(rows) + 0.4)
        figure, axes = empty(*size)
        names, cells = Words(axes, fontsize=7, color=INK), []
        for line, row in enumerate(rows):
            bottom = size[1] - (line + 1) * (cell * streams + head)
            top = bottom + cell * streams
            axes.text(left, top + 0.22, _short(_name(row)), fontsize=8)
            axes.text(left - 0.22, (bottom + top) / 2, "stream", fontsize=7, rotation=90, ha="center", va="center")
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
                axes.text(start + streams * cell / 2, top + 0.08, name, ha="center", fontsize=8, weight="bold")
        write_weights(axes, cells, 7)
        axes.add_collection(weight_colours(cells), autolim=False)
        axes.text((size[0] + left - 0.15) / 2, bottom - 0.27, "expert", fontsize=7, ha="center")
        return finished(figure, "router", *_key(section))


def critical_difference(ranking: Ranking, title: str) -> Drawing:
    """Mean ranks of models; a bar joins those that Nemenyi's test cannot tell apart (Demsar, 2006, figure 1)."""
    names, ranks = list(ranking.ranks.index), ranking.ranks.to_numpy()
    bars = not_told_apart(ranking)
    row, first = 0.28, 0.2 + 0.13 * (1 + max((line for *_, line in bars), default=0))  # inches: labels, below the axis
    half = (len(names) + 1) // 2
    with styled(STYLE):
        side = 0.5 + 0.085 * max(map(len, names))  # inches for a label
        height = first + row * half
        figure, axes = _laid_out(4.5 + 2 * side, height, left=side, right=side, below=0.1, above=0.75)
        axes.set(xlim=(1, len(names)), ylim=(height, 0), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("mean rank, 1 is best", fontsize=8)
        for place, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            left = place < half
            end, line = (1, place) if left else (len(names), len(names) - 1 - place)
            y = first + row * (line + 0.5)
            axes.plot([rank, rank, end], [0, y, y], color=INK, linewidth=0.9, clip_on=False)
            text = f"{name} ({rank:.2f}) " if left else f" ({rank:.2f}) {name}"
            axes.text(end, y, text, ha="right" if left else "left", va="center", color=INK)
        for low, high, line in bars:
            y = 0.2 + 0.13 * line
            axes.plot(ranks[[low, high]], [y, y], color=INK, linewidth=3, solid_capstyle="butt", clip_on=False)
        return finished(figure, "ranks", title)


def not_told_apart(ranking: Ranking) -> list[tuple[int, int, int]]:
    """The longest rows of models, as they rank, that are not told apart: first, last, and a line where none overlap."""
    ranks = ranking.ranks.to_numpy()
    last = [int(np.flatnonzero(ranks - rank <= ranking.critical_difference).max()) for rank in ranks]
    rows = [(i, end) for i, end in enumerate(last) if end > i and (i == 0 or last[i - 1] < end)]
    ends: list[int] = []  # of what each line has so far
    placed = []
    for low, high in rows:
        line = next((line for line, end in enumerate(ends) if end < low), len(ends))
        ends[line : line + 1] = [high]
        placed.append((low, high, line))
    return placed


def _axes(width: float, names: Sequence[str], below: float = 0.5) -> tuple[Figure, Axes]:
    """Axes 3 inches high in a figure with room below for tick labels and for a legend of the names."""
    return _laid_out(min(width, 14.0), 3.0, below=below + height_for(names))


def _laid_out(
    width: float, height: float, left: float = 0.75, right: float = 0.1, below: float = 0.5, above: float = 0.1
) -> tuple[Figure, Axes]:
    """A figure and axes of given size with given margins, in inches. Fitted ones would draw twice."""
    figure = Figure(figsize=(width, below + height + above))
    whole = below + height + above
    return figure, figure.add_axes((left / width, below / whole, (width - left - right) / width, height / whole))


def _values(found: Sequence[Estimate]) -> list[float]:
    return [estimate.value for estimate in found]


def _bars(axes: Axes, places: Sequence[float], heights: Sequence[float], width: float, **of: Any) -> None:
    """Bars of one colour from nothing to their heights, all of them one to matplotlib."""
    tops, middles = np.asarray(heights, dtype=np.float64), np.asarray(places, dtype=np.float64)
    tops, middles = tops[~np.isnan(tops)], middles[~np.isnan(tops)]
    corners = corners_of(middles - width / 2, 0.0, middles + width / 2, tops)
    bars = PathPatch(Path.make_compound_path_from_polys(corners), **of)
    bars.sticky_edges.y.append(0)  # as of `axes.bar`: no margin below bars that all go up
    axes.add_artist(bars)
    axes.update_datalim(corners.reshape(-1, 2))


def _levels(axes: Axes, heights: Sequence[tuple[int, float]], label: str) -> None:
    """A line across the bars at each place, all of them one to matplotlib."""
    ends = [(x - 0.42, x + 0.42, np.nan) for x, _ in heights]
    axes.plot(np.ravel(ends), np.repeat([y for _, y in heights], 3), color=BEST, linewidth=1.5, label=label)


def _whiskers(axes: Axes, places: Sequence[float], found: Sequence[Estimate]) -> None:
    _strokes(axes, places, [estimate.interval[:2] for estimate in found], INK, 0.9)


def _strokes(
    axes: Axes, places: Sequence[float], ends: Sequence[tuple[float, float]], colour: str, width: float, **of: Any
) -> None:
    """Upright lines, all of them one to matplotlib."""
    parted = np.full((len(places), 3), np.nan)
    parted[:, :2] = np.reshape(ends, (-1, 2))
    axes.plot(np.repeat(places, 3), parted.ravel(), color=colour, linewidth=width, solid_capstyle="butt", **of)


def _key(section: ReportSection) -> tuple[str, str]:
    return section.data_set, str(section.target)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _hatch(row: Row) -> dict[str, Any]:
    return {"hatch": "///", "edgecolor": INK} if row.on_test else {"edgecolor": "none"}


def _name(row: Row) -> str:
    return row.label + row.marks


def _short(text: str) -> str:
    return text if len(text) <= 34 else text[:33] + "…"
