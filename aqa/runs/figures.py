"""The figures of a run, one function a figure. Metrics come as in metrics.json.

They are made without pyplot, whose state belongs to the program that calls: a notebook still shows its own plots.
Every place is worked out here, in inches from the lower left corner: matplotlib's layout and its `Axes` took three
quarters of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from aqa.drawing.boxes import WeightCell, weight_colours, write_weights
from aqa.drawing.frames import (
    EDGE,
    PAD,
    ROW,
    TICK,
    Ends,
    Frame,
    between,
    ends_of,
    numbers_below,
    numbers_beside,
    outline,
    room_beside,
    ticks_below,
    ticks_of,
)
from aqa.drawing.marks import bars, levels
from aqa.drawing.panels import Panels
from aqa.drawing.pixels import drawing, save
from aqa.drawing.places import LONGEST_SHOWN, NamedPlaces
from aqa.drawing.words import Words, fitted, width_of, word
from aqa.runs.selection import MAYBE_TEST
from aqa.runs.table import number, selection_text

COMPLETE, INCOMPLETE, CEILING, GREY = "#1b4f8f", "#6fa3d8", "#c0392b", "#8a8a8a"
PALE = "#b7d1eb"
LEVEL: dict[str, Any] = {"color": CEILING, "linewidth": 1.5, "solid_capstyle": "butt"}
SIZE, SMALL = 9, 8  # points: of the numbers and names of axes; of titles and names
BELOW = 0.5  # inches: for the numbers of an axis and its name
EXPERT_SLANT = 45  # degrees that the names of experts are turned
LONGEST_LEVEL = 8  # characters of a name that is not slanted
MOST_SHOWN = 8  # patterns with a panel or a heat map


def _title(figure: Figure, text: str, end: str = "") -> None:
    """Words above all. end: what is said last, whatever there is room for before it."""
    width, height = figure.get_size_inches()
    word(figure, width / 2, height - ROW / 2, _ending(text, end, width - 2 * EDGE), SMALL)


def _ending(text: str, end: str, inches: float) -> str:
    """A small text with its end, which stays whole."""
    return fitted(text, SMALL, inches - width_of(end, SMALL)) + end


# -- by pattern


@drawing()
def srcc_by_pattern(metrics: Mapping[str, Any], path: Path) -> None:
    """A bar a pattern with its bootstrap interval, the ceiling where the data knows it."""
    patterns = metrics["patterns"]
    known = {i: s for i, s in enumerate(patterns.values()) if s["srcc"] is not None}
    bounded = {i: s for i, s in known.items() if s["srcc_low"] is not None}
    heights = [s["srcc"] for s in known.values()]
    lowest = min([0.0, *heights, *(s["srcc_low"] for s in bounded.values())])
    names = [(name, f"n={s['n']}") for name, s in patterns.items()]
    frame = _by_pattern(names, (1.05 * lowest, 1.0), "SRCC (95 % bootstrap interval)")
    _title(frame.figure, f"{metrics['model']}, {metrics['target']}", f"; {selection_text(metrics['selection'])}")
    for i in set(range(len(patterns))) - set(known):
        up = frame.up(0) + 0.05
        word(frame.figure, frame.across(i), up, "undefined", SIZE, ha="left", rotation=90, color=GREY)
    for colour, shown in ((COMPLETE, [i for i in known if not i]), (INCOMPLETE, [i for i in known if i])):
        _bars(frame, {i: known[i]["srcc"] for i in shown}, colour)
    # A percentile interval need not hold the estimate, and whiskers begin at it.
    ends = [(min(s["srcc_low"], s["srcc"]), max(s["srcc_high"], s["srcc"])) for s in bounded.values()]
    _whiskers(frame, list(bounded), ends)
    ceilings = {i: s["ceiling"] for i, s in known.items() if "ceiling" in s}
    if ceilings:
        levels(frame, ceilings, **LEVEL)
        frame.key([(LEVEL, "best possible")], SMALL)
    save(frame.figure, path)


@drawing()
def srcc_by_fold(metrics: Mapping[str, Any], path: Path) -> None:
    """Of a cross-validation: points for the SRCC in each fold, a bar for their Fisher-z mean, a line for all pooled."""
    patterns, folds = metrics["patterns"], metrics["folds"]
    points = {
        i: [each["srcc"][name] for each in folds["each"] if each["srcc"][name] is not None]
        for i, name in enumerate(patterns)
    }
    means = {i: s["srcc_folds"] for i, s in enumerate(patterns.values()) if s["srcc_folds"] is not None}
    pooled = {i: s["srcc"] for i, s in enumerate(patterns.values()) if s["srcc"] is not None}
    drawn = np.concatenate([[0.0], *points.values(), list(means.values()), list(pooled.values())])
    ends = 1.05 * float(drawn.min()), ends_of(drawn)[1]
    frame = _by_pattern([(name,) for name in patterns], ends, "SRCC")
    _title(frame.figure, f"{metrics['model']}, {metrics['target']}", f"; {folds['description']}")
    entries: list[tuple[Mapping[str, Any], str]] = []
    if means:
        _bars(frame, means, PALE)
        entries.append(({"color": PALE, "linewidth": 7, "solid_capstyle": "butt"}, "mean of folds"))
    if pooled:
        levels(frame, pooled, **LEVEL)
        entries.append((LEVEL, "all folds pooled"))
    if any(points.values()):
        dots = {"color": COMPLETE, "marker": "o", "markersize": 4, "linestyle": "none"}
        places = [i + beside for i, known in points.items() for beside in _spread(len(known))]
        frame.line(places, [value for known in points.values() for value in known], **dots)
        entries.append((dots, "in a fold"))
    if entries:
        tops = [(i, value) for i, known in points.items() for value in known] + [*means.items(), *pooled.items()]
        frame.key(entries, SMALL, tops)
    save(frame.figure, path)


def _spread(count: int) -> list[float]:
    """Where points lie beside the middle of their bar."""
    return np.linspace(-0.25, 0.25, count).tolist() if count > 1 else [0.0] * count


def _by_pattern(names: Sequence[Sequence[str]], y: Ends, label: str) -> Frame:
    """A frame with a place a pattern, named below it in one line or two, slanted where a name is long."""
    slanted = any(len(line) > LONGEST_LEVEL for lines in names for line in lines)
    places, ticks = NamedPlaces(names, SMALL, slanted), ticks_of(y)
    left = max(room_beside(ticks, SIZE), places.left)
    width, height = max(5.0, 0.8 * len(names) + 1.5), 3.6
    figure = Figure(figsize=(width, height))
    frame = Frame(figure, left, places.below, width - left - EDGE, height - places.below - ROW, places.ends, y)
    outline([frame], range(len(names)), list(ticks))
    numbers_beside([frame], ticks, SIZE)
    places.write(frame)
    frame.name_upright(0.0, label, SIZE)
    frame.line(frame.x, [0, 0], color="black", linewidth=0.8)
    return frame


def _bars(frame: Frame, heights: Mapping[int, float], colour: str) -> None:
    """Bars from nothing to the heights of some places, behind all else."""
    bars(frame, list(heights), list(heights.values()), 0.7, facecolor=colour, edgecolor="none", zorder=0.5)


def _whiskers(frame: Frame, places: Sequence[int], ends: Sequence[Ends]) -> None:
    """Upright lines with a short one across each end."""
    cap = 0.04 / frame.width * (frame.x[1] - frame.x[0])
    strokes: list[tuple[float, float]] = []
    for place, (low, high) in zip(places, ends, strict=True):
        strokes += [(place, low), (place, high), (np.nan, np.nan)]
        strokes += [(place + side, end) for end in (low, high) for side in (-cap, cap, np.nan)]
    x, y = np.reshape(strokes, (-1, 2)).T
    frame.line(x, y, color="black", linewidth=1, solid_capstyle="butt")


# -- by video


@drawing()
def predicted_against_true(
    metrics: Mapping[str, Any],
    predictions: Mapping[str, NDArray[np.float64]],
    truth: NDArray[np.float64],
    path: Path,
) -> None:
    """A panel a pattern: every test video's predicted score over its label."""
    shown = list(predictions)[:MOST_SHOWN]
    ends = [float(truth.min()), float(truth.max())]
    x, y = ends_of(ends), ends_of(ends, *(predictions[name] for name in shown))
    said = metrics["selection"]["split"] in MAYBE_TEST
    left, above = room_beside(ticks_of(y), SIZE), 2 * EDGE if said else EDGE
    panels = Panels(len(shown), 2.35, ROW, BELOW, x, y, left, above)
    panels.frame(size=SIZE)
    for frame, name in zip(panels.frames, shown, strict=True):
        frame.line(ends, ends, color=GREY, linewidth=0.8)
        dots = {"color": COMPLETE, "alpha": 0.5, "markersize": 2.5, "markeredgewidth": 0}
        frame.line(truth, predictions[name], marker="o", linestyle="none", **dots)
    for place, name in enumerate(shown):
        value = f": SRCC {number(metrics['patterns'][name]['srcc'])}"
        panels.title(place, _ending(name, value, panels.frames[place].width))
    panels.names(f"true {metrics['target']}", "predicted", EDGE, SIZE)
    if said:
        _title(panels.figure, selection_text(metrics["selection"]))
    save(panels.figure, path)


