"""A Gaussian process with a kernel of groups: its marginal likelihood, and the posterior given n videos.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: sections 2.2, 5.4.1, 5.4.2. For basis videos:
Snelson and Ghahramani, Sparse Gaussian Processes using Pseudo-inputs, NeurIPS 2006. The C outputs are independent
processes that share the kernel; each has a scale and a noise of its own. What is predicted is their sum with given
loadings (C,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.layers.covariance import (
    Described,
    Floats,
    Pairs,
    covariance,
    each_with_each,
    each_with_itself,
    lower_triangle,
    prior_means,
    slopes,
    summed,
    terms,
)

PRIOR_WEIGHT = 0.1  # of the squared deviations of the logarithms from their means
PRIOR_NOISE = 1.0  # the mean of the logarithm, relative to the kernel
LARGEST_LOG = 10.0
LEAST_SCALE = 1e-12
JITTER = 1e-9  # of the mean of a kernel's diagonal: basis videos may be alike
BESIDE_THE_BASIS = 2000  # videos beside all basis videos at once


def likely_before(names: Sequence[str], groups: int, outputs: int) -> Floats:
    """The logarithms (K + C,) that are likely before any data: the kernel's numbers, then the noise of each output."""
    return np.append(prior_means(names, groups), [PRIOR_NOISE] * outputs)


@dataclass(frozen=True)
class Likelihood:
    """The marginal likelihood of outputs y (n, C), as a function of the logarithms (K + C,). Equations 5.8 and 5.9."""

    names: Sequence[str]
    y: Tensor
    pairs: Pairs  # the lower triangle
    place: Tensor  # (P,) where each pair is in the flattened (n, n) matrix
    twice: Tensor  # (P,) how often it is in the whole matrix

    @classmethod
    def of(cls, videos: Described, names: Sequence[str], y: Tensor) -> Likelihood:
        """Of n videos."""
        pairs, place = lower_triangle(videos)
        diagonal = torch.arange(len(y), device=place.device) * (len(y) + 1)
        return cls(names, y, pairs, place, 2 - torch.isin(place, diagonal).double())

    @property
    def start(self) -> Floats:
        """What is likely before any data."""
        return likely_before(self.names, len(self.pairs.product), self.y.shape[1])

    def negative(self, logs: Floats) -> tuple[float, Floats]:
        """Minus the log marginal likelihood plus the penalty, and the gradient. Constants are left out.

        The variance that scales kernel and noise of an output alike is profiled out: y' (K + s I)^-1 y / n.
        """
        outputs, apart = self.y.shape[1], logs - self.start
        found = terms(self.pairs, self.names, logs[:-outputs], slopes=True)
        kernel = self.y.new_zeros(len(self.y) ** 2).index_copy_(0, self.place, summed(found)).view(len(self.y), -1)
        value, by_entry, by_noise = PRIOR_WEIGHT * float(apart @ apart), torch.zeros_like(kernel), []
        for c, noise in enumerate(np.exp(logs[-outputs:]).tolist()):
            inverse, log_determinant = inverted(kernel, noise)
            weights = inverse @ self.y[:, c]
            scale = profiled_scale(self.y[:, c], weights)
            value += 0.5 * (len(self.y) * math.log(scale) + log_determinant)
            inverse.addr_(weights, weights, alpha=-1 / scale)
            by_noise.append(0.5 * noise * float(inverse.trace()))
            by_entry += inverse
        by_pair = by_entry.flatten()[self.place].mul_(self.twice).mul_(0.5)
        gradient = np.append(slopes(found, by_pair), by_noise)
        return value, gradient + 2 * PRIOR_WEIGHT * apart

    def maximized(self, iterations: int) -> Floats:
        """The logarithms for which `negative` is least."""
        import scipy.optimize

        found = scipy.optimize.minimize(
            self.negative,
            self.start,
            method="L-BFGS-B",
            jac=True,
            bounds=[(-LARGEST_LOG, LARGEST_LOG)] * len(self.start),
            options={"maxiter": iterations},
        )
        return np.asarray(found.x, np.float64)


def inverted(kernel: Tensor, noise: float) -> tuple[Tensor, float]:
    """(K + s I)^-1, and the log of the determinant of what is inverted. Only the lower triangle of K is read."""
    noisy = kernel.clone()
    noisy.diagonal().add_(noise)
    factor = _factor(noisy)
    return torch.cholesky_inverse(factor).mT, 2 * float(factor.diagonal().log().sum())


def _factor(matrix: Tensor) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise AqaError("the kernel of a Gaussian process is not positive definite: its numbers are damaged")
    return factor


def profiled_scale(y: Tensor, weights: Tensor) -> float:
    """The variance of an output that is most likely; a little more than 0 where all its values are equal."""
    return max(float(y @ weights) / len(y), LEAST_SCALE)


