"""Covariance functions are scikit-learn's, and their slopes are finite differences."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern

from aqa.layers.covariance import KERNELS, Pairs, covariance, prior_means, summed, terms

WIDTH, LENGTH = 6, 1.3
RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((7, WIDTH)), RNG.standard_normal((5, WIDTH))
REFERENCE = {
    "linear": lambda x, z: DotProduct(sigma_0=0)(x, z) / WIDTH,
    "rbf": RBF(LENGTH * WIDTH**0.5),
    "matern52": Matern(LENGTH * WIDTH**0.5, nu=2.5),
}


def pairs(x, z, both=None):
    x, z = torch.from_numpy(x), torch.from_numpy(z)
    both = torch.ones(len(x), len(z), dtype=torch.double) if both is None else both
    return Pairs(x @ z.T / WIDTH, x.square().mean(dim=1, keepdim=True), z.square().mean(dim=1, keepdim=True).T, both)


@pytest.mark.parametrize("name", KERNELS)
def test_they_are_scikit_learns_with_lengths_in_units_of_the_root_of_the_width(name):
    value, _ = KERNELS[name](pairs(X, Z), LENGTH)
    np.testing.assert_allclose(value.numpy(), REFERENCE[name](X, Z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rbf", "matern52"])
def test_slopes_are_finite_differences_by_the_log_of_the_length(name):
    step = 1e-6
    _, slope = KERNELS[name](pairs(X, Z), LENGTH)
    ends = [KERNELS[name](pairs(X, Z), LENGTH * np.exp(sign * step))[0] for sign in (1, -1)]
    assert torch.allclose(slope, (ends[0] - ends[1]) / (2 * step), atol=1e-8)


def test_a_video_that_lacks_the_modality_has_nothing_in_common_with_any():
    both = torch.ones(7, 5, dtype=torch.double)
    both[2] = 0
    x = X.copy()
    x[2] = 0
    found = covariance([pairs(x, Z, both)], tuple(KERNELS), np.zeros(len(prior_means(tuple(KERNELS), 1))))
    assert (found[2] == 0).all()
    assert (found[[0, 1, 3, 4, 5, 6]] != 0).all()


def test_the_numbers_go_group_by_group_and_the_noise_is_last():
    names = ("linear", "matern52")
    assert prior_means(names, 2).tolist() == [-1.0, -1.0, 0.3, -1.0, -1.0, 0.3, 1.0]
    logs = np.log([2.0, 3.0, LENGTH, 5.0, 7.0, LENGTH, 1.0])
    found = list(terms([pairs(X, X), pairs(Z, Z)], names, logs))
    assert [[round(term.amplitude, 9) for term in group] for group in found] == [[2, 3], [5, 7]]
    first, second = map(summed, found)
    np.testing.assert_allclose(first, 2 * REFERENCE["linear"](X, X) + 3 * REFERENCE["matern52"](X), atol=1e-12)
    np.testing.assert_allclose(second, 5 * REFERENCE["linear"](Z, Z) + 7 * REFERENCE["matern52"](Z), atol=1e-12)
