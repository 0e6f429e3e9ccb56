"""The figures of a report: nothing is cut off, and what they show is what the sections hold."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from aqa.drawing.words import Words
from aqa.evaluation.comparison import Ranking, draw_videos, rank_models
from aqa.reporting import charts
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import target_section

MODELS = ["mcmoe", "late_fusion", "a_model_with_a_long_name"]
THEIRS = {"label": "theirs", "source": "a paper", "selected_on": "test", "srcc": {"VAF": 0.9, "A": 0.3}}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, kept for the test to look at."""
    kept = []

    def keep(figure, *salt):
        kept.append(figure)
        return "<svg>"

    monkeypatch.setattr(charts, "finished", keep)
    return kept


@pytest.fixture
def section(finished, tmp_path):
    for model in MODELS:
        for seed in (0, 1):
            finished(f"{model}{seed}", model=model, seed=seed)
    finished("best", noise=1, split="test")
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    ((place, found),) = by_place.items()
    counts = draw_videos({place.target: read_scores(found[0].first).ids})
    return target_section(place, found, counts[place.target])


def fits(figure):
    """Whether everything that is drawn lies within the figure, to a hundredth of an inch."""
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.01


def test_no_figure_cuts_its_words_off(section, drawn):
    published = [PublishedRow(data_set="fisv", target="TES", **THEIRS)]
    charts.srcc_by_pattern(section, published)
    for draw in (
        charts.srcc_by_missing,
        charts.worth_of_modalities,
        charts.predicted_against_true,
        charts.router_weights,
    ):
        assert draw(section) == "<svg>"
    scores = np.random.default_rng(0).normal(size=(9, 3)) + np.arange(3)
    charts.critical_difference(rank_models(pd.DataFrame(scores, columns=MODELS)), "all")
    assert [fits(figure) for figure in drawn] == [True] * 6


def test_bars_are_as_high_as_the_numbers_and_test_selection_is_hatched(section, drawn):
    charts.srcc_by_pattern(section, [])
    axes = drawn[0].axes[0]
    for row, bars in zip(section.rows, axes.patches, strict=True):
        corners = bars.get_path().vertices.reshape(-1, 5, 2)[:, :4]  # without what closes each
        assert corners[:, 1, 1].tolist() == [row.srcc[column].value for column in section.columns]
        assert not corners[:, [0, 3], 1].any()
        assert bars.get_hatch() == ("///" if row.on_test else None)
        assert bool(bars.get_edgecolor()[3]) == row.on_test


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 8), min_size=3, max_size=8), st.floats(0.01, 8))
def test_a_bar_joins_two_models_where_their_ranks_are_nearer_than_the_critical_difference(ranks, critical):
    ranks = sorted(ranks)
    ranking = Ranking(pd.Series(ranks), 1.0, 0.5, critical, 9, [])
    bars = charts.not_told_apart(ranking)
    for i, j in itertools.combinations(range(len(ranks)), 2):
        joined = any(first <= i and j <= last for first, last, _ in bars)
        assert joined == (ranks[j] - ranks[i] <= critical)
    for (_, end, line), (start, _, other) in itertools.combinations(bars, 2):
        assert line != other or end < start  # bars of one line do not meet
    for (first, last, _), (begin, end, _) in itertools.permutations(bars, 2):
        assert not (begin <= first and last <= end)  # none lies within another


def test_each_model_has_its_mean_rank_beside_its_name_and_a_line_from_there(drawn):
    scores = np.random.default_rng(0).normal(size=(9, 5)) + np.arange(5)
    ranking = rank_models(pd.DataFrame(scores, columns=list("abcde")))
    charts.critical_difference(ranking, "all")
    axes, ranks = drawn[0].axes[0], list(ranking.ranks.items())
    left, right = [f"{name} ({rank:.2f})" for name, rank in ranks], [f"({rank:.2f}) {name}" for name, rank in ranks]
    assert [text.get_text().strip() for text in axes.texts] == left[:3] + right[3:]
    assert [line.get_xdata()[0] for line in axes.lines[:5]] == list(ranking.ranks)


def test_each_router_weight_stands_in_a_cell_as_dark_as_it_is(section, drawn):
    charts.router_weights(section)
    axes = drawn[0].axes[0]
    (cells,) = axes.collections
    shown = [word for words in axes.texts if isinstance(words, Words) for word in words.shown]
    rows = [row for row in section.rows if row.router][: charts.MOST_ROUTERS]
    weights = np.concatenate([row.router[name].ravel() for row in rows for name in section.patterns])
    weights = weights[~np.isnan(weights)]
    assert sorted(text for *_, text in shown if "." in text) == sorted(f"{weight:.2f}" for weight in weights)
    assert np.allclose(cells.get_facecolor(), matplotlib.colormaps["Blues"](weights))
    middles = [path.vertices[:4].mean(axis=0) for path in cells.get_paths()]
    places = {tuple(np.round(place, 6)): text for *place, text in shown}
    assert [places[tuple(np.round(middle, 6))] for middle in middles] == [f"{weight:.2f}" for weight in weights]


def test_published_numbers_are_marks(section, drawn):
    charts.srcc_by_pattern(section, [PublishedRow(data_set="fisv", target="TES", **THEIRS)])
    (marks,) = [line for line in drawn[0].axes[0].lines if line.get_label() == "theirs †"]
    assert marks.get_xydata().tolist() == [[0, 0.9], [section.columns.index("A"), 0.3]]
    assert marks.get_linestyle() == "None"


def test_what_there_is_nothing_of_is_not_drawn(finished, tmp_path):
    truth = np.arange(9.0)
    finished("a", truth=truth, predictions={"VA": truth, "V": truth}, router=False)
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    ((place, found),) = by_place.items()
    section = target_section(place, found, draw_videos({"TES": [str(i) for i in range(9)]})["TES"])
    assert charts.worth_of_modalities(section) is None
    assert charts.predicted_against_true(section) is None
    assert charts.router_weights(section) is None
    assert charts.srcc_by_missing(section) is not None


def test_no_figure_shows_markup_or_lacks_a_label(section, drawn):
    charts.srcc_by_pattern(section, [])
    charts.srcc_by_missing(section)
    charts.worth_of_modalities(section)
    charts.predicted_against_true(section)
    charts.router_weights(section)
    wanted = [
        {"SRCC, 95 % interval"},
        {"missing rate in testing (share of modalities)", "SRCC, 95 % interval"},
        {"SRCC lost without it"},
        {"true TES", "predicted"},
        {"stream", "expert"},
    ]
    for figure, labels in zip(drawn, wanted, strict=True):
        FigureCanvasAgg(figure).draw()
        shown = {text.get_text() for text in figure.findobj(Text)}
        assert labels <= shown
        assert not [text for text in shown if any(mark in text for mark in ("mathdefault", "{", "\\"))]
