"""The benchmark of what a run does beside training."""

import pytest

from benchmarks import run_parts
from benchmarks.run_parts import OTHERWISE, PARTS, Parts, owner_of


@pytest.mark.parametrize("place", [place for places in PARTS.values() for place in places])
def test_every_part_is_where_a_run_looks_it_up(place):
    owner, name = owner_of(place)
    assert callable(getattr(owner, name))


def test_the_time_of_a_part_is_without_that_of_parts_within_it_but_calibration_scores_by_itself(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(run_parts.time, "process_time", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    parts = Parts()
    scoring = parts.of("scoring the test videos", passes)
    passes(1)
    parts.of("training", lambda: (passes(2), parts.of("loading", passes)(4), passes(8)))()
    scoring(16)
    parts.of("calibration", lambda: (passes(32), scoring(64)))()
    with pytest.raises(ZeroDivisionError):
        parts.of("predictions.csv", lambda: passes(128) or 1 / 0)()
    passes(256)
    parts.switch()
    assert {part: seconds for part, seconds in parts.seconds.items() if seconds} == {
        OTHERWISE: 257,
        "training": 10,
        "loading": 4,
        "scoring the test videos": 16,
        "calibration": 96,
        "predictions.csv": 128,
    }
