"""What models learned from beside the labels of the training split: more than others, so that it must be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aqa.reporting.collect import ModelRuns


def learned_text(metrics: Mapping[str, Any]) -> str:
    """What a run learned from, in words; "" of one that learned from its target's labels in `train` alone."""
    splits, others = metrics.get("learned_from"), metrics.get("learned_also")
    found = [f"learned from {' and '.join(splits)}, not from train alone"] if splits else []
    if others:
        found.append(f"learned from {others} other label{'s' * (others != 1)} of the training videos too")
    return "; ".join(found)


def learned_of(own: ModelRuns) -> str:
    """The same of all seeds of a model; where they differ, each with how many seeds it is true of."""
    texts = [learned_text(run.metrics) for run in own.runs.values()]
    return "; ".join(
        text if texts.count(text) == len(texts) else f"{text} ({texts.count(text)} of {len(texts)} seeds)"
        for text in dict.fromkeys(texts)
        if text
    )
