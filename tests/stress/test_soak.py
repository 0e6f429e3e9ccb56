"""The soak: a few runs hold what the first ones held, and a leak would be seen."""

from stress import soak
from stress.soak import Held


def test_runs_leave_no_file_and_no_thread_behind(tmp_path):
    after = soak.soak(tmp_path, 5)
    assert len({held.files for held in after[1:]}) == 1
    assert len({held.threads for held in after[1:]}) == 1
    assert len(soak.table(after).splitlines()) == 6


def test_growth_is_the_slope_after_the_first_third_and_an_outlier_is_none():
    warming = [Held(1000 * i, 5, 2) for i in range(10)]
    flat = [Held(10_000 + (5000 if i == 7 else 0), 5, 2) for i in range(20)]
    assert soak.slopes([*warming, *flat]) == (0, 0, 0)
    assert soak.is_flat(soak.slopes([*warming, *flat]))
    for leak in (Held(100, 0, 0), Held(0, 1, 0), Held(0, 0, 1)):
        after = [Held(*(base + i * more for base, more in zip((10_000, 5, 2), leak, strict=True))) for i in range(30)]
        assert soak.slopes(after) == leak
        assert not soak.is_flat(soak.slopes(after))
