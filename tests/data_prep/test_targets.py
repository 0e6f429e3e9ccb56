"""Targets: columns, means of judges, ranges."""

from __future__ import annotations

import numpy as np
import pytest

from aqa.data_prep.sheets import Sheet
from aqa.data_prep.targets import (
    TargetScores,
    TargetWords,
    numeric_columns,
    proposed_range,
    ranges_of,
    read_scores,
    target_words,
)
from aqa.errors import AqaError

IDS = ["a", "b", "c"]


def sheet(**columns):
    columns = columns or {
        **{"id": IDS, "score": ["7", "8,5", ""], "a:b": ["1", "2", "3"], "x=y": ["1", "2", "3"]},
        **{"judge1": ["1", "2", ""], "judge2": ["4", "3", "5"], "judge3": ["9", "NA", ""], "judge4": ["2", "4", ""]},
    }
    rows = list(map(list, zip(*columns.values(), strict=True)))
    return Sheet("labels.csv", list(columns), rows, [f"line {k + 2}" for k in range(len(rows))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("score", TargetWords("score", ["score"])),
        ("score:0:100", TargetWords("score", ["score"], "", (0, 100))),
        ("score:-1,5:1e2", TargetWords("score", ["score"], "", (-1.5, 100))),
        ("TES=score:0:10", TargetWords("TES", ["score"], "", (0, 10))),
        ("a:b", TargetWords("a:b", ["a:b"])),
        ("a:b:0:9", TargetWords("a:b", ["a:b"], "", (0, 9))),
        ("x=y", TargetWords("x=y", ["x=y"])),
        ("m=mean(judge1..judge4):0:9", TargetWords("m", ["judge1", "judge2", "judge3", "judge4"], "mean", (0, 9))),
        ("m = trimmed( judge1, judge3..judge4 )", TargetWords("m", ["judge1", "judge3", "judge4"], "trimmed")),
    ],
)
def test_words(text, words):
    assert target_words(text, sheet()) == words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scores", "has no column 'scores': did you mean 'score'"),
        ("x=scores", "has no column 'scores': did you mean 'score'"),
        ("x=mean(judge1..judge5)", "has no column 'judge5': did you mean 'judge"),
        ("x=mean(judge1)", "mean needs two columns or more, got 1"),
        ("x=trimmed(judge1,judge2)", "trimmed needs three columns or more, got 2"),
        ("x=median(judge1..judge3)", "'median' is unknown: did you mean 'mean'"),
        ("mean(judge1..judge3)", r"a mean needs a name: write score=mean\(judge1\.\.judge3\)"),
        ("x=mean(judge1,judge1..judge3)", "column 'judge1' is named twice"),
        ("x=", "write NAME, NAME=COLUMN or NAME=mean"),
        ("score:10:0", "the range is 10 to 0; write the lower bound first"),
        ("score:0:x", "a range is two numbers"),
        ("score:5", "a range is two numbers"),
        ("score:0:inf", "a range is two numbers"),
    ],
)
def test_words_that_do_not_fit(text, message):
    with pytest.raises(AqaError, match=message) as error:
        target_words(text, sheet())
    assert "\n" not in str(error.value)


def scores(text, table=None):
    table = table or sheet()
    problems = []
    found = read_scores(target_words(text, table), table, IDS, problems)
    return found, [str(problem) for problem in problems]


def test_a_column():
    found, problems = scores("score")
    np.testing.assert_array_equal(found.values, [7, 8.5, np.nan])
    assert found.spread is None
    assert problems == []


def test_the_mean_of_judges():
    found, problems = scores("m=mean(judge1..judge4)")
    np.testing.assert_array_equal(found.values, [4, 3, 5])
    np.testing.assert_allclose(found.spread, [np.std([1, 4, 9, 2], ddof=1), 1, np.nan])
    assert problems == []


def test_the_trimmed_mean_drops_the_highest_and_the_lowest():
    found, problems = scores("m=trimmed(judge1..judge4)")
    np.testing.assert_array_equal(found.values, [3, 3, np.nan])
    np.testing.assert_allclose(found.spread[:2], [np.std([1, 4, 9, 2], ddof=1), 1])  # of all judges
    assert problems == ["c: too few judges for a trimmed mean (m: 1 of 4; 3 are needed)"]


def test_cells_that_are_no_numbers():
    table = sheet(id=IDS, score=["high", "inf", "7.5"])
    assert scores("score", table)[1] == [
        "a: label that is not a number (line 2: score 'high')",
        "b: label that is not a number (line 3: score 'inf')",
    ]
    table = sheet(id=IDS, score=["1,234", "7.5", "8"])
    assert scores("score", table)[1] == [
        "a: decimal comma among decimal points (line 2: score '1,234', elsewhere '7.5')"
    ]
    table = sheet(id=IDS, score=["NA", "n/a", "null"])
    assert np.isnan(scores("score", table)[0].values).all()


def test_columns_that_could_be_targets():
    table = sheet(id=IDS, score=["1", "", "3"], name=["x", "1", "2"], empty=["", "", ""], fold=["1", "2", "3"])
    assert numeric_columns(table, ["fold"]) == ["score"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([12, 95], (10, 100)), ([1.3, 6.7], (1, 7)), ([0, 4], (0, 4)), ([0.21, 0.87], (0.2, 0.9)), ([5], (5, 6))],
)
def test_a_proposed_range(labels, expected):
    assert proposed_range(np.array(labels, dtype=float)) == pytest.approx(expected)


def test_a_range_is_proposed_from_training_labels_alone():
    notes = []
    target = TargetScores(TargetWords("score", ["score"]), np.array([2.0, 7, 99]))
    assert ranges_of([target], np.array([True, True, False]), notes) == {"score": (2, 7)}
    assert notes[0].startswith("target score: range 2 to 7, proposed from the training labels (2 to 7); if the")
    assert ranges_of([target], np.ones(3, bool), []) == {"score": (0, 100)}
    with pytest.raises(AqaError, match="no video that trains has a score; say the range: score:LOW:HIGH"):
        ranges_of([TargetScores(target.words, np.full(3, np.nan))], np.ones(3, bool), [])


def test_a_range_that_is_given_is_taken():
    target = TargetScores(TargetWords("score", ["score"], "", (0, 10)), np.array([2.0, 7, 99]))
    assert ranges_of([target], np.ones(3, bool), []) == {"score": (0, 10)}
