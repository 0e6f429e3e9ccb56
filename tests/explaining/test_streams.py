"""Shapley values are those of the definition, and nothing hidden is in them."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from aqa.errors import AqaError
from aqa.evaluation.scorer import Scorer
from aqa.explaining.streams import all_sets, numbered, require_few_streams, set_scores, shapley_values
from aqa.features.batches import Features
from aqa.models import build
from aqa.store.store import FeatureStore


@st.composite
def games(draw):
    """Scores of two videos under all sets of one to four streams, as a video that lacks some of them has them."""
    streams = draw(st.integers(1, 4))
    numbers = st.floats(-100, 100, allow_nan=False)
    scores = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=2**streams, max_size=2**streams)))
    has = np.array([draw(st.lists(st.booleans(), min_size=streams, max_size=streams)) for _ in range(2)])
    seen = numbered(all_sets(streams)[:, None] & has)  # (2^M, 2)
    scores = np.take_along_axis(scores, seen, axis=0)
    scores[seen == 0] = np.nan
    return scores, has, draw(numbers)


@settings(max_examples=60)
@given(games())
def test_they_are_the_mean_over_all_orders_and_add_up(game):
    scores, has, middle = game
    streams = has.shape[1]
    values = np.where(np.isnan(scores), middle, scores)
    expected = np.zeros((streams, 2))
    for order in itertools.permutations(range(streams)):
        before = 0
        for stream in order:
            expected[stream] += (values[before | 1 << stream] - values[before]) / math.factorial(streams)
            before |= 1 << stream
    found = shapley_values(scores, middle)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=0), values[-1] - middle, atol=1e-9)
    assert (found.T[~has] == 0).all()


def test_of_an_additive_game_they_are_its_parts():
    parts = np.array([2.0, -1.0, 0.5])
    scores = (all_sets(3) @ parts + 10)[:, None]
    np.testing.assert_allclose(shapley_values(scores, 10.0)[:, 0], parts)


def scorer_of(path, **options):
    """An untrained model with a store's features; closed forms would need a fit."""
    with FeatureStore(path) as store:
        features = Features(store)
        torch.manual_seed(0)
        model = build("mome", widths=features.widths, hidden_dim=8, **options)
    return Scorer(model, features, 0.0, 50.0, 7, 4, 0)


def test_scores_of_sets_are_those_of_the_patterns_and_the_same_bits_where_the_same_is_shown(tiny_store):
    scorer = scorer_of(tiny_store())
    rows = np.arange(8)
    shown = scorer.features.available
    found = set_scores(scorer, rows, shown).scores
    assert np.isnan(found[0]).all()
    assert np.array_equal(np.isnan(found[-1]), ~shown.any(axis=1))
    lacks_visual = ~shown[:, 0] & shown.any(axis=1)
    assert lacks_visual.any()
    assert np.array_equal(found[0b111, lacks_visual], found[0b110, lacks_visual])
    assert (found[0b111, 0] != found[0b110, 0]).all()


def test_what_is_not_shown_changes_no_bit(tiny_store, monkeypatch):
    rows, hidden = np.arange(8), np.array([False, True, True])
    clean = scorer_of(tiny_store())
    shown = clean.features.available & hidden
    expected = set_scores(clean, rows, shown)
    poisoned = scorer_of(tiny_store(name="other.h5"))
    poisoned.features.values["visual"] = torch.full_like(poisoned.features.values["visual"], torch.nan)
    found = set_scores(poisoned, rows, shown)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_too_many_streams_are_one_line():
    require_few_streams(8)
    with pytest.raises(AqaError, match="at most 8 can be explained"):
        require_few_streams(9)
