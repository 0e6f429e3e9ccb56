"""Transformer layers against torch's own, and dropout by bytes."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aqa.models.transformer import Decoder, Encoder, FewQueryAttention, SelfAttention, dropout, relu_dropout

PADDING = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]], dtype=torch.bool)


def torchs_encoder(norm_first, activation):
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.3, activation=activation, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False).eval()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", [F.relu, F.gelu])
@pytest.mark.parametrize("padding", [None, PADDING])
def test_an_encoder_is_torchs(norm_first, activation, padding):
    torch.manual_seed(0)
    theirs = torchs_encoder(norm_first, activation)
    ours = Encoder(2, 8, 2, 12, 0.3, norm_first=norm_first, activation=activation).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 6, 8)
    real = torch.ones(3, 6, dtype=torch.bool) if padding is None else ~padding
    assert torch.allclose(ours(x, padding)[real], theirs(x, src_key_padding_mask=padding)[real], atol=1e-6)


@pytest.mark.parametrize("padding", [None, PADDING])
def test_a_decoder_is_torchs(padding):
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(8, 2, 12, 0.3, batch_first=True)
    theirs = nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(8)).eval()
    ours = Decoder(2, 8, 2, 12, 0.3).eval()
    ours.load_state_dict(theirs.state_dict())
    queries, memory = torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    expected = theirs(queries, memory, memory_key_padding_mask=padding)
    assert torch.allclose(ours(queries, memory, padding), expected, atol=1e-6)


def test_training_without_dropout_has_torchs_gradients():
    torch.manual_seed(0)
    theirs = torchs_encoder(False, F.relu).train()
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    ours = Encoder(2, 8, 2, 12, 0.0)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 6, 8)
    ours(x, PADDING)[~PADDING].square().sum().backward()
    theirs(x, src_key_padding_mask=PADDING)[~PADDING].square().sum().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, expected[name].grad, atol=1e-4), name


@pytest.mark.parametrize("mask", ["none", "a row", "a query"])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_attention_of_few_or_many_queries_is_torchs(mask, count):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    ours = FewQueryAttention(8, 2, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    queries, context = torch.randn(3, count, 8), torch.randn(3, 6, 8)
    padding = {"none": None, "a row": PADDING, "a query": torch.rand(3, count, 6) < 0.5}[mask]
    if mask == "a query":
        padding[:, :, 0] = False
        each = [theirs(queries[:, [i]], context, context, key_padding_mask=padding[:, i])[0] for i in range(count)]
        expected = torch.cat(each, dim=1)
    else:
        expected = theirs(queries, context, context, key_padding_mask=padding)[0]
    assert torch.allclose(ours(queries, context, padding), expected, atol=1e-6)


def test_dropped_attention_weights_count_in_what_a_bias_of_values_adds():
    """With weights dropped, attention is the same sum over keys and values as without regrouping."""
    torch.manual_seed(0)
    attention = FewQueryAttention(8, 2, dropout=0.5, batch_first=True)
    nn.init.normal_(attention.in_proj_bias)
    queries, context = torch.randn(3, 2, 8), torch.randn(3, 6, 8)
    torch.manual_seed(1)
    found = attention(queries, context)
    torch.manual_seed(1)
    query, key, value = (
        F.linear(x, w, b).unflatten(-1, (2, 4)).transpose(1, 2)
        for x, w, b in zip(
            (queries, context, context),
            attention.in_proj_weight.chunk(3),
            attention.in_proj_bias.chunk(3),
            strict=True,
        )
    )
    weights = (query @ key.transpose(-1, -2) / 2).softmax(-1)  # (B, h, Q, S)
    weights = dropout(weights.flatten(1, 2), 0.5, True).unflatten(1, (2, 2))
    expected = attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
    assert torch.allclose(found, expected, atol=1e-6)


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


@pytest.mark.parametrize("padded", [False, True])
def test_heads_together_say_what_they_say_one_by_one(padded):
    torch.manual_seed(0)
    attention, x = SelfAttention(24, 3, dropout=0.0, batch_first=True), torch.randn(4, 7, 24)
    padding = torch.arange(7) >= torch.tensor([[7], [3], [1], [5]]) if padded else None
    joined = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    together = attention.out_proj(attention._heads_together(joined, padding))
    torch.testing.assert_close(together, attention(x, padding))
