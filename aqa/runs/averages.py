"""Finished runs of the same target as one: the mean of their scores, and the interval of that mean.

The residual of a mean is at most the mean of the absolute residuals. So where all runs were calibrated on the same
videos, the intervals that are made from the means of the runs' absolute residuals hold the label with at least the
probability that those of a single run do. Runs that were calibrated on different videos, such as those of single folds,
have no such residuals, and their mean has no interval.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aqa.config.load import load_experiment
from aqa.config.schema import Experiment
from aqa.errors import AqaError
from aqa.evaluation.intervals import Residuals
from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Rows
from aqa.missing import MissingPattern
from aqa.models import check
from aqa.runs.calibration import (
    CUT_FROM_TRAIN,
    Calibration,
    Key,
    ScoredPatterns,
    calibration_in,
    recorded_calibration,
    recorded_residuals,
    residuals_in,
)
from aqa.runs.checkpoint import checked
from aqa.runs.exported import CONFIG_JSON, exported_content, is_exported
from aqa.runs.fold_models import Basis, MeanScores, Tested, basis_of, checkpoints_of, mean_scores, scored
from aqa.runs.folder import RunFolder

_Shown = TypeVar("_Shown", bound=Hashable)

DIFFERENT = "the runs were calibrated on different videos, or it is not known that these are the same"


@dataclass(frozen=True, eq=False)
class ScoringRun:
    """A run as it scores: its folder, the checkpoints of its models, and what their intervals are made from.

    calibrated_by: all that decides which videos these are; None where it is not known. level: of intervals.
    memory: GiB that features may take. plugins: those that it was made with.
    """

    place: Path
    checkpoints: list[dict[str, Any]]
    basis: Basis
    calibrated_by: str | None
    level: float
    memory: float | None = None
    plugins: tuple[str, ...] = ()

    @property
    def target(self) -> dict[str, Any]:
        """The target's name, and the range of its scores: low, high."""
        target: dict[str, Any] = self.checkpoints[0]["target"]
        return target

    @property
    def widths(self) -> dict[str, int]:
        """Channels by modality."""
        widths: dict[str, int] = self.checkpoints[0]["widths"]
        return widths


def finished_run(path: str | os.PathLike[str]) -> ScoringRun:
    """A finished run, or one that `aqa export` wrote, read; AqaError where it is neither."""
    if is_exported(path):
        return read_exported(Path(path))
    folder = RunFolder.existing(path)
    checkpoints = checkpoints_of(folder)
    config, basis = load_experiment(folder.config), basis_of(folder, checkpoints)
    by = calibrated_by(folder, config, basis)
    level, memory, plugins = config.evaluate.level, config.data.memory, tuple(folder.plugins)
    return ScoringRun(folder.path, checkpoints, basis, by, level, memory, plugins)


def read_exported(path: Path) -> ScoringRun:
    """A run that `aqa export` wrote; AqaError where it is damaged."""
    content = exported_content(path)
    checkpoints = [checked(each, path / CONFIG_JSON, content.plugins) for each in content.checkpoints]
    if content.tested is None:
        basis: Basis = calibration_in(checkpoints[0])
    else:
        width = len(checkpoints[0]["widths"])
        basis = Tested(tuple(residuals_in(each, path / CONFIG_JSON, width) for each in content.tested))
    return ScoringRun(path, checkpoints, basis, content.calibrated_by, content.level, plugins=tuple(content.plugins))


def recorded_run(run: ScoringRun) -> dict[str, Any]:
    """A run as it is exported, its tensors in place: what `read_exported` makes a run of again."""
    tested = (
        [{"residuals": recorded_residuals(fold)} for fold in run.basis.folds] if isinstance(run.basis, Tested) else None
    )
    checkpoints = [dict(each) for each in run.checkpoints]
    if isinstance(run.basis, Calibration):
        checkpoints[0]["calibration"] = recorded_calibration(run.basis)
    return {
        "level": run.level,
        "calibrated_by": run.calibrated_by,
        "plugins": list(run.plugins),
        "checkpoints": checkpoints,
        "tested": tested,
    }


def finished_runs(runs: Any) -> list[ScoringRun]:
    """One run, or a sequence of them that can be averaged; AqaError otherwise."""
    paths = [runs] if isinstance(runs, (str, os.PathLike)) else list(runs)
    if not paths:
        raise AqaError("no run is given; expected the folder of a finished run, or several")
    found = [finished_run(path) for path in paths]
    require_alike(found)
    return found


def asked_level(level: float | None, own: float) -> float:
    """The level of intervals that a user asks for, the run's own by default; AqaError where it is no probability."""
    if level is None:
        return own
    if not 0 < level < 1:
        raise AqaError(f"--level {level:g}: a share between 0 and 1 is needed, such as 0.9")
    return level


