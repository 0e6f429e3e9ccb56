"""What bars and lines are drawn of in a frame, many of them one artist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import ArrayLike

from aqa.drawing.boxes import corners_of
from aqa.drawing.frames import Ends, Frame

HALF_LEVEL = 0.42  # of the distance between two places, what a level covers at each side of its own


def bars(frame: Frame, middles: ArrayLike, heights: ArrayLike, width: float, **of: Any) -> PathPatch:
    """Bars of one colour from nothing to their heights; none where a height is NaN. of: as a `PathPatch`."""
    middles, tops = np.asarray(middles, np.float64), np.asarray(heights, np.float64)
    middles, tops = middles[~np.isnan(tops)], tops[~np.isnan(tops)]
    corners = corners_of(middles - width / 2, 0.0, middles + width / 2, tops)
    drawn = PathPatch(Path.make_compound_path_from_polys(corners), **of)
    frame.add(drawn)
    return drawn


def upright_lines(frame: Frame, places: Sequence[float], ends: Sequence[Ends], **of: Any) -> Line2D:
    """A line from one end to the other above each place; of: as a `Line2D`."""
    parted = np.full((len(places), 3), np.nan)
    parted[:, :2] = np.reshape(ends, (-1, 2))
    return frame.line(np.repeat(places, 3), parted.ravel(), solid_capstyle="butt", **of)


def levels(frame: Frame, heights: Mapping[int, float], **of: Any) -> Line2D:
    """A line across the bars of each place, at its height; of: as a `Line2D`."""
    ends = [(place - HALF_LEVEL, place + HALF_LEVEL, np.nan) for place in heights]
    return frame.line(np.ravel(ends), np.repeat(list(heights.values()), 3), **of)


def band(frame: Frame, x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> None:
    """The area between two lines, faint; none where either is NaN."""
    places = np.column_stack([x, low, high])
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    parts = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1) if len(known) else []
    edges = [np.concatenate([places[part][:, [0, 1]], places[part][::-1, [0, 2]]]) for part in parts]
    whole = Path.make_compound_path(*map(Path, edges))
    frame.add(PathPatch(whole, facecolor=color, alpha=0.12, linewidth=0, edgecolor="none"))
