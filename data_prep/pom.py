"""POM, Persuasive Opinion Multimedia: 903 movie reviews, seventeen mean ratings each, many without a face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.data_prep import DATASETS
from aqa.errors import AqaError, first_line, nearest
from aqa.store import hdf5

from .convert import Published, in_memory
from .files import find
from .npy import load_npz

Array = NDArray[Any]
SPLITS = ("train", "valid", "test")
VISUAL_WIDTH, AUDIO_WIDTH = 41, 43
# The published file does not name its columns. This order is inferred from that of the published result tables and
# fits the data: the six of the personality questionnaire are the ones that never exceed 5.
SEVEN_POINT = (1.0, 7.0)
FIVE_POINT = (1.0, 5.0)
RANGES = {
    "confidence": SEVEN_POINT,
    "passion": SEVEN_POINT,
    "voice_pleasant": SEVEN_POINT,
    "dominance": SEVEN_POINT,
    "credibility": SEVEN_POINT,
    "vividness": SEVEN_POINT,
    "expertise": SEVEN_POINT,
    "entertaining": SEVEN_POINT,
    # One of the 903 mean ratings is 0.67, below the scale: a rating of 0 went into it. It is kept.
    "reserved": (0.0, 5.0),
    "trusting": FIVE_POINT,
    "relaxed": FIVE_POINT,
    "outgoing": FIVE_POINT,
    "thorough": FIVE_POINT,
    "nervous": FIVE_POINT,
    "sentiment": SEVEN_POINT,
    "persuasion": SEVEN_POINT,
    "humorous": SEVEN_POINT,
}


@DATASETS.register(
    "pom",
    title="POM: movie reviews, 600 train, 100 valid and 203 test videos, persuasion and sixteen other ratings",
    paper="Park et al., Computational Analysis of Persuasiveness in Social Multimedia, ICMI 2014",
    url="https://github.com/pliang279/MFN",
)
def read(source: Path) -> Published:
    """POM as preprocessed for word-aligned models: 20 rows per video, padded with zero rows at the front.

    `source` is a folder with ``{audio,video,y}_{train,valid,test}.h5`` (one array ``d1`` each), a folder with
    ``pom.npz``, or that file (arrays ``visual``, ``audio``, ``labels``, ``split``). The source has no ids: a video is
    called by its row, train, valid and test one after the other.

    Rows are spoken words and shared by both streams, so the padding of a video is the rows at its front where *both*
    are zero. Only those are removed; a visual row that is zero beside a non-zero audio row is a word during which the
    face was not found, and stays, so that the streams remain aligned. A stream that is zero throughout is absent.

    `flow` is the difference of successive visual rows: ``flow[0] = 0``, ``flow[t] = visual[t] - visual[t - 1]``, as
    long as the visual stream. It is absent where that is absent or never changes (a single row).

    Raises AqaError naming a file that is missing, there twice, or of another shape.
    """
    source = Path(source)
    visual, audio, labels, split = _read_npz(source) if _is_npz(source) else _read_h5(source)
    _check_shapes(source, visual, audio, labels, split)
    ids = [f"pom_{row:04d}" for row in range(len(labels))]
    streams: dict[str, dict[str, Array]] = {"visual": {}, "audio": {}, "flow": {}}
    for i, seen, heard in zip(ids, visual, audio, strict=True):
        for modality, clips in _unpad(seen, heard).items():
            if clips.any():
                streams[modality][i] = clips
    scores = {
        target: dict(zip(ids, map(float, column), strict=True)) for target, column in zip(RANGES, labels.T, strict=True)
    }
    return Published(
        "pom",
        f"POM, preprocessed arrays in {source.name}",
        {
            "visual": in_memory(VISUAL_WIDTH, streams["visual"], "Facet"),
            "audio": in_memory(AUDIO_WIDTH, streams["audio"], "COVAREP"),
            "flow": in_memory(VISUAL_WIDTH, streams["flow"], "difference of successive visual rows"),
        },
        scores,
        RANGES,
        {name: [i for i, home in zip(ids, split, strict=True) if home == name] for name in SPLITS},
        complete=False,
    )


def _unpad(visual: Array, audio: Array) -> dict[str, Array]:
    """The three streams of one video, (20, D) with padding in, (T, D) without it out."""
    spoken = np.flatnonzero(visual.any(axis=1) | audio.any(axis=1))
    start = int(spoken[0]) if len(spoken) else len(visual)
    visual, audio = visual[start:], audio[start:]
    return {"visual": visual, "audio": audio, "flow": np.diff(visual, axis=0, prepend=visual[:1])}


def _is_npz(source: Path) -> bool:
    return source.suffix == ".npz" or (source.is_dir() and any(source.rglob("pom.npz")))


def _read_npz(source: Path) -> tuple[Array, Array, Array, Array]:
    path = find(source, "pom.npz") if source.is_dir() else source
    visual, audio, labels, split = load_npz(path, ("visual", "audio", "labels", "split"))
    return visual, audio, labels, split


def _read_h5(source: Path) -> tuple[Array, Array, Array, Array]:
    parts = {kind: [_read_d1(find(source, f"{kind}_{s}.h5")) for s in SPLITS] for kind in ("video", "audio", "y")}
    split = np.repeat(SPLITS, [len(part) for part in parts["y"]])
    try:
        return np.concatenate(parts["video"]), np.concatenate(parts["audio"]), np.concatenate(parts["y"]), split
    except ValueError as error:
        raise AqaError(f"{source}: the splits' arrays do not fit together: {error}") from None


def _read_d1(path: Path) -> Array:
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("d1", getlink=True), h5py.HardLink):
                raise AqaError(f"{path} has no array 'd1'; {nearest('d1', file)}")
            found = file["d1"]
            array = hdf5.dataset(file, "d1", ndim=getattr(found, "ndim", 0))
            if array.dtype.kind not in "fiu":
                raise AqaError(f"{path}: d1 is of type '{array.dtype}', not numbers")
            hdf5.check_size(file, array, "d1", hdf5.UNPACKED)
            return np.asarray(array[()])
    except hdf5.DAMAGE as error:
        raise AqaError(f"{path} cannot be read as HDF5: {first_line(error)}") from None


def _check_shapes(source: Path, visual: Array, audio: Array, labels: Array, split: Array) -> None:
    videos, rows = labels.shape[:1], visual.shape[1:2]
    wanted = {
        "visual": (visual, (*videos, *rows, VISUAL_WIDTH)),
        "audio": (audio, (*videos, *rows, AUDIO_WIDTH)),
        "labels": (labels, (*videos, len(RANGES))),
        "split": (split, videos),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise AqaError(f"{source}: {name} has shape {array.shape}, expected {shape}")
        if name != "split" and array.dtype.kind not in "fiu":
            raise AqaError(f"{source}: {name} is of type '{array.dtype}', not numbers")
    strangers = sorted(set(split.tolist()) - set(SPLITS))
    if strangers:
        raise AqaError(f"{source}: split '{strangers[0]}' is unknown: {nearest(str(strangers[0]), SPLITS)}")
