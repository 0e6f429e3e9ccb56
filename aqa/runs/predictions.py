"""predictions.csv of a run: written and read in this one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, first_line, printable
from aqa.evaluation.cross_validation import HeldOut
from aqa.system.files import has_file, write_table

if TYPE_CHECKING:
    import pandas as pd

# Ids, targets and patterns are text: `030`, `NA` and `null` are names, not numbers and not missing.
COLUMNS = ("id", "target", "pattern", "score", "label")
FOLD, GROUP = "fold", "group"  # further columns of a cross-validation: which fold tested the video, and its group
LOW, HIGH = "low", "high"  # the interval of a score, in the target's units: empty where none, infinite if unbounded
SPREAD = "spread"  # the standard deviation that a model states of a score, or that between the members of a run
BESIDE = (LOW, HIGH, SPREAD)  # numbers beside a score; runs of older versions have none
TEXTS, NUMBERS = ("id", "target", "pattern", FOLD, GROUP), ("score", "label", *BESIDE)

Beside = Mapping[str, Mapping[str, NDArray[np.float64]]]  # column -> pattern -> (n,)


@dataclass(frozen=True)
class RecordedScores:
    """What a run predicted: ids and labels of its test videos (n,), scores by pattern (n,), NaN if not scored.

    Of a cross-validation also folds (n,), by which each video was tested; labels (n,), of the group that it belongs to,
    where there are groups; and the same of further repeats, of the same videos in the same order. beside: the columns
    of `BESIDE` that there are.
    """

    ids: tuple[str, ...]
    truth: NDArray[np.float64]
    by_pattern: dict[str, NDArray[np.float64]]
    target: str
    folds: NDArray[np.int64] | None = None
    labels: tuple[str, ...] | None = None
    further: tuple[RecordedScores, ...] = ()
    beside: Beside = field(default_factory=dict)

    @property
    def repeats(self) -> tuple[RecordedScores, ...]:
        """The scores of every repeat."""
        return (self, *self.further)

    @property
    def drawn(self) -> tuple[str, ...]:
        """What the bootstrap draws of each video: its group's label, or its id."""
        return self.ids if self.labels is None else self.labels

    @property
    def held_out(self) -> HeldOut | None:
        """The folds of all repeats; None of a run without folds."""
        folds = [each.folds for each in self.repeats if each.folds is not None]
        return HeldOut(self.truth, np.stack(folds), self.labels) if folds else None

    def scores(self, pattern: str) -> NDArray[np.float64]:
        """The scores of all repeats under a pattern (K, n)."""
        return np.stack([each.by_pattern[pattern] for each in self.repeats])


def save_predictions(
    path: Path,
    ids: Sequence[str],
    rows: NDArray[np.int64],
    truth: NDArray[np.float64],
    target: str,
    predictions: Mapping[str, NDArray[np.float64]],
    further: Mapping[str, Sequence[object]] | None = None,
    beside: Beside | None = None,
) -> None:
    """Write predictions.csv: id, target, pattern, score (empty if nothing was visible), label.

    further: more columns, the same under each pattern. beside: more columns, by pattern.
    """
    import pandas as pd

    names = [ids[row] for row in rows]
    by_pattern = []
    for pattern, scores in predictions.items():
        own = {column: values[pattern] for column, values in (beside or {}).items()}
        columns = {"id": names, "target": target, "pattern": pattern, "score": scores, "label": truth}
        by_pattern.append(pd.DataFrame({**columns, **own, **(further or {})}))
    write_table(path, pd.concat(by_pattern))


def read_table(path: Path) -> pd.DataFrame:
    """predictions.csv as a table: names stay text as they were written, numbers are the same bits.

    AqaError, one line, where it is not a table of predictions.
    """
    import pandas as pd

    if not has_file(path):
        raise AqaError(f"{path} is missing")
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(TEXTS, object) | dict.fromkeys(NUMBERS, np.float64),
            keep_default_na=False,
            na_values={name: [""] for name in NUMBERS},
            **_exactly(pd.__version__),
        )
        missing = [name for name in COLUMNS if name not in table]
        if missing:
            raise ValueError(f"it has no column {missing[0]}")
    except (OSError, ValueError) as error:
        raise AqaError(f"{path} does not hold a run's predictions: {first_line(error)}") from None
    return table


