"""A report says which rows learned from more than their target's labels in the training split."""

from __future__ import annotations

import pandas as pd
import pytest

from aqa.reporting.card import card
from aqa.reporting.learned import learned_text
from aqa.reporting.report import report

MORE = "learned from train and valid, not from train alone; learned from 2 other labels of the training videos too"


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({}, ""),
        ({"learned_from": ["train", "valid"], "learned_also": 2}, MORE),
        ({"learned_also": 1}, "learned from 1 other label of the training videos too"),
    ],
)
def test_what_a_run_learned_from_in_words(metrics, text):
    assert learned_text(metrics) == text


@pytest.fixture(scope="module")
def page(tmp_path_factory, write_finished):
    """The page of a report in which one of two models learned from more, and one of its seeds from less."""
    folder = tmp_path_factory.mktemp("learned")
    more = {"learned_from": ["train", "valid"], "learned_also": 2}
    for target in ("TES", "PCS"):
        for seed in (0, 1):
            write_finished(folder / f"runs/{target}-more{seed}", target=target, seed=seed, metrics=more)
            some = {"learned_from": ["train", "valid"]} if seed else {}
            write_finished(folder / f"runs/{target}-some{seed}", target=target, model="mome", seed=seed, metrics=some)
            write_finished(folder / f"runs/{target}-less{seed}", target=target, model="ridge", seed=seed)
    return report([folder / "runs"], folder / "out")


def test_every_table_marks_the_rows_and_says_from_what(page):
    html, markdown = page.read_text(), (page.parent / "tables.md").read_text()
    for text in (html, markdown):
        assert f"mcmoe ‡: {MORE}" in text
        assert "mome ‡: learned from train and valid, not from train alone (1 of 2 seeds)" in text
        assert "ridge ‡" not in text
    assert "Some models <b>learned from more</b>" in html
    assert markdown.count("| mcmoe ‡ |") >= 3  # both targets, and their mean
    for name in ("tables.tex", "all_targets.tex"):
        assert r"mcmoe $\ddagger$" in (page.parent / name).read_text()
    table = pd.read_csv(page.parent / "tables.csv", keep_default_na=False).set_index("model")["learned"]
    assert set(table["mcmoe"]) == {MORE}
    assert set(table["ridge"]) == {""}


def test_a_report_in_which_all_learned_from_the_same_has_no_such_words(tmp_path, finished):
    page = report([finished("one").parent], tmp_path / "out")
    assert "learned from more" not in page.read_text()
    assert "‡" not in page.read_text() + (page.parent / "tables.md").read_text()


def test_a_model_card_says_it(finished):
    about = {"parameters": 1, "samples": {"train": 3, "select": 1, "test": 4}}
    path, _ = card(finished("one", metrics={**about, "learned_from": ["train", "valid"]}))
    assert "It learned from train and valid, not from train alone: " in path.read_text()
