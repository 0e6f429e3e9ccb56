"""What says a line to the user: a command prints it, a program decides by itself."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], object]


def silent(line: str) -> None:
    """Say nothing."""