def _exactly(pandas: str) -> dict[str, Any]:
    """The option with which a version of pandas reads each number to its last digit, as later ones do by themselves."""
    return {} if int(pandas.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


def read_predictions(path: Path) -> RecordedScores:
    """predictions.csv of a run; AqaError, one line, where it is not one or contradicts itself."""
    table = read_table(path)
    if FOLD not in table:
        return _recorded(table, path)
    number = table.groupby(["id", "pattern"], sort=False).cumcount()
    repeats = [_recorded(rows, path) for _, rows in table.groupby(number)] or [_recorded(table, path)]
    first = repeats[0]
    if any(each.ids != first.ids or not np.array_equal(each.truth, first.truth) for each in repeats):
        raise AqaError(f"{path} does not hold a run's predictions: its repeats have different videos or labels")
    return replace(first, further=tuple(repeats[1:]))


def _recorded(table: pd.DataFrame, path: Path) -> RecordedScores:
    """Predictions of which each video has one under each pattern."""
    import pandas as pd

    scores, labels = table["score"].to_numpy(), table["label"].to_numpy()
    pattern, ids = table["pattern"].to_numpy(object), table["id"].to_numpy(object)
    places, names = pd.factorize(pattern)
    rows = {str(name): np.flatnonzero(places == i) for i, name in enumerate(names)}
    problem = _problem(ids, labels, scores, rows) or _one_target(list(table["target"].unique()))
    if problem:
        raise AqaError(f"{path} does not hold a run's predictions: {problem}")
    first = next(iter(rows.values()))
    by_pattern = {name: scores[own] for name, own in rows.items()}
    folds = groups = None
    if FOLD in table:
        stated = table[FOLD].to_numpy(object)[first]
        if not all(str(each).isdecimal() for each in stated):
            raise AqaError(f"{path} does not hold a run's predictions: a fold is not a number")
        folds = stated.astype(np.int64)
    if GROUP in table:
        groups = tuple(map(str, table[GROUP].to_numpy(object)[first]))
    target = str(table["target"].iloc[0])
    beside = {
        column: {name: table[column].to_numpy()[own] for name, own in rows.items()}
        for column in BESIDE
        if column in table
    }
    return RecordedScores(tuple(ids[first]), labels[first], by_pattern, target, folds, groups, beside=beside)


def _one_target(targets: Sequence[str]) -> str | None:
    return None if len(targets) == 1 else f"rows of {len(targets)} targets"


def _problem(
    ids: NDArray[np.object_],
    labels: NDArray[np.float64],
    scores: NDArray[np.float64],
    rows: Mapping[str, NDArray[np.int64]],
) -> str | None:
    """What contradicts itself in predictions; rows: by pattern, the lines of the table."""
    if not rows:
        return "it is empty"
    if not np.isfinite(labels).all():
        return f"the label of {_quoted(ids[~np.isfinite(labels)][0])} is not a finite number"
    if np.isinf(scores).any():
        return f"the score of {_quoted(ids[np.isinf(scores)][0])} is infinite"
    base_name, base = next(iter(rows.items()))
    for name, own in rows.items():
        if len(set(ids[own])) < len(own):
            twice = next(each for each in ids[own] if (ids[own] == each).sum() > 1)
            return f"{_quoted(twice)} has more than one row under {printable(name)}"
        if list(ids[own]) != list(ids[base]):
            return f"{printable(base_name)} and {printable(name)} have different videos"
        if not np.array_equal(labels[own], labels[base]):
            at = np.flatnonzero(labels[own] != labels[base])[0]
            return (
                f"the label of {_quoted(ids[own][at])} is {labels[base][at]:g} under {printable(base_name)} and "
                f"{labels[own][at]:g} under {printable(name)}"
            )
    return None


def _quoted(name: object) -> str:
    return printable(brief(str(name)))
