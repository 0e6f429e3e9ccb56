"""Further measures of scores (`evaluate.metrics`), each with a bootstrap interval over videos.

A new one is one function here, with its name, its title, which end is better, and whether it has the target's units. It
takes predictions (N,) and targets (N,) in the target's units, and `Ranges`; what it cannot say is `Undefined`, with the
reason. One that is slow to work out a thousand times may have a second form in `RESAMPLED`, for all resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest
from aqa.evaluation import bootstrap as resampling
from aqa.evaluation import metrics
from aqa.evaluation import resampled_measures as fast
from aqa.evaluation.bootstrap import FEWEST, RESAMPLES, Floats, Interval, interval
from aqa.registry import Registry


class Ranges(NamedTuple):
    """What scores may be, and the lowest and the highest label of the data set, which R-l2 is relative to."""

    target: tuple[float, float]
    labels: tuple[float, float]


Measure = Callable[[Floats, Floats, Ranges], float]
METRICS: Registry[Measure] = Registry("metric", __name__)


class Undefined(Exception):
    """Why a measure has no value."""


@METRICS.register("mae", title="MAE", better="lower", in_units=True)
def mean_absolute_error(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Mean absolute error, in the target's units."""
    return float(np.abs(_some(prediction) - target).mean())


@METRICS.register("rmse", title="RMSE", better="lower", in_units=True)
def root_mean_squared_error(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Root of the mean squared error, in the target's units."""
    return float(np.sqrt(np.square(_some(prediction) - target).mean()))


@METRICS.register("pearson", title="Pearson", better="higher")
def pearson_correlation(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Pearson's linear correlation."""
    _require_varied(prediction, target)
    x, y = prediction - prediction.mean(), target - target.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


@METRICS.register("kendall", title="Kendall", better="higher")
def kendall_correlation(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Kendall's rank correlation tau-b."""
    _require_varied(prediction, target)
    return metrics.kendall(prediction, target)


@METRICS.register("mse", title="MSE", better="lower", in_units=True)
def mean_squared_error(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Mean squared error, in squared units of the target."""
    return metrics.mse(_some(prediction), target)


@METRICS.register("rl2", title="R-l2 %", better="lower")
def relative_l2(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Relative L2 distance in percent, as `metrics.rl2`."""
    if ranges.labels[0] == ranges.labels[1]:
        raise Undefined("every label of the data set is the same")
    return metrics.rl2(_some(prediction), target, *ranges.labels)


@METRICS.register("accuracy", title="accuracy", better="higher")
def accuracy(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Share of videos whose nearest grade is the right one."""
    predicted, true = graded(prediction, target, ranges)
    return float((predicted == true).mean())


@METRICS.register("macro_f1", title="macro F1", better="higher")
def macro_f1(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """F1 of each grade that occurs, predicted or true, and their plain mean."""
    from sklearn.metrics import f1_score

    predicted, true = graded(prediction, target, ranges)
    return float(f1_score(true, predicted, average="macro", zero_division=0.0))


@METRICS.register("quadratic_kappa", title="quadratic kappa", better="higher")
def quadratic_kappa(prediction: Floats, target: Floats, ranges: Ranges) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): agreement on grades beyond chance.

    The weight of two grades is their squared distance, also where no video has a grade between them.
    """
    from sklearn.metrics import cohen_kappa_score

    predicted, true = graded(prediction, target, ranges)
    if (predicted == predicted[0]).all() and (true == predicted[0]).all():
        raise Undefined("every grade is the same, predicted and true")
    both = np.concatenate([predicted, true])
    grades = np.arange(both.min(), both.max() + 1)
    return float(cohen_kappa_score(true, predicted, labels=grades, weights="quadratic"))


def graded(prediction: Floats, target: Floats, ranges: Ranges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions as the nearest grades within the target's range, halves upwards, and the true grades.

    Undefined if a label is not a whole number.
    """
    if (_some(target) != np.round(target)).any():
        raise Undefined("the labels are not grades, whole numbers")
    nearest = np.floor(np.clip(prediction, *ranges.target) + 0.5)
    return nearest.astype(np.int64), target.astype(np.int64)


def _some(values: Floats) -> Floats:
    if not len(values):
        raise Undefined("0 videos")
    return values


def _require_varied(prediction: Floats, target: Floats) -> None:
    if len(target) < FEWEST:
        raise Undefined(f"{len(target)} video{'s' * (len(target) != 1)}")
    if (target == target[0]).all() or (prediction == prediction[0]).all():
        raise Undefined(f"every {'label' if (target == target[0]).all() else 'prediction'} is the same")


#: The same in every resample at once: of predictions and targets (n,) and counts (n, R), (R,).
RESAMPLED: dict[str, Callable[[Floats, Floats, Floats, Ranges], Floats]] = {
    "mae": lambda x, y, counts, _: fast.weighted_mean(np.abs(x - y), counts),
    "mse": lambda x, y, counts, _: fast.weighted_mean((x - y) ** 2, counts),
    "rmse": lambda x, y, counts, _: np.sqrt(fast.weighted_mean((x - y) ** 2, counts)),
    "rl2": lambda x, y, counts, ranges: 100 * fast.weighted_mean(((x - y) / np.ptp(ranges.labels)) ** 2, counts),
    "pearson": lambda x, y, counts, _: fast.resampled_pearson(x, y, counts),
    "kendall": lambda x, y, counts, _: fast.resampled_kendall(x, y, counts),
    "accuracy": lambda x, y, counts, ranges: fast.resampled_accuracy(*graded(x, y, ranges), counts),
    "macro_f1": lambda x, y, counts, ranges: fast.resampled_macro_f1(*graded(x, y, ranges), counts),
    "quadratic_kappa": lambda x, y, counts, ranges: fast.resampled_quadratic_kappa(*graded(x, y, ranges), counts),
}


def require_metrics(names: Sequence[str], where: str) -> None:
    """AqaError with the nearest name for a measure that is not there."""
    for name in names:
        if name not in METRICS.names():
            raise AqaError(f"{where}: unknown metric '{name}': {nearest(name, METRICS.names())}")


def measured(
    names: Sequence[str],
    predictions: Mapping[str, Floats],
    target: Floats,
    ranges: Ranges,
    seed: int = 0,
    intervals: bool = True,
    units: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Measures of every pattern: pattern -> measure -> value, low, high, and a reason for what is undefined.

    predictions: by pattern, (N,), NaN for a video that was not scored; target: (N,), without NaN; units: (N,), of what
    the bootstrap draws in place of videos, as `bootstrap.resamples` takes it. low and high are a
    95 % percentile bootstrap interval over videos, on the same draws for every pattern and as for SRCC: none where
    more than 5 % of the resamples are undefined, or an end would be exactly 1 or -1.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {pattern: {} for pattern in predictions}
    for name in names:
        measure = METRICS.get(name).make
        for pattern, prediction in predictions.items():
            found[pattern][name] = _value(measure, prediction, target, ranges)
            if intervals and np.isfinite(found[pattern][name]["value"]):
                blocks = resampling.resamples(len(target), RESAMPLES, seed, units)
                draws = np.concatenate([in_resamples(name, prediction, target, counts, ranges) for counts in blocks])
                found[pattern][name].update(_ends(interval(draws, at_its_best(name, draws))))
    return found


def measured_by_repeat(
    names: Sequence[str],
    predictions: Mapping[str, Floats],
    target: Floats,
    ranges: Ranges,
    seed: int = 0,
    intervals: bool = True,
    units: NDArray[np.int64] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """The same of out-of-fold predictions (K, N) of K repeats: plain means over repeats, without intervals if K > 1."""
    repeats = range(max((len(scores) for scores in predictions.values()), default=0))
    found = [
        measured(
            names,
            {pattern: scores[repeat] for pattern, scores in predictions.items()},
            target,
            ranges,
            seed,
            intervals and len(repeats) == 1,
            units,
        )
        for repeat in repeats
    ]
    for pattern, measures in found[0].items() if len(repeats) > 1 else ():
        for name, first in measures.items():
            first["value"] = float(np.mean([one[pattern][name]["value"] for one in found]))
            reasons = [one[pattern][name]["why_undefined"] for one in found if "why_undefined" in one[pattern][name]]
            first |= {"why_undefined": reasons[0]} if reasons else {}
    return found[0]


def _value(measure: Measure, prediction: Floats, target: Floats, ranges: Ranges) -> dict[str, Any]:
    scored = ~np.isnan(prediction)
    try:
        return {"value": measure(prediction[scored], target[scored], ranges)}
    except Undefined as reason:
        return {"value": float("nan"), "why_undefined": str(reason)}


def in_resamples(name: str, prediction: Floats, target: Floats, counts: Floats, ranges: Ranges) -> Floats:
    """A measure in every resample of the videos (R,), NaN where it is undefined.

    prediction: (n,), NaN for a video that was not scored; counts: (n, R), how often each video was drawn.
    """
    scored = ~np.isnan(prediction)
    x, y, drawn = prediction[scored], target[scored], counts[scored]
    try:
        if name in RESAMPLED:
            return RESAMPLED[name](x, y, drawn, ranges)
    except Undefined:
        return np.full(counts.shape[1], np.nan)
    measure = METRICS.get(name).make
    rows = (np.repeat(np.arange(len(y)), times) for times in drawn.T.astype(np.int64))
    return np.array([_value(measure, x[own], y[own], ranges)["value"] for own in rows])


def at_its_best(name: str, draws: Floats) -> NDArray[np.bool_]:
    """In which resamples (R,) a measure is exactly 1 or -1, the ends of correlations and agreements."""
    is_error = METRICS.get(name).about["better"] == "lower"
    return np.zeros(len(draws), bool) if is_error else np.abs(draws) == 1


def _ends(found: Interval) -> dict[str, Any]:
    reason = {} if found.why_none is None else {"why_no_interval": found.why_none}
    return {"low": found.low, "high": found.high, **reason}
