"""A compiled loss is the loss: values, gradients, statistics; one graph whatever is visible; clear refusals.

Dynamo's tracing is what these test; backends that turn its graphs into C++ or Triton take minutes and are left out.
"""

import pytest
import torch
from torch._dynamo.utils import counters

from aqa.config.load import load_experiment
from aqa.config.schema import TrainConfig
from aqa.errors import AqaError
from aqa.features.cache import FeatureLoader
from aqa.models import MODELS, build
from aqa.models.base import Example
from aqa.registry import option_names
from aqa.runs.run import run_loaded
from aqa.store.synthetic import make_synthetic
from aqa.training import compiling
from aqa.training.compiling import CompiledLoss, require_compiling
from aqa.training.loop import training_step
from tests.models.tiny_llm import LACKING, without_default
from tests.training.test_step import off_zero

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
CPU = torch.device("cpu")
SUBSETS = torch.tensor([[v, a, f] for v in (1, 0) for a in (1, 0) for f in (1, 0) if v or a or f], dtype=torch.bool)
ALL = torch.ones_like(SUBSETS)


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Compiled code is run as it was traced; nothing is left of it."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def small(name="mcmoe", **options):
    torch.manual_seed(0)
    wanted = {
        "hidden_dim": 16,
        "n_encoder": 1,
        "n_decoder": 1,
        "dropout": 0.0,
        "rate": 0.0,
        **without_default(name),
        **options,
    }
    taken = option_names(MODELS.get(name).make)
    return build(name, widths=WIDTHS, **{key: value for key, value in wanted.items() if key in taken}).train()


def batch(visible, available=ALL, rows=7, seed=0):
    """The arguments of a loss: padded rows, NaN if a stream is not available."""
    generator = torch.Generator().manual_seed(seed)
    features = {
        m: torch.randn(7, 9, width, generator=generator).masked_fill(~available[:, i].view(-1, 1, 1), torch.nan)[:rows]
        for i, (m, width) in enumerate(WIDTHS.items())
    }
    lengths = {m: torch.tensor([9, 8, 1, 6, 5, 4, 3])[:rows] for m in WIDTHS}
    return features, torch.linspace(0.1, 0.9, 7)[:rows], visible[:rows], available[:rows], lengths


# visible and available; the last two: a modality that one row has, or none.
ONE_FLOW = torch.tensor([[1, 1, 0]] * 6 + [[1, 0, 1]], dtype=torch.bool)
NO_FLOW = torch.tensor([[1, 1, 0]] * 4 + [[0, 1, 0]] * 3, dtype=torch.bool)
GIVEN = [
    (SUBSETS, ALL),
    (SUBSETS.roll(1, 0), ALL),
    (ALL, ALL),
    (SUBSETS, SUBSETS),
    (ONE_FLOW, ONE_FLOW),
    (NO_FLOW, NO_FLOW),
]


