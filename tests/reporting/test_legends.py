"""Legends say what is drawn how, within their figure."""

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from aqa.reporting.legends import add_legend, columns_for, height_for


@pytest.fixture
def axes():
    figure = Figure(figsize=(6, 3))
    return figure.add_axes((0.1, 0.4, 0.8, 0.5))


def test_entries_have_the_colours_and_marks_of_what_is_drawn(axes):
    axes.plot([0, 1], [0, 1], "o--", color="#aa0000", label="a line")
    axes.plot([0, 1], [1, 1], "d", color="#00aa00", label="marks")
    axes.plot([0, 1], [2, 2], color="#123456")  # without a name
    axes.add_artist(PathPatch(Path.unit_circle(), facecolor="#0000aa", edgecolor="none", hatch="///", label="bars"))
    add_legend(axes)
    assert [text.get_text() for text in axes.figure.texts] == ["a line", "marks", "bars"]
    line, marks, box = axes.figure.artists
    assert (line.get_color(), line.get_marker(), line.get_linestyle()) == ("#aa0000", "o", "--")
    assert (marks.get_color(), marks.get_marker(), marks.get_linestyle()) == ("#00aa00", "d", "None")
    assert isinstance(box, Rectangle)
    assert box.get_facecolor() == (0, 0, 2 / 3, 1)
    assert box.get_hatch() == "///"


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize(
    "name", ["m{}", "a rather long name of model {}", "a name that is longer than half of a line {}"]
)
def test_entries_lie_in_their_room_and_not_on_one_another(axes, count, name):
    names = [name.format(i) for i in range(count)]
    for each in names:
        axes.plot([0, 1], [0, 1], label=each)
    add_legend(axes)
    figure = axes.figure
    boxes = [text.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for text in figure.texts]
    assert len(figure.artists) == count
    keys = [line.get_window_extent().transformed(figure.dpi_scale_trans.inverted()) for line in figure.artists]
    assert max(box.y1 for box in boxes) <= height_for(names) + 0.02
    assert min(box.y0 for box in [*boxes, *keys]) > 0
    for i, one in enumerate([*boxes, *keys]):
        assert not any(one.overlaps(other) for other in [*boxes, *keys][:i])


def test_one_entry_needs_no_legend(axes):
    axes.plot([0, 1], [0, 1], label="alone")
    add_legend(axes)
    assert not axes.figure.texts
    assert height_for(["alone"]) == 0


def test_long_names_take_fewer_columns():
    assert [columns_for(["a" * length]) for length in (0, 22, 23, 45, 46)] == [3, 3, 2, 2, 1]
