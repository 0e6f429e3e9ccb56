"""The state of torch's generators: what is drawn after it was set is drawn again."""

import torch

from aqa.training.random_state import random_state, set_random_state


def test_what_follows_a_state_is_drawn_again_after_it_is_set():
    torch.manual_seed(1)
    torch.rand(3)
    state = random_state()
    expected = torch.rand(5)
    torch.manual_seed(2)
    set_random_state(state)
    assert torch.equal(torch.rand(5), expected)
