"""Transformer layers against torch's own, and dropout by bytes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from aqa.errors import AqaError
from aqa.layers.dropout import dropout
from aqa.layers.transformer import Decoder, Encoder, FewQueryAttention, SelfAttention, check_heads

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


@pytest.mark.parametrize("padded", [False, True])
def test_dropped_self_attention_drops_each_heads_weights_in_turn(padded):
    attention, x = SelfAttention(24, 3, dropout=0.3, batch_first=True), torch.randn(4, 7, 24)
    padding = torch.arange(7) >= torch.tensor([[7], [3], [1], [5]]) if padded else None
    torch.manual_seed(0)
    found = attention(x, padding)

    torch.manual_seed(0)
    joined = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = joined.unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)  # (B, h, T, H / h) each
    logits = query @ key.transpose(-1, -2) / 8**0.5
    if padding is not None:
        logits = logits.masked_fill(padding[:, None, None], -torch.inf)
    weights = torch.stack([dropout(head, 0.3, True) for head in logits.softmax(-1).unbind(1)], dim=1)
    torch.testing.assert_close(found, attention.out_proj((weights @ value).transpose(1, 2).flatten(2)))


class LargestResult(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that anything gave."""

    numbers = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        found = function(*arguments, **(named or {}))
        for each in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return found


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_over_many_clips_takes_memory_for_the_clips_not_for_their_pairs(monkeypatch, rate, padded):
    monkeypatch.setattr("aqa.layers.transformer.LARGE", 10**6)
    clips, width = 2000, 8
    attention, x = SelfAttention(width, 2, dropout=rate, batch_first=True), torch.randn(2, clips, width)
    padding = torch.arange(clips) >= torch.tensor([[clips], [clips // 3]]) if padded else None
    with LargestResult() as largest:
        attention(x.requires_grad_(), padding).sum().backward()
        with torch.inference_mode():
            attention.eval()(x, padding)
    assert largest.numbers < clips**2 / 4


@pytest.mark.parametrize(
    ("n_head", "factor", "message"),
    [(5, 1, "a multiple of n_head 5"), (2, 4, "a multiple of 4 and of n_head 2")],
)
def test_widths_that_heads_cannot_share_are_refused(n_head, factor, message):
    check_heads("model 'x'", 16, 4, factor=4)
    with pytest.raises(AqaError, match=f"^model 'x': hidden_dim 18 must be {message}$"):
        check_heads("model 'x'", 18, n_head, factor)
