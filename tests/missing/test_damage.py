"""What damage does to streams: the right clips, the right amount, and a sample's own draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.errors import AqaError
from aqa.missing import Draws, parse_pattern, sample_keys
from aqa.missing.damage import normal_numbers

BENCHMARK = ("visual", "audio", "flow")
WIDTHS = {"visual": 4, "audio": 3, "flow": 2}
SPECS = [
    {"gaps": {"fraction": 0.4}},
    {"gaps": {"fraction": 0.7, "affected": ["audio"]}},
    {"noise": {"std": 0.5}},
    {"shift": {"clips": 2}},
    {"shift": {"clips": -3}},
    {"shift": {"clips": 4, "random": True}},
    {"combine": [{"gaps": {"fraction": 0.3}}, {"noise": {"std": 0.1}}, {"shift": {"clips": 1}}]},
]


def pattern(spec):
    return parse_pattern(spec, BENCHMARK, "missing.test")


def draws(count, seed=0, epoch=1):
    return Draws(seed, epoch, sample_keys([f"video {i}" for i in range(count)]), np.zeros(count, np.int64))


def streams(lengths, clips, seed=0):
    """Random features without a zero among the real clips, zeros after them, and the lengths (B,) of each stream."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor(lengths)
    real = (torch.arange(clips) < length[:, None]).unsqueeze(-1)
    features = {
        m: (torch.randn(len(lengths), clips, d, generator=generator) + 10).masked_fill(~real, 0.0)
        for m, d in WIDTHS.items()
    }
    return features, dict.fromkeys(WIDTHS, length)


def same(first, second):
    for m in WIDTHS:
        torch.testing.assert_close(first[m], second[m], rtol=0, atol=0, equal_nan=True)


# What all kinds keep


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_damage_of_a_sample_does_not_depend_on_the_others(spec, lengths, seed, data):
    made, drawn = pattern(spec), draws(len(lengths), seed)
    features, length = streams(lengths, 9)
    whole = made.damage(features, length, drawn)
    rows = np.array(data.draw(st.permutations(range(len(lengths)))))
    rows = rows[: data.draw(st.integers(1, len(rows)))]
    some = made.damage(
        {m: x[rows] for m, x in features.items()}, {m: n[rows] for m, n in length.items()}, drawn.at(rows)
    )
    same(some, {m: x[rows] for m, x in whole.items()})


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_nan_in_one_sample_stays_there(spec):
    made, drawn = pattern(spec), draws(3)
    features, length = streams([6, 6, 4], 7)
    whole = made.damage(features, length, drawn)
    poisoned = made.damage(
        {m: torch.cat([x[:2], torch.full_like(x[2:], torch.nan)]) for m, x in features.items()}, length, drawn
    )
    same({m: x[:2] for m, x in whole.items()}, {m: x[:2] for m, x in poisoned.items()})


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_padding_stays_zero_and_the_input_untouched(spec):
    features, length = streams([5, 0, 9], 9)
    before = {m: x.clone() for m, x in features.items()}
    damaged = pattern(spec).damage(features, length, draws(3))
    same(features, before)
    for m, x in damaged.items():
        assert x.shape == features[m].shape
        assert not x[0, 5:].any()
        assert not x[1].any()


@pytest.mark.parametrize("spec", SPECS[:4], ids=str)
def test_nothing_is_hidden(spec):
    available = np.array([[True, False, True], [False, False, True]])
    made = pattern(spec)
    np.testing.assert_array_equal(made.remaining(available, draws(2)), available)
    np.testing.assert_array_equal(made.visible(available, draws(2)), available)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[2], SPECS[5]], ids=str)
