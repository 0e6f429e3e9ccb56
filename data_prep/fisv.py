"""Fis-V: 500 short programmes of ladies' figure skating, scored TES and PCS."""

from __future__ import annotations

from pathlib import Path

from aqa.data_prep import DATASETS

from .convert import Problem, Published, in_memory
from .files import find
from .labels import read_rows
from .npy import load_mapping

# File, width and extractor of each modality; rg.py has the same layout, one file an apparatus.
STREAMS = {
    "visual": ("FISV_rgb_VST.npy", 1024, "VST (Video Swin Transformer)"),
    "audio": ("FISV_audio_AST.npy", 768, "AST (Audio Spectrogram Transformer)"),
    "flow": ("FISV_flow_I3D.npy", 1024, "I3D"),
}
RANGES = {"TES": (0.0, 45.0), "PCS": (0.0, 40.0)}
LABELS = {"train": ("train.txt", "train_dataset.txt"), "test": ("test.txt", "test_dataset.txt")}


@DATASETS.register(
    "fisv",
    title="Fis-V: figure skating, 400 train and 100 test videos, TES and PCS",
    paper="Xu et al., Learning to Score Figure Skating Sport Videos, IEEE TCSVT 2020",
    url="https://arxiv.org/abs/1802.02774",
)
def read(source: Path, unlabelled: bool = False) -> Published:
    """Fis-V as published: three pickled feature files and two label files, at any depth under `source`.

    Labels are those published with the features (a header, then ``id TES PCS``) or the original annotation
    (``train_dataset.txt``, no header, deductions in a fourth column, which are not used). unlabelled: there are no
    label files. Raises AqaError naming a file that is missing or there twice.
    """
    source = Path(source)
    problems: list[Problem] = []
    labels: dict[str, dict[str, float]] = {target: {} for target in RANGES}
    splits: dict[str, list[str]] = {}
    for split, names in {} if unlabelled else LABELS.items():
        rows = read_rows(find(source, *names), ("TES", "PCS", "deductions"), problems, optional=1)
        splits[split] = [row.id for row in rows]
        for row in rows:
            for target, score in zip(RANGES, row.scores, strict=False):
                if score is not None:
                    labels[target][row.id] = score
    streams = {}
    for modality, (file, width, extractor) in STREAMS.items():
        streams[modality] = in_memory(width, load_mapping(find(source, file)), extractor)
    return Published(
        "fisv", f"Fis-V, published features in {source.name}", streams, labels, RANGES, splits, True, problems
    )
