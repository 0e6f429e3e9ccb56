import math

import pytest
import torch

from benchmarks import growth
from benchmarks.steps import random_batch, small_shape


def test_exponents_of_powers():
    sizes = [64, 128, 256, 512]
    square = growth.Growth(sizes, [3.0 * size**2 for size in sizes], "s", 2)
    assert square.exponent == pytest.approx(2)
    assert square.last_exponent == pytest.approx(2)
    assert square.growing_exponent == pytest.approx(2)


def test_a_constant_part_hides_growth_but_from_the_part_that_grows():
    sizes = [64, 128, 256, 512]
    linear = growth.Growth(sizes, [1000.0 + size for size in sizes], "MiB", 1)
    assert linear.exponent < 0.3
    assert linear.last_exponent < 0.5
    assert linear.growing_exponent == pytest.approx(1)


def test_what_does_not_grow_has_no_exponent_of_growth():
    assert math.isnan(growth.growing_exponent([1, 2, 4], [5.0, 5.0, 6.0]))


def test_sizes_are_a_constant_factor_apart():
    for axis in growth.AXES.values():
        factors = {later / earlier for earlier, later in zip(axis.sizes, axis.sizes[1:], strict=False)}
        assert len(axis.sizes) >= 3
        assert len(factors) == 1


@pytest.mark.parametrize("name", ["batch", "clips", "clips, scoring", "hidden_dim", "modalities"])
def test_work_along_each_axis_runs_and_has_the_size_asked_for(name, tmp_path, monkeypatch):
    shapes = []
    made = growth.random_batch
    monkeypatch.setattr(
        growth, "random_batch", lambda shape, *rest, **kw: shapes.append(shape) or made(shape, *rest, **kw)
    )
    smallest = growth.AXES[name].sizes[0]
    ((make, *given),) = growth.works_along(name, [smallest], 0.0, torch.device("cpu"), tmp_path).values()
    make(*given)()
    size = {"batch": shapes[0].rows, "clips": shapes[0].clips, "modalities": len(shapes[0].widths)}
    assert size.get(name.split(",")[0], smallest) == smallest


def test_reading_a_store_and_making_its_batches(tmp_path):
    ((make, *given),) = growth.works_along("videos", [40], 0.0, torch.device("cpu"), tmp_path).values()
    make(*given)()


class Toy(torch.nn.Module):
    """Keeps the exponential (B, T, T) of its clips' products, as plain attention does."""

    def loss(self, features, *others):
        stream = features["m0"].requires_grad_()
        return (stream @ stream.transpose(1, 2)).exp().sum()


def test_tensors_of_clips_squared_are_found_with_the_line_that_keeps_them():
    batch = random_batch(small_shape(1, 4, 20, 2), torch.device("cpu"))
    line = Toy.loss.__code__.co_firstlineno + 2
    assert growth.squares_kept(Toy(), batch) == {f"test_growth.py:{line} 2 x 20 x 20": 1}
