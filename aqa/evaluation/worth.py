"""What another stream is worth: how much smaller errors and intervals are once it is visible too.

Every difference is over the same videos, those that have the stream and all that is visible without it, and its
interval is that of a paired bootstrap over them (`bootstrap`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aqa.evaluation.bootstrap import Bools, Floats
from aqa.evaluation.comparison import Estimate, mean_difference
from aqa.modalities import find_subset, subset_name


@dataclass(frozen=True, eq=False)
class StreamWorth:
    """What `stream` adds where `visible` is shown, over n videos that have both.

    error, width: the mean absolute error and the mean width of bounded intervals without the stream. smaller_error,
    smaller_width: by how much they shrink with it, in the target's units; shares: in percent of what they were. Width
    is NaN, and its differences None, where intervals are not known.
    """

    visible: str
    stream: str
    n: int
    error: float
    width: float
    smaller_error: Estimate
    smaller_width: Estimate | None
    error_share: Estimate
    width_share: Estimate | None


def stream_worth(
    modalities: Sequence[str], errors: Mapping[str, Floats], widths: Mapping[str, Floats], counts: Floats
) -> list[StreamWorth]:
    """What each stream adds to each visible set of which both sides were tested, smaller sets first.

    errors: by pattern, absolute errors (n,), NaN where a video was not scored. widths: likewise, of intervals. counts:
    (n, R), how often each video was drawn. A video has a stream if it was scored by it alone: where the pattern of a
    single stream was not tested, nothing is said of sets with it.
    """
    sets = {subset: name for name in errors if (subset := find_subset(modalities, name)) is not None}
    by_itself = [subset_name(modalities, [name == other for other in modalities]) for name in modalities]
    found = []
    for visible in sorted(sets, key=lambda subset: (sum(subset), [not seen for seen in subset])):
        for m, stream in enumerate(modalities):
            more = tuple(seen or i == m for i, seen in enumerate(visible))
            singles = [alone for alone, seen in zip(by_itself, more, strict=True) if seen]
            if visible[m] or more not in sets or any(name not in errors for name in singles):
                continue
            having = np.all([~np.isnan(errors[name]) for name in singles], axis=0)
            if having.any():
                pair = sets[visible], sets[more]
                found.append(_worth(pair[0], stream, having, *_pairs(pair, errors), *_pairs(pair, widths), counts))
    return found


def _pairs(names: tuple[str, str], values: Mapping[str, Floats]) -> tuple[Floats | None, Floats | None]:
    return values.get(names[0]), values.get(names[1])


def _worth(
    visible: str,
    stream: str,
    having: Bools,
    error: Floats | None,
    error_with: Floats | None,
    width: Floats | None,
    width_with: Floats | None,
    counts: Floats,
) -> StreamWorth:
    assert error is not None
    assert error_with is not None
    smaller, share = _shrunk(error[having], error_with[having], counts[having])
    narrower = width_share = None
    mean_width = float("nan")
    if width is not None and width_with is not None:
        bounded = having & np.isfinite(width) & np.isfinite(width_with)
        if bounded.any():
            mean_width = float(width[bounded].mean())
            narrower, width_share = _shrunk(width[bounded], width_with[bounded], counts[bounded])
    n = int(having.sum())
    return StreamWorth(
        visible, stream, n, float(error[having].mean()), mean_width, smaller, narrower, share, width_share
    )


def _shrunk(before: Floats, after: Floats, counts: Floats) -> tuple[Estimate, Estimate]:
    """By how much the mean of (n,) shrinks, and in percent of what it was, in every resample (n, R)."""
    drawn = counts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws, whole = (before - after) @ counts / drawn, before @ counts / drawn
        shares = 100 * draws / whole
        share = 100 * np.float64((before - after).mean()) / np.float64(before.mean())
    never = np.zeros(len(drawn), bool)
    return Estimate(float((before - after).mean()), draws, never), Estimate(float(share), shares, never)


def mean_worth(targets: Sequence[Sequence[StreamWorth]]) -> list[StreamWorth]:
    """Over targets: plain means of what is in percent, of the sets and streams that all targets know.

    Errors and widths themselves have the units of a target, and no mean: they are NaN.
    """
    by_target = [{(one.visible, one.stream): one for one in own} for own in targets]
    found = []
    for key, first in by_target[0].items():
        if all(key in own for own in by_target):
            several = [own[key] for own in by_target]
            widths = [one.width_share for one in several if one.width_share is not None]
            error = mean_difference([one.error_share for one in several])
            width = mean_difference(widths) if len(widths) == len(several) else None
            n = first.n if all(one.n == first.n for one in several) else 0
            found.append(StreamWorth(*key, n, float("nan"), float("nan"), error, width, error, width))
    return found
