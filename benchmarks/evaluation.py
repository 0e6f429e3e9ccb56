"""What scoring under all seven patterns costs beside scoring under the complete one alone.

    python -m benchmarks.evaluation

A hundred videos of 124 clips with the widths of Fis-V, an MCMoE of the published size, batches of 32: the seven subsets
together, the complete pattern alone, and the seven one after the other, in turn in one process. Their ratios are the
figures to compare between versions.
"""

from __future__ import annotations

import resource
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Features
from aqa.missing import parse_test_patterns
from aqa.models.base import AQAModel
from aqa.models.mcmoe import MCMoE
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store
from benchmarks.harness import Report, Work, by_turns, options, parsed, ratios

WIDTHS = {"visual": 1024, "audio": 768, "flow": 1024}


class OneByOne(MCMoE):
    """MCMoE that does for each pattern all that it takes, as models do that know no better."""

    score_patterns = AQAModel.score_one_by_one


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clips", type=int, default=124)
    parser.add_argument("--mask-padding", action="store_true")
    arguments, device = parsed(parser)
    report = Report("evaluation", arguments, device)

    torch.manual_seed(0)
    masking = {"mask_padding": arguments.mask_padding}
    model, plain = MCMoE(WIDTHS, **masking).to(device), OneByOne(WIDTHS, **masking).to(device)
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
    seconds = by_turns({way: Work(work) for way, work in ways.items()}, arguments.repeats, device)
    report.add("complete pattern alone", seconds["complete"], "s")
    report.add("seven patterns", seconds["together"], "s")
    report.add("one by one", seconds["apart"], "s")
    report.add("seven / complete", ratios(seconds["together"], seconds["complete"]))
    report.add("one by one / seven", ratios(seconds["apart"], seconds["together"]))
    report.value("largest difference, of the range of scores", float(difference))
    report.value("peak memory", peak_memory(device) / 2**30, "GiB")
    report.write()


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
