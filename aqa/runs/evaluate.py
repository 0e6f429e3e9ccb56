"""Finished runs: what their checkpoint holds, and scoring with it again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.evaluation.intervals import RELIABILITY_LEVELS
from aqa.evaluation.measures import require_metrics
from aqa.evaluation.scorer import summary
from aqa.missing import parse_pattern, parse_test_patterns
from aqa.modalities import subset_name
from aqa.runs.averages import asked_level, finished_run, finished_runs, mean_of_runs
from aqa.runs.calibration import add_intervals
from aqa.runs.checkpoint import load_scorer
from aqa.runs.cross_validation import is_cross_validation
from aqa.runs.fold_models import evaluate_folds
from aqa.runs.folder import RunFolder, unrecorded_text
from aqa.runs.informing import informed, videos_of
from aqa.runs.predictions import HIGH, LOW, SPREAD
from aqa.runs.prepare import labelled
from aqa.runs.table import result_table
from aqa.store.checks import require_sound
from aqa.store.fingerprint import fingerprint_at, fingerprint_of
from aqa.store.store import FeatureStore, Target
from aqa.system.devices import pick_device
from aqa.system.files import plain, refuse_existing, write_table, write_text
from aqa.system.saying import Say, silent

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """What a run or an evaluation found: the run's folder and its metrics, as in metrics.json (undefined: None).

    Printed, it is the table.
    """

    folder: Path
    metrics: dict[str, Any]
    already_finished: bool = False

    def __str__(self) -> str:
        return result_table(self.metrics)


def evaluate(
    run: str | os.PathLike[str],
    *,
    patterns: Any = None,
    store: str | os.PathLike[str] | None = None,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    intervals: bool | None = None,
    level: float | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    memory: float | None = None,
    overwrite: bool = False,
) -> Result:
    """Score a finished run's model again: under other patterns, on another store or split.

    patterns: as `missing.test` in an experiment file; the run's own by default. store: a feature store with the run's
    target; the run's own by default. A cross-validation scores each video by the model of the fold that tested it, and
    the videos of another store by the mean of all folds' models. metrics, intervals, level: as `evaluate` in an
    experiment file; the run's own by default. out: a JSON file to write the metrics to; nothing is written by default.
    memory: GiB that features may take; `data.memory` of the run by default. AqaError for any mistake, and where `out`
    exists, unless `overwrite`.
    """
    if out is not None:
        refuse_existing(out, overwrite)
    chosen_device = pick_device(device)
    folder = RunFolder.existing(run)
    config = load_experiment(folder.config)
    path = own_store(folder) if store is None else Path(store)
    memory = config.data.memory if memory is None else memory
    asked = config.missing.test if patterns is None else patterns
    further = config.evaluate.metrics if metrics is None else metrics
    require_metrics(further, "metrics")
    with_intervals = config.evaluate.intervals if intervals is None else intervals
    level = asked_level(level, config.evaluate.level)
    if store is None and is_cross_validation(config):
        if split != "test":
            raise AqaError(f"--split {split}: {folder.path} has tested every video in its fold; leave the option out")
        with FeatureStore(path) as opened:
            found = evaluate_folds(folder, config, opened, asked, further, with_intervals, chosen_device, memory, level)
            fingerprint = fingerprint_of(opened)
        return _kept(folder, found, split, fingerprint, [], out, overwrite)
    finished = finished_run(run)
    checkpoints = finished.checkpoints
    checkpoint = checkpoints[0]
    with FeatureStore(path) as opened:
        target = opened.target(checkpoint["target"]["name"])
        fingerprint = fingerprint_of(opened)
        notes = what_differs(folder, checkpoint["target"], opened, target, asked_for=store is not None)
        rows = labelled(opened.split(split), target)
        require_sound(opened, checkpoint["target"]["name"], {split: rows})
        if not len(rows):
            raise AqaError(f"{path}: no video of split '{split}' has a label for {config.data.target}")
        modalities = tuple(checkpoint["widths"])
        chosen = parse_test_patterns(asked, modalities, "patterns")
        chosen = informed(chosen, videos_of(opened, modalities, rows, target))
        scorers = [(load_scorer(each, opened, chosen_device, memory) for each in checkpoints)]
        said = mean_of_runs([finished], scorers, rows, chosen, level, RELIABILITY_LEVELS)
    truth, label_range, seed = target.values[rows], checkpoint["label_range"], checkpoint["seed"]
    found = summary(said.scores, truth, chosen, target, label_range, seed, further=further, intervals=with_intervals)
    found = add_intervals(found, truth, said.bounds, said.about)
    if len(checkpoints) > 1:
        notes.append(f"scores are the mean of the models of {len(checkpoints)} folds")
    return _kept(folder, found, split, fingerprint, notes, out, overwrite)


def _kept(
    folder: RunFolder,
    found: Mapping[str, Any],
    split: str,
    fingerprint: str,
    notes: Sequence[str],
    out: str | os.PathLike[str] | None,
    overwrite: bool,
) -> Result:
    """The result of scoring a run again, written to `out` where that is given."""
    before, kept = folder.metrics, ("selection", "target", "model", "seed")
    lacking = [key for key in kept if key not in before]
    if lacking:
        raise AqaError(f"{folder.path}: metrics.json has no {lacking[0]}")
    about = {key: before[key] for key in (*kept, "learned_from", "learned_also", "imported") if key in before}
    extra = {"data": {"fingerprint": fingerprint}, **({"notes": notes} if notes else {})}
    result = Result(folder.path, plain({**found, **about, "split": split, **extra}))
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(out), json.dumps(result.metrics, indent=2) + "\n", overwrite)
    return result


def own_store(folder: RunFolder) -> Path:
    """The store that a run was made from; AqaError if it has changed since, or is not found."""
    path = folder.store
    recorded = folder.origin.fingerprint
    if recorded is not None and fingerprint_at(path) != recorded:
        raise AqaError(
            f"{path} has changed since {folder.path} was made from it; --store {path} scores what is there now"
        )
    return path


def what_differs(
    folder: RunFolder, known: Mapping[str, Any], store: FeatureStore, target: Target, asked_for: bool
) -> list[str]:
    """What a user should know where a run's model is scored on a store.

    known: name, low and high of the target that it was trained on. asked_for: whether the user named the store.
    """
    notes = []
    if (known["low"], known["high"]) != (target.low, target.high):
        notes.append(
            f"target '{known['name']}' is from {target.low:g} to {target.high:g} in {store.path}, and from "
            f"{known['low']:g} to {known['high']:g} in the run: where the units differ, MSE and R-l2 mean nothing"
        )
    if folder.origin.fingerprint is None and not asked_for:
        notes.append(unrecorded_text(folder))
    return notes


def predict(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str] | None = None,
    *,
    stream: Mapping[str, str] | Sequence[str] | None = None,
    rate: Mapping[str, float] | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    split: str | None = None,
    level: float | None = None,
    device: str = "auto",
    memory: float | None = None,
    overwrite: bool = False,
    say: Say = silent,
) -> pd.DataFrame:
    """Scores of a finished run's model for the videos of a store, labelled or not, by whichever modalities they have.

    Of a cross-validation: the mean of the scores of all folds' models. Of several runs of one target: their mean.

    stream, rate: files of features in the place of a store, in the words of `aqa prepare table` or as mappings.
    Returns a row per video: id; visible, the modalities that were there, such as "VA"; score in the target's units, NaN
    where there was none; low and high, an interval that holds the label at `level`, by default the run's
    `evaluate.level`: NaN where there is none, infinite where too few videos were kept to make it; spread, the model's
    own standard deviation, of models that state one, or that of the scores of several runs. out: a CSV file to
    write them to; nothing is written by default. split: only this one; all videos by default. memory: GiB that features
    may take; `data.memory` of the run by default. AqaError for any mistake, and where `out` exists, unless `overwrite`.
    """
    import pandas as pd  # here: a run begins to train without it, and without what reads tables

    from aqa.runs.streams import store_to_predict

    if out is not None:
        refuse_existing(out, overwrite)
    chosen_device = pick_device(device)
    runs = finished_runs(run)
    widths, level = runs[0].widths, asked_level(level, runs[0].level)
    memory = runs[0].memory if memory is None else memory
    with store_to_predict(store, stream, rate, widths) as path, FeatureStore(path) as opened:
        rows = np.arange(len(opened)) if split is None else opened.split(split)
        pattern = {"available": parse_pattern("none", tuple(widths), "patterns")}
        scorers = ((load_scorer(each, opened, chosen_device, memory) for each in one.checkpoints) for one in runs)
        said = mean_of_runs(runs, scorers, rows, pattern, level)
    features, (low, high) = said.features, said.bounds[level]["available"]
    visible = [subset_name(features.modalities, features.available[row].tolist()) for row in rows]
    ids, scores = [features.ids[row] for row in rows], said.scores["available"]
    predictions = pd.DataFrame({"id": ids, "visible": visible, "score": scores, LOW: low, HIGH: high})
    if "available" in said.spreads:
        predictions[SPREAD] = said.spreads["available"]
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_table(Path(out), predictions, overwrite)
        without = int(predictions["score"].isna().sum())
        unscored = f"; {without} videos have no modality and no score" if without else ""
        say(f"{len(predictions) - without} scores written to {out}{unscored}")
        say(about_intervals(predictions, said.about))
    return predictions


def about_intervals(predictions: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """What a user should know of the intervals of scores, in one line."""
    if "why_none" in about:
        return f"no intervals: {about['why_none']}"
    unbounded = int(np.isinf(predictions[LOW]).sum())
    without = f"; {unbounded} unbounded, for want of calibration videos that show the same" if unbounded else ""
    made_from = " and ".join(about["calibrated_on"])
    return f"low and high hold the label with probability {about['level']:g}, made from {made_from}{without}"
