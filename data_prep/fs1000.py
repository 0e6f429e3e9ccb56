"""FS1000: 1247 figure-skating videos of eight categories, seven scores each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aqa.data_prep import DATASETS
from aqa.errors import AqaError

from .convert import Problem, Published, Stream
from .files import find, is_macos, original_of_copy
from .labels import Row, read_rows
from .npy import load_npy, shape_of

STREAMS = {
    "visual": ("output_feature_fs1000_new", 768, "VST (Video Swin Transformer), mean over positions"),
    "audio": ("ast_feature_fs1000_new", 768, "AST (Audio Spectrogram Transformer)"),
    "flow": ("i3d_avg_clip8_5s_fs1000", 1024, "I3D"),
}
RANGES = {"TES": (0.0, 130.0), "PCS": (0.0, 60.0), **dict.fromkeys(("SS", "TR", "PE", "CO", "IN"), (0.0, 10.0))}
# The published validation file is what every paper tests on.
LABELS = {"train": "train_fs1000_new.txt", "test": "val_fs1000_new.txt"}


@DATASETS.register(
    "fs1000",
    title="FS1000: figure skating, 1000 train and 247 test videos, TES, PCS and five components",
    paper="Xia et al., Skating-Mixer: Long-Term Sport Audio-Visual Modeling with MLPs, AAAI 2023",
    url="https://arxiv.org/abs/2203.03990",
)
def read(source: Path, unlabelled: bool = False) -> Published:
    """FS1000 as published: three folders with one file per video, two label files, at any depth under `source`.

    Visual features (T, P, 768) are averaged over their P positions. PCS is divided by the line's last column, the
    factor of its competition. Groups say the skater, as far as names tell. unlabelled: there are no label files. Raises
    AqaError naming a file or folder that is missing or there twice.
    """
    source = Path(source)
    problems: list[Problem] = []
    labels: dict[str, dict[str, float]] = {target: {} for target in RANGES}
    splits: dict[str, list[str]] = {}
    for split, file in {} if unlabelled else LABELS.items():
        rows = read_rows(find(source, file), (*RANGES, "factor"), problems)
        splits[split] = [row.id for row in rows]
        for row in rows:
            for target, score in _scores(row, problems).items():
                labels[target][row.id] = score
    streams = {
        name: _stream(find(source, folder), width, extractor, name == "visual", problems)
        for name, (folder, width, extractor) in STREAMS.items()
    }
    skaters = {i: skater for ids in splits.values() for i in ids if (skater := skater_of(i))}
    return Published(
        name="fs1000",
        source=f"FS1000, published features in {source.name}",
        streams=streams,
        labels=labels,
        ranges=RANGES,
        splits=splits,
        problems=problems,
        groups={"skater": skaters} if skaters else {},
    )


def skater_of(name: str) -> str:
    """The skater of a video that is called year, event, category and skater: "2018_Final_MF_Junhwan" is "M Junhwan".

    The first letter of the category tells men from ladies, pairs and dance, not the short from the free programme. ""
    where the name has a number in the place of the skater, as in "2021_R_PF_7".
    """
    found = re.fullmatch(r"\d{4}_.+_([A-Z])[A-Za-z]*_([^_]+)", name)
    return "" if found is None or not re.search(r"[^\W\d]", found[2]) else f"{found[1]} {found[2]}"


def _scores(row: Row, problems: list[Problem]) -> dict[str, float]:
    scores = {name: score for name, score in zip(RANGES, row.scores, strict=False) if score is not None}
    factor = row.scores[-1]
    if factor is not None and factor <= 0:
        problems.append(Problem(row.id, "PCS factor that is not positive", f"{factor:g}"))
    elif factor is not None and "PCS" in scores:
        scores["PCS"] /= factor
        return scores
    scores.pop("PCS", None)  # without its factor it is in other units; the missing factor has been noted
    return scores


def _stream(folder: Path, width: int, extractor: str, averaged: bool, problems: list[Problem]) -> Stream:
    files = {path.stem: path for path in sorted(folder.glob("*.npy")) if not (path.is_dir() or is_macos(path))}
    for name in sorted(files):
        if original_of_copy(name) in files:
            problems.append(Problem(name, "features named like a copy", f"{files.pop(name)}; delete one of the two"))

    def load(i: str) -> NDArray[Any]:
        clips = load_npy(files[i])
        if isinstance(clips, dict):
            raise AqaError(f"{files[i]} holds a dict; expected one array")
        return clips.mean(axis=1) if averaged and clips.ndim == 3 else clips

    def shape(i: str) -> tuple[int, ...] | None:
        stated = shape_of(files[i])
        return (stated[0], stated[2]) if averaged and stated is not None and len(stated) == 3 else stated

    return Stream(width, files.keys(), load, extractor, shape=shape)
