"""The one exception that users see, and the words that help them out of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = 200  # characters of a value, at most, in a message

# Control characters (a terminal obeys them), marks that turn the direction of text, and halves of characters, which
# stand for bytes that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class AqaError(Exception):
    """A mistake in an input: one line that says what, where, and the nearest right thing.

    The command line prints it without a traceback and exits with status 2. Words from a file may be in it, so what a
    terminal would obey is shown escaped. more: lines that list particulars.
    """

    def __init__(self, message: str, *more: str):
        super().__init__("\n".join(map(printable, (message, *more))))


def printable(text: str) -> str:
    """A text in one line, with what a terminal would obey, and what no UTF-8 can say, escaped."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """The same of a text that has lines."""
    return "\n".join(map(printable, text.split("\n")))


class NotANumber(AqaError):
    """A loss, a weight or a score that is NaN or infinite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the closest one, or the list of all.

    Returns ``"did you mean 'x'?"``, or ``"known: a, b"`` where nothing is close. The same letters in another order are
    the closest ("AV" for "VA").
    """
    known = list(dict.fromkeys(str(k) for k in known))
    # Case is a common slip ("tes" for "TES"), so it does not count against closeness.
    by_lower = {k.lower(): k for k in known}
    asked = str(name).lower()
    close = [key for key in by_lower if sorted(key) == sorted(asked)]
    close = close or difflib.get_close_matches(asked, by_lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{by_lower[close[0]]}'?"
    return "known: " + (", ".join(known) if known else "none")


def brief(value: Any) -> str:
    """A value as Python writes it, its middle left out where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 4 :]}"


#: What is needed where a value is of another type, by what pydantic calls the mistake.
_NEEDED = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping (key: value)",
    "mapping": "a mapping (key: value)",
    "model": "a mapping (key: value)",
    "finite": "a finite number",
    "none": "null",
}


def needed(mistake: Mapping[str, Any]) -> str:
    """What is needed in the place of a wrong value, and what was given; mistake: an entry of pydantic's `errors()`."""
    kind, bounds, given = mistake["type"], mistake.get("ctx", {}), brief(mistake["input"])
    if kind == "missing":
        return "it is missing"
    if kind == "value_error":
        problem = mistake["msg"].removeprefix("Value error, ")
    elif kind == "literal_error":
        problem = f"must be {bounds['expected']}"
    elif kind == "greater_than_equal":
        problem = f"must be {bounds['ge']:g} or more"
    elif kind == "less_than_equal":
        problem = f"must be {bounds['le']:g} or less"
    elif kind == "greater_than":
        problem = f"must be more than {bounds['gt']:g}"
    elif kind == "less_than":
        most = bounds["lt"]
        problem = f"must be less than {most if isinstance(most, int) else format(most, 'g')}"
    elif kind in ("too_short", "too_long"):
        bound, entries = ("least", bounds["min_length"]) if kind == "too_short" else ("most", bounds["max_length"])
        problem = f"needs at {bound} {entries} {'entry' if entries == 1 else 'entries'}"
    elif kind == "is_instance_of":
        problem = f"must be a {str(bounds['class']).lower()}"
    elif kind == "invalid_key":
        problem = "keys must be text"
    else:
        problem = f"must be {_NEEDED.get(kind.partition('_')[0], 'of another kind')}"
    if kind == "string_type" and isinstance(mistake["input"], (int, float)):
        return f"{problem}, got {given}; it is text in quotes: '\"{yaml_word(mistake['input'])}\"'"
    return f"{problem}, got {given}"


def yaml_word(value: float) -> str:
    """A number or truth value as a user writes it."""
    return str(value).lower() if isinstance(value, bool) else brief(value)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, which torch says in several ways."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error))
    )


def first_line(error: BaseException) -> str:
    """The first line of what another library says went wrong, or the kind of error where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
