"""Legends below axes: matplotlib's own measures each of its entries many times, as long as all else of a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from aqa.drawing.words import Words, fitted, width_of

LINE, BELOW = 0.19, 0.1  # inches: from one line to the next, and around all
KEY, PAD, APART = 0.29, 0.12, 0.22  # of the sign of an entry, between it and its name, and between two entries
SIZE = 8  # points
MOST_COLUMNS = 3


def columns_for(names: Sequence[str], width: float) -> list[list[str]]:
    """The names in columns, as many as have room in a figure of so many inches; longer ones than that are cut."""
    room = width - 2 * BELOW
    names = [fitted(name, SIZE, room - KEY - PAD) for name in names]
    for count in range(MOST_COLUMNS, 0, -1):
        lines = -(-len(names) // count)
        columns = [list(names[start : start + lines]) for start in range(0, len(names), lines)]
        if sum(map(_width_of, columns)) + APART * (len(columns) - 1) <= room:
            break
    return columns


def _width_of(column: Sequence[str]) -> float:
    return KEY + PAD + max(width_of(name, SIZE) for name in column)


def height_for(names: Sequence[str], width: float) -> float:
    """Inches for a legend of the names in a figure of so many inches; one name needs none."""
    return LINE * len(columns_for(names, width)[0]) + BELOW if len(names) > 1 else 0.0


def add_legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """What lines, marks and bars are, each with its name, in the lower left corner of a figure; one needs no legend."""
    if len(entries) < 2:
        return
    words = Words(figure, up=0, ha="left", fontsize=SIZE)
    columns = columns_for([name for _, name in entries], figure.get_figwidth())
    drawn = (artist for artist, _ in entries)
    left = BELOW
    for column in columns:
        for line, name in enumerate(column):
            middle = BELOW + (len(columns[0]) - line - 0.5) * LINE
            key = figure.add_artist(_key(next(drawn), left, middle))
            key.set(transform=figure.dpi_scale_trans, clip_on=False)
            words.add(left + KEY + PAD, middle - 0.04, name)
        left += _width_of(column) + APART


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
