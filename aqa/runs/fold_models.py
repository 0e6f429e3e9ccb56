"""Scoring with the models of all folds: their mean for new videos, each its own for the videos that it tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from aqa.config.schema import Experiment
from aqa.evaluation.cross_validation import HeldOut
from aqa.evaluation.scorer import Predictions
from aqa.features.batches import Features, Rows
from aqa.missing import MissingPattern, parse_test_patterns
from aqa.runs.checkpoint import load_scorer, read_checkpoint
from aqa.runs.cross_validation import pooled_summary
from aqa.runs.folder import RunFolder
from aqa.runs.folds import make_folds
from aqa.runs.informing import informed, videos_of
from aqa.runs.prepare import labelled
from aqa.store.store import FeatureStore

ABOUT_FOLDS = ("description", "count", "repeats", "group", "groups")  # of metrics.json


def checkpoints_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The checkpoints that score for a finished run: those of all folds of a cross-validation, else its own."""
    folds = folder.metrics.get("folds")
    runs = [folder] if folds is None else [RunFolder.existing(folder.fold(n).path) for n in range(len(folds["each"]))]
    return [read_checkpoint(run) for run in runs]


def mean_scores(
    checkpoints: Sequence[Mapping[str, Any]],
    store: FeatureStore,
    rows: Rows,
    patterns: Mapping[str, MissingPattern],
    device: torch.device,
    memory: float | None,
) -> tuple[Predictions, Features]:
    """Scores by pattern (n,), the mean over the models; and the features, as the last of them takes them."""
    found: list[Predictions] = []
    for checkpoint in checkpoints:
        scorer = load_scorer(checkpoint, store, device, memory)
        found.append(scorer.predict(rows, patterns))
    if len(found) == 1:
        return found[0], scorer.features
    return {name: np.mean([one[name] for one in found], axis=0) for name in patterns}, scorer.features


def evaluate_folds(
    folder: RunFolder,
    config: Experiment,
    store: FeatureStore,
    patterns: Any,
    further: Sequence[str],
    intervals: bool,
    device: torch.device,
    memory: float | None,
) -> dict[str, Any]:
    """Each fold's test videos scored again by its own model; the metrics of all, as in metrics.json.

    patterns: as `missing.test`; further, intervals: as in `pooled_summary`.
    """
    assert config.data.folds is not None
    target = store.target(config.data.target)
    folds = make_folds(store, config.data.folds, target)
    rows = labelled(folds.taking_part, target)
    numbers = np.full((folds.repeats, len(rows)), -1, dtype=np.int64)
    predictions: Predictions = {}
    chosen: dict[str, MissingPattern] = {}
    for number, checkpoint in enumerate(checkpoints_of(folder)):
        scorer = load_scorer(checkpoint, store, device, memory)
        chosen = parse_test_patterns(patterns, scorer.features.modalities, "patterns")
        own = labelled(folds.test[number], target)
        place = folds.repeat(number), np.searchsorted(rows, own)
        numbers[place] = number
        known = informed(chosen, videos_of(store, scorer.features.modalities, own, target))
        for name, scores in scorer.predict(own, known).items():
            predictions.setdefault(name, np.full(numbers.shape, np.nan))[place] = scores
    labels = None if folds.labels is None else [folds.labels[row] for row in rows]
    tested = HeldOut(target.values[rows], numbers, labels)
    about = {key: folder.metrics["folds"][key] for key in ABOUT_FOLDS}
    found = pooled_summary(predictions, tested, chosen, target, config.train.seed, further, intervals)
    return {**found, "folds": about}
