"""PAMFN: Multimodal Action Quality Assessment.

Paper: https://arxiv.org/abs/2402.09444 (Zeng and Zheng, IEEE TIP 2024). Official code:
https://github.com/qinghuannn/PAMFN.

One branch per modality scores the video from its own stream, in three levels of temporal convolutions at 1, 1/2 and 1/4
of the clips. A mixed-modality branch follows the levels: at each, a block takes the state so far and uses

- the modality-specific feature decoder, which attends from it to the branches' features one level up;
- the adaptive fusion module: K FusionNets each weigh the branches' features at this level in their own way, and a
  PolicyNet decides, clip by clip, how many of them are enabled (the k-th only with all before it; Gumbel-softmax,
  straight through);
- the cross-modal feature decoder, which attends to what the enabled FusionNets give.

The state and both results are joined for the next block, and the last block gives the score. Training has two stages:
the branches alone, each on its own stream, then the mixed branch on their frozen features.

What was changed for missing streams: a hidden stream leaves the mixed branch altogether. It is masked out of the
decoder's attention and of every FusionNet's weights, and PolicyNet sees zeros in its place. A branch learns from every
video that has its modality, visible or not, as branches are trained apart.

The defaults are the published settings for VST, AST and I3D features, which are those of Fis-V; K (`n_fusion`) is 10 on
RG. As published, an odd clip at the end is dropped where clips are pooled, the first block starts from zeros (which its
convolutions and norms turn into a learned constant), and in the second stage all branches are in training mode and the
audio branch learns on, reached by gradients that are stopped before the other two. `second_stage: frozen` keeps all
branches as they are, statistics and dropout included.

What else is not as in the published code, and why:

- in evaluation PolicyNet takes its likeliest choice instead of drawing one: a score must not change from call to call
  (on random weights this moves scores by up to 0.001; `pytest tests/golden` prints it);
- the only clip of a video is kept where clips are pooled, and padding is kept out of convolutions, pooling and
  statistics (`mask_padding`), so that videos of any length can be scored;
- there the second stage begins with each branch as it did best on the test split; here with the branches as they are;
- there the two stages have an optimizer each (SGD, then AdamW) and every branch is trained, and its gradient clipped,
  by itself; here one optimizer has both stages unless `train.stages` gives each its own, as the experiments in
  experiments/published do, and the branches are trained side by side. What this does to numbers was not measured;
- attention is plain; there logits are negative and the query of the cross-modal feature decoder too, which other signs
  of weights make up for.

`branch_epochs` is the length of the first stage, below 1 a share of all epochs: a third, as published for Fis-V (250
and 500 epochs). At 0 both parts learn at once; no gradient passes from the mixed branch into the others then, so that
the branches learn what they would alone. Scores are always the mixed branch's: they mean nothing before it learns.

Under several missing patterns the branches are run once and the mixed branch once for each: it weighs the visible
streams against each other before its convolutions, so that nothing after this is the same under two patterns.

The text of the paper was read as far as its introduction; method and settings follow the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.errors import AqaError
from aqa.layers.by_modality import ByModality
from aqa.layers.clips import any_of, counted_clips, every_clip, on_clips, rows_of, scatter_rows
from aqa.layers.convolutions import Convolution, Pair, pool, pooled_clips
from aqa.layers.transformer import check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Encoded, Loss, RowScores
from aqa.registry import Positive, Share
from aqa.system.host_masks import slices

LEVELS = 3
LEARNS_ON = "audio"  # the branch that the published second stage trains


class Dropouts(NamedTuple):
    """Rates of dropout by place."""

    embedding: float
    branch: float
    features: float
    attention: float
    head: float
    head_hidden: float


class Branch(nn.Module):
    """A modality-specific branch: a stream (n, T, D) -> its features at levels 0 to 3 and its own score (n,)."""

    def __init__(self, width: int, hidden_dim: int, embedding_dim: int, dropout: Dropouts):
        super().__init__()
        self.embedding = nn.Sequential(
            nn.Linear(width, embedding_dim),
            nn.BatchNorm1d(embedding_dim),
            nn.ReLU(),
            nn.Linear(embedding_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout.embedding),
        )
        self.levels = nn.ModuleList(Pair(hidden_dim, hidden_dim, nn.GELU) for _ in range(LEVELS))
        self.head = nn.Sequential(nn.Dropout(dropout.branch), nn.Linear(hidden_dim, 1), nn.Sigmoid())

    def forward(self, stream: Tensor, clips: Tensor) -> tuple[list[Tensor], Tensor]:
        stream = on_clips(self.embedding, stream, clips)
        features = [stream]
        for level, block in enumerate(self.levels, start=1):
            stream, clips = pool(stream + block(stream, clips), clips, whole=level == LEVELS)
            features.append(stream)
        return features, self.head(stream).flatten()


class Selection(nn.Module):
    """Attention from each clip's query to its N candidates, with a bias a candidate (-inf: not to be looked at)."""

    def __init__(self, hidden_dim: int, n_head: int, dropout: float):
        super().__init__()
        self.n_head = n_head
        self.query, self.key, self.value = (nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, candidates: Tensor, bias: Tensor) -> Tensor:
        """query (B, T, H), candidates (B, T, N, H), bias (B, T, N) -> (B, T, H)."""
        q, k, v = (
            project(x).unflatten(-1, (self.n_head, -1))
            for project, x in ((self.query, query), (self.key, candidates), (self.value, candidates))
        )
        match = torch.einsum("bthd,btnhd->btnh", q, k) / q.shape[-1] ** 0.5
        weights = self.dropout((match + bias.unsqueeze(-1)).softmax(dim=2))
        return torch.einsum("btnh,btnhd->bthd", weights, v).flatten(2)


