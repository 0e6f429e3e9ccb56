"""What a sweep has found so far: its state, a line a run, and a table of all its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from aqa.launching import SweepFolder
from aqa.reporting.tables import align, number
from aqa.runs import RunFolder
from aqa.sweeps import Point


def state_line(points: Sequence[Point], folder: SweepFolder, jobs: int = 1) -> str:
    """Done, running, failed, waiting, and the time left as far as runs that are done tell."""
    states = {point.name: folder.state(point.name) for point in points}
    count = Counter(states.values())
    line = ", ".join(f"{count[state]} {state}" for state in ("done", "running", "failed", "waiting"))
    seconds = [folder.seconds(name) for name, state in states.items() if state == "done"]
    left = count["running"] + count["waiting"]
    if seconds and left:
        minutes = left * sum(seconds) / len(seconds) / max(jobs, count["running"]) / 60
        line += f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"
    return line


def runs_table(points: Sequence[Point], folder: SweepFolder) -> str:
    """A line a run: its name, its state, and where it is done SRCC of the complete pattern and the average."""
    rows = [["run", "state", "complete", "average", "selected on"]]
    for point in points:
        state = folder.state(point.name)
        cells = ["", "", ""]
        if state == "done":
            metrics = RunFolder(folder.run(point.name)).metrics
            complete, split = next(iter(metrics["patterns"].values())), metrics["selection"]["split"]
            cells = [number(complete["srcc"]), number(metrics["average_incomplete"]["srcc"])]
            cells.append("TEST" if split == "test" else split)
        rows.append([point.name, state, *cells])
    return "\n".join(align(rows))


def failures(points: Sequence[Point], folder: SweepFolder) -> list[str]:
    """A line a failed run: its name, the last line of its error, and where the whole of it is."""
    lines = []
    for point in points:
        if folder.state(point.name) == "failed":
            path = folder.error(point.name)
            lines.append(f"{point.name}: {path.read_text(encoding='utf-8').rstrip().splitlines()[-1]} ({path})")
    return lines


def results(points: Sequence[Point], folder: SweepFolder) -> pd.DataFrame:
    """Every number of every finished run: a row a run and pattern, `average` the mean of the incomplete ones.

    Columns: run, the axes of the grid, target, model, seed, selected_on, pattern, then the metrics.
    """
    rows = []
    for point in points:
        if folder.settled(point.name) != "done":
            continue
        metrics = RunFolder(folder.run(point.name)).metrics
        about = {"run": point.name, **{axis: str(value) for axis, value in point.place.items()}}
        about |= {key: metrics[key] for key in ("target", "model", "seed")}
        about["selected_on"] = metrics["selection"]["split"]
        for pattern, scores in {**metrics["patterns"], "average": metrics["average_incomplete"]}.items():
            known = {key: value for key, value in scores.items() if key not in ("patterns", "undefined")}
            rows.append({**about, "pattern": pattern, **known})
    return pd.DataFrame(rows)
