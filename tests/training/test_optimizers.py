"""Optimizers: the numbers of torch's, without torch's compiler."""

import subprocess
import sys

import pytest
import torch

from aqa.training import optimizers


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


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_they_have_the_numbers_of_torchs_to_the_bit_also_from_a_saved_state(name):
    mine, theirs = getattr(optimizers, name), getattr(torch.optim, name)
    assert issubclass(mine, theirs)
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
from aqa.training.optimizers import Adam
weight = torch.nn.Parameter(torch.ones(2))
optimizer = Adam([weight], lr=0.1, fused=True)
for _ in range(2):
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_training_does_not_load_the_compiler():
    assert subprocess.run([sys.executable, "-c", TRAINING], check=False).returncode == 0
