"""What a sweep has found so far: its state, a line per run, and a table of all its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from aqa.evaluation.measures import METRICS
from aqa.evaluation.metrics import fisher_mean
from aqa.runs.folder import RunFolder
from aqa.runs.selection import badness, is_validated, mean_selection
from aqa.runs.table import UNDEFINED, align, interval_text, number
from aqa.sweeps.folder import State, SweepFolder
from aqa.sweeps.grid import Point

States = Mapping[str, State]  # of each run, by its name
NOT_A_NUMBER = (
    "patterns",
    "undefined",
    "over",
    "left_out",
    "why_no_interval",
    "measures",
    "why_no_folds",
)  # of metrics.json
OF_EVERY_RUN = ("kendall", "mse", "rl2")  # measures that need not be asked for
IN_NAME = ("experiment", "data.target", "train.seed")  # axes that a run's name shows


def state_line(states: States, folder: SweepFolder, jobs: int = 1) -> str:
    """Done, running, failed, waiting, and the time left as far as runs that are done tell."""
    count = Counter(states.values())
    line = ", ".join(f"{count[state]} {state}" for state in ("done", "running", "failed", "waiting"))
    seconds = [folder.seconds(name) for name, state in states.items() if state == "done"]
    left = count["running"] + count["waiting"]
    if seconds and left:
        minutes = left * sum(seconds) / len(seconds) / max(jobs, count["running"]) / 60
        line += f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"
    return line


def runs_table(points: Sequence[Point], states: States, folder: SweepFolder) -> str:
    """A line per run: name, settings, state, and once done the value that selected its epoch, and SRCC on test.

    Runs of one experiment and target stand together, the best by validation first; those that are not done follow.
    """
    rows = [["run", "settings", "state", "validation", "first pattern", "average", "selected on"]]
    for point in sorted_points(points, states, folder):
        state = states[point.name]
        cells = ["", "", "", ""]
        if state == "done":
            metrics = RunFolder(folder.run(point.name)).metrics
            selection = metrics["selection"]
            first, scores = next(iter(metrics["patterns"].items()))
            average = number(metrics["average_incomplete"]["srcc"]) if metrics["average_incomplete"]["patterns"] else ""
            cells = [selected_text(selection), f"{first} {number(scores['srcc'])}", average, split_text(selection)]
        named = (f"{axis}={value}" for axis, value in point.place.items() if axis not in IN_NAME)
        rows.append([point.name, " ".join(named), state, *cells])
    return "\n".join(align(rows))


def selected_text(selection: Mapping[str, Any]) -> str:
    """The value of the selection metric that selected an epoch, for people: "SRCC 0.312"."""
    return f"{str(selection['metric']).upper()} {number(selection.get('value'))}"


def split_text(selection: Mapping[str, Any]) -> str:
    """The split that selected, the test split in capitals."""
    return "TEST" if selection["split"] == "test" else str(selection["split"])


def sorted_points(points: Sequence[Point], states: States, folder: SweepFolder) -> list[Point]:
    """Points by experiment and target in their order, and in each those that are done, the best by validation first.

    A run whose epoch was selected on the test split, or on the training videos, comes after those that were not: its
    value says nothing.
    """
    known = {p.name: RunFolder(folder.run(p.name)).metrics["selection"] for p in points if states[p.name] == "done"}
    places = [(point.place.get("experiment"), point.experiment.data.target) for point in points]
    groups = list(dict.fromkeys(places))

    def rank(item: tuple[Point, tuple[Any, ...]]) -> tuple[int, int, bool, float]:
        point, place = item
        selection = known.get(point.name)
        kind = 1 if selection is None else 0
        last = selection is not None and not is_validated(selection)
        return groups.index(place), kind, last, 0.0 if selection is None else badness(selection)

    return [point for point, _ in sorted(zip(points, places, strict=True), key=rank)]


@dataclass(frozen=True)
class Setting:
    """The finished runs of a sweep that differ in nothing but the seed. rows: theirs in the table of all numbers.

    values: its place on the axes that vary, and its model where that does. selection: as in a run's metrics, value the
    mean over seeds.
    """

    values: dict[str, str]
    target: str
    rows: pd.DataFrame
    selection: dict[str, Any]

    @property
    def runs(self) -> list[str]:
        """The names of its runs."""
        return list(dict.fromkeys(self.rows["run"]))


def settings_found(found: pd.DataFrame) -> list[Setting]:
    """The settings of a sweep by target in order, in each the best by the validation value first.

    found: as `results` gives it. Settings whose epochs were selected on the test split, or on the training videos, come
    last.
    """
    if found.empty:
        return []
    axes = [name for name in found.columns[1 : list(found.columns).index("target")] if name != "data.target"]
    varied = [name for name in [*axes, "model"] if name != "train.seed" and found[name].nunique(dropna=False) > 1]
    settings = []
    for values, rows in found.groupby([*varied, "target", "selected_on"], sort=False, dropna=False):
        *place, target, split = values if isinstance(values, tuple) else (values,)
        runs = rows.drop_duplicates("run")[["selection_metric", "selection_value"]]
        known = [{"split": split, "metric": metric, "value": value} for metric, value in runs.itertuples(index=False)]
        selection = mean_selection(known)
        settings.append(Setting(dict(zip(varied, map(str, place), strict=True)), str(target), rows, selection))
    targets = list(dict.fromkeys(setting.target for setting in settings))
    return sorted(
        settings,
        key=lambda one: (targets.index(one.target), not is_validated(one.selection), badness(one.selection)),
    )


def seeds_table(found: pd.DataFrame, best: Mapping[tuple[str, str], int] = MappingProxyType({})) -> str:
    """The value that selected and SRCC by pattern, over seeds, mean through Fisher's z and standard deviation.

    found: as `results` gives it. best: by target and pattern, which of `settings_found` is above every other one by the
    paired test; it has a star. A line a setting, the best by validation first. A correlation that is undefined for one
    seed is undefined for the mean. Empty where no setting was run with several seeds.
    """
    if found.empty or found["seed"].nunique() < 2:
        return ""
    settings, patterns = settings_found(found), list(dict.fromkeys(found["pattern"]))
    rows = [[*settings[0].values, "target", "validation", *patterns, "seeds", "selected on"]]
    for place, one in enumerate(settings):
        known = one.rows.drop_duplicates("run")["selection_value"].astype(float).tolist()
        metric = str(one.selection["metric"])
        value = mean_and_deviation(known) if metric == "srcc" else f"{metric.upper()} {np.mean(known):.3f}"
        cells = [mean_and_deviation(one.rows.loc[one.rows["pattern"] == p, "srcc"].tolist()) for p in patterns]
        stars = [" *" if best.get((one.target, p)) == place else "  " * bool(best) for p in patterns]
        cells = [cell + star for cell, star in zip(cells, stars, strict=True)]
        seeds = str(one.rows["seed"].nunique())
        rows.append([*one.values.values(), one.target, value, *cells, seeds, split_text(one.selection)])
    star = "; *: above every other setting of the target by the paired test" if best else ""
    return "\n".join([f"SRCC, mean ± standard deviation over seeds{star}", *align(rows)])


def measures_tables(found: pd.DataFrame) -> str:
    """A table for each further measure: a line a setting, the best by validation first; plain means over seeds.

    found: as `results` gives it. With the standard deviation over seeds, or the interval of a single run where there is
    one. "-": not measured, or undefined for a seed.
    """
    return "\n\n".join(_measure_table(found, name) for name in measures_in(found))


def measures_in(found: pd.DataFrame) -> list[str]:
    """The further measures that runs were asked for; those that every run has count where they have intervals."""
    asked = (name for name in METRICS.names() if name in found and found[name].notna().any())
    return [name for name in asked if name not in OF_EVERY_RUN or f"{name}_low" in found]


def _measure_table(found: pd.DataFrame, name: str) -> str:
    settings, about = settings_found(found), METRICS.get(name).about
    patterns = list(dict.fromkeys(found.loc[found[name].notna(), "pattern"]))
    rows = [[*settings[0].values, "target", *patterns, "seeds", "selected on"]]
    for one in settings:
        cells = [_measured(one.rows[one.rows["pattern"] == pattern], name) for pattern in patterns]
        seeds = str(one.rows["seed"].nunique())
        rows.append([*one.values.values(), one.target, *cells, seeds, split_text(one.selection)])
    spread = "± standard deviation over seeds, or [95 % interval] of a single run"
    return "\n".join([f"{about['title']} ({about['better']} is better), mean {spread}", *align(rows)])


def _measured(rows: pd.DataFrame, name: str) -> str:
    values = rows[name].astype(float).to_numpy()
    if len(values) > 1:
        mean = values.mean()
        return "-" if np.isnan(mean) else f"{mean:.3f} ± {np.std(values, ddof=1):.3f}"
    if not len(values) or np.isnan(values[0]):
        return "-"
    if f"{name}_low" not in rows:
        return f"{values[0]:.3f}"
    low, high = (float(rows[f"{name}_{side}"].iloc[0]) for side in ("low", "high"))
    return f"{values[0]:.3f} {interval_text(low, high)}" if low <= high else f"{values[0]:.3f}"


def mean_and_deviation(values: Sequence[float]) -> str:
    """The Fisher-z mean of correlations and their standard deviation, for people."""
    mean = fisher_mean(values)
    if np.isnan(mean):
        return UNDEFINED
    return f"{mean:.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{mean:.3f}"


def failures(states: States, folder: SweepFolder) -> list[str]:
    """A line a failed run: its name, the last line of its error, and where the whole of it is."""
    lines = []
    for name, state in states.items():
        path = folder.error(name)
        if state == "failed" and path.is_file():  # of a cross-validation its folds have one
            lines.append(f"{name}: {path.read_text(encoding='utf-8').rstrip().splitlines()[-1]} ({path})")
    return lines


def results(points: Sequence[Point], states: States, folder: SweepFolder) -> pd.DataFrame:
    """Every number of every finished run: a row per run and pattern, `average` the mean of the incomplete ones.

    Columns: run, the axes of the grid, target, model, seed, selected_on, the metric that selected, under which pattern
    and its value there, pattern, then the metrics on the test split.
    """
    rows = []
    for point in points:
        if states[point.name] != "done":
            continue
        metrics = RunFolder(folder.run(point.name)).metrics
        about = {"run": point.name, **{axis: str(value) for axis, value in point.place.items()}}
        about |= {key: metrics[key] for key in ("target", "model", "seed")}
        selection = metrics["selection"]
        about["selected_on"] = selection["split"]
        about |= {f"selection_{key}": selection.get(key) for key in ("metric", "pattern", "value")}
        for pattern, scores in {**metrics["patterns"], "average": metrics["average_incomplete"]}.items():
            known = {key: value for key, value in scores.items() if key not in NOT_A_NUMBER}
            rows.append({**about, "pattern": pattern, **known, **further_numbers(scores.get("measures", {}))})
    return pd.DataFrame(rows)


def further_numbers(measures: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Further measures of a pattern by column: mae, mae_low, mae_high."""
    ends = {"value": "", "low": "_low", "high": "_high"}
    return {f"{m}{end}": found[key] for m, found in measures.items() for key, end in ends.items() if key in found}
