"""Axes of a figure by their place in inches, drawn as a few artists: an `Axes` takes most of the time of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Bbox, IdentityTransform, Transform, TransformedBbox
from numpy.typing import ArrayLike, NDArray

from aqa.drawing.words import Words, fitted, width_of, word

TICK, PAD = 0.05, 0.1  # inches: how long, and how far its label is from the axis
MARGIN = 0.05  # of an axis, beyond what is drawn
MOST_TICKS = 6
BETWEEN, OVERHANG = 0.06, 0.12  # inches between numbers below an axis, and of one beyond the axis
MINUS = "\N{MINUS SIGN}"
LETTER = 0.0102  # inches that a capital letter is high, a point of its size
LINE = 0.15  # inches from one entry of a key to the next
SIGN = 0.25  # inches that the sign of an entry is long
EDGE, ROW = 0.1, 0.3  # inches beside all and around a key, and for a line of words
UPRIGHT = EDGE + 0.07  # inches from the left to the middle of an upright name

DOT = Path.circle(radius=0.5)
FLAT: dict[str, Any] = {"linewidths": 0, "edgecolors": "face"}  # so that dots of one colour are drawn at once

Ends = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """Axes in a figure, by inches from its lower left corner. x, y: what each axis goes from and to."""

    figure: Figure
    left: float
    bottom: float
    width: float
    height: float
    x: Ends
    y: Ends

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def top(self) -> float:
        return self.bottom + self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.bottom + self.height / 2

    @property
    def box(self) -> Bbox:
        """Its edges, in inches."""
        return Bbox.from_bounds(self.left, self.bottom, self.width, self.height)

    def to_inches(self) -> Transform:
        """From what is drawn to its place in the figure."""
        (x0, x1), (y0, y1) = self.x, self.y
        moved = Affine2D().translate(-x0, -y0).scale(self.width / (x1 - x0), self.height / (y1 - y0))
        return moved.translate(self.left, self.bottom)

    def across(self, value: float) -> float:
        """Where a number of the x axis is, in inches from the left of the figure."""
        return self.left + self.width * (value - self.x[0]) / (self.x[1] - self.x[0])

    def up(self, value: float) -> float:
        """Where a number of the y axis is, in inches from the bottom of the figure."""
        return self.bottom + self.height * (value - self.y[0]) / (self.y[1] - self.y[0])

    def add(self, artist: Artist) -> None:
        """Draw something whose places are numbers on the axes; nothing of it shows beyond them."""
        whole = self.figure.dpi_scale_trans
        artist.set(transform=self.to_inches() + whole, clip_box=TransformedBbox(self.box, whole))
        self.figure.add_artist(artist)

    def line(self, x: ArrayLike, y: ArrayLike, **of: Any) -> Line2D:
        """Draw a line or marks; of: what a `Line2D` is given."""
        drawn = Line2D(np.asarray(x), np.asarray(y), **of)
        self.add(drawn)
        return drawn

    def dots(self, x: ArrayLike, y: ArrayLike, size: float, **of: Any) -> PathCollection:
        """Draw dots, each of which may have a colour or a link; size: points across; of: as a `PathCollection`."""
        places = self.to_inches().transform(np.column_stack([x, y]))
        whole = self.figure.dpi_scale_trans
        drawn = PathCollection([DOT], [size**2], offsets=places, offset_transform=whole, **FLAT, **of)
        drawn.set(transform=IdentityTransform(), clip_box=TransformedBbox(self.box, whole))
        self.figure.add_artist(drawn)
        return drawn

    def name_upright(self, left: float, text: str, size: float) -> None:
        """Name the y axis, left inches from the left of the figure, beside its middle where there is room."""
        height = float(self.figure.get_figheight())
        text = fitted(text, size, height - 2 * EDGE)
        half = width_of(text, size) / 2 + EDGE
        middle = min(max(self.middle[1], half), height - half)
        word(self.figure, left + UPRIGHT, middle, text, size, rotation=90)

    def key(self, entries: Sequence[tuple[Mapping[str, Any], str]], size: float, seen: ArrayLike = ()) -> None:
        """Say what lines and marks are, where the fewest places of what is drawn would be hidden.

        entries: how each is drawn, and its name. seen: (n, 2), the places in numbers of the axes.
        """
        extent = np.array([SIGN + 0.1 + max(width_of(name, size) for _, name in entries), LINE * len(entries)])
        room = np.array([self.width, self.height]) - extent - 2 * EDGE
        corners = [
            (self.left + EDGE + across * room[0], self.bottom + EDGE + up * room[1])
            for up in (1.0, 0.0, 0.5, 0.75, 0.25, 0.625, 0.375)
            for across in (1.0, 0.0, 0.5)
        ]
        places = self.to_inches().transform(np.reshape(np.asarray(seen, dtype=np.float64), (-1, 2)))

        def hidden(corner: tuple[float, float]) -> int:
            apart = np.abs(places - corner - extent / 2)
            return int((apart <= extent / 2 + EDGE / 2).all(axis=1).sum())

        left, bottom = min(corners, key=hidden)
        names = Words(self.figure, ha="left", fontsize=size)
        for line, (style, name) in enumerate(entries):
            middle = bottom + extent[1] - (line + 0.5) * LINE
            sign = Line2D([left, left + SIGN / 2, left + SIGN], [middle] * 3, markevery=[1], **style)
            sign.set_transform(self.figure.dpi_scale_trans)
            self.figure.add_artist(sign)
            names.add(left + SIGN + 0.1, middle, name)


def strokes(figure: Figure, lines: Sequence[Sequence[tuple[float, float]]], color: str, linewidth: float) -> None:
    """Draw lines as one, each by the places in inches that it joins."""
    whole = Path.make_compound_path(*map(Path, lines))
    style = {"facecolor": "none", "edgecolor": color, "linewidth": linewidth, "capstyle": "butt"}
    figure.add_artist(PathPatch(whole, transform=figure.dpi_scale_trans, **style))


def outline(frames: Sequence[Frame], x: Sequence[float], y: Sequence[float], color: str = "black") -> None:
    """Draw the axes of frames that have the same, with their ticks."""
    lines = []
    for frame in frames:
        left, bottom = frame.left, frame.bottom
        lines.append([(left, frame.top), (left, bottom), (frame.right, bottom)])
        lines += [[(frame.across(value), bottom), (frame.across(value), bottom - TICK)] for value in x]
        lines += [[(left, frame.up(value)), (left - TICK, frame.up(value))] for value in y]
    strokes(frames[0].figure, lines, color, 0.8)


def room_beside(ticks: Mapping[float, str], size: float) -> float:
    """Inches for the numbers beside an axis, and its name beside them."""
    return EDGE + ROW + max((width_of(text, size) for text in ticks.values()), default=0.0) + PAD


def numbers_beside(frames: Sequence[Frame], ticks: Mapping[float, str], size: float) -> None:
    """Write the numbers of the y axes of frames in one figure."""
    words = Words(frames[0].figure, ha="right", fontsize=size)
    for frame in frames:
        for value, text in ticks.items():
            words.add(frame.left - PAD, frame.up(value), text)


def numbers_below(frames: Sequence[Frame], ticks: Mapping[float, str], size: float) -> None:
    """Write the numbers of the x axes of frames in one figure."""
    words = Words(frames[0].figure, up=1, fontsize=size)
    for frame in frames:
        for value, text in ticks.items():
            words.add(frame.across(value), frame.bottom - PAD, text)


def ends_of(*drawn: ArrayLike) -> Ends:
    """What an axis goes from and to that shows all of these numbers, those that are no numbers left out."""
    values = np.concatenate([np.ravel(np.asarray(each, dtype=np.float64)) for each in drawn])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def ticks_of(ends: Ends, most: int = MOST_TICKS, **of: Any) -> dict[float, str]:
    """Round numbers between the ends of an axis, each with its text."""
    found = MaxNLocator(most, **{"steps": [1, 2, 2.5, 5, 10], **of}).tick_values(*ends)
    return texts_of(between(ends, found))


def ticks_below(frame: Frame, size: float, most: int = MOST_TICKS, **of: Any) -> dict[float, str]:
    """Round numbers for the x axis of a frame, as many as have room beside one another, with their texts."""
    for wanted in range(most, 0, -1):
        ticks, ends = {}, [-np.inf]  # and where the text of each ends
        for value, text in ticks_of(frame.x, wanted, **of).items():
            half, middle = width_of(text, size) / 2, frame.across(value)
            if middle - half >= frame.left - OVERHANG and middle + half <= frame.right + OVERHANG:
                apart = middle - half > ends[-1] + BETWEEN
                ticks[value] = text
                ends.append(middle + half if apart else np.inf)
        if ticks and ends[-1] < np.inf:
            return ticks
    return {}


def between(ends: Ends, ticks: Sequence[float] | NDArray[np.float64]) -> list[float]:
    """Those of some numbers that are between the ends of an axis."""
    return [float(value) for value in ticks if ends[0] <= value <= ends[1]]


def texts_of(ticks: Sequence[float]) -> dict[float, str]:
    """Ticks with their texts."""
    return {value: number_text(value, ticks) for value in ticks}


def number_text(value: float, beside: Sequence[float]) -> str:
    """A tick's number, with as many decimals as those beside it need."""
    wanted = max((len(f"{other:.10g}".partition(".")[2]) for other in beside if "e" not in f"{other:.10g}"), default=0)
    text = f"{value:.6g}" if "e" in f"{value:.6g}" else f"{value:.{wanted}f}"
    return text.replace("-", MINUS)
