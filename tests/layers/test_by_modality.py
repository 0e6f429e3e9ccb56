"""A layer for each modality under any name."""

import pytest
import torch
from torch import nn

from aqa.layers.by_modality import ByModality

ODD = ["a.b", "c d", "__class__", "forward", "training", "_modules", "_key_of", "keys", "%forward", "a%2Eb", "NO", "12"]


def test_any_names_are_keys_in_their_order():
    layers = ByModality({name: nn.Linear(1, i + 1) for i, name in enumerate(ODD)})
    assert list(layers) == list(layers.keys()) == [name for name, _ in layers.items()] == ODD
    assert [layers[name].out_features for name in ODD] == list(range(1, len(ODD) + 1))
    assert len(layers.state_dict()) == 2 * len(ODD)  # none hides another
    assert "a.b" in layers
    assert "a%2Eb!" not in layers


def test_ordinary_names_are_those_of_parameters_so_that_checkpoints_load():
    plain = nn.ModuleDict({"visual": nn.Linear(1, 1), "left hand": nn.Linear(1, 1)})
    ours = ByModality(dict(plain.items()))
    assert list(ours.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("name", ["a.b", "training"])
def test_what_is_saved_under_an_odd_name_loads_again(name):
    first, second = (ByModality({name: nn.Linear(2, 2)}) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first[name].weight, second[name].weight)
    assert first[name].training
