"""What parameters are called in an author's checkpoint, and what the same ones are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable

SHOWN = 3  # names of parameters in a message


class Names:
    """Names of parameters there and here.

    pairs: beginnings of names, theirs and ours; {i} in both stands for a number. What follows is the same in both.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]):
        self.pairs = [(theirs, ours, _begins(theirs), _begins(ours)) for theirs, ours in pairs]

    def ours(self, name: str) -> str | None:
        """The name that a published parameter or buffer has here; None for one that the model does not have."""
        for _, ours, pattern, _ in self.pairs:
            if match := pattern.fullmatch(name):
                return _filled(ours, match)
        return None

    def theirs(self, name: str) -> str:
        """What a parameter of ours is called in published checkpoints; its own name where it is not in them."""
        for theirs, _, _, pattern in self.pairs:
            if match := pattern.fullmatch(name):
                return _filled(theirs, match)
        return name


def _begins(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)") + r"(?P<rest>|\..*)")


def _filled(template: str, match: re.Match[str]) -> str:
    return template.replace("{i}", match.groupdict().get("i") or "") + match["rest"]


def in_quotes(names: Iterable[str]) -> str:
    """The first few names in quotes, and how many there are beside them."""
    shown = [f"'{name}'" for name in names]
    more = len(shown) - SHOWN
    if more > 0:
        return f"{', '.join(shown[:SHOWN])} and {more} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
