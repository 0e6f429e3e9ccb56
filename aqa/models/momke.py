"""MoMKE: Leveraging Knowledge of Modality Experts for Incomplete Multimodal Learning.

Paper: ACM Multimedia 2024 (Mixture of Modality Knowledge Experts). Official code: https://github.com/wxxv/MoMKE.

Two stages. In unimodal expert training each modality's expert, a stack of attention layers, learns to score from its
own modality alone. In experts mixing training every expert looks at every visible stream, and a soft router of that
stream weights their outputs: its own expert gives a unimodal representation, the others what the joint one needs.
The mixed streams are joined over channels, zeros where a stream is hidden, and scored together; the experts learn on.

Changed to score performances from clip features:

- the paper's sequence is a conversation with a label per utterance; here it is a video with one score, so
  representations are averaged over the clips before the last layer. Clips are otherwise treated as utterances were:
  attention without positions;
- regression as in the paper's sentiment data, by squared error, with a sigmoid that keeps scores in [0, 1];
- the second stage sees whatever pattern the run hides streams by; the published code trains one model per pattern. The
  first sees every stream that is available, hidden or not, as published;
- `stage_epochs` epochs belong to the first stage; below 1 it is a share of all epochs, one half as published (150 of
  300). A score is the joint one in both stages, as in the published code, so it says nothing before the second begins:
  have no less patience than that;
- with `unimodal_weight` the experts' own scores are still trained in the second stage; 0, as in the paper, by default.

In the paper the second stage starts from each expert's best epoch. In the published code these copies have no effect:
it starts from the last epoch, and so does this. Only summaries of the paper were available; layers follow the code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, attended_clips, clip_mean, rows_of, scatter_rows
from aqa.layers.losses import mean_loss
from aqa.layers.transformer import check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Natural, Positive, Share
from aqa.system.host_masks import slices


def mlp(width: int, feedforward_dim: int, out: int, dropout: float) -> nn.Sequential:
    """Two linear layers with GELU between them: (..., width) -> (..., out)."""
    return nn.Sequential(
        nn.Linear(width, feedforward_dim),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(feedforward_dim, out),
        nn.Dropout(dropout),
    )


class ExpertLayer(nn.Module):
    """Self-attention over clips and a residual MLP, without normalization: (n, T, H) -> (n, T, H)."""

    def __init__(self, hidden_dim: int, n_head: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.n_head = n_head
        self.query, self.key, self.value = (nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.mlp = mlp(hidden_dim, feedforward_dim, hidden_dim, dropout)

    def forward(self, stream: Tensor, clips: Tensor | None) -> Tensor:
        query, key, value = (
            layer(stream).unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (n, heads, T, H / heads)
            for layer in (self.query, self.key, self.value)
        )
        keys = None if clips is None else clips[:, None, None, :]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=keys).transpose(1, 2).flatten(2)
        return attended + self.mlp(attended)


class Expert(nn.Module):
    """One modality's expert: residual attention layers, (n, T, H) -> (n, T, H)."""

    def __init__(self, hidden_dim: int, n_head: int, n_layer: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(ExpertLayer(hidden_dim, n_head, feedforward_dim, dropout) for _ in range(n_layer))

    def forward(self, stream: Tensor, clips: Tensor | None) -> Tensor:
        for layer in self.layers:
            stream = stream + layer(stream, clips)
        return stream


class Mixed(NamedTuple):
    """What the experts make of the n rows that have a stream."""

    own: Tensor  # (n, T, H) what the stream's own expert says
    mixture: Tensor  # (n, T, H)
    weights: Tensor  # (n, T, M) of the router


@register("momke", paper="Xu et al., ACM MM 2024", year=2024)
class MoMKE(AQAModel):
    """Experts that first learn one modality each, then are mixed stream by stream by soft routers.

    widths: modality -> channels D. n_encoder: layers of an expert. feedforward_dim: hidden_dim where None.
    stage_epochs: epochs in which the experts learn alone; below 1 a share of all.
    """

    fixed_shapes = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 2,
        n_encoder: Natural = 4,
        feedforward_dim: Positive | None = None,
        dropout: Share = 0.5,
        stage_epochs: Annotated[float, Field(ge=0)] = 0.5,
        unimodal_weight: float = 0.0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'momke'", hidden_dim, n_head)
        self.stage_epochs, self.unimodal_weight, self.mask_padding = stage_epochs, unimodal_weight, mask_padding
        self.mixing = True
        feedforward_dim = feedforward_dim or hidden_dim
        joint = len(widths) * hidden_dim

        self.projections = ByModality(
            {m: nn.Sequential(nn.Linear(width, hidden_dim), nn.Dropout(dropout)) for m, width in widths.items()}
        )
        self.experts = ByModality({m: Expert(hidden_dim, n_head, n_encoder, feedforward_dim, dropout) for m in widths})
        self.own_scores = nn.Linear(hidden_dim, len(widths))  # row i scores what expert i says of its own stream
        self.routers = ByModality({m: mlp(hidden_dim, feedforward_dim, len(widths), dropout) for m in widths})
        self.joint = nn.Sequential(nn.Linear(joint, joint), nn.ReLU(), nn.Dropout(dropout))
        self.joint_score = nn.Linear(joint, 1)

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"stage_epochs": 10, **options}

    def start_epoch(self, epoch: int) -> None:
        self.mixing = epoch > self.stage_length(self.stage_epochs)

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """Each stream as the experts mixed have it (B, T, H), and its router's mean weights (B, M)."""
        clips = self.real_clips(features, lengths, seen)
        mixed = self.mix(features, seen, clips)
        streams = {}
        for m, mixture, rows in zip(self.modalities, self.mixtures(mixed, seen), slices(seen, 1), strict=True):
            weights = mixture.new_zeros(0, len(self.modalities))
            if m in mixed:
                weights = clip_mean(mixed[m].weights, self._of(clips, seen, m))
            streams[m] = mixture, scatter_rows(weights, rows)
        return Encoded(streams, clips)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The joint score of the mixed streams.

        router_weights (B, M, M): how much stream i takes from expert j, the mean over its clips; zeros if hidden.
        """
        mixtures, weights = zip(*encoded.streams.values(), strict=True)
        return RowScores(self.score_together(mixtures, encoded.clips), {"router_weights": torch.stack(weights, dim=1)})

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        if not self.mixing:
            clips = self.real_clips(features, lengths, available)
            unimodal = self.unimodal_error(self.listen(features, available, clips), target, available, clips)
            return Loss(unimodal, {"unimodal": unimodal})
        clips = self.real_clips(features, lengths, visible)
        mixed = self.mix(features, visible, clips)
        mse = F.mse_loss(self.score_together(self.mixtures(mixed, visible), clips), target)
        own = {m: said.own for m, said in mixed.items()}
        unimodal = self.unimodal_error(own, target, visible, clips)
        return Loss(mse + self.unimodal_weight * unimodal, {"mse": mse, "unimodal": unimodal})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        some = (visible if self.mixing else available).any(dim=0)
        unseen = [m for m, seen in zip(self.modalities, some, strict=True) if not seen]
        other = self.routers if self.mixing else self.experts
        return [part[m] for m in unseen for part in (self.projections, other)]

    def embed(self, features: Mapping[str, Tensor], seen: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Project each stream of the rows that have it, (n, T, H); streams that no row has are left out."""
        embedded = {}
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            if any_of(rows):
                stream = rows_of(features[m], rows)
                if clips is not None:
                    stream = stream.masked_fill(~attended_clips(clips, rows).unsqueeze(-1), 0.0)
                embedded[m] = self.projections[m](stream)
        return embedded

    def listen(self, features: Mapping[str, Tensor], seen: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """Each stream through its own expert alone, (n, T, H): unimodal expert training."""
        embedded = self.embed(features, seen, clips)
        return {m: self.experts[m](stream, self._of(clips, seen, m)) for m, stream in embedded.items()}

    def mix(self, features: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Mixed]:
        """Each visible stream through every expert, weighed by the stream's router clip by clip."""
        mixed = {}
        for m, stream in self.embed(features, visible, clips).items():
            real = self._of(clips, visible, m)
            said = torch.stack([expert(stream, real) for expert in self.experts.values()], dim=2)  # (n, T, M, H)
            weights = self.routers[m](stream).softmax(dim=-1)  # (n, T, M)
            own = said[:, :, self.modalities.index(m)]
            mixed[m] = Mixed(own, (said * weights.unsqueeze(-1)).sum(dim=2), weights)
        return mixed

    def unimodal_error(self, own: Mapping[str, Tensor], target: Tensor, seen: Tensor, clips: Tensor | None) -> Tensor:
        """Squared errors of the experts' own scores: means over rows that have the stream, summed over streams."""
        error = torch.zeros((), device=target.device)
        for m, said in own.items():
            i = self.modalities.index(m)
            scores = self.own_scores(clip_mean(said, self._of(clips, seen, m)))[:, i].sigmoid()
            error = error + mean_loss(F.mse_loss, scores, rows_of(target, seen[:, i]), seen[:, i])
        return error

    def mixtures(self, mixed: Mapping[str, Mixed], seen: Tensor) -> list[Tensor]:
        """The mixed streams, M of (B, T, H), zeros where not seen."""
        some = next(iter(mixed.values())).mixture
        nothing = some.new_zeros(seen.shape[0], *some.shape[1:])
        return [
            scatter_rows(mixed[m].mixture, rows) if m in mixed else nothing
            for m, rows in zip(self.modalities, slices(seen, 1), strict=True)
        ]

    def score_together(self, mixtures: Sequence[Tensor], clips: Tensor | None) -> Tensor:
        """The mixed streams to scores (B,): the mean over clips of what the last layer says of each."""
        return self.joint_score(clip_mean(self.together(mixtures), clips)).squeeze(-1).sigmoid()

    def together(self, mixtures: Sequence[Tensor]) -> Tensor:
        """The mixed streams, M of (B, T, H), side by side, as the last layer sees them, (B, T, M * H)."""
        joint = torch.cat(list(mixtures), dim=-1)
        return joint + self.joint(joint)

    def clip_weights(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        mixed = self.mix(features, visible, self.real_clips(features, lengths, visible))
        found = {}
        for m, said in mixed.items():
            rows = visible[:, self.modalities.index(m)]
            found[m] = scatter_rows(said.weights, rows).masked_fill(~rows.view(-1, 1, 1), torch.nan)
        return found

    def _of(self, clips: Tensor | None, seen: Tensor, m: str) -> Tensor | None:
        """The real clips of the rows that have modality m."""
        return None if clips is None else attended_clips(clips, slices(seen, 1)[self.modalities.index(m)])
