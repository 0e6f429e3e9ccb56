"""What a GPU is waited for in steps of training by the training loop itself, and in scoring: counted without a GPU."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from aqa.config.schema import TrainConfig
from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Features, training_batches
from aqa.missing import parse_pattern, parse_test_patterns
from aqa.models.seeds import SeedEnsemble
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic
from aqa.system.host_masks import known
from aqa.training.loop import train_epoch, training_step
from tests.models.test_contract import padded, small
from tests.models.test_patterns import calls, every_subset
from tests.models.tiny_llm import NEEDS_LLM, without_default
from tests.training.pretended_gpu import DEVICE, pretended_gpu
from tests.training.test_step import FIXED, STAGES

BATCH, CLIPS = 8, 10
VARIANTS = [
    ("mcmoe", {"mask_padding": False}),
    ("mcmoe", {"generator_queries": "temporal"}),
    ("mcmoe", {"use_generator": False}),
    ("mcmoe", {"use_experts": False}),
    ("simmlm", {"pairs": "visible"}),
]


WAITING = {
    "float()": lambda x: float(x.sum()),
    "bool()": lambda x: bool(x.any()),
    "tolist()": lambda x: x.tolist(),
    "cpu()": lambda x: x.cpu(),
    "to another type and the host": lambda x: x.to("cpu", torch.float64),
    "nonzero()": lambda x: x.nonzero(),
    "where() of one": lambda x: torch.where(x > 1),
    "index by bool": lambda x: x[x > 1],
    "put by bool": lambda x: x.clone().index_put((x > 1,), x.sum()),
    "masked_select()": lambda x: x.masked_select(x > 1),
    "unique()": lambda x: x.unique(),
    "equal()": lambda x: torch.equal(x, x + 1),
    "allclose()": lambda x: torch.allclose(x, x + 1),
    "repeat_interleave()": lambda x: x.repeat_interleave(x.long()),
    "multinomial()": lambda x: x.multinomial(1),
    "solve()": lambda x: torch.linalg.solve(torch.eye(3, device=x.device), x),
    "to the device": lambda x: torch.ones(2).to(x.device),
    "tensor() on the device": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "an index from the host": lambda x: x[torch.tensor([0, 2])],
}
FREE = {
    "where() of three": lambda x: torch.where(x > 1, x, 0.0),
    "masked_fill()": lambda x: x.masked_fill(x > 1, 0.0),
    "put a number by bool": lambda x: x.clone().index_put((x > 1,), torch.tensor(0.0)),
    "an index on the device": lambda x: x[torch.arange(2, device=x.device)],
    "repeat_interleave() by a number": lambda x: x.repeat_interleave(2),
    "without waiting": lambda x: torch.tensor([1.0, 2.0]).pin_memory().to(x.device, non_blocking=True),
    "bool() on the host": lambda x: bool(torch.ones(2).any()),
    "a sum": lambda x: x.sum() / len(x),
}


@pytest.mark.parametrize("inference", [False, True])
def test_what_waits_is_noted_and_nothing_else(inference):
    with pretended_gpu() as gpu:
        x = torch.arange(3.0, device=DEVICE)
        noted = {}
        for name, work in {**WAITING, **FREE}.items():
            gpu.waits.clear()
            with torch.inference_mode(inference):
                work(x)
            noted[name] = bool(gpu.waits)
    assert noted == dict.fromkeys(WAITING, True) | dict.fromkeys(FREE, False)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The features of a small store, on the CPU."""
    path = tmp_path_factory.mktemp("waiting") / "tiny.h5"
    make_synthetic("tiny", path, samples=2 * BATCH)
    with FeatureStore(path) as store:
        return Features(store)


def on_the_device(features):
    """The same features on the pretended GPU."""
    moved = Features.__new__(Features)
    moved.__dict__.update(features.__dict__, device=DEVICE)
    moved.values = {m: values.to(DEVICE) for m, values in features.values.items()}
    return moved


