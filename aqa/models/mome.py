"""MoME, after the abstract of "Mixture-of-Modality-Experts with Holistic Token Learning".

Paper: https://arxiv.org/abs/2604.05947 (driver action recognition on Drive&Act, from RGB, infrared and depth video).

Each modality has a transformer expert of its own, which puts out a class token and spatio-temporal tokens. A gate sees
the experts' outputs, not their inputs, and weights their predictions for each sample. In holistic token learning
(HTL) both kinds of token teach: within an expert the class token and the spatio-temporal tokens guide each other
(self-guidance); between experts each kind guides its own kind (mutual guidance).

Changed, to regress scores from clip features with missing streams:

- A clip feature takes the place of the patches of a few frames, so that an expert's spatio-temporal tokens are its clip
  tokens; their mean over real clips is what a second head reads.
- A head gives a distribution over grades linspace(0, 1, n_query) in place of class probabilities, so that guidance
  stays a divergence; its mean is the score. Squared error of the score takes the place of cross-entropy.
- A hidden stream's expert is not run: it leaves the gate's softmax, the gate reads zeros in its place, and guidance is
  among visible experts only. With one visible expert there is no mutual guidance.

Written after the paper's abstract and summaries of it; its equations were not available. Chosen here:

- an expert's prediction is the mean of its two heads' distributions;
- the gate is one hidden layer over both tokens of all experts together, so that it can compare them;
- each head is trained on the target too (`expert_weight`), so that it has something to teach;
- a divergence is KL(teacher || student) with a fixed teacher (Zhang et al. 2018, Deep Mutual Learning, section 3), over
  both directions of a pair, and the mean over the pairs of a row;
- the weights of the terms.

For ablations, `use_gate=False` weighs visible experts alike, and weights of 0 leave out what they weigh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, clip_mean, rows_of, scatter_rows
from aqa.layers.grade_decoder import grade_deviation, sinusoid, xavier
from aqa.layers.transformer import Encoder, check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Positive, Several, Share
from aqa.system.host_masks import slices


class Outputs(NamedTuple):
    """What the experts put out, of their class token and of their clip tokens, in this order; zeros where hidden."""

    tokens: Tensor  # (B, M, 2, H), the clip tokens' mean
    log_grades: Tensor  # (B, M, 2, Q), logarithms of the distributions over grades


class Expert(nn.Module):
    """One modality's transformer, with a head for the class token and one for the mean of the clip tokens."""

    def __init__(
        self, width: int, hidden_dim: int, n_head: int, n_encoder: int, n_query: int, feedforward: int, dropout: float
    ):
        super().__init__()
        self.projection = nn.Linear(width, hidden_dim)
        self.class_token = nn.Parameter(0.02 * torch.randn(hidden_dim))
        self.encoder = Encoder(n_encoder, hidden_dim, n_head, feedforward, dropout, norm_first=True, activation=F.gelu)
        self.class_head = nn.Linear(hidden_dim, n_query)
        self.clip_head = nn.Linear(hidden_dim, n_query)
        xavier(self.encoder)

    def forward(self, stream: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
        """stream (n, T, D), clips (n, T) bool: which are real -> tokens (n, 2, H), log grades (n, 2, Q)."""
        rows, steps, _ = stream.shape
        real = clips.unsqueeze(-1)
        embedded = self.projection(stream.masked_fill(~real, 0.0))
        embedded = embedded + sinusoid(steps, embedded.shape[-1], stream.device)
        class_token = self.class_token.expand(rows, 1, -1)
        encoded = self.encoder(torch.cat([class_token, embedded], dim=1), F.pad(~clips, (1, 0), value=False))
        class_token = encoded[:, 0]
        pooled = clip_mean(encoded[:, 1:], clips)
        logits = torch.stack([self.class_head(class_token), self.clip_head(pooled)], dim=1)
        return torch.stack([class_token, pooled], dim=1), logits.log_softmax(dim=-1)


class OutputGate(nn.Module):
    """Weight the experts of a sample by their outputs."""

    def __init__(self, n_modality: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(2 * n_modality * hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, n_modality),
        )

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """tokens (B, M, 2, H), visible (B, M) bool -> weights (B, M): 0 where hidden, their sum 1."""
        seen = tokens.masked_fill(~visible[:, :, None, None], 0.0)
        return self.weigh(seen.flatten(1)).masked_fill(~visible, -torch.inf).softmax(dim=1)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of log distributions (..., Q), no gradient into the teacher: (...)."""
    return F.kl_div(student, teacher.detach(), reduction="none", log_target=True).sum(dim=-1)


def self_guidance(log_grades: Tensor, visible: Tensor) -> Tensor:
    """The class token and the clip tokens of an expert teach each other; the mean over visible experts, (B,).

    log_grades: (B, M, 2, Q), visible: (B, M) bool.
    """
    by_expert = divergence(log_grades.flip(2), log_grades).sum(dim=2)  # (B, M)
    return (by_expert * visible).sum(dim=1) / visible.sum(dim=1)


def mutual_guidance(log_grades: Tensor, visible: Tensor) -> Tensor:
    """Experts teach each other, token kind by token kind; the mean over ordered pairs of visible experts, (B,).

    log_grades: (B, M, 2, Q), visible: (B, M) bool. 0 where only one is visible.
    """
    student, teacher = torch.broadcast_tensors(log_grades.unsqueeze(2), log_grades.unsqueeze(1))
    by_pair = divergence(teacher, student).sum(dim=-1)  # (B, M, M)
    others = ~torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
    pairs = visible.unsqueeze(2) & visible.unsqueeze(1) & others
    return (by_pair * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


def side_by_side(encoded: Encoded) -> Outputs:
    """The outputs of all experts together, in the order of the modalities."""
    tokens, log_grades = zip(*encoded.streams.values(), strict=True)
    return Outputs(torch.stack(tokens, dim=1), torch.stack(log_grades, dim=1))


@register(
    "mome",
    paper="Mixture-of-Modality-Experts with Holistic Token Learning, arXiv 2604.05947",
    year=2026,
    after_abstract=True,
)
class MoME(AQAModel):
    """After the abstract of MoME: modality experts weighted by their outputs, whose tokens teach each other.

    widths: modality -> channels D. n_query: grades a distribution is over. feedforward_dim: 3 * hidden_dim where None.
    expert_weight, self_weight, mutual_weight: of each head's own error, of self-guidance and of mutual guidance.
    """

    fixed_shapes = True
    takes_unaligned = True
    shares_patterns = True
    grades: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 4,
        n_encoder: Positive = 2,
        n_query: Several = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.1,
        expert_weight: float = 0.2,
        self_weight: float = 0.05,
        mutual_weight: float = 0.05,
        mask_padding: bool = True,
        use_gate: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'mome'", hidden_dim, n_head)
        self.hidden_dim = hidden_dim
        self.expert_weight, self.self_weight, self.mutual_weight = expert_weight, self_weight, mutual_weight
        self.mask_padding, self.use_gate = mask_padding, use_gate
        feedforward = feedforward_dim or 3 * hidden_dim
        self.experts = ByModality(
            {m: Expert(d, hidden_dim, n_head, n_encoder, n_query, feedforward, dropout) for m, d in widths.items()}
        )
        if use_gate:
            self.gate = OutputGate(len(widths), hidden_dim, dropout)
        self.register_buffer("grades", torch.linspace(0, 1, n_query), persistent=False)

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Ask each modality's expert about the rows in which it is seen: its tokens and log grades, by modality."""
        streams = {}
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            if any_of(rows):
                clips = attended_clips(self.real_clips_of(m, features, lengths), rows)
                tokens, log_grades = self.experts[m](rows_of(features[m], rows), clips)
            else:
                tokens = self.grades.new_zeros(0, 2, self.hidden_dim)
                log_grades = self.grades.new_zeros(0, 2, len(self.grades))
            streams[m] = scatter_rows(tokens, rows), scatter_rows(log_grades, rows)
        return Encoded(streams)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The score that the experts' distributions over grades, weighted by the gate, have on average.

        gate_weights (B, M): how much each expert counts. expert_scores (B, M): what it says, NaN if hidden.
        deviation (B,): of the mixed distribution over grades whose mean is the score.
        """
        outputs = side_by_side(encoded)
        weights = self.weigh(outputs, visible)
        grades = self.mixed_grades(outputs, weights)
        said = outputs.log_grades.exp().mean(dim=2) @ self.grades
        diagnostics = {
            "gate_weights": weights,
            "expert_scores": said.masked_fill(~visible, torch.nan),
            "deviation": grade_deviation(grades),
        }
        return RowScores(grades @ self.grades, diagnostics)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        outputs = side_by_side(self.encode(features, visible, lengths))
        score = self.mixed_grades(outputs, self.weigh(outputs, visible)) @ self.grades
        error = (outputs.log_grades.exp() @ self.grades - target.view(-1, 1, 1)).square()  # (B, M, 2), of each head

        # A row's term counts the same whichever patterns the other rows have: a mean in each row, then over rows.
        mse = F.mse_loss(score, target)
        expert = ((error.mean(dim=2) * visible).sum(dim=1) / visible.sum(dim=1)).mean()
        own = self_guidance(outputs.log_grades, visible).mean()
        mutual = mutual_guidance(outputs.log_grades, visible).mean()
        total = 10 * (mse + self.expert_weight * expert) + self.self_weight * own + self.mutual_weight * mutual
        return Loss(total, {"mse": mse, "expert": expert, "self_guidance": own, "mutual_guidance": mutual})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        return [self.experts[m] for m, seen in zip(self.modalities, visible.any(dim=0), strict=True) if not seen]

    def weigh(self, outputs: Outputs, visible: Tensor) -> Tensor:
        """The experts' weights in each row, (B, M): 0 where hidden, their sum 1."""
        if not self.use_gate:
            return visible / visible.sum(dim=1, keepdim=True)
        return self.gate(outputs.tokens, visible)

    def mixed_grades(self, outputs: Outputs, weights: Tensor) -> Tensor:
        """The experts' distributions over grades as one, weighted by (B, M): (B, Q)."""
        predictions = outputs.log_grades.exp().mean(dim=2)  # (B, M, Q)
        return (weights.unsqueeze(-1) * predictions).sum(dim=1)
