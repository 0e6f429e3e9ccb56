"""The diagram of models' mean ranks over targets."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from aqa.drawing.frames import EDGE, PAD, TICK, Frame, strokes, ticks_of
from aqa.drawing.words import Words, width_of, word
from aqa.evaluation.comparison import Ranking
from aqa.reporting.charts import INK, MOST_TICKS, SIZE, STYLE
from aqa.reporting.drawing import Drawing, finished, styled

LABEL, FIRST_BAR, BARS = 0.28, 0.2, 0.13  # inches: a line of labels, above the first bar, and from one to the next
BESIDE_LINE = 0.05  # inches between a model's line and its name


def critical_difference(ranking: Ranking, title: str) -> Drawing:
    """Mean ranks of models; a bar joins those that Nemenyi's test cannot tell apart (Demsar, 2006, figure 1)."""
    names, ranks = list(ranking.ranks.index), ranking.ranks.to_numpy()
    joined = not_told_apart(ranking)
    first = FIRST_BAR + BARS * (1 + max((line for *_, line in joined), default=0))  # inches from the axis to the labels
    half = (len(names) + 1) // 2
    labels = [f"{name} ({rank:.2f})" for name, rank in zip(names[:half], ranks[:half], strict=True)]
    labels += [f"({rank:.2f}) {name}" for name, rank in zip(names[half:], ranks[half:], strict=True)]
    with styled(STYLE):
        side = BESIDE_LINE + max(width_of(label, SIZE) for label in labels) + EDGE
        height = first + LABEL * half
        figure = Figure(figsize=(4.5 + 2 * side, EDGE + height + 0.75))
        frame = Frame(figure, side, EDGE, 4.5, height, (1, len(names)), (height, 0))  # ranks, and inches downward
        _axis_above(frame)
        left, right = (Words(figure, ha=align, fontsize=SIZE) for align in ("right", "left"))
        lines = []
        for place, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
            at_left = place < half
            x, y = frame.across(rank), frame.up(first + LABEL * (0.5 + (place if at_left else len(names) - 1 - place)))
            lines.append([(x, frame.top), (x, y), (frame.left if at_left else frame.right, y)])
            if at_left:
                left.add(frame.left - BESIDE_LINE, y, label)
            else:
                right.add(frame.right + BESIDE_LINE, y, label)
        strokes(figure, lines, INK, 0.9)
        heights = [frame.up(FIRST_BAR + BARS * line) for *_, line in joined]
        ends = [(frame.across(ranks[low]), frame.across(ranks[high])) for low, high, _ in joined]
        strokes(figure, [[(low, y), (high, y)] for (low, high), y in zip(ends, heights, strict=True)], INK, 3)
        return finished(figure, "ranks", title)


def _axis_above(frame: Frame) -> None:
    """Draw the axis of ranks, with its numbers and its name."""
    ticks, top = ticks_of(frame.x, MOST_TICKS, integer=True), frame.top
    marks = [[(frame.across(value), top), (frame.across(value), top + TICK)] for value in ticks]
    strokes(frame.figure, [[(frame.left, top), (frame.right, top)], *marks], INK, 0.8)
    numbers = Words(frame.figure, up=0, fontsize=SIZE)
    for value, text in ticks.items():
        numbers.add(frame.across(value), top + PAD, text)
    word(frame.figure, frame.middle[0], top + PAD + 0.22, "mean rank, 1 is best", 8, up=0)


def not_told_apart(ranking: Ranking) -> list[tuple[int, int, int]]:
    """The longest rows of models, as they rank, that are not told apart: first, last, and a line where none overlap."""
    ranks = ranking.ranks.to_numpy()
    last = [int(np.flatnonzero(ranks - rank <= ranking.critical_difference).max()) for rank in ranks]
    rows = [(i, end) for i, end in enumerate(last) if end > i and (i == 0 or last[i - 1] < end)]
    ends: list[int] = []  # of what each line has so far
    placed = []
    for low, high in rows:
        line = next((line for line, end in enumerate(ends) if end < low), len(ends))
        ends[line : line + 1] = [high]
        placed.append((low, high, line))
    return placed
