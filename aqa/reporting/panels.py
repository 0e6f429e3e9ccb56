"""Figures of many small panels, drawn as one: an `Axes` for each would take most of the time of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, IdentityTransform, TransformedPath
from numpy.typing import ArrayLike

IN_A_LINE = 4
LEFT, ABOVE, GAP = 0.6, 0.1, 0.25  # inches beside and above all panels, and between them
TICK, PAD = 0.05, 0.1  # inches: how long, and how far its label is from the axis
MARGIN = 0.05  # of an axis, beyond what is drawn
MOST_TICKS = 6
MINUS = "\N{MINUS SIGN}"

Ends = tuple[float, float]


def empty(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure, and axes that cover it and are not drawn, whose units are inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


class Words(Text):
    """Many short texts of one size and colour, each in the middle of its place, drawn as one artist.

    A `Text` for each would take twice as long, and the heat maps of a report have thousands.
    """

    def __init__(self, axes: Axes, **of: Any):
        super().__init__(ha="center", transform=IdentityTransform(), **of)
        self.shown: list[tuple[float, float, str]] = []
        self.to_points = axes.transData
        axes.add_artist(self)

    def add(self, x: float, y: float, text: str) -> None:
        """Show a text; x, y: its place in the units of the axes."""
        self.shown.append((x, y, text))

    def draw(self, renderer: RendererBase) -> None:
        gc, font = renderer.new_gc(), self.get_fontproperties()
        gc.set_foreground(self.get_color())
        top = renderer.get_canvas_width_height()[1]
        sizes = {
            text: renderer.get_text_width_height_descent(text, font, False)
            for text in dict.fromkeys(text for _, _, text in self.shown)
        }
        places = self.to_points.transform(np.reshape([place for *place, _ in self.shown], (-1, 2)))
        for (middle, center), (_, _, text) in zip(places.tolist(), self.shown, strict=True):
            width, height, descent = sizes[text]
            base = center - (height - descent) / 2
            self.set_position((middle, base))  # where an SVG centres the text, by the font that it is read with
            below = top - base if renderer.flipy() else base
            renderer.draw_text(gc, middle - width / 2, below, text, font, 0, False, self)
        gc.restore()


class Panels:
    """Square panels that share their axes, four in a line."""

    def __init__(self, count: int, side: float, title: float, below: float, x: Ends, y: Ends):
        """side, title, below: inches, of each and below all. x, y: what each axis goes from and to."""
        lines = -(-count // IN_A_LINE)
        width = LEFT + ABOVE + min(count, IN_A_LINE) * side
        self.figure, self.axes = empty(width, below + ABOVE + lines * (side + title))
        self.x, self.y, self.inner = x, y, side - GAP
        places = [divmod(place, IN_A_LINE) for place in range(count)]
        self.corners = [(LEFT + column * side, below + (lines - 1 - line) * (side + title)) for line, column in places]

    def inside(self, place: int) -> dict[str, Any]:
        """What a panel's lines and dots are drawn with: as its axes say, and nothing beyond its edges."""
        (left, bottom), (x0, x1), (y0, y1) = self.corners[place], self.x, self.y
        to_inches = Affine2D().translate(-x0, -y0).scale(self.inner / (x1 - x0), self.inner / (y1 - y0))
        edges = Path.unit_rectangle().transformed(Affine2D().scale(self.inner).translate(left, bottom))
        whole = self.axes.transData
        return {
            "transform": to_inches.translate(left, bottom) + whole,
            "clip_path": TransformedPath(edges, whole),  # a box would give way to that of all panels
        }

    def title(self, place: int, text: str) -> None:
        left, bottom = self.corners[place]
        self.axes.text(left + self.inner / 2, bottom + self.inner + 0.08, text, ha="center", fontsize=8)

    def frame(self, x: Sequence[float] | None = None, y: Sequence[float] | None = None, color: str = "black") -> None:
        """Each panel's axes with their ticks, and numbers below and beside all. x, y: the ticks; else round numbers."""
        x, y = _within(self.x, x), _within(self.y, y)
        along = [self.inner * (value - self.x[0]) / (self.x[1] - self.x[0]) for value in x]
        up = [self.inner * (value - self.y[0]) / (self.y[1] - self.y[0]) for value in y]
        size = self.inner
        strokes = [[(0.0, size), (0.0, 0.0), (size, 0.0)]]
        strokes += [[(tick, 0.0), (tick, -TICK)] for tick in along] + [[(0.0, tick), (-TICK, tick)] for tick in up]
        paths = [Path(np.add(stroke, corner)) for corner in self.corners for stroke in strokes]
        whole = Path.make_compound_path(*paths)
        self.axes.add_artist(PathPatch(whole, facecolor="none", edgecolor=color, linewidth=0.8, clip_on=False))
        for place, (left, bottom) in enumerate(self.corners):
            if place + IN_A_LINE >= len(self.corners):
                for value, tick in zip(x, along, strict=True):
                    self.axes.text(left + tick, bottom - PAD, number_text(value, x), ha="center", va="top")
            if place % IN_A_LINE == 0:
                for value, tick in zip(y, up, strict=True):
                    text = number_text(value, y)
                    self.axes.text(left - PAD, bottom + tick, text, ha="right", va="center_baseline")


def ends_of(*drawn: ArrayLike) -> Ends:
    """What an axis goes from and to that shows all of these numbers, those that are no numbers left out."""
    values = np.concatenate([np.ravel(np.asarray(each, dtype=np.float64)) for each in drawn])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def _within(ends: Ends, ticks: Sequence[float] | None) -> list[float]:
    """Ticks between the ends of an axis: those that are given, or round numbers."""
    found = MaxNLocator(MOST_TICKS, steps=[1, 2, 2.5, 5, 10]).tick_values(*ends) if ticks is None else ticks
    return [float(value) for value in found if ends[0] <= value <= ends[1]]


def number_text(value: float, beside: Sequence[float]) -> str:
    """A tick's number, with as many decimals as those beside it need."""
    wanted = max((len(f"{other:.10g}".partition(".")[2]) for other in beside if "e" not in f"{other:.10g}"), default=0)
    text = f"{value:.6g}" if "e" in f"{value:.6g}" else f"{value:.{wanted}f}"
    return text.replace("-", MINUS)
