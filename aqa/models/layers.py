"""Blocks that two models or more share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def sinusoid(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal position encoding (length, width). Vaswani et al. 2017, section 3.5."""
    position = torch.arange(length, dtype=torch.float32, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / width))
    encoding = torch.zeros(length, width, device=device)
    encoding[:, 0::2] = torch.sin(position * rate)
    encoding[:, 1::2] = torch.cos(position * rate)[:, : width // 2]
    return encoding


def real_clips(lengths: Mapping[str, Tensor], seen: Tensor, clips: int) -> Tensor:
    """Which of the T clips of each video hold data rather than padding, (B, T) bool.

    lengths: modality -> (B,), aligned streams; seen: (B, M), the streams whose lengths may be used.
    """
    longest = (torch.stack(list(lengths.values()), dim=1) * seen).amax(dim=1)
    return torch.arange(clips, device=seen.device) < longest.unsqueeze(1)


def on_clips(module: nn.Module, x: Tensor, clips: Tensor | None = None) -> Tensor:
    """Apply a module that works on single clips, (n, C) -> (n, C'), to a batch (B, T, C) -> (B, T, C').

    With clips (B, T) bool only those go in, so that batch statistics know no padding; the others come out as zeros.
    """
    taken = x.flatten(0, 1) if clips is None else x[clips]
    training = module.training
    module.train(training and len(taken) != 1)  # one clip has no batch statistics; the running ones must serve
    out = module(taken)
    module.train(training)
    if clips is None:
        return out.unflatten(0, x.shape[:2])
    return out.new_zeros(*x.shape[:2], out.shape[-1]).masked_scatter(clips.unsqueeze(-1), out)


def scatter_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, T, C) back into a batch (B, T, C) at the n places where rows (B,) is true, zeros elsewhere."""
    if len(values) == len(rows):
        return values
    out = values.new_zeros(len(rows), *values.shape[1:])
    return out.masked_scatter(rows.view(-1, *[1] * (values.dim() - 1)), values)


class GradeDecoder(nn.Module):
    """Learned grade prototypes attend to a video and vote for a score.

    Xu et al. 2022 (GDLT), section 3.2, as MCMoE uses it: query i keeps the i-th output of one linear layer, through a
    sigmoid; normalised over queries these weigh the grades linspace(0, 1, n_query).

    position: what the sinusoidal position encoding of the prototypes counts. "query" numbers the prototypes;
    "batch_row" numbers the rows of the batch, as published MCMoE checkpoints expect, so that scores depend on the
    order of the batch.
    """

    def __init__(
        self,
        width: int,
        n_query: int,
        n_head: int,
        n_layer: int,
        feedforward: int,
        dropout: float,
        position: str = "query",
    ):
        super().__init__()
        self.position = position
        self.prototypes = nn.Parameter(torch.randn(n_query, width))
        layer = nn.TransformerDecoderLayer(width, n_head, feedforward, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, n_layer, norm=nn.LayerNorm(width))
        self.regressor = nn.Linear(width, n_query)

    def forward(self, memory: Tensor, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """memory (B, T, H), clips (B, T) bool or None -> scores (B,), decoded queries (B, n_query, H)."""
        prototypes = self.prototypes.expand(len(memory), -1, -1)
        n_query, width = self.prototypes.shape
        if self.position == "query":
            prototypes = prototypes + sinusoid(n_query, width, memory.device)
        else:
            prototypes = prototypes + sinusoid(len(memory), width, memory.device).unsqueeze(1)
        padding = None if clips is None else ~clips
        queries = self.decoder(prototypes, memory, memory_key_padding_mask=padding)
        weights = self.regressor(queries).diagonal(dim1=-2, dim2=-1).sigmoid()  # (B, n_query)
        weights = weights / weights.sum(dim=1, keepdim=True)
        return weights @ torch.linspace(0, 1, n_query, device=memory.device), queries


def xavier(module: nn.Module) -> None:
    """Xavier-uniform initialisation of every weight matrix, as transformers commonly start."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def projection(width: int, hidden_dim: int) -> nn.Sequential:
    """From a modality's channels to the shared space, clip by clip: (n, D) -> (n, H). Xu et al. 2022 (GDLT)."""
    half = max(width // 2, 1)
    return nn.Sequential(
        nn.Linear(width, half),
        nn.BatchNorm1d(half),
        nn.ReLU(),
        nn.Linear(half, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
    )
