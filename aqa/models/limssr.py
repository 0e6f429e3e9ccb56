"""LIMSSR: LLM-Driven Sequence-to-Score Reasoning under Training-Time Incomplete Multimodal Observations.

Paper: arXiv 2605.00434, ICML 2026. Official code: https://github.com/XuHuangbiao/LIMSSR.

Nothing is reconstructed. A pretrained language model reads one sequence per video: a prompt that names the visible and
the missing streams; the clips of each visible stream, projected into the space of its embeddings; a token for each clip
that is missing; and fusion tokens, at whose places it is to sum the performance up. Adapters (LoRA) on its attention
learn, and so do the embeddings that are used; all else of it is frozen.

Two paths lead to a score. The main one weighs the states at the fusion tokens and refines their sum by what is visible
(a gate). The auxiliary one takes the mean state of each stream, lets the three attend to each other, and sums them with
weights that are smaller for missing streams, by a learned confidence. A learned number mixes the two scores. The loss
is the squared error, a triplet loss that keeps the fusion tokens apart, and the squared difference of the two scores.

`llm` is the folder of a causal language model as transformers saves it (published: Qwen2.5-0.5B), read from safetensors
without running code from it. **Its frozen weights are in no checkpoint**: a checkpoint holds what has learned, and a
fingerprint of the language model, its tokenizer's tokens and the prompt. The path is recorded with the run's options,
relative paths being relative to the working folder; the same model has to be there again, or a link to it.

Different from the published code:

- the visible streams may differ from video to video in a batch; there one set is drawn for a whole batch;
- the prompt has words of its own. `prompt` takes another, with {visible} and {missing} for the names of streams;
- only the embeddings that a prompt or a special token uses are kept and learned. The others, and the head, are
  parameters there, but no gradient reaches them;
- a score is clipped to [0, 1], which the published sum of the two may leave where its weight does;
- `mask_padding` leaves padded clips out of attention, positions, means and batch statistics. Off by default: the
  published code reads them as clips.

The published training draws a new set of visible streams for every batch, so that it sees every stream of every
training video in the end (`missing.train: random_subset`). Under `missing.train: {fixed: ...}` a stream that is missing
is never seen. The paper's text was available in summaries alone; layers, sizes and losses follow the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aqa.errors import AqaError
from aqa.layers.by_modality import ByModality
from aqa.layers.clips import clip_mean, on_clips
from aqa.layers.losses import hardest_triplet
from aqa.models import register
from aqa.models.base import AQAModel, Loss
from aqa.models.ensemble import VisibleSet, visible_sets
from aqa.models.language_model import LanguageModel, embeddings_of, read_pretrained
from aqa.registry import Positive, Share

PROMPT = (
    "A performance was recorded as {visible}; what is missing is {missing}. For each missing stream, put in its places "
    "what the recorded ones suggest it would have shown. Then sum up, at the last places, all that a judge would weigh "
    "when rating the performance: "
)
_MOST_STREAMS = 10  # each visible set has its prompt
CONFIDENCE, MAIN_SHARE = 0.6, 0.7  # what is learned starts from these


class Reading(NamedTuple):
    """What is made of n videos."""

    main: Tensor  # (n,) the score of each path
    auxiliary: Tensor
    fused: Tensor  # (n, K, H) states at the fusion tokens
    weights: Tensor  # (n, M) of the streams in the auxiliary path


class Special(NamedTuple):
    """Where the embeddings of the tokens are that no vocabulary has, by modality where there are as many."""

    start: list[int]
    end: list[int]
    missing: list[int]
    fusion: list[int]


def into_embeddings(width: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    """A stream's clips as embeddings of the language model: (n, D) -> (n, H)."""
    return nn.Sequential(
        nn.Linear(width, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
    )


def regressor(hidden_dim: int, dropout: float) -> nn.Sequential:
    """A score before its sigmoid: (n, H) -> (n, 1)."""
    half = hidden_dim // 2
    return nn.Sequential(
        nn.Linear(hidden_dim, half), nn.LayerNorm(half), nn.GELU(), nn.Dropout(dropout), nn.Linear(half, 1)
    )


class MainPath(nn.Module):
    """From the states at the fusion tokens to a score, refined by what is visible."""

    def __init__(self, hidden_dim: int, modalities: int, n_fusion: int, dropout: float):
        super().__init__()
        told = hidden_dim + modalities
        self.importance = nn.Parameter(torch.ones(n_fusion))
        self.norm = nn.LayerNorm(hidden_dim)
        self.refinement = nn.Sequential(
            nn.Linear(told, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, hidden_dim)
        )
        self.gate = nn.Linear(told, hidden_dim)
        self.regressor = regressor(hidden_dim, dropout)

    def forward(self, fused: Tensor, seen: Tensor) -> Tensor:
        """fused (n, K, H), seen (n, M) -> scores (n,)."""
        summed = self.norm((fused * self.importance.softmax(dim=0).unsqueeze(-1)).sum(dim=1))  # (n, H)
        told = torch.cat([summed, seen.to(summed.dtype)], dim=-1)  # (n, H + M)
        refined = summed + self.gate(told).sigmoid() * self.refinement(told)
        scores: Tensor = self.regressor(refined).squeeze(-1).sigmoid()
        return scores


class AuxiliaryPath(nn.Module):
    """From a mean state per stream to a score, in which missing streams count less."""

    def __init__(self, hidden_dim: int, modalities: list[str], n_head: int, dropout: float):
        super().__init__()
        self.norms = ByModality({m: nn.LayerNorm(hidden_dim) for m in modalities})
        self.attention = nn.MultiheadAttention(hidden_dim, n_head, dropout=dropout, batch_first=True)
        self.weigh = nn.Sequential(
            nn.Linear(len(modalities) * hidden_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, len(modalities))
        )
        self.confidence = nn.Parameter(torch.full((len(modalities),), CONFIDENCE))
        self.regressor = regressor(hidden_dim, dropout)

    def forward(self, streams: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """streams (n, M, H), seen (n, M) bool -> scores (n,), weights of the streams (n, M)."""
        normed = torch.stack([norm(x) for norm, x in zip(self.norms.values(), streams.unbind(1), strict=True)], dim=1)
        attended, _ = self.attention(normed, normed, normed, need_weights=False)  # (n, M, H)
        trust = torch.where(seen, 1.0, self.confidence.sigmoid())
        weights = self.weigh(normed.flatten(1)).softmax(dim=-1) * trust
        scores = self.regressor((attended * weights.unsqueeze(-1)).sum(dim=1)).squeeze(-1).sigmoid()
        return scores, weights


@register("limssr", paper="arXiv 2605.00434, ICML 2026", year=2026)
class LIMSSR(AQAModel):
    """A pretrained language model reads prompt, clips, tokens for missing clips, and sums them up (extra `llm`).

    widths: modality -> channels D. llm: the folder of a causal language model. n_fusion: fusion tokens. lora_targets:
    the layers of its attention that get adapters, by name. prompt: with {visible} and {missing} for names of streams.
    mse_weight, alpha, consistency_weight: of the squared error, the triplet loss and the difference of the two scores.
    """

    why_no_program = "reads each visible set that a batch shows by a prompt of its own, through a model of transformers"

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        llm: Annotated[str, Field(min_length=1)],
        n_fusion: Positive = 4,
        n_head: Positive = 4,
        lora_rank: Positive = 16,
        lora_alpha: Annotated[float, Field(gt=0)] = 32.0,
        lora_dropout: Share = 0.1,
        lora_targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "k_proj", "v_proj", "o_proj"),
        prompt: str = PROMPT,
        dropout: Share = 0.15,
        mse_weight: Annotated[float, Field(ge=0)] = 10.0,
        alpha: Annotated[float, Field(ge=0)] = 1.0,
        margin: float = 1.0,
        consistency_weight: Annotated[float, Field(ge=0)] = 1.0,
        mask_padding: bool = False,
    ):
        super().__init__(widths)
        if len(widths) > _MOST_STREAMS:
            raise AqaError(f"model 'limssr' takes at most {_MOST_STREAMS} modalities, not {len(widths)}")
        self.mse_weight, self.alpha, self.margin = mse_weight, alpha, margin
        self.consistency_weight, self.mask_padding = consistency_weight, mask_padding
        pretrained = read_pretrained(llm)
        hidden_dim = pretrained.table.shape[1]
        if hidden_dim % n_head:
            raise AqaError(f"model 'limssr': n_head {n_head} must divide the language model's width {hidden_dim}")

        prompts = {seen: self.tokens(pretrained.tokenizer, prompt, seen) for seen in visible_sets(len(widths))}
        special = special_tokens(len(widths), n_fusion, first=len(pretrained.tokenizer))
        self.language_model = LanguageModel(
            pretrained,
            rank=lora_rank,
            alpha=lora_alpha,
            dropout=lora_dropout,
            targets=lora_targets,
            identity=list(prompts.values()),
        )
        self.used = sorted({token for tokens in [*prompts.values(), *special] for token in tokens})
        self.embeddings = nn.Parameter(embeddings_of(pretrained.table, self.used))  # (tokens in use, H)
        place = {token: i for i, token in enumerate(self.used)}
        self.prompts = {seen: [place[token] for token in tokens] for seen, tokens in prompts.items()}
        self.special = Special(*([place[token] for token in tokens] for tokens in special))

        self.projections = ByModality({m: into_embeddings(width, hidden_dim, dropout) for m, width in widths.items()})
        self.main = MainPath(hidden_dim, len(widths), n_fusion, dropout)
        self.auxiliary = AuxiliaryPath(hidden_dim, list(widths), n_head, dropout)
        self.main_share = nn.Parameter(torch.tensor(MAIN_SHARE))

    def tokens(self, tokenizer: Callable[[str], Any], prompt: str, seen: VisibleSet) -> list[int]:
        """The tokens of the prompt for a visible set (M,), with those that the tokenizer begins or ends a text with."""
        parts = [[m for m, s in zip(self.modalities, seen, strict=True) if s == shown] for shown in (True, False)]
        visible, missing = (", ".join(names) or "none" for names in parts)
        return list(tokenizer(prompt.replace("{visible}", visible).replace("{missing}", missing))["input_ids"])

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.mixed(self.read(features, visible, lengths)).clamp(0.0, 1.0)

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        said = self.read(features, visible, lengths)
        mse = F.mse_loss(self.mixed(said), target)
        triplet = hardest_triplet(said.fused, self.margin)
        consistency = F.mse_loss(said.main, said.auxiliary)
        total = self.mse_weight * mse + self.alpha * triplet + self.consistency_weight * consistency
        return Loss(total, {"mse": mse, "triplet": triplet, "consistency": consistency})

    def mixed(self, said: Reading) -> Tensor:
        """The scores of both paths as one, (n,)."""
        return self.main_share * said.main + (1.0 - self.main_share) * said.auxiliary

    def read(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Reading:
        """What the language model makes of a batch: one pass for each visible set in it."""
        clips = self.real_clips(features, lengths, visible)  # (B, T) or None
        streams = self.embed(features, visible, clips)
        order, said = [], []
        for seen in visible.unique(dim=0):
            rows = (visible == seen).all(dim=1).nonzero()[:, 0]
            taken = {m: x[rows] for (m, x), s in zip(streams.items(), seen.tolist(), strict=True) if s}
            said.append(self.read_set(taken, tuple(seen.tolist()), None if clips is None else clips[rows]))
            order.append(rows)
        back = torch.cat(order).argsort()
        return Reading(*(torch.cat(parts)[back] for parts in zip(*said, strict=True)))

    def embed(self, features: Mapping[str, Tensor], visible: Tensor, clips: Tensor | None) -> dict[str, Tensor]:
        """The streams in the space of embeddings, (B, T, H) by modality; zeros where hidden."""
        embedded = {}
        for m, seen in zip(self.modalities, visible.T, strict=True):
            real = seen.unsqueeze(1).expand(-1, features[m].shape[1])  # (B, T)
            embedded[m] = on_clips(self.projections[m], features[m], real if clips is None else real & clips)
        return embedded

    def read_set(self, streams: Mapping[str, Tensor], seen: VisibleSet, clips: Tensor | None) -> Reading:
        """What is made of videos of one visible set. streams: those seen, (n, T, H). clips: (n, T) bool, or None."""
        some = next(iter(streams.values()))
        rows, length, _ = some.shape
        shown = [i for i, s in enumerate(seen) if s] + [i for i, s in enumerate(seen) if not s]
        parts = [self.looked_up(self.prompts[seen], rows)]
        begins: dict[int, int] = {}  # where a stream's clips are
        for i in shown:
            m = self.modalities[i]
            missing = [self.special.missing[i]] * length
            begins[i] = sum(part.shape[1] for part in parts) + 1
            parts += [
                self.looked_up(self.special.start[i : i + 1], rows),
                streams[m] if m in streams else self.looked_up(missing, rows),
                self.looked_up(self.special.end[i : i + 1], rows),
            ]
        parts.append(self.looked_up(self.special.fusion, rows))
        sequence = torch.cat(parts, dim=1)  # (n, S, H)
        states = self.language_model(sequence, places_read(sequence, clips, begins.values()))

        fused = states[:, -len(self.special.fusion) :].float()
        means = [clip_mean(states[:, begins[i] : begins[i] + length].float(), clips) for i in range(len(seen))]
        mask = torch.tensor([seen] * rows, device=states.device)
        with torch.autocast(states.device.type, enabled=False):  # bfloat16 tells some two hundred scores apart
            auxiliary, weights = self.auxiliary(torch.stack(means, dim=1), mask)
            return Reading(self.main(fused, mask), auxiliary, fused, weights)

    def looked_up(self, tokens: list[int], rows: int) -> Tensor:
        """The embeddings of tokens, the same in each of n rows: (n, tokens, H)."""
        places = torch.tensor(tokens, device=self.embeddings.device)
        return self.embeddings.index_select(0, places).expand(rows, -1, -1)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """stream_weights (B, M): what each stream's state weighs in the auxiliary path, missing ones too."""
        return {"stream_weights": self.read(features, visible, lengths).weights}


def special_tokens(modalities: int, n_fusion: int, first: int) -> Special:
    """Tokens after those of a tokenizer, numbered as published: start and end of each stream, missing ones, fusion."""
    ends = first + 2 * modalities
    fusion = ends + modalities
    return Special(
        start=list(range(first, ends, 2)),
        end=list(range(first + 1, ends, 2)),
        missing=list(range(ends, fusion)),
        fusion=list(range(fusion, fusion + n_fusion)),
    )


def places_read(sequence: Tensor, clips: Tensor | None, begins: Iterable[int]) -> Tensor | None:
    """Which places of sequences (n, S, H) are not padded clips (n, T), (n, S) bool; None for all."""
    if clips is None or bool(clips.all()):
        return None
    read = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
    for begin in begins:
        read[:, begin : begin + clips.shape[1]] = clips
    return read