def test_another_seed_damages_otherwise(spec):
    features, length = streams([9] * 8, 9)
    made = pattern(spec)
    first, second = (made.damage(features, length, draws(8, seed))["visual"] for seed in (0, 1))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "spec",
    [
        {"gaps": {"fraction": 0.5, "affected": ["audio"]}},
        {"noise": {"std": 1, "affected": ["audio"]}},
        {"shift": {"clips": 2, "affected": ["audio"]}},
    ],
    ids=str,
)
def test_only_the_streams_named_are_damaged_and_the_name_says_so(spec):
    features, length = streams([9] * 4, 9)
    made = pattern(spec)
    damaged = made.damage(features, length, draws(4))
    for m in WIDTHS:
        assert torch.equal(damaged[m], features[m]) == (m != "audio")
    assert made.name.endswith(" of audio")


# Gaps


def test_a_gap_is_one_stretch_of_the_stated_length_inside_the_real_clips():
    lengths = [10, 10, 7, 3, 1, 0] * 40
    features, length = streams(lengths, 12)
    for x in pattern({"gaps": {"fraction": 0.3}}).damage(features, length, draws(len(lengths))).values():
        for row, n in enumerate(lengths):
            lost = np.flatnonzero((x[row, :n] == 0).all(dim=-1).numpy())
            assert len(lost) == {10: 3, 7: 2, 3: 1, 1: 0, 0: 0}[n]
            if len(lost):
                np.testing.assert_array_equal(lost, np.arange(lost[0], lost[0] + len(lost)))


def test_clips_outside_the_gap_are_untouched():
    features, length = streams([10] * 50, 10)
    damaged = pattern({"gaps": {"fraction": 0.5}}).damage(features, length, draws(50))
    for m, x in damaged.items():
        kept = (x != 0).all(dim=-1)
        assert kept.sum() == 250
        assert torch.equal(x[kept], features[m][kept])


def test_gaps_start_everywhere_and_differ_between_streams():
    features, length = streams([10] * 300, 10)
    damaged = pattern({"gaps": {"fraction": 0.3}}).damage(features, length, draws(300))
    starts = {m: (x == 0).all(dim=-1).int().argmax(dim=1) for m, x in damaged.items()}
    assert set(starts["visual"].tolist()) == set(range(8))
    assert not torch.equal(starts["visual"], starts["audio"])


# Noise


def test_noise_is_in_units_of_the_streams_own_deviation():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.01, 1.0, 50.0])[:, None, None]
    features = {"visual": torch.randn(3, 400, 50, generator=generator) * scale + 7}
    damaged = pattern({"noise": {"std": 0.5}}).damage(features, {"visual": torch.tensor([400] * 3)}, draws(3))
    noise = (damaged["visual"] - features["visual"]).double()
    ratio = noise.std(dim=(1, 2)) / features["visual"].double().std(dim=(1, 2))
    torch.testing.assert_close(ratio, torch.full((3,), 0.5, dtype=torch.float64), rtol=0.02, atol=0)
    assert (noise.mean(dim=(1, 2)).abs() < 4 * noise.std(dim=(1, 2)) / 20_000**0.5).all()


def test_noise_measures_the_deviation_on_real_clips_only():
    features, length = streams([200], 400)
    alone, _ = {m: x[:, :200] for m, x in features.items()}, None
    made = pattern({"noise": {"std": 1}})
    padded = made.damage(features, length, draws(1))
    same({m: x[:, :200] for m, x in padded.items()}, made.damage(alone, length, draws(1)))


def test_noise_differs_between_streams_and_samples():
    features = {m: torch.ones(2, 6, 2) + torch.arange(6)[:, None] for m in WIDTHS}
    length = dict.fromkeys(WIDTHS, torch.tensor([6, 6]))
    damaged = pattern({"noise": {"std": 1}}).damage(features, length, draws(2))
    assert not torch.equal(damaged["visual"], damaged["audio"])
    assert not torch.equal(damaged["visual"][0], damaged["visual"][1])


def test_noise_of_std_0_and_of_a_constant_stream_changes_nothing():
    features, length = streams([6, 3], 6)
    same(pattern({"noise": {"std": 0}}).damage(features, length, draws(2)), features)
    constant = {"visual": torch.full((1, 1, 1), 3.0)}
    damaged = pattern({"noise": {"std": 1}}).damage(constant, {"visual": torch.tensor([1])}, draws(1))
    assert torch.equal(damaged["visual"], constant["visual"])


