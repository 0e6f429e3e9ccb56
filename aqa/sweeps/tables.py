"""What a sweep has found so far: its state, a line per run, and a table of all its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from aqa.evaluation.metrics import fisher_mean
from aqa.runs.folder import RunFolder
from aqa.runs.table import UNDEFINED, align, number
from aqa.sweeps.folder import State, SweepFolder
from aqa.sweeps.grid import Point

States = Mapping[str, State]  # of each run, by its name
NOT_A_NUMBER = ("patterns", "undefined", "over", "left_out", "why_no_interval")  # of what metrics.json says of SRCC
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
    """A line per run: name, settings, state, and once done SRCC under its first test pattern and on average."""
    rows = [["run", "settings", "state", "first pattern", "average", "selected on"]]
    for point in points:
        state = states[point.name]
        cells = ["", "", ""]
        if state == "done":
            metrics = RunFolder(folder.run(point.name)).metrics
            (first, scores), split = next(iter(metrics["patterns"].items())), metrics["selection"]["split"]
            average = number(metrics["average_incomplete"]["srcc"]) if metrics["average_incomplete"]["patterns"] else ""
            cells = [f"{first} {number(scores['srcc'])}", average, "TEST" if split == "test" else split]
        named = (f"{axis}={value}" for axis, value in point.place.items() if axis not in IN_NAME)
        rows.append([point.name, " ".join(named), state, *cells])
    return "\n".join(align(rows))


def seeds_table(found: pd.DataFrame) -> str:
    """SRCC by pattern over seeds, mean through Fisher's z and standard deviation; a line a setting.

    found: as `results` gives it. A correlation that is undefined for one seed is undefined for the mean. Empty where no
    setting was run with several seeds.
    """
    if found.empty or found["seed"].nunique() < 2:
        return ""
    axes = [name for name in found.columns[1 : list(found.columns).index("target")] if name != "data.target"]
    varied = [name for name in [*axes, "model"] if name != "train.seed" and found[name].nunique(dropna=False) > 1]
    settings = [*varied, "target"]
    patterns = list(dict.fromkeys(found["pattern"]))
    rows = [[*settings, *patterns, "seeds", "selected on"]]
    for values, runs in found.groupby(settings, sort=False, dropna=False):
        cells = [mean_and_deviation(runs.loc[runs["pattern"] == pattern, "srcc"].tolist()) for pattern in patterns]
        split = " and ".join(sorted({"TEST" if name == "test" else name for name in runs["selected_on"]}))
        rows.append([*map(str, values), *cells, str(runs["seed"].nunique()), split])
    return "\n".join(["SRCC, mean ± standard deviation over seeds", *align(rows)])


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
        if state == "failed":
            path = folder.error(name)
            lines.append(f"{name}: {path.read_text(encoding='utf-8').rstrip().splitlines()[-1]} ({path})")
    return lines


def results(points: Sequence[Point], states: States, folder: SweepFolder) -> pd.DataFrame:
    """Every number of every finished run: a row per run and pattern, `average` the mean of the incomplete ones.

    Columns: run, the axes of the grid, target, model, seed, selected_on, pattern, then the metrics.
    """
    rows = []
    for point in points:
        if states[point.name] != "done":
            continue
        metrics = RunFolder(folder.run(point.name)).metrics
        about = {"run": point.name, **{axis: str(value) for axis, value in point.place.items()}}
        about |= {key: metrics[key] for key in ("target", "model", "seed")}
        about["selected_on"] = metrics["selection"]["split"]
        for pattern, scores in {**metrics["patterns"], "average": metrics["average_incomplete"]}.items():
            known = {key: value for key, value in scores.items() if key not in NOT_A_NUMBER}
            rows.append({**about, "pattern": pattern, **known})
    return pd.DataFrame(rows)
