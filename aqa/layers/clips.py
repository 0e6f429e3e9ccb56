"""Real clips, padding, and layers that work on some clips of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from aqa.system.host_masks import asked, on_host, row_numbers, selected
from aqa.system.precision import at_least_float32


def before_padding(lengths: Tensor, clips: int) -> Tensor:
    """Which of the T clips come before the padding, (B, T) bool. lengths: (B,)."""
    return torch.arange(clips, device=lengths.device) < lengths.unsqueeze(1)


def every_clip(stream: Tensor) -> Tensor:
    """All clips of a stream (B, T, D), (B, T) bool."""
    return stream.new_ones(stream.shape[:2], dtype=torch.bool)


def real_clips(lengths: Mapping[str, Tensor], seen: Tensor, clips: int) -> Tensor:
    """Which of the T clips of each video hold data rather than padding, (B, T) bool.

    lengths: modality -> (B,), aligned streams; seen: (B, M), the streams whose lengths may be used.
    """
    return before_padding((torch.stack(list(lengths.values()), dim=1) * seen).amax(dim=1), clips)


def clip_mean(stream: Tensor, clips: Tensor | None = None) -> Tensor:
    """Mean of (B, T, C) over the clips (B, T) bool that count, or all, (B, C): zeros where none does.

    The other clips may be NaN.
    """
    if clips is None:
        return stream.mean(dim=1)
    kept = stream.masked_fill(~clips.unsqueeze(-1), 0.0)
    return kept.sum(dim=1) / clips.sum(dim=1, keepdim=True).clamp(min=1)


def on_clips(module: nn.Module, x: Tensor, clips: Tensor | None = None) -> Tensor:
    """Apply a module that works on single clips, (n, C) -> (n, C'), to a batch (B, T, C) -> (B, T, C').

    With clips (B, T) bool only those go in, so that batch statistics know no padding; the others come out as zeros.
    """
    if clips is not None and works_on_all(x):
        return masked(module, x.masked_fill(~clips.unsqueeze(-1), 0.0), clips).masked_fill(~clips.unsqueeze(-1), 0.0)
    if clips is not None and clips.all():
        clips = None
    taken = x.flatten(0, 1) if clips is None else x[clips]
    training = module.training
    if training and len(taken) < 2:  # one clip has no batch statistics; the running ones must serve
        with torch.set_grad_enabled(torch.is_grad_enabled() and len(taken) > 0):  # none leaves no gradient behind
            out = module.eval()(taken)
        module.train()
    else:
        out = module(taken)
    if clips is None:
        return out.unflatten(0, x.shape[:2])
    return out.new_zeros(*x.shape[:2], out.shape[-1]).masked_scatter(clips.unsqueeze(-1), out)


def in_rows(base: Tensor | None, rows: Tensor, function: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """A batch (B, T, C), or zeros for None, with function(*inputs) in the place of those rows (B,) that are true.

    inputs: (B, ...) or None, which stays None. The function is given all their rows where `works_on_all` says so, and
    otherwise the true ones alone.
    """
    if works_on_all(rows):
        made, kept = function(*inputs), rows.view(-1, 1, 1)
        return made.masked_fill(~kept, 0.0) if base is None else torch.where(kept, made, base)
    picked = row_numbers(rows)  # by number: its backward pass is several times as fast as that of a mask
    if base is not None and not len(picked):
        return base
    made = function(*(None if x is None else x.index_select(0, picked) for x in inputs))
    return scatter_rows(made, rows) if base is None else base.index_copy(0, picked, made.type_as(base))


def works_on_all(x: Tensor) -> bool:
    """Whether all rows and clips of a batch are worked on and those that do not count masked, or those that do picked.

    Picking saves work, but how much is picked has to be known: a GPU would have to be waited for, unless x is a mask
    that the host knows (`host_masks`), as it does those of rows in scoring. Compiled code is made for one shape.
    """
    return torch.compiler.is_compiling() or (x.device.type != "cpu" and on_host(x) is None)


def masked(module: nn.Module, x: Tensor, clips: Tensor) -> Tensor:
    """A module of single clips on all of (B, T, C), with batch statistics of the clips (B, T) bool alone."""
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = masked(layer, x, clips)
        return x
    if isinstance(module, nn.BatchNorm1d):
        return masked_batch_norm(module, x, clips)
    return module(x)


def masked_batch_norm(norm: nn.BatchNorm1d, x: Tensor, clips: Tensor) -> Tensor:
    """Batch norm of (B, T, C) by the statistics of the clips (B, T) bool, with the running ones brought up to date.

    In float32. Where one clip or none counts, the running statistics serve, and stay as they are.
    """
    values, kept = at_least_float32(x), clips.unsqueeze(-1)  # (B, T, C), (B, T, 1)
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    mean, variance = running_mean, running_var
    if norm.training:
        count = clips.sum()
        own_mean = (values * kept).sum(dim=(0, 1)) / count.clamp(min=1)
        apart = (values - own_mean).square() * kept
        own_variance = apart.sum(dim=(0, 1)) / count.clamp(min=1)
        several = count > 1
        mean, variance = torch.where(several, own_mean, mean), torch.where(several, own_variance, variance)
        share = several * cast(float, norm.momentum)
        # By `data`: torch's batch norm keeps them for its backward pass if another stream went through it in this step.
        running_mean.data.lerp_(own_mean.detach(), share)
        running_var.data.lerp_((own_variance * (count / (count - 1).clamp(min=1))).detach(), share)
        cast(Tensor, norm.num_batches_tracked).add_(several)
    return ((values - mean) * ((variance + norm.eps).rsqrt() * norm.weight) + norm.bias).to(x.dtype)


def any_of(rows: Tensor) -> bool:
    """Whether some rows are to be worked on; always where all of them are (`works_on_all`)."""
    return works_on_all(rows) or bool(asked(rows).any())


def rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """Those rows of a batch (B, ...) where rows (B,) is true.

    Where `works_on_all` says so they are all there. Numbers of those that do not count are zeros then, so that whatever
    they were, gradients are finite; masks and lengths stay.
    """
    if not works_on_all(rows):
        return _picked(x, rows)
    return x.masked_fill(~_along(rows, x), 0.0) if x.is_floating_point() else x


def counted_clips(clips: Tensor, rows: Tensor) -> Tensor:
    """Which clips (n, T) bool of the rows from `rows_of` count, of clips (B, T): none of a row that does not."""
    return clips & rows.unsqueeze(1) if works_on_all(rows) else _picked(clips, rows)


def attended_clips(clips: Tensor, rows: Tensor) -> Tensor:
    """Which clips (n, T) bool of the rows from `rows_of` attention may look at, of clips (B, T).

    All of a row that does not count, as attention to nothing would be NaN.
    """
    return clips | ~rows.unsqueeze(1) if works_on_all(rows) else _picked(clips, rows)


def scatter_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (n, ...) from `rows_of` back into a batch (B, ...) where rows (B,) is true, zeros elsewhere."""
    if works_on_all(rows):
        return values.masked_fill(~_along(rows, values), 0.0)
    if len(values) == len(rows):
        return values
    return values.new_zeros(len(rows), *values.shape[1:]).index_copy(0, row_numbers(rows), values)


def _picked(x: Tensor, rows: Tensor) -> Tensor:
    return x[rows] if rows.device.type == "cpu" else selected(x, rows)


def _along(rows: Tensor, x: Tensor) -> Tensor:
    """rows (B,) for use with x (B, ...)."""
    return rows.view(-1, *[1] * (x.dim() - 1))
