import pytest
import torch

from benchmarks import patterns
from benchmarks.harness import operations
from benchmarks.models import model_settings
from benchmarks.steps import build_small, random_batch, small_shape

SHAPE = small_shape(3, 6, 8, 4)


@pytest.mark.parametrize("name", ["mome", "momke"])
def test_the_ways_score_the_same_and_differ_in_their_work(name):
    model = build_small(name, SHAPE.widths, **model_settings()[name]).eval()
    ways = patterns.ways_to_score(model, random_batch(SHAPE, torch.device("cpu"), padded=True), SHAPE)
    together = ways.together()
    assert together.shape == (7, 4)
    torch.testing.assert_close(together, ways.apart(), rtol=0, atol=1e-6)
    torch.testing.assert_close(ways.complete(), together[:1], rtol=0, atol=1e-6)
    complete, seven, apart = map(operations, ways)
    assert complete < seven < 2 * complete < apart


def test_memory_is_measured_of_the_same_ways():
    found = [patterns.one_way("mome", "tiny", 4, torch.device("cpu"), way)() for way in ("complete", "together")]
    assert [scores.shape[0] for scores in found] == [1, 7]
    assert torch.equal(found[0], found[1][:1])
    assert not found[0].requires_grad