class Fused(NamedTuple):
    """What the adaptive fusion module gives, and how it came to it."""

    candidates: Tensor  # (B, T', K, H), of each FusionNet
    clips: Tensor  # (B, T'), those that hold data
    policy: Tensor  # (B, T', K), 1 where a FusionNet is enabled, else 0; its gradient is that of PolicyNet's choice
    modality_weights: Tensor  # (B, T, K, M), of each FusionNet


class AdaptiveFusion(nn.Module):
    """The adaptive fusion module: K FusionNets, and a PolicyNet that says how many of them are enabled."""

    def __init__(self, modalities: tuple[str, ...], hidden_dim: int, n_fusion: int):
        super().__init__()
        self.weigh = ByModality(
            {
                m: nn.Sequential(
                    nn.Linear(hidden_dim, hidden_dim),
                    nn.BatchNorm1d(hidden_dim),
                    nn.ReLU(),
                    nn.Linear(hidden_dim, n_fusion),
                )
                for m in modalities
            }
        )
        self.refine = nn.ModuleList(Pair(hidden_dim, hidden_dim, nn.ReLU) for _ in range(n_fusion))
        self.policy = nn.Linear(len(modalities) * hidden_dim, n_fusion)

    def forward(self, streams: Tensor, clips: Tensor, visible: Tensor, temperature: Tensor, whole: bool) -> Fused:
        """streams (B, T, M, H), zeros where not visible (B, M) -> what comes of them, pooled to T' clips."""
        weights = self.modality_weights(streams, clips, visible)
        mixed = torch.einsum("btkm,btmh->kbth", weights, streams)
        refined = [pool(x + refine(x, clips), clips, whole)[0] for x, refine in zip(mixed, self.refine, strict=True)]
        logits, clips = pool(self.policy(streams.flatten(2)), clips, whole)
        return Fused(torch.stack(refined, dim=2), clips, self.enabled(logits, temperature), weights)

    def modality_weights(self, streams: Tensor, clips: Tensor, visible: Tensor) -> Tensor:
        """How each FusionNet weighs the visible modalities at each clip, (B, T, K, M)."""
        logits = []
        for i, (weigh, rows) in enumerate(zip(self.weigh.values(), slices(visible, 1), strict=True)):
            real = clips & rows.unsqueeze(1)
            n_fusion, some = self.policy.out_features, any_of(rows) and any_of(real)
            logits.append(on_clips(weigh, streams[:, :, i], real) if some else streams.new_zeros(*real.shape, n_fusion))
        hidden = (~visible).view(visible.shape[0], 1, 1, -1)
        return torch.stack(logits, dim=-1).masked_fill(hidden, -torch.inf).softmax(dim=-1)

    def enabled(self, logits: Tensor, temperature: Tensor) -> Tensor:
        """PolicyNet's choice k from logits (B, T', K): FusionNets 1 to k are enabled, (B, T', K).

        Drawn in training (Gumbel-softmax), the likeliest in evaluation.
        """
        logits = (logits + self.noise(logits)) / temperature
        chosen = logits.argmax(dim=-1, keepdim=True)
        policy = (torch.arange(logits.shape[-1], device=logits.device) <= chosen).to(logits)
        soft = logits.softmax(dim=-1)
        return policy + (soft - soft.detach())

    def noise(self, logits: Tensor) -> Tensor:
        """What makes the likeliest choice a drawn one: Gumbel noise in training, nothing in evaluation."""
        return -torch.empty_like(logits).exponential_().log() if self.training else torch.zeros_like(logits)


