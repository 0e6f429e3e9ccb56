"""Dropout by random bytes, and attention whose weights are dropped block by block."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aqa.layers import dropout as dropouts
from aqa.layers.dropout import attend_in_blocks, dropout, relu_dropout


@given(rate=st.floats(0.01, 0.9), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate, seed):
    torch.manual_seed(seed)
    x = torch.ones(200, 201)
    out = dropout(x, rate, training=True)
    kept = 1 - round(256 * rate) / 256
    assert out[out > 0].unique().tolist() == [pytest.approx(1 / kept)]
    spread = 5 * (kept * (1 - kept) / out.numel()) ** 0.5
    assert (out > 0).float().mean().item() == pytest.approx(kept, abs=spread)
    assert abs(kept - (1 - rate)) <= 1 / 512


def test_dropout_adds_a_residual_and_both_learn():
    torch.manual_seed(0)
    x, residual = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    out = dropout(x, 0.5, training=True, residual=residual)
    dropped = (out == residual).float()
    assert 0 < dropped.sum() < 35
    assert torch.allclose(out, residual + 2 * x * (1 - dropped))
    gradient = torch.randn(5, 7)
    out.backward(gradient)
    assert torch.equal(residual.grad, gradient)
    assert torch.allclose(x.grad, 2 * gradient * (1 - dropped))


def test_dropout_draws_from_torchs_generator_and_rests_in_evaluation():
    x = torch.randn(4, 9)
    torch.manual_seed(3)
    first = dropout(x, 0.3, training=True)
    assert not torch.equal(dropout(x, 0.3, training=True), first)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.3, training=True), first)
    assert torch.equal(dropout(x, 0.3, training=False), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)


@pytest.mark.parametrize("training", [False, True])
def test_relu_and_dropout_in_one_are_the_two_in_turn(training):
    x = torch.randn(7, 11, 13, requires_grad=True)
    slope = torch.randn(7, 11, 13)
    found = []
    for both in (lambda: relu_dropout(x, 0.3, training), lambda: dropout(F.relu(x), 0.3, training)):
        torch.manual_seed(0)
        out = both()
        found.append((out, *torch.autograd.grad((out * slope).sum(), x)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def heads(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, requires_grad=True, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("block", [1, 20, 1000])  # numbers: a query, three, all of a row
def test_attention_in_blocks_has_the_gradients_of_what_it_says(monkeypatch, padded, block):
    monkeypatch.setattr(dropouts, "BLOCK", block)
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2]) if padded else None

    def attend(query, key, value):
        torch.manual_seed(3)  # the same weights are dropped
        return dropouts._AttentionInBlocks.apply(query, key, value, padding, 100)

    inputs = heads(2, 6, 3)
    assert torch.autograd.gradcheck(attend, inputs)
    if padded:
        attend(*inputs).sum().backward()
        assert not any(x.grad[1, 4:].any() for x in inputs[1:])  # keys and values of padding


@pytest.mark.parametrize("padded", [False, True])
def test_attention_in_blocks_without_dropout_is_torchs(padded):
    query, key, value = (x.detach().float() for x in heads(3, 9, 4))
    padding = torch.arange(9) >= torch.tensor([[9], [1], [5]]) if padded else None
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=None if padding is None else ~padding[:, None]
    )
    torch.testing.assert_close(attend_in_blocks(query, key, value, padding, 0), expected)


def test_attention_in_blocks_drops_weights_at_the_rate():
    query, key, clips = torch.zeros(8, 500, 1), torch.zeros(8, 500, 1), 500  # all weights alike
    torch.manual_seed(0)
    kept = 1 - 64 / 256
    said = attend_in_blocks(query, key, torch.ones(8, clips, 1), None, 64) * kept  # the share of weights that was kept
    deviation = math.sqrt(kept * (1 - kept) / clips)
    assert said.mean().item() == pytest.approx(kept, abs=5 * deviation / math.sqrt(said.numel()))
    assert said.std().item() == pytest.approx(deviation, rel=0.1)
    again = attend_in_blocks(query, key, torch.ones(8, clips, 1), None, 64) * kept
    assert not torch.equal(again, said)


def test_attention_in_blocks_under_autocast_keeps_the_type_of_its_queries():
    query, key, value = (x.detach().bfloat16().requires_grad_() for x in heads(2, 6, 3))
    with torch.autocast("cpu", torch.bfloat16):
        said = attend_in_blocks(query, key, value, None, 30)
    said.float().sum().backward()
    assert said.dtype == query.grad.dtype == torch.bfloat16
