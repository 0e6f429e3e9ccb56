"""Covariance functions of pairs of videos, and sums of them over groups of numbers.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 4.2.

The kernel of G groups is the sum of the named covariance functions of each group. The logarithms of its numbers, (K,),
go group by group: for each function its amplitude and, unless it is linear, its length scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
ROUNDING = 1e-14  # of the squares whose difference a squared distance is
PRIOR_MEANS = {"amplitude": -1.0, "length": 0.3}  # of the logarithms


class Described(NamedTuple):
    """n videos as G groups of numbers, (n, p) each, zeros where a video lacks the group; has: (n, G) bool."""

    groups: Sequence[Tensor]
    has: Tensor


class Pairs(NamedTuple):
    """P pairs of videos x and z: what their kernel is made of."""

    product: Tensor  # (G, P) <x, z> / p for the p numbers of a group
    distance: Tensor  # (G, P) |x - z|^2 / p
    both: Tensor | None  # (G, P) 1 where both videos have the group, else 0; None where all have all


def each_with_each(one: Described, other: Described) -> Pairs:
    """The pairs of b videos with n others, row by row of a (b, n) matrix."""
    product, distance = [], []
    for x, z in zip(one.groups, other.groups, strict=True):
        product.append(x @ z.T / x.shape[1])
        square_x, square_z = x.square().mean(dim=1, keepdim=True), z.square().mean(dim=1)
        squares = square_x + square_z
        apart = squares.sub(product[-1], alpha=2)
        # Videos that are alike have no distance: what rounding leaves of it is much to a short length scale.
        distance.append(apart.masked_fill_(apart < ROUNDING * squares, 0.0))
    both = None
    if torch.compiler.is_compiling() or not (one.has.all() and other.has.all()):
        both = (one.has.T.unsqueeze(2) & other.has.T.unsqueeze(1)).double().flatten(1)
    return Pairs(torch.stack(product).flatten(1), torch.stack(distance).flatten(1), both)


def each_with_itself(videos: Described) -> Pairs:
    """The pairs of n videos with themselves."""
    product = torch.stack([x.square().mean(dim=1) for x in videos.groups])
    return Pairs(product, torch.zeros_like(product), None if videos.has.all() else videos.has.T.double())


def lower_triangle(videos: Described) -> tuple[Pairs, Tensor]:
    """Each pair of n videos once, row by row of the lower triangle; and where it is in the flattened (n, n) matrix."""
    whole, size = each_with_each(videos, videos), len(videos.has)
    row, column = torch.tril_indices(size, size, device=whole.product.device)
    place = row * size + column
    both = None if whole.both is None else whole.both[:, place]
    return Pairs(whole.product[:, place], whole.distance[:, place], both), place


def linear(pairs: Pairs, length: Tensor, slope: bool) -> tuple[Tensor, Tensor | None]:
    """<x, z> / p: without a length scale, and 0 by itself where a video lacks the group."""
    return pairs.product, None


def rbf(pairs: Pairs, length: Tensor, slope: bool) -> tuple[Tensor, Tensor | None]:
    """exp(-r^2 / 2) for r = |x - z| / (l sqrt(p)). Equation 4.9."""
    value = _where_both((pairs.distance * (-0.5 / length.square())).exp_(), pairs)
    return value, (value * pairs.distance).div_(length.square()) if slope else None


def matern52(pairs: Pairs, length: Tensor, slope: bool) -> tuple[Tensor, Tensor | None]:
    """(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r) for the same r. Equation 4.17."""
    scaled = pairs.distance.mul(5).sqrt_().div_(length)
    decay = _where_both(scaled.neg().exp_(), pairs)
    third = scaled.square().div_(3)
    scaled.add_(1)
    value = (scaled + third).mul_(decay)
    return value, third.mul_(scaled).mul_(decay) if slope else None


def _where_both(value: Tensor, pairs: Pairs) -> Tensor:
    return value if pairs.both is None else value.mul_(pairs.both)


# Each gives the values (G, P) for the length scales (G, 1) and, if asked for, their derivatives by the logs of these.
KERNELS: Mapping[str, Callable[[Pairs, Tensor, bool], tuple[Tensor, Tensor | None]]] = {
    "linear": linear,
    "rbf": rbf,
    "matern52": matern52,
}


def prior_means(names: Sequence[str], groups: int) -> Floats:
    """The logarithms of the kernel's numbers that are likely before any data, (K,)."""
    return np.array([PRIOR_MEANS[number] for name in names for number in _numbers(name)] * groups)


def _numbers(name: str) -> tuple[str, ...]:
    return ("amplitude",) if name == "linear" else ("amplitude", "length")


class Term(NamedTuple):
    """One covariance function in all groups, with the columns of the (G, K / G) logarithms that it has."""

    column: int
    amplitude: Tensor  # (G,)
    value: Tensor  # (G, P)
    slope: Tensor | None  # (G, P)


def terms(pairs: Pairs, names: Sequence[str], logs: Floats, slopes: bool = False) -> list[Term]:
    """The named covariance functions of the groups; slopes: with their derivatives by the logs of the lengths."""
    numbers = torch.from_numpy(logs).to(pairs.product).exp().view(len(pairs.product), -1)
    found, column = [], 0
    for name in names:
        length = numbers[:, column + 1 : column + 2] if "length" in _numbers(name) else numbers[:, :0]
        found.append(Term(column, numbers[:, column], *KERNELS[name](pairs, length, slopes)))
        column += len(_numbers(name))
    return found


def summed(found: Sequence[Term]) -> Tensor:
    """The kernel: the sum over functions and groups, (P,)."""
    total = found[0].amplitude @ found[0].value
    for term in found[1:]:
        total += term.amplitude @ term.value
    return total


def by_group(found: Sequence[Term]) -> Tensor:
    """The kernel of each group, (G, P)."""
    total = found[0].amplitude.unsqueeze(1) * found[0].value
    for term in found[1:]:
        total.addcmul_(term.amplitude.unsqueeze(1), term.value)
    return total


def slopes(found: Sequence[Term], by_pair: Tensor) -> Floats:
    """The derivatives by the logarithms (K,) of what has the derivatives by_pair (P,) by the entries of the kernel."""
    columns: dict[int, Tensor] = {}
    for term in found:
        columns[term.column] = term.amplitude * (term.value @ by_pair)
        if term.slope is not None:
            columns[term.column + 1] = term.amplitude * (term.slope @ by_pair)
    return torch.stack([columns[i] for i in range(len(columns))], dim=1).flatten().cpu().numpy()


def covariance(pairs: Pairs, names: Sequence[str], logs: Floats) -> Tensor:
    """The kernel of the pairs, (P,)."""
    return summed(terms(pairs, names, logs))
