"""`aqa worth`, and what a report says of the same."""

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.cli import main
from aqa.errors import AqaError
from tests.reporting.test_measures import sections


def test_seeds_are_averaged_and_the_report_says_the_same(finished, tmp_path, capsys):
    runs = [finished(f"m{seed}", seed=seed, level=0.9, absent=10) for seed in (0, 1)]
    found = aqa.worth([tmp_path / "runs"], out=tmp_path / "worth.csv")
    assert len(found) == 9
    tables = [pd.read_csv(run / "predictions.csv").set_index(["pattern", "id"]) for run in runs]
    errors = sum((table["score"] - table["label"]).abs() for table in tables) / 2
    row = found.query("visible == 'V' and stream == 'flow'").iloc[0]
    having = tables[0].loc["F", "score"].notna()
    difference = (errors.loc["V"] - errors.loc["VF"])[having]
    assert row["n"] == len(difference) == 30
    assert row["smaller_error"] == pytest.approx(difference.mean())
    assert row["smaller_error_low"] < difference.mean() < row["smaller_error_high"]
    assert (found["width"] == 20).all()
    assert (found["smaller_width"] == 0).all()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "worth.csv"), found)

    (section,) = sections(tmp_path / "runs")
    (of_report,) = section.rows
    lines = {(one.visible, one.stream): one for one in of_report.streams}
    assert lines["V", "flow"].smaller_error.value == row["smaller_error"]
    assert lines["V", "flow"].smaller_error.interval.low == row["smaller_error_low"]

    assert main(["worth", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mcmoe on fisv TES\nvisible")
    assert f"{row['smaller_error']:+.3f}" in printed


def test_runs_without_intervals_have_no_widths(finished, tmp_path):
    finished("plain")
    found = aqa.worth([tmp_path / "runs"])
    assert found[["width", "smaller_width", "smaller_width_low"]].isna().all(axis=None)
    assert found["smaller_error"].notna().all()


def test_runs_that_were_not_tested_under_single_streams_say_so(finished, tmp_path, capsys):
    finished("some", tested=["VAF", "VA", "V"])
    assert len(aqa.worth([tmp_path / "runs"])) == 0
    assert main(["worth", str(tmp_path / "runs")]) == 0
    assert "nothing can be said: test single streams" in capsys.readouterr().err


def test_the_report_has_a_table_of_it(finished, tmp_path):
    finished("a", level=0.9)
    finished("b", target="PCS", level=0.9, truth=np.random.default_rng(0).uniform(0, 40, 40))
    aqa.report([tmp_path / "runs"], tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    assert text.count("What another stream is worth") == 3  # of each target, and of their mean
    assert "in percent, mean over targets" in text
    assert "What another stream is worth" in (tmp_path / "report" / "tables.md").read_text()


def test_mistakes_are_one_line(tmp_path, finished):
    with pytest.raises(AqaError, match="no folder at"):
        aqa.worth([tmp_path / "none"])
    finished("a")
    (tmp_path / "worth.csv").touch()
    with pytest.raises(AqaError, match="exists"):
        aqa.worth([tmp_path / "runs"], out=tmp_path / "worth.csv")