# -- by epoch


@drawing()
def training_curves(history: Sequence[Mapping[str, float]], selection: Mapping[str, Any], path: Path) -> None:
    """The loss and its parts by epoch, and the selection metrics with the epoch that was kept."""
    epochs, kept = [row["epoch"] for row in history], selection["epoch"]
    marker = "o" if len(epochs) == 1 else None  # a line of one point is not seen
    # Stages of training may have their own parts.
    names = [name for name in dict.fromkeys(name for row in history for name in row) if name.startswith("loss")]
    losses = {name: np.array([row.get(name, np.nan) for row in history], np.float64) for name in names}
    measured = np.array([row[f"{selection['split']}_{selection['metric']}"] for row in history], np.float64)
    losses, loss_ends, loss_ticks = _loss_axis(losses)
    ends = ends_of(measured)
    label = {"srcc": "SRCC", "mse": "MSE"}[selection["metric"]]
    label = f"{label} on {selection['split']} ({selection['pattern']})"
    named = [("training loss", loss_ends, loss_ticks), (label, ends, ticks_of(ends))]
    said = selection_text(selection) if selection["split"] == "test" else ""
    left, right = _side_by_side(epochs, named, said)
    entries: list[tuple[Mapping[str, Any], str]] = []
    for i, (name, values) in enumerate(losses.items()):
        style = {"color": f"C{i}", "linewidth": 2 if name == "loss" else 1, "marker": marker}
        left.line(epochs, values, **style)
        entries.append((style, name.removeprefix("loss_")))
    left.key(entries, SMALL, _along(epochs, losses.values()))
    right.line(epochs, measured, color=COMPLETE, marker=marker)
    upright = {"color": CEILING, "linewidth": 1, "linestyle": "--"}
    right.line([kept, kept], ends, **upright)
    hidden = [*_along(epochs, [measured]), *((kept, value) for value in np.linspace(*ends))]
    right.key([(upright, f"kept: epoch {kept}")], SMALL, hidden)
    save(left.figure, path)


