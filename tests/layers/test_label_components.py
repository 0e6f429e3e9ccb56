"""Components of labels: they give the first label back exactly, and what is not labelled is filled in."""

import numpy as np
import pytest
import torch

from aqa.layers.label_components import label_components, standardized_labels


def labels(videos=200, labels=6, seed=0):
    """Labels that two qualities of a video decide, but for noise."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((videos, 2)) @ rng.standard_normal((2, labels))
    return torch.from_numpy(found + 0.1 * rng.standard_normal((videos, labels)))


def test_labels_are_standardized_by_the_videos_that_have_them():
    given = labels()
    given[::4, 1] = torch.nan
    given[:, 2] = 7.0
    given[:, 3] = torch.nan
    found = standardized_labels(given)
    assert torch.equal(found.isnan(), given.isnan())
    known = found[~found[:, 1].isnan(), 1]
    assert torch.allclose(known.mean(), torch.zeros((), dtype=torch.double), atol=1e-12)
    assert known.std(correction=0) == pytest.approx(1)
    assert (found[:, 2] == 0).all()


@pytest.mark.parametrize("most", [1, 2, 4, 6, 9])
def test_the_first_label_is_the_components_times_the_loading(most):
    given = standardized_labels(labels())
    components, loading = label_components(given, most)
    assert components.shape[1] == len(loading) == (most + 1 if most < 6 else 6)
    assert torch.allclose(components @ loading, given[:, 0], atol=1e-9)
    products = components.T @ components
    assert torch.allclose(products, products.diagonal().diag(), atol=1e-6)


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    given = standardized_labels(labels())
    components, _ = label_components(given, 2)
    theirs = PCA(2).fit_transform(given.numpy())
    for own in components[:, :2].T:
        assert max(abs(np.corrcoef(own, one)[0, 1]) for one in theirs.T) == pytest.approx(1)


def test_what_is_not_labelled_is_filled_in_from_the_other_labels():
    whole = standardized_labels(labels())
    given = whole.clone()
    given[torch.from_numpy(np.random.default_rng(1).random(given.shape) < 0.3)] = torch.nan
    given[:, 0] = whole[:, 0]
    components, loading = label_components(given, 2)
    reference, _ = label_components(whole, 2)
    for own in components[:, :2].T:
        assert max(abs(np.corrcoef(own, one)[0, 1]) for one in reference[:, :2].T) > 0.95
    assert torch.allclose(components @ loading, whole[:, 0], atol=1e-9)


def test_a_label_that_nobody_has_and_constants_change_nothing():
    given = standardized_labels(labels())
    none, same = torch.full((200, 1), torch.nan, dtype=torch.double), torch.zeros(200, 1, dtype=torch.double)
    for further in (none, same):
        components, loading = label_components(torch.cat([given, further], dim=1), 8)
        assert components.shape == (200, 6)
        assert torch.allclose(components @ loading, given[:, 0], atol=1e-9)


def test_one_label_is_its_own_component():
    given = standardized_labels(labels())[:, :1]
    components, loading = label_components(given, 8)
    assert torch.equal(components, given)
    assert loading.tolist() == [1.0]
    assert label_components(torch.zeros(9, 3, dtype=torch.double), 2)[0].shape == (9, 1)
