"""Blocks that two models or more share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from aqa.layers.transformer import Decoder, Encoder, check_heads
from aqa.system.precision import at_least_float32


def sinusoid(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal position encoding (length, width). Vaswani et al. 2017, section 3.5."""
    position = torch.arange(length, dtype=torch.float32, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / width))
    encoding = torch.zeros(length, width, device=device)
    encoding[:, 0::2] = torch.sin(position * rate)
    encoding[:, 1::2] = torch.cos(position * rate)[:, : width // 2]
    return encoding


class GradeDecoder(nn.Module):
    """Learned grade prototypes attend to a video and vote for a score.

    Xu et al. 2022 (GDLT), section 3.2, as MCMoE uses it: query i keeps the i-th output of one linear layer, through a
    sigmoid; normalized over queries these weigh the grades linspace(0, 1, n_query).

    position: what the sinusoidal position encoding of the prototypes counts. "none": there is none, as in GDLT. "query"
    numbers the prototypes; "batch_row" numbers the rows of the batch, as published MCMoE checkpoints expect, so that
    scores depend on the order of the batch.
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
        self.decoder = Decoder(n_layer, width, n_head, feedforward, dropout)
        self.regressor = nn.Linear(width, n_query)

    def forward(self, memory: Tensor, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """memory (B, T, H), clips (B, T) bool or None -> scores (B,), decoded queries (B, n_query, H)."""
        padding = None if clips is None else ~clips
        queries = self.decoder(self.placed(memory.shape[0]), memory, padding)
        return self.vote(queries), queries

    def placed(self, rows: int) -> Tensor:
        """The prototypes with their position encoding, for a batch of so many rows: (B, n_query, H)."""
        prototypes = self.prototypes.expand(rows, -1, -1)
        if self.position == "none":
            return prototypes
        n_query, width = self.prototypes.shape
        if self.position == "query":
            return prototypes + sinusoid(n_query, width, prototypes.device)
        return prototypes + sinusoid(rows, width, prototypes.device).unsqueeze(1)

    def vote(self, queries: Tensor) -> Tensor:
        """Decoded queries (B, n_query, H) -> scores (B,), in float32: bfloat16 tells some two hundred apart."""
        with torch.autocast(queries.device.type, enabled=False):
            return mean_grade(self.weigh(queries))

    def weigh(self, queries: Tensor) -> Tensor:
        """Decoded queries (B, n_query, H) -> the weights of the grades, whose sum is 1, (B, n_query)."""
        with torch.autocast(queries.device.type, enabled=False):
            weights = self.regressor(at_least_float32(queries)).diagonal(dim1=-2, dim2=-1).sigmoid()
            return weights / weights.sum(dim=1, keepdim=True)


def mean_grade(weights: Tensor) -> Tensor:
    """The mean of distributions over the grades linspace(0, 1, n_query), (..., n_query) -> (...)."""
    return weights @ torch.linspace(0, 1, weights.shape[-1], device=weights.device)


def grade_deviation(weights: Tensor) -> Tensor:
    """The standard deviation of distributions over the same grades, (..., n_query) -> (...)."""
    grades = torch.linspace(0, 1, weights.shape[-1], device=weights.device)
    apart = grades - mean_grade(weights).unsqueeze(-1)
    return (weights * apart.square()).sum(dim=-1).sqrt()


def xavier(module: nn.Module) -> None:
    """Xavier-uniform initialization of every weight matrix, as transformers commonly start."""
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


class GradeTransformer(nn.Module):
    """GDLT behind its input projection: self-attention over clips, then grade prototypes. Xu et al. 2022, section 3.

    The defaults of the models that use it are those of GDLT's released code.
    """

    def __init__(
        self,
        width: int,
        n_head: int,
        n_encoder: int,
        n_decoder: int,
        n_query: int,
        feedforward: int | None,
        dropout: float,
        position: str = "none",
    ):
        super().__init__()
        check_heads("grade decoder", width, n_head)
        feedforward = feedforward or 3 * width
        self.encoder = Encoder(n_encoder, width, n_head, feedforward, dropout)
        self.grades = GradeDecoder(width, n_query, n_head, n_decoder, feedforward, dropout, position)
        xavier(self.encoder)
        xavier(self.grades.decoder)

    def forward(self, stream: Tensor, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """stream (B, T, H), clips (B, T) bool or None -> scores (B,), decoded queries (B, n_query, H)."""
        padding = None if clips is None else ~clips
        return self.grades(self.encoder(stream, padding), clips)
