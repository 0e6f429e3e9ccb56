"""The figures of a run, one function a figure. Metrics come as in metrics.json.

They are made without pyplot, whose state belongs to the program that calls: a notebook still shows its own plots.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from aqa.runs.selection import MAYBE_TEST
from aqa.runs.table import number, selection_text
from aqa.system.files import written_whole

COMPLETE, INCOMPLETE, CEILING, GREY = "#1b4f8f", "#6fa3d8", "#c0392b", "#8a8a8a"
DPI = 150


@contextlib.contextmanager
def _drawing() -> Iterator[None]:
    """What a figure is drawn in. Names come from files, and a dollar in one is a dollar.

    Nothing is collected meanwhile: the many small objects of a figure would have Python look through all that torch
    consists of, again and again, which takes a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with matplotlib.rc_context({"text.parse_math": False}):
            yield
    finally:
        if collects:
            gc.enable()


@_drawing()
def srcc_by_pattern(metrics: Mapping[str, Any], path: Path) -> None:
    """A bar a pattern with its bootstrap interval, the ceiling where the data knows it."""
    patterns = metrics["patterns"]
    place = np.arange(len(patterns))
    figure = Figure(figsize=(max(5.0, 0.8 * len(patterns) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for i, s in enumerate(patterns.values()):
        if s["srcc"] is None:
            axes.text(i, 0, "undefined", rotation=90, ha="center", va="bottom", color=GREY)
            continue
        axes.bar(i, s["srcc"], 0.7, color=COMPLETE if i == 0 else INCOMPLETE)
        if s["srcc_low"] is not None:
            # A percentile interval need not hold the estimate, and bars cannot have negative whiskers.
            whiskers = [[max(0.0, s["srcc"] - s["srcc_low"])], [max(0.0, s["srcc_high"] - s["srcc"])]]
            axes.errorbar(i, s["srcc"], whiskers, color="black", capsize=3, linewidth=1)
        if "ceiling" in s:
            label = "best possible" if i == 0 else "_"  # matplotlib leaves names with an underscore out of the legend
            axes.hlines(s["ceiling"], i - 0.42, i + 0.42, color=CEILING, linewidth=1.5, label=label)
    axes.set_xticks(place, [f"{name}\nn={s['n']}" for name, s in patterns.items()], fontsize=8)
    if any(len(name) > 8 for name in patterns):
        axes.tick_params(axis="x", labelrotation=40)
    axes.set_ylabel("SRCC (95 % bootstrap interval)")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(top=1.0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    axes.set_title(f"{metrics['model']}, {metrics['target']}; {selection_text(metrics['selection'])}", fontsize=8)
    _save(figure, path)


@_drawing()
def srcc_by_fold(metrics: Mapping[str, Any], path: Path) -> None:
    """Of a cross-validation: points for the SRCC in each fold, a bar for their Fisher-z mean, a line for all pooled."""
    patterns, folds = metrics["patterns"], metrics["folds"]
    figure = Figure(figsize=(max(5.0, 0.8 * len(patterns) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for i, (name, s) in enumerate(patterns.items()):
        known = [each["srcc"][name] for each in folds["each"] if each["srcc"][name] is not None]
        beside = np.linspace(-0.25, 0.25, len(known)) if len(known) > 1 else np.zeros(len(known))
        axes.scatter(i + beside, known, s=14, color=COMPLETE, label="in a fold" if i == 0 else "_", zorder=3)
        if s["srcc_folds"] is not None:
            axes.bar(i, s["srcc_folds"], 0.7, color=INCOMPLETE, alpha=0.5, label="mean of folds" if i == 0 else "_")
        if s["srcc"] is not None:
            label = "all folds pooled" if i == 0 else "_"
            axes.hlines(s["srcc"], i - 0.42, i + 0.42, color=CEILING, linewidth=1.5, label=label, zorder=2)
    axes.set_xticks(range(len(patterns)), list(patterns), fontsize=8)
    if any(len(name) > 8 for name in patterns):
        axes.tick_params(axis="x", labelrotation=40)
    axes.set_ylabel("SRCC")
    axes.axhline(0, color="black", linewidth=0.8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)
    axes.set_title(f"{metrics['model']}, {metrics['target']}; {folds['description']}", fontsize=8)
    _save(figure, path)


@_drawing()
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
    figure = Figure(figsize=(2.5 * columns + 0.5, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    ends = [truth.min(), truth.max()]
    for axis, name in zip(axes.flat, shown, strict=False):
        axis.plot(ends, ends, color=GREY, linewidth=0.8)
        axis.scatter(truth, predictions[name], s=6, alpha=0.5, color=COMPLETE, linewidths=0)
        axis.set_title(f"{name}: SRCC {number(metrics['patterns'][name]['srcc'])}", fontsize=8)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis in axes.flat[max(0, len(shown) - columns) : len(shown)]:  # the lowest panel of each column
        axis.tick_params(labelbottom=True)
    figure.supxlabel(f"true {metrics['target']}", fontsize=9)
    figure.supylabel("predicted", fontsize=9)
    if metrics["selection"]["split"] in MAYBE_TEST:
        figure.suptitle(selection_text(metrics["selection"]), fontsize=8)
    _save(figure, path)


@_drawing()
def training_curves(history: Sequence[Mapping[str, float]], selection: Mapping[str, Any], path: Path) -> None:
    """The loss and its parts by epoch, and the selection metrics with the epoch that was kept."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
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
    if selection["split"] == "test":
        figure.suptitle(selection_text(selection), fontsize=8)
    _save(figure, path)


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


@_drawing()
def router_weights(weights: Mapping[str, NDArray[np.float64]], modalities: Sequence[str], path: Path) -> None:
    """A heat map a pattern: how much each stream (row) listens to each modality's expert (column)."""
    shown = list(weights)[:8]
    figure = Figure(figsize=(1.5 * len(shown) + 1.2, 2.4), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    for axis, name in zip(axes.flat, shown, strict=True):
        image = axis.imshow(weights[name], vmin=0, vmax=1, cmap="Blues")
        for (stream, expert), weight in np.ndenumerate(weights[name]):
            color = "white" if weight > 0.6 else "black"
            axis.text(expert, stream, f"{weight:.2f}", ha="center", va="center", fontsize=7, color=color)
        axis.set_xticks(range(len(modalities)), modalities, rotation=45, ha="right", fontsize=7)
        axis.set_yticks(range(len(modalities)), modalities, fontsize=7)
        axis.set_title(name, fontsize=8)
    axes[0, 0].set_ylabel("stream", fontsize=8)
    figure.supxlabel("expert", fontsize=8)
    figure.colorbar(image, ax=list(axes.flat), shrink=0.8).set_label("router weight of the expert", fontsize=7)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the same pixels as `savefig`, which draws a figure twice: once only to lay it out."""
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")
    with written_whole(path) as partial:
        canvas.print_png(partial)