class FusionBlock(nn.Module):
    """A level of the mixed branch: what it knows so far (B, T', 3H) -> that and what it learns here, (B, T', 3H)."""

    def __init__(
        self, modalities: tuple[str, ...], hidden_dim: int, heads: tuple[int, int], n_fusion: int, drop: float
    ):
        super().__init__()
        self.digest = Pair(3 * hidden_dim, hidden_dim, nn.ReLU)
        self.shortcut = Convolution(3 * hidden_dim, hidden_dim, nn.ReLU, 1)
        self.specific_query = nn.Linear(hidden_dim, hidden_dim)
        self.specific = Selection(hidden_dim, heads[0], drop)
        self.fusion = AdaptiveFusion(modalities, hidden_dim, n_fusion)
        self.crossmodal_query = nn.Linear(2 * hidden_dim, hidden_dim)
        self.crossmodal = Selection(hidden_dim, heads[1], drop)

    def start(self, joined: Tensor, clips: Tensor) -> Tensor:
        """What the level starts from: what is known so far (B, T', 3H), clips (B, T') -> (B, T', H)."""
        return self.digest(joined, clips) + self.shortcut(joined, clips)

    def forward(
        self,
        state: Tensor,
        here: Tensor,
        above: Tensor,
        clips: Tensor,
        visible: Tensor,
        temperature: Tensor,
        whole: bool,
    ) -> tuple[Tensor, Fused]:
        """here (B, T, M, H), above (B, T', M, H): the branches' features at this level and the next; clips: of here."""
        hidden = (~visible).unsqueeze(1).expand(-1, above.shape[1], -1)
        bias = torch.zeros_like(hidden, dtype=above.dtype).masked_fill(hidden, -torch.inf)
        specific = self.specific(self.specific_query(state), above, bias)

        fused = self.fusion(here, clips, visible, temperature, whole)
        bias = (fused.policy - fused.policy.detach()).masked_fill(fused.policy == 0, -torch.inf)
        query = self.crossmodal_query(torch.cat([state, specific], dim=-1))
        crossmodal = self.crossmodal(query, fused.candidates, bias)
        return torch.cat([state, specific, crossmodal], dim=-1), fused


