"""Dropout that is cheap on a CPU, where torch spends a fifth of a training step on random numbers.

A random byte an element decides whether it is dropped, in the pass that adds the residual. Attention weights of long
videos are dropped, and used, block by block, and never kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**19  # numbers of an attention block: 2 MiB, which the caches of a core hold


def _random_bytes(shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """A random byte for each element, (*shape) uint8."""
    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:count].view(shape)


def _kept(x: Tensor, residual: Tensor, random: Tensor, dropped: int) -> Tensor:
    """The residual and, where a byte says so, the scaled element."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    torch.ge(random, dropped, out=out)
    return torch.addcmul(residual, out, x, value=256 / (256 - dropped), out=out)


class _ByteDropout(torch.autograd.Function):
    """Dropout by one random byte per element, added to a residual; the bytes are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, dropped: int) -> Tensor:
        ctx.bytes, ctx.dropped = _random_bytes(x.shape), dropped
        ctx.added = residual.dim() > 0
        return _kept(x, residual, ctx.bytes, dropped)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        kept = _kept(gradient, gradient.new_zeros(()), ctx.bytes, ctx.dropped)
        return kept, gradient if ctx.added else None, None


class _ReluDropout(torch.autograd.Function):
    """Dropout by bytes after a ReLU; what is above zero was neither cut off nor dropped, so that no byte is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        out = _kept(x, x.new_zeros(()), _random_bytes(x.shape), dropped).clamp_min_(0)
        ctx.save_for_backward(out)
        ctx.dropped = dropped
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        kept = torch.ops.aten.threshold_backward(gradient, out, 0)
        return kept.mul_(256 / (256 - ctx.dropped)), None


def dropout(x: Tensor, rate: float, training: bool, residual: Tensor | None = None) -> Tensor:
    """Zeros in the place of elements drawn at `rate`, the others scaled so that the mean stays; plus the residual.

    On a CPU the rate is rounded to a 256th (and the scale goes with it): a byte is drawn for each element. Not so in
    compiled code, which draws in the pass that uses the numbers. Srivastava et al. 2014, section 4.
    """
    if not (dropped := dropped_bytes(x, rate, training)):
        x = F.dropout(x, rate, training)
        return x if residual is None else residual + x
    if residual is not None and residual.dtype != x.dtype:  # under autocast
        x, residual = x.to(wider := torch.promote_types(x.dtype, residual.dtype)), residual.to(wider)
    return _ByteDropout.apply(x, x.new_zeros(()) if residual is None else residual, dropped)


def relu_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """`dropout` of what is above zero."""
    if not (dropped := dropped_bytes(x, rate, training)):
        return F.dropout(F.relu(x), rate, training)
    return _ReluDropout.apply(x, dropped)


def dropped_bytes(x: Tensor, rate: float, training: bool) -> int:
    """How many values of a byte mean that an element is dropped; 0 where dropout is not by bytes."""
    by_bytes = training and x.device.type == "cpu" and not torch.compiler.is_compiling()
    return min(round(256 * rate), 255) if by_bytes else 0


class _Block(NamedTuple):
    """Attention of some queries of one row: their weights (n, T), and which of these are kept (n, T) bool."""

    row: int
    queries: slice
    weights: Tensor
    kept: Tensor


class _AttentionInBlocks(torch.autograd.Function):
    """Attention whose weights and dropout are computed again in the backward pass. Memory is linear in clips."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, dropped: int) -> Tensor:
        ctx.save_for_backward(query, key, value, padding)
        ctx.dropped, ctx.seed = dropped, int(torch.randint(2**63 - 1, ()))
        said = torch.empty_like(value, memory_format=torch.contiguous_format)
        for row, queries, weights, kept in _blocks(query, key, padding, dropped, ctx.seed):
            torch.mm(weights * kept, value[row], out=said[row, queries])
        return said.mul_(256 / (256 - dropped))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, padding = ctx.saved_tensors
        gradient = gradient * (256 / (256 - ctx.dropped))
        to_query, to_key, to_value = (
            torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
        )
        for row, queries, weights, kept in _blocks(query, key, padding, ctx.dropped, ctx.seed):
            to_value[row].addmm_((weights * kept).T, gradient[row, queries])
            to_weights = (gradient[row, queries] @ value[row].T).mul_(kept)
            to_logits = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            torch.mm(to_logits, key[row], out=to_query[row, queries])
            to_key[row].addmm_(to_logits.T, query[row, queries])
        scale = 1 / math.sqrt(query.shape[-1])
        return to_query.mul_(scale), to_key.mul_(scale), to_value, None, None


def _blocks(query: Tensor, key: Tensor, padding: Tensor | None, dropped: int, seed: int) -> Iterator[_Block]:
    """Attention weights block by block, the same for the same seed."""
    rows, clips, width = query.shape
    generator = torch.Generator().manual_seed(seed)
    count = max(1, BLOCK // clips)
    for row in range(rows):
        for start in range(0, clips, count):
            queries = slice(start, min(start + count, clips))
            logits = (query[row, queries] * (1 / math.sqrt(width))) @ key[row].T  # (n, T)
            if padding is not None:
                logits.masked_fill_(padding[row], -torch.inf)
            kept = _random_bytes(logits.shape, generator) >= dropped
            yield _Block(row, queries, logits.softmax(dim=-1), kept)


def attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, dropped: int) -> Tensor:
    """One head's attention with dropout, (B, T, C) each, in float32. padding: (B, T) bool, which clips not to look at.

    dropped: of 256 weights as many are dropped, by `dropped_bytes`.
    """
    with torch.autocast("cpu", enabled=False):
        said = _AttentionInBlocks.apply(query.float(), key.float(), value.float(), padding, dropped)
    return said.to(query.dtype)
