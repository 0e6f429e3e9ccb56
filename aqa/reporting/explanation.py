"""`aqa explain`: the tables of explanations, and the page that shows them. Pictures are SVG written by the template."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from aqa.config.load import load_experiment
from aqa.errors import AqaError, printable
from aqa.explaining.clips import require_window
from aqa.reporting.explained_videos import PAGE, scores_digest, video_anchor
from aqa.reporting.page import TEMPLATES, asset, policy
from aqa.runs.averages import asked_level
from aqa.runs.explained import Asked, Explained, ExplanationTables, explained
from aqa.runs.folder import RunFolder
from aqa.system.devices import pick_device
from aqa.system.files import refuse_existing_together, write_table, write_text, written_together, written_whole
from aqa.system.saying import Say, silent
from aqa.version import __version__

TABLES = ("videos", "streams", "parts", "what_if", "would_change", "clips", "curves", "weights")
MOST_ON_PAGE = 300  # videos; the tables have all
WIDTH, HEIGHT = 640, 64  # of a timeline


def explain(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    ids: Sequence[str] | None = None,
    store: str | os.PathLike[str] | None = None,
    split: str | None = None,
    visible: str | None = None,
    window: int | None = None,
    beside: Sequence[str | os.PathLike[str]] = (),
    level: float | None = None,
    out: str | os.PathLike[str] | None = None,
    form: str = "csv",
    device: str = "auto",
    memory: float | None = None,
    overwrite: bool = False,
    say: Say = silent,
) -> ExplanationTables:
    """Why the videos of a finished run have their scores; tables in the target's units, a row per video and part.

    run: its folder, or several of one target: then the mean of their scores is explained, and how far they disagree.
    ids: the videos; by default those that the run tested, or all of another `store`. split: those of a split. visible:
    a subset such as "VA", to explain the scores that videos have when no more is shown of them. window: clips that are
    replaced together; by default a stream is cut into 32 parts. beside: runs of the same experiment with other seeds,
    whose disagreement is shown. level: of the intervals, by default the run's. out: a folder for the tables and a page;
    nothing is written by default. form: csv or parquet. A cross-validation explains each video by the model of the fold
    that tested it (of the first repeat), and those of another store by the mean of all folds' models. AqaError for any
    mistake, and where `out` has such files, unless `overwrite`.
    """
    if form not in ("csv", "parquet"):
        raise AqaError(f"--format {form}: it is csv or parquet")
    require_window(window)
    if ids is not None and split is not None:
        raise AqaError("--ids and --split both say which videos to explain; leave one out")
    if ids is not None and not ids:
        raise AqaError("--ids names no video")
    folders = [RunFolder.existing(each) for each in ([run] if isinstance(run, (str, os.PathLike)) else run)]
    if not folders:
        raise AqaError("no run is given; expected the folder of a finished run, or several")
    if beside and len(folders) > 1:
        raise AqaError("--beside goes with one run; of several, the disagreement is shown without it")
    chosen_level = asked_level(level, load_experiment(folders[0].config).evaluate.level)
    if out is not None:
        names = (PAGE, *(f"{name}.{form}" for name in TABLES))
        refuse_existing_together(Path(out), names, overwrite)
        _require_form(form)
    others = [RunFolder.existing(other) for other in beside]
    path = None if store is None else Path(store)
    asked = Asked(ids, split, visible, window, chosen_level)
    found = explained(folders, path, asked, others, pick_device(device), memory)
    if out is not None:
        # A report links videos to the page where it explains the very scores that the run was tested by.
        its_own = len(folders) == 1 and store is None and visible is None
        tested = scores_digest(folders[0]) if its_own else ""
        _write(Path(out), found, form, tested)
        count = len(found.tables.videos)
        say(f"{count} videos explained: {Path(out) / PAGE}")
        for note in found.notes:
            say(note)
    return found.tables


def _require_form(form: str) -> None:
    if form == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise AqaError(
                "--format parquet needs the package pyarrow; install it with: pip install 'aqa-incomplete[table]', "
                "or use csv"
            ) from None


def _write(out: Path, found: Explained, form: str, tested: str) -> None:
    with written_together(out, last=PAGE) as parts:
        for name, table in found.tables.by_name().items():
            if form == "csv":
                write_table(parts / f"{name}.csv", table)
            else:
                with written_whole(parts / f"{name}.parquet") as partial:
                    table.to_parquet(partial, index=False)
        write_text(parts / PAGE, explanation_page(found, tested))


# -- the page


def explanation_page(found: Explained, tested: str = "") -> str:
    """The page: one file that opens from disk and asks the network for nothing.

    tested: a digest of the run whose own test scores these are, by which a report knows the page; "" of other scores.
    """
    tables, about = found.tables, found.about
    digits = max(0, 3 - math.ceil(math.log10(about["high"] - about["low"])))
    videos = tables.videos.sort_values("width", ascending=False, kind="stable")
    if videos["error"].notna().any():
        videos = tables.videos.sort_values("error", ascending=False, kind="stable", na_position="last")
    shown = videos.head(MOST_ON_PAGE)
    by_video = {
        name: {str(video): rows for video, rows in table.groupby("id", sort=False)}
        for name, table in tables.by_name().items()
    }
    scripts = asset("tables.js") + asset("explanation.js")
    return TEMPLATES.get_template("explanation.html.j2").render(
        tested=tested,
        about={**about, "run": printable(about["run"])},
        title=f"Why these scores: {printable(str(about['target']))}",
        columns=[name for name in ("error", "width", "disagreement") if videos[name].notna().any()],
        videos=[_video(line, by_video, about, digits) for line in _records(shown)],
        total=len(videos),
        notes=list(map(printable, found.notes)),
        files=sorted(tables.by_name()),
        means=_means(tables.streams, digits),
        width=WIDTH,
        height=HEIGHT,
        version=__version__,
        date=datetime.date.today().isoformat(),
        css=Markup(asset("report.css") + asset("explanation.css")),
        js=Markup(scripts),
        policy=policy(scripts),
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each by column."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def _means(streams: pd.DataFrame, digits: int) -> list[dict[str, Any]]:
    """How much each stream moves scores: the mean absolute Shapley value over the videos that show it."""
    if not len(streams):
        return []
    sizes = streams.assign(size=streams["shapley"].abs()).groupby("modality", sort=False)["size"].agg(["mean", "count"])
    return [
        {"modality": printable(str(name)), "mean": f"{line['mean']:.{digits}f}", "videos": int(line["count"])}
        for name, line in sizes.iterrows()
    ]


def _video(
    line: dict[str, Any],
    by_video: dict[str, dict[str, pd.DataFrame]],
    about: dict[str, Any],
    digits: int,
) -> dict[str, Any]:
    """What the page says of one video, its numbers as text and its pictures as coordinates."""
    name = line["id"]
    own = {kind: found[name] for kind, found in by_video.items() if name in found}
    text = {key: _text(line[key], digits) for key in ("score", "low", "high", "label", "error", "width")}
    return {
        "id": printable(name),
        "anchor": video_anchor(name),
        "visible": line["visible"],
        "scored": not np.isnan(line["score"]),
        "bounded": np.isfinite(line["width"]),
        **text,
        "disagreement": _text(line["disagreement"], digits + 1),
        "values": {key: line[key] for key in ("score", "low", "error", "width", "disagreement")},
        "mean": _text(line["training_mean"], digits),
        "moments": _text(line["moments"], digits, sign=True),
        "streams": _bars(own.get("streams"), "modality", "shapley", digits),
        "parts": _parts(own.get("parts"), digits),
        "sets": _sets(own.get("what_if"), line, about, digits),
        "would_change": _changes(own.get("would_change"), digits),
        "timelines": _timelines(own.get("clips"), own.get("curves"), digits),
        "attention": _attention(own.get("clips"), own.get("curves")),
        "weights": _weights(own.get("weights")),
    }


def _text(value: float, digits: int, sign: bool = False) -> str:
    if np.isnan(value):
        return ""
    if np.isinf(value):
        return "unbounded"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _bars(table: pd.DataFrame | None, name: str, value: str, digits: int) -> list[dict[str, Any]]:
    """Horizontal bars from a middle line, each from `left` and of `width` in percent."""
    if table is None:
        return []
    largest = max(float(table[value].abs().max()), 1e-12)
    found = []
    for line in _records(table):
        width = 50 * abs(line[value]) / largest
        left = 50 if line[value] >= 0 else 50 - width
        words = _text(line[value], digits + 1, sign=True)
        found.append(
            {"name": printable(str(line[name])), "text": words, "left": f"{left:.1f}", "width": f"{width:.1f}"}
        )
    return found


def _parts(table: pd.DataFrame | None, digits: int) -> list[dict[str, str]]:
    if table is None:
        return []
    names = (table["modality"] + " " + table["part"]).str.strip()
    return [
        {"name": printable(name), "text": _text(value, digits + 1, sign=name != "mean label")}
        for name, value in zip(names, table["value"], strict=True)
    ]


def _sets(
    table: pd.DataFrame | None, video: dict[str, Any], about: dict[str, Any], digits: int
) -> dict[str, Any] | None:
    """Scores and intervals under visible sets, placed in percent of the target's range."""
    if table is None:
        return None
    low, scale = about["low"], about["high"] - about["low"]

    def place(value: float) -> str:
        return f"{np.clip(100 * (value - low) / scale, 0, 100):.2f}"

    rows = []
    for line in _records(table):
        ends = (line["low"], line["high"])
        bounded = bool(np.isfinite(ends).all())
        words = _text(line["score"], digits)
        if bounded:
            words += f" [{_text(ends[0], digits)}, {_text(ends[1], digits)}]"
        rows.append(
            {
                "name": line["visible"],
                "text": words,
                "at": place(line["score"]),
                "low": place(ends[0]) if bounded else None,
                "high": place(ends[1]) if bounded else None,
            }
        )
    known = not np.isnan(video["label"])
    return {
        "rows": rows,
        "low": _text(low, digits),
        "high": _text(about["high"], digits),
        "label": place(video["label"]) if known else None,
        "mean": place(video["training_mean"]),
    }


