"""What out-of-fold scores are worth: SRCC of all videos together, its mean over folds, and models compared by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import RESAMPLES, Floats, ResampledTarget, numbered_labels, resamples
from aqa.evaluation.comparison import Estimate, estimate, mean

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The videos of a cross-validation, n of them, each tested once in each of K repeats.

    truth: (n,), without NaN. folds: (K, n), by which fold each was tested; no number stands in two repeats. labels:
    (n,), of what the bootstrap draws (athletes ...), or None, where it draws single videos.
    """

    truth: Floats
    folds: Ints
    labels: Sequence[str] | None = None

    @cached_property
    def units(self) -> Ints | None:
        """The numbers of the labels, as the bootstrap takes them."""
        return None if self.labels is None else numbered_labels(self.labels)

    @cached_property
    def numbers(self) -> list[int]:
        """The folds that have a video here, in order."""
        return [int(number) for number in np.unique(self.folds)]

    def members(self, fold: int) -> tuple[int, NDArray[np.bool_]]:
        """In which repeat a fold is, and which videos it tests (n,)."""
        repeat = int(np.flatnonzero((self.folds == fold).any(axis=1))[0])
        return repeat, self.folds[repeat] == fold

    def draw(self, count: int = RESAMPLES, seed: int = 0) -> ResampledTarget:
        """The labels in resamples of the videos, or of what they belong to."""
        blocks = list(resamples(len(self.truth), count, seed, self.units))
        return ResampledTarget(self.truth, np.concatenate(blocks, axis=1))

    @property
    def test_share(self) -> float:
        """Tested videos of a fold over those that it does not test, the mean over folds."""
        size = float(np.mean([self.members(fold)[1].sum() for fold in self.numbers]))
        return size / (len(self.truth) - size)

    def by_fold(self, scores: Floats) -> dict[int, float]:
        """SRCC in each fold, of scores (K, n); NaN where it is undefined."""
        found = {}
        for fold in self.numbers:
            repeat, own = self.members(fold)
            own = own & ~np.isnan(scores[repeat])
            found[fold] = metrics.srcc(scores[repeat][own], self.truth[own])
        return found


def pooled(scores: Floats, resampled: ResampledTarget) -> Estimate:
    """SRCC of all videos together, the Fisher-z mean over repeats. scores: (K, n)."""
    found = [estimate(repeat, resampled) for repeat in scores]
    return found[0] if len(found) == 1 else mean(found)


