"""Which modalities patterns hide: invariants that every pattern keeps, and frequencies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.errors import AqaError
from aqa.missing import PATTERNS, Draws, parse_pattern, sample_keys
from aqa.missing.hiding import Rates
from aqa.modalities import subsets

BENCHMARK = ("visual", "audio", "flow")

EXAMPLES = {
    "none": ["none"],
    "random_subset": [
        "random_subset",
        {"random_subset": {"per": "sample"}},
        {"random_subset": {"include_complete": True, "per": "sample"}},
    ],
    "only": [{"only": ["VA", "V"]}, {"only": "F"}],
    "rates": [{"rates": 0.4}, {"rates": 0.9}, {"rates": {"visual": 0.3, "audio": 1.0}}],
    "fixed": [{"fixed": {"rates": 0.5}}, {"fixed": {"pattern": "random_subset", "seed": 3}}],
    "combine": [
        {"combine": [{"fixed": {"rates": {"audio": 0.5}}}, "random_subset"]},
        {"combine": [{"rates": 0.3}, {"rates": 0.3}, {"noise": {"std": 1}}]},
    ],
    "gaps": [{"gaps": {"fraction": 0.5}}],
    "noise": [{"noise": {"std": 0.5}}],
    "shift": [{"shift": {"clips": 2, "random": True}}],
}
ALL = list(itertools.chain.from_iterable(EXAMPLES.values()))
HIDE_NOTHING = [*EXAMPLES["none"], *EXAMPLES["gaps"], *EXAMPLES["noise"], *EXAMPLES["shift"]]
RANDOM = [spec for spec in ALL if spec not in HIDE_NOTHING and spec != {"only": "F"}]
BY_BATCH = [spec for spec in ALL if spec in ["random_subset", *EXAMPLES["only"], EXAMPLES["combine"][0]]]

masks = st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=12).map(lambda rows: np.array(rows, dtype=bool))
seeds = st.integers(0, 2**31)


def keys(count, start=0):
    return sample_keys([f"video {i}" for i in range(start, start + count)])


def draws(count, seed=0, epoch=1, size=4):
    return Draws(seed, epoch, keys(count), np.arange(count) // size)


def pattern(spec, modalities=BENCHMARK):
    return parse_pattern(spec, modalities, "missing.train")


def both(made, available, drawn):
    """What remains and what of it is visible, side by side."""
    remaining = made.remaining(available, drawn)
    return np.concatenate([remaining, made.visible(remaining, drawn)], axis=1)


def close(share, probability, count):
    """Whether an observed share is within 4.5 standard errors."""
    return np.abs(share - probability) <= 4.5 * np.sqrt(np.asarray(probability) * (1 - probability) / count) + 1e-12


# What every pattern keeps


def test_every_registered_pattern_has_an_example():
    told_of_videos = ["mar", "mnar"]  # tests/missing/test_informative.py
    assert sorted([*EXAMPLES, *told_of_videos]) == PATTERNS.names()


@pytest.mark.parametrize("spec", ALL, ids=str)
@given(available=masks, seed=seeds, epoch=st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_visible_is_a_subset_of_what_remains_of_what_is_available(spec, available, seed, epoch):
    made, drawn, before = pattern(spec), draws(len(available), seed, epoch), available.copy()
    remaining = made.remaining(available, drawn)
    visible = made.visible(remaining, drawn)
    assert remaining.dtype == visible.dtype == bool
    assert not (remaining & ~available).any()
    assert not (visible & ~remaining).any()
    np.testing.assert_array_equal(available, before)
    if spec in HIDE_NOTHING:
        np.testing.assert_array_equal(visible, available)
    if spec in RANDOM:
        np.testing.assert_array_equal(visible.any(axis=1), available.any(axis=1))


@pytest.mark.parametrize("spec", ALL, ids=str)
@given(available=masks, seed=seeds, data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_sample_keeps_its_mask_in_another_order_and_without_the_others(spec, available, seed, data):
    made, drawn = pattern(spec), draws(len(available), seed)
    rows = np.array(data.draw(st.permutations(range(len(available)))))
    rows = rows[: data.draw(st.integers(1, len(rows)))]
    np.testing.assert_array_equal(
        both(made, available[rows], drawn.at(rows)),
        both(made, available, drawn)[rows],
    )


@pytest.mark.parametrize("spec", [spec for spec in ALL if spec not in BY_BATCH], ids=str)
@given(available=masks, seed=seeds, sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)))
@settings(max_examples=30, deadline=None)
def test_the_batch_size_does_not_matter_to_patterns_that_draw_by_sample(spec, available, seed, sizes):
    made = pattern(spec)
    first, second = (both(made, available, draws(len(available), seed, size=size)) for size in sizes)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("spec", RANDOM, ids=str)
def test_another_seed_gives_another_mask(spec):
    available, made = np.ones((200, 3), bool), pattern(spec)
    same = (both(made, available, draws(200, seed=1)) == both(made, available, draws(200, seed=2))).all()
    assert same == (spec == {"fixed": {"pattern": "random_subset", "seed": 3}})


@pytest.mark.parametrize("spec", RANDOM, ids=str)
def test_another_epoch_gives_another_mask_unless_fixed(spec):
    available, made = np.ones((200, 3), bool), pattern(spec)
    same = (both(made, available, draws(200, epoch=1)) == both(made, available, draws(200, epoch=2))).all()
    assert same == (spec in EXAMPLES["fixed"])


def test_draws_are_uniform_and_independent_between_samples_purposes_and_columns():
    drawn = draws(40_000, seed=5)
    columns = np.concatenate([drawn.uniform("a", 2), drawn.uniform("b")], axis=1)
    assert columns.min() >= 0
    assert columns.max() < 1
    for column in columns.T:
        shares = np.histogram(column, bins=20, range=(0, 1))[0] / len(column)
        assert close(shares, 0.05, len(column)).all()
    correlation = np.corrcoef(np.concatenate([columns, np.roll(columns[:, :1], 1, axis=0)], axis=1).T)
    assert np.abs(correlation[~np.eye(4, dtype=bool)]).max() < 4.5 / np.sqrt(len(columns))


# Subsets


@pytest.mark.parametrize(("name", "subset"), subsets(BENCHMARK).items())
def test_a_named_subset_shows_exactly_its_modalities_where_available(name, subset):
    available = np.array(list(itertools.product([True, False], repeat=3)))
    made = pattern(name)
    assert made.name == name
    np.testing.assert_array_equal(made.visible(available, draws(8)), available & np.array(subset))


def test_random_subset_draws_once_a_batch():
    visible = pattern("random_subset").visible(np.ones((400, 3), bool), draws(400, size=8)).reshape(50, 8, 3)
    assert (visible == visible[:, :1]).all()
    assert len(np.unique(visible[:, 0], axis=0)) == 6


def test_random_subset_by_sample_differs_within_a_batch():
    visible = pattern({"random_subset": {"per": "sample"}}).visible(np.ones((64, 3), bool), draws(64, size=64))
    assert len(np.unique(visible, axis=0)) == 6


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_random_subset_draws_the_six_incomplete_subsets_evenly_and_never_the_complete_one(per):
    count = 12_000
    made = pattern({"random_subset": {"per": per}})
    found, times = np.unique(made.visible(np.ones((count, 3), bool), draws(count, size=1)), axis=0, return_counts=True)
    assert {tuple(s) for s in found.tolist()} == {s for s in subsets(BENCHMARK).values() if not all(s)}
    assert close(times / count, 1 / 6, count).all()


def test_include_complete_draws_all_seven_evenly():
    count = 14_000
    made = pattern("all_subsets")
    found, times = np.unique(made.visible(np.ones((count, 3), bool), draws(count, size=1)), axis=0, return_counts=True)
    assert len(found) == 7
    assert close(times / count, 1 / 7, count).all()


def test_only_draws_evenly_from_what_it_lists():
    count = 8_000
    visible = pattern({"only": ["VA", "V"]}).visible(np.ones((count, 3), bool), draws(count, size=1))
    assert visible[:, 0].all()
    assert not visible[:, 2].any()
    assert close(visible[:, 1].mean(), 0.5, count)


def test_a_sample_without_the_subset_drawn_shows_one_of_its_own_evenly():
    count = 8_000
    available = np.tile([False, True, True], (count, 1))
    visible = pattern({"only": "V"}).visible(available, draws(count))
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert close(visible[:, 1].mean(), 0.5, count)


def test_random_subset_of_one_modality_needs_the_complete_set():
    with pytest.raises(AqaError, match="hides nothing of a single modality; use none"):
        pattern("random_subset", ["pose"])
    made = pattern({"random_subset": {"include_complete": True}}, ["pose"])
    assert made.visible(np.ones((3, 1), bool), draws(3)).all()


@pytest.mark.parametrize("spec", [{"only": []}, {"random_subset": {"only": []}}])
def test_an_empty_list_of_subsets_is_a_mistake(spec):
    with pytest.raises(AqaError, match="lists no subset"):
        pattern(spec)


# Rates

COUNT = 40_000
FEASIBLE = [
    (0.3, 0.3, 0.3),
    (0.1, 0.5, 0.8),
    (0.5, 0.6, 0.7),
    (0.0, 0.5, 0.25),
    (0.0, 1.0, 1.0),
    (1.0, 0.4, 0.5),
    (0.65, 0.65, 0.65),
    (0.6, 0.7, 0.7),
    (2 / 3, 2 / 3, 2 / 3),
]


def hidden_shares(rates, available=None):
    made = pattern({"rates": dict(zip(BENCHMARK, rates, strict=True))})
    available = np.ones((COUNT, 3), bool) if available is None else available
    visible = made.visible(available, draws(COUNT, seed=11))
    np.testing.assert_array_equal(visible.any(axis=1), available.any(axis=1))
    return visible, 1 - visible.mean(axis=0)


@pytest.mark.parametrize("rates", FEASIBLE)
def test_rates_are_met_though_one_modality_always_stays(rates):
    _, hidden = hidden_shares(rates)
    assert close(hidden, np.array(rates), COUNT).all()


def test_rates_are_independent_where_one_modality_is_never_missing():
    visible, _ = hidden_shares((0, 0.3, 0.6))
    assert close((visible[:, 1] & visible[:, 2]).mean(), 0.7 * 0.4, COUNT)


def test_rates_hold_in_the_share_of_samples_that_have_the_modality():
    available = np.ones((COUNT, 3), bool)
    available[::2, 0] = False  # every other video has no visual stream
    available[::3, 1] = False
    visible, _ = hidden_shares((0.2, 0.4, 0.3), available)
    for i, rate in enumerate((0.2, 0.4, 0.3)):
        has = available[:, i] & (available.sum(axis=1) > 1)  # the only stream of a video always stays
        assert close(1 - visible[has, i].mean(), rate, has.sum())


def test_a_samples_only_modality_stays_even_at_rate_1():
    available = np.tile([False, True, False], (COUNT, 1))
    visible, _ = hidden_shares((0.5, 1.0, 0.5), available)
    np.testing.assert_array_equal(visible, available)


def test_rates_that_leave_less_than_one_modality_leave_exactly_one():
    visible, hidden = hidden_shares((0.7, 0.7, 0.7))
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert close(hidden, 2 / 3, COUNT).all()


def test_rates_out_of_reach_keep_their_proportions():
    visible, hidden = hidden_shares((0.9, 0.6, 0.8))  # 0.1 + 0.4 + 0.2 modalities would be left
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert close(1 - hidden, np.array([1, 4, 2]) / 7, COUNT).all()


def test_rate_0_hides_nothing_and_rate_1_leaves_one_evenly():
    visible, _ = hidden_shares((0, 0, 0))
    assert visible.all()
    visible, hidden = hidden_shares((1, 1, 1))
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert close(hidden, 2 / 3, COUNT).all()


@given(rates=st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.5, 0.7, 0.9, 2 / 3]), min_size=2, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_chances_of_the_subsets_meet_any_rates_in_reach_exactly(rates):
    modalities = [f"{letter}stream" for letter in "abcde"[: len(rates)]]
    made = Rates(modalities, rates=dict(zip(modalities, rates, strict=True)))
    shown, probability = made._distribution(np.ones(len(rates), bool))
    stay = 1 - np.array(rates)
    assert probability.min() >= 0
    assert probability.sum() == pytest.approx(1)
    if stay.sum() < 1:
        stay = stay / stay.sum() if stay.any() else np.full(len(rates), 1 / len(rates))
    np.testing.assert_allclose(probability @ shown, stay, atol=1e-6)


@pytest.mark.parametrize(
    "rates",
    [
        (0.46453078, 0.53546922),
        (0.35955598, 0.98755875, 0.99857456, 0.65431071),
        (0.5, 0.5 - 1e-12),
        (0.5, 0.5 + 1e-12),
    ],
)
def test_rates_that_leave_just_one_modality_on_average_are_met(rates):
    modalities = ["visual", "audio", "flow", "pose"][: len(rates)]
    made = pattern({"rates": dict(zip(modalities, rates, strict=True))}, modalities)
    visible = made.visible(np.ones((COUNT, len(rates)), bool), draws(COUNT))
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert close(1 - visible.mean(axis=0), np.array(rates), COUNT).all()


# Patterns made of patterns


def test_a_fixed_pattern_is_what_remains_in_every_epoch():
    made, available = pattern({"fixed": {"rates": 0.5}}), np.ones((300, 3), bool)
    first = made.remaining(available, draws(300, epoch=1))
    assert 0.4 < first.mean() < 0.6
    for epoch, size in [(2, 4), (7, 16)]:
        np.testing.assert_array_equal(made.remaining(available, draws(300, epoch=epoch, size=size)), first)
        np.testing.assert_array_equal(made.visible(first, draws(300, epoch=epoch)), first)


def test_a_fixed_pattern_with_its_own_seed_does_not_follow_the_runs():
    available = np.ones((300, 3), bool)
    own, runs = pattern({"fixed": {"pattern": {"rates": 0.5}, "seed": 7}}), pattern({"fixed": {"rates": 0.5}})
    mask = own.remaining(available, draws(300, seed=0))
    np.testing.assert_array_equal(mask, own.remaining(available, draws(300, seed=1)))
    np.testing.assert_array_equal(mask, runs.remaining(available, draws(300, seed=7)))
    assert (mask != runs.remaining(available, draws(300, seed=1))).any()
    assert (mask != pattern({"fixed": {"pattern": {"rates": 0.5}, "seed": 8}}).remaining(available, draws(300))).any()


def test_a_fixed_per_batch_pattern_draws_by_sample():
    made, available = pattern({"fixed": "random_subset"}), np.ones((64, 3), bool)
    remaining = made.remaining(available, draws(64, size=64))
    assert len(np.unique(remaining, axis=0)) == 6


def test_combine_applies_its_patterns_in_turn():
    made = pattern({"combine": [{"fixed": "AF"}, {"only": ["VA", "VF"]}]})
    available = np.ones((400, 3), bool)
    remaining = made.remaining(available, draws(400))
    np.testing.assert_array_equal(remaining, np.tile([False, True, True], (400, 1)))
    visible = made.visible(remaining, draws(400))
    np.testing.assert_array_equal(visible.sum(axis=1), 1)
    assert set(np.flatnonzero(visible.any(axis=0))) == {1, 2}


@pytest.mark.parametrize("once", [False, True], ids=["training", "testing"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"rates": {"audio": 0.5}}, {"rates": {"flow": 0.5}}),
        ({"fixed": {"rates": {"audio": 0.5}}}, {"rates": {"flow": 0.5}}),
        ({"fixed": {"rates": {"audio": 0.5}}}, {"fixed": {"rates": {"flow": 0.5}}}),
    ],
    ids=str,
)
def test_patterns_of_a_combination_draw_independently_of_one_another(first, second, once):
    made = pattern({"combine": [first, second]})
    drawn = Draws.once(0, keys(COUNT)) if once else draws(COUNT)
    visible = made.visible(made.remaining(np.ones((COUNT, 3), bool), drawn), drawn)
    assert close(visible.mean(axis=0)[1:], 0.5, COUNT).all()
    assert close((visible[:, 1] & visible[:, 2]).mean(), 0.25, COUNT)
