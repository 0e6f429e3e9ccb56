"""Names from files in the formats of a report: shown as they are, nothing in them is markup or a formula."""

from __future__ import annotations

import re
from typing import Any

from aqa.errors import printable

# What Markdown, GitHub's maths and HTML in Markdown may take for markup. An underscore within a word is none, nor are
# brackets that no link follows.
_MARKUP = re.compile(r"[\\`*<|~$]|\](?=[(\[:])|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_FIRST = re.compile(r"^(\s*\d*)([-+=>#.)])")  # what makes a line that begins with it an item, a quote or a heading
FORMULA = ("=", "+", "-", "@", "\t", "\r")

_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "±": r"$\pm$",
}
BREAK = r"\allowbreak{}"
LONGEST_WORD = 12  # letters, after which LaTeX may break a word that it knows no syllables of


def markdown(words: object) -> str:
    """Words within a line of Markdown or in a cell of a table, by backslashes."""
    return _MARKUP.sub(lambda found: "\\" + found[0], printable(str(words)))


def paragraph(words: object) -> str:
    """Words that begin a line of Markdown."""
    return _FIRST.sub(r"\1\\\2", markdown(words))


def code(words: object) -> str:
    """Words as code in Markdown, also in a table: between more backticks than there are in it."""
    text = printable(str(words)).replace("|", r"\|")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def latex(words: object) -> str:
    """Words in LaTeX, which may break lines after their punctuation."""
    parts = []
    for piece in re.split(r"([_.,=/:@]|\s)", printable(str(words))):
        letters = [_LATEX.get(c, c) for c in piece]
        size = LONGEST_WORD if len(piece) > 2 * LONGEST_WORD else max(1, len(piece))
        parts.append(BREAK.join("".join(letters[i : i + size]) for i in range(0, len(letters), size)))
        if piece and piece in "_.,=/:@":
            parts.append(BREAK)
    return re.sub(r"\\allowbreak\{\}(?=\s|$)", "", "".join(parts))


def spreadsheet(value: Any) -> Any:
    """A cell of a table for people: a text that a spreadsheet would work out as a formula gets an apostrophe."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
