"""Reading finished runs for a report: which there are, and which of them are one model with several seeds."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydantic
import yaml

from aqa.config.dialect import in_one_line
from aqa.config.schema import DEFAULTS_OF_OLDER_RUNS
from aqa.errors import AqaError, needed, printable
from aqa.evaluation import metrics as measures
from aqa.reporting.forms import Reported
from aqa.reporting.processes import ThisProcess
from aqa.runs.folder import CONFIG, ERRORS, METRICS, PREDICTIONS, TRIAL, RunFolder, flat
from aqa.runs.origin import Origin
from aqa.runs.predictions import RecordedScores, read_predictions
from aqa.runs.selection import MAYBE_TEST, UNKNOWN, badness, is_validated, mean_selection

NEEDED = ("patterns", "average_incomplete", "selection", "data_set", "target", "model", "seed", "modalities")
RUNS_AT_ONCE = 40  # runs
UNSET = "null"
NOT_RECORDED = "unknown"  # the version of a store, of a run before versions were written
SHOWN = 8  # characters of a store's fingerprint, its version
# Settings that do not make it another model: what is asked of it, by which seed, where, and what it is called.
NOT_OF_THE_MODEL = {
    "name",
    "data.target",
    "data.synthetic",
    "model.name",
    "missing.test",
    "evaluate.metrics",
    "evaluate.intervals",
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
    """A finished run's folder, what it reports (as in metrics.json), its settings by dotted key, and its store."""

    folder: Path
    metrics: dict[str, Any]
    settings: dict[str, Any]
    origin: Origin

    @property
    def place(self) -> Place:
        folds = self.metrics.get("folds")
        protocol = f", {folds['description']}" if folds else ""  # what is tested in folds is another comparison
        return Place(f"{self.metrics['data_set']}{protocol}", self.metrics["target"])

    @property
    def model(self) -> str:
        """The model's name in labels. An imported one is by itself: nothing is known of how it was trained."""
        return f"{self.metrics['model']} (imported)" if self.metrics.get("imported") else str(self.metrics["model"])

    @property
    def seed(self) -> int:
        return int(self.metrics["seed"])

    @property
    def selected_on(self) -> str:
        return str(self.metrics["selection"]["split"])

    @property
    def fingerprint(self) -> str | None:
        """Of the store that the run was made with; None of a run by an earlier version."""
        found: str | None = self.metrics.get("data", {}).get("fingerprint")
        return found


@dataclass(frozen=True)
class ModelRuns:
    """One model on one target: its label and its runs by seed."""

    label: str
    selected_on: str
    runs: dict[int, FinishedRun]

    @property
    def first(self) -> FinishedRun:
        """The run of the lowest seed."""
        return self.runs[min(self.runs)]

    @property
    def selection(self) -> dict[str, Any]:
        """What selected its epochs, as in metrics.json, with the value's mean over seeds."""
        known = mean_selection([run.metrics["selection"] for run in self.runs.values()])
        return {"metric": "", "pattern": "", **known}


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[FinishedRun], list[str]]:
    """The finished runs in some folders, each a run's or one with runs below it, and notes on what was left out.

    AqaError for a folder without any finished run.
    """
    return read_runs(folders_of(paths), ThisProcess())


def folders_of(paths: Sequence[str | os.PathLike[str]]) -> dict[Path, list[Path]]:
    """What may be runs in each of some folders; AqaError where there is no folder."""
    for path in map(Path, paths):
        if not path.is_dir():
            raise AqaError(f"no folder at {path}")
    return {path: list(run_folders(path)) for path in map(Path, paths)}


def read_runs(
    folders: Mapping[Path, Sequence[Path]], executor: Executor, meanwhile: Callable[[], object] = lambda: None
) -> tuple[list[FinishedRun], list[str]]:
    """What `find_runs` says, of folders that are known; meanwhile: what is done while they are read."""
    runs: dict[Path, FinishedRun] = {}
    notes: list[str] = []
    begun = {path: _begin_reading(inside, executor) for path, inside in folders.items()}
    meanwhile()
    for path, reading in begun.items():
        below = {folder: run for part in reading for folder, run in part.result().items()}
        finished = {folder: run for folder, run in below.items() if isinstance(run, FinishedRun)}
        unread = [f"{folder}: {why}" for folder, why in below.items() if isinstance(why, str)]
        unread += [f"{error}: a run that failed, left out" for error in sorted(path.glob(f"{ERRORS}/*.txt"))]
        if not finished:
            raise AqaError(f"{path} holds no finished run" + (f"; {unread[0]}" if unread else ""))
        for folder, run in finished.items():
            runs.setdefault(folder.resolve(), run)
        notes += [note for note in unread if note not in notes]
    return list(runs.values()), notes


