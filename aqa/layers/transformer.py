"""Transformer layers that compute what torch's do, with less passing over memory.

Parameters carry the names of `torch.nn.TransformerEncoder` and `torch.nn.TransformerDecoder`, so that weights go either
way. What differs is dropout on a CPU: see `aqa.layers.dropout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.errors import AqaError
from aqa.layers.dropout import attend_in_blocks, dropout, dropped_bytes, relu_dropout

LARGE = 2**23  # attention weights of a head: more than these are not kept, but computed again in the backward pass


class SelfAttention(nn.MultiheadAttention):
    """Multi-head self-attention, (B, T, H) -> (B, T, H). Vaswani et al. 2017, section 3.2."""

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """padding: (B, T) bool, which clips not to look at."""
        joined = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if joined.device.type != "cpu" or not (self.training and self.dropout):
            return self.out_proj(self._heads_together(joined, padding))
        heads = joined.unflatten(-1, (3 * self.num_heads, self.head_dim)).unbind(dim=2)  # 3 h of (B, T, H / h)
        queries, keys, values = (heads[i * self.num_heads :][: self.num_heads] for i in range(3))
        said = [self._head(q, k, v, padding) for q, k, v in zip(queries, keys, values, strict=True)]
        return self.out_proj(torch.cat(said, dim=-1))

    def _heads_together(self, joined: Tensor, padding: Tensor | None) -> Tensor:
        """All heads by one kernel, which keeps no weights (and on a GPU drops them out): (B, T, 3 H) -> (B, T, H)."""
        query, key, value = joined.unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        seen = None if padding is None else ~padding[:, None, None]  # (B, 1, 1, T)
        rate = self.dropout if self.training else 0.0
        said = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=rate)  # (B, h, T, H / h)
        return said.transpose(1, 2).flatten(2)

    def _head(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None) -> Tensor:
        """One head with dropout, (B, T, H / h) each, head by head so that nothing is copied to stand side by side."""
        if (dropped := dropped_bytes(query, self.dropout, self.training)) and len(query) * query.shape[1] ** 2 > LARGE:
            return attend_in_blocks(query, key, value, padding, dropped)
        logits = torch.bmm(query * (1 / math.sqrt(self.head_dim)), key.transpose(1, 2))  # (B, T, T)
        if padding is not None:
            logits = logits.masked_fill(padding.unsqueeze(1), -torch.inf)
        return torch.bmm(dropout(logits.softmax(dim=-1), self.dropout, self.training), value)


class FewQueryAttention(nn.MultiheadAttention):
    """Multi-head attention of few queries to a long context, without keys and values of it all. Section 3.2, regrouped.

    A head's logits q . (K c) are (K' q) . c, up to what the bias of K adds to all alike, and the values are summed
    before they go through V instead of after. For Q queries that takes Q S instead of S H products per row and channel.
    """

    def forward(  # type: ignore[override]
        self, queries: Tensor, context: Tensor, padding: Tensor | None = None
    ) -> Tensor:
        """queries (B, Q, H), context (B, S, H) -> (B, Q, H). padding: (B, S) or (B, Q, S) bool, not to be looked at."""
        heads, size, count = self.num_heads, self.head_dim, queries.shape[1]
        if count * (heads - 1) > self.embed_dim and (padding is None or padding.dim() == 2):  # many queries: as usual
            return super().forward(queries, context, context, key_padding_mask=padding, need_weights=False)[0]
        value_weight, value_bias = self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2]
        weights = dropout(self.attention(queries, context, padding), self.dropout, self.training)
        found = (weights.flatten(1, 2) @ context).unflatten(1, (heads, count))  # (B, h, Q, H)
        values = torch.einsum("bhqc,hdc->bhqd", found, value_weight.unflatten(0, (heads, size)))  # (B, h, Q, H / h)
        # Dropped weights do not sum to one, so that what the bias of V adds is not the bias itself.
        values = values + weights.sum(dim=-1, keepdim=True) * value_bias.view(heads, 1, size)
        return self.out_proj(values.transpose(1, 2).flatten(2))

    def attention(self, queries: Tensor, context: Tensor, padding: Tensor | None = None) -> Tensor:
        """How much each query looks at each place of the context, by head: (B, h, Q, S), summing to 1 over S."""
        heads, size, count = self.num_heads, self.head_dim, queries.shape[1]
        query_weight, key_weight, _ = self.in_proj_weight.chunk(3)
        asked = F.linear(queries, query_weight, self.in_proj_bias.chunk(3)[0])
        asked = asked.unflatten(-1, (heads, size)).transpose(1, 2)
        # By einsum, which joins rows and queries: a weight's gradient is then one product, not one per row and a sum.
        asked = torch.einsum("bhqd,hdc->bhqc", asked, key_weight.unflatten(0, (heads, size)) / math.sqrt(size))
        logits = (asked.flatten(1, 2) @ context.transpose(1, 2)).unflatten(1, (heads, count))
        if padding is not None:
            logits = logits.masked_fill(padding.view(padding.shape[0], 1, -1, padding.shape[-1]), -torch.inf)
        return logits.softmax(dim=-1)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a residual and a norm after it, or before: norm_first."""

    def __init__(
        self,
        width: int,
        n_head: int,
        feedforward: int,
        dropout: float,
        norm_first: bool = False,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ):
        super().__init__()
        self.rate, self.norm_first, self.activation = dropout, norm_first, activation
        self.self_attn = SelfAttention(width, n_head, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """x (B, T, H), padding (B, T) bool: which clips not to look at -> (B, T, H)."""
        if self.norm_first:
            x = self._add(x, self.self_attn(self.norm1(x), padding))
            return self._add(x, self._feedforward(self.norm2(x)))
        x = self.norm1(self._add(x, self.self_attn(x, padding)))
        return self.norm2(self._add(x, self._feedforward(x)))

    def _feedforward(self, x: Tensor) -> Tensor:
        inner = self.linear1(x)
        if self.activation is F.relu:
            return self.linear2(relu_dropout(inner, self.rate, self.training))
        return self.linear2(dropout(self.activation(inner), self.rate, self.training))

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        return dropout(branch, self.rate, self.training, residual=x)


class Encoder(nn.Module):
    """Encoder layers over the clips of a stream, and a norm after the last."""

    def __init__(
        self,
        n_layer: int,
        width: int,
        n_head: int,
        feedforward: int,
        dropout: float,
        norm: bool = True,
        norm_first: bool = False,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, n_head, feedforward, dropout, norm_first, activation) for _ in range(n_layer)
        )
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """x (B, T, H), padding (B, T) bool: which clips not to look at -> (B, T, H)."""
        for layer in self.layers:
            x = layer(x, padding)
        return self.norm(x)


