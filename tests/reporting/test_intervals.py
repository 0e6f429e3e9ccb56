"""What a report says of the intervals of scores."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from aqa.errors import AqaError
from aqa.evaluation.comparison import draw_videos
from aqa.evaluation.intervals import binomial
from aqa.reporting import charts
from aqa.reporting.collect import find_runs, runs_by_model
from aqa.reporting.sections import mean_section, target_section
from aqa.reporting.writers import markdown, table
from aqa.runs.folder import PREDICTIONS

N = 40
TRUTH = np.linspace(0, 40, N)
IDS = [f"video {i}" for i in range(N)]


def scores(held, wide=5.0):
    """Scores whose intervals of 5 to either side hold the first `held` labels, and no others."""
    error = np.where(np.arange(N) < held, wide - 1, wide + 1)
    return {"VAF": TRUTH + error, "V": TRUTH - error}


def made(finished, name, held, **about):
    return finished(name, predictions=scores(held), truth=TRUTH, ids=IDS, level=0.8, half=5.0, **about)


def tables(tmp_path):
    """What a report has, without its figures: the table for CSV, Markdown, and the sections."""
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    counts = draw_videos({place.target: IDS for place in by_place})
    sections = [target_section(place, own, counts[place.target]) for place, own in by_place.items()]
    sections = [mean_section(sections), *sections] if len(sections) > 1 else sections
    return table(sections, []), markdown(sections, []), sections


def part(text, title):
    return text.split(f"### {title}", 1)[1].split("###")[0]


def test_coverage_is_that_of_all_seeds_with_the_binomial_interval_of_the_videos(finished, tmp_path):
    made(finished, "a", 36, seed=0)
    made(finished, "b", 30, seed=1)
    values, text, sections = tables(tmp_path)
    row = values.iloc[0]
    assert row["VAF_coverage"] == pytest.approx(66 / 80)
    assert (row["VAF_coverage_low"], row["VAF_coverage_high"]) == pytest.approx(binomial(33, N))
    assert row["VAF_width"] == pytest.approx(10)
    assert row["interval_level"] == 0.8
    low, high = binomial(33, N)
    assert f"| mcmoe | 0.8 | 0.825 [{low:.3f}, {high:.3f}] |" in part(text, "Coverage of intervals")
    assert "valid (30 to 40 videos); the epoch was selected on them" in part(text, "Coverage of intervals")
    assert "| mcmoe | 0.8 | 10.000 | 10.000 |" in part(text, "Width of intervals")
    panels, widths = charts.reliability_by_pattern(sections[0]), charts.interval_widths(sections[0])
    assert all(words in panels.svg for words in ("VAF", "level asked for"))
    assert all(words in widths.svg for words in ("complete", "2 missing"))


@pytest.mark.parametrize("held", [0, 10, 36])
def test_the_panels_of_reliability_show_every_coverage_with_its_interval(finished, tmp_path, monkeypatch, held):
    made(finished, "a", held)
    _, _, sections = tables(tmp_path)
    drawn = []
    monkeypatch.setattr(charts, "finished", lambda figure, *salt: drawn.append(figure))
    charts.reliability_by_pattern(sections[0])
    lines = [line for line in drawn[0].findobj(Line2D) if line.get_clip_box() and len(line.get_xdata())]
    for line in lines:
        inside, edges = line.get_window_extent(), line.get_clip_box()
        assert inside.y0 >= edges.y0 - 3
        assert inside.y1 <= edges.y1 + 3
    assert any(line.get_marker() == "o" for line in lines)


def test_a_coverage_that_is_not_the_level_says_on_which_side_it_is(finished, tmp_path):
    made(finished, "low", 10, model="ridge")
    made(finished, "high", 40, model="mome")
    _, text, _ = tables(tmp_path)
    found = part(text, "Coverage of intervals").splitlines()
    assert all(line.count("below the level") == 2 for line in found if "ridge" in line)
    assert all(line.count("above the level") == 2 for line in found if "mome" in line)


def test_the_widest_intervals_are_listed_unless_all_are_alike(finished, tmp_path):
    half = np.linspace(2, 6, N)
    finished("a", predictions=scores(40), truth=TRUTH, ids=IDS, level=0.8, half=half, model="ridge")
    made(finished, "b", 36, model="mome")
    _, text, _ = tables(tmp_path)
    lines = part(text, "Widest intervals").splitlines()
    named = [line.split(" | ")[1] for line in lines if line.startswith("| ridge")]
    assert named == [f"video {i}" for i in range(39, 29, -1)]
    assert "| ridge | video 39 | 44.000 | 40.000 | 38.000 | 50.000 | 12.000 | yes |" in lines
    assert "| mome | 40 videos, all as wide |  |  |  |  | 10.000 |  |" in lines


def test_unbounded_intervals_are_counted_and_have_no_width(finished, tmp_path):
    half = np.where(np.arange(N) < 4, np.inf, 5.0)
    finished("a", predictions=scores(40), truth=TRUTH, ids=IDS, level=0.8, half=half)
    values, text, _ = tables(tmp_path)
    assert values.loc[0, "VAF_coverage"] == 1
    assert values.loc[0, "VAF_width"] == 10
    assert "4 unbounded" in part(text, "Coverage of intervals")
    assert "| mcmoe | video 0 | 4.000 | 0.000 | -inf | inf | inf | no |" in part(text, "Widest intervals")


def test_the_mean_over_targets_has_coverages_and_no_widths(finished, tmp_path):
    made(finished, "a", 36, target="TES")
    made(finished, "b", 30, target="PCS")
    values, text, sections = tables(tmp_path)
    whole = values[values["target"] == "mean of 2 targets"].iloc[0]
    assert whole["VAF_coverage"] == pytest.approx((36 + 30) / 80)
    assert np.isnan(whole["VAF_width"])
    spread = np.std([0.9, 0.75], ddof=1)
    assert f"| mcmoe | 0.8 | 0.825 ± {spread:.3f} | 0.825 ± {spread:.3f} |" in text
    assert charts.interval_widths(sections[0]) is None
    assert charts.reliability_by_pattern(sections[0]) is not None


def test_why_there_are_none_is_said_and_older_runs_say_nothing(finished, tmp_path):
    finished("a", model="ridge", metrics={"intervals": {"level": 0.9, "why_none": "no video is kept apart"}})
    finished("b", model="mome")
    _, text, sections = tables(tmp_path)
    found = part(text, "Coverage of intervals")
    assert "no video is kept apart" in found
    assert "mome" not in found
    assert charts.reliability_by_pattern(sections[0]) is None
    assert charts.interval_widths(sections[0]) is None


def test_intervals_that_do_not_give_the_reported_numbers_are_refused(finished, tmp_path):
    folder = made(finished, "a", 36)
    path = folder / PREDICTIONS
    table = pd.read_csv(path)
    table.loc[0, "high"] = table.loc[0, "low"]
    table.to_csv(path, index=False)
    with pytest.raises(AqaError, match=r"runs/a: its intervals do not go with its metrics.*35 of 40"):
        tables(tmp_path)
    table.drop(columns=["low", "high"]).to_csv(path, index=False)
    with pytest.raises(AqaError, match=r"has no intervals"):
        tables(tmp_path)


def test_metrics_with_a_count_that_is_none_are_left_out_in_one_line(finished, tmp_path):
    folder = made(finished, "a", 36)
    found = json.loads((folder / "metrics.json").read_text())
    found["patterns"]["V"]["interval"]["covered"] = -1
    (folder / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(AqaError, match=r"patterns\.V\.interval\.covered"):
        tables(tmp_path)
