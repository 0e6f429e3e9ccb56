"""DI-MML: Detached and Interactive Multimodal Learning.

Paper: https://arxiv.org/abs/2407.19514 (ACM MM 2024). Official code: https://github.com/fanyunfeng-bit/DI-MML.

Modalities that learn from one joint objective compete. Here each one's encoder learns from the objective of its own
head, and from a head that all share, which gives their features one space but passes no gradient between them. After a
warm-up the feature dimensions are ranked, in each modality, by how well they separate the classes. Those that are
effective in one modality and not in another are taught to the other by contrast, one way: the effective side is held
fixed. A last head sees the features joined, held fixed too. At inference the outputs of all heads, the modalities' own
and the joined one, are weighed sample by sample by how certain they are.

The joined head is one linear layer, learned in a stage of its own once the encoders are done, with dropout off in them.
`joined_epochs` is its length, below 1 a share of all epochs: 20 of 170, as published. Optimizer and learning rate begin
anew there. Until it has begun, scores come from the modalities' own heads. Dimensions are ranked once, after the
warm-up, in a pass over the training set in evaluation mode.

What regression from clip features with missing streams asks for:

- The classes are grades, quantile bins of the training targets (`n_grade`), where dimensions are ranked.
- A head's logits are a distribution over score levels linspace(0, 1, n_query), taught by the cross-entropy to the two
  levels around the target; the score is its mean. As published, certainty is the largest probability, here of a level,
  and weights are its softmax: as it lies in [0, 1], the weights of heads differ by a factor of e at most at temperature
  1. A score between two levels counts as less certain than one on a level, though neighbouring levels are not rivals as
  classes are; `certainty: spread` goes by the inverse standard deviation instead, to which weights are in proportion.
- An encoder is a small transformer over clips and the mean over time, in place of a ResNet. A layer norm ends it, for
  the contrast compares features by their inner product.
- With more than two modalities the contrast is summed over ordered pairs; a pair learns from the rows that have both.
- A modality's own objective counts every row in which it is available, since it needs no other; only the joined head,
  which has to live with missing streams, sees the visible ones alone, with zeros and a flag for the others.

`joined_epochs: 0` lets the joined head learn beside the encoders, from features through which it passes no gradient,
and `joined_layers: 2` makes it two layers: what this model did before, with `contrast_temperature` 1 and
`certainty: spread`. On the tiny synthetic data (docs/models.md) none of these makes a difference beyond that of seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, clip_mean, rows_of, scatter_rows, works_on_all
from aqa.layers.grade_decoder import grade_deviation, mean_grade, xavier
from aqa.layers.losses import mean_loss
from aqa.layers.transformer import Encoder, check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Example, Loss, RowScores
from aqa.registry import Natural, Positive, Several, Share
from aqa.system.host_masks import slices

#: Buffers in which runs of before counted during the warm-up.
GONE = ("below", "rows", "boundaries", "sums", "counts", "centroids", "known", "hit_sums", "hit_rows")


def level_weights(target: Tensor, n_query: int) -> Tensor:
    """Targets (B,) in [0, 1] as weights of the two levels around each, (B, n_query), whose mean is the target."""
    place = target.clamp(0, 1).unsqueeze(1) * (n_query - 1)
    return (1 - (place - torch.arange(n_query, device=target.device)).abs()).clamp(min=0)


def grades_of(target: Tensor, n_grade: int) -> Tensor:
    """The grade of each target (N,): quantile bins, equal targets in one."""
    share = torch.arange(1, n_grade, device=target.device) / n_grade
    boundaries = target.quantile(share.to(target.dtype), interpolation="higher")
    return (target.unsqueeze(1) >= boundaries).sum(dim=1)


def separability(feature: Tensor, grade: Tensor, n_grade: int) -> Tensor:
    """How often the nearest of the grades' centroids along a single dimension is the right one, (H,).

    feature (N, H), grade (N,). Grades without a row have no centroid.
    """
    member = F.one_hot(grade, n_grade).to(feature.dtype)  # (N, n_grade)
    rows = member.sum(dim=0)
    centroids = (member.T @ feature) / rows.clamp(min=1).unsqueeze(1)
    centroids = centroids.masked_fill(rows.unsqueeze(1) == 0, torch.inf)
    some = (rows.unsqueeze(1) - centroids for rows in feature.split(1024))  # not all at once: (N, n_grade, H) is large
    nearest = torch.cat([distance.abs().argmin(dim=1) for distance in some])  # (N, H)
    return (nearest == grade.unsqueeze(1)).to(feature.dtype).mean(dim=0)


def effective_dimensions(separable: Tensor) -> Tensor:
    """Which dimensions separate better than a modality's average: (..., H) -> (..., H) bool."""
    return separable > separable.mean(dim=-1, keepdim=True)


