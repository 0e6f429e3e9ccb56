"""Legends below axes: matplotlib's own measures each of its entries many times, as long as all else of a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from aqa.drawing.words import Words, width_of

LINE, BELOW = 0.19, 0.1  # inches: from one line to the next, and below all
KEY, PAD, APART = 0.29, 0.12, 0.22  # of the sign of an entry, between it and its name, and between two entries
SIZE = 8  # points
MOST_COLUMNS = ((45, 1), (22, 2), (0, 3))  # names longer than so many characters take so many columns


def columns_for(names: Sequence[str]) -> int:
    """How many columns a legend has."""
    longest = max(map(len, names))
    return next(columns for length, columns in MOST_COLUMNS if longest > length or not length)


def height_for(names: Sequence[str]) -> float:
    """Inches for a legend of the names; one name needs none."""
    return LINE * -(-len(names) // columns_for(names)) + BELOW if len(names) > 1 else 0.0


def add_legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """What lines, marks and bars are, each with its name, in the lower left corner of a figure; one needs no legend."""
    if len(entries) < 2:
        return
    names = Words(figure, up=0, ha="left", fontsize=SIZE)
    columns = columns_for([name for _, name in entries])
    lines = -(-len(entries) // columns)
    left = BELOW
    for start in range(0, len(entries), lines):
        column = entries[start : start + lines]
        for line, (drawn, name) in enumerate(column):
            middle = BELOW + (lines - line - 0.5) * LINE
            key = figure.add_artist(_key(drawn, left, middle))
            key.set(transform=figure.dpi_scale_trans, clip_on=False)
            names.add(left + KEY + PAD, middle - 0.04, name)
        left += KEY + PAD + max(width_of(name, SIZE) for _, name in column) + APART


def _key(drawn: Artist, left: float, middle: float) -> Artist:
    """What an entry is drawn like: a box for bars; else a line, with its mark in the middle."""
    if isinstance(drawn, Patch):
        box = Rectangle((left, middle - 0.04), KEY, 0.08)
        box.update_from(drawn)
        return box
    assert isinstance(drawn, Line2D)
    line = Line2D([left, left + KEY / 2, left + KEY], [middle] * 3)
    line.update_from(drawn)
    line.set_markevery([1])
    return line