def _begin_reading(folders: Sequence[Path], executor: Executor) -> list[Future[dict[Path, FinishedRun | str | None]]]:
    parts = [folders[start : start + RUNS_AT_ONCE] for start in range(0, len(folders), RUNS_AT_ONCE)]
    return [executor.submit(_read_runs, part) for part in parts]


def _read_runs(folders: Sequence[Path]) -> dict[Path, FinishedRun | str | None]:
    """What `_read_run` makes of each folder."""
    return {folder: _read_run(folder) for folder in folders}


def run_folders(path: Path) -> Iterator[Path]:
    """Folders with a config, in order; what lies inside a run's folder is its own. Links are followed, once each."""
    seen = set()
    for folder, inner, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner.sort()
        if CONFIG in files:
            inner.clear()
            yield Path(folder)


def _read_run(path: Path) -> FinishedRun | str | None:
    """A run; why it is left out; None for a folder that is no run's, and for a trial, which was not scored."""
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
    if metrics.get(TRIAL):
        return None
    foreign = folder.foreign_file(metrics)
    if foreign:
        raise AqaError(f"{foreign}; leave the run out, or make it again")
    missing = [key for key in NEEDED if key not in metrics]
    if missing:
        return f"{METRICS} has no {missing[0]} (another version wrote it), left out"
    try:
        Reported.model_validate(metrics)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        return f"{METRICS} is not what a run writes ({where}: {needed(first)}), left out"
    settings = _settings(config)
    if about := metrics.get("imported"):  # which weights: two files of one method are two models
        settings["weights"] = f"{Path(about['file']).name}@{about['sha256'][:SHOWN]}"
    run = FinishedRun(path, metrics, settings, folder.origin)
    if run.settings.get("data.folds.fold") is not None:
        return "one fold of a cross-validation, left out; report the folder of all folds"
    return run


def escaped(value: Any) -> Any:
    """Content of JSON or YAML with every text, keys too, fit to be printed."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted key; the training pattern as one, the store by its file's name."""
    known = flat(config)
    if config.get("select", {}).get("split") != UNKNOWN:  # nothing is known of how an imported checkpoint was trained
        known |= {key: value for key, value in DEFAULTS_OF_OLDER_RUNS.items() if key not in known}
    settings = {key: value for key, value in known.items() if not key.startswith("missing.train")}
    store, pattern = settings.get("data.store"), config.get("missing", {}).get("train")
    return {**settings, "missing.train": pattern, "data.store": Path(str(store)).stem}


def read_scores(run: FinishedRun) -> RecordedScores:
    """predictions.csv of a run; AqaError if it is not one, or is not what metrics.json was worked out from."""
    path = run.folder / PREDICTIONS
    scores = read_predictions(path)
    first, *further = (
        replace(one, by_pattern={printable(name): values for name, values in one.by_pattern.items()}, further=())
        for one in scores.repeats
    )
    scores = replace(first, further=tuple(further))
    problem = _contradiction(run, scores)
    if problem:
        raise AqaError(
            f"{run.folder}: {PREDICTIONS} does not go with {METRICS}: {problem}; one of them was changed, or is "
            "another run's. Leave the run out, or make it again"
        )
    return scores


def _contradiction(run: FinishedRun, scores: RecordedScores) -> str | None:
    """How predictions differ from the metrics that were reported of them."""
    reported = run.metrics["patterns"]
    if printable(scores.target) != run.place.target:
        return f"it has scores of {printable(scores.target)}, not of {run.place.target}"
    known = scores.by_pattern
    for name in [*reported, *known]:
        if (name in known) != (name in reported):
            return f"pattern {name} is in one of them alone"
    for name, values in known.items():
        scored = ~np.isnan(values)
        if scored.sum() != reported[name]["n"]:
            return f"{scored.sum()} videos were scored under {name}, {reported[name]['n']} by {METRICS}"
        for measure, of in (("srcc", measures.srcc), ("mse", measures.mse)):
            with np.errstate(over="ignore"):
                each = [of(values[scored], scores.truth[scored]) for values in scores.scores(name)]
            here, there = (
                measures.fisher_mean(each) if measure == "srcc" else float(np.mean(each)),
                reported[name][measure],
            )
            if not same_number(here, there):
                reported_as = "undefined" if there is None else f"{there:.6g}"
                return f"{measure.upper()} under {name} is {here:.6g}, {reported_as} by {METRICS}"
    return None


