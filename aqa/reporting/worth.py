"""`aqa worth`: which stream to add, from finished runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.comparison import Estimate, draw_videos
from aqa.evaluation.worth import StreamWorth, stream_worth
from aqa.reporting.collect import ModelRuns, find_runs, read_scores, runs_by_model
from aqa.runs.predictions import HIGH, LOW, RecordedScores
from aqa.runs.selection import MAYBE_TEST
from aqa.runs.table import align
from aqa.system.files import refuse_existing, write_table
from aqa.system.saying import Say, silent

UNSAID = "nothing can be said: test single streams and sets with one stream more, such as missing.test: all_subsets"
COLUMNS = (
    *("visible", "stream", "n", "error", "smaller_error", "smaller_error_low", "smaller_error_high"),
    *("width", "smaller_width", "smaller_width_low", "smaller_width_high"),
)
HEADINGS = ["visible", "add", "n", "error", "smaller by", "95 % interval", "width", "narrower by", "95 % interval"]


def worth(
    runs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    say: Say = silent,
) -> pd.DataFrame:
    """What adding each stream to each visible set changes in finished runs: mean absolute error and interval width.

    runs: folders of runs, or folders with runs below them; seeds of one model are averaged. Returns a row for each
    target, model, visible set and stream, in the target's units: `error` without the stream, `smaller_error` by how
    much it shrinks with it, with the ends of its paired 95 % bootstrap interval over the n test videos that have both;
    `width` and `smaller_width` likewise of intervals, NaN where a run has none. out: a CSV file to write it to;
    nothing is written by default. AqaError for any mistake, and where `out` exists, unless `overwrite`.
    """
    if out is not None:
        refuse_existing(out, overwrite)
    found, notes = find_runs(runs)
    by_place, repeated = runs_by_model(found)
    for note in (*notes, *repeated):
        say(note)
    lines = []
    for place, models in by_place.items():
        drawn = draw_videos({place.target: read_scores(models[0].first).drawn})[place.target]
        for own in models:
            scores = {seed: read_scores(run) for seed, run in own.runs.items()}
            rows = row_worth(own, scores, own.first.metrics["modalities"], _drawn_alike(own, scores, drawn))
            label = own.label + (" †" if own.selected_on in MAYBE_TEST else "")
            lines += [(place.data_set, place.target, label, *_numbers(row)) for row in rows]
            if not rows:
                say(f"{place.data_set} {place.target}, {label}: {UNSAID}")
    table = pd.DataFrame(lines, columns=["data_set", "target", "model", *COLUMNS])
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_table(Path(out), table, overwrite)
    return table


def _drawn_alike(own: ModelRuns, scores: Mapping[int, RecordedScores], counts: Floats) -> Floats:
    """The draws of a target's first model; of a model that was tested on other videos, its own."""
    ids = next(iter(scores.values())).drawn
    return counts if len(counts) == len(ids) else draw_videos({own.label: ids})[own.label]


def row_worth(
    own: ModelRuns, scores: Mapping[int, RecordedScores], modalities: Sequence[str], counts: Floats
) -> list[StreamWorth]:
    """What streams are worth to a model: errors and widths of each video are means over its seeds and repeats.

    counts: (n, R), how often each video was drawn. AqaError where seeds were tested on different videos.
    """
    repeats = [repeat for recorded in scores.values() for repeat in recorded.repeats]
    patterns = [name for name in repeats[0].by_pattern if all(name in repeat.by_pattern for repeat in repeats)]
    errors = {p: np.mean([np.abs(each.by_pattern[p] - each.truth) for each in repeats], axis=0) for p in patterns}
    widths: dict[str, Floats] = {}
    if all({LOW, HIGH} <= each.beside.keys() for each in repeats):
        with np.errstate(invalid="ignore"):
            widths = {
                p: np.mean([each.beside[HIGH][p] - each.beside[LOW][p] for each in repeats], axis=0) for p in patterns
            }
    return stream_worth(modalities, errors, widths, counts)


def _numbers(row: StreamWorth) -> tuple[str | int | float, ...]:
    return row.visible, row.stream, row.n, row.error, *_ends(row.smaller_error), row.width, *_ends(row.smaller_width)


def _ends(found: Estimate | None) -> tuple[float, float, float]:
    return (float("nan"),) * 3 if found is None else (found.value, found.interval.low, found.interval.high)


def worth_text(table: pd.DataFrame) -> str:
    """The table for people: a block for each target and model."""
    parts = []
    for (data_set, target, model), rows in table.groupby(["data_set", "target", "model"], sort=False):
        lines = []
        for row in rows[list(COLUMNS)].itertuples(index=False, name=None):
            visible, stream, n, error, *numbers = row
            smaller, width, narrower = numbers[:3], float(numbers[3]), numbers[4:]
            shown = ["-" if np.isnan(width) else f"{width:.3f}", *_texts(*map(float, narrower))]
            lines.append([visible, stream, str(n), f"{error:.3f}", *_texts(*map(float, smaller)), *shown])
        parts.append("\n".join([f"{model} on {data_set} {target}", *align([HEADINGS, *lines])]))
    return "\n\n".join(parts)


def _texts(value: float, low: float, high: float) -> tuple[str, str]:
    if np.isnan(value):
        return "-", ""
    return f"{value:+.3f}", "[n too small]" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
