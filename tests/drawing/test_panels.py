"""Panels that are drawn as one show what axes of their own would."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from aqa.drawing.frames import MINUS
from aqa.drawing.panels import IN_A_LINE, Panels
from aqa.drawing.words import CUT, Words


@pytest.fixture
def panels():
    return Panels(6, side=2.0, title=0.3, below=0.5, x=(0.0, 10.0), y=(-1.0, 1.0))


def is_blue(figure):
    """Which pixels of a figure are (rows, columns), the highest first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)
    return pixels[..., 2] > pixels[..., 0]


def texts(panels):
    return [text for each in panels.figure.findobj(Words) for *_, text in each.shown]


def in_inches(panels, place, point):
    return panels.frames[place].to_inches().transform(point)


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
    panels.frames[1].line([5, 5], [-9, 9], color="#0000ff", linewidth=3)
    panels.frames[1].dots([5, 5], [1.5, -1.5], 6, color="#0000ff")
    inked = is_blue(panels.figure)
    low, high = (in_inches(panels, 1, point) * panels.figure.dpi for point in ((0, -1), (10, 1)))
    rows, columns = np.nonzero(inked[::-1])
    assert abs(rows.min() - low[1]) <= 2
    assert abs(rows.max() - high[1]) <= 2
    assert low[0] < columns.min() <= columns.max() < high[0]


def test_ticks_are_numbered_below_and_at_the_left_alone(panels):
    panels.frame(x=[0, 5, 20], y=[-1, 1])
    shown = texts(panels)
    assert shown.count("5") == shown.count("0") == 4  # below the last in each column
    assert shown.count(f"{MINUS}1") == shown.count("1") == 2  # beside the first in each line
    assert "20" not in shown  # beyond the axis


def test_ticks_are_round_numbers_where_none_are_asked_for(panels):
    panels.frame()
    assert {"0", "2", "4", "10"} <= set(texts(panels))


def test_a_title_is_cut_to_the_room_above_its_panel(panels):
    panels.title(0, "a pattern of a long name " * 4)
    ((_, _, shown),) = panels.titles.shown
    assert shown.endswith(CUT)
    (box,) = panels.titles.boxes()
    assert box.x0 > 0
    assert box.x1 / panels.figure.dpi < panels.frames[1].left


def test_the_last_line_of_a_title_stands_on_its_panel(panels):
    panels.title(5, "above\nbelow")
    frame, found = panels.frames[5], {text: (x, y) for x, y, text in panels.titles.shown}
    assert found["below"] == pytest.approx((frame.middle[0], frame.top + 0.08))
    assert found["above"][0] == found["below"][0]
    assert found["above"][1] > found["below"][1] + 0.1


def test_the_names_of_the_axes_stand_in_the_middle_of_all_panels(panels):
    panels.names("below", "beside", 0.05, 9)
    found = {text: (x, y) for each in panels.figure.findobj(Words) for x, y, text in each.shown}
    assert found["below"] == pytest.approx(((panels.frames[0].left + panels.frames[3].right) / 2, 0.05))
    assert found["beside"][1] == pytest.approx((panels.frames[5].bottom + panels.frames[0].top) / 2)
    panels.names("a long name " * 20, "beside", 0.05, 9)
    (*_, (_, _, cut)) = (word for each in panels.figure.findobj(Words) for word in each.shown if "long" in word[2])
    assert cut.endswith(CUT)
