"""Features that runs share: read once, and as they would be for each alone."""

import numpy as np
import pytest
import torch

from aqa.features.batches import Features
from aqa.features.cache import FeatureLoader
from aqa.store.store import FeatureStore

CPU = torch.device("cpu")


@pytest.fixture
def store(tiny_store):
    with FeatureStore(tiny_store()) as opened:
        yield opened


def load(loader, store, modalities=("visual", "audio"), align="shortest"):
    return loader.load(store, modalities, align, CPU)


def statistics_of(features, rows):
    rows = np.array(rows)
    return features.statistics(rows, features.available[rows])


def test_features_are_read_once_for_what_reads_them_alike(store):
    loader = FeatureLoader(runs=3)
    first = load(loader, store)
    assert load(loader, store) is first
    assert load(loader, store, modalities=("visual",)).modalities == ("visual",)
    assert load(loader, store, align="none") is not first


def test_runs_with_the_same_statistics_share_what_they_standardize(store):
    loader = FeatureLoader(runs=2)
    raw = load(loader, store)
    first = loader.standardized(raw, statistics_of(raw, [0, 1, 2]))
    assert loader.standardized(load(loader, store), statistics_of(raw, [0, 1, 2])) is first


def test_each_gets_its_own_statistics_applied_to_the_raw_features(store):
    """Seeds that cut their own validation split from train have statistics of their own."""
    loader = FeatureLoader(runs=2)
    for rows in ([0, 1, 2], [0, 1, 5]):
        raw = load(loader, store)
        shared = loader.standardized(raw, statistics_of(raw, rows))
        own = Features(store, modalities=("visual", "audio"), device=CPU)
        own.standardize(statistics_of(own, rows))
        for m in ("visual", "audio"):
            assert torch.equal(shared.values[m], own.values[m])


def test_a_single_run_holds_its_features_once(store):
    loader = FeatureLoader()
    raw = load(loader, store)
    assert loader.standardized(raw, statistics_of(raw, [0, 1, 2])) is raw


def test_no_statistics_leave_features_as_they_are(store):
    loader = FeatureLoader(runs=2)
    raw = load(loader, store)
    assert loader.standardized(raw, {}) is raw
