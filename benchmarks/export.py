"""Which models can be exported as programs of torch and ONNX, and how far their scores are from the run's own.

    python -m benchmarks.export                                  # every model; up to a minute each
    python -m benchmarks.export --models mome ridge --formats torch onnx

Each model is trained for an epoch on 24 random videos with three streams, and exported. Its file is then loaded and
compared with `aqa.load` of the run: batches of 1, 2 and 5 videos, all seven visible sets, 1 to 11 clips, with NaN after
the clips of each video. The largest difference is a share of the target's range.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import aqa
from aqa.errors import AqaError
from aqa.exporting.onnx import onnx_scores
from aqa.exporting.program import Program
from aqa.exporting.verify import Scores, random_batches
from aqa.features.given import GivenVideo
from aqa.models import MODELS
from aqa.registry import option_names
from aqa.runs.averages import finished_run
from aqa.store.store import Modality, Target

N, WIDTHS = 24, {"visual": 3, "audio": 2, "flow": 2}
SMALL = {
    **{"hidden_dim": 8, "embedding_dim": 8, "n_head": 2, "iterations": 2},
    **{"n_encoder": 1, "n_decoder": 1, "n_layer": 1, "n_temporal": 1, "n_fusion": 2},
}
EXPORTED = [name for name in MODELS.names() if name != "limssr"]  # which needs a language model
MEMBERS = {"ridge": {}, "gaussian_process": {"iterations": 2}, "mome": {"hidden_dim": 8, "n_encoder": 1, "n_head": 2}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=EXPORTED, default=EXPORTED)
    parser.add_argument("--formats", nargs="+", choices=LOADED, default=list(LOADED))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':22s} {'format':12s} {'largest difference':>20s} {'seconds':>9s}")
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "s.h5")
        for model in arguments.models:
            run = make_run(store, model, Path(folder) / model)
            for format in arguments.formats:
                begin = time.perf_counter()
                try:
                    said = f"{difference(run, format, Path(folder) / f'{model}-{format}'):20.1e}"
                except AqaError as error:
                    said = f"{str(error)[:200]:>20s}"
                print(f"{model:22s} {format:12s} {said} {time.perf_counter() - begin:9.1f}", flush=True)


def make_store(path: Path) -> Path:
    """Random videos; some lack the second stream."""
    rng = np.random.default_rng(0)
    lengths = {m: rng.integers(3, 9, N) for m in WIDTHS}
    lengths["audio"][[2, 13, 21]] = 0
    labels = rng.uniform(0, 10, N)
    aqa.write_store(
        path,
        name="random",
        source="a benchmark",
        ids=[f"v{row}" for row in range(N)],
        modalities={m: Modality(width, lengths[m]) for m, width in WIDTHS.items()},
        targets={"score": Target(labels, 0, 10)},
        splits={"train": range(14), "valid": range(14, 18), "test": range(18, N)},
        read=lambda m, row: rng.normal(size=(lengths[m][row], WIDTHS[m])) + labels[row] / 4,
    )
    return path


def make_run(store: Path, model: str, folder: Path) -> Path:
    """A run of one epoch of a small model."""
    known = option_names(MODELS.get(model).make)
    options = {name: value for name, value in SMALL.items() if name in known}
    options |= {"members": MEMBERS, "folds": 2} if model == "ensemble" else {}
    data = {"store": str(store), "target": "score", "standardize": True, "clips": 6}
    aqa.run(
        {
            "name": "x",
            "data": data,
            "model": {"name": model, **options},
            "missing": {"train": "none"},
            "train": {"epochs": 1, "batch_size": 8, "threads": 1},
            "figures": False,
            "output": str(folder),
        }
    )
    return folder


def difference(run: Path, format: str, out: Path) -> float:
    """Export a run, load what was written, and compare its scores with the run's."""
    aqa.export(run, out, format=format)
    scores, scorer, program = LOADED[format](out), aqa.load(run, device="cpu"), Program(finished_run(run))
    found = []
    for streams, lengths in random_batches(program):
        found.append(np.abs(scores(streams, lengths) - scorer.score(videos_of(streams, lengths))).max())
    return float(np.max(found)) / (program.high - program.low)


def videos_of(streams: Mapping[str, Tensor], lengths: Tensor) -> list[GivenVideo]:
    """The videos of a batch as `aqa.load` takes them: streams (T, D) without what follows their clips."""
    return [
        {m: streams[m][row, : int(n)].numpy() for m, n in zip(streams, own, strict=True) if n}
        for row, own in enumerate(lengths)
    ]


def of_safetensors(out: Path) -> Scores:
    """`aqa.load` of the folder."""
    scorer = aqa.load(out, device="cpu")
    return lambda streams, lengths: scorer.score(videos_of(streams, lengths))


def of_torch(out: Path) -> Scores:
    """The program, loaded by torch."""
    module = torch.export.load(out / "model.pt2").module()
    return lambda streams, lengths: module(streams=streams, lengths=lengths).numpy()


LOADED: dict[str, Callable[[Path], Scores]] = {
    "safetensors": of_safetensors,
    "torch": of_torch,
    "onnx": lambda out: onnx_scores(out / "model.onnx"),
}


if __name__ == "__main__":
    main()
