"""Numbers that others have reported, to stand beside ours: YAML, from this project or from a user."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from aqa.config.load import validated
from aqa.config.schema import StrictConfig
from aqa.config.text_keys import takes_text
from aqa.config.yaml import read_yaml
from aqa.evaluation.metrics import fisher_mean
from aqa.reporting.columns import AVERAGE, incomplete_subsets

KNOWN = Path(__file__).with_name("published.yaml")


class PublishedRow(StrictConfig):
    """SRCC that somebody reports.

    target: none for the mean over a data set's targets. kind: what the source is, such as a paper, a benchmark page, or
    secondary, a copy of a table. note: what was different. mse: as reported, by the same columns.
    """

    data_set: str
    target: str | None = None
    label: str
    source: str
    selected_on: str
    kind: str = ""
    note: str = ""
    srcc: dict[str, float] = Field(min_length=1)
    mse: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    @field_validator("srcc")
    @classmethod
    def _correlations(cls, values: dict[str, float]) -> dict[str, float]:
        for pattern, value in values.items():
            if not -1 <= value <= 1:
                raise ValueError(f"no correlation under {pattern}")
        return values

    @property
    def words(self) -> str:
        """Where the numbers are from, what kind of source that is, MSE, and what was different."""
        source = f"{self.source} ({self.kind})" if self.kind else self.source
        mse = ", ".join(f"{column} {value:g}" for column, value in self.mse.items())
        return "; ".join(filter(None, (source, f"MSE {mse}" if mse else "", self.note)))

    @property
    def on_test(self) -> bool:
        """Whether its epochs were selected on the test split."""
        return self.selected_on == "test"

    def by_column(self, modalities: Sequence[str], columns: Sequence[str]) -> dict[str, float]:
        """SRCC by column; the average is worked out where it is not given and every incomplete pattern is."""
        averaged = incomplete_subsets(modalities, columns)
        found = dict(self.srcc)
        if averaged and AVERAGE not in found and all(name in found for name in averaged):
            found[AVERAGE] = fisher_mean(found[name] for name in averaged)
        return {name: value for name, value in found.items() if name in columns}


class PublishedRows(StrictConfig):
    """A file of published numbers."""

    rows: list[PublishedRow]


def published_rows(path: str | os.PathLike[str] = KNOWN) -> list[PublishedRow]:
    """The rows of a file, this project's own by default; AqaError, one line, for a mistake in it."""
    path = Path(path)
    content, lines = read_yaml(path, partial(takes_text, PublishedRows))
    places = {key: f"{path}, line {line}" for key, line in lines.items()}
    return validated(PublishedRows, content, str(path), places).rows
