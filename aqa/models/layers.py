"""Blocks that two models or more share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.errors import AqaError
from aqa.models.base import AQAModel, Loss
from aqa.models.transformer import Decoder, Encoder
from aqa.objectives import hardest_triplet
from aqa.registry import Natural, Positive, Share


def sinusoid(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal position encoding (length, width). Vaswani et al. 2017, section 3.5."""
    position = torch.arange(length, dtype=torch.float32, device=device).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32, device=device) * (-math.log(10000.0) / width))
    encoding = torch.zeros(length, width, device=device)
    encoding[:, 0::2] = torch.sin(position * rate)
    encoding[:, 1::2] = torch.cos(position * rate)[:, : width // 2]
    return encoding


def before_padding(lengths: Tensor, clips: int) -> Tensor:
    """Which of the T clips come before the padding, (B, T) bool. lengths: (B,)."""
    return torch.arange(clips, device=lengths.device) < lengths.unsqueeze(1)


def real_clips(lengths: Mapping[str, Tensor], seen: Tensor, clips: int) -> Tensor:
    """Which of the T clips of each video hold data rather than padding, (B, T) bool.

    lengths: modality -> (B,), aligned streams; seen: (B, M), the streams whose lengths may be used.
    """
    return before_padding((torch.stack(list(lengths.values()), dim=1) * seen).amax(dim=1), clips)


def clip_mean(stream: Tensor, clips: Tensor | None = None) -> Tensor:
    """Mean of (B, T, C) over the clips (B, T) bool that count, or all, (B, C): zeros where none does.

    The other clips may be NaN.
    """
    if clips is None:
        return stream.mean(dim=1)
    kept = stream.masked_fill(~clips.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / clips.sum(dim=1, keepdim=True).clamp(min=1)


def on_clips(module: nn.Module, x: Tensor, clips: Tensor | None = None) -> Tensor:
    """Apply a module that works on single clips, (n, C) -> (n, C'), to a batch (B, T, C) -> (B, T, C').

    With clips (B, T) bool only those go in, so that batch statistics know no padding; the others come out as zeros.
    """
    if clips is not None and works_on_all(module, x):
        return masked(module, x.masked_fill(~clips.unsqueeze(-1), 0.0), clips).masked_fill(~clips.unsqueeze(-1), 0.0)
    taken = x.flatten(0, 1) if clips is None else x[clips]
    training = module.training
    if training and len(taken) < 2:  # one clip has no batch statistics; the running ones must serve
        out = module.eval()(taken)
        module.train()
    else:
        out = module(taken)
    if clips is None:
        return out.unflatten(0, x.shape[:2])
    return out.new_zeros(*x.shape[:2], out.shape[-1]).masked_scatter(clips.unsqueeze(-1), out)


def works_on_all(module: nn.Module, x: Tensor) -> bool:
    """Whether a module works on all rows and clips of a batch and masks what does not count, or picks what does.

    Picking saves work, but how much is picked has to be known: a GPU would have to be waited for in each step of
    training, and compiled code is made for one shape. In scoring the results are waited for anyway.
    """
    return torch.compiler.is_compiling() or (module.training and x.device.type != "cpu")


def masked(module: nn.Module, x: Tensor, clips: Tensor) -> Tensor:
    """A module of single clips on all of (B, T, C), with batch statistics of the clips (B, T) bool alone."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = masked(layer, x, clips)
        return x
    if isinstance(module, nn.BatchNorm1d):
        return masked_batch_norm(module, x, clips)
    return module(x)


def masked_batch_norm(norm: nn.BatchNorm1d, x: Tensor, clips: Tensor) -> Tensor:
    """Batch norm of (B, T, C) by the statistics of the clips (B, T) bool, with the running ones brought up to date.

    In float32. Where one clip or none counts, the running statistics serve, and stay as they are.
    """
    values, kept = x.float(), clips.unsqueeze(-1)  # (B, T, C), (B, T, 1)
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    mean, variance = running_mean, running_var
    if norm.training:
        count = clips.sum()
        own_mean = (values * kept).sum(dim=(0, 1)) / count.clamp(min=1)
        apart = (values - own_mean).square() * kept
        own_variance = apart.sum(dim=(0, 1)) / count.clamp(min=1)
        several = count > 1
        mean, variance = torch.where(several, own_mean, mean), torch.where(several, own_variance, variance)
        share = several * cast(float, norm.momentum)
        # By `data`: torch's batch norm keeps them for its way back, if another stream went through it in this step.
        running_mean.data.lerp_(own_mean.detach(), share)
        running_var.data.lerp_((own_variance * (count / (count - 1).clamp(min=1))).detach(), share)
        cast(Tensor, norm.num_batches_tracked).add_(several)
    return ((values - mean) * ((variance + norm.eps).rsqrt() * norm.weight) + norm.bias).to(x.dtype)


def scatter_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, T, C) back into a batch (B, T, C) at the n places where rows (B,) is true, zeros elsewhere."""
    if len(values) == len(rows):
        return values
    return values.new_zeros(len(rows), *values.shape[1:]).index_copy(0, rows.nonzero()[:, 0], values)


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
        self.decoder = Decoder(n_layer, width, n_head, feedforward, dropout)
        self.regressor = nn.Linear(width, n_query)

    def forward(self, memory: Tensor, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """memory (B, T, H), clips (B, T) bool or None -> scores (B,), decoded queries (B, n_query, H)."""
        padding = None if clips is None else ~clips
        queries = self.decoder(self.placed(len(memory)), memory, padding)
        return self.vote(queries), queries

    def placed(self, rows: int) -> Tensor:
        """The prototypes with their position encoding, for a batch of so many rows: (B, n_query, H)."""
        prototypes = self.prototypes.expand(rows, -1, -1)
        n_query, width = self.prototypes.shape
        if self.position == "query":
            return prototypes + sinusoid(n_query, width, prototypes.device)
        return prototypes + sinusoid(rows, width, prototypes.device).unsqueeze(1)

    def vote(self, queries: Tensor) -> Tensor:
        """Decoded queries (B, n_query, H) -> scores (B,), in float32: bfloat16 tells some two hundred apart."""
        with torch.autocast(queries.device.type, enabled=False):
            weights = self.regressor(queries.float()).diagonal(dim1=-2, dim2=-1).sigmoid()  # (B, n_query)
            weights = weights / weights.sum(dim=1, keepdim=True)
            return weights @ torch.linspace(0, 1, weights.shape[1], device=weights.device)


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


class GradeTransformer(nn.Module):
    """GDLT behind its input projection: self-attention over clips, then grade prototypes. Xu et al. 2022, section 3.

    The defaults of the models that use it are those of GDLT's released code. Prototypes carry a position encoding here
    (see `GradeDecoder`) and there none: a constant that is added to what is learned anyway.
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
    ):
        super().__init__()
        if width % n_head:
            raise AqaError(f"grade decoder: hidden_dim {width} must be a multiple of n_head {n_head}")
        if n_query < 2 or n_encoder < 1 or n_decoder < 1:
            raise AqaError(
                f"grade decoder: n_query {n_query} must be 2 or more, n_encoder {n_encoder} and n_decoder {n_decoder} "
                "1 or more"
            )
        feedforward = feedforward or 3 * width
        self.encoder = Encoder(n_encoder, width, n_head, feedforward, dropout)
        self.grades = GradeDecoder(width, n_query, n_head, n_decoder, feedforward, dropout)
        xavier(self.encoder)
        xavier(self.grades.decoder)

    def forward(self, stream: Tensor, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """stream (B, T, H), clips (B, T) bool or None -> scores (B,), decoded queries (B, n_query, H)."""
        padding = None if clips is None else ~clips
        return self.grades(self.encoder(stream, padding), clips)


class EarlyFusion(AQAModel):
    """One GDLT for all streams: each is projected, and they are joined over channels, clip by clip.

    What a hidden stream is to the network is for a model to say: by `fill`, where something stands in for its features,
    or by `project`. With one modality this is GDLT as it was published.

    widths: modality -> channels D. feedforward_dim: 3 * hidden_dim where None. alpha, margin: weight and margin of the
    triplet loss that keeps decoded queries apart. mask_padding: padded clips stay out of statistics and attention.
    """

    #: Whether the network is told which streams are visible, by a channel of ones or zeros for each.
    tells_visible = False

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 1,
        n_encoder: Natural = 1,
        n_decoder: Natural = 2,
        n_query: int = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.3,
        alpha: float = 1.0,
        margin: float = 1.0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        self.alpha, self.margin, self.mask_padding = alpha, margin, mask_padding
        self.hidden_dim, streams = hidden_dim, len(widths)
        self.projections = nn.ModuleDict({m: projection(width, hidden_dim) for m, width in widths.items()})
        if streams > 1:
            self.join = nn.Linear(streams * hidden_dim + (streams if self.tells_visible else 0), hidden_dim)
        self.network = GradeTransformer(hidden_dim, n_head, n_encoder, n_decoder, n_query, feedforward_dim, dropout)

    def fill(self, features: Mapping[str, Tensor], visible: Tensor) -> dict[str, Tensor]:
        """Features (B, T, D) by modality, with something in the place of those that are hidden: here, zeros."""
        return fill_hidden(features, visible, dict.fromkeys(self.modalities, 0.0))

    def project(self, features: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Every stream in the shared space, (B, T, H) by modality."""
        filled = self.fill(features, visible)
        return {m: on_clips(self.projections[m], filled[m], clips) for m in self.modalities}

    def fuse(self, streams: Mapping[str, Tensor], visible: Tensor) -> Tensor:
        """Streams (B, T, H) as one, (B, T, H)."""
        parts = list(streams.values())
        if len(parts) == 1:
            return parts[0]
        if self.tells_visible:
            parts.append(visible.unsqueeze(1).expand(-1, parts[0].shape[1], -1).to(parts[0]))
        return self.join(torch.cat(parts, dim=-1))

    def grade(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Scores (B,) and decoded queries (B, n_query, H)."""
        clips = None
        if lengths is not None and self.mask_padding:
            steps = features[self.modalities[0]].shape[1]
            clips = real_clips({m: lengths[m] for m in self.modalities}, visible, steps)
        return self.network(self.fuse(self.project(features, visible, clips), visible), clips)

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.grade(features, visible, lengths)[0]

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """Mean squared error and the triplet loss of decoded queries. Xu et al. 2022, section 3.3."""
        score, queries = self.grade(features, visible, lengths)
        mse, triplet = F.mse_loss(score, target), hardest_triplet(queries, self.margin)
        return Loss(mse + self.alpha * triplet, {"mse": mse, "triplet": triplet})


def fill_hidden(
    features: Mapping[str, Tensor], visible: Tensor, values: Mapping[str, Tensor | float]
) -> dict[str, Tensor]:
    """Features (B, T, D) by modality, with its value (D,) in every clip of the rows where a modality is hidden.

    visible: (B, M), its columns in the order of `values`.
    """
    return {
        m: torch.where(seen.view(-1, 1, 1), features[m], value)
        for (m, value), seen in zip(values.items(), visible.T, strict=True)
    }
