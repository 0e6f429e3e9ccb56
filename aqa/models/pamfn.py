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

What else is not as in the published code, and why:

- the published second stage detaches the visual and flow branches but lets gradients change the audio one, and batch
  statistics all three; here all branches are frozen, statistics and dropout included;
- in evaluation PolicyNet takes its likeliest choice instead of drawing one: a score must not change from call to call;
- the mixed branch starts from a learned vector; the published one starts from zeros, which batch norm and ReLU keep so;
- an odd clip at the end is averaged alone instead of dropped, so that single clips can be scored, and padding is kept
  out of convolutions, pooling and statistics (`mask_padding`);
- one `n_head` and one `dropout` serve all places where the published settings have two and three.

`branch_epochs` is the length of the first stage (250 of 350 epochs in the published settings for Fis-V). At 0, the
default, both parts learn at once; no gradient passes from the mixed branch into the others in either case, so the
branches learn what they would alone. Scores are always the mixed branch's: they mean nothing before the second stage.

The text of the paper was read as far as its introduction; method and settings follow the published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aqa.layers.by_modality import ByModality
from aqa.layers.clips import every_clip, on_clips, scatter_rows
from aqa.layers.transformer import check_heads
from aqa.models import register
from aqa.models.base import AQAModel, Loss
from aqa.registry import Natural, Positive, Share

LEVELS = 3


