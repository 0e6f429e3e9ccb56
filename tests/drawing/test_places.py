"""Names below an axis stand at their places and have the room that they take."""

import pytest
from matplotlib.figure import Figure

from aqa.drawing.frames import Frame
from aqa.drawing.places import LONGEST_SHOWN, NamedPlaces
from aqa.drawing.words import CUT, Words, width_of

LONG = "a pattern whose name is longer than any that is shown"


@pytest.mark.parametrize("slanted", [False, True])
@pytest.mark.parametrize("names", [[("VAF",), ("V",)], [("VAF", "n=30"), ("V", "n=9"), (LONG, "n=1")]])
def test_names_stand_at_their_places_within_their_room(names, slanted):
    places = NamedPlaces(names, 9, slanted)
    figure = Figure(figsize=(8, places.below + 2))
    frame = Frame(figure, max(0.5, places.left), places.below, 6.0, 2.0, places.ends, (0.0, 1.0))
    places.write(frame)
    (words,) = figure.findobj(Words)
    assert len(words.shown) == len(words.boxes()) == sum(map(len, names))
    for box in words.boxes():
        assert box.y0 / figure.dpi > -0.01
        assert box.y1 / figure.dpi < frame.bottom
    first = [words.shown[0][0], words.shown[len(names[0])][0]]
    assert first == pytest.approx([frame.across(0), frame.across(1)])
    assert words.boxes()[0].x0 >= 0


def test_a_long_name_is_cut_to_what_is_shown():
    ((shown,),) = NamedPlaces([(LONG,)], 9, True).lines
    assert shown.endswith(CUT)
    assert width_of(shown, 9) <= LONGEST_SHOWN
