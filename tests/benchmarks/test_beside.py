"""Differences from a baseline are of the runs' predictions, with groups drawn whole and Holm's correction."""

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from aqa.errors import AqaError
from benchmarks.beside import count_beyond, holm, mean_over_targets, measure, measured_place, read_runs, show_set


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
    gap = measure([own], labels) - measure([base], labels)
    gain = stats.spearmanr(own["VA"], own["label"])[0] - stats.spearmanr(base["VA"], base["label"])[0]
    assert gap.complete.value == pytest.approx(gain)
    assert min(gap.complete.interval.low, gap.incomplete.interval.low) > 0
    assert gap.p < 0.01
    assert gap.groups == 60
    same = measure([own], labels) - measure([own], labels)
    assert not same.complete.draws.any()
    assert not same.incomplete.draws.any()
    assert same.p == 1.0
    assert count_beyond([gap, same]) == "1 (1) / 0 (0)"


def test_groups_are_drawn_whole():
    own, base = scores(0.5), scores(1.0, seed=1)
    alone = measure([own], [str(i) for i in range(60)]) - measure([base], [str(i) for i in range(60)])
    doubled, labels = (
        [pd.concat([table] * 5, ignore_index=True) for table in (own, base)],
        [str(i % 60) for i in range(300)],
    )
    together = measure([doubled[0]], labels) - measure([doubled[1]], labels)
    assert together.groups == 60
    widths = [np.ptp(np.quantile(gap.complete.draws, [0.025, 0.975])) for gap in (alone, together)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # five copies of a video say nothing new


def test_the_mean_over_targets_and_over_seeds_is_of_the_same_draws():
    labels = [str(i) for i in range(60)]
    first, second = (measure([scores(1.0, seed=seed)], labels) for seed in (1, 2))
    both = mean_over_targets([first, second])
    for part in ("complete", "incomplete"):
        one, other, mean = (getattr(each, part) for each in (first, second, both))
        assert mean.value == pytest.approx((one.value + other.value) / 2)
        assert mean.draws == pytest.approx((one.draws + other.draws) / 2)
    seeds = measure([scores(1.0, seed=1), scores(1.0, seed=2)], labels)
    assert seeds.complete.draws == pytest.approx(both.complete.draws)
    assert seeds.incomplete.draws == pytest.approx(both.incomplete.draws)
    with pytest.raises(AqaError, match="not the same test videos"):
        mean_over_targets([first, measure([scores(1.0, n=50)], labels[:50])])


def test_one_pattern_has_no_mean_of_incomplete_sets():
    alone = measure([scores(0.5)[["VA", "label"]]], [str(i) for i in range(60)])
    assert np.isnan(alone.incomplete.value)
    assert alone.shown()[0].startswith("0.")


def test_many_videos_are_drawn_in_blocks_and_scores_that_are_all_equal_show_nothing():
    labels = [str(i) for i in range(1200)]
    base = measure([scores(1.0, n=1200)], labels)
    assert base.complete.draws.shape == base.incomplete.draws.shape == (2000,)
    constant = measure([scores(1.0, n=1200).assign(VA=0.5)], labels) - base
    assert np.isnan(constant.complete.value)
    assert constant.p == 1.0
    assert count_beyond([constant]) == "0 (0) / 0 (0)"


def test_runs_are_found_by_store_and_target(tmp_path, capsys):
    for model, noise in (("ridge", 1.0), ("ensemble", 0.5)):
        folder = tmp_path / "runs" / model
        folder.mkdir(parents=True)
        config = {"data": {"store": "../../mine.h5", "target": "score"}, "model": {"name": model}}
        config["train"] = {"seed": 0}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.json").write_text("{}")
        table = scores(noise).assign(id=[f"v{i}" for i in range(60)])
        long = table.melt(["id", "label"], ["VA", "V", "A"], "pattern", "score").dropna()
        long.assign(group=[str(int(name[1:]) // 2) for name in long["id"]]).to_csv(folder / "predictions.csv")
    ((place, by_model),) = read_runs(tmp_path / "runs").items()
    found = measured_place(place, by_model, None)
    assert place[1] == "score"
    assert (found["ridge"].videos, found["ridge"].groups) == (60, 30)
    assert (found["ensemble"] - found["ridge"]).complete.value > 0
    show_set("mine", [found], ["ridge", "ensemble", "mome"], "ridge")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "mine: 60 videos, resampled in 30 groups"
    assert shown[4].startswith("ensemble")
    assert shown[5].startswith("ridge")
    assert len(shown) == 6


def test_two_runs_of_one_model_and_seed_are_not_averaged_as_two_seeds(tmp_path):
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        config = {"data": {"store": "../mine.h5", "target": "score"}, "model": {"name": "ridge"}, "train": {"seed": 0}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.json").write_text("{}")
        (folder / "predictions.csv").write_text("id,pattern,score,label\n")
    with pytest.raises(AqaError, match=r"first and .*second are runs of one model and seed"):
        read_runs(tmp_path)
