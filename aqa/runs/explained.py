"""Why the videos of a finished run have their scores, as tables: `aqa.explain` writes them and shows them on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from aqa.config.load import load_experiment
from aqa.config.schema import Experiment
from aqa.errors import AqaError, nearest
from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.intervals import Bounds
from aqa.evaluation.scorer import Scorer
from aqa.explaining import tables
from aqa.explaining.alike import Change, expected_change
from aqa.explaining.streams import SetScores, Shown, all_sets, numbered, require_few_streams, set_scores
from aqa.features.batches import Rows
from aqa.missing import Draws, MissingPattern, parse_pattern
from aqa.missing.hiding import Nothing, Subset
from aqa.modalities import find_subset, subset_name, subsets
from aqa.models.seeds import SeedEnsemble
from aqa.runs.calibration import Calibration, calibration_in
from aqa.runs.checkpoint import load_scorer, read_checkpoint
from aqa.runs.cross_validation import is_cross_validation
from aqa.runs.evaluate import own_store, what_differs
from aqa.runs.folder import RunFolder
from aqa.runs.folds import make_folds
from aqa.runs.informing import videos_of
from aqa.runs.load import silent
from aqa.runs.prepare import calibrating_videos, labelled, split_rows, splits_of
from aqa.store.store import FeatureStore

TRAINING = "train"


@dataclass(frozen=True, eq=False)
class ExplanationTables:
    """One table for each kind of explanation, in the target's units; a table without rows says nothing of the model.

    videos: a row per video. streams: Shapley values. parts: additive parts of a process. what_if: score and interval
    under each visible set. would_change: what a stream that is not shown would change. clips: windows of clips.
    curves, weights: what the model itself says.
    """

    videos: pd.DataFrame
    streams: pd.DataFrame
    parts: pd.DataFrame
    what_if: pd.DataFrame
    would_change: pd.DataFrame
    clips: pd.DataFrame
    curves: pd.DataFrame
    weights: pd.DataFrame

    def by_name(self) -> dict[str, pd.DataFrame]:
        """The tables that have rows, by name."""
        return {each.name: table for each in fields(self) if len(table := getattr(self, each.name))}


class Explained(NamedTuple):
    """Tables, what they are of (model, target, range ...), and notes for the reader."""

    tables: ExplanationTables
    about: dict[str, Any]
    notes: list[str]


class _Reference(NamedTuple):
    """Videos that tell what a stream changes, and their scores under all sets of what may be seen of them."""

    source: str
    shown: Shown
    scores: SetScores


class _Learned(NamedTuple):
    """The mean label of a model's training videos, and videos that tell what a stream changes, the best first."""

    mean: float
    references: list[_Reference]


class Asked(NamedTuple):
    """What a user asks for: videos by id or split, what is visible, clips of a window, the intervals' level."""

    ids: Sequence[str] | None
    split: str | None
    visible: str | None
    window: int | None
    level: float


def explained(
    folder: RunFolder,
    store: Path | None,
    asked: Asked,
    beside: Sequence[RunFolder],
    device: torch.device,
    memory: float | None,
) -> Explained:
    """The tables of some videos of a run, as `aqa.explain` describes them."""
    config = load_experiment(folder.config)
    parts = _parts(folder, config, store)
    own, found, notes = own_store(folder), [], []
    with FeatureStore(own) as learned, FeatureStore(store or own) as opened:
        target = opened.targets.get(config.data.target)
        require_known_ids(opened, asked.ids)
        for part in parts:
            checkpoint = read_checkpoint(part)
            scorer = load_scorer(checkpoint, opened, device, memory)
            require_few_streams(len(scorer.features.modalities))
            if target is not None:
                notes += what_differs(part, checkpoint["target"], opened, target, asked_for=store is not None)
            part_config = load_experiment(part.config)
            rows = _rows(part_config, opened, asked, of_own_store=store is None)
            if len(rows):
                known = scorer if store is None else load_scorer(checkpoint, learned, device, memory)
                teaches = _learned(part_config, learned, known)
                labels = np.full(len(opened), np.nan) if target is None else target.values
                same = [each if part is folder else RunFolder.existing(each.path / part.path.name) for each in beside]
                others = [_scores_beside(each, checkpoint, opened, rows, asked, device, memory) for each in same]
                found.append(_one_model(scorer, rows, labels, calibration_in(checkpoint), teaches, others, asked))
    if not found:
        raise AqaError(f"{folder.path}: none of the videos asked for is tested in a fold")
    joined = [pd.concat([one[i] for one in found], ignore_index=True) for i in range(len(found[0]))]
    about = {
        "run": str(folder.path),
        "model": config.model.name,
        "target": config.data.target,
        "low": scorer.low,
        "high": scorer.high,
        "modalities": list(scorer.features.modalities),
        "level": asked.level,
        "beside": len(beside),
    }
    return Explained(ExplanationTables(*joined), about, list(dict.fromkeys(notes)))


