"""Cost in words."""

import pytest

from aqa.runs.cost import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.123, "0.12 seconds"), (7, "7 seconds"), (101, "100 seconds"), (119, "120 seconds"), (125, "2.1 minutes"),
     (7200, "2 hours"), (864000, "10 days"), (8640000, "100 days")],
)  # fmt: skip
def test_seconds_in_words_to_two_digits(seconds, words):
    assert duration(seconds) == words
