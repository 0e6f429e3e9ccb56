"""What a pattern hides, and what other splits hold, changes no bit of a run: neither by numbers nor by lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import aqa
from aqa.missing import Draws, parse_pattern, sample_keys
from aqa.models import MODELS
from aqa.registry import option_names
from aqa.store.store import FeatureStore
from aqa.system.memory import GIB
from tests.models.tiny_llm import ALL_MODELS, without_default

COUNT, TRAIN, KNOWN = 26, 13, 18  # videos, those that train, those that train or select
WIDTHS = {"visual": 3, "audio": 2, "flow": 1}
SMALL = {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}
FIXED = {"fixed": {"rates": 0.4}}
HIDDEN = 41  # clips of a stream that nobody is to see: more than any other has
UNALIGNED = [entry.name for entry in MODELS.entries() if entry.make.takes_unaligned]


def some_lengths():
    """Clips of each stream (N,), different in most videos."""
    rng = np.random.default_rng(5)
    return {m: rng.integers(3, 12, COUNT) for m in WIDTHS}


def hidden_for_good():
    """Which streams of the training videos FIXED takes away, (N, M)."""
    draws = Draws.once(0, sample_keys([f"video {i}" for i in range(COUNT)]))
    hidden = ~parse_pattern(FIXED, tuple(WIDTHS), "here").remaining(np.ones((COUNT, 3), bool), draws)
    hidden[TRAIN:] = False
    return hidden


@pytest.fixture
def store(tiny_store):
    """A function that writes a store of random features; clips number t of a stream is the same at any length."""

    def write(name, lengths, change=0.0, changed=None, seconds=None):
        def read(modality, row):
            clips = np.random.default_rng([row, len(modality)]).normal(size=(lengths[modality][row], WIDTHS[modality]))
            spoiled = changed is not None and changed[row, list(WIDTHS).index(modality)]
            return clips.astype(np.float32) + (change if spoiled else 0.0)

        splits = {"train": range(TRAIN), "valid": range(TRAIN, KNOWN), "test": range(KNOWN, COUNT)}
        return tiny_store(lengths=lengths, name=name, splits=splits, read=read)

    return write


def experiment(path, output, model="late_fusion", pattern=FIXED, **data):
    taken = {key: value for key, value in SMALL.items() if key in option_names(MODELS.get(model).make)}
    taken |= without_default(model)
    return {
        "name": "hidden",
        "data": {"store": str(path), "target": "TES", **data},
        "model": {"name": model, **taken},
        "missing": {"train": pattern, "test": ["VAF", "V"]},
        "train": {"epochs": 1 if model != "late_fusion" else 3, "batch_size": 5, "learning_rate": 1e-3},
        "select": {"pattern": "V"},
        "output": str(output),
    }


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same_run(one, other):
    """Weights, statistics, window, selection and history of two runs are the same to the bit."""
    first, second = checkpoint(one), checkpoint(other)
    assert first["clips"] == second["clips"]
    assert first["selection"] == second["selection"]
    assert first["statistics"].keys() == second["statistics"].keys()
    for m, pair in first["statistics"].items():
        assert all(torch.equal(a, b) for a, b in zip(pair, second["statistics"][m], strict=True))
    assert first["weights"].keys() == second["weights"].keys()
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert (one / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


def run_twice(store, tmp_path, lengths, others, changed, **options):
    for name, clips, change in (("one", lengths, 0.0), ("other", others, 7.0)):
        aqa.run(experiment(store(f"{name}.h5", clips, change, changed), tmp_path / name, **options))
    assert_same_run(tmp_path / "one", tmp_path / "other")


def with_hidden(clips):
    """Lengths in which the streams that FIXED hides have another number of clips."""
    hidden = hidden_for_good()
    return {m: np.where(hidden[:, i], clips, n) for i, (m, n) in enumerate(some_lengths().items())}


@pytest.mark.parametrize("model", ALL_MODELS)
def test_training_knows_no_length_that_a_fixed_pattern_hides(store, tmp_path, model):
    run_twice(store, tmp_path, some_lengths(), with_hidden(2), hidden_for_good(), model=model)


# Bytes: four batches of those that are scored, two blocks of long videos and some more.
STREAMED = 4 * 20 * 12 * 6 * 4 + 2 * 12 * 24 * 4 + 1200


@pytest.mark.parametrize(
    "data",
    [
        {"standardize": True},
        {"clips": 4, "standardize": True},
        {"align": "none"},
        {"align": "none", "clips": 5},
        {"align": "time", "standardize": True},
        {"align": "time", "clips": 5, "standardize": True},
        {"memory": STREAMED / GIB, "standardize": True},
        {"memory": STREAMED / GIB, "align": "time"},
    ],
    ids=str,
)
@pytest.mark.parametrize("clips", [1, HIDDEN])
def test_it_knows_none_by_any_alignment_window_or_memory(store, tmp_path, data, clips):
    run_twice(store, tmp_path, some_lengths(), with_hidden(clips), hidden_for_good(), **data)


@pytest.mark.parametrize("model", UNALIGNED)
def test_models_of_unaligned_streams_know_none_either(store, tmp_path, model):
    options = {"model": model, "align": "none", "clips": 5}
    run_twice(store, tmp_path, some_lengths(), with_hidden(HIDDEN), hidden_for_good(), **options)


@pytest.mark.parametrize("data", [{}, {"memory": STREAMED / GIB}, {"align": "time"}], ids=str)
def test_training_knows_nothing_of_the_test_videos(store, tmp_path, data):
    lengths = some_lengths()
    test = np.arange(COUNT) >= KNOWN
    others = {m: np.where(test, HIDDEN, n) for m, n in lengths.items()}
    changed = np.repeat(test[:, None], 3, axis=1)
    run_twice(store, tmp_path, lengths, others, changed, pattern="random_subset", **data)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_score_is_the_same_with_and_without_the_hidden_streams(store, tmp_path, model):
    lengths = some_lengths()
    aqa.run(experiment(store("full.h5", lengths), tmp_path / "run", model, "random_subset"))
    expected = aqa.evaluate(tmp_path / "run", patterns=["V"]).metrics["patterns"]
    without = store("without.h5", {"visual": lengths["visual"]})
    assert aqa.evaluate(tmp_path / "run", patterns=["V"], store=without).metrics["patterns"] == expected
    for clips in (1, HIDDEN):
        others = store(f"{clips}.h5", {**lengths, **{m: np.full(COUNT, clips) for m in ("audio", "flow")}})
        assert aqa.evaluate(tmp_path / "run", patterns=["V"], store=others).metrics["patterns"] == expected
    predicted = aqa.predict(tmp_path / "run", without, split="test")["score"].to_numpy()
    with FeatureStore(without) as opened:
        truth = opened.target("TES").values[KNOWN:]
    assert np.mean((predicted - truth) ** 2) == pytest.approx(expected["V"]["mse"], rel=1e-12)


@pytest.mark.parametrize("align", ["shortest", "none", "time"])
@pytest.mark.parametrize(
    "spec", ["V", {"combine": ["V", {"noise": {"std": 0.5}}]}, {"combine": ["V", {"gaps": {"fraction": 0.4}}]}]
)
def test_so_is_it_by_any_alignment_and_where_a_pattern_damages_streams(store, tmp_path, align, spec):
    lengths = some_lengths()
    aqa.run(experiment(store("full.h5", lengths), tmp_path / "run", "mome", "random_subset", align=align))
    found = [
        aqa.evaluate(tmp_path / "run", patterns=[spec], store=path).metrics["patterns"]
        for path in (tmp_path / "full.h5", store("without.h5", {"visual": lengths["visual"]}))
    ]
    assert found[0] == found[1]
