"""Frames: where numbers are drawn, how axes are numbered, and where a key stands."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aqa.drawing.frames import (
    MINUS,
    OVERHANG,
    Frame,
    ends_of,
    number_text,
    numbers_below,
    numbers_beside,
    strokes,
    ticks_below,
    ticks_of,
)
from aqa.drawing.words import CUT, Words, width_of


@pytest.fixture
def frame():
    return Frame(Figure(figsize=(6, 4)), 1.0, 0.5, 4.0, 3.0, x=(0.0, 10.0), y=(-1.0, 1.0))


def test_a_number_is_drawn_where_the_axes_say(frame):
    frame.line([0, 5, 10], [-1, 0, 1])
    (line,) = frame.figure.findobj(Line2D)
    places = line.get_transform().transform(line.get_xydata()) / frame.figure.dpi
    assert np.allclose(places, [(1, 0.5), (3, 2), (5, 3.5)])
    assert (frame.across(5), frame.up(0)) == frame.middle == (3, 2)
    assert np.allclose(line.get_clip_box().extents / frame.figure.dpi, [1, 0.5, 5, 3.5])


def test_dots_are_drawn_where_the_axes_say_and_as_large_as_asked(frame):
    frame.dots([0, 5, 10], [-1, 0, 1], 36, color="#0000ff")
    canvas = FigureCanvasAgg(frame.figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)[::-1]
    rows, columns = np.nonzero(pixels[..., 2] > pixels[..., 0])
    dpi = frame.figure.dpi
    around = (abs(rows - 2 * dpi) < dpi) & (abs(columns - 3 * dpi) < dpi)
    assert (np.ptp(rows[around]) + 1, np.ptp(columns[around]) + 1) == pytest.approx((dpi / 2, dpi / 2), abs=2)
    assert (rows[around].mean(), columns[around].mean()) == pytest.approx((2 * dpi, 3 * dpi), abs=1)
    extent = (columns.min() / dpi, rows.min() / dpi, columns.max() / dpi, rows.max() / dpi)
    assert extent == pytest.approx((1, 0.5, 5, 3.5), abs=0.03)  # cut off at the edges


def test_the_name_of_an_axis_stays_within_the_figure(frame):
    frame.name_upright(0.0, "a name", 9)
    frame.name_upright(0.0, "a name of an axis that is as long as this " * 3, 9)
    short, long = frame.figure.findobj(Words)
    assert short.shown[0][1] == 2
    assert long.shown[0][2].endswith(CUT)
    height = frame.figure.get_figheight() * frame.figure.dpi
    assert all(box.x0 > 0 and 0 < box.y0 < box.y1 < height for each in (short, long) for box in each.boxes())


def test_strokes_are_one_artist_that_joins_the_places(frame):
    strokes(frame.figure, [[(1, 1), (2, 2), (2, 3)], [(4, 1), (5, 1)]], "red", 2)
    (drawn,) = frame.figure.artists
    found = [[tuple(place) for place in line] for line in drawn.get_path().to_polygons(closed_only=False)]
    assert found == [[(1, 1), (2, 2), (2, 3)], [(4, 1), (5, 1)]]


def test_numbers_stand_below_and_beside_their_ticks(frame):
    numbers_below([frame], {5.0: "5"}, 9)
    numbers_beside([frame], {0.0: "0"}, 9)
    below, beside = frame.figure.findobj(Words)
    (box,) = below.boxes()
    assert (box.x0 + box.x1) / 2 / frame.figure.dpi == pytest.approx(3)
    assert box.y1 / frame.figure.dpi == pytest.approx(0.4)
    (box,) = beside.boxes()
    assert (box.y0 + box.y1) / 2 / frame.figure.dpi == pytest.approx(2, abs=0.01)
    assert box.x1 / frame.figure.dpi == pytest.approx(0.9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 12345.0, 1e9])
@pytest.mark.parametrize("width", [0.4, 1.0, 4.0])
def test_numbers_below_have_room_beside_one_another(frame, scale, width):
    frame = Frame(frame.figure, 1.0, 0.5, width, 3.0, x=(-1.3 * scale, 2.9 * scale), y=(0, 1))
    ticks = ticks_below(frame, 9)
    spans = [(frame.across(value), width_of(text, 9) / 2) for value, text in ticks.items()]
    assert len(spans) >= 2 * (width > 0.5) + 2 * (width > 2)
    assert all(x - half > before + own for (before, own), (x, half) in itertools.pairwise(spans))
    assert all(frame.left - OVERHANG <= x - half < x + half <= frame.right + OVERHANG for x, half in spans)


def test_a_key_stands_where_it_hides_least(frame):
    def corner(seen):
        frame.key([({"color": "red"}, "name")], 8, seen)
        (*_, words) = frame.figure.findobj(Words)
        ((x, y, text),) = words.shown
        assert text == "name"
        return x > frame.middle[0], y > frame.middle[1]

    assert corner([]) == (True, True)
    assert corner([(9, 0.9)]) == (False, True)
    upper = [(x, 0.9) for x in np.linspace(0, 10, 100)]
    assert corner(upper) == (True, False)
    assert corner([*upper, (9, -0.9), (9, -0.95), (np.nan, -0.9)]) == (False, False)


def test_ticks_are_round_numbers_within_the_axis():
    ticks = ticks_of((-0.04, 0.91))
    assert list(ticks) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert list(ticks.values()) == ["0.0", "0.2", "0.4", "0.6", "0.8"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 10], (-0.5, 10.5)),
        ([np.nan, 4, np.inf], (3.8, 4.2)),
        ([0], (-0.05, 0.05)),
        ([np.nan], (0.0, 1.0)),
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
