"""Precisions: what they set, put back, and leave in float32."""

import pytest
import torch

from aqa.errors import AqaError
from aqa.models.layers import GradeDecoder
from aqa.objectives import channel_divergence, hardest_triplet, squared_error
from aqa.precision import autocast, float32_products, require_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_allowed_for_tf32_alone_and_afterwards_as_before(precision, allowed):
    before = flags()
    with float32_products("tf32"):
        with pytest.raises(RuntimeError, match="broken off"), float32_products(precision):
            raise RuntimeError(f"broken off at {flags()}")
        assert flags() == (True, True)
        with float32_products(precision):
            assert flags() == (allowed, allowed)
    assert flags() == before


def test_tf32_leaves_the_products_of_a_cpu_alone():
    with float32_products("tf32"):
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
    assert require_precision("tf32", CPU) == ["train.precision tf32 is of GPUs: on this CPU it is float32"]
    assert require_precision("bf16", CPU) == require_precision("float32", CPU) == []


def test_a_gpu_without_such_products_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    for precision in ("tf32", "bf16"):
        with pytest.raises(AqaError, match=f"train.precision {precision}: Old GPU has none; use float32"):
            require_precision(precision, GPU)
    assert require_precision("float32", GPU) == []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert require_precision("bf16", GPU) == require_precision("tf32", GPU) == []


def test_losses_and_votes_are_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    queries, stream, other = torch.randn(5, 4, 16), torch.randn(3, 7, 16), torch.randn(3, 7, 16)
    decoder = GradeDecoder(16, 4, 1, 1, 16, 0.0)

    def found():
        losses = squared_error(stream, other), channel_divergence(stream, other), hardest_triplet(queries, 1.0)
        return *losses, decoder.vote(queries)

    expected = found()
    with autocast("bf16", CPU):
        assert (stream @ other.mT).dtype == torch.bfloat16
        for value, exact in zip(found(), expected, strict=True):
            assert torch.equal(value, exact)
    with autocast("tf32", CPU):
        assert (stream @ other.mT).dtype == torch.float32
