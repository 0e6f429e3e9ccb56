"""A finished run as one module: raw streams and their lengths in, scores in the target's units out.

`torch.export` takes it with any number of videos and clips. While it is traced, models work on all rows of a batch and
mask those that do not count, and a Gaussian process works on all of its visible sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aqa.errors import AqaError, first_line
from aqa.exporting.windows import StreamWindow
from aqa.modalities import subsets
from aqa.models import AQAModel
from aqa.runs.averages import ScoringRun
from aqa.runs.checkpoint import load_model


class Member(nn.Module):
    """One model with its window: streams and lengths -> scores in [0, 1], (B,)."""

    def __init__(self, checkpoint: Mapping[str, Any], model: AQAModel, seconds: Mapping[str, float]):
        super().__init__()
        self.window, self.model = StreamWindow(checkpoint, seconds), model

    def forward(self, streams: Mapping[str, Tensor], lengths: Tensor) -> Tensor:
        windows, kept = self.window(streams, lengths)
        return self.model.score(windows, lengths > 0, dict(zip(windows, kept.unbind(dim=1), strict=True)))


class Program(nn.Module):
    """The mean of a run's models: streams (B, T, D) by name, lengths (B, M) -> scores (B,) in the target's units.

    Column i of `lengths` is of the i-th stream: how many of its clips are real, 0 where a video lacks it. What comes
    after them is not looked at. NaN for a video without any stream.
    """

    def __init__(self, run: ScoringRun, rate: Mapping[str, float] | None = None):
        super().__init__()
        seconds = {**run.checkpoints[0].get("clip_seconds", {}), **{m: 1 / r for m, r in (rate or {}).items()}}
        cpu = torch.device("cpu")
        self.members = nn.ModuleList(Member(each, load_model(each, cpu), seconds) for each in run.checkpoints)
        self.low, self.high = run.target["low"], run.target["high"]
        self.widths = dict(run.widths)
        self.requires_grad_(False).eval()

    def forward(self, streams: Mapping[str, Tensor], lengths: Tensor) -> Tensor:
        scores = [self.low + (self.high - self.low) * member(streams, lengths).double() for member in self.members]
        mean = torch.stack(scores).mean(dim=0)
        return torch.where((lengths > 0).any(dim=1), mean, torch.nan)

    def example(self, rows: int = 5, clips: int = 11) -> dict[str, Any]:
        """Inputs by name, of some rows and clips."""
        streams = {m: torch.zeros(rows, clips + i, width) for i, (m, width) in enumerate(self.widths.items())}
        lengths = torch.tensor([clips + i for i in range(len(self.widths))]).repeat(rows, 1)
        return {"streams": streams, "lengths": lengths}

    def dynamic(self) -> dict[str, Any]:
        """Which sizes of the inputs are any: videos and, by stream, clips."""
        rows = torch.export.Dim("videos", min=1)
        own = {m: torch.export.Dim(f"clips{i}", min=1) for i, m in enumerate(self.widths)}
        return {"streams": {m: {0: rows, 1: clips} for m, clips in own.items()}, "lengths": {0: rows}}


def exported_program(program: Program) -> torch.export.ExportedProgram:
    """The program as `torch.export` traces it; AqaError for a model that cannot be traced."""
    for model in (each for each in program.modules() if isinstance(each, AQAModel)):
        if model.numbers_rows:
            raise AqaError("a model whose scores depend on the place in the batch cannot be exported as a program")
        if model.why_no_program:
            raise AqaError(f"this model cannot be exported as a program: it {model.why_no_program}; use safetensors")
    example = program.example()
    with torch.inference_mode():
        for subset in subsets(tuple(program.widths)).values():  # a process fits what is not fitted yet
            program(example["streams"], example["lengths"] * torch.tensor(subset))
    try:
        with torch.no_grad():
            return torch.export.export(program, (), kwargs=example, dynamic_shapes=program.dynamic(), strict=False)
    except Exception as error:  # of torch's tracer, of many kinds
        raise AqaError(f"this model cannot be traced by torch.export: {first_line(error)}") from error
