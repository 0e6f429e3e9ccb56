"""A finished figure as SVG, for the page, and as PDF, for LaTeX: laid out and drawn once for both."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from aqa.reporting.fonts import families
from aqa.system.garbage import uncollected

POINTS = 72  # an inch: the unit of both
SVG_FAMILIES = "'DejaVu Sans', Verdana, sans-serif"
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Drawing:
    """A figure as an SVG element, for the page, and as a PDF file, for LaTeX; None where PDF was not asked for."""

    svg: str
    pdf: bytes | None


_pdf_too: ContextVar[bool] = ContextVar("_pdf_too", default=True)


@contextlib.contextmanager
def drawn_as(pdf: bool) -> Iterator[None]:
    """Whether figures that are finished in the block come as PDF too, which takes as long again."""
    before = _pdf_too.set(pdf)
    try:
        yield
    finally:
        _pdf_too.reset(before)


@contextlib.contextmanager
def styled(style: dict[Any, Any]) -> Iterator[None]:
    """What figures are made and finished in: a style, the fonts of reports."""
    with uncollected(), matplotlib.rc_context({**style, "font.family": families()}):
        yield


def finished(figure: Figure, *salt: str) -> Drawing:
    """The figure as a drawing. salt: makes the ids in its SVG its own, among all figures of a page."""
    svg, pdf = io.StringIO(), io.BytesIO()
    pdf_too = _pdf_too.get()
    with matplotlib.rc_context({"svg.hashsalt": repr(salt)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the SVG has the text itself
        _draw(figure, svg, pdf, pdf_too)
    text = svg.getvalue()
    named = ", ".join(map(repr, families()))
    return Drawing(text[text.index("<svg") :].replace(named, SVG_FAMILIES), pdf.getvalue() if pdf_too else None)


def _draw(figure: Figure, svg_file: io.StringIO, pdf_file: io.BytesIO, pdf_too: bool) -> None:
    """What `savefig` does for one of the formats, for both at once. Without a PDF its file is begun all the same."""
    width, height = figure.get_size_inches()
    figure.set_dpi(POINTS)
    file = PdfFile(pdf_file, metadata={"CreationDate": None})
    try:
        file.newPage(width, height)
        svg = RendererSVG(width * POINTS, height * POINTS, svg_file, image_dpi=POINTS, metadata=NO_METADATA)
        pdf = RepeatedTexts(file, POINTS, height, width)
        figure.draw(BothRenderer(svg, pdf, pdf_too))
        svg.finalize()
        if pdf_too:
            pdf.finalize()
            file.finalize()
    finally:
        file.close()


class RepeatedTexts(RendererPdf):
    """A PDF in which a text that comes again is laid out once: the numbers of heat maps were a fifth of a report."""

    def __init__(self, file: PdfFile, dpi: float, height: float, width: float):
        super().__init__(file, dpi, height, width)
        self.written: dict[tuple[str, int, float], bytes] = {}  # by text, font and angle

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        *more: Any,
        **options: Any,
    ) -> None:
        self.check_gc(gc, gc.get_rgb())  # writes the colour, if it is another: so that is no part of the text
        key = s, hash(prop), angle
        if key not in self.written:
            page, self.file.currentstream = self.file.currentstream, io.BytesIO()
            try:
                super().draw_text(gc, 0.0, 0.0, s, prop, angle, *more, **options)
                self.written[key] = self.file.currentstream.getvalue()
            finally:
                self.file.currentstream = page
        self.file.output(Op.gsave, 1, 0, 0, 1, x, y, Op.concat_matrix)
        self.file.write(self.written[key])
        self.file.output(Op.grestore)


class BothRenderer(RendererBase):
    """Hands all that is drawn to an SVG and, if asked to, a PDF. Text is measured as in a PDF, whose font is known."""

    def __init__(self, svg: RendererSVG, pdf: RendererPdf, pdf_too: bool = True):
        super().__init__()
        self.svg, self.pdf = svg, pdf
        self.renderers = (svg, pdf) if pdf_too else (svg,)

    def draw_path(self, *drawn: Any, **options: Any) -> None:
        for renderer in self.renderers:
            renderer.draw_path(*drawn, **options)

    def draw_markers(self, *drawn: Any, **options: Any) -> None:
        for renderer in self.renderers:
            renderer.draw_markers(*drawn, **options)

    def draw_path_collection(self, *drawn: Any, **options: Any) -> None:
        for renderer in self.renderers:
            renderer.draw_path_collection(*drawn, **options)

    def draw_image(self, *drawn: Any, **options: Any) -> None:
        for renderer in self.renderers:
            renderer.draw_image(*drawn, **options)

    def draw_text(self, gc: GraphicsContextBase, x: float, y: float, *text: Any, **options: Any) -> None:
        for renderer in self.renderers:
            down = y if renderer is self.svg else self.svg.height - y
            renderer.draw_text(gc, x, down, *text, **options)

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
