"""The figures of a report: nothing is cut off, and what they show is what the sections hold."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.transforms import Bbox

from aqa.drawing.words import Words
from aqa.evaluation.comparison import Estimate, draw_videos
from aqa.reporting import charts
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.published import PublishedRow
from aqa.reporting.sections import missing_curve, target_section

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


def texts(figure):
    return [text for words in figure.findobj(Words) for *_, text in words.shown]


def fits(figure):
    """Whether everything that is drawn lies within the figure, to a hundredth of an inch."""
    boxes = [box for words in figure.findobj(Words) for box in words.boxes()]
    boxes += [artist.get_window_extent() for artist in figure.artists if not isinstance(artist, Words)]
    boxes = [box for box in boxes if np.isfinite(box.extents).all()]  # else nothing is drawn
    drawn, (width, height) = Bbox.union(boxes).extents / figure.dpi, figure.get_size_inches()
    return min(*drawn[:2], width - drawn[2], height - drawn[3]) > -0.01


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
    assert [fits(figure) for figure in drawn] == [True] * 5


def test_a_long_name_of_a_pattern_is_slanted_and_fits(section, drawn):
    long = {"VAF": "a pattern whose name is longer than any that is shown", "VA": "masked 30 % of it"}
    rows = [
        replace(row, srcc={long.get(name, name): found for name, found in row.srcc.items()}) for row in section.rows
    ]
    patterns = [long.get(name, name) for name in section.patterns]
    charts.srcc_by_pattern(replace(section, rows=rows, patterns=patterns), [])
    assert fits(drawn[0])
    assert {words.get_rotation() for words in drawn[0].findobj(Words)} == {0, 40, 90}


def test_bars_are_as_high_as_the_numbers_and_test_selection_is_hatched(section, drawn):
    charts.srcc_by_pattern(section, [])
    bars = [patch for patch in drawn[0].findobj(PathPatch) if patch.get_clip_box()]
    for row, own in zip(section.rows, bars, strict=True):
        corners = own.get_path().vertices.reshape(-1, 5, 2)[:, :4]  # without what closes each
        assert corners[:, 1, 1].tolist() == [row.srcc[column].value for column in section.columns]
        assert not corners[:, [0, 3], 1].any()
        assert own.get_hatch() == ("///" if row.on_test else None)
        assert bool(own.get_edgecolor()[3]) == row.on_test


def test_whiskers_are_the_intervals_and_stand_in_the_middle_of_their_bars(section, drawn):
    charts.srcc_by_pattern(section, [])
    whiskers = [line for line in drawn[0].findobj(Line2D) if line.get_linewidth() == 0.9]
    bars = [patch for patch in drawn[0].findobj(PathPatch) if patch.get_clip_box()]
    for row, own, bar in zip(section.rows, whiskers, bars, strict=True):
        ends = own.get_ydata().reshape(-1, 3)[:, :2]
        np.testing.assert_array_equal(ends, [row.srcc[column].interval[:2] for column in section.columns])
        corners = bar.get_path().vertices.reshape(-1, 5, 2)[:, :4]
        assert np.allclose(own.get_xdata()[::3], corners[..., 0].mean(axis=1))


def test_the_axis_of_bars_begins_at_zero_unless_something_lies_below(section, drawn):
    def lowest(rows):
        charts.srcc_by_pattern(replace(section, rows=rows), [])
        zero = next(line for line in drawn[-1].findobj(Line2D) if line.get_ydata().tolist() == [0, 0])
        bottom = zero.get_clip_box().y0
        return zero.get_window_extent().y0 - bottom

    assert lowest(section.rows) == pytest.approx(0, abs=2)
    below = Estimate(-0.3, np.array([-0.4, -0.2]), np.array([False, False]))
    undefined = Estimate(np.nan, np.array([]), np.array([], bool))
    assert lowest([replace(section.rows[0], srcc={**section.rows[0].srcc, "A": undefined, "V": below})]) > 20


def test_names_of_many_modalities_have_room_beside_one_another(section, drawn):
    modalities = tuple(f"body_pose_{i}" for i in range(8))
    worth = dict.fromkeys(modalities, section.rows[0].srcc["VAF"])
    charts.worth_of_modalities(replace(section, modalities=modalities, rows=[replace(section.rows[0], worth=worth)]))
    (names,) = (words for words in drawn[0].findobj(Words) if "body_pose_0" in [text for *_, text in words.shown])
    assert names.get_rotation() == 40
    assert fits(drawn[0])


def test_lines_over_the_missing_rate_are_the_means(section, drawn):
    charts.srcc_by_missing(section)
    lines = [line for line in drawn[0].findobj(Line2D) if line.get_clip_on() and line.get_marker() == "o"]
    for row, line in zip(section.rows, lines, strict=True):
        curve = missing_curve(row, section.modalities)
        assert line.get_xydata().tolist() == [[share, found.value] for share, found in curve]
        assert line.get_linestyle() == ("--" if row.on_test else "-")


def test_each_router_weight_stands_in_a_cell_as_dark_as_it_is(section, drawn):
    charts.router_weights(section)
    (cells,) = drawn[0].findobj(PolyCollection)
    shown = [word for words in drawn[0].findobj(Words) for word in words.shown]
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
    (marks,) = [line for line in drawn[0].findobj(Line2D) if line.get_marker() == "d" and line.get_clip_on()]
    assert marks.get_xydata().tolist() == [[0, 0.9], [section.columns.index("A"), 0.3]]
    assert marks.get_linestyle() == "None"
    assert "theirs †" in texts(drawn[0])


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
        shown = set(texts(figure))
        assert labels <= shown
        assert not figure.axes
        assert not [text for text in shown if any(mark in text for mark in ("mathdefault", "{", "\\"))]
