"""ActionMAE: Towards Good Practices for Missing Modality Robust Action Recognition.

Paper: https://arxiv.org/abs/2211.13916 (AAAI 2023). Official code: https://github.com/sangminwoo/ActionMAE.

Each stream becomes one token, the output of a class token before its clips. In training some tokens are dropped. An
encoder sees the tokens that are left and learned memory tokens; a decoder sees what it makes of them, with a mask token
in each empty place, and predicts what was dropped. Real tokens where there are any and predicted ones elsewhere are
fused: by the sum of one linear layer each, one layer on all of them joined, or a transformer. The dropped tokens teach
what should have been predicted (missing modality predictive coding).

Changed to score performances from clip features:

- a linear layer stands in for the convolutional backbone, whose features are given;
- the classifier becomes a distribution over grades linspace(0, 1, n_query), whose mean is the score; cross-entropy
  becomes 100 times the squared error, which scores that deviate by a tenth of their range bring to about 1, the size
  of the reconstruction term;
- which streams are dropped follows the run's pattern, row by row, not a number of tokens drawn for the whole batch;
- streams may lack more than what is dropped: they are predicted for the score, but are never a target;
- dropout stands in for the stochastic depth of the temporal encoders, and acts in the fusion as well;
- padded clips are not attended to.

In one place paper and published code differ, and the paper is followed: its fusion takes real tokens and predicted ones
(Figure 3). The code takes the decoder's output for real tokens too, and where nothing was dropped the encoder's, memory
tokens first; its evaluation puts tokens in the wrong places unless those kept are the first ones. On random weights the
decoder's output for all moves scores by up to 0.15 (`pytest tests/golden` prints it).

As in the code, no position encodings are added: the code computes them, and its blocks leave them out. Two dropped
streams are then predicted alike, and the order of clips says nothing; `position: sinusoid` adds them. The paper's text
on the reconstruction loss was not available: the code's is used, a squared error to the token normalized over its
channels (by the unbiased variance), whose gradient flows into the token as well. That rewards tokens that say little,
since these are predicted best; `stop_target=True` keeps gradients out of the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, rows_of, scatter_rows
from aqa.layers.grade_decoder import grade_deviation, mean_grade, sinusoid, xavier
from aqa.layers.transformer import Encoder, check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Natural, Positive, Several, Share
from aqa.system.host_masks import slices


def learned_tokens(count: int, hidden_dim: int) -> nn.Parameter:
    """Tokens (count, H) that belong to the model, drawn as masked autoencoders draw them."""
    return nn.Parameter(0.02 * torch.randn(count, hidden_dim))


def transformer(
    hidden_dim: int, n_head: int, n_layer: int, feedforward_dim: int, dropout: float, eps: float, norm: bool = True
) -> nn.Module:
    """Pre-norm self-attention blocks, with a LayerNorm at the end where `norm`: (B, S, H) -> (B, S, H)."""
    blocks = Encoder(n_layer, hidden_dim, n_head, feedforward_dim, dropout, norm, norm_first=True, activation=F.gelu)
    for module in blocks.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps
    xavier(blocks)
    return blocks


def placed(sequence: Tensor, position: str) -> Tensor:
    """A sequence (B, S, H) with a position encoding where there is one."""
    if position == "none":
        return sequence
    return sequence + sinusoid(sequence.shape[1], sequence.shape[2], sequence.device)


class TemporalEncoder(nn.Module):
    """One modality's clips to its token, which a class token gathers from them."""

    def __init__(self, width: int, hidden_dim: int, blocks: nn.Module, position: str):
        super().__init__()
        self.position = position
        self.projection = nn.Linear(width, hidden_dim)
        self.class_token = learned_tokens(1, hidden_dim)
        self.blocks = blocks

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        """stream (n, T, D), clips (n, T) bool: which are real -> (n, H)."""
        embedded = self.projection(stream.masked_fill(~clips.unsqueeze(-1), 0.0))
        embedded = placed(embedded, self.position)
        sequence = torch.cat([self.class_token.expand(stream.shape[0], -1, -1), embedded], dim=1)
        return self.blocks(sequence, F.pad(~clips, (1, 0), value=False))[:, 0]


