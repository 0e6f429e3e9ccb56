"""DI-MML: Detached and Interactive Multimodal Learning.

Paper: https://arxiv.org/abs/2407.19514 (ACM MM 2024). Official code: https://github.com/fanyunfeng-bit/DI-MML.

Modalities that learn from one joint objective compete. Here each one's encoder learns from the objective of its own
head, and from a head that all share, which gives their features one space but passes no gradient between them. After a
warm-up the feature dimensions are ranked, in each modality, by how well they separate the classes. Those that are
effective in one modality and not in another are taught to the other by contrast, one way: the effective side is held
fixed. A last head sees the features joined, held fixed too. At inference the outputs of all heads, the modalities' own
and the joined one, are weighed sample by sample by how certain they are.

What regression from clip features with missing streams asks for:

- The classes are grades, quantile bins of the training targets (`n_grade`), where dimensions are ranked.
- A head's logits are a distribution over score levels linspace(0, 1, n_query), taught by the cross-entropy to the two
  levels around the target; the score is its mean. Certainty, there the largest class probability, is the inverse spread
  (standard deviation): neighbouring levels are not rivals, as classes are.
- An encoder is a small transformer over clips and the mean over time, in place of a ResNet. A layer norm ends it, for
  the contrast compares features by their inner product.
- With more than two modalities the contrast is summed over ordered pairs; a pair learns from the rows that have both.
- A modality's own objective counts every row in which it is available, since it needs no other; only the joined head,
  which has to live with missing streams, sees the visible ones alone, with zeros and a flag for the others.
- The official code trains the joined head once the encoders are done. Here it learns beside them, from features through
  which it passes no gradient, so that one run is enough.
- The official code ranks dimensions once, in an extra pass over the training set after the warm-up. Here the batches of
  the warm-up are counted as they pass: boundaries of the grades in one epoch, with these the centroids in the next,
  with these the hits in a third. Each is thus an epoch behind, and `warmup_epochs` is at least 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import clip_mean, scatter_rows
from aqa.layers.grade_decoder import xavier
from aqa.layers.transformer import Encoder, check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Loss
from aqa.registry import Natural, Positive, Several, Share

#: Steps of the cumulative histogram of targets from which quantiles are read.
EDGES = 1000


def level_weights(target: Tensor, n_query: int) -> Tensor:
    """Targets (B,) in [0, 1] as weights of the two levels around each, (B, n_query), whose mean is the target."""
    place = target.clamp(0, 1).unsqueeze(1) * (n_query - 1)
    return (1 - (place - torch.arange(n_query, device=target.device)).abs()).clamp(min=0)


def grades_of(target: Tensor, boundaries: Tensor) -> Tensor:
    """The grade of each target (B,): how many of the boundaries (n_grade - 1,) it has reached."""
    return (target.unsqueeze(1) >= boundaries).sum(dim=1)


def hits(feature: Tensor, grade: Tensor, centroids: Tensor, known: Tensor) -> Tensor:
    """In how many rows the nearest centroid along a single dimension is that of the right grade, (H,).

    feature (B, H), grade (B,), centroids (n_grade, H), known (n_grade,) bool: the grades that have a centroid.
    The mean over rows is a dimension's separability, as `get_indices` of the official code has it.
    """
    distance = (feature.unsqueeze(1) - centroids).abs()  # (B, n_grade, H)
    nearest = distance.masked_fill(~known.view(1, -1, 1), torch.inf).argmin(dim=1)
    return (nearest == grade.unsqueeze(1)).sum(dim=0).to(feature.dtype)


def effective_dimensions(separability: Tensor) -> Tensor:
    """Which dimensions separate better than a modality's average: (M, H) -> (M, H) bool."""
    return separability > separability.mean(dim=1, keepdim=True)


def one_way_contrast(taught: Tensor, teacher: Tensor, dimensions: Tensor, temperature: float) -> Tensor:
    """Contrast of rows (n, H) both, along some dimensions (H,) bool, that moves the taught side only. A scalar.

    The DUC loss: each taught row is to be closer, by inner product, to the teacher's row of the same video than to
    those of other videos.
    """
    similarity = (taught * dimensions) @ (teacher.detach() * dimensions).T / temperature
    return F.cross_entropy(similarity, torch.arange(len(taught), device=taught.device))


def certainty_weights(logits: Tensor, present: Tensor, temperature: float) -> Tensor:
    """How much each head counts in each row: logits (B, heads, n_query), present (B, heads) bool -> (B, heads).

    A softmax over the heads that are present of the logarithm of their certainty, the inverse spread of what they say;
    at temperature 1 weights are in proportion to the certainty.
    """
    levels = torch.linspace(0, 1, logits.shape[-1], device=logits.device)
    probability = logits.softmax(dim=-1)
    mean = (probability * levels).sum(dim=-1, keepdim=True)
    variance = (probability * (levels - mean).square()).sum(dim=-1)
    log_certainty = -0.5 * (variance + 1e-6).log()
    return (log_certainty / temperature).masked_fill(~present, -torch.inf).softmax(dim=1)


