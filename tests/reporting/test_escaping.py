"""Names in Markdown, LaTeX and spreadsheets are shown as they are and do nothing."""

import pandas as pd
import pytest

from aqa.reporting.escaping import code, latex, markdown, paragraph, spreadsheet


@pytest.mark.parametrize(
    ("words", "escaped"),
    [
        ("late_fusion", "late_fusion"),
        ("_x_", r"\_x\_"),
        ("`rm`", r"\`rm\`"),
        ("**b**", r"\*\*b\*\*"),
        ('"><img src=x onerror=alert(1)>', r'">\<img src=x onerror=alert(1)>'),
        ("a|b", r"a\|b"),
        ("[x](http://y)", r"[x\](http://y)"),
        ("[0.1, 0.2]", "[0.1, 0.2]"),
        ("R&D", "R&D"),
        ("&lt;", r"\&lt;"),
        ("-0.5", "-0.5"),
        ("two\nlines", r"two\\nlines"),
        ("0.3", "0.3"),
    ],
)
def test_markdown(words, escaped):
    assert markdown(words) == escaped


@pytest.mark.parametrize(
    ("words", "escaped"),
    [
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("# heading", r"\# heading"),
        ("===", r"\==="),
        ("0.3 x", r"0\.3 x"),
    ],
)
def test_a_paragraph_is_no_item_and_no_heading(words, escaped):
    assert paragraph(words) == escaped


@pytest.mark.parametrize(
    ("words", "shown"), [("x", "`x`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a|b", r"`a\|b`"), ("", "`  `")]
)
def test_code(words, shown):
    assert code(words) == shown


def test_latex():
    assert latex("50 % & #1 {x} $y$ \\z") == r"50 \% \& \#1 \{x\} \$y\$ \textbackslash{}z"
    assert latex("a_b") == r"a\_\allowbreak{}b"
    assert r"\allowbreak" in latex("x" * 60)
    assert latex("x <y>") == r"x \textless{}y\textgreater{}"


@pytest.mark.parametrize(
    ("value", "cell"), [("=1+1", "'=1+1"), ("+x", "'+x"), ("-x", "'-x"), ("@x", "'@x"), ("-0.5", "-0.5"), (-0.5, -0.5)]
)
def test_spreadsheet(value, cell):
    assert spreadsheet(value) == cell
    assert pd.DataFrame({"a": [value]}).map(spreadsheet)["a"][0] == cell
