"""What a model says of videos, as tables in the target's units: a function for each kind of explanation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from aqa.errors import AqaError
from aqa.evaluation.scorer import Scorer
from aqa.explaining.averaging import mean_tables, run_shares
from aqa.explaining.clips import cut, occlusion, score_once
from aqa.explaining.gradients import integrated_gradients, level_stream
from aqa.explaining.inside import curves, weights
from aqa.explaining.streams import Floats, Shown, set_scores, shapley_values
from aqa.features.batches import Batch, Rows, scoring_batches
from aqa.missing import MissingPattern
from aqa.missing.hiding import Nothing
from aqa.models.gaussian_process import GaussianProcess

if TYPE_CHECKING:
    import pandas as pd


class ScoreExplanation(NamedTuple):
    """What streams and clips add to scores, in the target's units.

    streams: a row for each video and stream that it has: id, modality, shapley. They add up to the score minus the mean
    label of the training videos. clips: a row for each window of clips, with the columns of the table `clips` of
    `aqa explain`.
    """

    streams: pd.DataFrame
    clips: pd.DataFrame


def explained_once(scorer: Scorer, middle: float, window: int | None) -> ScoreExplanation:
    """What one model says of all videos of its features. middle: the mean label of its training videos."""
    rows, pattern = np.arange(len(scorer.features.ids)), Nothing(scorer.features.modalities)
    shown = scorer.visible(rows, pattern)
    scores = set_scores(scorer, rows, shown).scores
    return ScoreExplanation(
        stream_table(scorer, rows, shown, scores, middle), clip_table(scorer, rows, pattern, window)
    )


def mean_explanation(by_run: Sequence[Sequence[ScoreExplanation]]) -> ScoreExplanation:
    """The mean of what the models of several runs say of the same videos, as their scores are averaged.

    AqaError where they do not cut videos into the same windows.
    """
    several = [said._asdict() for own in by_run for said in own]
    means, unlike = mean_tables(several, run_shares([len(own) for own in by_run]))
    if unlike:
        raise AqaError("the runs see different clips of a video (data.clips, train.clips); explain them one by one")
    return ScoreExplanation(**means)


def stream_table(scorer: Scorer, rows: Rows, shown: Shown, scores: Floats, middle: float) -> pd.DataFrame:
    """A row for each video and stream that is shown of it (n, M): its Shapley value. scores: as in `SetScores`."""
    import pandas as pd

    values = shapley_values(scores, middle)
    ids, modalities = scorer.features.ids, scorer.features.modalities
    lines = [
        (ids[row], modality, values[m, i])
        for i, row in enumerate(rows)
        for m, modality in enumerate(modalities)
        if shown[i, m]
    ]
    return pd.DataFrame(lines, columns=["id", "modality", "shapley"])


def part_table(scorer: Scorer, rows: Rows, pattern: MissingPattern) -> pd.DataFrame:
    """The additive parts of a Gaussian process: the mean label, then each visible stream's statistics.

    They add up to the score: what its being cut to the range of the target takes is a part too.
    """
    import pandas as pd

    lines = []
    if isinstance(scorer.model, GaussianProcess):
        names = [(m, statistic) for m in scorer.features.modalities for statistic in scorer.model.statistics]
        for batch in batches(scorer, rows, pattern):
            with torch.inference_mode():
                parts = scorer.model.contributions(batch.features, batch.visible[0], batch.lengths)
            seen = batch.visible[0].cpu().numpy().repeat(len(scorer.model.statistics), axis=1)
            for row, own, groups in zip(batch.rows.tolist(), parts.cpu().numpy(), seen, strict=True):
                total, scale = own.sum(), scorer.high - scorer.low
                lines.append((scorer.features.ids[row], "", "mean label", scorer.low + scale * own[0]))
                known = zip(names, own[1:], groups, strict=True)
                lines += [(scorer.features.ids[row], *name, scale * part) for name, part, is_seen in known if is_seen]
                cut_off = scale * (np.clip(total, 0, 1) - total)
                lines.append((scorer.features.ids[row], "", "cut to the range", cut_off))
    return pd.DataFrame(lines, columns=["id", "modality", "part", "value"])


def clip_table(scorer: Scorer, rows: Rows, pattern: MissingPattern, window: int | None = None) -> pd.DataFrame:
    """A row for each window of clips of each visible stream: what the score loses without it.

    window: clips in each; by default a stream is cut into 32. first, end: clips of the stream as stored; first_second,
    end_second where the store says how long a clip takes. occlusion, gradients: what the clips add by either account;
    gradients are NaN of models without.
    """
    import pandas as pd

    scale, lines = scorer.high - scorer.low, []
    for batch in batches(scorer, rows, pattern):
        visible, modalities = batch.visible[0], scorer.features.modalities
        pairs = [(row, m) for row, seen in enumerate(visible.tolist()) for m in range(len(modalities)) if seen[m]]
        windows = [one for row, m in pairs for one in cut(row, m, int(batch.lengths[modalities[m]][row]), window)]
        size = max(scorer.batch_size, 1)
        lost = occlusion(scorer.model, batch.features, visible, batch.lengths, windows, size).cpu().numpy()
        added = _gradients(scorer, batch)
        place = scorer.features.alignment.spans(batch.rows.cpu().numpy(), visible.cpu().numpy(), scorer.clips)
        for one, occluded in zip(windows, lost, strict=True):
            begin, step = place.first[one.row, one.stream], place.step[one.row, one.stream]
            first, end = begin + one.start * step, begin + one.stop * step
            seconds = scorer.features.alignment.seconds[one.stream]
            name = modalities[one.stream]
            own = np.nan if added is None else float(added[name][one.row, one.start : one.stop].sum())
            where = (scorer.features.ids[int(batch.rows[one.row])], name, first, end, first * seconds, end * seconds)
            lines.append((*where, scale * occluded, scale * own))
    columns = ["id", "modality", "first", "end", "first_second", "end_second", "occlusion", "gradients"]
    return pd.DataFrame(lines, columns=columns)


def _gradients(scorer: Scorer, batch: Batch) -> dict[str, Tensor] | None:
    """Integrated gradients of a batch; None of a model without gradients, or whose scores go by places in a batch."""
    if not scorer.model.differentiable or scorer.model.numbers_rows:
        return None
    return integrated_gradients(scorer.model, batch.features, batch.visible[0], batch.lengths)


def moments_table(scorer: Scorer, rows: Rows, pattern: MissingPattern) -> pd.DataFrame:
    """A row for each video: by how much its score differs from that of the video with all clips of a stream alike.

    That is what moments add in all: integrated gradients add up to it, and `unexplained` is how far they are from it.
    """
    import pandas as pd

    scale, lines = scorer.high - scorer.low, []
    for batch in batches(scorer, rows, pattern):
        visible = batch.visible[0]
        level = {m: level_stream(x, batch.lengths[m], visible[:, i]) for i, (m, x) in enumerate(batch.features.items())}
        whole, alike = (score_once(scorer.model, x, visible, batch.lengths) for x in (batch.features, level))
        added = _gradients(scorer, batch)
        total = None if added is None else sum(part.sum(dim=1) for part in added.values())
        gap = torch.full_like(whole, torch.nan) if total is None else whole - alike - total
        for row, moments, own in zip(batch.rows.tolist(), (whole - alike).tolist(), gap.tolist(), strict=True):
            lines.append((scorer.features.ids[row], scale * moments, scale * own))
    return pd.DataFrame(lines, columns=["id", "moments", "unexplained"])


def curve_table(scorer: Scorer, rows: Rows, pattern: MissingPattern) -> pd.DataFrame:
    """A row for each clip that a model weighs: by the attention of its grade decoder, or by its routers."""
    import pandas as pd

    tables = []
    for batch in batches(scorer, rows, pattern, size=1):
        visible, row = batch.visible[0], int(batch.rows[0])
        place = scorer.features.alignment.spans(np.array([row]), visible.cpu().numpy(), scorer.clips)
        longest = int(place.kept.max())
        for curve in curves(scorer.model, batch.features, visible, batch.lengths):
            own = scorer.features.modalities.index(curve.of) if curve.of in scorer.features.modalities else None
            column = int(place.kept[0].argmax()) if own is None or not visible[0, own] else own
            kept = longest if own is None or not visible[0, own] else int(place.kept[0, own])
            first = place.first[0, column] + np.arange(kept) * place.step[0, column]
            columns = {"id": scorer.features.ids[row], "kind": curve.kind, "of": curve.of, "to": curve.to}
            tables.append(pd.DataFrame({**columns, "first": first, "weight": curve.weights[:kept]}))
    empty = pd.DataFrame(columns=["id", "kind", "of", "to", "first", "weight"])
    return pd.concat(tables, ignore_index=True) if tables else empty


def weight_table(scorer: Scorer, rows: Rows, pattern: MissingPattern) -> pd.DataFrame:
    """A row for each number of a router or gate in a video's score."""
    import pandas as pd

    lines = []
    for batch in batches(scorer, rows, pattern):
        for row, found in zip(
            batch.rows.tolist(), weights(scorer.model, batch.features, batch.visible[0], batch.lengths), strict=True
        ):
            lines += [(scorer.features.ids[row], *weight) for weight in found]
    return pd.DataFrame(lines, columns=["id", "name", "of", "to", "weight"])


def batches(scorer: Scorer, rows: Rows, pattern: MissingPattern, size: int | None = None) -> Iterator[Batch]:
    """The videos that a pattern leaves something of, as the model gets them in scoring."""
    chosen: Sequence[MissingPattern] = [pattern]
    scorer.model.eval()
    yield from scoring_batches(
        scorer.features, rows, chosen, clips=scorer.clips, size=size or scorer.batch_size, seed=scorer.seed
    )