def same_number(here: float, there: float | None) -> bool:
    """Whether two numbers are one except for the last digits, which may differ between versions of libraries."""
    if there is None or not math.isfinite(here):
        return there is None and not math.isfinite(here)
    return math.isfinite(there) and abs(here - there) <= 1e-9 + 1e-6 * abs(there)


def runs_by_model(runs: Sequence[FinishedRun]) -> tuple[dict[Place, list[ModelRuns]], list[str]]:
    """Runs by place, then by model: those that differ in nothing but the seed; and notes for the reader.

    A label is the model's name, with the settings in which runs of this model on one target differ. The notes are on
    runs that are repeated, and on stores that changed between runs.
    """
    runs, notes = _with_versions_of_stores(runs)
    varied = _varied(runs)
    found: dict[Place, dict[tuple[str, str], ModelRuns]] = defaultdict(dict)
    for run in runs:
        label = _label(run, varied[run.model])
        own = found[run.place].setdefault((label, run.selected_on), ModelRuns(label, run.selected_on, {}))
        first = own.runs.setdefault(run.seed, run)
        if first is not run:
            notes.append(f"{run.folder}: the same experiment as {first.folder}, left out")
    return {place: _in_order(list(by_label.values())) for place, by_label in found.items()}, notes


def _with_versions_of_stores(runs: Sequence[FinishedRun]) -> tuple[list[FinishedRun], list[str]]:
    """The runs, their store's name followed by its version where runs on one target had several; and notes on these."""
    versions: dict[tuple[Place, str], dict[str, list[FinishedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        version = (run.fingerprint or NOT_RECORDED)[:SHOWN]
        versions[run.place, run.settings["data.store"]][version].append(run)
    named: dict[Path, str] = {}
    notes = []
    for (place, store), by_version in versions.items():
        if len(by_version) < 2:
            continue
        listed = "; ".join(f"{version}: {own[0].folder}" + _more(own) for version, own in by_version.items())
        notes.append(
            f"{place.data_set} {place.target}: runs with {len(by_version)} versions of the store '{store}', which are "
            f"not counted as one model: {listed}"
        )
        named |= {run.folder: f"{store}@{version}" for version, own in by_version.items() for run in own}
    changed = [
        replace(run, settings={**run.settings, "data.store": named.get(run.folder, run.settings["data.store"])})
        for run in runs
    ]
    return changed, notes


def _more(runs: Sequence[FinishedRun]) -> str:
    return f" and {len(runs) - 1} more" if len(runs) > 1 else ""


def _in_order(found: list[ModelRuns]) -> list[ModelRuns]:
    """The best by the validation value first, never by the test split; those selected on it come last, by label.

    With these come imported ones, of which it is not known; before them those selected on the training videos. By
    label, too, where epochs were not selected by one metric under one pattern.
    """
    validated = [own for own in found if is_validated(own.selection)]
    kinds = {(own.selection.get("metric"), own.selection.get("pattern")) for own in validated}

    def rank(own: ModelRuns) -> tuple[int, float, str]:
        known = is_validated(own.selection)
        place = 0 if known else 1 + (own.selected_on in MAYBE_TEST)
        return place, badness(own.selection) if known and len(kinds) == 1 else 0.0, own.label

    return sorted(found, key=rank)


def _varied(runs: Sequence[FinishedRun]) -> dict[str, dict[str, str]]:
    """By model, the settings in which its runs on one target differ, each with the value that goes without saying.

    That is the value of more than half of the model's runs; "" where there is none. Models differ from one another in
    more than is worth saying, and so do targets.
    """
    values: dict[str, dict[str, dict[Place, set[str]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    keys: dict[str, dict[str, None]] = defaultdict(dict)
    for run in runs:
        keys[run.model] |= dict.fromkeys(key for key in run.settings if key not in NOT_OF_THE_MODEL)
    for run in runs:
        model = run.model
        for key in keys[model]:
            value = in_one_line(run.settings.get(key))
            values[model][key][run.place].add(value)
            counts[model][key][value] += 1
    varied: dict[str, dict[str, str]] = {}
    for model, by_key in values.items():
        differing = [key for key, places in by_key.items() if any(len(found) > 1 for found in places.values())]
        common = {key: counts[model][key].most_common(1)[0] for key in differing}
        half = sum(run.model == model for run in runs) / 2
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
    return ", ".join([run.model, *named])
