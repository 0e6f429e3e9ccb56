"""Legends say what is drawn how, within their figure."""

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from aqa.drawing.words import CUT, Words
from aqa.reporting.legends import add_legend, columns_for, height_for


@pytest.fixture
def figure():
    return Figure(figsize=(6, 3))


def line(**of):
    return Line2D([0, 1], [0, 1], **of)


def shown(figure):
    return [text for words in figure.findobj(Words) for *_, text in words.shown]


def test_entries_have_the_colours_and_marks_of_what_is_drawn(figure):
    drawn = line(linestyle="--", marker="o", color="#aa0000"), line(linestyle="none", marker="d", color="#00aa00")
    bars = PathPatch(Path.unit_circle(), facecolor="#0000aa", edgecolor="none", hatch="///")
    add_legend(figure, [(drawn[0], "a line"), (drawn[1], "marks"), (bars, "bars")])
    assert shown(figure) == ["a line", "marks", "bars"]
    of_line, marks, box = (artist for artist in figure.artists if not isinstance(artist, Words))
    assert (of_line.get_color(), of_line.get_marker(), of_line.get_linestyle()) == ("#aa0000", "o", "--")
    assert (marks.get_color(), marks.get_marker(), marks.get_linestyle()) == ("#00aa00", "d", "None")
    assert isinstance(box, Rectangle)
    assert box.get_facecolor() == (0, 0, 2 / 3, 1)
    assert box.get_hatch() == "///"


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize(
    "name",
    [
        "m{}",
        "a rather long name of model {}",
        "a name that is longer than half of a line {}",
        "{} " + "n" * 99,
    ],
)
def test_entries_lie_in_their_room_and_not_on_one_another(figure, count, name):
    names = [name.format(i) for i in range(count)]
    add_legend(figure, [(line(), each) for each in names])
    (words,) = figure.findobj(Words)
    keys = [artist.get_window_extent() for artist in figure.artists if artist is not words]
    assert len(keys) == count
    found = [box.transformed(figure.dpi_scale_trans.inverted()) for box in [*words.boxes(), *keys]]
    assert max(box.y1 for box in found[:count]) <= height_for(names, 6.0) + 0.02
    assert min(box.y0 for box in found) > 0
    assert max(box.x1 for box in found) < 6.0
    for i, one in enumerate(found):
        assert not any(one.overlaps(other) for other in found[:i])


def test_one_entry_needs_no_legend(figure):
    add_legend(figure, [(line(), "alone")])
    assert not figure.artists
    assert height_for(["alone"], 6.0) == 0


def test_there_are_as_many_columns_as_have_room():
    names = [f"a name of a model {i}" for i in range(4)]
    assert [len(columns_for(names, width)) for width in (9.0, 4.0, 2.0)] == [2, 2, 1]
    assert len(columns_for([*names, "one more"], 9.0)) == 3
    assert [name for column in columns_for(names, 4.0) for name in column] == names
    assert height_for(names, 2.0) > height_for(names, 4.0)


def test_a_name_that_is_longer_than_a_line_is_cut():
    ((short, long),) = columns_for(["mcmoe", "n" * 99], 3.0)
    assert short == "mcmoe"
    assert long.endswith(CUT)
