"""The YAML that files are written in: what is text stays text, and what is written is read back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.config.dialect import CommandLineLoader, FastLoader, PlainLoader, dump, in_one_line, parse, quoted

#: Names that some version of YAML, or a hasty reader, takes for something else than text.
NAMES = [
    *("NO", "no", "on", "off", "yes", "y", "null", "Null", "true", "True", "1", "01", "007", "1_000", "0x1F", "0o17"),
    *(
        ".inf",
        ".nan",
        "1e-4",
        "1e5",
        "1.10",
        "+1",
        "2024-01-01",
        "12:30:45",
        "-",
        "~",
        "?",
        ":",
        ",",
        "&",
        "*",
        "!",
        "%",
    ),
    *("@", "\\", "`", "<<", "=", "[x]", "[v1]", "{seed}", "a: b", "score #2", "#2", "- a", "None", "'", '"', " a ", ""),
    *(
        "'quoted'",
        '"quoted"',
        "!!int 3",
        "&a b",
        "*a",
        "|",
        ">",
        "a\u00a0b",
        "Kür ⛸",
        "😀",
        "---",
        "...",
        "a\u0085b",
        "\u0085",
    ),
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(NAMES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other):
    return one == other and repr(one) == repr(other)  # 1, 1.0 and True are three values


@pytest.mark.parametrize("loader", [PlainLoader, FastLoader, CommandLineLoader])
@settings(max_examples=60, deadline=None)
@given(value=VALUES)
def test_what_is_written_is_read_back_to_the_same_values(loader, value):
    assert same(parse(dump({"key": value}), loader=loader)[0], {"key": value})


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_read_back_as_text_wherever_it_stands(name):
    content = {"one": name, "list": [name], name: {name: name}}
    for loader in (PlainLoader, FastLoader, CommandLineLoader):
        assert parse(dump(content), loader=loader)[0] == content
        assert parse(quoted(name), loader=loader)[0] == name
        assert parse(in_one_line([name]), loader=loader)[0] == [name]


@pytest.mark.parametrize("loader", [PlainLoader, FastLoader])
@pytest.mark.parametrize(
    ("typed", "value"),
    [
        *((text, True) for text in ("true", "True")),
        *((text, False) for text in ("false", "False")),
        *((text, None) for text in ("null", "Null", "~", "")),
        *(("0", 0), ("12", 12), ("-3", -3), ("0.5", 0.5), (".5", 0.5), ("2.", 2.0), ("2.0e-4", 2e-4), ("1e-4", 1e-4)),
        *(("1E5", 1e5), (".inf", float("inf")), ("-.inf", -float("inf"))),
        *((text, text) for text in ("no", "NO", "yes", "on", "Off", "TRUE", "NULL", "None", "007", "0o17", "0x1F")),
        *((text, text) for text in ("1_000", "12:30:45", "2024-05-01", "2025-13-40", "2024-05-01 10:00:00", "<<", "=")),
    ],
)
def test_few_words_are_anything_but_text(loader, typed, value):
    assert same(parse(f"key: {typed}\n", loader=loader)[0], {"key": value})


def test_keys_are_text():
    assert parse("{1: a, true: b, ~: c, 0.5: {NO: d}}")[0] == {"1": "a", "true": "b", "~": "c", "0.5": {"NO": "d"}}


def test_objects_that_stand_twice_are_written_twice():
    pattern = ["VA"]
    assert parse(dump({"train": pattern, "test": pattern}))[0] == {"train": ["VA"], "test": ["VA"]}