class Convolution(nn.Module):
    """A convolution over neighbouring clips, batch norm and an activation: (B, T, C) -> (B, T, C'), padding stays 0."""

    def __init__(self, width: int, hidden_dim: int, activation: type[nn.Module], kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv1d(width, hidden_dim, kernel_size, padding=kernel_size // 2)
        self.rest = nn.Sequential(nn.BatchNorm1d(hidden_dim), activation())

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        return on_clips(self.rest, self.conv(stream.transpose(1, 2)).transpose(1, 2), clips)


class Pair(nn.Module):
    """Two convolutions."""

    def __init__(self, width: int, hidden_dim: int, activation: type[nn.Module]):
        super().__init__()
        self.first = Convolution(width, hidden_dim, activation)
        self.second = Convolution(hidden_dim, hidden_dim, activation)

    def forward(self, stream: Tensor, clips: Tensor) -> Tensor:
        return self.second(self.first(stream, clips), clips)


class Branch(nn.Module):
    """A modality-specific branch: a stream (n, T, D) -> its features at levels 0 to 3 and its own score (n,)."""

    def __init__(self, width: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.embedding = nn.Sequential(
            nn.Linear(width, 2 * hidden_dim),
            nn.BatchNorm1d(2 * hidden_dim),
            nn.ReLU(),
            nn.Linear(2 * hidden_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.levels = nn.ModuleList(Pair(hidden_dim, hidden_dim, nn.GELU) for _ in range(LEVELS))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_dim, 1), nn.Sigmoid())

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
        for i, weigh in enumerate(self.weigh.values()):
            real = clips & visible[:, i].unsqueeze(1)
            n_fusion = self.policy.out_features
            logits.append(
                on_clips(weigh, streams[:, :, i], real) if real.any() else streams.new_zeros(*real.shape, n_fusion)
            )
        hidden = (~visible).view(len(visible), 1, 1, -1)
        return torch.stack(logits, dim=-1).masked_fill(hidden, -torch.inf).softmax(dim=-1)

    def enabled(self, logits: Tensor, temperature: Tensor) -> Tensor:
        """PolicyNet's choice k from logits (B, T', K): FusionNets 1 to k are enabled, (B, T', K).

        Drawn in training (Gumbel-softmax), the likeliest in evaluation.
        """
        if self.training:
            logits = (logits - torch.empty_like(logits).exponential_().log()) / temperature
        chosen = logits.argmax(dim=-1, keepdim=True)
        policy = (torch.arange(logits.shape[-1], device=logits.device) <= chosen).to(logits)
        soft = logits.softmax(dim=-1)
        return policy + (soft - soft.detach())


class FusionBlock(nn.Module):
    """A level of the mixed branch: what it knows so far (B, T', H) -> that and what it learns here, (B, T', 3H)."""

    def __init__(self, modalities: tuple[str, ...], hidden_dim: int, n_head: int, n_fusion: int, dropout: float):
        super().__init__()
        self.specific_query = nn.Linear(hidden_dim, hidden_dim)
        self.specific = Selection(hidden_dim, n_head, dropout)
        self.fusion = AdaptiveFusion(modalities, hidden_dim, n_fusion)
        self.crossmodal_query = nn.Linear(2 * hidden_dim, hidden_dim)
        self.crossmodal = Selection(hidden_dim, n_head, dropout)

    def forward(
        self, state: Tensor, here: Tensor, above: Tensor, clips: Tensor, visible: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Fused]:
        """here (B, T, M, H), above (B, T', M, H): the branches' features at this level and the next; clips: of here."""
        whole = above.shape[1] == 1
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

    def __init__(self, modalities: tuple[str, ...], hidden_dim: int, n_head: int, n_fusion: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.start = nn.Parameter(0.02 * torch.randn(hidden_dim))
        self.log_temperature = nn.Parameter(torch.tensor(10.0).log())
        self.blocks = nn.ModuleList(
            FusionBlock(modalities, hidden_dim, n_head, n_fusion, dropout) for _ in range(LEVELS)
        )
        self.digest = nn.ModuleList(Pair(3 * hidden_dim, hidden_dim, nn.ReLU) for _ in range(LEVELS - 1))
        self.shortcut = nn.ModuleList(Convolution(3 * hidden_dim, hidden_dim, nn.ReLU, 1) for _ in range(LEVELS - 1))
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(3 * hidden_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, 1),
            nn.Sigmoid(),
        )

    def forward(self, streams: list[Tensor], clips: Tensor, visible: Tensor) -> tuple[Tensor, list[Fused]]:
        """streams: a level each, (B, T, M, H), zeros where not visible (B, M) -> scores (B,), fusions a level each."""
        streams = [self.dropout(stream) for stream in streams]
        state = self.start.expand(*streams[1].shape[:2], -1)
        found = []
        for level, block in enumerate(self.blocks):
            joined, fused = block(state, streams[level], streams[level + 1], clips, visible, self.log_temperature.exp())
            found.append(fused)
            if level < LEVELS - 1:
                clips = fused.clips
                joined, above = pool(joined, clips, whole=level == LEVELS - 2)
                state = self.digest[level](joined, above) + self.shortcut[level](joined, above)
        return on_clips(self.head, joined).flatten(), found


@register("pamfn", paper="PAMFN, arXiv 2402.09444", year=2024)
class PAMFN(AQAModel):
    """One branch per modality, and a mixed branch that fuses their features level by level under a learned policy.

    widths: modality -> channels D. n_fusion: FusionNets in each adaptive fusion module (K in the paper). branch_epochs:
    length of the first stage, in which the branches learn alone; 0 lets both parts learn at once.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        hidden_dim: Positive = 256,
        n_head: Positive = 2,
        n_fusion: Positive = 8,
        dropout: Share = 0.3,
        branch_epochs: Natural = 0,
        mask_padding: bool = True,
    ):
        super().__init__(widths)
        check_heads("model 'pamfn'", hidden_dim, n_head)
        self.branch_epochs, self.mask_padding = branch_epochs, mask_padding
        self.stage: Literal["both", "branches", "mixed"] = "both"
        self.branches = ByModality({m: Branch(width, hidden_dim, dropout) for m, width in widths.items()})
        self.mixed = MixedBranch(self.modalities, hidden_dim, n_head, n_fusion, dropout)

    def start_epoch(self, epoch: int) -> None:
        """The branches alone for `branch_epochs` epochs, then the mixed branch alone."""
        if self.branch_epochs:
            self.stage = "branches" if epoch <= self.branch_epochs else "mixed"
            self.train(self.training)

    def train(self, mode: bool = True) -> PAMFN:
        """As for any module, but that frozen branches stay in evaluation mode."""
        super().train(mode)
        if self.stage == "mixed":
            self.branches.eval()
        return self

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        clips = self.mask_of_clips(features, lengths, visible)
        streams, _ = self.branch_out(features, visible, clips)
        return self.mix(streams, clips, visible)[0]

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        clips = self.mask_of_clips(features, lengths, available)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.stage != "mixed"):
            streams, scores = self.branch_out(features, available, clips)
        mse = branch_mse = torch.zeros((), device=target.device)
        if self.stage != "mixed":  # a branch's loss is the mean over the videos that have its modality
            errors = (scores - target.unsqueeze(1)).square().masked_fill(~available, 0.0)
            branch_mse = (errors.sum(dim=0) / available.sum(dim=0).clamp(min=1)).sum()
        if self.stage != "branches":
            mse = F.mse_loss(self.mix(streams, clips, visible)[0], target)
        return Loss(mse + branch_mse, {"mse": mse, "branch_mse": branch_mse})

    def branch_out(self, features: Mapping[str, Tensor], seen: Tensor, clips: Tensor) -> tuple[list[Tensor], Tensor]:
        """The branches' features, (B, T, M, H) per level, and scores (B, M); zeros where a modality is not seen."""
        out = {}
        for i, m in enumerate(self.modalities):
            rows = seen[:, i]
            if rows.any():
                levels, own = self.branches[m](features[m][rows], clips[rows])
                out[m] = [scatter_rows(x, rows) for x in (*levels, own)]
        absent = [torch.zeros_like(x) for x in next(iter(out.values()))]
        *by_level, scores = zip(*(out.get(m, absent) for m in self.modalities), strict=True)
        return [torch.stack(level, dim=2) for level in by_level], torch.stack(scores, dim=1)

    def mix(self, streams: list[Tensor], clips: Tensor, visible: Tensor) -> tuple[Tensor, list[Fused]]:
        """The mixed branch on what is visible of the branches' features; no gradient goes back into them."""
        hidden = (~visible).view(len(visible), 1, -1, 1)
        return self.mixed([stream.detach().masked_fill(hidden, 0.0) for stream in streams], clips, visible)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Means over each level's clips: policy (B, 3, K), how often each FusionNet is enabled; modality_weights
        (B, 3, K, M), how each FusionNet weighs the modalities; branch_scores (B, M), NaN if hidden.
        """
        clips = self.mask_of_clips(features, lengths, visible)
        streams, scores = self.branch_out(features, visible, clips)
        policies, weights = [], []
        for fused in self.mix(streams, clips, visible)[1]:
            by_clip = fused.modality_weights.flatten(2)
            weights.append(pool(by_clip, clips, whole=True)[0].view(len(visible), -1, len(self.widths)))
            clips = fused.clips
            policies.append(pool(fused.policy, clips, whole=True)[0].squeeze(1))
        return {
            "policy": torch.stack(policies, dim=1),
            "modality_weights": torch.stack(weights, dim=1),
            "branch_scores": scores.masked_fill(~visible, torch.nan),
        }

    def mask_of_clips(
        self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor] | None, seen: Tensor
    ) -> Tensor:
        """`real_clips`, as a mask (B, T) where they are all, too."""
        clips = self.real_clips(features, lengths, seen)
        return every_clip(features[self.modalities[0]]) if clips is None else clips


def pool(stream: Tensor, clips: Tensor, whole: bool = False) -> tuple[Tensor, Tensor]:
    """Means over pairs of clips, or over the whole video: (B, T, C) -> (B, T', C), and which T' hold data.

    clips (B, T) bool: those that count. A clip whose partner does not count is kept as it is.
    """
    rows, steps, _ = stream.shape
    size = steps if whole else 2
    short = -steps % size
    kept = F.pad(stream.masked_fill(~clips.unsqueeze(-1), 0.0), (0, 0, 0, short)).unflatten(1, (-1, size))
    count = F.pad(clips, (0, short)).view(rows, -1, size).sum(dim=2)
    return kept.sum(dim=2) / count.clamp(min=1).unsqueeze(-1), count > 0
