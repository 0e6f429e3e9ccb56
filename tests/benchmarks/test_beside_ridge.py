"""Differences from ridge regression are of the runs' predictions, with groups drawn whole and Holm's correction."""

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from benchmarks.beside_ridge import compared, difference, holm, read_runs


def test_holm_is_as_published():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 (raised to what came before), 0.2 * 1.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def scores(noise, seed=0, n=60):
    """Scores of n videos under three patterns; the last lacks every fourth video."""
    rng, truth = np.random.default_rng(seed), np.random.default_rng(9).standard_normal(n)
    table = pd.DataFrame({name: truth + noise * rng.standard_normal(n) for name in ("VA", "V", "A")})
    table.loc[::4, "A"] = np.nan
    return table.assign(label=truth)


def test_a_better_model_is_ahead_and_the_same_one_is_not():
    own, base, labels = scores(0.3), scores(2.0, seed=1), [str(i) for i in range(60)]
    found = difference("here", own, base, labels)
    gain = stats.spearmanr(own["VA"], own["label"])[0] - stats.spearmanr(base["VA"], base["label"])[0]
    assert found.complete[0] == pytest.approx(gain)
    assert found.complete[1] > 0
    assert found.incomplete[1] > 0
    assert found.p < 0.01
    assert found.groups == 60
    same = difference("here", own, own, labels)
    assert same.complete == (0, 0, 0)
    assert same.p == 1.0


def test_groups_are_drawn_whole():
    own, base = scores(0.5), scores(1.0, seed=1)
    alone = difference("here", own, base, [str(i) for i in range(60)])
    doubled = [pd.concat([table] * 5, ignore_index=True) for table in (own, base)]
    together = difference("here", *doubled, [str(i % 60) for i in range(300)])
    assert together.groups == 60
    widths = [high - low for _, low, high in (alone.complete, together.complete)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # five copies of a video say nothing new


def test_runs_are_found_by_store_and_target(tmp_path):
    for model, noise in (("ridge", 1.0), ("ensemble", 0.5)):
        folder = tmp_path / "runs" / model
        folder.mkdir(parents=True)
        config = {"data": {"store": "../../mine.h5", "target": "score"}, "model": {"name": model}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.json").write_text("{}")
        table = scores(noise).assign(id=[f"v{i}" for i in range(60)])
        long = table.melt(["id", "label"], ["VA", "V", "A"], "pattern", "score").dropna()
        long.assign(group=[str(int(name[1:]) // 2) for name in long["id"]]).to_csv(folder / "predictions.csv")
    (found,) = compared(read_runs(tmp_path / "runs"), "ensemble", {})
    assert (found.place, found.videos, found.groups) == ("mine, score", 60, 30)
    assert found.complete[0] > 0
    assert compared(read_runs(tmp_path / "runs"), "mome", {}) == []
