"""Bars, levels, bands and upright lines are what their numbers say."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from aqa.drawing.frames import Frame
from aqa.drawing.marks import band, bars, levels, upright_lines


@pytest.fixture
def frame():
    return Frame(Figure(figsize=(6, 4)), 1.0, 0.5, 4.0, 3.0, x=(0.0, 10.0), y=(-1.0, 1.0))


def test_a_bar_goes_from_nothing_to_its_height_and_none_is_drawn_without_one(frame):
    drawn = bars(frame, [1, 2, 3], [0.5, np.nan, -0.25], 0.5, facecolor="red")
    corners = drawn.get_path().vertices.reshape(-1, 5, 2)[:, :4]
    np.testing.assert_array_equal(corners[0], [(0.75, 0), (0.75, 0.5), (1.25, 0.5), (1.25, 0)])
    np.testing.assert_array_equal(corners[1], [(2.75, 0), (2.75, -0.25), (3.25, -0.25), (3.25, 0)])


def test_upright_lines_go_from_one_end_to_the_other_and_are_apart(frame):
    drawn = upright_lines(frame, [1, 3], [(0.1, 0.2), (-0.5, 0.5)])
    np.testing.assert_array_equal(
        drawn.get_xydata(), [(1, 0.1), (1, 0.2), (1, np.nan), (3, -0.5), (3, 0.5), (3, np.nan)]
    )


def test_a_level_lies_across_its_place(frame):
    found = levels(frame, {0: 0.5, 4: 0.7}, color="red").get_xydata()
    np.testing.assert_allclose(found[[0, 1, 3, 4]], [(-0.42, 0.5), (0.42, 0.5), (3.58, 0.7), (4.42, 0.7)])
    assert np.isnan(found[[2, 5], 0]).all()


def test_a_band_lies_between_its_lines(frame):
    band(frame, [0, 5], [-0.5, -0.25], [0.5, 0.75], "red")
    (drawn,) = frame.figure.artists
    inside = drawn.get_path().contains_points([(1, 0.4), (4, -0.2), (1, 0.7), (4, -0.4)])
    assert inside.tolist() == [True, True, False, False]


def test_a_band_is_parted_where_a_line_is(frame):
    band(frame, [0, 1, 2, 3, 4], [-0.5, -0.5, np.nan, -0.5, -0.5], [0.5] * 5, "red")
    (drawn,) = frame.figure.artists
    inside = drawn.get_path().contains_points([(0.5, 0), (1.5, 0), (2, 0), (2.5, 0), (3.5, 0)])
    assert inside.tolist() == [True, False, False, False, True]


def test_nothing_to_draw_is_no_mistake(frame):
    assert not len(bars(frame, [], [], 0.5).get_path().vertices)
    assert not len(levels(frame, {}).get_xydata())
    assert not len(upright_lines(frame, [], []).get_xydata())
    band(frame, [1.0], [np.nan], [0.5], "red")
    frame.figure.draw_without_rendering()
