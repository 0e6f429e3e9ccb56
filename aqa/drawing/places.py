"""An axis with a place for each of some names, such as missing patterns: the first at 0, the second at 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aqa.drawing.frames import EDGE, LETTER, LINE, PAD, Ends, Frame
from aqa.drawing.words import Words, fitted, width_of

SLANT = 40  # degrees that long names are turned
LONGEST_SHOWN = 1.7  # inches of a long name that are shown


class NamedPlaces:
    """Names below an axis, each in one line or two. below: inches that they take below the axis; left: beside it."""

    def __init__(self, names: Sequence[Sequence[str]], size: float, slanted: bool):
        self.lines = [[fitted(line, size, LONGEST_SHOWN) for line in lines] for lines in names]
        self.size, self.slanted = size, slanted
        self.turned = math.radians(SLANT if slanted else 0)
        widest = max(width_of(line, size) for lines in self.lines for line in lines)
        self.left = widest * math.cos(self.turned) - 0.2 if slanted else 0.0
        height = LINE * max(map(len, self.lines)) * math.cos(self.turned)
        self.below = PAD + widest * math.sin(self.turned) + height + EDGE

    @property
    def ends(self) -> Ends:
        """What the axis goes from and to."""
        return -0.6, len(self.lines) - 0.4

    def write(self, frame: Frame) -> None:
        """Write the names below the places of a frame."""
        turned, align = math.degrees(self.turned), "right" if self.slanted else "center"
        words = Words(frame.figure, up=0, ha=align, rotation=turned, fontsize=self.size)
        for i, lines in enumerate(self.lines):
            for line, text in enumerate(lines):
                x, foot = frame.across(i), frame.bottom - PAD - LETTER * self.size
                words.add(x + line * LINE * math.sin(self.turned), foot - line * LINE * math.cos(self.turned), text)
