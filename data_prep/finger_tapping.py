"""Finger tapping: 489 webcam videos of the Parkinson's examination, graded by three neurologists."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.data_prep import DATASETS
from aqa.errors import AqaError, brief, nearest

from .convert import Published, Stream
from .files import find
from .labels import read_text, value_of
from .npy import load_npz
from .targets import UNLABELLED

Array = NDArray[Any]
CSV = "fingertapping_features_severity_diagnosis_June13_2023.csv"
NPZ = "finger_tapping.npz"
# What the names of a stream's columns begin with, and how many such columns the published table has.
STREAMS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "rhythm": (("aperiodicity_", "period", "frequency_", "num_peaks_"), 40),
    "amplitude": (("amplitude_",), 24),
    "speed": (("speed_", "acceleration_"), 24),
    "wrist": (("wrist_",), 18),
    "interruption": (
        ("numInterruptions_", "numFreeze_", "maxFreezeDuration_", "num_interruptions_", "num_freeze_"),
        10,
    ),
}
CONSENSUS, EXPERTS = "Rating", ("Rating1", "Rating3", "Rating4")  # 2 and 5 are those of the raters who are not experts
OTHERS = ("hand", "filename", CONSENSUS, *EXPERTS)
GRADES = (0.0, 4.0)
FOLDS = 10


@dataclass(frozen=True)
class Videos:
    """N videos. features: by stream (N, D), NaN throughout where blank. experts: (N, 3). patients: numbered from 0 on,
    by first appearance."""

    features: Mapping[str, Array]
    consensus: Array
    experts: Array
    patients: Array
    hands: Sequence[str]


@DATASETS.register(
    "finger_tapping",
    title="Finger tapping: 489 videos of 241 people, ten folds of patients, severity from 0 to 4 by three neurologists",
    paper="Islam et al., Using AI to Measure Parkinson's Disease Severity at Home, 2023, arXiv 2303.17573",
    url="https://github.com/ROC-HCI/finger-tapping-severity",
)
def read(source: Path) -> Published:
    """Features that the authors computed from hand landmarks: five streams, each one row a video.

    `source` is the published table (CSV), a folder with it, or the same numbers as ``finger_tapping.npz`` (arrays
    ``rhythm`` ... ``interruption``, ``labels``, ``expert_ratings``, ``patient``, ``hand_right``, ``imputed``).

    The features have long tails and are stored as sign(x) log(1 + |x|). A stream with a blank cell is absent: in three
    videos the amplitude, whose decrement is blank. A participant is the part of the file's name that the authors use
    for it, and is stored as a number (group ``patient``). The published table has no split: splits and the ten folds
    (group ``fold10``) are drawn by patient, always the same.

    Raises AqaError naming what is missing, or the cell that is not a number.
    """
    source = Path(source)
    if source.is_dir():
        source = find(source, CSV, NPZ)
    videos = _read_npz(source) if source.suffix.lower() == ".npz" else _read_csv(source)
    ids = [f"finger_tapping_{row:04d}" for row in range(len(videos.patients))]
    splits = draw_splits(videos.patients)
    labels = {"consensus": videos.consensus, "expert_mean": videos.experts.mean(axis=1)}
    return Published(
        "finger_tapping",
        f"finger tapping, {source.name}",
        {name: _stream(values, ids) for name, values in videos.features.items()},
        {target: dict(zip(ids, map(float, values), strict=True)) for target, values in labels.items()},
        dict.fromkeys(labels, GRADES),
        {name: [ids[row] for row in np.flatnonzero(splits == name)] for name in ("train", "valid", "test")},
        complete=False,
        ids=ids,
        groups={
            "patient": dict(zip(ids, map(str, videos.patients), strict=True)),
            "fold10": dict(zip(ids, map(str, draw_folds(videos.patients)), strict=True)),
            "hand": dict(zip(ids, videos.hands, strict=True)),
        },
        spreads={"expert_mean": dict(zip(ids, map(float, videos.experts.std(axis=1, ddof=1)), strict=True))},
        folds=["fold10"],
    )


def _stream(values: Array, ids: Sequence[str]) -> Stream:
    rows = {i: row for row, i in enumerate(ids) if np.isfinite(values[row]).all()}
    return Stream(values.shape[1], rows.keys(), lambda i: values[rows[i]][None], "hand landmarks")


def draw_splits(patients: Array) -> Array:
    """Train, valid or test (N,) by patient, numbered from 0 on: a fifth of them is test, a fifth of the others valid.

    The generator is one whose numbers NumPy promises never to change.
    """
    count = int(patients.max()) + 1
    drawn = np.random.RandomState(0).permutation(count)
    others = count - count // 5
    home = np.empty(count, dtype="<U5")
    valid = round(others / 5)
    home[drawn[: others - valid]], home[drawn[others - valid : others]], home[drawn[others:]] = "train", "valid", "test"
    return home[patients]


def draw_folds(patients: Array) -> Array:
    """The fold (N,) of each patient's videos: those with most videos first, always into the fold with fewest videos."""
    videos, filled = np.bincount(patients), np.zeros(FOLDS, int)
    fold = np.empty(len(videos), int)
    for patient in np.argsort(videos, kind="stable")[::-1]:
        fold[patient] = filled.argmin()
        filled[fold[patient]] += videos[patient]
    return fold[patients]


