"""Figures of many small panels, drawn as one: an `Axes` for each would take most of the time of a figure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import TransformedPath

from aqa.drawing.frames import (
    LINE,
    Ends,
    Frame,
    between,
    numbers_below,
    numbers_beside,
    outline,
    texts_of,
    ticks_below,
    ticks_of,
)
from aqa.drawing.words import Words

IN_A_LINE = 4
LEFT, ABOVE, GAP = 0.6, 0.1, 0.25  # inches beside and above all panels, and between them
TITLE_SIZE = 8


def empty(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, and axes that cover it and are not drawn, whose units are inches."""
    figure = Figure(figsize=(width, height))
    return figure, _covering(figure)


def _covering(figure: Figure) -> Axes:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    return axes


class Panels:
    """Square panels that share their axes, four in a line."""

    def __init__(
        self,
        count: int,
        side: float,
        title: float,
        below: float,
        x: Ends,
        y: Ends,
        left: float = LEFT,
        above: float = ABOVE,
    ):
        """side, title: inches, of each. below, left, above: of all. x, y: what each axis goes from and to."""
        lines = -(-count // IN_A_LINE)
        width, height = left + ABOVE + min(count, IN_A_LINE) * side, below + above + lines * (side + title)
        self.figure = Figure(figsize=(width, height))
        self.frames = []
        for place in range(count):
            line, column = divmod(place, IN_A_LINE)
            corner = left + column * side, below + (lines - 1 - line) * (side + title)
            self.frames.append(Frame(self.figure, *corner, side - GAP, side - GAP, x, y))
        self.titles = Words(self.figure, up=0, fontsize=TITLE_SIZE)

    @functools.cached_property
    def axes(self) -> Axes:
        """Axes over all panels, in inches, for what matplotlib draws in its own: with `inside`."""
        return _covering(self.figure)

    def inside(self, place: int) -> dict[str, Any]:
        """What a panel's lines and dots are drawn with: as its axes say, and nothing beyond its edges."""
        frame, whole = self.frames[place], self.axes.transData
        edges = Path([(x, y) for x, y in frame.box.corners()[[0, 1, 3, 2, 0]]], closed=True)
        # A box would give way to that of all panels.
        return {"transform": frame.to_inches() + whole, "clip_path": TransformedPath(edges, whole)}

    def title(self, place: int, text: str) -> None:
        """Name a panel, in one line or more."""
        frame = self.frames[place]
        for line, words in enumerate(reversed(text.split("\n"))):
            self.titles.add(frame.middle[0], frame.top + 0.08 + line * LINE, words)

    def frame(
        self,
        x: Sequence[float] | None = None,
        y: Sequence[float] | None = None,
        color: str = "black",
        size: float = 9,
    ) -> None:
        """Each panel's axes with their ticks, and numbers below and beside all. x, y: the ticks; else round numbers."""
        first = self.frames[0]
        along = ticks_below(first, size) if x is None else texts_of(between(first.x, x))
        up = ticks_of(first.y) if y is None else texts_of(between(first.y, y))
        outline(self.frames, list(along), list(up), color)
        numbers_below(self.frames[-IN_A_LINE:], along, size)
        numbers_beside(self.frames[::IN_A_LINE], up, size)
