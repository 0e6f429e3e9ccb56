"""What every model promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aqa.layers.clips import before_padding, every_clip, real_clips
from aqa.system.host_masks import asked, likewise, row_numbers, selected, slices, told


class Loss(NamedTuple):
    """A training loss: the total to minimize and its named parts, unweighted, all scalars."""

    total: Tensor
    parts: dict[str, Tensor]


class RowScores(NamedTuple):
    """Scores (B,) of a batch in [0, 1], and what `AQAModel.diagnostics` gives: named (B, ...) tensors."""

    score: Tensor
    diagnostics: dict[str, Tensor]


class Encoded(NamedTuple):
    """What a model makes of each stream by itself, which is the same whatever else is visible.

    streams: modality -> tensors (B, ...), whichever the model needs; zeros in rows where the stream is not seen.
    clips: (B, T) bool, which clips of aligned streams are real; None where all are, or each stream has its own.
    """

    streams: Mapping[str, tuple[Tensor, ...]]
    clips: Tensor | None = None

    def shown(self, visible: Tensor) -> Encoded:
        """What it would be had less been seen: the rows of which visible (B, M) leaves something, zeros where hidden.

        Nothing hidden is left in it, so that `AQAModel.fuse` cannot look at it. What is visible is not copied.
        """
        rows = showing(visible)
        streams = {
            m: tuple(_zeros_where_hidden(selected(x, rows), seen) for x in parts)
            for (m, parts), seen in zip(self.streams.items(), slices(selected(visible, rows), 1), strict=True)
        }
        return Encoded(streams, None if self.clips is None else selected(self.clips, rows))


class PatternScores(NamedTuple):
    """Scores (P, B) of a batch under P patterns, NaN if a pattern leaves a row with nothing visible.

    diagnostics: for each pattern, named (n, ...) tensors of the n rows that it scores; empty if it scores none, or
    where they were not asked for.
    """

    score: Tensor
    diagnostics: list[dict[str, Tensor]]


class Example(NamedTuple):
    """A batch with its targets (B,) in [0, 1], as `AQAModel.loss` takes them.

    others: further labels of the videos (B, K) in [0, 1], NaN where there is none, for models that learn from them.
    """

    features: Mapping[str, Tensor]
    target: Tensor
    visible: Tensor
    available: Tensor
    lengths: Mapping[str, Tensor] | None
    others: Tensor | None = None


class LeftOut(NamedTuple):
    """Scores of n training videos, each by what the others teach, in [0, 1]: (n,) as are the labels.

    deviation: (n,), the model's own standard deviation of each, or None.
    """

    score: Tensor
    target: Tensor
    deviation: Tensor | None = None


class AQAModel(nn.Module):
    """A model that scores performances from whichever modalities are visible.

    widths: modality -> channels D; its order is the order of the columns of `visible`.

    In evaluation mode a score depends on nothing but the row's own visible features: not on the values of hidden ones
    (they may be NaN), not on the other rows of the batch. Every row has at least one visible modality.
    """

    #: Whether streams of different lengths T may be given; the others get streams cut to the shortest.
    takes_unaligned = False
    #: Whether `score_patterns` does work once for several patterns, so that many together cost less than each alone:
    #: a model that has `encode` and `fuse`, and in which hidden streams are the zeros of `Encoded`, says so.
    shares_patterns = False
    #: Whether a score depends on where in which batch the row is, so that patterns go together only on the same rows.
    numbers_rows = False
    #: Whether padded clips are kept out of attention, statistics and losses.
    mask_padding = False
    #: Whether the weights come from `fit`, in one pass over the training set, and not from `loss`.
    closed_form = False
    #: Whether `fit` learns from other labels of the training videos too (`data.learn_also`).
    learns_also = False
    #: Whether `loss`, where it is compiled, takes the same steps on the same shapes whatever is visible.
    fixed_shapes = False
    #: Whether several threads may ask for scores at once: scoring changes nothing that others see.
    concurrent = True
    #: Whether torch can follow a score back to the features, as integrated gradients do.
    differentiable = True
    #: Why a model cannot be exported as a program of torch or ONNX, in words that follow its name; "" where it can.
    why_no_program = ""
    #: How many epochs the training has; the training loop sets it.
    epochs = 100

    def __init__(self, widths: Mapping[str, int]):
        super().__init__()
        self.widths = dict(widths)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the columns of `visible`."""
        return tuple(self.widths)

    @property
    def trained_apart(self) -> list[AQAModel]:
        """The models that are trained, each by itself: this one, or those whose scores it combines."""
        return [self]

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def options_of_older_runs(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a run that recorded only those that it was given, with what has another default since.

        AqaError, one line, where this version cannot build the model of that run.
        """
        return dict(options)

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        """A part's name (such as "mixed.head") -> factor on the learning rate of its parameters; 1 for the others."""
        return {}

    def real_clips(
        self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor] | None, seen: Tensor
    ) -> Tensor | None:
        """Which clips of aligned streams are real, (B, T) bool; None for all, or where padding is not masked.

        seen: (B, M) bool, the streams whose lengths may be used.
        """
        if lengths is None or not self.mask_padding:
            return None
        return real_clips({m: lengths[m] for m in self.modalities}, seen, features[self.modalities[0]].shape[1])

    def real_clips_of(
        self, modality: str, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor] | None
    ) -> Tensor:
        """Which clips of one stream are real, (B, T) bool; all of them where padding is not masked."""
        stream = features[modality]
        if lengths is None or not self.mask_padding:
            return every_clip(stream)
        return before_padding(lengths[modality], stream.shape[1])

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Scores in [0, 1], (B,).

        features: modality -> (B, T, D). visible: (B, M) bool. lengths: modality -> (B,) clips before the zero-padding,
        or None if nothing is padded.
        """
        return self.fuse(self.encode(features, visible, lengths), visible).score

    def encode(
        self, features: Mapping[str, Tensor], seen: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Encoded:
        """The part of scoring that takes each stream by itself, of all modalities; zeros where not seen, (B, M) bool.

        A model whose streams meet only after this has `encode` and `fuse` in place of `score` and `diagnostics`.
        A row may have nothing that is seen.
        """
        raise NotImplementedError

    def fuse(self, encoded: Encoded, visible: Tensor) -> RowScores:
        """The rest of scoring: what the streams come to together. visible: (B, M) bool, elsewhere `encoded` has zeros.

        Every row has at least one visible modality.
        """
        raise NotImplementedError

    def loss(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        visible: Tensor,
        available: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
    ) -> Loss:
        """The training loss for targets (B,) in [0, 1].

        Features that are available but not visible, (B, M) bool both, may teach (as what should have been
        reconstructed); features that are not available are never looked at.
        """
        raise NotImplementedError

    def idle_parts(self, visible: Tensor, available: Tensor) -> list[nn.Module]:
        """Parts that `loss` may compute with, for the sake of fixed shapes, though they count for nothing in a batch.

        visible, available: (B, M) bool, on the CPU. The optimizer leaves them as they are.
        """
        return []

    def start_epoch(self, epoch: int) -> None:
        """Called before the batches of each epoch, counted from 1: for models that are trained in stages.

        What a later stage needs to know of an earlier one belongs in buffers, so that a resumed run has it.
        """

    def surveys(self, epoch: int) -> bool:
        """Whether `survey` is to look at the training set before an epoch; asked after `start_epoch`."""
        return False

    def survey(self, batches: Iterable[Example]) -> None:
        """Look once at the training set, in evaluation mode and without gradients; what is found belongs in buffers."""

    def stage_starts(self) -> Sequence[int]:
        """Epochs, counted from 1, before which optimizer and learning rate begin anew; `train.stages` comes first."""
        return []

    def stage_length(self, length: float) -> int:
        """The epochs of a stage: so many, or below 1 that share of all."""
        return round(length * self.epochs) if length < 1 else round(length)

    def fit(self, batches: Iterable[Example]) -> dict[str, float]:
        """Fit a `closed_form` model to an epoch's batches; returns "loss" and any named parts of it."""
        raise NotImplementedError

    def left_out(self, batches: Iterable[Example], sets: Sequence[Sequence[bool]]) -> list[LeftOut] | None:
        """For each visible set (M,), the training videos that have all of it, each left out in closed form.

        batches: those that `fit` was given. None, for all sets, where a model has no such form: the default.
        """
        return None

    def notes(self, videos: int) -> list[str]:
        """What a user should know of training this model on so many videos."""
        return []

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Named (B, ...) tensors worth knowing, such as router weights; none by default.

        "deviation" (B,) is the standard deviation that the model itself states of a score, in [0, 1].
        """
        if type(self).score is not AQAModel.score:
            return {}
        return self.fuse(self.encode(features, visible, lengths), visible).diagnostics

    def clip_weights(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """How a router weighs its experts clip by clip: by stream (B, T, K), NaN where hidden; none by default.

        The K experts are those of the modalities, in their order.
        """
        return {}

    def score_patterns(
        self,
        features: Mapping[str, Tensor],
        visible: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
        *,
        diagnose: bool = False,
    ) -> PatternScores:
        """Scores of the same features under P patterns, in evaluation mode. visible: (P, B, M) bool.

        A GPU is waited for where the host does not know `visible` (`aqa.system.host_masks`), and for nothing else.
        Where `shares_patterns`, streams are encoded once, and each pattern fuses what it leaves of them; otherwise one
        pattern is scored after the other. diagnose: `diagnostics` too.
        """
        visible = told(visible)
        seen = seen_by_any(visible)
        if not (self.shares_patterns and asked(seen).any() and self.encodes_alike(seen, lengths)):
            return self.score_one_by_one(features, visible, lengths, diagnose=diagnose)
        encoded = self.encode(features, seen, lengths)
        fused = [
            self.fuse(encoded.shown(shown), selected(shown, showing(shown))) if asked(shown).any() else None
            for shown in slices(visible, 0)
        ]
        return by_pattern(visible, fused, diagnose)

    def score_one_by_one(
        self,
        features: Mapping[str, Tensor],
        visible: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
        *,
        diagnose: bool = False,
    ) -> PatternScores:
        """As `score_patterns`, with all the work for each pattern, on the rows that it leaves something of."""
        visible = told(visible)
        found: list[RowScores | None] = []
        for shown in slices(visible, 0):
            rows = showing(shown)
            if not asked(rows).any():
                found.append(None)
                continue
            kept = None if lengths is None else _rows_of(lengths, rows)
            taken = _rows_of(features, rows), selected(shown, rows), kept
            found.append(RowScores(self.score(*taken), self.diagnostics(*taken) if diagnose else {}))
        return by_pattern(visible, found, diagnose)

    def encodes_alike(self, seen: Tensor, lengths: Mapping[str, Tensor] | None) -> bool:
        """Whether streams are encoded the same under all patterns. seen: (B, M) bool, under any of them.

        Aligned streams have the clips of the longest one that is visible, by which patterns that hide it would differ.
        """
        if lengths is None or not self.mask_padding or self.takes_unaligned:
            return True
        every, seen = torch.stack([asked(lengths[m]) for m in self.modalities], dim=1), asked(seen)
        longest = (every * seen).amax(dim=1, keepdim=True)
        return not bool((seen & (every != longest)).any())


def seen_by_any(visible: Tensor) -> Tensor:
    """The streams that any pattern shows, (P, B, M) -> (B, M)."""
    return likewise(lambda x: x.any(dim=0), visible)


def showing(visible: Tensor) -> Tensor:
    """The rows that show something, (..., B, M) -> (..., B)."""
    return likewise(lambda x: x.any(dim=-1), visible)


def _rows_of(tensors: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Some rows (B,) bool of a batch, without a copy where they are all."""
    return {m: selected(x, rows) for m, x in tensors.items()}


def _zeros_where_hidden(x: Tensor, seen: Tensor) -> Tensor:
    """A tensor (n, ...) with zeros in the rows (n,) in which it is not seen, whatever was there."""
    twin = asked(seen)
    if twin.all():
        return x
    return x.masked_fill(~seen.view(-1, *[1] * (x.dim() - 1)), 0) if twin.any() else torch.zeros_like(x)


def by_pattern(visible: Tensor, found: Sequence[RowScores | None], diagnose: bool) -> PatternScores:
    """The scores of those rows of which each pattern (B, M) leaves something, and NaN for the others."""
    scores = [torch.full(shown.shape[:1], torch.nan, device=shown.device) for shown in visible]
    for into, rows, scored in zip(scores, slices(showing(visible), 0), found, strict=True):
        if scored is not None:
            into[row_numbers(rows)] = scored.score
    diagnostics = [{} if each is None or not diagnose else each.diagnostics for each in found]
    return PatternScores(torch.stack(scores), diagnostics)