def one_way_contrast(
    taught: Tensor, teacher: Tensor, dimensions: Tensor, temperature: float, rows: Tensor | None = None
) -> Tensor:
    """Contrast of rows (n, H) both, along some dimensions (H,) bool, that moves the taught side only. A scalar.

    The DUC loss: each taught row is to be closer, by inner product, to the teacher's row of the same video than to
    those of other videos. rows: (B,) bool, where the n rows are from in a batch, all by default.
    """
    similarity = (taught * dimensions) @ (teacher.detach() * dimensions).T / temperature
    video = torch.arange(len(taught), device=taught.device)
    if rows is None or not works_on_all(rows):
        return F.cross_entropy(similarity, video)
    others = rows | (video == video.unsqueeze(1))  # itself too where it does not count: a softmax of nothing is NaN
    contrast = mean_loss(F.cross_entropy, similarity.masked_fill(~others, -torch.inf), video, rows)
    return torch.where(dimensions.any(), contrast, 0.0)


def certainty_weights(logits: Tensor, present: Tensor, temperature: float, certainty: str = "probability") -> Tensor:
    """How much each head counts in each row: logits (B, heads, n_query), present (B, heads) bool -> (B, heads).

    A softmax, over the heads that are present, of the largest probability, as published, or, for "spread", of the
    logarithm of the inverse spread of what a head says; at temperature 1 weights are then in proportion to that.
    """
    probability = logits.softmax(dim=-1)
    if certainty == "probability":
        certain = probability.amax(dim=-1)
    else:
        levels = torch.linspace(0, 1, logits.shape[-1], device=logits.device)
        mean = (probability * levels).sum(dim=-1, keepdim=True)
        certain = -0.5 * ((probability * (levels - mean).square()).sum(dim=-1) + 1e-6).log()
    return (certain / temperature).masked_fill(~present, -torch.inf).softmax(dim=1)


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
    n_grade: grades that dimensions are ranked by. warmup_epochs: before the contrast, 20 in the official code.
    joined_epochs: length of the last stage, in which the joined head learns alone; below 1 a share of all epochs, 0 for
    none. shared_weight, contrast_weight: the weights of the shared head's objective and of the contrast, 1 there.
    contrast_temperature: 10 or 50 there. certainty: what a head's weight goes by.
    """

    fixed_shapes = True
    takes_unaligned = True
    shares_patterns = True
    effective: Tensor
    joined_counts: Tensor

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
        warmup_epochs: Positive = 20,
        joined_epochs: Annotated[float, Field(ge=0)] = 20 / 170,
        joined_layers: Literal[1, 2] = 1,
        shared_weight: float = 1.0,
        contrast_weight: float = 1.0,
        contrast_temperature: Annotated[float, Field(gt=0)] = 10.0,
        certainty: Literal["probability", "spread"] = "probability",
        certainty_temperature: Annotated[float, Field(gt=0)] = 1.0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'dimml'", hidden_dim, n_head)
        self.warmup_epochs, self.joined_epochs = warmup_epochs, joined_epochs
        self.stage: Literal["warm-up", "contrast", "joined"] = "warm-up"
        self.joined_beside = True  # whether the joined head learns beside the encoders
        self.shared_weight, self.contrast_weight = shared_weight, contrast_weight
        self.contrast_temperature = contrast_temperature
        self.certainty, self.certainty_temperature = certainty, certainty_temperature
        self.mask_padding, self.n_query, self.n_grade = mask_padding, n_query, n_grade
        feedforward = feedforward_dim or 2 * hidden_dim

        self.encoders = ByModality(
            {m: ClipEncoder(width, hidden_dim, n_encoder, n_head, feedforward, dropout) for m, width in widths.items()}
        )
        self.own_heads = ByModality({m: nn.Linear(hidden_dim, n_query) for m in widths})
        self.shared_head = nn.Linear(hidden_dim, n_query)
        joined = len(widths) * (hidden_dim + 1)
        self.joined_head: nn.Module = nn.Linear(joined, n_query)
        if joined_layers == 2:
            hidden = nn.Linear(joined, hidden_dim)
            self.joined_head = nn.Sequential(hidden, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_dim, n_query))
        self.register_buffer("effective", torch.zeros(len(widths), hidden_dim, dtype=torch.bool))
        self.register_buffer("joined_counts", torch.ones((), dtype=torch.bool))  # whether the joined head has learned
        self.register_load_state_dict_pre_hook(_as_now)

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        before = {"contrast_temperature": 1.0, "certainty": "spread", "joined_epochs": 0.0, "joined_layers": 2}
        return {**before, **options}

    @property
    def joined_starts(self) -> int | None:
        """The first epoch of the joined head's own stage; None where it has none and learns beside the encoders."""
        length = self.stage_length(self.joined_epochs)
        return self.epochs - length + 1 if length else None

    def stage_starts(self) -> list[int]:
        return [] if self.joined_starts is None else [max(1, self.joined_starts)]

    def start_epoch(self, epoch: int) -> None:
        joined = self.joined_starts
        self.stage = "warm-up" if epoch <= self.warmup_epochs else "contrast"
        if joined is not None and epoch >= joined:
            self.stage = "joined"
        self.joined_beside = joined is None
        self.joined_counts.fill_(joined is None or epoch >= joined)

    def surveys(self, epoch: int) -> bool:
        """The dimensions are ranked before the first epoch after the warm-up, unless that is of the last stage."""
        return epoch == self.warmup_epochs + 1 and self.stage == "contrast"

    def survey(self, batches: Iterable[Example]) -> None:
        """Find the effective dimensions of each modality, from the training videos in which it is available."""
        seen, targets = [], []
        features: dict[str, list[Tensor]] = {m: [] for m in self.modalities}
        for batch in batches:
            for m, feature in self.extract(batch.features, batch.available, batch.lengths).items():
                features[m].append(feature)
            seen.append(batch.available)
            targets.append(batch.target)
        available, grade = torch.cat(seen), grades_of(torch.cat(targets), self.n_grade)
        for i, m in enumerate(self.modalities):
            rows = available[:, i]
            if rows.any():
                separable = separability(torch.cat(features[m])[rows], grade[rows], self.n_grade)
                self.effective[i] = effective_dimensions(separable)

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        return Encoded({m: (feature,) for m, feature in self.extract(features, seen, lengths).items()})

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The mean level of what all heads say, the modalities' own and the joined one, weighed by their certainty.

        certainty_weights (B, M + 1): how much each modality's head counts, and last the joined one.
        deviation (B,): of the distribution over score levels whose mean is the score.
        """
        logits, weights = self.weighed({m: feature for m, (feature,) in encoded.streams.items()}, visible)
        levels = (logits * weights.unsqueeze(-1)).sum(dim=1).softmax(dim=-1)  # (B, n_query)
        return RowScores(mean_grade(levels), {"certainty_weights": weights, "deviation": grade_deviation(levels)})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        levels = level_weights(target, self.n_query)
        zero = torch.zeros((), device=target.device)
        parts = {f"own_{m}": zero for m in self.modalities}
        if self.stage == "joined":
            joined = F.cross_entropy(self.join(self.frozen(features, visible, lengths), visible), levels)
            return Loss(joined, {**parts, "shared": zero, "joined": joined, "contrast": zero})
        encoded = self.extract(features, available, lengths)
        shared = joined = contrast = zero
        for i, m in enumerate(self.modalities):
            rows = available[:, i]
            if any_of(rows):
                feature, truth = rows_of(encoded[m], rows), rows_of(levels, rows)
                parts[f"own_{m}"] = mean_loss(F.cross_entropy, self.own_heads[m](feature), truth, rows)
                shared = shared + mean_loss(F.cross_entropy, self.shared_head(feature), truth, rows)
        if self.joined_beside:
            joined = F.cross_entropy(self.join(encoded, visible), levels)
        if self.stage == "contrast":
            contrast = self.contrast(encoded, available)
        total = sum(parts.values(), zero) + self.shared_weight * shared + joined + self.contrast_weight * contrast
        return Loss(total, {**parts, "shared": shared, "joined": joined, "contrast": contrast})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        unseen = [m for m, some in zip(self.modalities, available.any(dim=0), strict=True) if not some]
        return [part[m] for m in unseen for part in (self.encoders, self.own_heads)]

    @torch.no_grad()
    def frozen(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """What `extract` gives in evaluation mode, without gradients."""
        training = self.encoders.training
        self.encoders.eval()
        encoded = self.extract(features, seen, lengths)
        self.encoders.train(training)
        return encoded

    def extract(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """A feature (B, H) per modality; zeros where it is not seen."""
        encoded = {}
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            encoded[m] = self.shared_head.weight.new_zeros(seen.shape[0], self.shared_head.in_features)
            if any_of(rows):
                clips = attended_clips(self.real_clips_of(m, features, lengths), rows)
                encoded[m] = scatter_rows(self.encoders[m](rows_of(features[m], rows), clips), rows)
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
            if works_on_all(rows) or (rows.sum() > 1 and dimensions.any()):
                pair = rows_of(encoded[taught], rows), rows_of(encoded[teacher], rows)
                total = total + one_way_contrast(*pair, dimensions, self.contrast_temperature, rows)
        return total

    def weighed(self, encoded: Mapping[str, Tensor], visible: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, M + 1, n_query) of the modalities' heads and the joined one, and their weights (B, M + 1).

        encoded: a feature (B, H) per modality.
        """
        heads = [self.own_heads[m](encoded[m]) for m in self.modalities]
        logits = torch.stack([*heads, self.join(encoded, visible)], dim=1)
        present = torch.cat([visible, self.joined_counts.expand(visible.shape[0], 1)], dim=1)
        return logits, certainty_weights(logits, present, self.certainty_temperature, self.certainty)


def _as_now(model: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of runs from before the joined head had a stage of its own: it had always learned."""
    if prefix + "joined_counts" not in state:
        state[prefix + "joined_counts"] = torch.ones((), dtype=torch.bool)
    for name in GONE:
        state.pop(prefix + name, None)
