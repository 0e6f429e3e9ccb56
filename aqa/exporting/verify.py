"""Whether an exported program gives the scores of its run: asked before the file is given its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError
from aqa.exporting.program import Program
from aqa.modalities import subsets

TOLERANCE = 1e-5  # of the range of the target
ROWS = (1, 2, 5)
CLIPS_AT_MOST = 12  # clips

Scores = Callable[[Mapping[str, Tensor], Tensor], NDArray[np.float64]]


def random_batches(program: Program, seed: int = 0) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Batches of several sizes under each visible set: streams of random lengths with NaN after them, and lengths."""
    generator = np.random.default_rng(seed)
    made = []
    for rows in ROWS:
        for subset in subsets(tuple(program.widths)).values():
            lengths = generator.integers(1, CLIPS_AT_MOST, (rows, len(subset))) * np.array(subset)
            streams = {}
            for i, (m, width) in enumerate(program.widths.items()):
                clips = generator.normal(size=(rows, max(int(lengths[:, i].max()), 1), width)).astype(np.float32)
                clips[np.arange(clips.shape[1]) >= lengths[:, i, None]] = np.nan
                streams[m] = torch.from_numpy(clips)
            made.append((streams, torch.from_numpy(lengths)))
    return made


def largest_difference(program: Program, scores: Scores) -> float:
    """The largest difference of scores from the run's own model, as a share of the target's range; NaN if one is."""
    found = []
    for streams, lengths in random_batches(program):
        with torch.inference_mode():
            own = program(streams, lengths).numpy()
        found.append(np.abs(scores(streams, lengths) - own).max())
    return float(np.max(found)) / (program.high - program.low)


def require_equal(program: Program, scores: Scores, what: str) -> float:
    """The largest difference; AqaError where it is more than `TOLERANCE`, or a score is none."""
    found = largest_difference(program, scores)
    if not found <= TOLERANCE:
        raise AqaError(f"{what} does not give the scores of the run (they differ by {found:.2g} of the target's range)")
    return found
