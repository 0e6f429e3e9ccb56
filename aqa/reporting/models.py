"""The list of models that `aqa models` prints."""

from __future__ import annotations

import textwrap

from aqa.errors import AqaError
from aqa.models import MODELS, build
from aqa.runs.table import align

WIDTHS = {"visual": 1024, "audio": 768, "flow": 1024}  # channels of Fis-V
COLUMNS = 100  # that the list fits in


def models_table() -> str:
    """The registered models: year, parameters with default options on Fis-V's channels, what it is, and its paper."""
    known = [[entry.name, str(entry.about.get("year", "")), parameters(entry.name)] for entry in MODELS.entries()]
    heading, rule, *lines = align([["model", "year", "parameters"], *known])
    indent = " " * (len(rule) + 2)
    listed = [f"{heading}  what it is", "-" * COLUMNS]
    for line, entry in zip(lines, MODELS.entries(), strict=True):
        first = f"{line.ljust(len(rule))}  "
        for text in filter(None, (entry.summary, str(entry.about.get("paper", "")))):
            listed += textwrap.wrap(text, COLUMNS, initial_indent=first, subsequent_indent=indent)
            first = indent
    return "\n".join(listed)


def parameters(name: str) -> str:
    """How many parameters a model has with its default options."""
    try:
        return f"{build(name, widths=WIDTHS).parameter_count:,}"
    except AqaError:  # it has an option without a default
        return "depends"