class MixedBranch(nn.Module):
    """The mixed-modality branch: the other branches' features at all levels -> the score."""

    def __init__(
        self,
        modalities: tuple[str, ...],
        hidden_dim: int,
        heads: tuple[int, int],
        n_fusion: int,
        head_reduction: int,
        dropout: Dropouts,
    ):
        super().__init__()
        self.dropout = nn.Dropout(dropout.features)
        self.temperature = nn.Parameter(torch.tensor(10.0))
        self.blocks = nn.ModuleList(
            FusionBlock(modalities, hidden_dim, heads, n_fusion, dropout.attention) for _ in range(LEVELS)
        )
        narrow = max(hidden_dim // head_reduction, 1)
        self.head = nn.Sequential(
            nn.Dropout(dropout.head),
            nn.Linear(3 * hidden_dim, narrow),
            nn.BatchNorm1d(narrow),
            nn.ReLU(),
            nn.Dropout(dropout.head_hidden),
            nn.Linear(narrow, 1),
            nn.Sigmoid(),
        )

    def forward(self, streams: list[Tensor], clips: Tensor, visible: Tensor) -> tuple[Tensor, list[Fused]]:
        """streams: a level each, (B, T, M, H), zeros where not visible (B, M) -> scores (B,), fusions a level each."""
        joined, found = self.levels(streams, clips, visible)
        return on_clips(self.head, joined[-1]).flatten(), [fused for _, fused in found]

    def levels(
        self, streams: list[Tensor], clips: Tensor, visible: Tensor
    ) -> tuple[list[Tensor], list[tuple[Tensor, Fused]]]:
        """What each level ends with (B, T', 3H), and its start (B, T', H) with what the fusion did."""
        streams = [self.dropout(stream) for stream in streams]
        known = streams[1].new_zeros(*streams[1].shape[:2], 3 * streams[1].shape[-1])
        joined, found = [], []
        for level, each in enumerate(self.blocks):
            block, whole = cast(FusionBlock, each), level == LEVELS - 1
            above = pooled_clips(clips, whole)
            state = block.start(known, above)
            after, fused = block(state, streams[level], streams[level + 1], clips, visible, self.temperature, whole)
            joined.append(after)
            found.append((state, fused))
            clips = above
            if level < LEVELS - 1:
                known, _ = pool(after, clips, whole=level == LEVELS - 2)
        return joined, found


@register("pamfn", paper="PAMFN, arXiv 2402.09444", year=2024)
class PAMFN(AQAModel):
    """One branch per modality, and a mixed branch that fuses their features level by level under a learned policy.

    widths: modality -> channels D. embedding_dim: of a branch's first layer. specific_heads, cross_heads: of the two
    decoders. n_fusion: FusionNets in each adaptive fusion module (K in the paper). head_reduction: by how much the last
    hidden layer is narrower than hidden_dim. Dropout: of a branch's embedding, before its score, of the branches'
    features, of attention, before and inside the head; `dropout` is one rate for all six. head_learning_rate: factor on
    the learning rate of the head. branch_epochs: length of the first stage, in which the branches learn alone, below 1
    a share of all epochs; 0 lets both parts learn at once. second_stage: what the branches do in it.
    """

    fixed_shapes = True
    shares_patterns = True

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        embedding_dim: Positive = 512,
        specific_heads: Positive = 1,
        cross_heads: Positive = 1,
        n_fusion: Positive = 6,
        head_reduction: Positive = 2,
        dropout: Share | None = None,
        embedding_dropout: Share = 0.3,
        branch_dropout: Share = 0.5,
        feature_dropout: Share = 0.5,
        attention_dropout: Share = 0.1,
        head_dropout: Share = 0.0,
        head_hidden_dropout: Share = 0.5,
        head_learning_rate: Annotated[float, Field(gt=0)] = 0.1,
        branch_epochs: Annotated[float, Field(ge=0)] = 1 / 3,
        second_stage: Literal["published", "frozen"] = "published",
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        heads = (specific_heads, cross_heads)
        for count in heads:
            check_heads("model 'pamfn'", hidden_dim, count)
        self.head_learning_rate, self.second_stage = head_learning_rate, second_stage
        self.branch_epochs, self.mask_padding = branch_epochs, mask_padding
        self.stage: Literal["both", "branches", "mixed"] = "both"
        rates = (
            embedding_dropout,
            branch_dropout,
            feature_dropout,
            attention_dropout,
            head_dropout,
            head_hidden_dropout,
        )
        places = Dropouts(*(rates if dropout is None else [dropout] * len(rates)))
        self.branches = ByModality({m: Branch(width, hidden_dim, embedding_dim, places) for m, width in widths.items()})
        self.mixed = MixedBranch(self.modalities, hidden_dim, heads, n_fusion, head_reduction, places)

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        if "embedding_dim" not in options:
            raise AqaError("model 'pamfn' is another network since this run was made; train it again")
        return dict(options)

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        return {"mixed.head": self.head_learning_rate}

    def start_epoch(self, epoch: int) -> None:
        """The branches alone in the first stage, then the mixed branch."""
        if first := self.stage_length(self.branch_epochs):
            self.stage = "branches" if epoch <= first else "mixed"
            self.train(self.training)

    def train(self, mode: bool = True) -> PAMFN:
        """As for any module, but that frozen branches stay in evaluation mode."""
        super().train(mode)
        if self.stage == "mixed" and self.second_stage == "frozen":
            self.branches.eval()
        return self

    def learns(self, modality: str) -> bool:
        """Whether a branch learns in this stage."""
        return self.stage != "mixed" or (self.second_stage == "published" and modality == LEARNS_ON)

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """What each branch gives: its features, (B, T, H) per level, and its score (B,)."""
        clips = self.mask_of_clips(features, lengths, seen)
        levels, scores = self.branch_out(features, seen, clips)
        by_modality = zip(*(level.unbind(dim=2) for level in levels), scores.unbind(dim=1), strict=True)
        return Encoded(dict(zip(self.modalities, by_modality, strict=True)), clips)

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The score of the mixed branch on the branches' features.

        Means over each level's clips: policy (B, 3, K), how often each FusionNet is enabled; modality_weights
        (B, 3, K, M), how each FusionNet weighs the modalities; branch_scores (B, M), NaN if hidden.
        """
        *by_level, own = zip(*encoded.streams.values(), strict=True)
        clips = cast(Tensor, encoded.clips)
        score, found = self.mixed([torch.stack(level, dim=2) for level in by_level], clips, visible)
        policies, weights = [], []
        for fused in found:
            by_clip = fused.modality_weights.flatten(2)
            weights.append(pool(by_clip, clips, whole=True)[0].squeeze(1).unflatten(1, (-1, len(self.widths))))
            clips = fused.clips
            policies.append(pool(fused.policy, clips, whole=True)[0].squeeze(1))
        diagnostics = {
            "policy": torch.stack(policies, dim=1),
            "modality_weights": torch.stack(weights, dim=1),
            "branch_scores": torch.stack(own, dim=1).masked_fill(~visible, torch.nan),
        }
        return RowScores(score, diagnostics)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        seen = visible if self.stage == "mixed" else available
        clips = self.mask_of_clips(features, lengths, seen)
        streams, scores = self.branch_out(features, seen, clips)
        mse = branch_mse = torch.zeros((), device=target.device)
        if self.stage != "mixed":  # a branch's loss is the mean over the videos that have its modality
            errors = (scores - target.unsqueeze(1)).square().masked_fill(~available, 0.0)
            branch_mse = (errors.sum(dim=0) / available.sum(dim=0).clamp(min=1)).sum()
        if self.stage != "branches":
            mse = F.mse_loss(self.mixed(self.shown(streams, visible), clips, visible)[0], target)
        return Loss(mse + branch_mse, {"mse": mse, "branch_mse": branch_mse})

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        seen = (visible if self.stage == "mixed" else available).any(dim=0)
        idle = [self.branches[m] for m, some in zip(self.modalities, seen, strict=True) if not some]
        for block in self.mixed.blocks:
            weigh = cast(FusionBlock, block).fusion.weigh
            idle += [weigh[m] for m, some in zip(self.modalities, visible.any(dim=0), strict=True) if not some]
        return idle

    def branch_out(self, features: Mapping[str, Tensor], seen: Tensor, clips: Tensor) -> tuple[list[Tensor], Tensor]:
        """The branches' features, (B, T, M, H) per level, and scores (B, M); zeros where a modality is not seen."""
        out = {}
        for m, rows in zip(self.modalities, slices(seen, 1), strict=True):
            if any_of(rows):
                with torch.set_grad_enabled(torch.is_grad_enabled() and self.learns(m)):
                    levels, own = self.branches[m](rows_of(features[m], rows), counted_clips(clips, rows))
                out[m] = [scatter_rows(x, rows) for x in (*levels, own)]
        absent = [torch.zeros_like(x) for x in next(iter(out.values()))]
        *by_level, scores = zip(*(out.get(m, absent) for m in self.modalities), strict=True)
        return [torch.stack(level, dim=2) for level in by_level], torch.stack(scores, dim=1)

    def shown(self, streams: list[Tensor], visible: Tensor) -> list[Tensor]:
        """The branches' features, zeros where hidden; without gradients where both parts learn at once."""
        hidden = (~visible).view(visible.shape[0], 1, -1, 1)
        taken = streams if self.stage == "mixed" else [stream.detach() for stream in streams]
        return [stream.masked_fill(hidden, 0.0) for stream in taken]

    def mask_of_clips(
        self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor] | None, seen: Tensor
    ) -> Tensor:
        """`real_clips`, as a mask (B, T) where they are all, too."""
        clips = self.real_clips(features, lengths, seen)
        return every_clip(features[self.modalities[0]]) if clips is None else clips
