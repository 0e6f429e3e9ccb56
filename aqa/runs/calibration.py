"""What the intervals of a run's scores are made from: residuals of videos that it did not learn from.

They are made once, when a run has ended, and kept in its checkpoint. The videos are those of the validation split,
masked to every visible set in turn; a model in closed form has beside them its training videos, each left out. The
labels of the test split are never asked: where nothing else is left there is no interval, and the table says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

from aqa.errors import AqaError, needed
from aqa.evaluation.bootstrap import Floats
from aqa.evaluation.intervals import (
    Bounds,
    Residuals,
    interval_summary,
    normalized_is_shorter,
    pooled_intervals,
    rank,
    reliability,
    within,
)
from aqa.evaluation.scorer import Predictions, Scorer, own_key
from aqa.features.batches import Rows
from aqa.missing import MissingPattern
from aqa.modalities import subset_name
from aqa.runs.folder import HELD_OUT, RunFolder
from aqa.runs.predictions import HIGH, LOW, SPREAD

CUT_FROM_TRAIN = "videos cut from train"  # by the run's seed, where a store has no split `valid`
LEFT_OUT = "the training videos, each left out"
OLDER = "this run was made before scores had intervals; run it again to have them"

ShownSet = tuple[bool, ...]
Key = tuple[str, ShownSet]  # a pattern that is calibrated by itself, or ""; and what is visible


@dataclass(frozen=True, eq=False)
class Calibration:
    """Residuals by what is visible.

    source: which videos, in words; selected: whether the epoch was selected on them. why_none: why there are none.
    kept_apart: of these videos; left_out: of training videos, each left out in closed form. range: of the target.
    """

    source: str = ""
    selected: bool = False
    why_none: str | None = None
    kept_apart: Mapping[Key, Residuals] = field(default_factory=dict)
    left_out: Mapping[ShownSet, Residuals] = field(default_factory=dict)
    range: tuple[float, float] = (-np.inf, np.inf)

    def of(self, pattern: str, visible: ShownSet, level: float) -> Residuals:
        """What intervals of one visible set are made from: videos kept apart where they are enough for the level.

        Else, where a model has them, training videos left out. pattern: "" where it is not calibrated by itself.
        """
        found = self.kept_apart.get((pattern, visible), Residuals(np.zeros(0)))
        if rank(len(found.residuals), level) is None and not pattern:
            return self.left_out.get(visible, found)
        return found

    def bounds(
        self, scores: Floats, visible: NDArray[np.bool_], spreads: Floats | None, pattern: str, level: float
    ) -> Bounds:
        """The intervals of scores (n,) of videos that show (n, M); NaN where there is no score, or none are made.

        spreads: (n,), the model's own deviations, where it states them. Cut to the target's range.
        """
        low, high = np.full((2, len(scores)), np.nan)
        scored = ~np.isnan(scores)
        for subset in distinct_sets(visible[scored]) if self.why_none is None else ():
            rows = scored & (visible == subset).all(axis=1)
            residuals = self.of(pattern, subset, level)
            normalized = not pattern and normalized_is_shorter(self.left_out.get(subset), level)
            own = spreads[rows] if normalized and spreads is not None else None
            low[rows], high[rows] = residuals.ends(scores[rows], level, own)
        return within(Bounds(low, high), *self.range)

    def summary(self, level: float, modalities: Sequence[str]) -> dict[str, Any]:
        """What metrics.json says of them, beside the numbers of each pattern.

        "videos": the fewest and the most of a visible set. "normalized": the visible sets whose intervals are in
        multiples of the model's own deviation.
        """
        if self.why_none is not None:
            return {"level": level, "why_none": self.why_none}
        keys = dict.fromkeys([*self.kept_apart, *(("", subset) for subset in self.left_out)])
        used = [self.of(pattern, visible, level) for pattern, visible in keys]
        sources = {LEFT_OUT if residuals.left_out else self.source for residuals in used}
        normalized = [subset for subset, found in self.left_out.items() if normalized_is_shorter(found, level)]
        return {
            "level": level,
            "calibrated_on": sorted(sources),
            "videos": [count([len(residuals.residuals) for residuals in used]) for count in (min, max)],
            "selected_on_them": self.selected and self.source in sources,
            "normalized": [subset_name(modalities, subset) for subset in normalized],
        }


def distinct_sets(visible: NDArray[np.bool_]) -> list[ShownSet]:
    """The different rows of (n, M), without the empty one."""
    return [tuple(map(bool, row)) for row in np.unique(visible, axis=0) if row.any()]


# -- said of scores


@dataclass(frozen=True, eq=False)
class ScoredPatterns:
    """What a model scored: rows of its features, patterns, and by pattern (n,) scores and the model's own deviations.

    They become intervals by a calibration.
    """

    scorer: Scorer
    rows: Rows
    patterns: Mapping[str, MissingPattern]
    scores: Predictions
    spreads: Predictions

    def bounds(self, calibration: Calibration, level: float) -> dict[str, Bounds]:
        """Intervals by pattern, (n,)."""
        return {
            name: calibration.bounds(
                self.scores[name],
                self.scorer.visible(self.rows, pattern),
                self.spreads.get(name),
                own_key(pattern),
                level,
            )
            for name, pattern in self.patterns.items()
        }


def columns_beside(bounds: Mapping[str, Bounds], spreads: Predictions) -> dict[str, Predictions]:
    """What predictions.csv has beside the scores: column -> pattern -> (n,). Of spreads only where there are any."""
    low = {name: ends.low for name, ends in bounds.items()}
    high = {name: ends.high for name, ends in bounds.items()}
    return {LOW: low, HIGH: high, **({SPREAD: spreads} if spreads else {})}


def add_intervals(
    found: dict[str, Any], truth: Floats, bounds: Mapping[float, Mapping[str, Bounds]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Metrics with what is to be said of intervals. bounds: by level, then by pattern; about: by `Calibration.summary`.

    Each pattern gets "interval", at the level asked for, with its "reliability" at all levels.
    """
    if "why_none" not in about:
        for name, scores in found["patterns"].items():
            by_level = {level: by_pattern[name] for level, by_pattern in bounds.items()}
            asked = interval_summary(by_level[about["level"]], truth)
            scores["interval"] = {**asked, "reliability": reliability(by_level, truth)}
    found["intervals"] = dict(about)
    return found