def participant(name: str) -> str:
    """Whose video it is, by its file's name, as the authors' code reads it."""
    parts = name.split("-")
    if name.startswith("NIH"):
        return parts[0]
    if len(parts) < 3:
        raise AqaError(f"{brief(name)} is not the name of a video, such as 2018-10-08T14-45-31-091Z94-task2-right.webm")
    return parts[-3]


def _read_csv(path: Path) -> Videos:
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    names = [name or "" for name in reader.fieldnames or ()]
    columns = {stream: [name for name in names if name.startswith(begin)] for stream, (begin, _) in STREAMS.items()}
    for stream, (_, width) in STREAMS.items():
        if len(columns[stream]) != width:
            found = f"{len(columns[stream])} columns of {stream}, expected {width}"
            raise AqaError(f"{path}: {found}; the published table is {CSV}")
    for name in OTHERS:
        if name not in names:
            raise AqaError(f"{path} has no column '{name}': {nearest(name, names)}")
    lines = list(reader)
    if not lines:
        raise AqaError(f"{path} has no video")

    def numbers(wanted: Sequence[str], blank: bool = False) -> Array:
        found = [[_number(line[name], f"{path}, video {k}: {name}", blank) for name in wanted] for k, line in lines_of]
        return np.array(found, dtype=np.float64)

    lines_of = list(enumerate(lines, start=1))
    features = {stream: _compressed(numbers(wanted, blank=True)) for stream, wanted in columns.items()}
    known: dict[str, int] = {}
    patients = [known.setdefault(participant(line["filename"] or ""), len(known)) for line in lines]
    hands = [(line["hand"] or "").lower() for line in lines]
    return Videos(features, numbers([CONSENSUS])[:, 0], numbers(EXPERTS), np.array(patients), hands)


def _number(text: str | None, where: str, blank: bool) -> float:
    """The number in a cell; NaN for an empty one where `blank` is accepted."""
    if blank and (text or "").strip().lower() in UNLABELLED:
        return math.nan
    value = value_of(text or "")
    if value is None or not math.isfinite(value):
        raise AqaError(f"{where} is {brief(text)}, not a number")
    return value


def _compressed(values: Array) -> Array:
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def _read_npz(path: Path) -> Videos:
    """The compressed features; where a blank was replaced by a median, the stream is absent as in the table."""
    wanted = (*STREAMS, "labels", "expert_ratings", "patient", "hand_right", "imputed")
    arrays = dict(zip(wanted, load_npz(path, wanted), strict=True))
    count = len(arrays["patient"])
    shapes: dict[str, tuple[int, ...]] = {stream: (count, 1, width) for stream, (_, width) in STREAMS.items()}
    shapes |= {"labels": (count, 2), "expert_ratings": (count, 3), "hand_right": (count,), "imputed": (count,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "biuf":
            raise AqaError(f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, expected numbers {shape}")
    features = {stream: arrays[stream][:, 0].astype(np.float32) for stream in STREAMS}
    features["amplitude"][arrays["imputed"].astype(bool)] = np.nan
    _, first, numbered = np.unique(arrays["patient"], return_index=True, return_inverse=True)
    patients = np.argsort(np.argsort(first))[numbered]
    consensus, experts = arrays["labels"][:, 0].astype(np.float64), arrays["expert_ratings"].astype(np.float64)
    hands = ["right" if right else "left" for right in arrays["hand_right"]]
    return Videos(features, consensus, experts, patients, hands)
