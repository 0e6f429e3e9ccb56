"""A cross-validation: a run for each fold, one after another, and the out-of-fold scores of all of them together.

Its folder holds fold0, fold1 ..., each an ordinary run's folder, and beside them config.yaml, metrics.json,
predictions.csv and figures of all folds. What is finished is not run again, whoever ran it: a sweep, or a process for
each fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.config.schema import Experiment, FoldsConfig
from aqa.errors import AqaError
from aqa.evaluation import metrics as measures
from aqa.evaluation.bootstrap import interval
from aqa.evaluation.cross_validation import HeldOut, pooled, summarize_folds
from aqa.evaluation.curves import mean_over
from aqa.evaluation.measures import Ranges, measured_by_repeat
from aqa.evaluation.scorer import Predictions, completed, incomplete, missing_rate
from aqa.missing import MissingPattern, parse_test_patterns
from aqa.runs.calibration import add_pooled_intervals
from aqa.runs.folder import FIGURES, PREDICTIONS, RunFolder
from aqa.runs.folds import Folds, make_folds
from aqa.runs.predictions import FOLD, GROUP, read_predictions, save_predictions
from aqa.runs.prepare import chosen_modalities, labelled
from aqa.runs.table import result_table
from aqa.runs.tracking import tracked
from aqa.store.store import FeatureStore, Target
from aqa.system.files import plain
from aqa.system.saying import Say

RunFold = Callable[[Experiment], object]


def is_cross_validation(config: Experiment) -> bool:
    """Whether an experiment is of all folds, not of one, and not without."""
    return config.data.folds is not None and config.data.folds.fold is None


def require_no_folds(config: Experiment) -> None:
    """AqaError for settings that are to be chosen on all folds.

    What selects in one fold is tested in another, so the choice would know the labels of the test.
    """
    if is_cross_validation(config):
        raise AqaError(
            "data.folds: settings cannot be chosen on all folds, as each validates on videos that others test; "
            "search on the splits of the store, or in one fold: data.folds.fold=0"
        )


def fold_experiment(config: Experiment, number: int, folder: Path | None = None) -> Experiment:
    """The experiment of one fold; folder: of the cross-validation, in which the fold's is to be."""
    assert config.data.folds is not None
    folds = config.data.folds.model_copy(update={"fold": number})
    changes: dict[str, Any] = {"data": config.data.model_copy(update={"folds": folds})}
    if folder is not None:
        changes["output"] = str(RunFolder(folder).fold(number).path)
    return config.model_copy(update=changes)


def folds_in_store(config: Experiment) -> Folds:
    """The folds of a cross-validation; AqaError where its store does not allow them."""
    assert config.data.folds is not None
    with FeatureStore(config.data.store) as store:
        return make_folds(store, config.data.folds, store.target(config.data.target))


