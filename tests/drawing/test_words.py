"""Words that are drawn as one stand where a text alone would."""

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from aqa.drawing.words import CUT, Words, fitted, width_of, word
from aqa.reporting.drawing import finished, styled


def is_blue(figure):
    """Which pixels of a figure are (rows, columns), the lowest first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)
    return (pixels[..., 2] > pixels[..., 0])[::-1]


def test_words_are_drawn_in_the_middle_of_their_places():
    figure = Figure(figsize=(4.0, 3.0))
    words = Words(figure, fontsize=7, color="#0000ff")
    for place in [(1.0, 2.0, "0.23"), (3.0, 0.5, "0.45"), (2.0, 1.0, "0.23")]:
        words.add(*place)
    inked = is_blue(figure)
    for x, y in [(1.0, 2.0), (3.0, 0.5), (2.0, 1.0)]:
        row, column = (round(figure.dpi * inches) for inches in (y, x))
        rows, columns = np.nonzero(inked[row - 25 : row + 25, column - 25 : column + 25])
        assert len(rows) > 20
        assert abs(rows.min() + rows.max() - 49) <= 3
        assert abs(columns.min() + columns.max() - 49) <= 3
    assert words.get_text() == ""


def test_an_svg_centres_words_itself():
    figure = Figure(figsize=(4.0, 3.0))
    Words(figure, fontsize=7).add(1.0, 2.0, "0.23")
    with styled({"svg.fonttype": "none"}):
        svg = finished(figure).svg
    assert re.findall(r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>0.23<', svg) == ["72"]


def test_no_words_are_no_mistake():
    figure = Figure(figsize=(4.0, 3.0))
    Words(figure)
    assert "<text" not in finished(figure).svg


@pytest.mark.parametrize("up", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ha", ["left", "center", "right"])
@pytest.mark.parametrize("angle", [0, 40, 90])
def test_words_are_drawn_as_a_text_of_matplotlib_is(up, ha, angle):
    ours, theirs = Figure(figsize=(3, 3), dpi=150), Figure(figsize=(3, 3), dpi=150)
    of = {"fontsize": 12, "color": "#0000ff", "rotation": angle}
    Words(ours, up=up, ha=ha, **of).add(1.5, 1.5, "HEIGHTS")
    alignment = {0.0: "baseline", 0.5: "center", 1.0: "top"}[up]
    theirs.text(0.5, 0.5, "HEIGHTS", ha=ha, va=alignment, rotation_mode="anchor", **of)
    extents = []
    for figure in (ours, theirs):
        rows, columns = np.nonzero(is_blue(figure))
        extents.append([rows.min(), rows.max(), columns.min(), columns.max()])
    assert np.allclose(*extents, atol=5)  # matplotlib 3.10 rounds the widths of letters to pixels


def test_boxes_hold_what_is_drawn_and_no_more():
    figure = Figure(figsize=(3, 3), dpi=150)
    words = Words(figure, ha="right", fontsize=12, color="#0000ff", rotation=30)
    words.add(2.0, 1.0, "glyph")
    rows, columns = np.nonzero(is_blue(figure))
    (box,) = words.boxes()
    assert words.get_window_extent().extents.tolist() == box.extents.tolist()
    assert np.allclose(box.extents, [columns.min(), rows.min(), columns.max(), rows.max()], atol=8)
    assert box.x0 - 1 <= columns.min() <= columns.max() <= box.x1 + 1
    assert box.y0 - 1 <= rows.min() <= rows.max() <= box.y1 + 1


def test_a_text_is_as_wide_as_it_is_drawn():
    canvas = FigureCanvasAgg(Figure(dpi=150))
    drawn = canvas.get_renderer().get_text_width_height_descent("0.28 of what", FontProperties(size=30), False)[0]
    assert width_of("0.28 of what", 30) == pytest.approx(drawn / 150, rel=0.02)
    assert width_of("0.28 of what", 15) == pytest.approx(width_of("0.28 of what", 30) / 2)


@pytest.mark.parametrize("inches", [0.3, 1.0, 2.0])
def test_a_text_is_cut_where_it_does_not_fit(inches):
    text = "a name of many letters, as they are given"
    cut = fitted(text, 8, inches)
    assert cut.endswith(CUT)
    assert text.startswith(cut[:-1])
    assert width_of(cut, 8) <= inches
    assert width_of(text[: len(cut) + 1] + CUT, 8) > inches
    assert fitted(text, 8, 9.0) == text


def test_a_dollar_is_a_dollar_in_words():
    figure = Figure(figsize=(3, 3))
    Words(figure, color="#0000ff").add(1.5, 1.5, "$x^2$")
    wide = is_blue(figure)
    figure = Figure(figsize=(3, 3))
    Words(figure, color="#0000ff").add(1.5, 1.5, "x2")
    assert np.ptp(np.nonzero(wide)[1]) > np.ptp(np.nonzero(is_blue(figure))[1]) + 10


def test_a_word_alone_is_one_that_is_drawn():
    figure = Figure(figsize=(3, 3))
    word(figure, 1.0, 2.0, "alone", 8, rotation=90)
    (words,) = figure.findobj(Words)
    assert (words.shown, words.get_rotation(), words.get_fontsize()) == ([(1.0, 2.0, "alone")], 90, 8)