class DecoderLayer(EncoderLayer):
    """An encoder layer over few queries that look at a context between the two."""

    def __init__(self, width: int, n_head: int, feedforward: int, dropout: float):
        super().__init__(width, n_head, feedforward, dropout)
        self.multihead_attn = FewQueryAttention(width, n_head, dropout=dropout, batch_first=True)
        self.norm3 = nn.LayerNorm(width)

    def forward(  # type: ignore[override]
        self, queries: Tensor, context: Tensor, padding: Tensor | None = None
    ) -> Tensor:
        """queries (B, Q, H), context (B, T, H), padding (B, T) bool: which clips not to look at -> (B, Q, H)."""
        queries = self.norm1(self._add(queries, self.self_attn(queries)))
        queries = self.norm2(self._add(queries, self.multihead_attn(queries, context, padding)))
        return self.norm3(self._add(queries, self._feedforward(queries)))


class Decoder(nn.Module):
    """Decoder layers, and a norm after the last."""

    def __init__(self, n_layer: int, width: int, n_head: int, feedforward: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, n_head, feedforward, dropout) for _ in range(n_layer))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, context: Tensor, padding: Tensor | None = None) -> Tensor:
        """queries (B, Q, H), context (B, T, H), padding (B, T) bool: which clips not to look at -> (B, Q, H)."""
        for layer in self.layers:
            queries = layer(queries, context, padding)
        return self.norm(queries)


def check_heads(where: str, hidden_dim: int, n_head: int, factor: int = 1) -> None:
    """Raise AqaError unless hidden_dim is a multiple of n_head, and of a factor where the model needs one."""
    if hidden_dim % n_head or hidden_dim % factor:
        also = f"{factor} and of " if factor > 1 else ""
        raise AqaError(f"{where}: hidden_dim {hidden_dim} must be a multiple of {also}n_head {n_head}")
