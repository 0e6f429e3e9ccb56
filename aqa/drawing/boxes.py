"""Upright boxes, many of them one artist, and heat maps of weights made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from aqa.drawing.words import Words

DARK = 0.6  # from which weight on a number is written in white

WeightCell = tuple[float, float, float, float, float]  # left, bottom, width and height in inches; the weight


def corners_of(left: ArrayLike, bottom: ArrayLike, right: ArrayLike, top: ArrayLike) -> NDArray[np.float64]:
    """The corners of boxes (n, 4, 2), from the lower left one upward and round."""
    left, bottom, right, top = np.broadcast_arrays(left, bottom, right, top)
    corners = np.stack([(left, bottom), (left, top), (right, top), (right, bottom)])
    return corners.transpose(2, 0, 1).astype(np.float64)


def weight_colours(cells: Sequence[WeightCell], **of: Any) -> PolyCollection:
    """Cells in the colour of their weight; of: what else a `PolyCollection` is given."""
    left, bottom, width, height, weight = np.reshape(cells, (-1, 5)).T
    corners = corners_of(left, bottom, left + width, bottom + height)
    return PolyCollection(list(corners), facecolors=matplotlib.colormaps["Blues"](weight), linewidths=0, **of)


def write_weights(figure: Figure, cells: Sequence[WeightCell], size: float) -> None:
    """Write each weight into its cell, in an ink that is seen on its colour."""
    dark, light = (Words(figure, fontsize=size, color=ink) for ink in ("black", "white"))
    for left, bottom, width, height, weight in cells:
        (light if weight > DARK else dark).add(left + width / 2, bottom + height / 2, f"{weight:.2f}")