def cross_validate(
    config: Experiment, folder: RunFolder, fingerprint: str, overwrite: bool, run_fold: RunFold, say: Say
) -> dict[str, Any]:
    """Run the folds that are not finished, and gather what all of them found; returns the metrics.

    run_fold runs the experiment of a fold. AqaError as for any run.
    """
    folder.require_free(config.resolved(), overwrite, fingerprint)
    folds = folds_in_store(config)
    with folder.held(say):
        folder = RunFolder.start(folder.path, config.resolved(), overwrite, fingerprint)
        if folder.status == "finished":  # by another process, meanwhile
            return folder.metrics
        for number, name in enumerate(folds.names):
            place = f"{name} ({number + 1} of {len(folds.names)})"
            say(place)
            try:
                run_fold(fold_experiment(config, number, folder.path))
            except KeyboardInterrupt as stop:
                stop.args = (f"{place}: {stop}",)
                raise
        metrics = gather(config, folder, fingerprint)

        def report(line: str) -> None:
            say(line)
            folder.log(line)

        with tracked(config.tracking, config.title, config.resolved(), folder.path, report) as tracker:
            tracker.result(metrics, folder.path)
        return metrics


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What all folds predicted. rows: of the videos in the store (n,); predictions: by pattern, (K, n).

    beside: the same of the further columns that all folds have.
    """

    folds: Folds
    rows: NDArray[np.int64]
    tested: HeldOut
    predictions: dict[str, NDArray[np.float64]]
    beside: dict[str, dict[str, NDArray[np.float64]]]
    metrics: list[dict[str, Any]]  # of each fold


def gather(config: Experiment, folder: RunFolder, fingerprint: str) -> dict[str, Any]:
    """Write what all folds found together: predictions.csv, the figures and metrics.json; returns the metrics."""
    with FeatureStore(config.data.store) as store:
        data_set, ids, target = store.name, store.ids, store.target(config.data.target)
        modalities = chosen_modalities(store, config.data.modalities)
        patterns = parse_test_patterns(config.missing.test, modalities, "missing.test")
        assert config.data.folds is not None
        folds = make_folds(store, config.data.folds, target)
    found = out_of_fold(config, folder, fingerprint, folds, ids, target)
    first = found.metrics[0]
    pooled = pooled_summary(
        found.predictions,
        found.tested,
        patterns,
        target,
        config.train.seed,
        config.evaluate.metrics,
        config.evaluate.intervals,
    )
    result = plain(
        {
            **add_pooled_intervals(pooled, found.metrics, folds.repeats),
            "selection": _selection(config, found.metrics),
            "folds": _about_folds(config.data.folds, found),
            "data_set": data_set,
            "data": {"fingerprint": fingerprint},
            "target": config.data.target,
            "model": config.model.name,
            "seed": config.train.seed,
            "samples": {"test": len(found.rows)},
            "parameters": first["parameters"],
            "modalities": first["modalities"],
            "router_weights": _router_weights(found.metrics),
            **{key: first[key] for key in ("learned_from", "learned_also") if key in first},
        }
    )
    save_out_of_fold(folder.path / PREDICTIONS, found, ids, config.data.target)
    if config.figures:
        draw_out_of_fold(folder.path / FIGURES, result, found)
    folder.log(result_table(result))
    return folder.finish(result)


def out_of_fold(
    config: Experiment, folder: RunFolder, fingerprint: str, folds: Folds, ids: Sequence[str], target: Target
) -> OutOfFold:
    """The predictions of all folds; AqaError where a fold's are not of this cross-validation."""
    rows = labelled(folds.taking_part, target)
    place = {ids[row]: i for i, row in enumerate(rows)}
    numbers = np.full((folds.repeats, len(rows)), -1, dtype=np.int64)
    predictions: dict[str, NDArray[np.float64]] = {}
    beside: dict[str, dict[str, NDArray[np.float64]]] = {}
    found = []
    for number, tested in enumerate(folds.test):
        run = RunFolder.existing(folder.fold(number).path)
        if not run.holds(fold_experiment(config, number).resolved(), fingerprint):
            raise AqaError(f"{run.path} is not {folds.names[number]} of {folder.path}; remove it, or use --overwrite")
        scores = read_predictions(run.path / PREDICTIONS)
        expected = [ids[row] for row in labelled(tested, target)]
        if list(scores.ids) != expected or not np.array_equal(scores.truth, target.values[labelled(tested, target)]):
            raise AqaError(f"{run.path / PREDICTIONS} is not of the videos of {folds.names[number]} and their labels")
        at, repeat = [place[name] for name in scores.ids], folds.repeat(number)
        numbers[repeat, at] = number
        for pattern, values in scores.by_pattern.items():
            predictions.setdefault(pattern, np.full(numbers.shape, np.nan))[repeat, at] = values
        for column, by_pattern in scores.beside.items():
            for pattern, values in by_pattern.items():
                known = beside.setdefault(column, {})
                known.setdefault(pattern, np.full(numbers.shape, np.nan))[repeat, at] = values
        found.append(run.metrics)
    labels = None if folds.labels is None else [folds.labels[row] for row in rows]
    return OutOfFold(folds, rows, HeldOut(target.values[rows], numbers, labels), predictions, beside, found)


def pooled_summary(
    predictions: Mapping[str, NDArray[np.float64]],
    tested: HeldOut,
    patterns: Mapping[str, MissingPattern],
    target: Target,
    seed: int,
    further: Sequence[str] = (),
    intervals: bool = True,
) -> dict[str, Any]:
    """The metrics of out-of-fold predictions, by pattern (K, n), as metrics.json has them.

    further, intervals: measures by name, and whether they have intervals (of one repeat alone).
    """
    known = target.values[~np.isnan(target.values)]
    label_range = float(known.min()), float(known.max())
    summed = summarize_folds(predictions, tested, incomplete(patterns), *label_range, seed)
    ranges = Ranges((target.low, target.high), label_range)
    summed |= {"ranges": ranges._asdict()} if further else {}
    measures = measured_by_repeat(further, predictions, tested.truth, ranges, seed, intervals, tested.units)
    for name, values in measures.items():
        if values:
            summed["patterns"][name]["measures"] = values
    rates = {name: rate for name, p in patterns.items() if (rate := missing_rate(p)) is not None}
    if len(set(rates.values())) > 1:
        summed["area_under_rates"] = pooled_area(predictions, tested, rates, seed)
    return completed(summed, patterns, target)


