"""Boxes have the corners that they were given, and weights stand in cells of their colour."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from aqa.drawing.boxes import corners_of, weight_colours, write_weights
from aqa.drawing.words import Words


def test_corners_go_round_from_the_lower_left_one():
    found = corners_of([0.0, 1.0], 0, [0.5, 1.5], [2, -3])
    np.testing.assert_array_equal(found[0], [(0, 0), (0, 2), (0.5, 2), (0.5, 0)])
    np.testing.assert_array_equal(found[1], [(1, 0), (1, -3), (1.5, -3), (1.5, 0)])


def test_cells_have_the_colours_of_their_weights_and_none_is_no_mistake():
    cells = [(0.0, 0.0, 1.0, 2.0, 0.25), (3.0, 1.0, 1.0, 1.0, 0.75)]
    drawn = weight_colours(cells)
    np.testing.assert_allclose(drawn.get_facecolor(), matplotlib.colormaps["Blues"]([0.25, 0.75]))
    np.testing.assert_array_equal(drawn.get_paths()[1].vertices[:4], [(3, 1), (3, 2), (4, 2), (4, 1)])
    assert not weight_colours([]).get_paths()


def test_a_weight_stands_in_the_middle_of_its_cell_and_is_white_where_that_is_dark():
    figure = Figure()
    write_weights(figure, [(0.0, 0.0, 1.0, 2.0, 0.25), (3.0, 1.0, 1.0, 1.0, 0.75)], 7)
    written = {words.get_color(): words.shown for words in figure.findobj(Words)}
    assert written == {"black": [(0.5, 1.0, "0.25")], "white": [(3.5, 1.5, "0.75")]}
