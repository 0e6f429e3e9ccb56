"""What scoring under all seven patterns costs beside scoring under the complete one alone.

    python benchmarks/evaluation.py

A hundred videos of 124 clips with the widths of Fis-V, an MCMoE of the published size, batches of 32: the seven subsets
together, the complete pattern alone, and the seven one after the other, by turns in one process. Their ratios are the
figures to compare between versions.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from harness import ratios, spread, timed

from aqa.data.batches import Features
from aqa.data.store import FeatureStore, Modality, Target, write_store
from aqa.evaluation import Scorer
from aqa.missing import parse_test_patterns
from aqa.models.base import AQAModel
from aqa.models.mcmoe import MCMoE

WIDTHS = {"visual": 1024, "audio": 768, "flow": 1024}


class OneByOne(MCMoE):
    """MCMoE that does for each pattern all that it takes, as models do that know no better."""

    score_patterns = AQAModel.score_patterns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clips", type=int, default=124)
    parser.add_argument("--mask-padding", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)

    torch.manual_seed(0)
    options = {"mask_padding": arguments.mask_padding}
    model, plain = MCMoE(WIDTHS, **options).to(device), OneByOne(WIDTHS, **options).to(device)
    plain.load_state_dict(model.state_dict())
    videos = features(arguments.videos, arguments.clips, device)
    scorer = Scorer(model, videos, low=0, high=1, clips=arguments.clips, batch_size=arguments.batch, seed=0)
    rows, patterns = np.arange(arguments.videos), parse_test_patterns("all_subsets", tuple(WIDTHS), "patterns")
    complete = {name: patterns[name] for name in ("VAF",)}
    ways = {
        "complete": lambda: scorer.predict(rows, complete),
        "together": lambda: scorer.predict(rows, patterns),
        "apart": lambda: replace(scorer, model=plain).predict(rows, patterns),
    }

    together, apart = ways["together"](), ways["apart"]()
    difference = max(np.abs(together[name] - apart[name]).max() for name in patterns)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way, work in ways.items():
            times[way].append(timed(work, device))

    print(f"device {device}, threads {torch.get_num_threads()}, torch {torch.__version__}")
    print(f"complete pattern alone    {spread(times['complete'])} s")
    print(f"seven patterns            {spread(times['together'])} s")
    print(f"seven / complete          {spread(ratios(times['together'], times['complete']))}")
    print(f"one by one / seven        {spread(ratios(times['apart'], times['together']))}")
    print(f"largest difference        {difference:.1e} of the range of scores")
    print(f"peak memory               {peak_memory(device) / 2**30:.2f} GiB")


def features(videos: int, clips: int, device: torch.device) -> Features:
    """Random features of videos that have every stream in full."""
    with tempfile.TemporaryDirectory() as folder:
        path, generator = Path(folder) / "random.h5", np.random.default_rng(0)
        write_store(
            path,
            name="random",
            source="",
            ids=[f"video {i}" for i in range(videos)],
            modalities={m: Modality(width, np.full(videos, clips)) for m, width in WIDTHS.items()},
            targets={"score": Target(np.zeros(videos), 0, 1)},
            splits={},
            read=lambda m, row: generator.standard_normal((clips, WIDTHS[m]), np.float32),
        )
        with FeatureStore(path) as store:
            return Features(store, device=device)


def peak_memory(device: torch.device) -> int:
    """Bytes: of the device where it counts them, of the whole process otherwise."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