def _changes(table: pd.DataFrame | None, digits: int) -> list[dict[str, Any]]:
    if table is None:
        return []
    found = []
    for line in _records(table):
        known = not np.isnan(line["change"])
        words = {k: _text(line[k], digits + 1, True) for k in ("change", "change_low", "change_high")}
        ends = {k: _text(line[k], digits, True) for k in ("lowest", "highest")}
        name = printable(str(line["stream"]))
        videos = f"{line['videos']} of {line['source']}"
        found.append({"stream": name, "known": known, "videos": printable(videos), **words, **ends})
    return found


def _timelines(clips: pd.DataFrame | None, curves: pd.DataFrame | None, digits: int) -> list[dict[str, Any]]:
    """A picture per stream: what its windows add as steps, integrated gradients as a line; then curves of weights.

    Streams of a video share both axes: time, and how much a window adds.
    """
    if clips is None:
        return []
    end = float(clips["end"].max())
    columns = ["occlusion", "gradients"]
    largest = max(float(np.nanmax(np.abs(clips[columns].to_numpy(float)))), 1e-12)
    found = []
    for modality, table in clips.groupby("modality", sort=False):
        own = None if curves is None else curves[curves["of"] == modality]
        top = max(_records(table), key=lambda line: abs(line["occlusion"]))
        found.append(
            {
                "modality": printable(str(modality)),
                "steps": steps_path(table, "occlusion", end, largest),
                "line": None if table["gradients"].isna().any() else line_path(table, "gradients", end, largest),
                "curves": [] if own is None else curve_lines(own, end),
                "most": f"{_when(top)}: {_text(top['occlusion'], digits + 1, sign=True)}",
                "largest": _text(largest, digits + 1),
            }
        )
    return found