@pytest.mark.parametrize(
    (
        "name",
        "backend",
    ),  # by masks alone others are tested in test_step.py, by torch's compiler in benchmarks/compiling.py
    [*((name, "eager") for name in ("mcmoe", "dimml", "momke", "modality_dropout")), ("mean_fill", "aot_eager")],
)
def test_one_graph_gives_the_loss_the_gradients_and_the_statistics_whatever_is_visible(
    name, backend, monkeypatch, in_double
):
    """In float64, to ten digits: what is compiled differs from the model by rounding errors alone.

    "aot_eager" traces the backward pass too, and what changes buffers.
    """
    monkeypatch.setattr(compiling, "BACKEND", backend)
    plain, model = (off_zero(small(name, mask_padding=True, rate=0.5)) for _ in range(2))
    compiled = CompiledLoss(model, 7, CPU)
    for i, (visible, available) in enumerate(GIVEN):
        arguments = batch(visible, available, seed=i)
        torch.manual_seed(i)
        expected = plain.loss(*arguments)
        torch.manual_seed(i)
        found = compiled(*arguments)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        for loss in (expected, found):
            loss.total.backward()
        for part in model.idle_parts(visible, available):
            part.zero_grad()
        for (key, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), (i, key)
            if p.grad is not None:
                torch.testing.assert_close(q.grad, p.grad, rtol=0, atol=1e-10, msg=lambda m: f"{i} {key} {m}")  # noqa: B023
        for (key, p), q in zip(plain.named_buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(q, p, rtol=0, atol=1e-10, msg=lambda m: f"{i} {key} {m}")  # noqa: B023
        plain.zero_grad()
        model.zero_grad()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert not counters["recompiles"]


def test_smaller_batches_go_uncompiled():
    compiled = CompiledLoss(small("zero_fill"), 7, CPU)
    for rows in (7, 3, 7, 1, 5):
        compiled(*batch(SUBSETS, rows=rows))
    assert counters["stats"]["unique_graphs"] == 1


@torch._dynamo.config.patch(recompile_limit=1)
def test_each_of_many_models_of_one_process_is_compiled():
    for i in range(2):
        compiled = CompiledLoss(small("zero_fill", hidden_dim=4 + i), 7, CPU)
        assert torch.isfinite(compiled(*batch(SUBSETS)).total)
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_compiled_step_trains_as_a_plain_one(precision):
    trained = []
    for compile_it in (False, True):
        model = small("zero_fill", mask_padding=True)
        step = training_step(model, TrainConfig(batch_size=7, compile=compile_it, precision=precision))
        losses = []
        for i in range(3):
            arguments = batch(SUBSETS.roll(i, 0), seed=i)
            losses.append(step(Example(*arguments), model.idle_parts(*arguments[2:4])).total)
        trained.append(torch.stack(losses))
    torch.testing.assert_close(*trained, rtol=1e-4 if precision == "float32" else 0.02, atol=0)
    assert counters["stats"]["unique_graphs"] == 1


def test_what_cannot_be_compiled_is_refused_in_one_line(monkeypatch):
    for entry in MODELS.entries():
        if entry.name == "limssr" and LACKING:
            continue  # it cannot be built without the extra
        if not (entry.make.fixed_shapes or entry.make.closed_form):
            with pytest.raises(AqaError, match=f"model '{entry.name}' picks the rows that it works on; leave it out"):
                require_compiling(small(entry.name), entry.name, 40, 32, CPU)
    with pytest.raises(AqaError, match=r"batches of train.batch_size 32 videos are compiled, and 31 videos train; "):
        require_compiling(small(), "mcmoe", 31, 32, CPU)
    require_compiling(small(), "mcmoe", 32, 32, CPU)
    monkeypatch.setattr(torch, "compile", lambda model, *, mode=None: model)
    with pytest.raises(AqaError, match=r"train.compile needs torch 2.13 or later"):
        require_compiling(small(), "mcmoe", 32, 32, CPU)


def test_a_machine_without_a_compiler_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "inductor")
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    with pytest.raises(AqaError, match=r"^train.compile: torch cannot compile here: [^\n]*compiler[^\n]*$"):
        require_compiling(small(), "mcmoe", 32, 32, CPU)


def test_compiled_runs_of_one_process_end_as_each_alone(tmp_path, monkeypatch):
    """Seeds in one process, batches of 16 and a smaller last one."""
    monkeypatch.setattr("aqa.runs.run.draw", lambda *_: None)  # figures, which take the longest
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=60)

    def run_seed(place, seed, loader):
        experiment = {
            "name": "small",
            "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
            "model": {"name": "zero_fill", "hidden_dim": 8},
            "train": {"epochs": 2, "batch_size": 16, "seed": seed, "compile": True, "precision": "bf16"},
            "output": str(tmp_path / place / str(seed)),
        }
        run_loaded(load_experiment(experiment), loader)

    for seed in (0, 1):
        run_seed("alone", seed, FeatureLoader())
    loader = FeatureLoader(2)
    for seed in (0, 1):
        run_seed("together", seed, loader)
    for name in ("0/predictions.csv", "0/history.csv", "1/predictions.csv", "1/metrics.json"):
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert counters["stats"]["unique_graphs"] >= 2
