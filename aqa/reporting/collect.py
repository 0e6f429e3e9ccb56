"""Reading finished runs for a report: which there are, and which of them are one model with several seeds."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import yaml

from aqa.config.yaml import in_one_line
from aqa.errors import AqaError, first_line, printable
from aqa.evaluation.bootstrap import Floats
from aqa.runs.folder import CONFIG, ERRORS, METRICS, PREDICTIONS, RunFolder, flat
from aqa.system.files import has_file

NEEDED = ("patterns", "average_incomplete", "selection", "data_set", "target", "model", "seed", "modalities")
# Settings that do not make it another model: what is asked of it, by which seed, where, and what it is called.
UNSET = "null"
NOT_OF_THE_MODEL = {
    "name",
    "data.target",
    "data.synthetic",
    "model.name",
    "missing.test",
    "train.seed",
    "train.device",
    "train.threads",
    "select.split",
}


class Place(NamedTuple):
    """What a run was scored on."""

    data_set: str
    target: str


@dataclass(frozen=True)
class FinishedRun:
    """A finished run's folder, what it reports (as in metrics.json) and its settings by dotted key."""

    folder: Path
    metrics: dict[str, Any]
    settings: dict[str, Any]

    @property
    def place(self) -> Place:
        return Place(self.metrics["data_set"], self.metrics["target"])

    @property
    def seed(self) -> int:
        return int(self.metrics["seed"])

    @property
    def selected_on(self) -> str:
        return str(self.metrics["selection"]["split"])


@dataclass(frozen=True)
class Scores:
    """What a run predicted: ids and labels of its test videos (n,), scores by pattern (n,), NaN where not scored."""

    ids: tuple[str, ...]
    truth: Floats
    by_pattern: dict[str, Floats]


@dataclass(frozen=True)
class Entry:
    """One model on one target: its label and its runs by seed."""

    label: str
    selected_on: str
    runs: dict[int, FinishedRun]

    @property
    def first(self) -> FinishedRun:
        """The run of the lowest seed."""
        return self.runs[min(self.runs)]


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[FinishedRun], list[str]]:
    """The finished runs in some folders, each a run's or one with runs below it, and notes on what was left out.

    AqaError for a folder without any finished run.
    """
    runs: dict[Path, FinishedRun] = {}
    notes: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise AqaError(f"no folder at {path}")
        below = {folder: _read_run(folder) for folder in _folders(path)}
        finished = {folder: run for folder, run in below.items() if isinstance(run, FinishedRun)}
        unread = [f"{folder}: {why}" for folder, why in below.items() if isinstance(why, str)]
        unread += [f"{error}: a run that failed, left out" for error in sorted(path.glob(f"{ERRORS}/*.txt"))]
        if not finished:
            raise AqaError(f"{path} holds no finished run" + (f"; {unread[0]}" if unread else ""))
        for folder, run in finished.items():
            runs.setdefault(folder.resolve(), run)
        notes += [note for note in unread if note not in notes]
    return list(runs.values()), notes


def _folders(path: Path) -> Iterator[Path]:
    """Folders with a config, in order; what lies inside a run's folder is its own."""
    for folder, inner, files in os.walk(path):
        inner.sort()
        if CONFIG in files:
            inner.clear()
            yield Path(folder)


def _read_run(path: Path) -> FinishedRun | str | None:
    """A run; why it is left out; None for a folder that is no run's."""
    folder = RunFolder(path)
    try:
        if not folder.is_run:
            return None
        if folder.status != "finished":
            return "unfinished, left out"
    except AqaError as error:  # a pipe of that name
        return f"{error}, left out"
    try:
        metrics, config = escaped(folder.metrics), escaped(folder.config)
    except (AqaError, ValueError, RecursionError, yaml.YAMLError):
        return f"{METRICS} cannot be read, left out"
    missing = [key for key in NEEDED if key not in metrics]
    if missing:
        return f"{METRICS} has no {missing[0]} (another version wrote it), left out"
    try:
        _Reported.model_validate(metrics)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        return f"{METRICS} is not what a run writes ({where}: {first['msg'].lower()}), left out"
    return FinishedRun(path, metrics, _settings(config))


class _PatternForm(pydantic.BaseModel):
    srcc: float | None
    mse: float | None
    rl2: float | None
    n: int
    ceiling: float | None = None


class _AverageForm(pydantic.BaseModel):
    srcc: float | None
    patterns: int


class _SelectionForm(pydantic.BaseModel):
    split: str
    epoch: int
    epochs: int


