"""Small runs to be exported."""

from __future__ import annotations

import numpy as np
import pytest

import aqa
from aqa.store.store import Modality, Target

N = 24
SMALL = {"hidden_dim": 4, "n_encoder": 1, "n_decoder": 1}


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """A store of 24 videos with two streams, one of them absent in some."""
    rng = np.random.default_rng(0)
    lengths = {"visual": rng.integers(3, 9, N), "audio": rng.integers(3, 9, N)}
    lengths["audio"][[2, 13, 21]] = 0
    made = tmp_path_factory.mktemp("store") / "s.h5"
    labels = rng.uniform(0, 10, N)
    aqa.write_store(
        made,
        name="clinic",
        source="a test",
        ids=[f"v{i}" for i in range(N)],
        modalities={
            "visual": Modality(3, lengths["visual"], clip_seconds=0.5),
            "audio": Modality(2, lengths["audio"], clip_seconds=0.4),
        },
        targets={"grade": Target(labels, 0, 10)},
        splits={"train": range(10), "valid": range(10, 18), "test": range(18, 24)},
        read=lambda m, row: rng.normal(size=(lengths[m][row], {"visual": 3, "audio": 2}[m])) + labels[row] / 4,
    )
    return made


@pytest.fixture(scope="session")
def made(path, made_once):
    """A function that makes a run, once for all tests, and returns its folder. changes: by dotted key."""

    def experiment(model):
        return {
            "name": "x",
            "data": {"store": str(path), "target": "grade", "standardize": True},
            "model": {"name": model, **(SMALL if model == "zero_fill" else {})},
            "missing": {"train": "none", "test": ["VA", "V", "A"]},
            "train": {"epochs": 1, "batch_size": 8, "threads": 1},
        }

    return made_once(experiment)