def require_alike(runs: Sequence[ScoringRun]) -> None:
    """AqaError unless all runs score one target, on one scale, from the same streams, and each is given once."""
    first = runs[0]
    places = [run.place.resolve() for run in runs]
    for number, run in enumerate(runs[1:], start=1):
        if places[number] in places[:number]:
            raise AqaError(f"{run.place} is given twice; an average takes different runs")
        for what in ("target", "widths"):
            known, other = getattr(first, what), getattr(run, what)
            if known != other or list(known) != list(other):
                raise AqaError(
                    f"{first.place} and {run.place} cannot be averaged: {_said(what, known)} there, "
                    f"{_said(what, other)} here"
                )


def _said(what: str, value: Mapping[str, Any]) -> str:
    if what == "target":
        return f"target {value['name']} from {value['low']:g} to {value['high']:g}"
    return "streams " + ", ".join(f"{name} ({width})" for name, width in value.items())


def calibrated_by(folder: RunFolder, config: Experiment, basis: Basis) -> str | None:
    """All of an experiment that decides which videos its intervals are made from."""
    fingerprint = folder.origin.fingerprint
    if fingerprint is None:
        return None
    by_seed = isinstance(basis, Calibration) and (
        basis.source == CUT_FROM_TRAIN or (bool(basis.left_out) and "fixed" in json.dumps(config.missing.train))
    )
    data = {key: value for key, value in config.data.model_dump().items() if key not in ("store", "memory")}
    options = check(config.model.name, config.model.options)
    told = {
        "store": fingerprint,
        "data": data,
        "missing": config.missing.train,
        "select": config.select.split,
        "learn_from": options.get("learn_from"),
        "seed": config.train.seed if by_seed else None,
    }
    return json.dumps(told, sort_keys=True, default=str)


def mean_of_runs(
    runs: Sequence[ScoringRun],
    scorers: Iterable[Iterable[Scorer]],
    rows: Rows,
    patterns: Mapping[str, MissingPattern],
    level: float,
    levels: Collection[float] = (),
) -> MeanScores:
    """What runs say of some rows on average. scorers: those of each run's models, made as they are asked for.

    The spread of several runs is the standard deviation of their scores.
    """
    return mean_of_scored(runs, [[scored(scorer, rows, patterns) for scorer in own] for own in scorers], level, levels)


def mean_of_scored(
    runs: Sequence[ScoringRun],
    found: Sequence[Sequence[ScoredPatterns]],
    level: float,
    levels: Collection[float] = (),
) -> MeanScores:
    """The same of what the models of each run have said of the same rows, under the same patterns."""
    if len(runs) == 1:
        return mean_scores(found[0], runs[0].basis, level, levels)
    basis = common_basis(runs)
    by_run = [averaged(own) for own in found]
    # With CV+ intervals the models of one fold are taken together, as they tested the same videos.
    parts = [averaged(same) for same in zip(*found, strict=True)] if isinstance(basis, Tested) else [averaged(by_run)]
    names = by_run[0].scores
    spreads = {name: np.std([run.scores[name] for run in by_run], axis=0, ddof=1) for name in names}
    return mean_scores(parts, basis, level, levels)._replace(spreads=spreads)


def averaged(several: Sequence[ScoredPatterns]) -> ScoredPatterns:
    """The mean of what models said of the same rows."""
    first = several[0]
    scores = {name: np.mean([one.scores[name] for one in several], axis=0) for name in first.patterns}
    return replace(first, scores=scores, spreads={})


def common_basis(runs: Sequence[ScoringRun]) -> Basis:
    """What the intervals of the mean of runs are made from: the means of their absolute residuals, video by video."""
    bases = [run.basis for run in runs]
    calibrations = [basis for basis in bases if isinstance(basis, Calibration)]
    none = next((basis.why_none for basis in calibrations if basis.why_none is not None), None)
    if none is not None:
        return Calibration(why_none=none)
    if runs[0].calibrated_by is None or len({run.calibrated_by for run in runs}) > 1:
        return Calibration(why_none=DIFFERENT)
    try:
        if calibrations:
            return _common_calibration(calibrations)
        tested = zip(*(basis.folds for basis in bases if isinstance(basis, Tested)), strict=True)
        return Tested(tuple(_mean_residuals(same) for same in tested))
    except ValueError:  # they are not of the same visible sets, or not of as many videos
        return Calibration(why_none=DIFFERENT)


def _common_calibration(several: Sequence[Calibration]) -> Calibration:
    return replace(
        several[0],
        selected=any(one.selected for one in several),
        kept_apart=_mean_residuals([_of_visible_sets(one) for one in several]),
        left_out=_mean_residuals([one.left_out for one in several]),
    )


def _of_visible_sets(calibration: Calibration) -> dict[Key, Residuals]:
    """Without those of patterns that are calibrated by themselves: what a program scores is as it is."""
    return {key: found for key, found in calibration.kept_apart.items() if not key[0]}


def _mean_residuals(several: Sequence[Mapping[_Shown, Residuals]]) -> dict[_Shown, Residuals]:
    """The means (n,) of several runs' absolute residuals of the same n videos; ValueError where they do not match."""
    first = several[0]
    if any(one.keys() != first.keys() for one in several):
        raise ValueError("not of the same visible sets")
    return {
        key: Residuals(np.mean([one[key].residuals for one in several], axis=0), left_out=first[key].left_out)
        for key in first
    }