def over_folds(scores: Floats, tested: HeldOut, resampled: ResampledTarget) -> Estimate:
    """The Fisher-z mean over folds of SRCC in each. scores: (K, n).

    In a resample a fold counts by the share of what is drawn (videos, athletes ...) that was drawn of it: a fold that
    is one athlete as often as that athlete was. NaN where SRCC is undefined in a fold that counts, and where the order
    is perfect in one, whose z is infinite.
    """
    values, draws, weights = [], [], []
    for fold in tested.numbers:
        repeat, own = tested.members(fold)
        found = estimate(np.where(own, scores[repeat], np.nan), resampled)
        values.append(found.value)
        draws.append(found.draws)
        firsts = _first_of_each(own, tested.units)
        weights.append(resampled.counts[firsts].mean(axis=0))
    drawn, weight = np.array(draws), np.array(weights)
    counts = weight > 0
    perfect = (counts & (np.abs(drawn) == 1)).any(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(counts, np.arctanh(drawn), 0.0)
        means = np.tanh((weight * z).sum(axis=0) / weight.sum(axis=0))
    value = float("nan") if 1.0 in np.abs(values) else metrics.fisher_mean(values)
    return Estimate(value, means, perfect)


def _first_of_each(own: NDArray[np.bool_], units: Ints | None) -> Ints:
    """A video of each unit among those of a fold (n,): all of a unit are drawn equally often."""
    rows = np.flatnonzero(own)
    return rows if units is None else rows[np.unique(units[rows], return_index=True)[1]]


def summarize_folds(
    predictions: Mapping[str, Floats],
    tested: HeldOut,
    incomplete: Sequence[str],
    label_low: float,
    label_high: float,
    seed: int = 0,
    count: int = RESAMPLES,
) -> dict[str, Any]:
    """What `metrics.summarize` says, of out-of-fold predictions, with means over folds beside the pooled SRCC.

    predictions: by pattern, (K, n). SRCC and Kendall's tau are Fisher-z means over repeats, the others plain means.
    Every pattern and the average have in addition "srcc_folds", the Fisher-z mean over folds, with "srcc_folds_low" and
    "srcc_folds_high"; patterns have "srcc_folds_plain", the plain mean, and "why_no_folds" where the first is NaN.
    """
    resampled = tested.draw(count, seed)
    single = [
        metrics.summarize(
            {name: scores[repeat] for name, scores in predictions.items()},
            tested.truth,
            incomplete,
            label_low,
            label_high,
            seed,
            count,
            tested.units,
        )
        for repeat in range(len(tested.folds))
    ]
    found: dict[str, Any] = {"patterns": {}}
    whole = {name: pooled(scores, resampled) for name, scores in predictions.items()}
    by_fold = {name: over_folds(scores, tested, resampled) for name, scores in predictions.items()}
    for name, scores in predictions.items():
        merged = _merged([one["patterns"][name] for one in single])
        values = tested.by_fold(scores)
        merged |= _intervals(whole[name], "srcc") | _intervals(by_fold[name], "srcc_folds")
        merged["srcc_folds_plain"] = float(np.mean(list(values.values())))
        if np.isnan(by_fold[name].value):
            merged["why_no_folds"] = _why(values)
        found["patterns"][name] = merged
    average = _merged([one["average_incomplete"] for one in single])
    if incomplete:
        average |= _intervals(mean(whole[name] for name in incomplete), "srcc")
        average |= _intervals(mean(by_fold[name] for name in incomplete), "srcc_folds")
    found["average_incomplete"] = average
    return found


def _intervals(found: Estimate, name: str) -> dict[str, Any]:
    low, high = (float("nan"),) * 2 if np.isnan(found.value) else found.interval[:2]
    numbers: dict[str, Any] = {name: found.value, f"{name}_low": low, f"{name}_high": high}
    if name == "srcc" and not np.isnan(found.value) and found.interval.why_none is not None:
        numbers["why_no_interval"] = found.interval.why_none
    return numbers


def _merged(repeats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of all repeats as one: Fisher-z means of correlations, plain means of the rest; words of the first."""
    merged = {key: value for repeat in reversed(repeats) for key, value in repeat.items()}
    merged.pop("why_no_interval", None)
    for key, value in merged.items():
        if isinstance(value, float):
            values = [repeat[key] for repeat in repeats]
            is_correlation = key.partition("_")[0] in CORRELATIONS
            merged[key] = metrics.fisher_mean(values) if is_correlation else float(np.mean(values))
    return merged


CORRELATIONS = ("srcc", "kendall")


def _why(values: Mapping[int, float]) -> str:
    """Why there is no Fisher-z mean over folds of SRCC."""
    undefined = [str(fold) for fold, value in values.items() if np.isnan(value)]
    if undefined:
        return f"undefined in fold{'s' * (len(undefined) > 1)} {_some(undefined)}"
    perfect = [str(fold) for fold, value in values.items() if abs(value) == 1]
    return f"the order is perfect in fold{'s' * (len(perfect) > 1)} {_some(perfect)}, of few videos"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class TTest(NamedTuple):
    """A t test of differences by fold: their mean, t, its degrees of freedom and the two-sided p value; NaN if none."""

    mean: float
    statistic: float
    freedom: int
    p_value: float


def corrected_t_test(differences: Sequence[float], test_share: float) -> TTest:
    """The corrected resampled t test (Nadeau and Bengio, Inference for the Generalization Error, 2003).

    differences: of two models' values in each fold, of all repeats. test_share: tested videos of a fold over those
    that it does not test, 1 / (k - 1) of k folds. Models of two folds share most of their training videos, so the
    variance of the mean is (1 / J + test_share) times that of J differences. NaN for fewer than two, where one is NaN,
    and where all are equal.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    middle = float(np.mean(values)) if count else float("nan")
    if count < 2 or np.isnan(values).any():
        return TTest(middle, float("nan"), max(count - 1, 0), float("nan"))
    variance = (1 / count + test_share) * float(np.var(values, ddof=1))
    if variance == 0:
        return TTest(middle, float("nan"), count - 1, float("nan"))
    statistic = middle / np.sqrt(variance)
    return TTest(middle, float(statistic), count - 1, float(2 * scipy.stats.t.sf(abs(statistic), count - 1)))
