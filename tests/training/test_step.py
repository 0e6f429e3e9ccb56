"""A training step: precisions, parts that a batch has nothing to teach, and that a GPU is never waited for."""

import contextlib
import sys

import numpy as np
import pytest
import torch

from aqa.config.schema import TrainConfig
from aqa.features.batches import Features, training_batches
from aqa.missing import parse_pattern
from aqa.models import MODELS, build
from aqa.models.base import Example
from aqa.registry import option_names
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic
from aqa.training.loop import training_step

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ONE_MODALITY = torch.eye(3, dtype=torch.bool)
MANY = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def small(name="mcmoe", **options):
    torch.manual_seed(0)
    wanted = {"hidden_dim": 16, "n_encoder": 1, "n_decoder": 1, "dropout": 0.0, **options}
    taken = option_names(MODELS.get(name).make)
    return build(name, widths=WIDTHS, **{key: value for key, value in wanted.items() if key in taken}).train()


def example(visible, available=None, rows=6, seed=0):
    """A batch in which every row sees the same; padded. What is not available is NaN."""
    generator = torch.Generator().manual_seed(seed)
    available = torch.ones(3, dtype=torch.bool) if available is None else available
    features = {m: torch.randn(rows, 9, width, generator=generator) for m, width in WIDTHS.items()}
    for stream, there in zip(features.values(), available, strict=True):
        stream[:] = stream if there else torch.nan
    lengths = {m: torch.arange(rows) % 5 + 5 for m in WIDTHS}
    target = torch.rand(rows, generator=generator)
    return Example(features, target, visible.expand(rows, -1), available.expand(rows, -1), lengths)


def idle(model, batch):
    return model.idle_parts(batch.visible, batch.available)


@pytest.mark.parametrize("name", ["mcmoe", "mome", "grade_decoder"])
def test_bfloat16_keeps_weights_gradients_losses_and_statistics_in_float32(name):
    losses = {}
    for precision in ("float32", "bf16"):
        model = small(name, mask_padding=True, dropout=0.3)
        step = training_step(model, TrainConfig(precision=precision))
        torch.manual_seed(1)
        losses[precision] = step(example(ONE_MODALITY[0]))
        learned = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
        assert {x.dtype for x in (*learned, losses[precision].total)} == {torch.float32}
        assert {x.dtype for x in model.buffers() if x.is_floating_point()} <= {torch.float32}
    assert not torch.equal(losses["bf16"].total, losses["float32"].total)
    torch.testing.assert_close(losses["bf16"].total, losses["float32"].total, rtol=0.02, atol=0)


def test_dropout_added_to_a_residual_of_another_type_takes_the_wider_one_both_ways():
    from aqa.layers.dropout import dropout

    x = torch.ones(40, 50, dtype=torch.bfloat16, requires_grad=True)
    residual = torch.full((40, 50), 1 / 3, requires_grad=True)
    out = dropout(x, 0.5, True, residual)
    out.sum().backward()
    assert (out.dtype, x.grad.dtype, residual.grad.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    torch.testing.assert_close(out.unique().detach(), torch.tensor([1 / 3, 2 + 1 / 3]))
    assert torch.equal(x.grad.float(), (out - residual).detach().round())


FIXED = [entry.name for entry in MODELS.entries() if entry.make.fixed_shapes]
STAGES = [
    ("momke", {"mixing": False}),
    ("dimml", {"stage": "contrast", "effective": torch.arange(48).view(3, 16) % 5 > 2}),
    ("dimml", {"stage": "joined"}),
    ("dimml", {"joined_beside": False}),
    ("pamfn", {"stage": "branches"}),
    ("pamfn", {"stage": "mixed"}),
    ("simmlm", {"experts_alone": True}),
]


@pytest.fixture
def decided(monkeypatch):
    """A function that decides whether models work on all rows, in the place of `works_on_all`."""

    def decide(work_on_all):
        for module in [module for name, module in sys.modules.items() if name.startswith("aqa.")]:
            if hasattr(module, "works_on_all"):
                monkeypatch.setattr(module, "works_on_all", lambda x: work_on_all)

    return decide


def off_zero(model):
    """The model with biases of batch norms that are not zero.

    What a batch norm makes of the same number throughout is its bias, give or take a rounding error. At a bias of zero,
    which it starts with, the sign of that error decides what a ReLU lets through to the bias.
    """
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.bias.data.uniform_(-0.1, 0.1)
    return model


def at_stage(name, stage, mask):
    model = off_zero(small(name, mask_padding=mask, n_fusion=2))
    for key, value in stage.items():
        setattr(model, key, value)
    return model


def backward(model, batch):
    """The loss of a batch, the gradients of what it trains, and the buffers after it."""
    torch.manual_seed(1)
    loss = model.loss(*batch[:5]).total
    loss.backward()
    for part in idle(model, batch):
        part.zero_grad()
    gradients = {key: torch.zeros_like(p) if p.grad is None else p.grad for key, p in model.named_parameters()}
    return loss.detach(), gradients, dict(model.named_buffers())


@pytest.mark.parametrize(
    ("name", "mask", "stage"),
    [("mcmoe", False, {}), ("grade_decoder", False, {}), *((name, True, {}) for name in FIXED)]
    + [(name, True, stage) for name, stage in STAGES],
)
def test_masks_have_the_gradients_of_picked_rows_and_train_to_the_same_weights(name, mask, stage, decided, in_double):
    """Patterns that change from batch to batch, a modality that a whole batch lacks, and rows that differ.

    In float64, for where a gradient is nothing but rounding errors Adam makes steps of those of float32. So it does of
    any where weight decay is added to the gradient.
    """
    visible = [ONE_MODALITY[i] for i in (0, 1, 2, 0)]
    batches = [example(seen, seen if i == 2 else None, seed=i) for i, seen in enumerate(visible)]
    batches[1] = batches[1]._replace(visible=MANY, available=MANY | ONE_MODALITY[1])

    def trained(work_on_all):
        decided(work_on_all)
        first = [backward(at_stage(name, stage, mask), batch) for batch in batches[:2]]
        model = at_stage(name, stage, mask)
        step = training_step(model, TrainConfig(optimizer="adamw", learning_rate=1e-3, weight_decay=0.1))
        torch.manual_seed(1)
        losses = [step(batch, idle(model, batch)).total for batch in batches]
        return first, torch.stack(losses), model.state_dict()

    (first, losses, picked), (also, by_masks, masked) = trained(False), trained(True)
    torch.testing.assert_close(also, first, rtol=0, atol=1e-10)
    torch.testing.assert_close(by_masks, losses, rtol=1e-8, atol=0)
    torch.testing.assert_close(masked, picked, rtol=0, atol=1e-6)  # a thousandth of a step


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        # The mixed branch starts from zeros.
        ("pamfn", [f"mixed.blocks.0.{part}.rest.0.bias" for part in ("digest.first", "digest.second", "shortcut")]),
        # Before it has seen a second batch, the mean that fills is the mean of the batch norm.
        ("mean_fill", ["projections.flow.1.bias"]),
    ],
)
def test_gradients_by_masks_differ_where_relu_follows_rounding_errors_and_nowhere_else(
    name, constant, decided, in_double
):
    batch, found = example(torch.ones(3, dtype=torch.bool))._replace(visible=MANY, available=MANY), []
    for work_on_all in (False, True):
        decided(work_on_all)
        model = at_stage(name, {}, True)
        for key in constant:
            model.get_parameter(key).data.zero_()
        found.append(backward(model, batch))
    (loss, picked, statistics), (other, masked, others) = found
    torch.testing.assert_close((other, others), (loss, statistics), rtol=0, atol=1e-10)
    apart = [key for key in picked if not torch.allclose(masked[key], picked[key], rtol=0, atol=1e-10)]
    assert set(apart) <= set(constant)