def _attention(clips: pd.DataFrame | None, curves: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The curves of what looks at all streams together."""
    if clips is None or curves is None:
        return []
    return curve_lines(curves[curves["of"] == "all"], float(clips["end"].max()))


def _when(window: dict[str, Any]) -> str:
    """Where a window is, in seconds if they are known."""
    if np.isfinite(window["first_second"]):
        return f"{window['first_second']:.1f} to {window['end_second']:.1f} s"
    first, last = round(window["first"]), max(round(window["first"]), math.ceil(window["end"]) - 1)
    return f"clip {first}" if first == last else f"clips {first} to {last}"


def steps_path(table: pd.DataFrame, column: str, end: float, largest: float) -> str:
    """An area of steps around the middle of a timeline, as an SVG path."""
    middle, parts = HEIGHT / 2, []
    for first, stop, value in table[["first", "end", column]].itertuples(index=False):
        left, right, top = (WIDTH * first / end, WIDTH * stop / end, middle - middle * value / largest)
        parts.append(f"M{left:.1f} {middle:g}V{top:.1f}H{right:.1f}V{middle:g}Z")
    return "".join(parts)


def line_path(table: pd.DataFrame, column: str, end: float, largest: float) -> str:
    """A line through the middles of windows, as points of an SVG polyline."""
    at = WIDTH * (table["first"] + table["end"]) / 2 / end
    height = HEIGHT / 2 * (1 - table[column] / largest)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(at, height, strict=True))


def curve_lines(table: pd.DataFrame, end: float) -> list[dict[str, Any]]:
    """Weights over clips, each kind from 0 at the bottom to its highest value at the top."""
    found: list[dict[str, Any]] = []
    for (kind, of), lines in table.groupby(["kind", "of"], sort=False):
        highest = max(float(lines["weight"].max()), 1e-12)
        each = []
        for to, curve in lines.groupby("to", sort=False):
            at, height = WIDTH * (curve["first"] + 0.5) / end, HEIGHT * (1 - curve["weight"] / highest)
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(at, height, strict=True))
            each.append({"to": printable(str(to)), "points": points})
        found.append({"kind": kind, "of": printable(str(of)), "highest": f"{highest:.2g}", "lines": each})
    return found


def _weights(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Numbers of routers and gates, one line for each name and stream."""
    if table is None:
        return []
    found = []
    for (name, of), lines in table.groupby(["name", "of"], sort=False):
        numbers = [f"{to} {weight:.2f}" for to, weight in zip(lines["to"], lines["weight"], strict=True)]
        found.append({"name": str(name).replace("_", " "), "of": str(of), "text": ", ".join(map(printable, numbers))})
    return found
