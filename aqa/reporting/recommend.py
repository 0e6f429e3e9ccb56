"""What `aqa models --recommend` says: what to try first for a store of this size, with the measurements behind it.

The measurements are in recommend.yaml, which `python -m benchmarks.recommend` writes: real sets and parts of them, by
inner folds of their training videos. Of the store only its size and shape are looked at: no score and no label.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aqa.models import MODELS
from aqa.runs.table import align
from aqa.store.store import FeatureStore

MEASURED = Path(__file__).with_name("recommend.yaml")
SHOWN = 4  # measurements that are nearest in size
MOST_APART = 3.0  # times as many or as few videos as were measured
EXACT = 5000  # videos up to which the Gaussian process is exact


@dataclass(frozen=True)
class Shape:
    """What is looked at of a store: its training videos, its streams, clips of a typical video, groups."""

    videos: int
    streams: int
    clips: int
    incomplete: float  # share of the training videos that lack a stream
    groups: Mapping[str, int]  # by name, how many labels the training videos have


def shape_of(store: FeatureStore) -> Shape:
    """The shape of a store; all videos train where it has no split of that name."""
    rows = store.split("train") if "train" in store.splits else np.arange(len(store))
    lengths = store.lengths[rows]
    groups = {name: len({labels[row] for row in rows} - {""}) for name, labels in store.groups.items()}
    return Shape(
        videos=len(rows),
        streams=len(store.modalities),
        clips=int(np.median(lengths.max(axis=1))) if len(rows) else 0,
        incomplete=float((lengths == 0).any(axis=1).mean()) if len(rows) else 0.0,
        groups={name: count for name, count in groups.items() if 1 < count < len(rows)},
    )


def measurements(path: Path = MEASURED) -> list[dict[str, Any]]:
    """What was measured, an entry for each part of a set and target."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, list)
    return found


def recommendation(store: str | os.PathLike[str], measured: Sequence[Mapping[str, Any]] | None = None) -> str:
    """What to try first on a store, and the measurements that are nearest to it in size."""
    with FeatureStore(store) as opened:
        shape = shape_of(opened)
    entries = entries_of_like_size(shape, measurements() if measured is None else measured)
    about = f"{shape.videos} training videos, {shape.streams} streams, {shape.clips} clips in a typical video"
    lines = [
        about,
        "",
        *advice(shape, entries),
        "",
        "Measured on the sets that are nearest in size (SRCC with everything visible",
    ]
    lines += [
        "and 95 % interval, by two inner folds of training videos; beyond ridge: paired difference):",
        "",
        *measured_table(entries),
    ]
    return "\n".join(lines)


def entries_of_like_size(shape: Shape, measured: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The entries whose number of videos is nearest, by ratio; then those whose number of clips is."""

    def apart(entry: Mapping[str, Any]) -> tuple[float, float]:
        own, other = max(shape.videos, 1), max(shape.clips, 1)
        return abs(math.log(entry["videos"] / own)), abs(math.log(max(entry["clips"], 1) / other))

    return sorted(measured, key=apart)[:SHOWN]


def advice(shape: Shape, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What follows from the nearest entries and from the shape, a line for each point."""
    lines = [*ranking(entries), "No network was tuned. Choose for your data on your validation split."]
    ratio = max(shape.videos, 1) / entries[0]["videos"]
    if not 1 / MOST_APART < ratio < MOST_APART:
        lines.insert(0, f"NO SET OF LIKE SIZE WAS MEASURED: the nearest has {entries[0]['videos']} videos.")
    if shape.groups:
        named = ", ".join(f"{name} ({count})" for name, count in shape.groups.items())
        lines.append(f"Groups: {named}. Test on groups that were not trained on, with data.folds.group.")
    if shape.incomplete:
        lines.append(
            f"{shape.incomplete:.0%} of the training videos lack a stream. Look at the incomplete patterns too."
        )
    if shape.clips == 1:
        lines.append("Most videos are one clip: there is no order that a sequence model could learn from.")
    if shape.videos > EXACT:
        lines.append(f"gaussian_process is exact up to {EXACT} training videos; more are seen through some of them.")
    return lines


def ranking(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which model to try first, and how each did beside ridge; the best is that with the highest mean difference."""
    others = sorted((name for name in names_of(entries) if name != "ridge"), key=lambda name: -mean_gain(entries, name))
    said = [f"  {beside_ridge(entries, name)}" for name in others]
    sets = ", ".join(dict.fromkeys(entry["set"] for entry in entries))
    where = f"{len(entries)} measurements of like size ({sets}; targets of one set are alike)"
    if others and mean_gain(entries, others[0]) > 0 and verdicts(entries, others[0])[0]:
        return [f"Try first: {others[0]}, and ridge beside it.", f"Beside ridge, in {where}:", *said]
    return [f"Try first: ridge. Nothing is shown to be ahead of it in {where}:", *said]


def beside_ridge(entries: Sequence[Mapping[str, Any]], name: str) -> str:
    """How a model did beside ridge."""
    above, level, below = verdicts(entries, name)
    gain = mean_gain(entries, name)
    return f"{name}: ahead beyond chance in {above}, neither in {level}, behind in {below}; mean difference {gain:+.3f}"


def names_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models that every entry has and that are known here, in the order of the first."""
    return [m for m in entries[0]["models"] if m in MODELS.names() and all(m in e["models"] for e in entries)]


def verdicts(entries: Sequence[Mapping[str, Any]], model: str) -> tuple[int, int, int]:
    """In how many entries a model is ahead of ridge beyond chance, in how many neither, and in how many behind it."""
    above = sum(entry["models"][model]["beyond_ridge"][1] > 0 for entry in entries)
    below = sum(entry["models"][model]["beyond_ridge"][2] < 0 for entry in entries)
    return above, len(entries) - above - below, below


def mean_gain(entries: Sequence[Mapping[str, Any]], model: str) -> float:
    """The mean difference of a model's SRCC from ridge regression's."""
    return float(np.mean([entry["models"][model]["beyond_ridge"][0] for entry in entries]))


def measured_table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The measurements, a line for each model of each entry."""
    rows = [["set, target", "videos", "groups", "clips", "model", "SRCC", "incomplete", "beyond ridge", "seconds"]]
    for entry in entries:
        about = [f"{entry['set']}, {entry['target']}", *(str(entry[key]) for key in ("videos", "groups", "clips"))]
        for model, figures in entry["models"].items():
            gain = figures.get("beyond_ridge")
            rows.append(
                [
                    *about,
                    model,
                    with_interval(figures["complete"]),
                    f"{figures['incomplete']:.3f}",
                    "" if gain is None else with_interval(gain, "+.3f"),
                    f"{figures['seconds']:.1f}",
                ]
            )
            about = [""] * len(about)
    return align(rows)


def with_interval(found: Sequence[float], form: str = ".3f") -> str:
    """A value and its interval."""
    value, low, high = (f"{number:{form}}" for number in found)
    return f"{value} [{low}, {high}]"
