"""Measures in every resample of the videos at once, from how often each video was drawn.

Each function takes what it needs of predictions and targets (n,), and counts (n, R), and returns (R,); NaN where the
measure is undefined in a resample. `aqa.evaluation.measures` has the measures themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import FEWEST, Floats, correlation

Grades = NDArray[np.int64]
MOST_IN_PAIRS = 2000  # videos of which all pairs are held in memory


def weighted_mean(values: Floats, counts: Floats) -> Floats:
    """The mean of values (n,) over the videos drawn; without BLAS, so that threads change no bit."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.einsum("n,nr->r", values, counts) / counts.sum(axis=0))


def resampled_pearson(prediction: Floats, target: Floats, counts: Floats) -> Floats:
    """Pearson's linear correlation."""
    with np.errstate(invalid="ignore"):
        x = prediction[:, None] - weighted_mean(prediction, counts)
        y = target[:, None] - weighted_mean(target, counts)
    sums = (np.einsum("nr,nr,nr->r", a, b, counts) for a, b in ((x, y), (x, x), (y, y)))
    return _where_varied(correlation(*sums), prediction, target, counts)


def resampled_kendall(prediction: Floats, target: Floats, counts: Floats) -> Floats:
    """Kendall's tau-b. A video that was drawn twice is tied with itself, in the prediction and in the target."""
    if len(target) > MOST_IN_PAIRS:
        rows = (np.repeat(np.arange(len(target)), drawn) for drawn in counts.T.astype(np.int64))
        return np.array([metrics.kendall(prediction[own], target[own]) for own in rows])
    x, y = (np.sign(values[:, None] - values[None, :]) for values in (prediction, target))
    sums = (np.einsum("nr,nr->r", pairs @ counts, counts) for pairs in (x * y, np.abs(x), np.abs(y)))
    return _where_varied(correlation(*sums), prediction, target, counts)


def resampled_accuracy(predicted: Grades, true: Grades, counts: Floats) -> Floats:
    """Share of videos whose grade is right."""
    return weighted_mean((predicted == true).astype(np.float64), counts)


def resampled_macro_f1(predicted: Grades, true: Grades, counts: Floats) -> Floats:
    """The plain mean of F1 of the grades that occur in a resample, predicted or true."""
    total, found = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for grade in np.union1d(predicted, true):
        here, there = predicted == grade, true == grade
        both = counts[here & there].sum(axis=0)
        either = counts[here].sum(axis=0) + counts[there].sum(axis=0)
        occurs = either > 0
        total += np.where(occurs, 2 * both / np.where(occurs, either, 1), 0.0)
        found += occurs
    with np.errstate(invalid="ignore"):
        return total / found


def resampled_quadratic_kappa(predicted: Grades, true: Grades, counts: Floats) -> Floats:
    """Cohen's kappa with quadratic weights: 1 less the squared distance of grades over that expected by chance.

    All sums are of whole numbers, so that a chance of 0, where all grades are one, is met exactly.
    """
    x, y = predicted.astype(np.float64), true.astype(np.float64)
    squares, distances, of_x, of_y = (
        np.einsum("n,nr->r", values, counts) for values in (x**2 + y**2, (x - y) ** 2, x, y)
    )
    drawn = counts.sum(axis=0)
    chance = drawn * squares - 2 * of_x * of_y
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance > 0, 1 - drawn * distances / chance, np.nan)


def _where_varied(values: Floats, prediction: Floats, target: Floats, counts: Floats) -> Floats:
    """NaN where fewer than three videos were drawn, or all that were drawn have one prediction or one label."""
    seen = counts > 0
    with np.errstate(invalid="ignore"):
        for side in (prediction, target):
            highest = np.where(seen, side[:, None], -np.inf).max(axis=0, initial=-np.inf)
            lowest = np.where(seen, side[:, None], np.inf).min(axis=0, initial=np.inf)
            values = np.where(highest > lowest, values, np.nan)
    return np.where(counts.sum(axis=0) < FEWEST, np.nan, values)
