"""Masks that the host knows: what is made of them is known too, and nothing is asked of the device."""

import pytest
import torch

from aqa.system.host_masks import asked, known, likewise, on_host, places, row_numbers, selected, slices, told
from tests.training.pretended_gpu import DEVICE, pretended_gpu

MASK = torch.tensor([[True, False], [False, False], [True, True]])


@pytest.fixture
def gpu():
    with pretended_gpu() as found:
        yield found


def there(x):
    """The same on the pretended GPU, its host told of it; nothing is counted of this."""
    return known(x.to(DEVICE), x)


def test_on_a_cpu_a_mask_is_its_own_twin():
    assert known(MASK, None) is MASK
    assert on_host(MASK) is MASK
    assert told(MASK) is MASK
    assert selected(MASK, torch.ones(3, dtype=torch.bool)) is MASK
    assert torch.equal(selected(MASK, MASK[:, 0]), MASK[[0, 2]])
    assert torch.equal(row_numbers(MASK[:, 0]), torch.tensor([0, 2]))


def test_what_is_made_of_a_known_mask_is_known_without_waiting(gpu):
    mask = there(MASK)
    rows, column = likewise(lambda x: x.any(dim=1), mask), slices(mask, 1)[1]
    kept = selected(mask, rows)
    for made, expected in ((rows, MASK.any(dim=1)), (column, MASK[:, 1]), (kept, MASK[[0, 2]])):
        assert made.device == DEVICE
        assert torch.equal(on_host(made), expected)
        assert torch.equal(asked(made), expected)
        assert torch.equal(made.held, expected)
    assert row_numbers(rows).device == DEVICE
    assert row_numbers(rows).held.tolist() == [0, 2]
    assert [each.held.tolist() for each in places(MASK, DEVICE)] == [[0, 2, 2], [0, 0, 1]]
    assert selected(mask, there(MASK[:, 0])).held.tolist() == [[True, False], [True, True]]
    assert selected(column, there(torch.ones(3, dtype=torch.bool))) is column
    waits = {what for what, _ in gpu.waits}
    assert waits == {"copy from the host"}  # of the masks of this test


def test_what_is_not_known_is_asked_for_once(gpu):
    mask = MASK.to(DEVICE)
    gpu.waits.clear()
    assert on_host(mask) is None
    assert on_host(likewise(torch.logical_not, mask)) is None
    assert sum(gpu.waits.values()) == 0
    assert torch.equal(asked(told(mask)), MASK)
    assert sum(gpu.waits.values()) == 1
    assert torch.equal(asked(slices(mask, 0)[0]), MASK[0])
    assert sum(gpu.waits.values()) == 1


def test_of_numbers_that_the_host_does_not_know_those_that_it_picks_are_not_known(gpu):
    x, rows = torch.arange(6.0).view(3, 2).to(DEVICE), there(MASK[:, 0])
    gpu.waits.clear()
    picked = selected(x, rows)
    assert on_host(picked) is None
    assert picked.held.tolist() == [[0, 1], [4, 5]]
    assert not gpu.waits
