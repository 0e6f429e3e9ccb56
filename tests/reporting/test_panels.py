"""Panels that are drawn as one show what axes of their own would."""

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from aqa.reporting.drawing import finished, styled
from aqa.reporting.panels import IN_A_LINE, MINUS, Panels, Words, empty, ends_of, number_text


@pytest.fixture
def panels():
    return Panels(6, side=2.0, title=0.3, below=0.5, x=(0.0, 10.0), y=(-1.0, 1.0))


def is_blue(figure):
    """Which pixels of a figure are (rows, columns), the highest first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)
    return pixels[..., 2] > pixels[..., 0]


def in_inches(panels, place, point):
    inside = panels.inside(place)["transform"] - panels.axes.transData
    return inside.transform(point)


def test_a_panel_lies_right_of_the_one_before_and_four_make_a_line(panels):
    corners = np.array([in_inches(panels, place, (0, -1)) for place in range(6)])
    assert np.allclose(np.diff(corners[:IN_A_LINE], axis=0), [2.0, 0.0])
    assert np.allclose(corners[IN_A_LINE] - corners[0], [0.0, -2.3])
    assert np.allclose(panels.figure.get_size_inches(), [0.7 + 4 * 2.0, 0.6 + 2 * 2.3])


def test_numbers_are_drawn_where_the_axes_say(panels):
    low, middle, high = (in_inches(panels, 1, point) for point in ((0, -1), (5, 0), (10, 1)))
    assert np.allclose(high - low, [1.75, 1.75])
    assert np.allclose(middle, (low + high) / 2)


def test_nothing_is_drawn_beyond_the_edges_of_its_panel(panels):
    panels.axes.plot([5, 5], [-9, 9], color="#0000ff", linewidth=3, **panels.inside(1))
    panels.axes.scatter([5, 5], [1.5, -1.5], color="#0000ff", **panels.inside(1))
    inked = is_blue(panels.figure)
    low, high = (in_inches(panels, 1, point) * panels.figure.dpi for point in ((0, -1), (10, 1)))
    rows, columns = np.nonzero(inked[::-1])
    assert abs(rows.min() - low[1]) <= 2
    assert abs(rows.max() - high[1]) <= 2
    assert low[0] < columns.min() <= columns.max() < high[0]


def test_ticks_are_numbered_below_and_at_the_left_alone(panels):
    panels.frame(x=[0, 5, 20], y=[-1, 1])
    shown = [text.get_text() for text in panels.axes.texts]
    assert shown.count("5") == shown.count("0") == 4  # below the last in each column
    assert shown.count(f"{MINUS}1") == shown.count("1") == 2  # beside the first in each line
    assert "20" not in shown  # beyond the axis


def test_ticks_are_round_numbers_where_none_are_asked_for(panels):
    panels.frame()
    assert {"0", "2", "4", "10"} <= {text.get_text() for text in panels.axes.texts}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 10], (-0.5, 10.5)),
        ([np.nan, 4, np.inf], (3.8, 4.2)),
        ([0], (-0.05, 0.05)),
    ],
)
def test_an_axis_shows_all_numbers_with_a_margin(values, wanted):
    assert ends_of(values) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("value", "beside", "wanted"),
    [
        (0.5, [0.25, 0.5], "0.50"),
        (0.1 + 0.2, [0.1, 0.2, 0.1 + 0.2], "0.3"),
        (-50, [-50, 0], f"{MINUS}50"),
        (1e9, [0, 1e9], "1e+09"),
    ],
)
def test_ticks_have_the_decimals_that_they_need(value, beside, wanted):
    assert number_text(value, beside) == wanted


def test_words_are_drawn_in_the_middle_of_their_places():
    figure, axes = empty(4.0, 3.0)
    words = Words(axes, fontsize=7, color="#0000ff")
    for place in [(1.0, 2.0, "0.23"), (3.0, 0.5, "0.45"), (2.0, 1.0, "0.23")]:
        words.add(*place)
    inked = is_blue(figure)
    for x, y in [(1.0, 2.0), (3.0, 0.5), (2.0, 1.0)]:
        row, column = (round(figure.dpi * inches) for inches in (3.0 - y, x))
        rows, columns = np.nonzero(inked[row - 25 : row + 25, column - 25 : column + 25])
        assert len(rows) > 20
        assert abs(rows.min() + rows.max() - 49) <= 3
        assert abs(columns.min() + columns.max() - 49) <= 3
    assert words.get_text() == ""


def test_an_svg_centres_words_itself():
    figure, axes = empty(4.0, 3.0)
    Words(axes, fontsize=7).add(1.0, 2.0, "0.23")
    with styled({"svg.fonttype": "none"}):
        svg = finished(figure).svg
    assert re.findall(r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>0.23<', svg) == ["72"]


def test_no_words_are_no_mistake():
    figure, axes = empty(4.0, 3.0)
    Words(axes)
    assert "<text" not in finished(figure).svg