def _parts(folder: RunFolder, config: Experiment, store: Path | None) -> list[RunFolder]:
    """The run, or the folds of a cross-validation's first repeat, each of which explains the videos that it tested."""
    if not is_cross_validation(config):
        return [folder]
    if store is not None:
        raise AqaError(
            f"{folder.path} is a cross-validation: the mean of its models is not explained; explain a fold, such "
            f"as {folder.fold(0).path} --store {store}"
        )
    folds = folder.metrics["folds"]
    return [RunFolder.existing(folder.fold(i).path) for i in range(len(folds["each"]) // int(folds["repeats"]))]


def require_known_ids(store: FeatureStore, ids: Sequence[str] | None) -> None:
    """AqaError, with the nearest one, for an id that the store does not have."""
    known = set(store.ids)
    for each in ids or ():
        if each not in known:
            raise AqaError(f"--ids: {store.path} has no video '{each}': {nearest(each, store.ids)}")


def _rows(config: Experiment, store: FeatureStore, asked: Asked, of_own_store: bool) -> Rows:
    """The videos to explain, in the order of the store.

    Those named; else those of a split, by default the labelled ones that the run tested, or all of another store.
    """
    tested: Rows | None = None
    if of_own_store and config.data.folds is not None:
        target = store.target(config.data.target)
        folds = make_folds(store, config.data.folds, target)
        assert config.data.folds.fold is not None
        tested = labelled(folds.test[config.data.folds.fold], target)
    if asked.ids is not None:
        wanted = set(asked.ids)
        rows = np.array([row for row, name in enumerate(store.ids) if name in wanted], np.int64)
        return rows if tested is None else np.intersect1d(rows, tested)
    if asked.split is not None:
        if tested is not None:
            raise AqaError(f"--split {asked.split}: a cross-validation tests every video in its fold; leave it out")
        return store.split(asked.split)
    if not of_own_store:
        return np.arange(len(store))
    return labelled(store.split("test"), store.target(config.data.target)) if tested is None else tested


def _learned(config: Experiment, store: FeatureStore, scorer: Scorer) -> _Learned:
    """What a run's own store says: videos that its model did not learn from, if it kept any, come before those it did.

    A model knows the labels of its training videos. What a stream changes in their scores is not what it changes in
    those of new ones, so the training videos, without what a fixed pattern hid of them, serve where others are too few.
    """
    target = store.target(config.data.target)
    splits, fold = splits_of(store, config, target)
    rowsets = split_rows(splits, fold, target, config, silent)
    apart, rows = calibrating_videos(splits, rowsets, target, config), rowsets.train
    modalities, available = scorer.features.modalities, scorer.features.available
    pattern = parse_pattern(config.missing.train, modalities, "missing.train")
    pattern = pattern.informed(videos_of(store, modalities, rows, target))
    shown = pattern.remaining(available[rows], Draws.once(config.train.seed, scorer.features.keys[rows]))
    references = [_Reference(TRAINING, shown, set_scores(scorer, rows, shown))]
    if len(apart.rows):
        scores = set_scores(scorer, apart.rows, available[apart.rows])
        references.insert(0, _Reference(apart.source, available[apart.rows], scores))
    return _Learned(float(target.values[rows].mean()), references)


def _pattern(visible: str | None, modalities: tuple[str, ...]) -> MissingPattern:
    """What is shown of the videos: all that they have, or at most a named subset."""
    if visible is None:
        return Nothing(modalities)
    subset = find_subset(modalities, visible)
    if subset is None:
        raise AqaError(f"--visible: unknown subset '{visible}': {nearest(visible, subsets(modalities))}")
    return Subset(modalities, subset)


def _scores_beside(
    other: RunFolder,
    mine: Mapping[str, Any],
    store: FeatureStore,
    rows: Rows,
    asked: Asked,
    device: torch.device,
    memory: float | None,
) -> Floats:
    """The scores of the same videos by another run; mine: the checkpoint of the run that is explained."""
    checkpoint = read_checkpoint(other)
    for key in ("widths", "target"):
        if checkpoint[key] != mine[key]:
            raise AqaError(f"--beside {other.path}: it has other {'streams' if key == 'widths' else 'targets'}")
    scorer = load_scorer(checkpoint, store, device, memory)
    pattern = _pattern(asked.visible, scorer.features.modalities)
    return scorer.predict(rows, {"shown": pattern})["shown"]


def _one_model(
    scorer: Scorer,
    rows: Rows,
    labels: Floats,
    calibration: Calibration,
    learned: _Learned,
    others: Sequence[Floats],
    asked: Asked,
) -> tuple[pd.DataFrame, ...]:
    """The tables of videos that one model scores, in the order of `ExplanationTables`."""
    pattern = _pattern(asked.visible, scorer.features.modalities)
    shown = scorer.visible(rows, pattern)
    scores = set_scores(scorer, rows, shown)
    bounds = [
        calibration.bounds(score, np.broadcast_to(subset, shown.shape) & shown, spread, "", asked.level)
        for subset, score, spread in zip(all_sets(shown.shape[1]), scores.scores, scores.spreads, strict=True)
    ]
    moments = tables.moments_table(scorer, rows, pattern)
    return (
        _videos(scorer, rows, shown, scores, bounds, labels[rows], others, learned.mean).merge(moments, "left", "id"),
        tables.stream_table(scorer, rows, shown, scores.scores, learned.mean),
        tables.part_table(scorer, rows, pattern),
        _what_if(scorer, rows, shown, scores.scores, bounds),
        _would_change(scorer, rows, shown, scores.scores, learned.references, asked.level),
        tables.clip_table(scorer, rows, pattern, asked.window),
        tables.curve_table(scorer, rows, pattern),
        tables.weight_table(scorer, rows, pattern),
    )


def _videos(
    scorer: Scorer,
    rows: Rows,
    shown: Shown,
    scores: SetScores,
    bounds: Sequence[Bounds],
    labels: Floats,
    others: Sequence[Floats],
    mean: float,
) -> pd.DataFrame:
    """A row for each video: what is shown of it, its score with interval, label and error, and seeds' disagreement.

    disagreement: the standard deviation over runs, where there are others, or over the seeds of one model; else NaN.
    spread: the deviation that a model itself states, NaN of models that state none.
    """
    score, (low, high) = scores.scores[-1], bounds[-1]
    of_seeds, stated = isinstance(scorer.model, SeedEnsemble), scores.spreads[-1]
    apart = np.std([score, *others], axis=0, ddof=1) if others else stated if of_seeds else np.full(len(rows), np.nan)
    return pd.DataFrame(
        {
            "id": [scorer.features.ids[row] for row in rows],
            "visible": [subset_name(scorer.features.modalities, seen) for seen in shown.tolist()],
            "score": score,
            "low": low,
            "high": high,
            "label": labels,
            "error": np.abs(score - labels),
            "width": high - low,
            "disagreement": apart,
            "spread": np.full(len(rows), np.nan) if of_seeds else stated,
            "training_mean": mean,
        }
    )


def _what_if(scorer: Scorer, rows: Rows, shown: Shown, scores: Floats, bounds: Sequence[Bounds]) -> pd.DataFrame:
    """A row for each video and each visible set that it allows, the largest first: score and interval."""
    modalities, lines = scorer.features.modalities, []
    sets = sorted(range(1, len(scores)), key=lambda number: (-bin(number).count("1"), number))
    names = {number: subset_name(modalities, subset) for number, subset in enumerate(all_sets(len(modalities)))}
    for i, row in enumerate(rows):
        for number in sets:
            if number & int(numbered(shown[i])) == number:
                ends = (bounds[number].low[i], bounds[number].high[i])
                lines.append((scorer.features.ids[row], names[number], scores[number, i], *ends))
    return pd.DataFrame(lines, columns=["id", "visible", "score", "low", "high"])


def _would_change(
    scorer: Scorer,
    rows: Rows,
    shown: Shown,
    scores: Floats,
    references: Sequence[_Reference],
    level: float,
) -> pd.DataFrame:
    """A row for each video and each stream that is not shown of it: what the stream would change in videos alike."""
    modalities, lines = scorer.features.modalities, []
    now = numbered(shown)
    for i, row in enumerate(rows):
        for m, modality in enumerate(modalities):
            if shown[i, m] or not now[i]:
                continue
            found, source = _change(references, int(now[i]), m, float(scores[-1, i]), level)
            visible = subset_name(modalities, shown[i].tolist())
            lines.append((scorer.features.ids[row], visible, modality, *found, source))
    columns = [
        "id",
        "visible",
        "stream",
        "change",
        "change_low",
        "change_high",
        "lowest",
        "highest",
        "videos",
        "source",
    ]
    return pd.DataFrame(lines, columns=columns)


def _change(references: Sequence[_Reference], now: int, stream: int, score: float, level: float) -> tuple[Change, str]:
    """The change by one more stream in videos that have all that is shown now and this stream; and which these are."""
    with_it = now | 1 << stream
    for reference in references:
        having = (numbered(reference.shown) & with_it) == with_it
        without, more = (reference.scores.scores[number][having] for number in (now, with_it))
        found = expected_change(score, without, more, level)
        if not np.isnan(found.mean):
            break
    return found, reference.source
