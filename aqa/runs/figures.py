"""The figures of a run, one function a figure. Metrics come as in metrics.json.

They are made without pyplot, whose state belongs to the program that calls: a notebook still shows its own plots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from aqa.runs.drawing import blank, drawing, room, save, set_margins
from aqa.runs.selection import MAYBE_TEST
from aqa.runs.table import number, selection_text

COMPLETE, INCOMPLETE, CEILING, GREY = "#1b4f8f", "#6fa3d8", "#c0392b", "#8a8a8a"
TITLE, SMALL = 0.3, 0.1  # inches beside axes: for a title of small type, and for nothing


@drawing()
def srcc_by_pattern(metrics: Mapping[str, Any], path: Path) -> None:
    """A bar a pattern with its bootstrap interval, the ceiling where the data knows it."""
    patterns = metrics["patterns"]
    figure = blank(max(5.0, 0.8 * len(patterns) + 1.5), 3.6)
    axes = figure.subplots()
    known = {i: s for i, s in enumerate(patterns.values()) if s["srcc"] is not None}
    axes.bar(
        list(known), [s["srcc"] for s in known.values()], 0.7, color=[INCOMPLETE if i else COMPLETE for i in known]
    )
    for i in set(range(len(patterns))) - set(known):
        axes.text(i, 0, "undefined", rotation=90, ha="center", va="bottom", color=GREY)
    bounded = {i: s for i, s in known.items() if s["srcc_low"] is not None}
    if bounded:
        # A percentile interval need not hold the estimate, and bars cannot have negative whiskers.
        below = [max(0.0, s["srcc"] - s["srcc_low"]) for s in bounded.values()]
        above = [max(0.0, s["srcc_high"] - s["srcc"]) for s in bounded.values()]
        heights = [s["srcc"] for s in bounded.values()]
        axes.errorbar(list(bounded), heights, [below, above], fmt="none", ecolor="black", capsize=3, elinewidth=1)
    ceilings = {i: s["ceiling"] for i, s in known.items() if "ceiling" in s}
    if ceilings:
        _levels(axes, ceilings, "best possible")
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    _name_patterns(axes, [f"{name}\nn={s['n']}" for name, s in patterns.items()])
    axes.set_ylabel("SRCC (95 % bootstrap interval)")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(top=1.0)
    axes.set_title(f"{metrics['model']}, {metrics['target']}; {selection_text(metrics['selection'])}", fontsize=8)
    set_margins(figure, room(axes.yaxis) + SMALL, room(axes.xaxis) + SMALL, SMALL, TITLE)
    save(figure, path)


def _levels(axes: Axes, heights: Mapping[int, float], label: str) -> None:
    """A line across the bar of each pattern, by its number."""
    places = np.array(list(heights))
    axes.hlines(list(heights.values()), places - 0.42, places + 0.42, color=CEILING, linewidth=1.5, label=label)


def _name_patterns(axes: Axes, labels: Sequence[str]) -> None:
    """Name the pattern of each bar below it, slanted where a name is long."""
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    if any(len(line) > 8 for label in labels for line in label.split("\n")):
        axes.tick_params(axis="x", labelrotation=40)


@drawing()
def srcc_by_fold(metrics: Mapping[str, Any], path: Path) -> None:
    """Of a cross-validation: points for the SRCC in each fold, a bar for their Fisher-z mean, a line for all pooled."""
    patterns, folds = metrics["patterns"], metrics["folds"]
    figure = blank(max(5.0, 0.8 * len(patterns) + 1.5), 3.6)
    axes = figure.subplots()
    for i, name in enumerate(patterns):
        known = [each["srcc"][name] for each in folds["each"] if each["srcc"][name] is not None]
        beside = np.linspace(-0.25, 0.25, len(known)) if len(known) > 1 else np.zeros(len(known))
        axes.scatter(i + beside, known, s=14, color=COMPLETE, label="_" if i else "in a fold", zorder=3)
    means = {i: s["srcc_folds"] for i, s in enumerate(patterns.values()) if s["srcc_folds"] is not None}
    if means:
        axes.bar(list(means), list(means.values()), 0.7, color=INCOMPLETE, alpha=0.5, label="mean of folds")
    pooled = {i: s["srcc"] for i, s in enumerate(patterns.values()) if s["srcc"] is not None}
    if pooled:
        _levels(axes, pooled, "all folds pooled")
    _name_patterns(axes, list(patterns))
    axes.set_ylabel("SRCC")
    axes.axhline(0, color="black", linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
    axes.set_title(f"{metrics['model']}, {metrics['target']}; {folds['description']}", fontsize=8)
    set_margins(figure, room(axes.yaxis) + SMALL, room(axes.xaxis) + SMALL, SMALL, TITLE)
    save(figure, path)


@drawing()
def predicted_against_true(
    metrics: Mapping[str, Any],
    predictions: Mapping[str, NDArray[np.float64]],
    truth: NDArray[np.float64],
    path: Path,
) -> None:
    """A panel a pattern: every test video's predicted score over its label."""
    shown = list(predictions)[:8]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = blank(2.5 * columns + 0.5, 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    ends = [truth.min(), truth.max()]
    for axis, name in zip(axes.flat, shown, strict=False):
        axis.plot(ends, ends, color=GREY, linewidth=0.8)
        axis.scatter(truth, predictions[name], s=6, alpha=0.5, color=COMPLETE, linewidths=0)
        axis.set_title(f"{name}: SRCC {number(metrics['patterns'][name]['srcc'])}", fontsize=8)
        axis.xaxis.set_label_coords(0.5, 0)  # or the place of labels that it has not would be looked for
        axis.yaxis.set_label_coords(0, 0.5)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis in axes.flat[max(0, len(shown) - columns) : len(shown)]:  # the lowest panel of each column
        axis.tick_params(labelbottom=True)
    figure.supxlabel(f"true {metrics['target']}", fontsize=9)
    figure.supylabel("predicted", fontsize=9)
    said = metrics["selection"]["split"] in MAYBE_TEST
    if said:
        figure.suptitle(selection_text(metrics["selection"]), fontsize=8)
    left, below = (room(axis) + SMALL for axis in (axes[0, 0].yaxis, axes.flat[len(shown) - 1].xaxis))
    # A panel has its title above it and, where there is none below it, its numbers beneath it.
    above = TITLE + SMALL  # for a power of ten that all numbers of an axis share
    between = above + (below if len(shown) % columns else 0.0)
    top = above + (TITLE if said else 0.0)
    set_margins(figure, left + TITLE, below + TITLE, SMALL, top, (columns, SMALL), (rows, between))
    save(figure, path)


@drawing()
def training_curves(history: Sequence[Mapping[str, float]], selection: Mapping[str, Any], path: Path) -> None:
    """The loss and its parts by epoch, and the selection metrics with the epoch that was kept."""
    epochs = [row["epoch"] for row in history]
    figure = blank(8.5, 3.2)
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) == 1 else None  # a line of one point is not seen
    for name in dict.fromkeys(name for row in history for name in row):  # stages of training may have their own parts
        values = [row.get(name, np.nan) for row in history]
        if name.startswith("loss"):
            width = 2 if name == "loss" else 1
            left.plot(epochs, values, label=name.removeprefix("loss_"), linewidth=width, marker=marker)
    _log_where_it_helps(left)
    left.set_ylabel("training loss")
    left.legend(fontsize=8, frameon=False)
    metric = f"{selection['split']}_{selection['metric']}"
    right.plot(epochs, [row[metric] for row in history], color=COMPLETE, marker=marker)
    right.axvline(
        selection["epoch"], color=CEILING, linewidth=1, linestyle="--", label=f"kept: epoch {selection['epoch']}"
    )
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    label = {"srcc": "SRCC", "mse": "MSE"}[selection["metric"]]
    right.set_ylabel(f"{label} on {selection['split']} ({selection['pattern']})")
    right.legend(fontsize=8, frameon=False)
    said = selection["split"] == "test"
    if said:
        figure.suptitle(selection_text(selection), fontsize=8)
    between = (2, room(right.yaxis) + 2 * SMALL)
    set_margins(figure, room(left.yaxis) + SMALL, room(left.xaxis) + SMALL, SMALL, TITLE if said else SMALL, between)
    save(figure, path)


