"""A finished figure as SVG, for the page, and as PDF, for LaTeX: laid out and drawn once for both."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_pdf import PdfFile, RendererPdf
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure

from aqa.reporting.fonts import families
from aqa.system.garbage import uncollected

POINTS = 72  # an inch: the unit of both
SVG_FAMILIES = "'DejaVu Sans', Verdana, sans-serif"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Drawing:
    """A figure as an SVG element, for the page, and as a PDF file, for LaTeX."""

    svg: str
    pdf: bytes


@contextlib.contextmanager
def styled(style: dict[Any, Any]) -> Iterator[None]:
    """What figures are made and finished in: a style, the fonts of reports."""
    with uncollected(), matplotlib.rc_context({**style, "font.family": families()}):
        yield


def finished(figure: Figure, *salt: str) -> Drawing:
    """The figure as a drawing. salt: makes the ids in its SVG its own, among all figures of a page."""
    svg, pdf = io.StringIO(), io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": repr(salt)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the SVG has the text itself
        _draw(figure, svg, pdf)
    text = svg.getvalue()
    named = ", ".join(map(repr, families()))
    return Drawing(text[text.index("<svg") :].replace(named, SVG_FAMILIES), pdf.getvalue())


def _draw(figure: Figure, svg_file: io.StringIO, pdf_file: io.BytesIO) -> None:
    """What `savefig` does for one of the formats, for both at once."""
    width, height = figure.get_size_inches()
    figure.set_dpi(POINTS)
    file = PdfFile(pdf_file, metadata={"CreationDate": None})
    try:
        file.newPage(width, height)
        svg = RendererSVG(width * POINTS, height * POINTS, svg_file, image_dpi=POINTS, metadata=NO_METADATA)
        pdf = RendererPdf(file, POINTS, height, width)
        figure.draw(BothRenderer(svg, pdf))
        svg.finalize()
        pdf.finalize()
        file.finalize()
    finally:
        file.close()


class BothRenderer(RendererBase):
    """Hands all that is drawn to an SVG and to a PDF. Text is measured as in the PDF, whose font is known."""

    def __init__(self, svg: RendererSVG, pdf: RendererPdf):
        super().__init__()
        self.svg, self.pdf = svg, pdf

    def draw_path(self, *drawn: Any, **options: Any) -> None:
        for renderer in (self.svg, self.pdf):
            renderer.draw_path(*drawn, **options)

    def draw_markers(self, *drawn: Any, **options: Any) -> None:
        for renderer in (self.svg, self.pdf):
            renderer.draw_markers(*drawn, **options)

    def draw_path_collection(self, *drawn: Any, **options: Any) -> None:
        for renderer in (self.svg, self.pdf):
            renderer.draw_path_collection(*drawn, **options)

    def draw_image(self, *drawn: Any, **options: Any) -> None:
        for renderer in (self.svg, self.pdf):
            renderer.draw_image(*drawn, **options)

    def draw_text(
        self, gc: GraphicsContextBase, x: float, y: float, s: str, prop: Any, angle: float, *more: Any, **options: Any
    ) -> None:
        self.svg.draw_text(gc, x, y, s, prop, angle, *more, **options)
        self.pdf.draw_text(gc, x, self.svg.height - y, s, prop, angle, *more, **options)

    def open_group(self, s: str, gid: str | None = None) -> None:
        self.svg.open_group(s, gid)

    def close_group(self, s: str) -> None:
        self.svg.close_group(s)

    def new_gc(self) -> GraphicsContextBase:
        return self.pdf.new_gc()  # it has what an SVG asks for too

    def flipy(self) -> bool:
        return True  # as in SVG, where y of text counts from above

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.svg.get_canvas_width_height()

    def get_text_width_height_descent(self, *text: Any, **options: Any) -> tuple[float, float, float]:
        return self.pdf.get_text_width_height_descent(*text, **options)

    def option_image_nocomposite(self) -> bool:
        return self.svg.option_image_nocomposite()

    def option_scale_image(self) -> bool:
        return True

    def get_image_magnification(self) -> float:
        return self.svg.get_image_magnification()