def in_an_epoch(name, held, options, stage):
    """What the second of two steps waits for, its batch included; what the rest of an epoch does; the losses."""
    model = small(name, held.widths, **{"dropout": 0.3, "mask_padding": True, "n_fusion": 2, **options})
    with pretended_gpu() as gpu:
        model, features = model.to(DEVICE).train(), on_the_device(held)
        for key, value in stage.items():
            setattr(model, key, value.to(DEVICE) if isinstance(value, torch.Tensor) else value)
        step = training_step(model, TrainConfig(gradient_clip=1.0, weight_decay=0.01))
        pattern = parse_pattern({"combine": ["random_subset", {"noise": {"std": 0.1}}]}, held.modalities, "missing")
        target, rows = torch.rand(len(held.ids), device=DEVICE), np.arange(len(held.ids))
        before = []

        def batches():
            made = training_batches(
                features, rows, held.available[rows], pattern, clips=CLIPS, size=BATCH, seed=0, epoch=1
            )
            for _ in range(3):
                before.append(Counter(gpu.waits))
                if (batch := next(made, None)) is not None:
                    yield batch

        losses = train_epoch(step, batches(), target)
    assert np.isfinite(losses["loss"])
    return before[2] - before[1], gpu.waits - before[2], losses


@pytest.mark.parametrize(
    ("name", "options", "stage"),
    [*((name, {}, {}) for name in FIXED)]
    + [(name, options, {}) for name, options in VARIANTS]
    + [(name, {}, stage) for name, stage in STAGES],
)
def test_a_step_of_training_waits_for_nothing_and_an_epoch_for_its_losses(name, options, stage, held):
    step, rest, losses = in_an_epoch(name, held, options, stage)
    assert listed(step) == []
    assert listed(rest) == listed(rest, "aqa/training/loop.py")
    assert sum(rest.values()) == len(losses)


def listed(waits, file=""):
    """What is waited for, line by line, of all files or one."""
    return [f"{asked}: {what}, {n} times" for (what, asked), n in sorted(waits.items()) if file in asked]


@NEEDS_LLM
def test_a_step_of_limssr_waits_for_what_its_language_model_is_told(held):
    """Its prompts say in words what is visible, so that visible sets are found and looked up on the host."""
    step, _, _ = in_an_epoch("limssr", held, without_default("limssr"), {})
    assert by_operation(step) == {
        "unique_dim": 1,  # the visible sets of the batch
        "nonzero": 1,  # the rows of each
        "copy to the host": 2,
        "copy from the host": 11,  # the tokens of the prompts
        "_local_scalar_dense": 3,  # lengths that go with them
    }, listed(step)


def by_operation(waits):
    found = Counter()
    for (what, _), n in waits.items():
        found[what] += n
    return found


PATTERNS = {
    "seven": ["VAF", "VA", "VF", "AF", "V", "A", "F"],
    "one": ["AF"],
    "drawn": [{"rates": 0.6}, "random_subset", {"combine": ["VA", {"noise": {"std": 0.1}}]}],
}


@pytest.fixture(scope="module")
def incomplete(held):
    """The same features, of videos of which some lack streams, one all of them, and one has a shorter stream."""
    features, video = held.copy(), np.arange(len(held.ids))[:, None]
    stored = np.where((video + 1) % (3, 4, 5), 4 + video % 6, 0)
    stored[0, 1], stored[4] = 2, 0
    assert (features.stored >= stored).all()
    features.alignment, features.available = replace(features.alignment, stored=stored), stored > 0
    return features


def scored(model, features, patterns, diagnose=False):
    """What `Scorer` finds with the pretended GPU, what without, and what it waits for before it reads the scores."""
    chosen, rows = parse_test_patterns(PATTERNS[patterns], features.modalities, "missing.test"), np.arange(BATCH)
    expected = Scorer(model, features, 0.0, 1.0, CLIPS, BATCH, 0)._score(rows, chosen, diagnose)
    with pretended_gpu() as gpu:
        there = Scorer(model.to(DEVICE), on_the_device(features), 0.0, 1.0, CLIPS, BATCH, 0)
        gpu.waits.clear()
        found = there._score(rows, chosen, diagnose)
    reading = Counter({key: n for key, n in gpu.waits.items() if key[1].endswith(", _read")})
    assert reading["copy to the host", next(asked for _, asked in reading)]
    return found, expected, gpu.waits - reading


