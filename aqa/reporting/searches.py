"""What `aqa tune` wrote beside the runs of a report: the settings it chose, which of them decide, every trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from aqa.errors import AqaError, printable
from aqa.reporting.collect import FinishedRun
from aqa.reporting.tables import Cell, PlainTable
from aqa.runs.folder import REFITS
from aqa.runs.table import duration
from aqa.sweeps.folder import IMPORTANCE, RESULTS, TRIALS_TABLE
from aqa.system.files import has_file

PLACE = ("experiment", "model")
CHOSEN = ("validation", "best_trial", "trials", "complete", "pruned", "failed", "epochs", "seconds", "settings")
TRIED = ("trial", "state", "value", "epoch", "epochs", "seconds")


def search_tables(runs: Sequence[FinishedRun]) -> tuple[list[PlainTable], list[str]]:
    """The tables of the searches whose best settings are among the runs, and notes on what cannot be read."""
    folders = [run.folder.resolve().parent for run in runs if run.folder.resolve().parent.name == REFITS]
    tables: list[PlainTable] = []
    notes = []
    for folder in dict.fromkeys(path.parent for path in folders):
        try:
            tables += _tables(folder)
        except (AqaError, OSError, ValueError, KeyError) as error:
            notes.append(printable(f"{folder}: the tables of its search cannot be read, left out: {error}"))
    return tables, notes


def _tables(folder: Path) -> list[PlainTable]:
    results = _read(folder / RESULTS, (*PLACE, "target", "metric", "pattern", "selected_on", *CHOSEN))
    importance = _read(folder / IMPORTANCE, (*PLACE, "setting", "importance"))
    trials = _read(folder / TRIALS_TABLE, (*PLACE, *TRIED))
    split = " and ".join(sorted({"the TEST split" if s == "test" else s for s in results["selected_on"]}))
    by = f"{results['metric'].iloc[0].upper()} ({results['pattern'].iloc[0]}) on {split}"
    place = PLACE if results["target"].nunique() == 1 else ("experiment", "target", "model")
    settings = [name for name in map(str, trials) if name.startswith(("model.", "train.", "data.", "missing."))]
    name = printable(folder.name)
    return [
        _table(
            f"Settings searched: {name}",
            f"The best settings of each model, chosen by {by}, and what the search spent; epochs and time are those "
            "of the trials",
            results,
            (*place, *CHOSEN),
        ),
        _table(
            f"Which settings decide: {name}",
            "The share of each setting in the differences between trials, by functional ANOVA",
            importance,
            (*place, "setting", "importance"),
        ),
        _table(f"Trials: {name}", "Every trial, in the order in which it began", trials, (*place, *TRIED, *settings)),
    ]


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not has_file(path):
        raise AqaError(f"{path.name} is missing")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [name for name in columns if name not in table]
    if missing or not len(table):
        raise AqaError(f"{path.name} has no {'column ' + missing[0] if missing else 'row'}")
    return table


def _table(title: str, caption: str, table: pd.DataFrame, columns: Sequence[str]) -> PlainTable:
    lines = [[_cell(name, str(row[name])) for name in columns] for row in table.to_dict("records")]
    headings = ["time" if name == "seconds" else name.replace("_", " ") for name in columns]
    return PlainTable(title, caption, [printable(name) for name in headings], lines)


def _cell(name: str, text: str) -> Cell:
    try:
        value = float(text)
    except ValueError:
        return Cell(printable(text))
    shown: Callable[[float], str] | None = {"seconds": duration, "validation": _short, "value": _short}.get(name)
    shown = _short if shown is None and "." in text else shown
    return Cell(printable(text) if shown is None else shown(value), value)


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.3g}"
