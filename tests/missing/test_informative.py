"""Streams that go missing for a reason: rates that are met, who lacks them, and what must be known for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import aqa
from aqa.errors import AqaError
from aqa.missing import Draws, Videos, parse_pattern, sample_keys
from aqa.missing.informative import chances

MODALITIES = ("visual", "audio", "flow")
MNAR = {"mnar": {"modality": "audio", "by": "score", "rate": 0.4}}
MAR = {"mar": {"modality": "audio", "by": "visual", "rate": 0.4}}


def videos(count=4000, available=None, scores=None, energy=None):
    keys = sample_keys([f"video {i}" for i in range(count)])
    available = np.ones((count, 3), bool) if available is None else available
    rank = np.linspace(0, 1, count)
    return Videos(keys, available, rank if scores is None else scores, lambda m: rank if energy is None else energy)


def shown(spec, known, seed=0):
    pattern = parse_pattern(spec, MODALITIES, "missing.test").informed(known)
    return pattern.visible(known.available, Draws.once(seed, known.keys))


@given(
    rate=st.floats(0, 1),
    strength=st.floats(-20, 20),
    values=st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_the_rate_is_met_on_average_whatever_the_values(rate, strength, values):
    found = chances(np.array(values), rate, strength)
    assert found.mean() == pytest.approx(rate, abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(np.nan_to_num(np.array(values), nan=0.0), kind="stable")
    if not np.isnan(values).any():
        assert (np.diff(found[order]) * np.sign(strength) <= 1e-12).all()  # low ones lack it more often


@pytest.mark.parametrize("spec", [MNAR, MAR], ids=["mnar", "mar"])
def test_low_videos_lack_the_stream_more_often_by_the_log_odds_stated(spec):
    known = videos()
    hidden = ~shown(spec, known)
    assert hidden[:, 1].mean() == pytest.approx(0.4, abs=4.5 * np.sqrt(0.24 / 4000))
    assert not hidden[:, [0, 2]].any()
    low, high = hidden[:400, 1].mean(), hidden[-400:, 1].mean()
    odds = np.log(low / (1 - low)) - np.log(high / (1 - high))
    assert odds == pytest.approx(4 * 0.9, abs=0.6)  # the middles of the two ends are 0.9 of all ranks apart
    other = {name: {**options, "strength": -4.0} for name, options in spec.items()}
    turned = ~shown(other, known)
    assert turned[:400, 1].mean() < 0.2 < 0.6 < turned[-400:, 1].mean()


@pytest.mark.parametrize("spec", [MNAR, MAR], ids=["mnar", "mar"])
def test_a_video_with_nothing_else_keeps_the_stream_and_the_rate_is_met_by_the_others(spec):
    available = np.ones((6000, 3), bool)
    available[::3] = [False, True, False]
    visible = shown(spec, videos(6000, available))
    assert visible[::3, 1].all()
    assert 1 - visible[:, 1].mean() == pytest.approx(0.4, abs=0.02)
    with pytest.raises(AqaError, match=r"4000 of 6000 videos with audio have another modality; the rate can be at mo"):
        shown({name: {**options, "rate": 0.7} for name, options in spec.items()}, videos(6000, available))


def test_a_stream_to_go_by_that_is_absent_stands_in_the_middle():
    energy = np.where(np.arange(4000) % 2, np.nan, np.linspace(0, 1, 4000))
    known = videos(energy=energy)
    made = parse_pattern(MAR, MODALITIES, "missing.test").informed(known)
    middle = made.chances[1::2]
    assert (middle == middle[0]).all()
    assert made.chances[0] > middle[0] > made.chances[-2]


def test_what_is_hidden_changes_neither_with_the_order_nor_with_the_other_rows_of_a_batch():
    known = videos(50)
    made = parse_pattern(MNAR, MODALITIES, "missing.test").informed(known)
    draws = Draws.once(3, known.keys)
    rows = np.array([7, 3, 49])
    np.testing.assert_array_equal(
        made.visible(known.available[rows], draws.at(rows)), made.visible(known.available, draws)[rows]
    )


def test_composed_patterns_are_told_too():
    known = videos(3000)
    both = parse_pattern({"combine": [{"fixed": MNAR}, MAR]}, MODALITIES, "missing.train").informed(known)
    draws = Draws.once(0, known.keys)
    visible = both.visible(both.remaining(known.available, draws), draws)
    pattern = parse_pattern({"fixed": MNAR}, MODALITIES, "missing.train").informed(known)
    remaining = pattern.remaining(known.available, Draws(0, 5, known.keys, np.zeros(3000, np.int64)))
    assert remaining[:, 1].mean() == pytest.approx(0.6, abs=0.05)
    assert visible[:, 1].mean() < 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mnar": {"modality": "audoi", "rate": 0.4}}, "unknown modality 'audoi': did you mean 'audio'"),
        ({"mnar": {"modality": "audio", "rate": 1.4}}, "option 'rate'"),
        ({"mnar": {"modality": "audio"}}, "option 'rate'"),
        ({"mnar": {"modality": "audio", "by": "length", "rate": 0.4}}, "option 'by'"),
        ({"mar": {"modality": "audio", "by": "audio", "rate": 0.4}}, "another modality is needed"),
        ({"mar": {"modality": "audio", "by": "vusual", "rate": 0.4}}, "did you mean 'visual'"),
    ],
)
def test_mistakes_are_one_line(spec, message):
    with pytest.raises(AqaError, match=message) as error:
        parse_pattern(spec, MODALITIES, "missing.test")
    assert "\n" not in str(error.value)


def test_videos_that_it_was_not_told_of_are_an_error():
    known = videos(10)
    made = parse_pattern(MNAR, MODALITIES, "missing.test")
    for pattern in (made, made.informed(videos(5))):
        with pytest.raises(AqaError, match="does not know these videos"):
            pattern.visible(known.available, Draws.once(0, known.keys))
    nameless = Videos(known.keys, known.available, None, known.energy)
    with pytest.raises(AqaError, match="these videos have none"):
        made.informed(nameless)


def test_labels_of_test_videos_decide_nothing_in_training(tiny_store, tmp_path):
    labels = np.random.default_rng(0).permutation(40).astype(float)
    other = labels.copy()
    other[25:] = labels[25:][::-1]
    for name, values in (("one", labels), ("two", other)):
        path = tiny_store(
            name=f"{name}.h5",
            lengths={m: [4] * 40 for m in MODALITIES},
            targets={"TES": aqa.Target(values, 0, 40)},
            splits={"train": range(20), "valid": range(20, 25), "test": range(25, 40)},
        )
        aqa.run(
            {
                "name": name,
                "data": {"store": str(path), "target": "TES"},
                "model": {"name": "late_fusion", "hidden_dim": 8},
                "missing": {"train": {"fixed": MNAR}, "test": ["VAF", MNAR, MAR]},
                "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
                "output": str(tmp_path / name),
            }
        )
    first, second = (tmp_path / name / "history.csv" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    weights = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["weights"] for name in ("one", "two")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    tables = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("one", "two")]
    complete, missing = (
        [t[t["pattern"] == p]["score"].to_numpy() for t in tables] for p in ("VAF", tables[0]["pattern"].unique()[1])
    )
    np.testing.assert_array_equal(*complete)
    assert (missing[0] != missing[1]).any()
