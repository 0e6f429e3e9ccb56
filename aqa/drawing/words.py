"""Many short texts drawn as one, how wide a text is, and texts cut to where they are to fit."""

from __future__ import annotations

import bisect
import functools
import math
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox, IdentityTransform
from numpy.typing import NDArray

_INCH = 72  # points
CUT = "…"
_SHARE = {"left": 0.0, "center": 0.5, "right": 1.0}  # of a text, what lies before its place


@functools.lru_cache(10_000)  # the figures of a sweep have the same words again and again
def _extent(text: str, font: FontProperties) -> tuple[float, float, float]:
    """The width of a text, its height and how much of that is below its letters' foot, in inches."""
    width, height, descent = text_to_path.get_text_width_height_descent(text, font, False)
    return width / _INCH, height / _INCH, descent / _INCH


@functools.lru_cache(1000)  # some kilobytes each
def _letters(text: str, font: FontProperties) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The outlines of a text's letters, from where it begins, in inches."""
    places, codes = text_to_path.get_text_path(font, text)
    scale = font.get_size_in_points() / text_to_path.FONT_SCALE / _INCH
    return np.reshape(places, (-1, 2)) * scale, np.asarray(codes, np.uint8)


def word(figure: Figure, x: float, y: float, text: str, size: float, **of: Any) -> None:
    """Write a text alone, by its middle; of: what `Words` are given."""
    Words(figure, fontsize=size, **of).add(x, y, text)


def width_of(text: str, size: float) -> float:
    """Inches that a text of a size in points takes."""
    return _extent(text, FontProperties(size=size))[0]


def fitted(text: str, size: float, inches: float) -> str:
    """A text with its end cut off where it takes more than so many inches."""
    if width_of(text, size) <= inches:
        return text
    first_too_long = bisect.bisect_right(
        range(len(text)), inches, key=lambda count: width_of(text[:count].rstrip() + CUT, size)
    )
    return text[: max(0, first_too_long - 1)].rstrip() + CUT


class Words(Text):
    """Many short texts of one size, colour and angle, drawn as one artist; places are in inches.

    A `Text` for each would take twice as long, and the heat maps of a report have thousands.
    """

    def __init__(self, figure: Figure, up: float = 0.5, **of: Any):
        """up: what share of a text lies below its place: 0 where its letters stand on it, 0.5 in the middle, 1 above.

        of: what a `Text` is given; "ha" says where along the text its place is, and "rotation" turns it about it.
        """
        super().__init__(rotation_mode="anchor", transform=IdentityTransform(), **{"ha": "center", **of})
        self.shown: list[tuple[float, float, str]] = []
        self.up, self.inches = up, figure.dpi_scale_trans
        figure.add_artist(self)

    def add(self, x: float, y: float, text: str) -> None:
        """Show a text; x, y: its place in inches."""
        self.shown.append((x, y, text))

    def draw(self, renderer: RendererBase) -> None:
        if not self.shown:
            return
        gc = renderer.new_gc()
        gc.set_foreground(self.get_color())
        if isinstance(renderer, RendererAgg):
            self._draw_outlines(renderer, gc)
        else:
            self._draw_texts(renderer, gc)
        gc.restore()

    def _draw_outlines(self, renderer: RendererAgg, gc: GraphicsContextBase) -> None:
        """As pixels: the outlines of all letters at once, in a quarter of the time that a text after another takes."""
        font, turned = self.get_fontproperties(), np.stack(self._directions())
        outlines = [_letters(text, font) for _, _, text in self.shown]
        starts = self.inches.inverted().transform([start for *_, start in self._placed()])
        places = [letters @ turned + start for (letters, _), start in zip(outlines, starts, strict=True)]
        gc.set_linewidth(0)
        path = Path(np.concatenate(places), np.concatenate([codes for _, codes in outlines]))
        renderer.draw_path(gc, path, self.inches, to_rgba(self.get_color()))

    def _draw_texts(self, renderer: RendererBase, gc: GraphicsContextBase) -> None:
        """In a file that holds text as text."""
        font, angle, top = self.get_fontproperties(), self.get_rotation(), renderer.get_canvas_width_height()[1]
        for text, foot, (x, y) in self._placed():
            self.set_position((foot[0], foot[1]))  # where an SVG aligns the text, by the font that it is read with
            renderer.draw_text(gc, x, top - y if renderer.flipy() else y, text, font, angle, False, self)

    def _placed(self) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """Each text with the foot of its place, and where it begins, in pixels."""
        font, share = self.get_fontproperties(), _SHARE[self.get_horizontalalignment()]
        along, upward = self._directions()
        extents = [_extent(text, font) for _, _, text in self.shown]
        places = np.reshape([place for *place, _ in self.shown], (-1, 2))
        below = np.reshape([self.up * (height - descent) for _, height, descent in extents], (-1, 1))
        before = np.reshape([share * width for width, _, _ in extents], (-1, 1))
        feet = places - below * upward
        starts = self.inches.transform(feet - before * along)
        texts = (text for _, _, text in self.shown)
        return list(zip(texts, self.inches.transform(feet), starts, strict=True))

    def _directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Steps of one along the texts, and upward from their feet."""
        turned = math.radians(self.get_rotation())
        return np.array([math.cos(turned), math.sin(turned)]), np.array([-math.sin(turned), math.cos(turned)])

    def boxes(self) -> list[Bbox]:
        """What each text takes, in pixels: the upright box around it where it is turned."""
        font, (along, upward) = self.get_fontproperties(), self._directions()
        found = []
        for text, _, start in self._placed():
            width, height, descent = _extent(text, font)
            steps = [a * along + b * upward for a in (0.0, width) for b in (-descent, height - descent)]
            corners = start + self.inches.transform(steps)
            found.append(Bbox([np.min(corners, axis=0), np.max(corners, axis=0)]))
        return found

    def get_window_extent(self, renderer: RendererBase | None = None, dpi: float | None = None) -> Bbox:
        """What all texts take together, which is asked to know whether they lie within a figure."""
        found = self.boxes()
        return Bbox.union(found) if found else Bbox.null()
