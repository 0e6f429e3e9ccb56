"""A report of runs whose settings were searched lists the search."""

import json

import pytest

import aqa
from aqa.reporting.collect import find_runs
from aqa.reporting.searches import search_tables
from aqa.store.synthetic import make_synthetic


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """The folder of a finished search of ridge."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=24)
    experiment = {
        "name": "base",
        "data": {"store": "tiny.h5", "target": "score"},
        "model": {"name": "ridge"},
        "missing": {"train": "none", "test": ["VA", "V"]},
    }
    (tmp_path / "base.yaml").write_text(json.dumps(experiment))
    plan = {"name": "t", "experiments": ["base.yaml"], "space": {"model.alphas": [[1.0], [1e5]]}, "trials": 4}
    (tmp_path / "t.yaml").write_text(json.dumps(plan))
    aqa.tune("t.yaml")
    return tmp_path / "runs" / "t"


def test_a_report_lists_what_was_chosen_what_decides_and_every_trial(tuned, tmp_path):
    page = aqa.report([tuned], tmp_path / "report").read_text()
    markdown = (tmp_path / "report" / "tables.md").read_text()
    for text in (page, markdown):
        assert "Settings searched: t" in text
        assert "chosen by SRCC (complete) on valid" in text
    assert "### Trials: t" in markdown
    found, _ = find_runs([tuned])
    (chosen, importance, trials), notes = search_tables(found)
    assert notes == []
    assert [cell.text for cell in chosen.lines[0]][:2] == ["base", "ridge"]
    assert [cell.text for cell in importance.lines[0]] == ["base", "ridge", "model.alphas", "1.000"]
    assert len(trials.lines) == 4
    assert trials.headings[-1] == "model.alphas"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\x00"])
def test_tables_that_cannot_be_read_are_left_out_with_a_note(tuned, content):
    (tuned / "importance.csv").write_text(content)
    tables, notes = search_tables(find_runs([tuned])[0])
    assert tables == []
    assert len(notes) == 1
    assert "the tables of its search cannot be read, left out" in notes[0]


def test_runs_that_no_search_made_have_no_such_tables(tuned, tmp_path):
    run = next(path for path in (tuned / "refits").iterdir() if path.name.startswith("tiny-"))
    run.rename(tmp_path / "moved")
    assert search_tables(find_runs([tmp_path / "moved"])[0]) == ([], [])
