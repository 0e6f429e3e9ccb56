"""Covariance functions are scikit-learn's, and their slopes are finite differences."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern

from aqa.layers.covariance import (
    KERNELS,
    Described,
    by_group,
    covariance,
    each_with_each,
    each_with_itself,
    lower_triangle,
    prior_means,
    slopes,
    terms,
)

WIDTH, LENGTH = 6, 1.3
RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((7, WIDTH)), RNG.standard_normal((5, WIDTH))
REFERENCE = {
    "linear": lambda x, z=None: DotProduct(sigma_0=0)(x, z) / WIDTH,
    "rbf": RBF(LENGTH * WIDTH**0.5),
    "matern52": Matern(LENGTH * WIDTH**0.5, nu=2.5),
}
ALL = tuple(KERNELS)


def described(*groups, has=None):
    has = torch.ones(len(groups[0]), len(groups), dtype=torch.bool) if has is None else has
    return Described([torch.from_numpy(group) for group in groups], has)


@pytest.mark.parametrize("name", KERNELS)
def test_they_are_scikit_learns_with_lengths_in_units_of_the_root_of_the_width(name):
    length = torch.full((1, 1), LENGTH, dtype=torch.double)
    value, _ = KERNELS[name](each_with_each(described(X), described(Z)), length, False)
    np.testing.assert_allclose(value.view(7, 5).numpy(), REFERENCE[name](X, Z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rbf", "matern52"])
def test_equal_videos_have_no_distance_however_short_the_length_scale(name):
    """Else they would be less alike than they are, and a kernel with little noise not positive definite."""
    x = np.random.default_rng(3).standard_normal((40, 11)) * 3
    twins = described(np.concatenate([x, x]))
    pairs = each_with_each(twins, twins)
    distance = pairs.distance.view(80, 80)
    assert (distance[:40, 40:].diagonal() == 0).all()
    assert (distance.diagonal() == 0).all()
    assert ((distance == 0).sum(dim=1) == 2).all()  # nobody else is taken for equal
    kernel = covariance(pairs, [name], np.array([10.0, -10.0])).view(80, 80)
    kernel.diagonal().add_(np.exp(-10.0))
    assert not torch.linalg.cholesky_ex(kernel).info


def test_slopes_are_finite_differences():
    pairs, rng = each_with_each(described(X[:5], Z), described(Z, X[2:])), np.random.default_rng(1)
    logs, weight = rng.standard_normal(10), torch.from_numpy(rng.standard_normal(25))
    found = slopes(terms(pairs, ALL, logs, slopes=True), weight)
    for i in range(len(logs)):
        ends = [covariance(pairs, ALL, logs + step * (np.arange(10) == i)) @ weight for step in (1e-6, -1e-6)]
        assert found[i] == pytest.approx(float(ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_the_triangle_and_the_diagonal_are_of_the_whole_matrix():
    has = torch.ones(7, 2, dtype=torch.bool)
    has[3, 1] = False
    videos = described(X, np.where(has[:, 1:].numpy(), X[:, :2], 0.0), has=has)
    logs = np.random.default_rng(2).standard_normal(10)
    whole = covariance(each_with_each(videos, videos), ALL, logs)
    below, place = lower_triangle(videos)
    assert len(place) == 28
    assert torch.allclose(covariance(below, ALL, logs), whole[place], atol=1e-12)
    assert torch.allclose(covariance(each_with_itself(videos), ALL, logs), whole.view(7, 7).diagonal(), atol=1e-12)


def test_a_video_that_lacks_the_modality_has_nothing_in_common_with_any():
    has = torch.ones(7, 1, dtype=torch.bool)
    has[2] = False
    x = X.copy()
    x[2] = 0
    logs = np.zeros(len(prior_means(ALL, 1)))
    found = covariance(each_with_each(described(x, has=has), described(Z)), ALL, logs).view(7, 5)
    assert (found[2] == 0).all()
    assert (found[[0, 1, 3, 4, 5, 6]] != 0).all()


def test_the_numbers_go_group_by_group():
    names = ("linear", "matern52")
    assert prior_means(names, 2).tolist() == [-1.0, -1.0, 0.3, -1.0, -1.0, 0.3]
    logs = np.log([2.0, 3.0, LENGTH, 5.0, 7.0, LENGTH])
    both = described(X[:5], Z)
    first, second = by_group(terms(each_with_each(both, both), names, logs)).view(2, 5, 5).numpy()
    linear, matern = REFERENCE["linear"], REFERENCE["matern52"]
    np.testing.assert_allclose(first, 2 * linear(X[:5]) + 3 * matern(X[:5]), atol=1e-12)
    np.testing.assert_allclose(second, 5 * linear(Z) + 7 * matern(Z), atol=1e-12)
    whole = covariance(each_with_each(both, both), names, logs).view(5, 5)
    np.testing.assert_allclose(whole, first + second, atol=1e-12)
