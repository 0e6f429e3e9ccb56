"""Which clips a score rests on: what it loses when they are replaced by the rest of their stream.

Occlusion: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014. The clips of a window
take the mean of the stream's other clips: the video without what is particular about them. Nothing but the video's own
visible clips is needed for that, neither zeros, which may mean something, nor other videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.models import AQAModel
from aqa.system.precision import float32_products

WINDOWS = 32  # into which a video is cut where no length is asked for


class ClipWindow(NamedTuple):
    """Clips of one stream of a row, from `start` to before `stop`, counted in the window that the model sees."""

    row: int
    stream: int
    start: int
    stop: int


def require_window(window: int | None) -> None:
    """AqaError for a number of clips that is none."""
    if window is not None and window < 1:
        raise AqaError(f"window {window}: the number of clips is 1 or more")


def cut(row: int, stream: int, clips: int, length: int | None = None) -> list[ClipWindow]:
    """The windows that a stream of so many clips is cut into, each of `length` clips, by default one of 32 parts.

    None where all would be one window: there is nothing to compare it with.
    """
    length = length or max(1, -(-clips // WINDOWS))
    starts = range(0, clips, length) if clips > length else range(0)
    return [ClipWindow(row, stream, start, min(start + length, clips)) for start in starts]


def score_once(
    model: AQAModel, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor]
) -> Tensor:
    """Scores in [0, 1] of rows that each show something, (B,); by row where a score depends on the row's place."""
    with torch.inference_mode(), float32_products("float32"):
        if not model.numbers_rows:
            return model.score(features, visible, lengths).double()
        rows = [slice(i, i + 1) for i in range(len(visible))]
        return torch.cat([model.score(_at(features, i), visible[i], _at(lengths, i)) for i in rows]).double()


def occlusion(
    model: AQAModel,
    features: Mapping[str, Tensor],
    visible: Tensor,
    lengths: Mapping[str, Tensor],
    windows: Sequence[ClipWindow],
    size: int,
) -> Tensor:
    """What the score loses when each window is replaced by the rest of its stream: (J,), in [0, 1] units.

    Positive where its clips raise the score. features, visible, lengths: as `AQAModel.score` takes them. size: how many
    replaced videos are scored together.
    """
    whole = score_once(model, features, visible, lengths)
    clips = torch.arange(next(iter(features.values())).shape[1], device=visible.device)
    found = []
    for chunk in _chunks(windows, size):
        rows, streams, start, stop = torch.tensor(chunk, device=visible.device).T
        inside = (clips >= start.unsqueeze(1)) & (clips < stop.unsqueeze(1))  # (J, T)
        masks = {m: inside & (streams == i).unsqueeze(1) for i, m in enumerate(model.modalities)}
        taken, own = _at(features, rows), _at(lengths, rows)
        found.append(whole[rows] - score_once(model, replaced(taken, own, masks), visible[rows], own))
    return torch.cat(found) if found else whole[:0]


def replaced(
    features: Mapping[str, Tensor], lengths: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Features (B, T, D) whose masked clips are the mean of their stream's others. masks: modality -> (B, T) bool.

    A stream of which no clip would be left is as it was.
    """
    found = {}
    for m, stream in features.items():
        real = torch.arange(stream.shape[1], device=stream.device) < lengths[m].unsqueeze(1)
        rest = real & ~masks[m]
        inside = real & masks[m] & rest.any(dim=1, keepdim=True)
        if not inside.any():
            found[m] = stream
            continue
        total = stream.masked_fill(~rest.unsqueeze(-1), 0.0).sum(dim=1, keepdim=True)
        mean = total / rest.sum(dim=1).clamp(min=1).view(-1, 1, 1)
        found[m] = torch.where(inside.unsqueeze(-1), mean, stream)
    return found


def _at(tensors: Mapping[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    return {m: x[rows] for m, x in tensors.items()}


def _chunks(windows: Sequence[ClipWindow], size: int) -> Iterator[Sequence[ClipWindow]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]
