"""Videos that tell what a stream changes: those that a run kept from its models, else those that it learned from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aqa.config.schema import Experiment
from aqa.evaluation.scorer import Scorer
from aqa.explaining.alike import Change, expected_change
from aqa.explaining.streams import SetScores, Shown, numbered, set_scores
from aqa.missing import Draws, parse_pattern
from aqa.runs.folds import make_folds
from aqa.runs.informing import videos_of
from aqa.runs.prepare import calibrating_videos, labelled, split_rows, splits_of
from aqa.store.store import FeatureStore
from aqa.system.saying import silent

TRAINING = "train"
OUT_OF_FOLD = "the videos that the folds tested"
NONE = float("nan")


class Reference(NamedTuple):
    """Videos that tell what a stream changes, and their scores under all sets of what may be seen of them (n, M)."""

    source: str
    ids: tuple[str, ...]
    shown: Shown
    scores: SetScores


class Learned(NamedTuple):
    """The mean label of a model's training videos, and videos that tell what a stream changes, the best first."""

    mean: float
    references: list[Reference]


def training_mean(config: Experiment, store: FeatureStore) -> float:
    """The mean label of the videos that a model was trained on."""
    target = store.target(config.data.target)
    splits, fold = splits_of(store, config, target)
    return float(target.values[split_rows(splits, fold, target, config, silent).train].mean())


def learned_by(config: Experiment, store: FeatureStore, scorer: Scorer) -> Learned:
    """What a run's own store says: videos that its model did not learn from, if it kept any, come before those it did.

    A model knows the labels of its training videos. What a stream changes in their scores is not what it changes in
    those of new ones, so the training videos, without what a fixed pattern hid of them, serve where others are too few.
    """
    target = store.target(config.data.target)
    splits, fold = splits_of(store, config, target)
    rowsets = split_rows(splits, fold, target, config, silent)
    apart, rows = calibrating_videos(splits, rowsets, target, config), rowsets.train
    modalities, features = scorer.features.modalities, scorer.features
    pattern = parse_pattern(config.missing.train, modalities, "missing.train")
    pattern = pattern.informed(videos_of(store, modalities, rows, target))
    shown = pattern.remaining(features.available[rows], Draws.once(config.train.seed, features.keys[rows]))
    references = [_reference(TRAINING, scorer, rows, shown)]
    if len(apart.rows):
        references.insert(0, _reference(apart.source, scorer, apart.rows, features.available[apart.rows]))
    return Learned(float(target.values[rows].mean()), references)


def tested_in_folds(models: Iterable[tuple[Experiment, Scorer]], store: FeatureStore) -> Reference:
    """The videos of a cross-validation's first repeat, each scored by the model of the fold that tested it.

    models: of the folds, each with the experiment of its fold.
    """
    found = []
    for config, scorer in models:
        assert config.data.folds is not None
        assert config.data.folds.fold is not None
        target = store.target(config.data.target)
        rows = labelled(make_folds(store, config.data.folds, target).test[config.data.folds.fold], target)
        found.append(_reference(OUT_OF_FOLD, scorer, rows, scorer.features.available[rows]))
    ids = tuple(name for one in found for name in one.ids)
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    scores = SetScores(
        *(np.concatenate(parts, axis=1)[:, order] for parts in zip(*(f.scores for f in found), strict=True))
    )
    shown = np.concatenate([one.shown for one in found])[order]
    return Reference(OUT_OF_FOLD, tuple(ids[i] for i in order), shown, scores)


def _reference(source: str, scorer: Scorer, rows: np.ndarray, shown: Shown) -> Reference:
    return Reference(source, tuple(scorer.features.ids[row] for row in rows), shown, set_scores(scorer, rows, shown))


def mean_references(by_run: Sequence[Sequence[Reference]]) -> list[Reference]:
    """The references that all runs share, with the mean of their scores: those of the same videos, shown alike."""
    found = []
    for first in by_run[0]:
        same = [next((one for one in own if _are_alike(first, one)), None) for own in by_run]
        if all(one is not None for one in same):
            parts = zip(*(one.scores for one in same if one is not None), strict=True)
            found.append(first._replace(scores=SetScores(*(np.mean(part, axis=0) for part in parts))))
    return found


def _are_alike(one: Reference, other: Reference) -> bool:
    return (one.source, one.ids) == (other.source, other.ids) and np.array_equal(one.shown, other.shown)


def change(references: Sequence[Reference], now: int, stream: int, score: float, level: float) -> tuple[Change, str]:
    """The change by one more stream in videos that have all that is shown now and this stream; and which these are."""
    with_it = now | 1 << stream
    found, source = Change(NONE, NONE, NONE, NONE, NONE, 0), ""
    for reference in references:
        having = (numbered(reference.shown) & with_it) == with_it
        without, more = (reference.scores.scores[number][having] for number in (now, with_it))
        found, source = expected_change(score, without, more, level), reference.source
        if not np.isnan(found.mean):
            break
    return found, source