@register("actionmae", paper="arXiv 2211.13916", year=2023)
class ActionMAE(AQAModel):
    """Tokens of hidden streams predicted from the visible ones and a memory, then fused with them.

    widths: modality -> channels D. n_temporal, n_encoder, n_decoder: blocks of the temporal encoders and of the
    autoencoder's two halves. n_memory: memory tokens. n_query: grades. feedforward_dim: 4 * hidden_dim where None.
    fusion: how tokens become grades; of the transformer n_fusion counts the blocks, and fusion_norm says whether a
    LayerNorm ends it. position: whether clips and tokens are numbered. norm_eps: of every LayerNorm. normalize_target:
    whether tokens are normalized before they are a target. stop_target: whether the reconstruction teaches the
    prediction alone, and not the token it is compared with.
    """

    fixed_shapes = True
    takes_unaligned = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 8,
        n_temporal: Natural = 2,
        n_encoder: Natural = 2,
        n_decoder: Natural = 2,
        n_fusion: Natural = 4,
        n_memory: Natural = 1,
        n_query: Several = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.1,
        fusion: Literal["sum", "concat", "transformer"] = "sum",
        fusion_norm: bool = False,
        position: Literal["none", "sinusoid"] = "none",
        norm_eps: Annotated[float, Field(gt=0)] = 1e-6,
        mse_weight: float = 100.0,
        reconstruction_weight: float = 1.0,
        normalize_target: bool = True,
        stop_target: bool = False,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'actionmae'", hidden_dim, n_head)
        self.mse_weight, self.reconstruction_weight = mse_weight, reconstruction_weight
        self.normalize_target, self.stop_target, self.mask_padding = normalize_target, stop_target, mask_padding
        self.fusion_of, self.position = fusion, position
        feedforward_dim = feedforward_dim or 4 * hidden_dim

        def blocks(n_layer: int, dropout: float = 0.0, norm: bool = True) -> nn.Module:
            return transformer(hidden_dim, n_head, n_layer, feedforward_dim, dropout, norm_eps, norm)

        def temporal(width: int) -> TemporalEncoder:
            return TemporalEncoder(width, hidden_dim, blocks(n_temporal, dropout), position)

        self.temporal = ByModality({m: temporal(width) for m, width in widths.items()})
        self.memory = learned_tokens(n_memory, hidden_dim)
        self.encoder = blocks(n_encoder)
        self.mask_token = learned_tokens(1, hidden_dim)
        self.decoder = blocks(n_decoder)
        self.prediction = nn.Linear(hidden_dim, hidden_dim)
        if fusion == "transformer":
            self.class_token = learned_tokens(1, hidden_dim)
            self.fusion = blocks(n_fusion, dropout, fusion_norm)
        self.grades: nn.Module
        if fusion == "sum":
            self.grades = ByModality({m: nn.Linear(hidden_dim, n_query) for m in widths})
        else:
            self.grades = nn.Linear(hidden_dim * (len(widths) if fusion == "concat" else 1), n_query)

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        before = {"fusion": "transformer", "fusion_norm": True, "position": "sinusoid", "norm_eps": 1e-5}
        return {**before, **options}

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        tokens = self.tokens(features, seen, lengths).unbind(dim=1)
        return Encoded({m: (token,) for m, token in zip(self.modalities, tokens, strict=True)})

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The mean grade of the visible streams' tokens with predicted ones in the place of the others.

        deviation (B,): of the distribution over grades whose mean is the score.
        """
        tokens = torch.stack([token for (token,) in encoded.streams.values()], dim=1)  # (B, M, H)
        completed = self.complete(tokens, self.predict(tokens, visible), visible)
        grades = self.logits(completed).softmax(dim=-1)
        return RowScores(mean_grade(grades), {"deviation": grade_deviation(grades)})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        tokens = self.tokens(features, available, lengths)
        predicted = self.predict(tokens, visible)
        mse = F.mse_loss(self.grade(self.complete(tokens, predicted, visible)), target)
        reconstruction = self.reconstruction(predicted, tokens, available & ~visible)
        total = self.mse_weight * mse + self.reconstruction_weight * reconstruction
        return Loss(total, {"mse": mse, "reconstruction": reconstruction})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        return [self.temporal[m] for m, some in zip(self.modalities, available.any(dim=0), strict=True) if not some]

    def tokens(self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None) -> Tensor:
        """Modality tokens (B, M, H); zeros where not seen (B, M)."""
        columns = []
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            if any_of(rows):
                clips = attended_clips(self.real_clips_of(m, features, lengths), rows)
                columns.append(scatter_rows(self.temporal[m](rows_of(features[m], rows), clips), rows))
            else:
                columns.append(features[m].new_zeros(len(rows), self.mask_token.shape[1]))
        return torch.stack(columns, dim=1)

    def predict(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Every stream's token (B, M, H) as memory and the visible ones have it. Paper: ActionMAE, Figure 3."""
        n_memory = len(self.memory)
        sequence = torch.cat([self.memory.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        encoded = self.encoder(placed(sequence, self.position), F.pad(~visible, (n_memory, 0), value=False))
        memory, encoded = encoded[:, :n_memory], encoded[:, n_memory:]
        filled = torch.where(visible.unsqueeze(-1), encoded, self.mask_token)
        decoded = self.decoder(placed(torch.cat([memory, filled], dim=1), self.position))
        return self.prediction(decoded[:, n_memory:])

    def complete(self, tokens: Tensor, predicted: Tensor, visible: Tensor) -> Tensor:
        """Real tokens where streams are visible, predicted ones elsewhere, (B, M, H)."""
        return torch.where(visible.unsqueeze(-1), tokens, predicted)

    def grade(self, tokens: Tensor) -> Tensor:
        """The fused tokens' mean grade, (B, M, H) -> (B,)."""
        return mean_grade(self.logits(tokens).softmax(dim=-1))

    def logits(self, tokens: Tensor) -> Tensor:
        """The fused tokens as a distribution over grades, before the softmax: (B, M, H) -> (B, n_query)."""
        if self.fusion_of == "concat":
            return self.grades(tokens.flatten(1))
        if self.fusion_of == "sum":
            heads = cast(ByModality, self.grades).values()
            return torch.stack([head(tokens[:, i]) for i, head in enumerate(heads)]).sum(dim=0)
        sequence = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), placed(tokens, self.position)], dim=1)
        return self.grades(self.fusion(sequence)[:, 0])

    def reconstruction(self, predicted: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared error of the predictions (B, M, H) of tokens that were hidden (B, M), a scalar."""
        truth = normalized(tokens) if self.normalize_target else tokens
        truth = truth.detach() if self.stop_target else truth
        error = (predicted - truth).square().mean(dim=-1)  # (B, M)
        return (error * hidden).sum() / hidden.sum().clamp(min=1)


def normalized(tokens: Tensor) -> Tensor:
    """Tokens (B, M, H) with mean 0 and deviation 1 over their channels, by the unbiased variance as published."""
    centred = tokens - tokens.mean(dim=-1, keepdim=True)
    return centred / (tokens.var(dim=-1, keepdim=True) + 1e-6).sqrt()
