"""The diagram of ranks: every model beside its rank, and a bar where two are not told apart."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.drawing.words import Words
from aqa.evaluation.comparison import Ranking, rank_models
from aqa.reporting import ranks as diagram
from aqa.reporting.charts import INK


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, kept for the test to look at."""
    kept = []
    monkeypatch.setattr(diagram, "finished", lambda figure, *salt: kept.append(figure))
    return kept


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 8), min_size=3, max_size=8), st.floats(0.01, 8))
def test_a_bar_joins_two_models_where_their_ranks_are_nearer_than_the_critical_difference(ranks, critical):
    ranks = sorted(ranks)
    ranking = Ranking(pd.Series(ranks), 1.0, 0.5, critical, 9, [])
    bars = diagram.not_told_apart(ranking)
    for i, j in itertools.combinations(range(len(ranks)), 2):
        joined = any(first <= i and j <= last for first, last, _ in bars)
        assert joined == (ranks[j] - ranks[i] <= critical)
    for (_, end, line), (start, _, other) in itertools.combinations(bars, 2):
        assert line != other or end < start  # bars of one line do not meet
    for (first, last, _), (begin, end, _) in itertools.permutations(bars, 2):
        assert not (begin <= first and last <= end)  # none lies within another


@pytest.mark.parametrize(
    "models", ["abc", "abcde", ["W" * 30, "b", "c"], ["a_model_with_a_long_name", "mcmoe, hidden_dim=32", "c"]]
)
def test_each_model_has_its_mean_rank_beside_its_name_and_a_line_from_there(drawn, models):
    scores = np.random.default_rng(0).normal(size=(9, len(models))) + np.arange(len(models))
    ranking = rank_models(pd.DataFrame(scores, columns=list(models)))
    diagram.critical_difference(ranking, "all")
    (figure,), ranks = drawn, list(ranking.ranks.items())
    half = (len(ranks) + 1) // 2
    left, right = [f"{name} ({rank:.2f})" for name, rank in ranks], [f"({rank:.2f}) {name}" for name, rank in ranks]
    shown = {text: (x, y) for words in figure.findobj(Words) for x, y, text in words.shown}
    assert [text for text in shown if "(" in text] == left[:half] + right[half:]
    axis, lines, *_ = (patch.get_path().to_polygons(closed_only=False) for patch in figure.artists if has_path(patch))
    low, high = axis[0][0, 0], axis[0][1, 0]
    for text, line, (_, rank) in zip([*left[:half], *right[half:]], lines, ranks, strict=True):
        assert line[0] == pytest.approx([low + (rank - 1) / (len(ranks) - 1) * (high - low), axis[0][0, 1]])
        assert line[2, 1] == shown[text][1]
        assert abs(line[2, 0] - shown[text][0]) < 0.1
    width, height = figure.get_size_inches() * figure.dpi
    for box in [box for words in figure.findobj(Words) for box in words.boxes()]:
        assert -1 < box.x0 < box.x1 < width + 1
        assert -1 < box.y0 < box.y1 < height + 1


def has_path(artist):
    return hasattr(artist, "get_path") and artist.get_edgecolor()[:3] == pytest.approx(
        [int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    )


def test_a_bar_lies_over_the_ranks_that_it_joins(drawn):
    ranking = Ranking(pd.Series([1.5, 2.0, 4.0, 5.0], index=list("abcd")), 1.0, 0.5, 1.0, 9, [])
    diagram.critical_difference(ranking, "all")
    axis, _, bars = (patch.get_path().to_polygons(closed_only=False) for patch in drawn[0].artists if has_path(patch))
    low, high = axis[0][0, 0], axis[0][1, 0]
    found = [[1 + 3 * (x - low) / (high - low) for x in bar[:, 0]] for bar in bars]
    assert np.allclose(found, [[1.5, 2.0], [4.0, 5.0]])
