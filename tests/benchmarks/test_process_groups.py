"""Groups that are left out in closed form are what refits without them predict."""

import numpy as np
import pytest
import torch

from aqa.layers.covariance import Described, covariance, each_with_each
from aqa.layers.process import Likelihood, exact
from benchmarks.process_groups import OBJECTIVES, Groups, folds_of, left_out, negative

LABELS = ["a", "b", "a", "c", "c", "b", "d", "a", "c", "d", "e", "b"]
NAMES = ("linear", "rbf")


@pytest.fixture(scope="module")
def likelihood():
    draws = torch.Generator().manual_seed(0)
    videos = [torch.randn(len(LABELS), width, generator=draws, dtype=torch.double) for width in (3, 2)]
    y = torch.randn(len(LABELS), 1, generator=draws, dtype=torch.double) + videos[0].sum(dim=1, keepdim=True)
    described = Described(videos, torch.ones(len(LABELS), 2, dtype=torch.bool))
    return described, Likelihood.of(described, NAMES, y)


def test_a_group_that_is_left_out_is_what_the_others_predict(likelihood):
    described, found = likelihood
    logs, y = found.start + 0.3, found.y[:, 0]
    noisy = covariance(each_with_each(described, described), NAMES, logs[:-1]).view(len(y), -1)
    noisy = noisy + np.exp(logs[-1]) * torch.eye(len(y), dtype=torch.double)
    groups, determinants = Groups.of(LABELS), 0.0
    out = left_out(torch.linalg.inv(noisy), y, groups)
    for number, label in enumerate(sorted(set(LABELS))):
        own = torch.tensor([each == label for each in LABELS])
        solved = torch.linalg.solve(noisy[~own][:, ~own], noisy[~own][:, own]).T
        given = noisy[own][:, own] - solved @ noisy[~own][:, own]
        real = groups.real[number]
        assert torch.allclose(out.error[number, real], y[own] - solved @ y[~own])
        assert torch.allclose(out.variance[number, real], given.diagonal())
        assert torch.allclose(out.weighted[number, real], torch.linalg.solve(given, out.error[number, real]))
        determinants += given.logdet()
    assert torch.allclose(out.log_determinant, determinants)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_finite_differences(likelihood, name):
    _, found = likelihood
    logs, groups = found.start + np.linspace(-0.4, 0.4, len(found.start)), Groups.of(LABELS)
    _, gradient = negative(found, OBJECTIVES[name], groups, logs)
    for i, expected in enumerate(gradient):
        step = 1e-5 * np.eye(len(logs))[i]
        above, below = (negative(found, OBJECTIVES[name], groups, logs + sign * step)[0] for sign in (1, -1))
        assert (above - below) / 2e-5 == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_videos_that_are_groups_of_one_are_left_out_as_the_model_leaves_them_out(likelihood):
    described, found = likelihood
    known = exact(described, NAMES, found.start, found.y, torch.ones(1, dtype=torch.double))
    out = left_out(known.explained / known.scale, found.y[:, 0], Groups.of([str(i) for i in range(len(LABELS))]))
    order = torch.tensor(np.argsort([str(i) for i in range(len(LABELS))]))
    mean, variance = known.left_out
    assert torch.allclose(out.error[:, 0], (found.y[:, 0] - mean)[order])
    assert torch.allclose(out.variance[:, 0] * known.scale, variance[order])


def test_no_fold_divides_a_group():
    folds = folds_of(LABELS, 2)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(LABELS)))
    assert not {LABELS[i] for i in folds[0]} & {LABELS[i] for i in folds[1]}