@dataclass(frozen=True)
class Conditioned:
    """What is predicted, given n videos and seen through m of them as a basis: all of them where it is exact.

    For a video with the kernel k (m,) to the basis and k0 to itself the mean is k'w and the variance, noise included,
    scale k0 + noise - k'E k. left_out: mean and variance of each of the n videos given the others. Equation 5.12.
    """

    logs: Floats  # (K + C,)
    weights: Tensor  # (m,) w
    explained: Tensor  # (m, m) E
    scale: float
    noise: float
    left_out: tuple[Tensor, Tensor]  # (n,) each

    def predict(self, across: Tensor, itself: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (b,) from the kernel to the basis (b, m) and of each video with itself (b,)."""
        spoken = ((across @ self.explained) * across).sum(dim=1)
        return across @ self.weights, (self.scale * itself + self.noise - spoken).clamp(min=0)


def exact(videos: Described, names: Sequence[str], logs: Floats, y: Tensor, loading: Tensor) -> Conditioned:
    """The posterior given n videos with outputs y (n, C). Equations 2.25 and 2.26."""
    outputs = y.shape[1]
    pairs = each_with_each(videos, videos)
    kernel = covariance(pairs, names, logs[:-outputs]).view(len(y), -1)
    weights, explained = torch.zeros_like(y[:, 0]), torch.zeros_like(kernel)
    mean, variance, scales, noises = torch.zeros_like(weights), torch.zeros_like(weights), 0.0, 0.0
    for c, noise in enumerate(np.exp(logs[-outputs:]).tolist()):
        inverse, _ = inverted(kernel, noise)
        own = inverse @ y[:, c]
        share, precision = float(loading[c]), inverse.diagonal()
        scale = share**2 * profiled_scale(y[:, c], own)
        scales, noises = scales + scale, noises + scale * noise
        mean += share * (y[:, c] - own / precision)
        variance += scale / precision
        weights += share * own
        explained += scale * inverse
    return Conditioned(logs, weights, explained, scales, noises, (mean, variance))


def through_basis(
    videos: Described, basis: Described, names: Sequence[str], logs: Floats, y: Tensor, loading: Tensor
) -> Conditioned:
    """The posterior given n videos, seen through m basis videos. Snelson and Ghahramani 2006, section 2.

    The covariance of the n videos is taken to be Q = V'V for V = L^-1 K_mn and L L' = K_mm, and what Q leaves of their
    variances is noise of each. Without the latter the basis videos would be trusted too far. Time m^2 n, memory m n.
    """
    outputs = y.shape[1]
    kernel = covariance(each_with_each(basis, basis), names, logs[:-outputs]).view(len(basis.has), -1)
    kernel.diagonal().add_(JITTER * float(kernel.diagonal().mean()))
    factor = _factor(kernel)
    projected = y.new_empty(len(kernel), len(y))  # V
    for block in torch.arange(len(y), device=y.device).split(BESIDE_THE_BASIS):
        part = Described([group[block] for group in videos.groups], videos.has[block])
        across = covariance(each_with_each(basis, part), names, logs[:-outputs]).view(len(kernel), -1)
        projected[:, block] = torch.linalg.solve_triangular(factor, across, upper=False)
    left = covariance(each_with_itself(videos), names, logs[:-outputs]) - projected.square().sum(dim=0)
    identity = torch.eye(len(kernel)).to(kernel)
    mean, variance, scales, noises = torch.zeros_like(y[:, 0]), torch.zeros_like(y[:, 0]), 0.0, 0.0
    weights, explained = torch.zeros_like(kernel[0]), torch.zeros_like(kernel)
    for c, noise in enumerate(np.exp(logs[-outputs:]).tolist()):
        apart = left.clamp(min=0) + noise  # (n,) D; (Q + D)^-1 = D^-1 - B'B
        weighed = projected / apart
        inner = _factor(identity + weighed @ projected.T)
        solved = torch.linalg.solve_triangular(inner, weighed, upper=False)  # B
        own = y[:, c] / apart - solved.T @ (solved @ y[:, c])
        precision = 1 / apart - solved.square().sum(dim=0)
        share = float(loading[c])
        scale = share**2 * profiled_scale(y[:, c], own)
        scales, noises = scales + scale, noises + scale * noise
        mean += share * (y[:, c] - own / precision)
        variance += scale / precision
        weights += share * torch.linalg.solve_triangular(inner.T, (solved @ y[:, c]).unsqueeze(1), upper=True)[:, 0]
        explained += scale * (identity - torch.cholesky_inverse(inner))
    back = torch.linalg.solve_triangular(factor.T, identity, upper=True)  # L^-T
    return Conditioned(logs, back @ weights, back @ explained @ back.T, scales, noises, (mean, variance))
