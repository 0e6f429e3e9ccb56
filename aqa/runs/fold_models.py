"""Scoring with the models of all folds: their mean for new videos, each its own for the videos that it tested."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from aqa.config.schema import Experiment
from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.cross_validation import HeldOut
from aqa.evaluation.intervals import RELIABILITY_LEVELS, Bounds, Residuals, cross_validated, within
from aqa.evaluation.scorer import Predictions, Scorer, own_key
from aqa.features.batches import Features, Rows
from aqa.missing import MissingPattern, parse_test_patterns
from aqa.runs.calibration import (
    OLDER,
    Calibration,
    Key,
    ScoredPatterns,
    add_intervals,
    add_pooled_intervals,
    calibration_in,
    distinct_sets,
    held_out_in,
)
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


@dataclass(frozen=True, eq=False)
class Tested:
    """What CV+ intervals are made from: residuals of the videos that each fold of the first repeat tested."""

    folds: tuple[Mapping[Key, Residuals], ...]

    def summary(self, level: float, modalities: Sequence[str]) -> dict[str, Any]:
        """What metrics.json says of CV+ intervals."""
        counts = [sum(len(one[key].residuals) for one in self.folds if key in one) for key in self.folds[0]]
        return {
            "level": level,
            "calibrated_on": ["the videos that the folds tested (CV+)"],
            "videos": [min(counts, default=0), max(counts, default=0)],
            "selected_on_them": False,
            "normalized": [],
        }


Basis = Calibration | Tested  # what the intervals of a run's scores are made from


def basis_of(folder: RunFolder, checkpoints: Sequence[Mapping[str, Any]]) -> Basis:
    """What the intervals of a finished run are made from."""
    folds = folder.metrics.get("folds")
    if folds is None:
        return calibration_in(checkpoints[0])
    modalities = len(checkpoints[0]["widths"])
    in_folds = [held_out_in(folder.fold(number), modalities) for number in range(folds["count"])]
    tested = [residuals for residuals in in_folds if residuals is not None]
    return Tested(tuple(tested)) if len(tested) == len(in_folds) else Calibration(why_none=OLDER)


class MeanScores(NamedTuple):
    """What some models say of some videos, by pattern (n,): the mean score, its interval, its deviation.

    bounds: intervals at several levels. spreads: the model's own deviations, where there is one model and it states
    them. about: the intervals, as metrics.json has it. features: as the last of the models takes them.
    """

    scores: Predictions
    bounds: dict[float, dict[str, Bounds]]
    spreads: Predictions
    about: dict[str, Any]
    features: Features


def scored(scorer: Scorer, rows: Rows, patterns: Mapping[str, MissingPattern]) -> ScoredPatterns:
    """What a model says of some rows."""
    said = scorer.predict_and_diagnose(rows, patterns)
    return ScoredPatterns(scorer, rows, patterns, said.predictions, said.spreads)


def mean_scores(
    found: Sequence[ScoredPatterns], basis: Basis, level: float, levels: Collection[float] = ()
) -> MeanScores:
    """The mean of what models said of the same rows, and its intervals at `level` and `levels`."""
    first = found[0]
    scores = {name: np.mean([one.scores[name] for one in found], axis=0) for name in first.patterns}
    whole = first if len(found) == 1 else ScoredPatterns(first.scorer, first.rows, first.patterns, scores, {})
    bounds: dict[float, dict[str, Bounds]] = {}
    for each in {*levels, level}:
        if isinstance(basis, Tested):
            bounds[each] = {name: fold_bounds(found, basis.folds, name, scores[name], each) for name in scores}
        else:
            bounds[each] = whole.bounds(basis, each)
    about = basis.summary(level, first.scorer.features.modalities)
    return MeanScores(scores, bounds, whole.spreads, about, found[-1].scorer.features)


def fold_bounds(
    found: Sequence[ScoredPatterns],
    tested: Sequence[Mapping[Key, Residuals]],
    name: str,
    scores: Floats,
    level: float,
) -> Bounds:
    """CV+ intervals under a pattern (n,), of what each fold's model scored and of the videos that it tested.

    scores: the mean of the folds' models, which an interval is made to hold. A pattern that has to be calibrated by
    itself has unbounded ones.
    """
    scorer, pattern = found[0].scorer, found[0].patterns[name]
    visible = scorer.visible(found[0].rows, pattern)
    low, high = np.full((2, len(scores)), np.nan)
    scored = ~np.isnan(scores)
    for subset in distinct_sets(visible[scored]):
        rows = scored & (visible == subset).all(axis=1)
        key, nothing = (own_key(pattern), subset), Residuals(np.zeros(0))
        parts = [residuals.get(key, nothing).residuals for residuals in tested]
        numbers = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        by_fold = np.stack([one.scores[name][rows] for one in found[: len(parts)]])
        bounds = cross_validated(by_fold[numbers], np.concatenate(parts), level)
        low[rows], high[rows] = np.minimum(bounds.low, scores[rows]), np.maximum(bounds.high, scores[rows])
    return within(Bounds(low, high), scorer.low, scorer.high)


def evaluate_folds(
    folder: RunFolder,
    config: Experiment,
    store: FeatureStore,
    patterns: Any,
    further: Sequence[str],
    intervals: bool,
    device: torch.device,
    memory: float | None,
    level: float,
) -> dict[str, Any]:
    """Each fold's test videos scored again by its own model; the metrics of all, as in metrics.json.

    patterns: as `missing.test`; further, intervals: as in `pooled_summary`; level: of the intervals of scores, which
    each fold has from the videos that it calibrates on.
    """
    assert config.data.folds is not None
    target = store.target(config.data.target)
    folds = make_folds(store, config.data.folds, target)
    rows = labelled(folds.taking_part, target)
    numbers = np.full((folds.repeats, len(rows)), -1, dtype=np.int64)
    predictions: Predictions = {}
    by_fold: list[dict[str, Any]] = []
    chosen: dict[str, MissingPattern] = {}
    for number, checkpoint in enumerate(checkpoints_of(folder)):
        scorer = load_scorer(checkpoint, store, device, memory)
        chosen = parse_test_patterns(patterns, scorer.features.modalities, "patterns")
        own = labelled(folds.test[number], target)
        place = folds.repeat(number), np.searchsorted(rows, own)
        numbers[place] = number
        known = informed(chosen, videos_of(store, scorer.features.modalities, own, target))
        said = scorer.predict_and_diagnose(own, known)
        for name, scores in said.predictions.items():
            predictions.setdefault(name, np.full(numbers.shape, np.nan))[place] = scores
        calibration, truth = calibration_in(checkpoint), target.values[own]
        fold = ScoredPatterns(scorer, own, known, said.predictions, said.spreads)
        bounds = {each: fold.bounds(calibration, each) for each in {*RELIABILITY_LEVELS, level}}
        about = calibration.summary(level, scorer.features.modalities)
        by_fold.append(add_intervals({"patterns": {name: {} for name in known}}, truth, bounds, about))
    labels = None if folds.labels is None else [folds.labels[row] for row in rows]
    tested = HeldOut(target.values[rows], numbers, labels)
    about_folds = {key: folder.metrics["folds"][key] for key in ABOUT_FOLDS}
    found = pooled_summary(predictions, tested, chosen, target, config.train.seed, further, intervals)
    return {**add_pooled_intervals(found, by_fold, folds.repeats), "folds": about_folds}
