"""Covariance functions of pairs of videos, and sums of them over groups of numbers.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
PRIOR_MEANS = {"amplitude": -1.0, "length": 0.3, "noise": 1.0}  # of the logarithms


class Pairs(NamedTuple):
    """One group of b videos beside that of n others: what its kernel is made of."""

    product: Tensor  # (b, n) <x, z> / p
    square_x: Tensor  # (b, 1) <x, x> / p
    square_z: Tensor  # (1, n) <z, z> / p
    both: Tensor  # (b, n) 1 where both videos have the modality, else 0

    @property
    def distance(self) -> Tensor:
        """|x - z|^2 / p, (b, n)."""
        return self.product.mul(-2).add_(self.square_x).add_(self.square_z).clamp_(min=0)


class Term(NamedTuple):
    """One kernel of one group: amplitude * value, and the derivative of value by the log of the length scale."""

    amplitude: float
    value: Tensor  # (b, n)
    slope: Tensor | None


def linear(pairs: Pairs, length: float) -> tuple[Tensor, Tensor | None]:
    """<x, z> / p: without a length scale, and 0 by itself where a video lacks the modality."""
    return pairs.product, None


def rbf(pairs: Pairs, length: float) -> tuple[Tensor, Tensor | None]:
    """exp(-r^2 / 2) for r = |x - z| / (l sqrt(p)). Equation 4.9."""
    square = pairs.distance.div_(length**2)
    value = square.div(-2).exp_().mul_(pairs.both)
    return value, square.mul_(value)


def matern52(pairs: Pairs, length: float) -> tuple[Tensor, Tensor | None]:
    """(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r) for the same r. Equation 4.17."""
    scaled = pairs.distance.mul_(5).sqrt_().div_(length)
    decay = scaled.neg().exp_().mul_(pairs.both)
    third = scaled.square().div_(3)
    return (1 + scaled).add_(third).mul_(decay), scaled.add_(1).mul_(third).mul_(decay)


KERNELS: Mapping[str, Callable[[Pairs, float], tuple[Tensor, Tensor | None]]] = {
    "linear": linear,
    "rbf": rbf,
    "matern52": matern52,
}


def prior_means(names: Sequence[str], groups: int) -> Floats:
    """The logarithms of the kernel's numbers that are likely before any data, (K,).

    Group by group each kernel's amplitude and, unless it is linear, its length scale; then the noise.
    """
    group = [PRIOR_MEANS[number] for name in names for number in _numbers(name)]
    return np.array(group * groups + [PRIOR_MEANS["noise"]])


def _numbers(name: str) -> tuple[str, ...]:
    return ("amplitude",) if name == "linear" else ("amplitude", "length")


def terms(groups: Sequence[Pairs], names: Sequence[str], logs: Floats) -> Iterator[list[Term]]:
    """The kernels of each group in turn. logs: (K,) as in `prior_means`."""
    numbers = iter(np.exp(logs).tolist())
    for pairs in groups:
        found = []
        for name in names:
            amplitude, length = next(numbers), next(numbers) if "length" in _numbers(name) else math.nan
            found.append(Term(amplitude, *KERNELS[name](pairs, length)))
        yield found


def summed(found: Iterable[Term]) -> Tensor:
    """The sum of some terms, each with its amplitude, (b, n)."""
    first, *others = found
    total = first.amplitude * first.value
    for term in others:
        total.add_(term.value, alpha=term.amplitude)
    return total


def covariance(groups: Sequence[Pairs], names: Sequence[str], logs: Floats) -> Tensor:
    """The sum of the kernels of all groups, (b, n)."""
    return summed(term for group in terms(groups, names, logs) for term in group)
