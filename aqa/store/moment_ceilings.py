"""The best possible SRCC on the data of `moments`, by simulating exact inference: what its constants come from.

    python -m aqa.store.moment_ceilings

Of all predictions from a set of streams, E[F(q) | streams] has the highest rank correlation with q, where F is the
distribution function of q: a prediction enters Spearman's correlation by its ranks alone, and the sum of products of
two sets of ranks is largest where both are in the same order.

Two streams or more show by their timing which marked clips are elements. What is not known of q is then normal with the
same variance for every video (and, where audio alone is left, the falls), so the order is that of the conditional mean.
A single stream leaves open which E of its E + D marked clips are elements: all choices are equally likely, whatever
they show, as look-alikes have the same distribution. The expected rank is then the mean over all choices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from aqa.modalities import subsets
from aqa.store.draws import Floats
from aqa.store.moments import MOMENTS, MomentPreset, MomentScore

VIDEOS, PARTS = 1_000_000, 20  # the standard error is that of the mean over the parts


@dataclass(frozen=True)
class Ceiling:
    """A rank correlation and the standard error of its simulation."""

    srcc: float
    error: float


def simulated_ceilings(preset: MomentPreset, target: str, count: int = VIDEOS, seed: int = 0) -> dict[str, Ceiling]:
    """The best possible SRCC of every non-empty subset of modalities, by their initials, from `count` performances."""
    modalities = list(preset.streams)
    found: dict[str, list[float]] = {name: [] for name in subsets(modalities)}
    rng = np.random.default_rng([seed, count])
    for _ in range(PARTS):
        truth, seen = _draw(preset, target, count // PARTS, rng)
        for name, subset in subsets(modalities).items():
            known = list(itertools.compress(modalities, subset))
            predicted = _expected(preset, target, known, seen)
            found[name].append(float(scipy.stats.spearmanr(predicted, truth)[0]))
    return {
        name: Ceiling(float(np.mean(parts)), float(np.std(parts, ddof=1) / math.sqrt(PARTS)))
        for name, parts in found.items()
    }


@dataclass(frozen=True)
class Readings:
    """What streams show of the slots that they mark: s (n, E + D), u (n, E + D), falls (n, E + D), by modality."""

    shared: dict[str, Floats]
    own: dict[str, Floats]
    falls: dict[str, Floats]


def _draw(preset: MomentPreset, target: str, n: int, rng: np.random.Generator) -> tuple[Floats, Readings]:
    """q (n,) of performances without their filler, and the readings; falls are standardized, larger is worse."""
    score, elements, extra = preset.targets[target], preset.elements, preset.look_alikes
    p, count = preset.fall, preset.elements + preset.look_alikes
    shared = rng.standard_normal((n, elements))
    falls = _standardized(rng.random((n, elements)) < p, p)
    worth = math.sqrt(score.shared) * shared - math.sqrt(score.falls) * falls
    readings = Readings({}, {}, {})
    for weight, (modality, stream) in zip(np.sqrt(score.own), preset.streams.items(), strict=True):
        own = rng.standard_normal((n, count))
        worth += weight * own[:, :elements]
        everything = np.concatenate([shared, rng.standard_normal((n, extra))], axis=1)
        readings.shared[modality] = everything + math.sqrt(stream.shared_error) * rng.standard_normal((n, count))
        readings.own[modality] = own + math.sqrt(stream.own_error) * rng.standard_normal((n, count))
        others = _standardized(rng.random((n, extra)) < p, p)
        readings.falls[modality] = np.concatenate([falls, others], axis=1)
    truth = worth.sum(axis=1) / math.sqrt(elements) + math.sqrt(score.judges) * rng.standard_normal(n)
    return truth, readings


def _standardized(falls: NDArray[np.bool_], p: float) -> Floats:
    return (falls.astype(np.float64) - p) / math.sqrt(p * (1 - p))


def _expected(preset: MomentPreset, target: str, subset: Collection[str], seen: Readings) -> Floats:
    """What is in the order of E[F(q) | subset], (n,)."""
    worth = _expected_worth(preset, target, subset, seen) / math.sqrt(preset.elements)
    if len(subset) > 1:
        return worth[:, : preset.elements].sum(axis=1)
    choices = list(itertools.combinations(range(worth.shape[1]), preset.elements))
    chosen = np.zeros((worth.shape[1], len(choices)))
    for column, choice in enumerate(choices):
        chosen[list(choice), column] = 1.0
    grid = np.linspace(-6, 6, 2001)
    rank = np.interp(worth @ chosen, grid, _expected_rank(preset, target, subset, grid))
    return rank.mean(axis=1)


def _expected_worth(preset: MomentPreset, target: str, subset: Collection[str], seen: Readings) -> Floats:
    """E[v | readings] of every slot if it is an element, (n, E + D); of elements alone where two streams are seen."""
    score = preset.targets[target]
    precision = sum(1 / preset.streams[m].shared_error for m in subset)
    weighted = sum(seen.shared[m] / preset.streams[m].shared_error for m in subset)
    worth: Floats = np.asarray(math.sqrt(score.shared) * weighted / (1 + precision))
    for own, (modality, stream) in zip(score.own, preset.streams.items(), strict=True):
        if modality in subset:
            worth = worth + math.sqrt(own) * seen.own[modality] / (1 + stream.own_error)
    shows = [m for m in subset if preset.streams[m].falls]
    return worth - math.sqrt(score.falls) * seen.falls[shows[0]] if shows else worth


def _expected_rank(preset: MomentPreset, target: str, subset: Collection[str], known: Floats) -> Floats:
    """E[F(q) | subset] where the conditional mean of q, falls that cannot be seen left out, is `known` (k,).

    F(q) is the probability that another performance is worse. Their difference is a normal variable and two binomial
    ones, of the falls of the other and, where they cannot be seen, of this one.
    """
    score = preset.targets[target]
    counts = np.arange(preset.elements + 1)
    likely = scipy.stats.binom.pmf(counts, preset.elements, preset.fall)
    cost = _fall_part(preset, score) * (counts - preset.elements * preset.fall)  # what so many falls cost
    seen = any(preset.streams[m].falls for m in subset)
    own_counts, own_likely = ([0.0], [1.0]) if seen else (cost, likely)
    deviation = math.sqrt(1 - score.falls + _unexplained(preset, score, subset))
    rank = np.zeros_like(known)
    for (other, chance), (mine, own_chance) in itertools.product(
        zip(cost, likely, strict=True), zip(own_counts, own_likely, strict=True)
    ):
        rank += chance * own_chance * scipy.special.ndtr((known - mine + other) / deviation)
    return rank


def _fall_part(preset: MomentPreset, score: MomentScore) -> float:
    """What one fall costs, in units of q."""
    return math.sqrt(score.falls / (preset.elements * preset.fall * (1 - preset.fall)))


def _unexplained(preset: MomentPreset, score: MomentScore, subset: Collection[str]) -> float:
    """Variance of the normal part of q once a subset is seen and the elements are known."""
    precision = sum(1 / preset.streams[m].shared_error for m in subset)
    explained = score.shared * precision / (1 + precision)
    for own, (modality, stream) in zip(score.own, preset.streams.items(), strict=True):
        if modality in subset:
            explained += own / (1 + stream.own_error)
    return 1 - score.falls - explained


def linear_srcc(preset: MomentPreset, target: str, subset: Collection[str], clips: int | None = None) -> float:
    """The SRCC of the best linear prediction from sums over clips, as if they and q were normal.

    clips: of the video, all of which are summed: what the channels' means tell at most. None: the marked clips alone
    are summed, stream by stream: what a linear model has that finds them, but does not compare streams in time.
    """
    score, elements, p = preset.targets[target], preset.elements, preset.fall
    marked = elements + preset.look_alikes
    filler = 0 if clips is None else clips - marked
    evidence = [(m, kind) for m in subset for kind in ("shared", "own", "falls")]
    evidence = [(m, kind) for m, kind in evidence if kind != "falls" or preset.streams[m].falls]
    covariance = np.zeros((len(evidence), len(evidence)))
    with_q = np.zeros(len(evidence))
    common = {"shared": float(elements), "own": 0.0, "falls": elements * p * (1 - p)}  # between two streams
    own = dict(zip(preset.streams, score.own, strict=True))
    for i, (m, kind) in enumerate(evidence):
        stream = preset.streams[m]
        for j, (_, other) in enumerate(evidence):
            covariance[i, j] = common[kind] if kind == other else 0.0
        if kind == "falls":
            covariance[i, i] = marked * p * (1 - p) + filler * preset.low * (1 - preset.low)
            with_q[i] = -math.sqrt(score.falls * elements * p * (1 - p))
        else:
            error = stream.shared_error if kind == "shared" else stream.own_error
            covariance[i, i] = (marked + filler * preset.filler**2) * (1 + error)
            with_q[i] = math.sqrt((score.shared if kind == "shared" else own[m]) * elements)
    explained = float(with_q @ np.linalg.solve(covariance, with_q))
    return 6 / math.pi * math.asin(math.sqrt(explained) / 2)


def linear_ceilings(preset: MomentPreset, target: str, clips: int | None = None) -> dict[str, float]:
    """`linear_srcc` of every non-empty subset, by the initials of its modalities."""
    modalities = list(preset.streams)
    return {
        name: linear_srcc(preset, target, list(itertools.compress(modalities, subset)), clips)
        for name, subset in subsets(modalities).items()
    }


def print_ceilings() -> None:
    """Print, for every preset and target: the ceilings, and below them what two simpler predictions reach."""
    for name, preset in MOMENTS.items():
        for target in preset.targets:
            found = simulated_ceilings(preset, target)
            print(name, target, ", ".join(f"{p} {c.srcc:.4f} +- {c.error:.4f}" for p, c in found.items()))
            for what, clips in (("marked clips, untimed", None), ("means over all clips", sum(preset.lengths) // 2)):
                reached = linear_ceilings(preset, target, clips)
                print(f"  {what}:", ", ".join(f"{p} {srcc:.3f}" for p, srcc in reached.items()))


if __name__ == "__main__":
    print_ceilings()
