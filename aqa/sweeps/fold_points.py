"""Cross-validations in a sweep: each of their folds is a run that any process may take; then they are gathered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from aqa.errors import AqaError
from aqa.features.cache import FeatureLoader
from aqa.runs.cross_validation import fold_experiment, folds_in_store, is_cross_validation
from aqa.runs.folder import InUse
from aqa.runs.run import run_loaded
from aqa.sweeps.folder import State, SweepFolder
from aqa.sweeps.grid import Point


def fold_points(point: Point) -> list[Point]:
    """The runs that a point of the grid consists of: the folds of a cross-validation, else itself.

    Itself as well where its store does not allow the folds, which its run then says.
    """
    if not is_cross_validation(point.experiment) or point.fingerprint is None:
        return [point]
    try:
        count = len(folds_in_store(point.experiment).test)
    except AqaError:
        return [point]
    return [
        replace(point, experiment=fold_experiment(point.experiment, number), name=f"{point.name}/fold{number}")
        for number in range(count)
    ]


def gather_folds(points: Sequence[Point], folder: SweepFolder) -> None:
    """Write what the folds of each cross-validation found together, where all of them are done."""
    for point in points:
        folds = fold_points(point)
        if folds == [point] or folder.settled(point.name) or any(folder.settled(f.name) != "done" for f in folds):
            continue
        experiment = point.experiment.model_copy(update={"output": str(folder.run(point.name))})
        try:
            run_loaded(experiment, FeatureLoader(), expected=point.fingerprint)
        except InUse:
            pass  # another sweep on this folder gathers it
        except AqaError as error:
            folder.fail(point.name, str(error))


def state_of(point: Point, folder: SweepFolder) -> State:
    """How far a point is; a cross-validation failed if a fold of it did, and runs while one does."""
    settled = folder.settled(point.name)
    folds = fold_points(point)
    if settled is not None or folds == [point]:
        return settled or folder.state(point.name)
    count = Counter(folder.state(fold.name) for fold in folds)
    return "failed" if count["failed"] else "running" if count["running"] else "waiting"