def pooled_area(
    predictions: Mapping[str, NDArray[np.float64]], tested: HeldOut, rates: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """`area_under_rates` of out-of-fold predictions, by pattern (K, n): of the pooled SRCC, mean over repeats."""
    names, resampled = sorted(rates, key=lambda name: rates[name]), tested.draw(seed=seed)
    at, found = np.array([rates[name] for name in names]), [pooled(predictions[name], resampled) for name in names]
    known = interval(mean_over(at, np.array([one.draws for one in found])))
    value = float(mean_over(at, np.array([[one.value] for one in found]))[0])
    area: dict[str, Any] = {"srcc": value, "srcc_low": known.low, "srcc_high": known.high}
    if not np.isnan(value) and known.why_none is not None:
        area["why_no_interval"] = known.why_none
    return {**area, "rates": at.tolist(), "patterns": names}


def save_out_of_fold(path: Path, found: OutOfFold, ids: Sequence[str], target: str) -> None:
    """Write predictions.csv of all folds: by pattern and repeat the videos in the order of the store."""
    repeats = len(found.tested.folds)
    further: dict[str, Sequence[object]] = {FOLD: found.tested.folds.ravel().tolist()}
    if found.tested.labels is not None:
        further[GROUP] = list(found.tested.labels) * repeats
    flat: Predictions = {name: scores.ravel() for name, scores in found.predictions.items()}
    rows, truth = np.tile(found.rows, repeats), np.tile(found.tested.truth, repeats)
    beside = {name: {p: values.ravel() for p, values in each.items()} for name, each in found.beside.items()}
    save_predictions(path, ids, rows, truth, target, flat, further, beside)


def draw_out_of_fold(folder: Path, result: Mapping[str, Any], found: OutOfFold) -> None:
    """The figures of all folds; of several repeats every score is shown."""
    from aqa.runs import figures  # matplotlib takes a second to import

    folder.mkdir(exist_ok=True)
    flat: Predictions = {name: scores.ravel() for name, scores in found.predictions.items()}
    truth = np.tile(found.tested.truth, len(found.tested.folds))
    figures.srcc_by_pattern(result, folder / "srcc_by_pattern.png")
    figures.srcc_by_fold(result, folder / "srcc_by_fold.png")
    figures.predicted_against_true(result, flat, truth, folder / "predicted_against_true.png")
    if result["router_weights"]:
        weights = {name: np.array(each) for name, each in result["router_weights"].items()}
        figures.router_weights(weights, result["modalities"], folder / "router_weights.png")


def _selection(config: Experiment, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the epochs were selected; "value" is the mean over folds of the metric there, through Fisher's z for SRCC."""
    values = [one["selection"]["value"] for one in found]
    known = [float("nan") if value is None else float(value) for value in values]
    value = measures.fisher_mean(known) if config.select.metric == "srcc" else float(np.mean(known))
    parts = {key: found[0]["selection"][key] for key in ("seeds", "inner_folds") if key in found[0]["selection"]}
    return {**config.select.model_dump(), "epoch": None, "epochs": None, "value": value, **parts}


def _about_folds(folds: FoldsConfig, found: OutOfFold) -> dict[str, Any]:
    """What metrics.json says of the folds: how they were made, and of each its videos, epoch and SRCC by pattern."""
    by_pattern = {name: found.tested.by_fold(scores) for name, scores in found.predictions.items()}
    each = [
        {
            "fold": number,
            "name": found.folds.names[number],
            "samples": one["samples"],
            "selection": one["selection"],
            "srcc": {name: values[number] for name, values in by_pattern.items()},
        }
        for number, one in enumerate(found.metrics)
    ]
    labels = found.tested.labels
    return {
        "description": folds_text(folds, len(each) // found.folds.repeats),
        "count": len(each) // found.folds.repeats,
        "repeats": found.folds.repeats,
        "group": found.folds.group,
        "groups": None if labels is None else len(set(labels)),
        "each": each,
    }


def folds_text(folds: FoldsConfig, count: int) -> str:
    """How folds were made, for people, such as "5 folds by athlete"; equal for what may be compared."""
    if folds.leave_out is not None:
        return f"leave one {folds.leave_out} out"
    drawn = f"{count} folds" + (f" of {folds.column}" if folds.column is not None else "")
    drawn += f" by {folds.group}" if folds.group is not None else ""
    drawn += ", stratified" if folds.stratify else ""
    drawn += f", {folds.repeats} times" if folds.repeats > 1 else ""
    return drawn + (f", {' and '.join(folds.of)} alone" if folds.of is not None else "")


def _router_weights(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Router weights by pattern, means over folds."""
    patterns = [name for name in found[0]["router_weights"] if all(name in one["router_weights"] for one in found)]
    return {name: np.mean([one["router_weights"][name] for one in found], axis=0).tolist() for name in patterns}
