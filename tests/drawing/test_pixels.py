"""Files of pixels are read back as they were drawn."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aqa.drawing.pixels import DPI, png, save


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 30)])
def test_any_pixels_are_read_back_as_they_were(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels[..., :3])
        assert np.allclose(image.info["dpi"], DPI, atol=0.1)


def test_a_figure_is_on_white_whatever_the_style(tmp_path):
    with plt.style.context("dark_background"):
        save(Figure(figsize=(1, 2)), tmp_path / "figure.png")
    found = plt.imread(tmp_path / "figure.png")
    assert found.shape == (2 * DPI, DPI, 3)
    assert (found == 1).all()
