"""What the figures of a run are drawn with: a canvas, margins as wide as their labels, and a file of their pixels.

A sweep draws thousands of figures, so that this is written for speed. matplotlib's own layout measures all axes of a
figure twice, which takes as long as drawing them: here only the labels that a margin is for are measured, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.axis import Axis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aqa.system.files import written_whole
from aqa.system.garbage import uncollected

DPI = 150
COMPRESSION = 3  # of 9; the usual 6 takes twice as long for a file that is a twentieth smaller


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """What a figure is drawn in. Names come from files, and a dollar in one is a dollar."""
    with uncollected(), matplotlib.rc_context({"text.parse_math": False}):
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with the canvas that its labels are measured on."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def room(axis: Axis) -> float:
    """Inches that the ticks and labels of an axis, left of its axes or below, take outside of them."""
    axes, canvas = axis.axes, axis.axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    taken = axis.get_tightbbox(canvas.get_renderer())
    if taken is None:
        return 0.0
    outside = axes.bbox.x0 - taken.x0 if isinstance(axis, YAxis) else axes.bbox.y0 - taken.y0
    return max(0.0, float(outside)) / DPI


def set_margins(
    figure: Figure,
    left: float,
    bottom: float,
    right: float,
    top: float,
    columns: tuple[int, float] = (1, 0.0),
    rows: tuple[int, float] = (1, 0.0),
) -> None:
    """Set the margins of a figure, in inches; columns, rows: how many axes it has each way, and inches between two."""
    width, height = figure.get_size_inches()
    (across, wide), (down, high) = columns, rows
    each_width = (width - left - right - (across - 1) * wide) / across
    each_height = (height - bottom - top - (down - 1) * high) / down
    figure.subplots_adjust(
        left / width,
        bottom / height,
        1 - right / width,
        1 - top / height,
        wspace=wide / each_width,
        hspace=high / each_height,
    )


def save(figure: Figure, path: Path) -> None:
    """Write the pixels of a figure, in which nothing is transparent."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with written_whole(path) as partial:
        canvas.print_png(partial, pil_kwargs={"compress_level": COMPRESSION})