@pytest.mark.parametrize(
    ("name", "options", "patterns"),
    [(name, {}, patterns) for name in [*FIXED, "ridge"] for patterns in ("seven", "one")]
    + [(name, options, "seven") for name, options in VARIANTS]
    + [(name, {}, "drawn") for name in ("mcmoe", "momke", "zero_fill")],
)
def test_scoring_waits_for_nothing_until_scores_are_read(name, options, patterns, incomplete):
    model = small(name, incomplete.widths, **{"mask_padding": True, "n_fusion": 2, **options})
    found, expected, waits = scored(model, incomplete, patterns, diagnose=patterns == "seven")
    assert listed(waits) == []
    for there, here in zip(found, expected, strict=True):
        assert there.keys() == here.keys()
        for pattern, values in here.items():
            np.testing.assert_allclose(there[pattern], values, rtol=0, atol=2e-6, err_msg=pattern)


def test_a_model_of_several_seeds_scores_without_waiting_too(incomplete):
    members = [small("mome", incomplete.widths, n_query=n) for n in (4, 5)]
    assert listed(scored(SeedEnsemble(members), incomplete, "seven", diagnose=True)[2]) == []


@pytest.mark.parametrize("name", ["mcmoe", "momke", "grade_decoder"])
def test_on_a_device_what_a_pattern_hides_does_not_change_a_bit_of_its_scores_though_another_shows_it(name):
    model, visible = small(name), every_subset(torch.ones(3, 3, dtype=torch.bool))
    features, length = padded(3)
    poisoned = {**features, "audio": features["audio"].index_fill(0, torch.tensor([1]), torch.nan)}
    clean, spoiled = [], []
    with pretended_gpu(), torch.inference_mode():
        model = model.to(DEVICE)
        for given, scores in ((features, clean), (poisoned, spoiled)):
            there = {m: x.to(DEVICE) for m, x in given.items()}
            lengths = dict.fromkeys(given, known(length.to(DEVICE), length))
            scores.append(model.score_patterns(there, known(visible.to(DEVICE), visible), lengths).score.cpu())
    shows = visible[:, :, 1] & (torch.arange(3) == 1)
    assert torch.equal(spoiled[0][~shows], clean[0][~shows])
    assert clean[0].isfinite().all()
    assert spoiled[0][shows].isnan().all()


@pytest.mark.parametrize("name", ["mome", "momke"])
def test_scoring_on_a_device_runs_experts_on_the_rows_that_show_their_stream_as_on_a_cpu(name, incomplete):
    model = small(name, incomplete.widths)
    rows = calls(model, [f"experts.{m}" for m in incomplete.modalities])
    scored(model, incomplete, "one")
    assert any(rows.values())
    for sizes in rows.values():
        assert sizes[: len(sizes) // 2] == sizes[len(sizes) // 2 :]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # The prompts, by visible set, as in training.
        pytest.param(
            "limssr",
            {"unique_dim": 1, "nonzero": 2, "copy to the host": 4, "copy from the host": 21, "_local_scalar_dense": 2},
            marks=NEEDS_LLM,
        ),
        # Videos that are alike are looked for by visible set.
        (
            "retrieval_fill",
            {"unique_dim": 1, "nonzero": 7, "copy to the host": 2, "copy from the host": 3, "repeat_interleave": 3}
            | {"index by bool": 15, "index_put_ by bool": 3},
        ),
    ],
)
def test_models_whose_shapes_are_not_fixed_wait_for_visible_sets(name, expected, incomplete):
    waits = scored(small(name, incomplete.widths, **without_default(name)), incomplete, "one")[2]
    assert by_operation(waits) == expected, listed(waits)
