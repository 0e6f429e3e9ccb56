"""What a stream would change, from videos alike."""

import numpy as np

from aqa.explaining.alike import ALIKE, expected_change


def test_the_nearest_videos_tell_and_no_others():
    without = np.arange(200.0)
    with_it = without + np.where(without < 100, 1.0, 5.0) + np.tile([-0.1, 0.1], 100)
    found = expected_change(20.0, without, with_it, 0.9)
    assert found.videos == ALIKE
    assert found.low < 1.0 < found.high
    assert abs(found.mean - 1.0) < 0.01
    assert np.allclose((found.lowest, found.highest), (0.9, 1.1))
    assert abs(expected_change(180.0, without, with_it, 0.9).mean - 5.0) < 0.01


def test_few_videos_tell_nothing_and_some_have_no_bounds():
    few = expected_change(1.0, np.arange(9.0), np.arange(9.0), 0.9)
    assert few.videos == 9
    assert np.isnan(few[:5]).all()
    some = expected_change(1.0, np.arange(12.0), np.arange(12.0) + 2, 0.9)
    assert some.mean == 2
    assert (some.lowest, some.highest) == (-np.inf, np.inf)


def test_the_interval_of_a_single_video_holds_as_often_as_asked():
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        without = rng.normal(size=50)
        with_it = without + rng.normal(size=50)
        found = expected_change(0.0, without, with_it, 0.8)
        held.append(found.lowest <= rng.normal() <= found.highest)
    assert 0.74 < np.mean(held) < 0.87
