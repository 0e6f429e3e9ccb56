"""Making what the intervals of a run's scores are made from, when its model is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.intervals import Residuals
from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Rows, training_batches
from aqa.missing import MissingPattern
from aqa.missing.hiding import Subset
from aqa.modalities import subsets
from aqa.models.base import AQAModel, Example
from aqa.models.ensemble import Ensemble
from aqa.runs.calibration import Calibration, Key, ShownSet, distinct_sets
from aqa.runs.prepare import Prepared

MOST_SETS_OF = 5  # modalities of which every subset is calibrated; of more only the subsets that are tested or occur


def calibrate(prepared: Prepared) -> Calibration:
    """The residuals of a run whose model is trained."""
    scorer, calibrating = prepared.scorer, prepared.calibrating
    sets = sets_to_calibrate(prepared)
    found = left_out(prepared, sets)
    if calibrating.why_none is not None and not found:
        return Calibration(why_none=calibrating.why_none)
    rows, truth = calibrating.rows, prepared.target.values[calibrating.rows]
    return Calibration(
        source=calibrating.source,
        selected=calibrating.selected and selects_epochs(scorer.model),
        kept_apart=residuals_of(scorer, rows, truth, sets, calibrating.patterns) if len(rows) else {},
        left_out=found,
        range=(scorer.low, scorer.high),
    )


def selects_epochs(model: AQAModel) -> bool:
    """Whether a model's training keeps the epoch that is best on the selecting videos.

    A model in closed form has one epoch. An ensemble keeps the last of each member.
    """
    return not (model.closed_form or isinstance(model, Ensemble))


def held_out(prepared: Prepared) -> Mapping[Key, Residuals]:
    """In a fold of a cross-validation, the residuals of the videos that it tests.

    Those of all folds make the intervals of new videos (CV+), and of no video of the cross-validation itself.
    """
    rows = prepared.rowsets.test
    return residuals_of(prepared.scorer, rows, prepared.target.values[rows], sets_to_calibrate(prepared), {})


def sets_to_calibrate(prepared: Prepared) -> list[ShownSet]:
    """The visible sets that scores may be asked for.

    All subsets of a few modalities; of more the subsets that are tested, and what videos show under the test patterns.
    """
    scorer, rowsets = prepared.scorer, prepared.rowsets
    modalities = scorer.features.modalities
    if len(modalities) <= MOST_SETS_OF:
        return list(subsets(modalities).values())
    shown = [scorer.visible(rowsets.test, pattern) for pattern in prepared.test_patterns.values()]
    shown += [scorer.features.available[rowsets.test], scorer.features.available[prepared.calibrating.rows]]
    return distinct_sets(np.concatenate(shown))


def residuals_of(
    scorer: Scorer, rows: Rows, truth: Floats, sets: Sequence[ShownSet], patterns: Mapping[str, MissingPattern]
) -> dict[Key, Residuals]:
    """Residuals of some rows of labels (n,): masked to each visible set, of those that have all of it.

    patterns: those that are calibrated by themselves, by visible set again. A stream that a set hides decides nothing.
    """
    masked = {pattern.name: pattern for pattern in (Subset(scorer.features.modalities, subset) for subset in sets)}
    found = scorer.predict_and_diagnose(rows, masked)
    residuals: dict[Key, Residuals] = {}
    for name, mask in masked.items():
        has_all = np.asarray(scorer.features.available[rows][:, list(mask.subset)].all(axis=1))
        spreads = found.spreads.get(name)
        residuals["", mask.subset] = _residuals(found.predictions[name], truth, spreads, has_all)
    found = scorer.predict_and_diagnose(rows, patterns)
    for name, pattern in patterns.items():
        visible = scorer.visible(rows, pattern)
        for subset in distinct_sets(visible):
            own = (visible == subset).all(axis=1)
            residuals[name, subset] = _residuals(found.predictions[name], truth, None, own)
    return residuals


def _residuals(scores: Floats, truth: Floats, spreads: Floats | None, own: NDArray[np.bool_]) -> Residuals:
    return Residuals(np.abs(scores - truth)[own], None if spreads is None else spreads[own])


def left_out(prepared: Prepared, sets: Sequence[ShownSet]) -> dict[ShownSet, Residuals]:
    """Residuals of the training videos, each left out, of a model that has them in closed form; else none."""
    scorer = prepared.scorer
    found = scorer.model.left_out(_examples(prepared), sets)
    if found is None:
        return {}
    scale = scorer.high - scorer.low
    residuals = {}
    for subset, (score, target, deviation) in zip(sets, found, strict=True):
        apart = (score - target).abs().double().cpu().numpy() * scale
        spreads = None if deviation is None else deviation.double().cpu().numpy() * scale
        residuals[subset] = Residuals(apart, spreads, left_out=True)
    return residuals


def _examples(prepared: Prepared) -> Iterable[Example]:
    """The batches that a model in closed form was fitted to."""
    scorer, config = prepared.scorer, prepared.config
    target = torch.from_numpy(prepared.target.normalize(prepared.target.values)).float().to(scorer.features.device)
    for batch in training_batches(
        scorer.features,
        prepared.rowsets.train,
        prepared.available,
        prepared.training_pattern,
        clips=scorer.clips,
        size=config.train.batch_size,
        seed=config.train.seed,
        epoch=1,
    ):
        yield Example(batch.features, target[batch.rows], batch.visible, batch.available, batch.lengths)