class ClipEncoder(nn.Module):
    """One modality's encoder: clips (n, T, D) -> a feature (n, H)."""

    def __init__(self, width: int, hidden_dim: int, n_encoder: int, n_head: int, feedforward: int, dropout: float):
        super().__init__()
        self.projection = nn.Linear(width, hidden_dim)
        self.encoder = Encoder(n_encoder, hidden_dim, n_head, feedforward, dropout, norm=False)
        self.norm = nn.LayerNorm(hidden_dim)
        xavier(self.encoder)

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        """clips (n, T) bool: those that hold data."""
        stream = stream.masked_fill(~clips.unsqueeze(-1), 0.0)
        encoded = self.encoder(self.projection(stream), ~clips)
        return self.norm(clip_mean(encoded, clips))


@register("dimml", paper="Detached and Interactive Multimodal Learning, arXiv 2407.19514", year=2024)
class DIMML(AQAModel):
    """Encoders trained apart, ineffective dimensions taught one way, heads weighed by their certainty.

    widths: modality -> channels D. feedforward_dim: 2 * hidden_dim where None. n_query: score levels of a head.
    n_grade: grades that dimensions are ranked by. warmup_epochs: 20 in the official code. shared_weight,
    contrast_weight: the weights of the shared head's objective and of the contrast, 1 there, as are both temperatures.
    """

    takes_unaligned = True
    below: Tensor
    rows: Tensor
    boundaries: Tensor
    sums: Tensor
    counts: Tensor
    centroids: Tensor
    known: Tensor
    hit_sums: Tensor
    hit_rows: Tensor
    effective: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 2,
        n_encoder: Natural = 1,
        n_query: Several = 11,
        n_grade: Several = 5,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.3,
        warmup_epochs: Annotated[int, Field(ge=3)] = 20,
        shared_weight: float = 1.0,
        contrast_weight: float = 1.0,
        contrast_temperature: Annotated[float, Field(gt=0)] = 1.0,
        certainty_temperature: Annotated[float, Field(gt=0)] = 1.0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'dimml'", hidden_dim, n_head)
        self.warmup_epochs, self.contrasting = warmup_epochs, False
        self.shared_weight, self.contrast_weight = shared_weight, contrast_weight
        self.contrast_temperature, self.certainty_temperature = contrast_temperature, certainty_temperature
        self.mask_padding, self.n_query, self.n_grade = mask_padding, n_query, n_grade
        feedforward = feedforward_dim or 2 * hidden_dim

        self.encoders = ByModality(
            {m: ClipEncoder(width, hidden_dim, n_encoder, n_head, feedforward, dropout) for m, width in widths.items()}
        )
        self.own_heads = ByModality({m: nn.Linear(hidden_dim, n_query) for m in widths})
        self.shared_head = nn.Linear(hidden_dim, n_query)
        self.joined_head = nn.Sequential(
            nn.Linear(len(widths) * (hidden_dim + 1), hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, n_query),
        )
        self._make_buffers(len(widths), hidden_dim)

    def _make_buffers(self, modalities: int, hidden_dim: int) -> None:
        """What the warm-up counts, and what the second stage needs to know of it."""
        by_grade = (modalities, self.n_grade)
        self.register_buffer("below", torch.zeros(EDGES))  # targets below each edge, this epoch
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("boundaries", torch.linspace(0, 1, self.n_grade + 1)[1:-1].clone())
        self.register_buffer("sums", torch.zeros(*by_grade, hidden_dim))  # of features by grade, this epoch
        self.register_buffer("counts", torch.zeros(by_grade))
        self.register_buffer("centroids", torch.zeros(*by_grade, hidden_dim))
        self.register_buffer("known", torch.zeros(by_grade, dtype=torch.bool))
        self.register_buffer("hit_sums", torch.zeros(modalities, hidden_dim))
        self.register_buffer("hit_rows", torch.zeros(modalities, 1))
        self.register_buffer("effective", torch.zeros(modalities, hidden_dim, dtype=torch.bool))

    def start_epoch(self, epoch: int) -> None:
        """Turn what the last epoch of the warm-up counted into what the next one, or the contrast, goes by."""
        self.contrasting = epoch > self.warmup_epochs
        if epoch > self.warmup_epochs + 1 or not self.rows:
            return
        self.effective.copy_(effective_dimensions(self.hit_sums / self.hit_rows.clamp(min=1)))
        self.known.copy_(self.counts > 0)
        self.centroids.copy_(self.sums / self.counts.clamp(min=1).unsqueeze(-1))
        share = torch.arange(1, self.n_grade, device=self.below.device) / self.n_grade
        first = (self.below.unsqueeze(0) < (share * self.rows).unsqueeze(1)).sum(dim=1)
        self.boundaries.copy_((first + 1) / EDGES)
        for counter in (self.below, self.rows, self.sums, self.counts, self.hit_sums, self.hit_rows):
            counter.zero_()

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        logits, weights = self._weighed(features, visible, lengths)
        probability = (logits * weights.unsqueeze(-1)).sum(dim=1).softmax(dim=-1)
        return probability @ torch.linspace(0, 1, self.n_query, device=visible.device)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """certainty_weights (B, M + 1): how much each modality's head counts, and last the joined one."""
        return {"certainty_weights": self._weighed(features, visible, lengths)[1]}

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        encoded = self.encode(features, available, lengths)
        levels = level_weights(target, self.n_query)
        zero = torch.zeros((), device=target.device)
        parts = {f"own_{m}": zero for m in self.modalities}
        shared = contrast = zero
        for i, m in enumerate(self.modalities):
            rows = available[:, i]
            if rows.any():
                feature = encoded[m][rows]
                parts[f"own_{m}"] = F.cross_entropy(self.own_heads[m](feature), levels[rows])
                shared = shared + F.cross_entropy(self.shared_head(feature), levels[rows])
        joined = F.cross_entropy(self.join(encoded, visible), levels)
        if self.contrasting:
            contrast = self.contrast(encoded, available)
        elif self.training:
            self._count(encoded, target, available)
        total = sum(parts.values(), zero) + self.shared_weight * shared + joined + self.contrast_weight * contrast
        return Loss(total, {**parts, "shared": shared, "joined": joined, "contrast": contrast})

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """A feature (B, H) per modality; zeros where it is not seen."""
        encoded = {}
        for i, m in enumerate(self.modalities):
            rows = seen[:, i]
            encoded[m] = self.shared_head.weight.new_zeros(len(seen), self.shared_head.in_features)
            if rows.any():
                clips = self.real_clips_of(m, features, lengths)
                encoded[m] = scatter_rows(self.encoders[m](features[m][rows], clips[rows]), rows)
        return encoded

    def join(self, encoded: Mapping[str, Tensor], visible: Tensor) -> Tensor:
        """Logits (B, n_query) from the visible features (B, H) per modality, which get no gradient."""
        kept = [encoded[m].detach() * visible[:, i : i + 1] for i, m in enumerate(self.modalities)]
        return self.joined_head(torch.cat([*kept, visible.to(kept[0].dtype)], dim=1))

    def contrast(self, encoded: Mapping[str, Tensor], available: Tensor) -> Tensor:
        """Each modality is taught the dimensions that are effective in another and not in itself (the DUC loss)."""
        total = torch.zeros((), device=available.device)
        for (i, taught), (j, teacher) in permutations(enumerate(self.modalities), 2):
            rows, dimensions = available[:, i] & available[:, j], self.effective[j] & ~self.effective[i]
            if rows.sum() > 1 and dimensions.any():
                total = total + one_way_contrast(
                    encoded[taught][rows], encoded[teacher][rows], dimensions, self.contrast_temperature
                )
        return total

    def _weighed(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, M + 1, n_query) of the modalities' heads and the joined one, and their weights (B, M + 1)."""
        encoded = self.encode(features, visible, lengths)
        heads = [self.own_heads[m](encoded[m]) for m in self.modalities]
        logits = torch.stack([*heads, self.join(encoded, visible)], dim=1)
        present = F.pad(visible, (0, 1), value=True)
        return logits, certainty_weights(logits, present, self.certainty_temperature)

    @torch.no_grad()
    def _count(self, encoded: Mapping[str, Tensor], target: Tensor, available: Tensor) -> None:
        """Count a batch of the warm-up: targets below each edge, features by grade, hits of the known centroids."""
        edges = torch.arange(1, EDGES + 1, device=target.device) / EDGES
        self.below += (target.unsqueeze(1) < edges).sum(dim=0)
        self.rows += len(target)
        grade = grades_of(target, self.boundaries)
        for i, m in enumerate(self.modalities):
            rows = available[:, i]
            feature, member = encoded[m][rows], F.one_hot(grade[rows], self.n_grade).to(encoded[m].dtype)
            self.sums[i] += member.T @ feature
            self.counts[i] += member.sum(dim=0)
            if self.known[i].any():
                self.hit_sums[i] += hits(feature, grade[rows], self.centroids[i], self.known[i])
                self.hit_rows[i] += len(feature)
