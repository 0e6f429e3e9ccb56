"""Optimizers: the numbers of torch's, without torch's compiler."""

import subprocess
import sys
from functools import partial

import pytest
import torch

from aqa.config.schema import PartConfig, TrainConfig
from aqa.errors import AqaError
from aqa.training import optimizers
from aqa.training.optimizers import optimizer_of, parameter_groups


def trained(kind, steps, state=None):
    """A small network after steps of an optimizer that goes on from a state, and the optimizer's state."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    rest = {"lr": 0.1, "weight_decay": 0.01, "fused": True}
    optimizer = kind([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.3}], **rest)
    if state is not None:
        optimizer.load_state_dict(state)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        (model(torch.ones(2, 3)) - 1).square().sum().backward()
        optimizer.step()
        falling.step()
    return model.state_dict(), optimizer.state_dict()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_they_have_the_numbers_of_torchs_to_the_bit_also_from_a_saved_state(name):
    mine, theirs = getattr(optimizers, name), getattr(torch.optim, name)
    if name == "SGD":
        mine, theirs = (partial(kind, momentum=0.9, nesterov=True) for kind in (mine, theirs))
    assert issubclass(getattr(optimizers, name), getattr(torch.optim, name))
    states = trained(mine, 5)[1], trained(theirs, 5)[1]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for one, other in (
        (trained(mine, 5)[0], trained(theirs, 5)[0]),
        (trained(mine, 3, states[1])[0], trained(theirs, 3, states[0])[0]),
    ):
        assert all(torch.equal(one[weight], other[weight]) for weight in other)


def test_weights_that_an_optimizer_changes_are_leaves_still():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = optimizers.Adam([weight], lr=0.1, fused=True)
    weight.sum().backward()
    optimizer.step()
    assert weight.is_leaf
    assert weight.requires_grad
    assert (weight < 1).all()


TRAINING = """
import sys, torch
from aqa.config.schema import TrainConfig
from aqa.training.optimizers import {kind}
from aqa.training.schedules import scheduler_of
weight = torch.nn.Parameter(torch.ones(2))
optimizer = {kind}([weight], lr=0.1, fused=True)
schedule = scheduler_of(optimizer, TrainConfig(epochs=3, learning_rate=0.1, warmup={warmup}))
for _ in range(2):
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    schedule.step()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize(("kind", "warmup"), [("Adam", 0), ("SGD", 1)])
def test_training_does_not_load_the_compiler(kind, warmup):
    code = TRAINING.format(kind=kind, warmup=warmup)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TwoRates(torch.nn.Module):
    def __init__(self, part="fast"):
        super().__init__()
        self.slow, self.fast = torch.nn.Linear(2, 1), torch.nn.Linear(3, 1)
        self.learning_rate_factors = {part: 10.0}


def test_a_part_learns_at_its_own_rate():
    model = TwoRates()
    slow, fast = parameter_groups(model, 0.01)
    assert (slow["lr"], fast["lr"]) == (0.01, pytest.approx(0.1))
    assert [id(p) for p in slow["params"]] == [id(p) for p in model.slow.parameters()]
    assert [id(p) for p in fast["params"]] == [id(p) for p in model.fast.parameters()]


def test_a_rate_for_a_part_that_is_not_there_is_a_mistake():
    with pytest.raises(AqaError, match=r"^train\.parts: the model has no part 'fats' that learns: did you mean 'fast'"):
        parameter_groups(TwoRates("fats"), 0.01)


def learning(model, settings, steps=4):
    """The weights of a model after steps of the optimizer that settings ask for."""
    optimizer = optimizer_of(model, settings)
    for _ in range(steps):
        optimizer.zero_grad()
        (model.slow(torch.ones(2)) + model.fast(torch.ones(3)) - 1).square().sum().backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("nesterov", [False, True])
def test_plain_descent_with_momentum_and_parts_is_torchs(nesterov):
    torch.manual_seed(0)
    mine, theirs = TwoRates(), TwoRates()
    theirs.load_state_dict(mine.state_dict())
    parts = {"fast": PartConfig(learning_rate_factor=0.5, weight_decay=0.0)}
    common = {"momentum": 0.8, "nesterov": nesterov}
    settings = TrainConfig(optimizer="sgd", learning_rate=0.05, weight_decay=0.1, parts=parts, **common)
    groups = [{"params": theirs.slow.parameters()}, {"params": theirs.fast.parameters(), "lr": 0.025}]
    groups[1]["weight_decay"] = 0.0
    other = torch.optim.SGD(groups, lr=0.05, weight_decay=0.1, **common)
    for _ in range(4):
        other.zero_grad()
        (theirs.slow(torch.ones(2)) + theirs.fast(torch.ones(3)) - 1).square().sum().backward()
        other.step()
    found = learning(mine, settings)
    assert all(torch.allclose(found[name], weight, atol=1e-7) for name, weight in theirs.state_dict().items())


def test_a_part_inside_a_part_learns_in_its_own_way():
    model = TwoRates("slow")
    model.fast = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    parts = {"fast": PartConfig(learning_rate_factor=0.1), "fast.1": PartConfig(weight_decay=0.0)}
    rest, slow, outer, inner = parameter_groups(model, 1.0, parts)
    assert rest["params"] == []
    assert [id(p) for p in outer["params"]] == [id(p) for p in model.fast[0].parameters()]
    assert [id(p) for p in inner["params"]] == [id(p) for p in model.fast[1].parameters()]
    assert (slow["lr"], outer["lr"], inner["lr"]) == (10.0, 0.1, 1.0)
    assert "weight_decay" not in outer
    assert inner["weight_decay"] == 0.0
    every = {id(p) for group in (slow, outer, inner) for p in group["params"]}
    assert every == {id(p) for p in model.parameters()}


def test_what_an_experiment_says_of_a_part_comes_before_what_the_model_says():
    _, fast = parameter_groups(TwoRates(), 1.0, {"fast": PartConfig(learning_rate_factor=2.0)})
    assert fast["lr"] == 2.0
