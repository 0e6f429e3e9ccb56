"""Why the videos of finished runs have their scores, as tables: `aqa.explain` writes them and shows them on a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from aqa.config.load import load_experiment
from aqa.config.schema import Experiment
from aqa.data_prep.words import nearest_of_many
from aqa.errors import AqaError, nearest
from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.scorer import Scorer
from aqa.explaining import tables
from aqa.explaining.averaging import mean_tables, run_shares
from aqa.explaining.streams import Shown, all_sets, numbered, require_few_streams, set_scores
from aqa.features.batches import Rows
from aqa.missing import MissingPattern
from aqa.missing.hiding import Nothing, Subset
from aqa.modalities import find_subset, subset_name, subsets
from aqa.models.seeds import SeedEnsemble
from aqa.runs.averages import ScoringRun, finished_run, mean_of_scored, require_alike
from aqa.runs.calibration import ScoredPatterns
from aqa.runs.checkpoint import load_scorer
from aqa.runs.cross_validation import is_cross_validation
from aqa.runs.evaluate import own_store, what_differs
from aqa.runs.fold_models import MeanScores
from aqa.runs.folder import RunFolder
from aqa.runs.folds import make_folds
from aqa.runs.prepare import labelled
from aqa.runs.references import Learned, Reference, change, learned_by, mean_references, tested_in_folds, training_mean
from aqa.store.store import FeatureStore

VIDEO_COLUMNS = (
    *("id", "visible", "score", "low", "high", "label", "error", "width", "disagreement", "spread"),
    "training_mean",
)


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


class Asked(NamedTuple):
    """What a user asks for: videos by id or split, what is visible, clips of a window, the intervals' level."""

    ids: Sequence[str] | None
    split: str | None
    visible: str | None
    window: int | None
    level: float


class _Where(NamedTuple):
    """The videos to explain: their store, whether it is the runs' own, and where and within what memory to score."""

    store: FeatureStore
    is_own: bool
    device: torch.device
    memory: float | None


class _Said(NamedTuple):
    """What one model says of some videos: scores under all visible sets, what it learned from, tables by kind."""

    scored: ScoredPatterns
    learned: Learned
    tables: dict[str, pd.DataFrame]


def explained(
    runs: Sequence[RunFolder],
    store: Path | None,
    asked: Asked,
    beside: Sequence[RunFolder],
    device: torch.device,
    memory: float | None,
) -> Explained:
    """The tables of some videos of a run, or of the mean of several, as `aqa.explain` describes them."""
    own = own_store(runs[0])
    _require_one_store(runs, own, store)
    groups = _scored_together(runs, store)
    others = _scored_together(beside, store) if beside else [[] for _ in groups]
    found, notes = [], []
    with FeatureStore(store or own) as opened:
        require_known_ids(opened, asked.ids)
        where = _Where(opened, store is None, device, memory)
        for group, near in zip(groups, others, strict=True):
            require_alike(group)
            rows = _common_rows(group, where, asked)
            notes += [note for run in group for note in _differences(run, where)]
            if len(rows):
                parts, said = _explain_mean(group, near, rows, where, asked)
                found.append(parts)
                notes += said
    if not found:
        raise AqaError(f"{runs[0].path}: none of the videos asked for is tested in a fold")
    joined = [pd.concat([one[i] for one in found], ignore_index=True) for i in range(len(found[0]))]
    return Explained(ExplanationTables(*joined), _about(runs, groups[0][0], asked, beside), list(dict.fromkeys(notes)))


def _about(runs: Sequence[RunFolder], first: ScoringRun, asked: Asked, beside: Sequence[RunFolder]) -> dict[str, Any]:
    paths = [str(run.path) for run in runs]
    return {
        "run": paths[0] if len(paths) == 1 else f"the mean of {len(paths)} runs ({', '.join(paths)})",
        "model": " and ".join(dict.fromkeys(load_experiment(run.config).model.name for run in runs)),
        **{key: first.target[key] for key in ("low", "high")},
        "target": first.target["name"],
        "modalities": list(first.widths),
        "level": asked.level,
        "beside": len(beside),
    }


# -- which models, and which videos


