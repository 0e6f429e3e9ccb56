"""RG, Rhythmic Gymnastics: 1000 videos of four apparatus, one total score each."""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from aqa.data_prep import DATASETS

from .convert import Problem, Published, Stream, in_memory
from .files import find
from .labels import read_rows
from .npy import load_mapping

APPARATUS = ("Ball", "Clubs", "Hoop", "Ribbon")
STREAMS = {
    "visual": ("{}_rgb_VST.npy", 1024, "VST (Video Swin Transformer)"),
    "audio": ("{}_audio_AST.npy", 768, "AST (Audio Spectrogram Transformer)"),
    "flow": ("{}_flow_I3D.npy", 1024, "I3D"),
}
RANGE = (0.0, 25.0)


@DATASETS.register(
    "rg",
    title="RG: rhythmic gymnastics, 200 train and 50 test videos an apparatus, the total score",
    paper="Zeng et al., Hybrid Dynamic-static Context-aware Attention Network, ACM Multimedia 2020",
    url="https://arxiv.org/abs/2008.05977",
)
def read(source: Path, unlabelled: bool = False) -> Published:
    """RG as published: one pickled feature file per modality and apparatus, two label files, anywhere under `source`.

    One store with four targets; a video is labelled for its own apparatus only, the one its name begins with.
    unlabelled: there are no label files. Raises AqaError naming a file that is missing or there twice.
    """
    source = Path(source)
    problems: list[Problem] = []
    labels: dict[str, dict[str, float]] = {apparatus: {} for apparatus in APPARATUS}
    splits: dict[str, list[str]] = {}
    for split in () if unlabelled else ("train", "test"):
        rows = read_rows(find(source, f"{split}.txt"), ("Difficulty", "Execution", "Total"), problems)
        splits[split] = [row.id for row in rows]
        for row in rows:
            apparatus, total = row.id.split("_")[0], row.scores[2]
            if apparatus not in labels:
                problems.append(Problem(row.id, "name without an apparatus", f"expected {', '.join(APPARATUS)}"))
            elif total is not None:
                labels[apparatus][row.id] = total
    streams = {name: _stream(source, *parts) for name, parts in STREAMS.items()}
    ranges = dict.fromkeys(APPARATUS, RANGE)
    return Published("rg", f"RG, published features in {source.name}", streams, labels, ranges, splits, True, problems)


def _stream(source: Path, file: str, width: int, extractor: str) -> Stream:
    # Names begin with the apparatus, so the four files have no name in common.
    samples: ChainMap[str, NDArray[Any]] = ChainMap(
        *(load_mapping(find(source, file.format(apparatus))) for apparatus in APPARATUS)
    )
    return in_memory(width, samples, extractor)