def test_two_noises_in_one_pattern_are_not_the_same_noise():
    features, length = streams([400], 400)
    single = pattern({"noise": {"std": 0.5}}).damage(features, length, draws(1))["visual"]
    double = pattern({"combine": [{"noise": {"std": 0.5}}, {"noise": {"std": 0.5}}]}).damage(features, length, draws(1))
    ratio = (double["visual"] - features["visual"]).std() / (single - features["visual"]).std()
    assert ratio == pytest.approx((1 + 1.25) ** 0.5, rel=0.05)  # the second is in units of the noisy stream


def test_normal_numbers_are_normal_and_independent_of_their_neighbours():
    numbers = normal_numbers(draws(40).keys("noise visual"), 50, 101, torch.device("cpu")).double()
    count = numbers.numel()
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(numbers.pow(power).mean() - moment) < 4 * (deviation / count) ** 0.5
    near = [numbers[1:] * numbers[:-1], numbers[:, 1:] * numbers[:, :-1]]
    near += [numbers[..., step:] * numbers[..., :-step] for step in (1, 2)]
    assert all(abs(product.mean()) < 4 / product.numel() ** 0.5 for product in near)
    assert torch.unique(numbers).numel() > 0.95 * count


def test_normal_numbers_belong_to_a_sample_and_a_place_in_its_stream():
    keys = draws(5).keys("noise visual")
    whole = normal_numbers(keys, 9, 3, torch.device("cpu"))
    assert torch.equal(normal_numbers(keys[[3, 1]], 4, 3, torch.device("cpu")), whole[[3, 1], :4])


# Shift


@pytest.mark.parametrize("clips", [0, 1, 2, -1, -3, 5, -5, 100])
def test_a_shift_moves_the_real_clips_and_fills_with_zeros(clips):
    features, length = streams([5, 7], 7)
    damaged = pattern({"shift": {"clips": clips}}).damage(features, length, draws(2))
    for m, x in features.items():
        for row, n in enumerate([5, 7]):
            expected = torch.zeros_like(x[row])
            for clip in range(n):
                if 0 <= clip - clips < n:
                    expected[clip] = x[row, clip - clips]
            assert torch.equal(damaged[m][row], expected)


def test_a_random_shift_reaches_every_distance_in_its_bounds_and_no_other():
    features, length = streams([9] * 200, 9)
    damaged = pattern({"shift": {"clips": 2, "random": True}}).damage(features, length, draws(200))
    reached = {m: [] for m in WIDTHS}
    for k in range(-8, 9):
        moved = pattern({"shift": {"clips": k}}).damage(features, length, draws(200))
        for m, x in damaged.items():
            reached[m] += [k] * int((moved[m] == x).all(dim=-1).all(dim=-1).sum())
    for distances in reached.values():
        assert len(distances) == 200
        assert set(distances) == {-2, -1, 0, 1, 2}
        assert min(distances.count(k) for k in range(-2, 3)) > 20
    assert not torch.equal(damaged["visual"][:, :, 0] == 0, damaged["audio"][:, :, 0] == 0)


# Mistakes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"gaps": {"fraction": 1}}, "missing.test: missing pattern 'gaps': fraction is 1.0, not in [0, 1)"),
        ({"gaps": {"fraction": -0.1}}, "missing.test: missing pattern 'gaps': fraction is -0.1, not in [0, 1)"),
        ({"noise": {"std": -1}}, "missing.test: missing pattern 'noise': std is -1.0, not a number of 0 or more"),
        (
            {"noise": {"std": float("nan")}},
            "missing.test: missing pattern 'noise': std is nan, not a number of 0 or more",
        ),
        (
            {"shift": {"clips": 1, "affected": ["adio"]}},
            "missing.test: unknown modality 'adio': did you mean 'audio'?",
        ),
    ],
    ids=str,
)
def test_values_out_of_range_are_one_clear_line(spec, message):
    with pytest.raises(AqaError) as error:
        pattern(spec)
    assert str(error.value) == message
