"""A model card says what the run's files say, warns of what its numbers show, and leaves the rest to people."""

from __future__ import annotations

import re

import pytest

from aqa.cli import main
from aqa.errors import AqaError
from aqa.reporting.card import QUESTION, card
from aqa.runs.folder import RunFolder

ABOUT = {"parameters": 12345, "samples": {"train": 30, "select": 6, "test": 40}}


def test_the_card_has_the_runs_own_numbers(finished):
    folder = finished("one", seed=3, noise=4.0, metrics=ABOUT)
    path, questions = card(folder)
    text = path.read_text(encoding="utf-8")
    metrics = RunFolder(folder).metrics
    for name, scores in metrics["patterns"].items():
        low, high = scores["srcc_low"], scores["srcc_high"]
        assert f"| {name} | {scores['srcc']:.3f} [{low:.3f}, {high:.3f}] | {scores['mse']:.3f} |" in text
    assert f"SRCC {metrics['average_incomplete']['srcc']:.3f} [" in text
    assert "mcmoe on TES, seed 3; selected on valid" in text
    assert "arXiv 2511.17397" in text
    assert re.search(r"Made with \| aqa \d", text)
    assert "| Parameters | 12,345 |" in text
    assert "30 training videos; 6 of valid selected" in text
    assert "One training run, seed 3" in text
    assert "SELECTED ON TEST" not in text
    assert questions == text.count(QUESTION) == 5
    assert "\n\n\n" not in text


def test_the_card_says_how_often_intervals_hold_the_label(finished):
    folder = finished("one", level=0.8, half=15.0, metrics=ABOUT)
    one = RunFolder(folder).metrics["patterns"]["VAF"]["interval"]
    text = card(folder)[0].read_text(encoding="utf-8")
    assert "Intervals of scores at the level 0.8, made from valid, held the label: " in text
    ends = f"[{one['coverage_low']:.3f}, {one['coverage_high']:.3f}]"
    assert f"VAF {one['coverage']:.3f} {ends}, mean width 30.000; " in text
    assert "\n\n\n" not in text
    none = finished("none", metrics={**ABOUT, "intervals": {"level": 0.9, "why_none": "no video is kept apart"}})
    assert "Scores have no intervals: no video is kept apart." in card(none)[0].read_text(encoding="utf-8")


def test_the_card_warns_of_what_its_numbers_show(finished):
    folder = finished("bad", split="test", noise=1000.0, absent=4, data_set="synthetic-x", metrics=ABOUT)
    text = card(folder)[0].read_text(encoding="utf-8")
    assert "SELECTED ON TEST" in text
    assert "**The epoch was selected on the test split.**" in text
    assert "Not shown to rank better than chance (the interval holds 0): VAF" in text
    assert "The data are synthetic" in text
    assert "(n differs)" in text


def test_nothing_is_overwritten_unasked(finished, capsys, tmp_path):
    folder = finished("one", metrics=ABOUT)
    assert main(["card", str(folder)]) == 0
    assert "please answer the 5 questions in it" in capsys.readouterr().err
    written = folder / "MODEL_CARD.md"
    written.write_text("answered")
    assert main(["card", str(folder)]) == 2
    assert "exists; choose another name" in capsys.readouterr().err
    assert written.read_text() == "answered"
    assert main(["card", str(folder), "--out", str(tmp_path / "new" / "card.md")]) == 0
    assert main(["card", str(folder), "--overwrite"]) == 0
    assert written.read_text() != "answered"
    with pytest.raises(AqaError, match="is not as this version writes runs: 'parameters'"):
        card(finished("old"))
    with pytest.raises(AqaError, match="is no run's folder"):
        card(tmp_path)


def test_the_title_has_its_placeholders_filled_in(finished):
    text = card(finished("one", seed=3, metrics=ABOUT))[0].read_text(encoding="utf-8")
    assert text.startswith("# Model card: TES-3\n")


def test_names_from_a_store_are_no_markup(finished):
    hostile = '"><img src=x onerror=alert(1)> `rm` **b**'
    metrics = {**ABOUT, "data_set": hostile, "target": hostile, "modalities": [hostile]}
    text = card(finished("one", metrics=metrics))[0].read_text(encoding="utf-8")
    outside_code = re.sub(r"(`+) ?.*?[^`]\1(?!`)", "", text)
    assert not re.search(r"(?<!\\)<img", outside_code)
    assert r"\<img src=x onerror=alert(1)> \`rm\` \*\*b\*\*" in text