Axis = tuple[str, Ends, Mapping[float, str]]  # its name, what it goes from and to, its ticks


def _side_by_side(epochs: Sequence[float], named: Sequence[Axis], said: str) -> list[Frame]:
    """Frames over the epochs, by their y axes; said: what is written above all."""
    width, height, above = 8.5, 3.2, ROW if said else EDGE
    figure, across = Figure(figsize=(width, height)), (epochs[0] - 0.5, epochs[-1] + 0.5)
    rooms = [room_beside(ticks, SIZE) for _, _, ticks in named]
    each = (width - sum(rooms) - EDGE * len(named) - 0.05) / len(named)
    frames: list[Frame] = []
    for room, (name, ends, ticks) in zip(rooms, named, strict=True):
        begin = frames[-1].right + EDGE if frames else 0.0
        frame = Frame(figure, begin + room, BELOW, each, height - BELOW - above, across, ends)
        whole = ticks_below(frame, SIZE, 8, integer=True, min_n_ticks=1)
        outline([frame], list(whole), list(ticks))
        numbers_beside([frame], ticks, SIZE)
        numbers_below([frame], whole, SIZE)
        frame.name_upright(begin, name, SIZE)
        word(figure, frame.middle[0], EDGE, "epoch", SIZE, up=0)
        frames.append(frame)
    if said:
        _title(figure, said)
    return frames


