"""Further measures in a report: means over seeds on the report's draws, in every kind of table."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.errors import AqaError
from aqa.evaluation.comparison import draw_videos
from aqa.reporting.collect import find_runs, read_scores, runs_by_model
from aqa.reporting.columns import AVERAGE
from aqa.reporting.sections import mean_section, target_section
from aqa.reporting.tables import area_table, measure_tables
from aqa.store.synthetic import make_synthetic

GRADED = ("mae", "pearson", "quadratic_kappa")


def grades(n=40, seed=0):
    return np.random.default_rng(seed).integers(0, 41, n).astype(float)


def sections(folder):
    by_place, _ = runs_by_model(find_runs([folder])[0])
    drawn = {place.target: read_scores(own[0].first).drawn for place, own in by_place.items()}
    counts = draw_videos(drawn)
    return [target_section(place, own, counts[place.target]) for place, own in by_place.items()]


def table(section, title):
    return next(one for one in measure_tables(section) if one.title == title)


def test_a_measure_is_the_plain_mean_over_seeds_with_an_interval_and_a_deviation(finished, tmp_path):
    runs = [finished(f"m{seed}", seed=seed, truth=grades(), measures=GRADED) for seed in (0, 1, 2)]
    (section,) = sections(tmp_path / "runs")
    (row,) = section.rows
    reported = [json.loads((run / "metrics.json").read_text())["patterns"] for run in runs]
    for name in GRADED:
        values = [one["VA"]["measures"][name]["value"] for one in reported]
        found = row.measures[name].found["VA"]
        assert found.value == pytest.approx(np.mean(values))
        assert row.measures[name].deviation("VA") == pytest.approx(np.std(values, ddof=1))
        assert found.interval.low < found.value < found.interval.high
    incomplete = [row.measures["mae"].found[pattern].value for pattern in section.averaged]
    assert row.measures["mae"].found[AVERAGE].value == pytest.approx(np.mean(incomplete))
    shown = table(section, "MAE")
    assert shown.headings == ["model", "VAF", "VA", "VF", "AF", "V", "A", "F", "mean of incomplete"]
    assert "in the target's units, lower is better" in shown.caption
    (line,) = shown.lines
    assert re.fullmatch(r"± \d\.\d{3} \[\d+\.\d{3}, \d+\.\d{3}\]", line[1].small)
    assert "kappa, higher is better" in table(section, "quadratic kappa").caption


def test_the_interval_of_one_seed_is_near_that_of_the_run(tmp_path):
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=60)
    run = aqa.run(
        {
            "name": "r",
            "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
            "model": {"name": "ridge"},
            "missing": {"train": "none", "test": ["complete", "V", "A", {"rates": 0.5}]},
            "evaluate": {"metrics": ["mae", "kendall"]},
            "output": str(tmp_path / "runs" / "r"),
        }
    )
    (section,) = sections(tmp_path / "runs")
    (row,) = section.rows
    for name, own in run.metrics["patterns"][section.complete]["measures"].items():
        found = row.measures[name].found[section.complete].interval
        width = own["high"] - own["low"]
        assert found.low == pytest.approx(own["low"], abs=width / 3)
        assert found.high == pytest.approx(own["high"], abs=width / 3)
    assert row.area.value == pytest.approx(run.metrics["area_under_rates"]["srcc"])
    assert area_table(section).lines[0][1].text == f"{row.area.value:.3f}"


def test_better_by_the_paired_test_is_bold_whichever_end_is_better(finished, tmp_path):
    for model, noise in (("mcmoe", 6.0), ("zero_fill", 90.0), ("ridge", 6.0)):
        finished(f"{model}-a", model=model, noise=noise, truth=grades(), measures=GRADED)
    (section,) = sections(tmp_path / "runs")

    def bold():
        return {t.title: [line[0].text for line in t.lines if line[1].best] for t in measure_tables(section)}

    assert set(map(tuple, bold().values())) == {()}  # two that are equally good
    section.rows[:] = [row for row in section.rows if row.label != "ridge"]
    assert bold() == {"MAE": ["mcmoe"], "Pearson": ["mcmoe"], "quadratic kappa": ["mcmoe"]}


def test_without_intervals_there_are_none_and_a_row_without_the_measure_has_no_line(finished, tmp_path):
    finished("a", truth=grades(), measures=("mae",), settings=["evaluate.intervals=false"])
    finished("b", model="ridge", truth=grades())
    (section,) = sections(tmp_path / "runs")
    (line,) = table(section, "MAE").lines
    assert (line[0].text, line[1].small) == ("mcmoe", "")
    assert len(section.rows) == 2


def test_over_targets_there_are_means_of_what_has_no_units(finished, tmp_path):
    for target in ("TES", "PCS"):
        finished(target, target=target, truth=grades(), measures=GRADED)
    found = sections(tmp_path / "runs")
    (row,) = mean_section(found).rows
    assert sorted(row.measures) == ["pearson", "quadratic_kappa"]
    values = [one.rows[0].measures["pearson"].found["VA"].value for one in found]
    assert row.measures["pearson"].found["VA"].value == pytest.approx(np.mean(values))
    assert row.measures["pearson"].found["VA"].interval.low < np.mean(values)


def test_measures_that_predictions_do_not_give_are_refused_by_the_runs_name(finished, tmp_path):
    run = finished("a", truth=grades(), measures=("mae",))
    content = json.loads((run / "metrics.json").read_text())
    content["patterns"]["VA"]["measures"]["mae"]["value"] += 1
    (run / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(AqaError, match=r"runs/a: its predictions do not go with its metrics: mae under VA is"):
        sections(tmp_path / "runs")


def test_every_kind_of_table_has_them(finished, tmp_path):
    for seed in (0, 1):
        finished(f"a{seed}", seed=seed, truth=grades(), measures=(*GRADED, "rmse"))
        finished(f"b{seed}", seed=seed, model="ridge", noise=90.0, truth=grades(), measures=GRADED)
    aqa.report([tmp_path / "runs"], tmp_path / "out")
    (section,) = sections(tmp_path / "runs")
    best = next(row for row in section.rows if row.label == "mcmoe").measures["mae"].found["VAF"]
    low, high = (f"{end:.3f}" for end in best.interval[:2])
    page = (tmp_path / "out/index.html").read_text()
    assert re.search(rf"<b>{best.value:.3f}</b><small>± \d\.\d+ \[{low}, {high}\]</small>", page)
    words = (tmp_path / "out/tables.md").read_text()
    assert re.search(rf"\| mcmoe \| \*\*{best.value:.3f}\*\* ± \d\.\d+ \[{low}, {high}\]", words.split("### MAE")[1])
    paper = (tmp_path / "out/tables.tex").read_text()
    assert rf"\textbf{{{f'{best.value:.3f}'.replace('.', '.' + chr(92) + 'allowbreak{}')}}}" in paper
    assert paper.count(". quadratic kappa. ") == 1
    csv = pd.read_csv(tmp_path / "out/tables.csv").set_index("model")
    assert csv.loc["mcmoe", "VAF_mae"] == pytest.approx(best.value)
    assert csv.loc["mcmoe", "VAF_mae_low"] == pytest.approx(best.interval.low)
    assert np.isfinite(csv.loc["mcmoe", "average_rmse_sd"])
    assert np.isnan(csv.loc["ridge", "VAF_rmse"])


def test_a_measure_that_is_not_known_is_shown_as_it_was_reported_and_its_name_is_escaped(finished, tmp_path):
    run = finished("a", truth=grades(), measures=("mae",))
    content = json.loads((run / "metrics.json").read_text())
    for found in content["patterns"].values():
        found["measures"] = {"<b>x_y|": {"value": 1.25}}
    (run / "metrics.json").write_text(json.dumps(content))
    aqa.report([tmp_path / "runs"], tmp_path / "out")
    assert "<b>x_y|" not in (tmp_path / "out/index.html").read_text()
    assert "&lt;b&gt;x_y|" in (tmp_path / "out/index.html").read_text()
    assert r"### \<b>x_y\|" in (tmp_path / "out/tables.md").read_text()
