"""Which clips a window shows, and what "time" averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aqa.features.alignment import Alignment, resampled


def streams(kind, stored, seconds=None, fill=False):
    stored = np.array(stored)
    unknown = [np.nan] * stored.shape[1]
    return Alignment(kind, stored, np.array(unknown if seconds is None else seconds), fill)


def mean_over_time(made, stored, counted=None, clips=12, dtype=torch.float32):
    """Window (T,) of each stream of one video whose clips are numbered from 0."""
    counted = np.array([stored]) > 0 if counted is None else np.array([counted])
    spans = made.spans(np.array([0]), counted, clips)
    found = []
    for i, n in enumerate(stored):
        out = torch.empty(1, clips, 1)
        resampled(torch.arange(max(n, 1), dtype=dtype).view(-1, 1), np.array([0]), spans, i, out)
        found.append(out[0, : spans.kept[0, i], 0].tolist())
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_time_averages_each_stream_over_equal_shares_as_many_as_the_slowest_has_clips(dtype):
    made = streams("time", [[3, 6, 4]])
    slow, twice, third = mean_over_time(made, [3, 6, 4], dtype=dtype)
    assert slow == [0, 1, 2]
    assert twice == [0.5, 2.5, 4.5]
    # Shares of 4/3 clips: clip 0 and a third of clip 1, two thirds of 1 and of 2, a third of 2 and clip 3.
    assert third == pytest.approx([(0 + 1 / 3) * 3 / 4, 1.5, (2 / 3 + 3) * 3 / 4])


def test_what_does_not_count_decides_nothing():
    made = streams("time", [[3, 6, 4]])
    hidden, fast, slow = mean_over_time(made, [3, 6, 4], [False, True, True])
    assert hidden == []
    assert fast == pytest.approx([1 / 3, 5 / 3, 10 / 3, 14 / 3])  # shares of one clip and a half
    assert slow == [0, 1, 2, 3]
    assert mean_over_time(made, [3, 6, 4], [False, True, False]) == [[], [0, 1, 2, 3, 4, 5], []]


def test_clip_seconds_tell_how_much_of_a_longer_stream_the_shortest_covers():
    made = streams("time", [[5, 80]], [1.0, 0.1])  # 5 s and 8 s
    slow, fast = mean_over_time(made, [5, 80])
    assert slow == [0, 1, 2, 3, 4]
    assert fast == pytest.approx([4.5, 14.5, 24.5, 34.5, 44.5])
    assert made.left_out(np.array([0]), np.array([[True, True]])).tolist() == [0, 30]
    relative = streams("time", [[5, 80]], [1.0, np.nan])
    assert mean_over_time(relative, [5, 80])[1] == pytest.approx([7.5, 23.5, 39.5, 55.5, 71.5])


def test_a_window_shorter_than_the_slowest_stream_shows_all_of_the_video():
    assert mean_over_time(streams("time", [[6, 12]]), [6, 12], clips=3) == [[0.5, 2.5, 4.5], [1.5, 5.5, 9.5]]


def test_where_clips_are_given_every_video_has_as_many():
    assert mean_over_time(streams("time", [[2, 8]], fill=True), [2, 8], clips=4) == [[0, 0, 1, 1], [0.5, 2.5, 4.5, 6.5]]


def test_a_span_of_one_clip_is_that_clip_to_the_bit():
    values = torch.randn(500, 3)
    made = streams("time", [[500, 1000]])
    out = torch.empty(1, 500, 3)
    resampled(values, np.array([0]), made.spans(np.array([0]), np.array([[True, True]]), 500), 0, out)
    assert torch.equal(out[0], values)


def test_windows_follow_from_the_streams_that_count():
    made = streams("shortest", [[12, 5, 0]])
    row = np.array([0])
    assert made.lengths(row, np.array([[True, True, False]])).tolist() == [[5, 5, 0]]
    assert made.lengths(row, np.array([[True, False, True]])).tolist() == [[12, 0, 0]]
    cropped = streams("none", [[4, 8, 40]])
    both, every = np.array([[True, True, False]]), np.array([[True, True, True]])
    assert cropped.spans(row, both, 4).kept.tolist() == [[2, 4, 0]]
    assert cropped.spans(row, every, 4).kept.tolist() == [[1, 1, 4]]


@pytest.mark.parametrize("kind", ["shortest", "none", "time"])
def test_choices_that_agree_in_what_is_decisive_have_one_window(kind):
    rng = np.random.default_rng(0)
    made = streams(kind, rng.integers(1, 5, (200, 3)), [1.0, np.nan, 1.0])
    rows = np.arange(200)
    one, other = (rng.random((200, 3)) < 0.6 for _ in range(2))
    some = one.any(axis=1) & other.any(axis=1)
    alike = some & (made.decisive(rows, one, 3) == made.decisive(rows, other, 3)).all(axis=1)
    assert 20 < alike.sum() < some.sum()
    together = made.spans(rows, one | other, 3)
    for counted in (one, other):
        for mine, shared in zip(made.spans(rows, counted, 3), together, strict=True):
            assert (mine == shared)[counted & alike[:, None]].all()