Losses = dict[str, NDArray[np.float64]]


def _loss_axis(losses: Losses) -> tuple[Losses, Ends, dict[float, str]]:
    """Losses as they are drawn, what their axis goes from and to, and its ticks.

    A logarithmic scale with plain numbers, where all that is drawn is positive and spans more than a decade.
    """
    drawn = np.concatenate(list(losses.values()))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or drawn.min() <= 0 or drawn.max() < 10 * drawn.min():
        ends = ends_of(drawn)
        return losses, ends, ticks_of(ends)
    losses = {name: np.log10(values) for name, values in losses.items()}
    ends = ends_of(*losses.values())
    low, high = 10.0 ** np.array(ends)
    steps = (1, 2, 5) if drawn.max() < 1000 * drawn.min() else (1,)
    found = between((low, high), LogLocator(subs=steps, numticks=12).tick_values(low, high))
    return losses, ends, {math.log10(value): f"{value:g}" for value in found}


def _along(x: Sequence[float], lines: Iterable[NDArray[np.float64]]) -> list[tuple[float, float]]:
    """Places along lines, close to one another."""
    sampled = np.concatenate([x, np.linspace(x[0], x[-1], 64)])
    return [place for line in lines for place in zip(sampled.tolist(), np.interp(sampled, x, line), strict=True)]


# -- by stream


@drawing()
def router_weights(weights: Mapping[str, NDArray[np.float64]], modalities: Sequence[str], path: Path) -> None:
    """A heat map a pattern: how much each stream (row) listens to each modality's expert (column)."""
    shown, count = list(weights)[:MOST_SHOWN], len(modalities)
    cell, size = 0.5, 7
    named = [fitted(name, size, LONGEST_SHOWN) for name in modalities]
    widest = max(width_of(name, size) for name in named)
    turned = math.radians(EXPERT_SLANT)
    left, below = EDGE + ROW + widest + PAD, EDGE + ROW + widest * math.sin(turned) + PAD
    blocks = [left + cell * (count + 1) * place for place in range(len(shown))]
    end, top = blocks[-1] + cell * count, below + cell * count
    figure = Figure(figsize=(end + 1.0, top + ROW))
    titles, streams = Words(figure, up=0, fontsize=SMALL), Words(figure, ha="right", fontsize=size)
    experts = Words(figure, ha="right", fontsize=size, rotation=math.degrees(turned))
    cells: list[WeightCell] = []
    for start, name in zip(blocks, shown, strict=True):
        titles.add(start + cell * count / 2, top + 0.08, fitted(name, SMALL, cell * (count + 1) - EDGE))
        for (stream, expert), weight in np.ndenumerate(weights[name]):
            x, y = start + cell * expert, top - cell * (stream + 1)
            cells.append((x, y, cell, cell, weight))
        for expert, text in enumerate(named):
            experts.add(start + cell * (expert + 0.5), below - PAD, text)
    for stream, text in enumerate(named):
        streams.add(left - PAD, top - cell * (stream + 0.5), text)
    word(figure, EDGE + 0.05, (below + top) / 2, "stream", SMALL, rotation=90)
    word(figure, (left + end) / 2, EDGE, "expert", SMALL, up=0)
    write_weights(figure, cells, size)
    cells += _scale(figure, end + 0.25, below, top - below)
    # Without seams between them.
    figure.add_artist(weight_colours(cells, antialiaseds=False, transform=figure.dpi_scale_trans))
    save(figure, path)


def _scale(figure: Figure, left: float, bottom: float, height: float) -> list[WeightCell]:
    """The numbers and the name of a scale of weights, and its cells, one upon the other."""
    numbers, steps = Words(figure, ha="left", fontsize=7), 100
    for weight in np.linspace(0, 1, 6):
        numbers.add(left + 0.1 + TICK, bottom + height * weight, f"{weight:.1f}")
    middle = bottom + height / 2
    text = fitted("router weight of the expert", 7, bottom + height)
    word(figure, left + 0.55, max(middle, width_of(text, 7) / 2 + EDGE), text, 7, rotation=90)
    return [(left, bottom + height * i / steps, 0.1, height / steps, (i + 0.5) / steps) for i in range(steps)]
