"""The measurements behind recommendations: whole groups are drawn, and what is written is read back."""

import numpy as np
import pandas as pd
import pytest

from aqa.reporting.recommend import measurements
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic
from benchmarks.recommend import compared, drawn, draws_of, write, write_part

LABELS = [f"g{i % 9}" for i in range(45)]


def test_whole_groups_are_drawn_until_there_are_enough_videos():
    rows = drawn(LABELS, 12)
    taken = {LABELS[row] for row in rows}
    assert len(rows) == 15
    assert sum(label in taken for label in LABELS) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert len(drawn(LABELS, 100)) == 45


def test_a_part_holds_the_videos_that_were_drawn_and_nothing_else(tmp_path):
    with FeatureStore(make_synthetic("tiny", tmp_path / "tiny.h5", samples=6)) as store:
        rows = np.array([1, 4, 7])
        write_part(store, rows, tmp_path / "part.h5")
        with FeatureStore(tmp_path / "part.h5") as part:
            assert list(part.ids) == [store.ids[row] for row in rows]
            assert list(part.splits) == ["train"]
            assert part.target("score").values.tolist() == store.target("score").values[rows].tolist()
            assert np.array_equal(part.read_sample("audio", 2), store.read_sample("audio", 7))


def test_a_difference_is_of_the_rank_correlations_and_nothing_from_itself():
    rng, ids = np.random.default_rng(0), [f"v{i}" for i in range(45)]
    label = rng.standard_normal(45)
    own, base = (
        pd.DataFrame({"score": label + noise * rng.standard_normal(45), "label": label}, index=ids)
        for noise in (0.2, 3)
    )
    draws = draws_of(ids, LABELS)
    value, low, high = compared(own, base, draws)
    expected = [table.corr("spearman").iloc[0, 1] for table in (own, base)]
    assert value == pytest.approx(expected[0] - expected[1], abs=0.001)
    assert 0 < low < value < high
    assert compared(own, own, draws) == [0, 0, 0]
    assert all((draws[one] == draws[other]).all() for one, other in (("v0", "v9"), ("v1", "v37")))


def test_what_is_written_is_read_back(tmp_path):
    models = {"ridge": {"complete": [0.1, 0.0, 0.2], "incomplete": 0.1, "seconds": 1.0}}
    entries = [
        {"set": "pom", "videos": 10, "groups": 10, "clips": 3, "target": t, "models": models} for t in ("a", "b")
    ]
    write(entries, tmp_path / "out.yaml")
    assert measurements(tmp_path / "out.yaml") == entries