class _Reported(pydantic.BaseModel):
    """metrics.json, as far as a report needs it."""

    patterns: dict[str, _PatternForm] = pydantic.Field(min_length=1)
    average_incomplete: _AverageForm
    selection: _SelectionForm
    data_set: str
    target: str
    model: str
    seed: int
    modalities: list[str] = pydantic.Field(min_length=1)
    router_weights: dict[str, list[list[float]]] = {}


def escaped(value: Any) -> Any:
    """Content of JSON or YAML with every text, keys too, fit to be printed."""
    if isinstance(value, Mapping):
        return {printable(str(key)): escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted key; the training pattern as one, the store by its file's name."""
    settings = {key: value for key, value in flat(config).items() if not key.startswith("missing.train")}
    store, pattern = settings.get("data.store"), config.get("missing", {}).get("train")
    return {**settings, "missing.train": pattern, "data.store": Path(str(store)).stem}


def read_scores(folder: Path) -> Scores:
    """predictions.csv of a run; AqaError where it is not one."""
    path = folder / PREDICTIONS
    if not has_file(path):
        raise AqaError(f"{path} is missing")
    try:
        table = pd.read_csv(path, dtype={"id": str, "pattern": str}, keep_default_na=False, na_values={"score": [""]})
        names, place = table["pattern"].unique(), table["pattern"].to_numpy()
        rows = [place == name for name in names]
        ids, scores = table["id"].to_numpy(), table["score"].to_numpy(np.float64)
        if not rows or any(list(ids[of]) != list(ids[rows[0]]) for of in rows[1:]):
            raise ValueError("its patterns have different videos")
        truth = table["label"].to_numpy(np.float64)[rows[0]]
    except (OSError, ValueError, KeyError) as error:
        raise AqaError(f"{path} is no run's predictions: {first_line(error)}") from None
    return Scores(tuple(ids[rows[0]]), truth, {str(name): scores[of] for name, of in zip(names, rows, strict=True)})


def entries(runs: Sequence[FinishedRun]) -> tuple[dict[Place, list[Entry]], list[str]]:
    """Runs by place, then by model: those that differ in nothing but the seed; and notes on runs that are repeated.

    A label is the model's name, with the settings in which runs of this model on one target differ.
    """
    varied = _varied(runs)
    found: dict[Place, dict[tuple[str, str], Entry]] = defaultdict(dict)
    notes = []
    for run in runs:
        label = _label(run, varied[run.metrics["model"]])
        entry = found[run.place].setdefault((label, run.selected_on), Entry(label, run.selected_on, {}))
        first = entry.runs.setdefault(run.seed, run)
        if first is not run:
            notes.append(f"{run.folder}: the same experiment as {first.folder}, left out")
    return {place: _in_order(list(by_label.values())) for place, by_label in found.items()}, notes


def _in_order(found: list[Entry]) -> list[Entry]:
    """By label, those selected on the test split after the others."""
    return sorted(found, key=lambda entry: (entry.selected_on == "test", entry.label))


def _varied(runs: Sequence[FinishedRun]) -> dict[str, dict[str, str]]:
    """By model, the settings in which its runs on one target differ, each with the value that goes without saying.

    That is the value of more than half of the model's runs; "" where there is none. Models differ from one another in
    more than is worth saying, and so do targets.
    """
    values: dict[str, dict[str, dict[Place, set[str]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    keys: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        keys[run.metrics["model"]] |= dict.fromkeys(key for key in run.settings if key not in NOT_OF_THE_MODEL)
    for run in runs:
        model = run.metrics["model"]
        for key in keys[model]:
            value = in_one_line(run.settings.get(key))
            values[model][key][run.place].add(value)
            counts[model][key][value] += 1
    varied: dict[str, dict[str, str]] = {}
    for model, by_key in values.items():
        differing = [key for key, places in by_key.items() if any(len(found) > 1 for found in places.values())]
        common = {key: counts[model][key].most_common(1)[0] for key in differing}
        half = sum(run.metrics["model"] == model for run in runs) / 2
        varied[model] = {key: value if count > half else "" for key, (value, count) in common.items()}
    return varied


def _label(run: FinishedRun, varied: Mapping[str, str]) -> str:
    """The model's name and the settings that do not go without saying; of each, one value at the most is left out."""
    given = {key: in_one_line(run.settings.get(key)) for key in varied}
    named = (
        f"{key.removeprefix('model.')}={'default' if value == UNSET else value}"
        for key, value in given.items()
        if value != (varied[key] or UNSET)
    )
    return ", ".join([str(run.metrics["model"]), *named])
