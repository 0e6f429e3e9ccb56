"""What another stream is worth: paired, on the same videos, from numbers alone."""

import numpy as np
import pytest

from aqa.evaluation.bootstrap import resamples
from aqa.evaluation.worth import mean_worth, stream_worth

N = 60
MODALITIES = ("visual", "audio")


def counts(n=N):
    return np.concatenate(list(resamples(n, 500, 0)), axis=1)


def errors(lacking=20):
    """Errors under all sets; the first videos lack visual, so that VA shows audio alone of them."""
    rng = np.random.default_rng(0)
    audio, visual = rng.uniform(4, 6, N), rng.uniform(3, 5, N)
    found = {"VA": audio - 1 - rng.uniform(0, 0.5, N), "V": visual, "A": audio}
    found["V"][:lacking], found["VA"][:lacking] = np.nan, audio[:lacking]
    return found


def test_streams_are_compared_on_the_videos_that_have_both():
    known = errors()
    found = {(one.visible, one.stream): one for one in stream_worth(MODALITIES, known, {}, counts())}
    assert list(found) == [("V", "audio"), ("A", "visual")]
    one = found["A", "visual"]
    difference = (known["A"] - known["VA"])[20:]
    assert one.n == 40
    assert one.error == pytest.approx(known["A"][20:].mean())
    assert one.smaller_error.value == pytest.approx(difference.mean())
    assert one.smaller_error.interval.low < difference.mean() < one.smaller_error.interval.high
    # Paired: the interval is that of the differences, far narrower than errors themselves vary.
    assert one.smaller_error.interval.high - one.smaller_error.interval.low < 0.15
    assert one.error_share.value == pytest.approx(100 * difference.mean() / known["A"][20:].mean())
    assert np.isnan(one.width)
    assert one.smaller_width is None


def test_widths_are_of_bounded_intervals():
    widths = {name: np.full(N, size) for name, size in {"VA": 6.0, "V": 9.0, "A": 8.0}.items()}
    widths["A"][30] = np.inf
    (_, one) = stream_worth(MODALITIES, errors(), widths, counts())
    assert (one.width, one.smaller_width.value) == (8.0, 2.0)
    assert one.width_share.value == pytest.approx(25.0)


def test_nothing_is_said_where_single_streams_or_larger_sets_were_not_tested():
    known = errors()
    assert stream_worth(MODALITIES, {name: known[name] for name in ("VA", "A")}, {}, counts()) == []
    assert stream_worth(MODALITIES, {name: known[name] for name in ("V", "A")}, {}, counts()) == []
    known["V"][:] = np.nan  # no video has it
    assert stream_worth(MODALITIES, known, {}, counts()) == []


def test_over_targets_the_shares_are_averaged():
    first = stream_worth(MODALITIES, errors(), {}, counts())
    second = stream_worth(MODALITIES, {name: 10 * each for name, each in errors().items()}, {}, counts())
    third = stream_worth(MODALITIES, {name: np.sqrt(each) for name, each in errors().items()}, {}, counts())
    alike = mean_worth([first, second])
    assert alike[1].smaller_error.value == pytest.approx(first[1].error_share.value)
    assert np.isnan(alike[1].error)
    mean = (first[1].error_share.value + third[1].error_share.value) / 2
    assert mean_worth([first, third])[1].smaller_error.value == pytest.approx(mean)
    assert mean_worth([first, []]) == []