def add_pooled_intervals(found: dict[str, Any], folds: Sequence[Mapping[str, Any]], repeats: int = 1) -> dict[str, Any]:
    """The metrics of a cross-validation with what those of its folds say of intervals; folds of older runs say nothing.

    Where one fold has none, there are none.
    """
    abouts = [one["intervals"] for one in folds if "intervals" in one]
    if len(abouts) < len(folds):
        return found
    found["intervals"] = next((about for about in abouts if "why_none" in about), None) or {
        "level": abouts[0]["level"],
        "calibrated_on": sorted({f"{source} of each fold" for about in abouts for source in about["calibrated_on"]}),
        "videos": [min(about["videos"][0] for about in abouts), max(about["videos"][1] for about in abouts)],
        "selected_on_them": any(about["selected_on_them"] for about in abouts),
        "normalized": sorted({name for about in abouts for name in about["normalized"]}),
    }
    if "why_none" not in found["intervals"]:
        for name, scores in found["patterns"].items():
            scores["interval"] = pooled_intervals([one["patterns"][name]["interval"] for one in folds], repeats)
    return found


# -- kept in the checkpoint


class _ResidualsForm(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, strict=True, extra="forbid")
    pattern: str
    visible: list[bool]
    left_out: bool
    residuals: torch.Tensor
    spreads: torch.Tensor | None


class _CalibrationForm(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    source: str
    selected: bool
    why_none: str | None
    residuals: list[_ResidualsForm]


def recorded_calibration(calibration: Calibration) -> dict[str, Any]:
    """A calibration in types that load without running code."""
    left = {("", subset): found for subset, found in calibration.left_out.items()}
    return {
        "source": calibration.source,
        "selected": calibration.selected,
        "why_none": calibration.why_none,
        "residuals": recorded_residuals(calibration.kept_apart) + recorded_residuals(left),
    }


def recorded_residuals(several: Mapping[Key, Residuals]) -> list[dict[str, Any]]:
    """The same of residuals by what is visible."""
    return [
        {
            "pattern": pattern,
            "visible": list(visible),
            "left_out": found.left_out,
            "residuals": torch.from_numpy(found.residuals),
            "spreads": None if found.spreads is None else torch.from_numpy(found.spreads),
        }
        for (pattern, visible), found in several.items()
    ]


def calibration_in(checkpoint: Mapping[str, Any]) -> Calibration:
    """The calibration that a checkpoint holds; one without residuals where it is of an older version."""
    if "calibration" not in checkpoint:
        return Calibration(why_none=OLDER)
    try:
        known = _CalibrationForm.model_validate(checkpoint["calibration"])
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AqaError(f"checkpoint: calibration.{'.'.join(map(str, first['loc']))}: {needed(first)}") from None
    width, target = len(checkpoint["widths"]), checkpoint["target"]
    apart = _read([one for one in known.residuals if not one.left_out], width)
    left = _read([one for one in known.residuals if one.left_out], width)
    return Calibration(
        known.source,
        known.selected,
        known.why_none,
        apart,
        {visible: found for (_, visible), found in left.items()},
        (target["low"], target["high"]),
    )


class _HeldOutForm(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    residuals: list[_ResidualsForm]


def held_out_in(folder: RunFolder, modalities: int) -> Mapping[Key, Residuals] | None:
    """The residuals of the videos that a fold tested; None of a fold of an older version."""
    content = folder.load_held_out()
    return None if content is None else residuals_in(content, folder.path / HELD_OUT, modalities)


def residuals_in(content: Any, path: Path, modalities: int) -> dict[Key, Residuals]:
    """What `recorded_residuals` recorded, under "residuals" of the content of a file; AqaError where it is not that."""
    try:
        known = _HeldOutForm.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AqaError(f"{path}: {'.'.join(map(str, first['loc']))}: {needed(first)}") from None
    return _read(known.residuals, modalities)


def _read(several: Sequence[_ResidualsForm], width: int) -> dict[Key, Residuals]:
    found: dict[Key, Residuals] = {}
    for one in several:
        parts = [part for part in (one.residuals, one.spreads) if part is not None]
        count = len(one.residuals) if one.residuals.dim() == 1 else -1
        if len(one.visible) != width or any(
            part.shape != (count,) or part.dtype != torch.double or not part.isfinite().all() or (part < 0).any()
            for part in parts
        ):
            raise AqaError(f"checkpoint: residuals of {one.visible} are not finite numbers, of {width} streams")
        spreads = None if one.spreads is None else one.spreads.numpy()
        found[one.pattern, tuple(one.visible)] = Residuals(one.residuals.numpy(), spreads, one.left_out)
    return found
