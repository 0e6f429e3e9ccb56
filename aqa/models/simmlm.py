"""SimMLM: A Simple Framework for Multi-modal Learning with Missing Modality.

Paper: https://arxiv.org/abs/2507.19264 (ICCV 2025). Official code: https://github.com/LezJ/SimMLM.

One expert network per modality gives its own answer from its own stream. A gating network looks at all streams, absent
ones as zeros, and weighs the answers; absent modalities get a weight of exactly zero and the others share one (the
dynamic mixture of modality experts, DMoME). Training compares each sample with itself when it has fewer modalities: the
More vs. Fewer (MoFe) ranking loss is what the task loss with more exceeds the one with fewer by, and zero otherwise.

What was changed to regress scores from clip features:

- the experts are small transformers over clips, with the mean over clips read off as one number, instead of U-Nets or
  image and text backbones; what is mixed is that number before its sigmoid, as the paper mixes segmentation maps;
- the gating network sees each stream's mean over clips, through a linear layer of its own, instead of whole scans;
- the task loss is the squared error.

Two choices stay as published: the gradient of the ranking loss flows into both sides, and the task loss counts both
(half each). The two nested subsets are drawn as in the published code, from the streams that a video has: every pair of
nested subsets is as likely, but that pairs with the complete set are half as likely. What the training pattern hides
for an epoch thus has no say; what a `fixed` pattern hides is never seen. `pairs: visible` takes the subset that the
training pattern made visible for one of the two, and draws the other: a random subset of it, or a superset that takes
in available streams that were hidden, each size but its own as likely; the complete set is then the larger one half of
the time instead of a third, with `random_subset` on three streams. The experts' answers do not depend on who else is
there, so they are computed once for both sides; the published code draws a crop per side.

The paper trains the experts alone first ("independent learning"), then everything ("cooperative learning"), and finds
the first stage to help only a little: `expert_epochs` is its length, none by default.

The text of the paper was read as far as its introduction; method and settings follow the published code, in a public
fork of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, clip_mean, rows_of, scatter_rows
from aqa.layers.grade_decoder import sinusoid, xavier
from aqa.layers.losses import mean_where
from aqa.layers.transformer import Encoder, check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Natural, Positive, Share
from aqa.system.host_masks import slices


class Expert(nn.Module):
    """One modality's expert: its stream (n, T, D) -> its answer, a score before the sigmoid (n,)."""

    def __init__(self, width: int, hidden_dim: int, n_head: int, n_encoder: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.projection = nn.Linear(width, hidden_dim)
        self.encoder = Encoder(n_encoder, hidden_dim, n_head, feedforward_dim, dropout, norm=False, norm_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, 1)
        xavier(self.encoder)

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        """stream (n, T, D), clips (n, T) bool: not padding -> (n,)."""
        projected = self.projection(stream)
        projected = projected + sinusoid(projected.shape[1], projected.shape[2], stream.device)
        encoded = self.encoder(projected, ~clips)
        return self.head(self.dropout(clip_mean(encoded, clips))).squeeze(-1)


class Gate(nn.Module):
    """The gating network G: all streams' means, zeros for absent ones, -> a weight per modality.

    Its softmax runs over the visible modalities alone.
    """

    def __init__(self, widths: Mapping[str, int], hidden_dim: int):
        super().__init__()
        self.embeddings = ByModality({m: nn.Linear(width, hidden_dim) for m, width in widths.items()})
        self.weigh = nn.Sequential(
            nn.GELU(),
            nn.Linear(len(widths) * hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, len(widths)),
        )

    def forward(self, means: Mapping[str, Tensor], visible: Tensor) -> Tensor:
        """means: modality -> (B, D), numbers everywhere; visible (B, M) bool -> (B, M), each row summing to one."""
        embedded = torch.stack([self.embeddings[m](mean) for m, mean in means.items()], dim=1)  # (B, M, H)
        logits = self.weigh(embedded.masked_fill(~visible.unsqueeze(-1), 0.0).flatten(1))
        return shares(logits, visible)


def shares(logits: Tensor, visible: Tensor) -> Tensor:
    """The weights of the visible modalities, a softmax over them alone: logits (B, M), visible (B, M) -> (B, M)."""
    return logits.masked_fill(~visible, -torch.inf).softmax(dim=1)


@register("simmlm", paper="SimMLM, arXiv 2507.19264", year=2025)
class SimMLM(AQAModel):
    """A gated mixture of modality experts for which more modalities must not be worse than fewer.

    widths: modality -> channels D. feedforward_dim: 3 * hidden_dim where None. mofe_weight: weight of the ranking loss,
    0.1 in the published settings; from 0.5, getting worse with fewer modalities would lower the loss. expert_epochs:
    length of the first stage, in which the experts learn alone. pairs: whether both sets that are compared are drawn,
    or one is what the training pattern made visible.
    """

    fixed_shapes = True
    takes_unaligned = True  # no expert sees another's clips
    pair_weights: Tensor
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 2,
        n_encoder: Natural = 2,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.3,
        mofe_weight: Annotated[float, Field(ge=0, lt=0.5)] = 0.1,
        expert_epochs: Natural = 0,
        pairs: Literal["drawn", "visible"] = "drawn",
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'simmlm'", hidden_dim, n_head)
        self.mofe_weight, self.expert_epochs, self.mask_padding = mofe_weight, expert_epochs, mask_padding
        self.pairs, self.experts_alone = pairs, False
        feedforward_dim = feedforward_dim or 3 * hidden_dim
        self.experts = ByModality(
            {m: Expert(width, hidden_dim, n_head, n_encoder, feedforward_dim, dropout) for m, width in widths.items()}
        )
        self.gate = Gate(widths, hidden_dim)
        self.register_buffer("pair_weights", pair_weights(len(widths)), persistent=False)

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"pairs": "visible", **options}

    def start_epoch(self, epoch: int) -> None:
        """The first `expert_epochs` epochs are independent learning, the others cooperative."""
        self.experts_alone = epoch <= self.expert_epochs

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Each stream's answer (B,), and its mean over clips (B, D) for the gate."""
        clips = {m: self.real_clips_of(m, features, lengths) for m in self.modalities}
        answers, means = self.answers(features, seen, clips), self.means(features, seen, clips)
        return Encoded(
            {m: (answer, means[m]) for m, answer in zip(self.modalities, answers.unbind(dim=1), strict=True)}
        )

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The visible experts' answers, mixed by the gate before the sigmoid.

        gate_weights (B, M): how much each modality's answer counts. answers (B, M): what each expert alone says.
        """
        answers = torch.stack([answer for answer, _ in encoded.streams.values()], dim=1)
        weights = self.gate({m: mean for m, (_, mean) in encoded.streams.items()}, visible)
        alone = answers.sigmoid().masked_fill(~visible, torch.nan)
        return RowScores(mixture(answers, weights), {"gate_weights": weights, "answers": alone})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        if self.experts_alone:
            clips = {m: self.real_clips_of(m, features, lengths) for m in self.modalities}
            errors = (self.answers(features, available, clips).sigmoid() - target.unsqueeze(1)).square()
            mse = mean_where(errors, available)
            return Loss(mse, {"mse": mse, "mofe": torch.zeros_like(mse)})

        drawn = self.pairs == "drawn"
        more, fewer = drawn_pair(available, self.pair_weights) if drawn else nested_pair(visible, available)
        encoded = self.encode(features, more, lengths)  # of the answers that `fewer` hides, each has a weight of zero
        with_more, with_fewer = ((self.fuse(encoded, seen).score - target).square() for seen in (more, fewer))
        return paired_loss(with_more, with_fewer, self.mofe_weight)

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        return [self.experts[m] for m, some in zip(self.modalities, available.any(dim=0), strict=True) if not some]

    def answers(self, features: Mapping[str, Tensor], seen: Tensor, clips: Mapping[str, Tensor]) -> Tensor:
        """Each expert's answer, a score before the sigmoid, (B, M); zeros where its modality is not seen."""
        found = []
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            answer = features[m].new_zeros(rows.shape[0])
            if any_of(rows):
                real = attended_clips(clips[m], rows)
                stream = rows_of(features[m], rows).masked_fill(~real.unsqueeze(-1), 0.0)
                answer = scatter_rows(self.experts[m](stream, real), rows)
            found.append(answer)
        return torch.stack(found, dim=1)

    def means(self, features: Mapping[str, Tensor], seen: Tensor, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each stream's mean over its clips, modality -> (B, D); zeros where it is not seen."""
        return {m: clip_mean(features[m], clips[m] & seen[:, i].unsqueeze(1)) for i, m in enumerate(self.modalities)}


def mixture(answers: Tensor, weights: Tensor) -> Tensor:
    """The score (B,) that answers (B, M), mixed by weights (B, M) before the sigmoid, make."""
    return (weights * answers).sum(dim=1).sigmoid()


def paired_loss(with_more: Tensor, with_fewer: Tensor, mofe_weight: float) -> Loss:
    """The mean of all task losses, those with more modalities (B,) and with fewer (B,), and the MoFe ranking loss."""
    task, mofe = (with_more + with_fewer).mean() / 2, more_vs_fewer(with_more, with_fewer)
    return Loss(task + mofe_weight * mofe, {"mse": task, "mofe": mofe})


def more_vs_fewer(with_more: Tensor, with_fewer: Tensor) -> Tensor:
    """The MoFe ranking loss: by how much the task loss with more modalities (B,) exceeds the one with fewer (B,).

    Zero for rows that are already better with more. Returns the mean over rows.
    """
    return F.relu(with_more - with_fewer).mean()


def pair_weights(most: int) -> Tensor:
    """How often a pair of sizes s > t of n modalities is drawn by `drawn_pair`: weights [n, s, t], n up to `most`."""
    weights = torch.zeros(most + 1, most + 1, most + 1)
    for n in range(2, most + 1):
        for s in range(2, n + 1):
            for t in range(1, s):
                weights[n, s, t] = comb(n, s) * comb(s, t) * (1 if s == n else 2)
    weights[1, 1, 1] = 1
    return weights


def drawn_pair(available: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Two nested sets of each row's available modalities, the larger first, (B, M) bool both, drawn as published.

    The published code draws two sets until one is inside the other and the first is not the complete one. So of n
    modalities a pair of sizes s > t is drawn by how many such pairs there are, comb(n, s) comb(s, t), twice for s < n.
    A row with one available modality has nothing to be compared with: both sets are that one. weights: `pair_weights`.
    """
    most = available.shape[1]
    by_row = weights[available.sum(dim=1)].flatten(1)
    # One draw as `multinomial` does it, which looks at the weights first, so that a GPU would be waited for.
    sizes = (by_row / torch.empty_like(by_row).exponential_(1)).argmax(dim=1, keepdim=True)
    place = (torch.rand(available.shape, device=available.device) + (~available).long()).argsort(dim=1).argsort(dim=1)
    return place < sizes // (most + 1), place < sizes % (most + 1)


def nested_pair(visible: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    """Two nested sets of modalities per row, the larger first, (B, M) bool both; one of them is `visible`.

    The other is drawn: its size is any from 1 to the row's available modalities but visible's own, and its members are
    visible ones first. A row with one available modality has nothing to be compared with: both sets are that one.
    """
    seen, most = visible.sum(dim=1), available.sum(dim=1)
    draw = torch.rand(len(visible), device=visible.device)
    size = 1 + (draw * (most - 1)).floor().clamp(max=(most - 2).clamp(min=0)).long()
    size = torch.where(most > 1, size + (size >= seen), seen)
    # Places in a random order in which visible modalities stand before hidden ones, and those before absent ones.
    order = torch.rand(visible.shape, device=visible.device) + (~visible).long() + (~available).long()
    other = order.argsort(dim=1).argsort(dim=1) < size.unsqueeze(1)
    return visible | other, visible & other
