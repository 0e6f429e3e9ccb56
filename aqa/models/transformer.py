"""Transformer encoder layers that compute what torch's do, with less passing over memory.

Parameters carry the names of `torch.nn.TransformerEncoder`, so that weights go either way. What differs is dropout on a
CPU, where half of a training step of torch's layers is drawing random numbers and copying.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _ByteDropout(torch.autograd.Function):
    """Dropout by one random byte an element; the byte is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        ctx.bytes, ctx.dropped = words.view(torch.uint8)[: x.numel()].view(x.shape), dropped
        return _ByteDropout._apply(x, ctx.bytes, dropped)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _ByteDropout._apply(gradient, ctx.bytes, ctx.dropped), None

    @staticmethod
    def _apply(x: Tensor, random: Tensor, dropped: int) -> Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.ge(random, dropped, out=out)
        return torch.addcmul(x.new_zeros(()), out, x, value=256 / (256 - dropped), out=out)


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zeros in the place of elements drawn at `rate`, the others scaled so that the mean stays. Srivastava et al. 2014.

    On a CPU the rate is rounded to a 256th (and the scale goes with it): a byte is drawn for each element.
    """
    dropped = min(round(256 * rate), 255)
    if x.device.type != "cpu" or not training or not dropped:
        return F.dropout(x, rate, training)
    return _ByteDropout.apply(x, dropped)


class SelfAttention(nn.MultiheadAttention):
    """Multi-head self-attention, (B, T, H) -> (B, T, H). Vaswani et al. 2017, section 3.2."""

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """padding: (B, T) bool, which clips not to look at."""
        joined = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = joined.unflatten(-1, (3 * self.num_heads, self.head_dim)).unbind(dim=2)  # 3 h of (B, T, H / h)
        queries, keys, values = (heads[i * self.num_heads :][: self.num_heads] for i in range(3))
        said = [self._head(q, k, v, padding) for q, k, v in zip(queries, keys, values, strict=True)]
        return self.out_proj(torch.cat(said, dim=-1))

    def _head(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """One head, (B, T, H / h) each, head by head so that nothing is copied to stand side by side."""
        if not (self.training and self.dropout):
            seen = None if padding is None else ~padding.unsqueeze(1)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        logits = torch.bmm(query * (1 / math.sqrt(self.head_dim)), key.transpose(1, 2))  # (B, T, T)
        if padding is not None:
            logits = logits.masked_fill(padding.unsqueeze(1), -torch.inf)
        return torch.bmm(dropout(logits.softmax(dim=-1), self.dropout, self.training), value)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm after it (or before: norm_first)."""

    def __init__(self, width: int, n_head: int, feedforward: int, dropout: float, norm_first: bool = False):
        super().__init__()
        self.rate, self.norm_first = dropout, norm_first
        self.self_attn = SelfAttention(width, n_head, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        if self.norm_first:
            x = x + self._drop(self.self_attn(self.norm1(x), padding))
            return x + self._drop(self._feedforward(self.norm2(x)))
        x = self.norm1(x + self._drop(self.self_attn(x, padding)))
        return self.norm2(x + self._drop(self._feedforward(x)))

    def _feedforward(self, x: Tensor) -> Tensor:
        return self.linear2(self._drop(F.relu(self.linear1(x))))

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, self.training)


class Encoder(nn.Module):
    """Encoder layers over the clips of a stream, (B, T, H) -> (B, T, H), and a norm after the last."""

    def __init__(self, n_layer: int, width: int, n_head: int, feedforward: int, dropout: float, norm: bool = True):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, n_head, feedforward, dropout) for _ in range(n_layer))
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """padding: (B, T) bool, which clips not to look at."""
        for layer in self.layers:
            x = layer(x, padding)
        return self.norm(x)