def _log_where_it_helps(axes: Axes) -> None:
    """A logarithmic scale with plain numbers, where all that is drawn is positive and spans more than a decade."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or drawn.min() <= 0 or drawn.max() < 10 * drawn.min():
        return
    axes.set_yscale("log")
    steps = (1, 2, 5) if drawn.max() < 1000 * drawn.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


@drawing()
def router_weights(weights: Mapping[str, NDArray[np.float64]], modalities: Sequence[str], path: Path) -> None:
    """A heat map a pattern: how much each stream (row) listens to each modality's expert (column).

    All are one image with empty columns between them: axes of their own would take most of the time.
    """
    shown, size = list(weights)[:8], len(modalities)
    step = size + 1
    cells = np.full((size, step * len(shown) - 1), np.nan)
    for i, name in enumerate(shown):
        cells[:, step * i : step * i + size] = weights[name]
    figure = blank(0.5 * cells.shape[1] + 1.6, 0.5 * size + 1.1)
    axes = figure.subplots()
    image = axes.imshow(cells, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for i, name in enumerate(shown):
        for (stream, expert), weight in np.ndenumerate(weights[name]):
            color = "white" if weight > 0.6 else "black"
            axes.text(step * i + expert, stream, f"{weight:.2f}", ha="center", va="center", fontsize=7, color=color)
        axes.text(step * i + (size - 1) / 2, -0.6, name, ha="center", va="bottom", fontsize=8)
    experts = [step * i + expert for i in range(len(shown)) for expert in range(size)]
    axes.set_xticks(experts, list(modalities) * len(shown), rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(size), modalities, fontsize=7)
    axes.set_ylabel("stream", fontsize=8)
    axes.set_xlabel("expert", fontsize=8)
    axes.spines[:].set_visible(False)
    set_margins(figure, room(axes.yaxis) + SMALL, room(axes.xaxis) + SMALL, 0.9, TITLE)
    scale = figure.add_axes(
        (
            1 - 0.75 / figure.get_figwidth(),
            axes.get_position().y0,
            0.1 / figure.get_figwidth(),
            axes.get_position().height,
        )
    )
    figure.colorbar(image, cax=scale).set_label("router weight of the expert", fontsize=7)
    save(figure, path)
