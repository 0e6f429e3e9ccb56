"""Figures of many small panels, drawn as one: an `Axes` for each would take most of the time of a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from aqa.drawing.frames import (
    LINE,
    UPRIGHT,
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
from aqa.drawing.words import Words, fitted, word

IN_A_LINE = 4
LEFT, ABOVE, GAP = 0.6, 0.1, 0.25  # inches beside and above all panels, and between them
TITLE_SIZE = 8


def width_of_panels(count: int, side: float, left: float = LEFT) -> float:
    """Inches that a figure of so many panels is wide; side, left: as `Panels` has them."""
    return left + ABOVE + min(count, IN_A_LINE) * side


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
        height = below + above + lines * (side + title)
        self.figure = Figure(figsize=(width_of_panels(count, side, left), height))
        self.frames = []
        for place in range(count):
            line, column = divmod(place, IN_A_LINE)
            corner = left + column * side, below + (lines - 1 - line) * (side + title)
            self.frames.append(Frame(self.figure, *corner, side - GAP, side - GAP, x, y))
        self.titles = Words(self.figure, up=0, fontsize=TITLE_SIZE)

    def names(self, below: str, beside: str, foot: float, size: float) -> None:
        """Name the axes in the middle of all panels; foot: inches from the bottom to the foot of the lower name."""
        first, last = self.frames[0], self.frames[-1]
        middle = (first.left + self.frames[:IN_A_LINE][-1].right) / 2
        below = fitted(below, size, 2 * (middle - first.left))
        word(self.figure, middle, foot, below, size, up=0)
        word(self.figure, UPRIGHT, (last.bottom + first.top) / 2, beside, size, rotation=90)

    def title(self, place: int, text: str) -> None:
        """Name a panel, in one line or more, each cut to the room above it."""
        frame = self.frames[place]
        for line, words in enumerate(reversed(text.split("\n"))):
            words = fitted(words, TITLE_SIZE, frame.width + GAP / 2)
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