def _require_one_store(runs: Sequence[RunFolder], own: Path, store: Path | None) -> None:
    """AqaError where several runs are to explain what they tested, and were not made from the same videos."""
    for run in runs[1:] if store is None else ():
        known, other = (each.origin.fingerprint for each in (runs[0], run))
        if known != other or (known is None and own_store(run).resolve() != own.resolve()):
            raise AqaError(f"{runs[0].path} and {run.path} were made from different stores; say which with --store")


def _scored_together(runs: Sequence[RunFolder], store: Path | None) -> list[list[ScoringRun]]:
    """The runs whose mean is explained; or those of each fold, where cross-validations explain what they tested."""
    kinds = [is_cross_validation(load_experiment(run.config)) for run in runs]
    if store is not None or not any(kinds):
        return [[finished_run(run.path) for run in runs]]
    if not all(kinds):
        one, other = runs[kinds.index(True)].path, runs[kinds.index(False)].path
        raise AqaError(f"{one} is a cross-validation and {other} is not: only new videos (--store) have their mean")
    counts = [len(run.metrics["folds"]["each"]) // int(run.metrics["folds"]["repeats"]) for run in runs]
    if len(set(counts)) > 1:
        raise AqaError(f"{runs[0].path} and others have {counts} folds: only new videos (--store) have their mean")
    return [[finished_run(run.fold(i).path) for run in runs] for i in range(counts[0])]


def _folders(run: ScoringRun) -> list[RunFolder]:
    """The folder of each model of a run."""
    folder = RunFolder(run.place)
    return [folder] if len(run.checkpoints) == 1 else [folder.fold(number) for number in range(len(run.checkpoints))]


def require_known_ids(store: FeatureStore, ids: Sequence[str] | None) -> None:
    """AqaError, with the nearest one, for an id that the store does not have."""
    known = set(store.ids)
    for each in ids or ():
        if each not in known:
            raise AqaError(f"--ids: {store.path} has no video '{each}': {nearest_of_many(each, store.ids)}")


def _common_rows(group: Sequence[ScoringRun], where: _Where, asked: Asked) -> Rows:
    """The videos to explain; AqaError where the runs tested different ones."""
    rows = [_rows(load_experiment(RunFolder(run.place).config), where, asked) for run in group]
    for run, own in zip(group, rows, strict=True):
        if not np.array_equal(own, rows[0]):
            raise AqaError(
                f"{group[0].place} and {run.place} tested different videos: only new ones (--store) have their mean"
            )
    return rows[0]


def _rows(config: Experiment, where: _Where, asked: Asked) -> Rows:
    """The videos to explain, in the order of the store.

    Those named; else those of a split, by default the labelled ones that the run tested, or all of another store.
    """
    store = where.store
    tested: Rows | None = None
    if where.is_own and config.data.folds is not None:
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
    if not where.is_own:
        return np.arange(len(store))
    return labelled(store.split("test"), store.target(config.data.target)) if tested is None else tested


def _differences(run: ScoringRun, where: _Where) -> list[str]:
    """What a user should know where the store is not what the run was trained on."""
    require_few_streams(len(run.widths))
    target = where.store.targets.get(run.target["name"])
    if target is None:
        return []
    return what_differs(RunFolder(run.place), run.target, where.store, target, asked_for=not where.is_own)


def _pattern(visible: str | None, modalities: tuple[str, ...]) -> MissingPattern:
    """What is shown of the videos: all that they have, or at most a named subset."""
    if visible is None:
        return Nothing(modalities)
    subset = find_subset(modalities, visible)
    if subset is None:
        raise AqaError(f"--visible: unknown subset '{visible}': {nearest(visible, subsets(modalities))}")
    return Subset(modalities, subset)


# -- what models say, and its mean


def _explain_mean(
    group: Sequence[ScoringRun], near: Sequence[ScoringRun], rows: Rows, where: _Where, asked: Asked
) -> tuple[tuple[pd.DataFrame, ...], list[str]]:
    """The tables of videos that runs score on average, in the order of `ExplanationTables`, and notes."""
    by_run = [_said_by_run(run, rows, where, asked) for run in group]
    each = [said for own in by_run for said in own]
    said = mean_of_scored(group, [[one.scored for one in own] for own in by_run], asked.level)
    weights = run_shares([len(own) for own in by_run])
    means, unlike = mean_tables([one.tables for one in each], weights)
    notes = [f"no mean of {', '.join(unlike)}: the models do not have the same ones"] if unlike else []
    if "why_none" in said.about:
        notes.append(f"no intervals: {said.about['why_none']}")
    references = mean_references([own[0].learned.references for own in by_run])
    if not references:
        notes.append("what a stream would change is not known: the runs kept different videos apart")
    scorer, mean = each[0].scored.scorer, float(np.dot(weights, [one.learned.mean for one in each]))
    shown = scorer.visible(rows, _pattern(asked.visible, scorer.features.modalities))
    videos = _videos(scorer, rows, shown, said, asked.level, mean, _labels(group[0], rows, where))
    videos["disagreement"] = _disagreement(by_run, near, rows, where, asked)
    videos["spread"] = _stated(each)
    return (
        pd.DataFrame(videos)[list(VIDEO_COLUMNS)].merge(means["moments"], "left", "id"),
        means["streams"],
        means["parts"],
        _what_if(scorer, rows, shown, said, asked.level),
        _would_change(scorer, rows, shown, said, references, asked.level),
        *(means[name] for name in ("clips", "curves", "weights")),
    ), notes


def _labels(run: ScoringRun, rows: Rows, where: _Where) -> Floats:
    target = where.store.targets.get(run.target["name"])
    return np.full(len(rows), np.nan) if target is None else target.values[rows]


def _said_by_run(run: ScoringRun, rows: Rows, where: _Where, asked: Asked) -> list[_Said]:
    """What each model of a run says."""
    configs = [load_experiment(folder.config) for folder in _folders(run)]
    with ExitStack() as stack:
        own = where.store if where.is_own else stack.enter_context(FeatureStore(own_store(RunFolder(run.place))))
        if len(configs) == 1:
            scorer = load_scorer(run.checkpoints[0], where.store, where.device, where.memory)
            known = scorer if where.is_own else load_scorer(run.checkpoints[0], own, where.device, where.memory)
            return [_said(scorer, rows, learned_by(configs[0], own, known), asked)]
        repeat = len(configs) // int(RunFolder(run.place).metrics["folds"]["repeats"])
        first = zip(configs[:repeat], _scorers(run, own, where), strict=False)
        references = [tested_in_folds(first, own)]
        learned = [Learned(training_mean(config, own), references) for config in configs]
    return [
        _said(scorer, rows, known, asked)
        for scorer, known in zip(_scorers(run, where.store, where), learned, strict=True)
    ]


def _scorers(run: ScoringRun, store: FeatureStore, where: _Where) -> Iterator[Scorer]:
    """The models of a run with a store's videos, one after another."""
    for checkpoint in run.checkpoints:
        yield load_scorer(checkpoint, store, where.device, where.memory)


def _said(scorer: Scorer, rows: Rows, learned: Learned, asked: Asked) -> _Said:
    """What one model says of some videos."""
    modalities = scorer.features.modalities
    pattern = _pattern(asked.visible, modalities)
    shown = scorer.visible(rows, pattern)
    found = set_scores(scorer, rows, shown)
    allowed = np.array(pattern.subset if isinstance(pattern, Subset) else [True] * len(modalities))
    names = {number: str(number) for number in range(1, 1 << len(modalities))}
    sets = all_sets(len(modalities))
    scored = ScoredPatterns(
        scorer,
        rows,
        {name: Subset(modalities, sets[number] & allowed) for number, name in names.items()},
        {name: found.scores[number] for number, name in names.items()},
        {name: found.spreads[number] for number, name in names.items()},
    )
    by_kind = {
        "streams": tables.stream_table(scorer, rows, shown, found.scores, learned.mean),
        "parts": tables.part_table(scorer, rows, pattern),
        "clips": tables.clip_table(scorer, rows, pattern, asked.window),
        "curves": tables.curve_table(scorer, rows, pattern),
        "weights": tables.weight_table(scorer, rows, pattern),
        "moments": tables.moments_table(scorer, rows, pattern),
    }
    return _Said(scored, learned, by_kind)


def _disagreement(
    by_run: Sequence[Sequence[_Said]], near: Sequence[ScoringRun], rows: Rows, where: _Where, asked: Asked
) -> Floats:
    """The standard deviation of the scores over runs, or else over the models of one: those of folds, or its seeds."""
    whole = _whole(by_run[0][0].scored.scorer)
    by_model = [[said.scored.scores[whole] for said in own] for own in by_run]
    several = [np.mean(own, axis=0) for own in by_model]
    several += [_scores_beside(run, by_run[0][0].scored.scorer, rows, where, asked) for run in near]
    if len(several) == 1:
        several = by_model[0]
    if len(several) > 1:
        return np.asarray(np.std(several, axis=0, ddof=1))
    only = by_run[0][0].scored
    return only.spreads[whole] if isinstance(only.scorer.model, SeedEnsemble) else np.full(len(rows), np.nan)


def _scores_beside(run: ScoringRun, mine: Scorer, rows: Rows, where: _Where, asked: Asked) -> Floats:
    """The scores of the same videos by another run."""
    if run.widths != mine.features.widths:
        raise AqaError(f"--beside {run.place}: it has other streams")
    pattern = {"shown": _pattern(asked.visible, mine.features.modalities)}
    scored = [scorer.predict(rows, pattern)["shown"] for scorer in _scorers(run, where.store, where)]
    return np.asarray(np.mean(scored, axis=0))


def _stated(each: Sequence[_Said]) -> Floats:
    """The deviation that a model itself states of its scores; NaN of a mean, and of models that state none."""
    only = each[0].scored
    alone = len(each) == 1 and not isinstance(only.scorer.model, SeedEnsemble)
    return only.spreads[_whole(only.scorer)] if alone else np.full(len(only.rows), np.nan)


def _whole(scorer: Scorer) -> str:
    """The number of the set of all streams, which shows all that is shown of a video."""
    return str((1 << len(scorer.features.modalities)) - 1)


# -- as tables


def _videos(
    scorer: Scorer, rows: Rows, shown: Shown, said: MeanScores, level: float, mean: float, labels: Floats
) -> dict[str, Any]:
    """The columns of a row for each video: what is shown of it, its score with interval, label and error."""
    whole = _whole(scorer)
    score, (low, high) = said.scores[whole], said.bounds[level][whole]
    return {
        "id": [scorer.features.ids[row] for row in rows],
        "visible": [subset_name(scorer.features.modalities, seen) for seen in shown.tolist()],
        "score": score,
        "low": low,
        "high": high,
        "label": labels,
        "error": np.abs(score - labels),
        "width": high - low,
        "training_mean": mean,
    }


def _what_if(scorer: Scorer, rows: Rows, shown: Shown, said: MeanScores, level: float) -> pd.DataFrame:
    """A row for each video and each visible set that it allows, the largest first: score and interval."""
    modalities, lines = scorer.features.modalities, []
    names = {number: subset_name(modalities, subset) for number, subset in enumerate(all_sets(len(modalities)))}
    sets = sorted(range(1, len(names)), key=lambda number: (-bin(number).count("1"), number))
    for i, row in enumerate(rows):
        for number in sets:
            if number & int(numbered(shown[i])) == number:
                low, high = (ends[i] for ends in said.bounds[level][str(number)])
                lines.append((scorer.features.ids[row], names[number], said.scores[str(number)][i], low, high))
    return pd.DataFrame(lines, columns=["id", "visible", "score", "low", "high"])


def _would_change(
    scorer: Scorer, rows: Rows, shown: Shown, said: MeanScores, references: Sequence[Reference], level: float
) -> pd.DataFrame:
    """A row for each video and each stream that is not shown of it: what the stream would change in videos alike."""
    modalities, lines = scorer.features.modalities, []
    now, scores = numbered(shown), said.scores[_whole(scorer)]
    for i, row in enumerate(rows):
        for m, modality in enumerate(modalities):
            if shown[i, m] or not now[i]:
                continue
            found, source = change(references, int(now[i]), m, float(scores[i]), level)
            visible = subset_name(modalities, shown[i].tolist())
            lines.append((scorer.features.ids[row], visible, modality, *found, source))
    columns = (
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
    )
    return pd.DataFrame(lines, columns=list(columns))