@pytest.mark.parametrize("name", FIXED)
def test_masks_score_as_picked_rows_whatever_is_hidden(name, decided):
    model, (features, _, visible, _, lengths, _) = small(name, mask_padding=True).eval(), example(MANY)
    found = []
    for work_on_all, poison in ((False, 0.0), (True, 0.0), (True, torch.nan)):
        decided(work_on_all)
        hidden = {m: x.masked_fill(~visible[:, i].view(-1, 1, 1), poison) for i, (m, x) in enumerate(features.items())}
        with torch.no_grad():
            patterns = torch.stack([visible, visible & ONE_MODALITY[0]])
            found.append(model.score_patterns(hidden, patterns, lengths, diagnose=True))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5, equal_nan=True)
    assert torch.equal(found[2].score.nan_to_num(-1.0), found[1].score.nan_to_num(-1.0))
    assert found[0].score.isnan().sum() == 3


def test_what_a_batch_does_not_use_stays_as_it_is(decided):
    decided(True)
    model, batch = small(), example(torch.tensor([True, True, False]), torch.tensor([True, True, False]))
    parts = idle(model, batch)
    assert parts == [model.projections["flow"], model.generators["visual"], model.generators["audio"]]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_step(model, TrainConfig(weight_decay=0.1))(batch, parts)
    unused = ("projections.flow", "generators.visual", "generators.audio")
    for name, value in model.state_dict().items():
        if name.startswith(unused):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(model.generators["flow"].gate.weight, before["generators.flow.gate.weight"])


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@contextlib.contextmanager
def never_waiting(device):
    """On a GPU, an error for whatever waits for it."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_device_is_never_waited_for_in_an_epoch(device, precision, tmp_path):
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=60)
    with FeatureStore(tmp_path / "tiny.h5") as store:
        features = Features(store, device=device)
    torch.manual_seed(0)
    model = build("mcmoe", widths=features.widths, hidden_dim=16, n_encoder=1, n_decoder=1, mask_padding=True)
    step = training_step(model.to(device).train(), TrainConfig(precision=precision, gradient_clip=1.0))
    rows, target = np.arange(60), torch.rand(60, device=device)
    pattern = parse_pattern({"combine": ["random_subset", {"noise": {"std": 0.1}}]}, features.modalities, "missing")
    losses = []
    for epoch in (1, 2):
        made = training_batches(
            features, rows, features.available[rows], pattern, clips=12, size=16, seed=0, epoch=epoch
        )
        with never_waiting(device) if epoch == 2 else contextlib.nullcontext():  # the first sets libraries up
            for batch in made:
                example = Example(batch.features, target[batch.rows], batch.visible, batch.available, batch.lengths)
                losses.append(step(example, model.idle_parts(*batch.on_host)).total)
    assert len(losses) == 8
    assert torch.stack(losses).isfinite().all()
