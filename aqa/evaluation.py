"""Scoring a model under missing patterns, and what is said of the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aqa import metrics
from aqa.data.batches import Batch, Features, Rows, scoring_batches
from aqa.data.store import Target
from aqa.errors import AqaError, nearest
from aqa.missing import MissingPattern, parse_pattern
from aqa.missing.hiding import Subset
from aqa.modalities import subsets
from aqa.models import AQAModel

Predictions = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Scorer:
    """A model with all that it takes to score videos: features, window, and the range of the target."""

    model: AQAModel
    features: Features
    low: float
    high: float
    clips: int
    batch_size: int
    seed: int

    def _batches(self, rows: Rows, pattern: MissingPattern) -> Iterator[Batch]:
        self.model.eval()
        yield from scoring_batches(self.features, rows, pattern, clips=self.clips, size=self.batch_size, seed=self.seed)

    def predict(self, rows: Rows, patterns: Mapping[str, MissingPattern]) -> Predictions:
        """Scores by pattern in the target's units, (n,); NaN for a sample that a pattern leaves with no modality.

        AqaError where the model's score of a sample is not a number.
        """
        predictions = {}
        for name, pattern in patterns.items():
            by_row = np.full(len(self.features.ids), np.nan)
            for batch in self._batches(rows, pattern):
                with torch.inference_mode():
                    score = self.model.score(batch.features, batch.visible, batch.lengths).double().cpu().numpy()
                at = batch.rows.cpu().numpy()
                if not np.isfinite(score).all():
                    wrong = self.features.ids[at[~np.isfinite(score)][0]]
                    raise AqaError(f"the model's score of '{wrong}' under {name} is not a number")
                by_row[at] = self.low + score * (self.high - self.low)
            predictions[name] = by_row[rows]
        return predictions

    def router_weights(self, rows: Rows, patterns: Mapping[str, MissingPattern]) -> dict[str, NDArray[np.float64]]:
        """By pattern, a model's router weights (streams, experts), means over samples; empty for models with none."""
        result = {}
        for name, pattern in patterns.items():
            found = []
            for batch in self._batches(rows, pattern):
                with torch.inference_mode():
                    diagnostics = self.model.diagnostics(batch.features, batch.visible, batch.lengths)
                if "router_weights" in diagnostics:
                    found.append(diagnostics["router_weights"].double().cpu().numpy())
            if found:
                result[name] = np.concatenate(found).mean(axis=0)
        return result


def incomplete(patterns: Mapping[str, MissingPattern]) -> list[str]:
    """Names of the patterns that an average over incomplete patterns takes: the subsets but the complete one."""
    return [name for name, p in patterns.items() if isinstance(p, Subset) and not all(p.subset)]


def selection_patterns(pattern: str, modalities: tuple[str, ...]) -> dict[str, MissingPattern]:
    """The patterns behind `select.pattern`: complete, a subset's name, or average (the incomplete subsets)."""
    named = subsets(modalities)
    if pattern == "average":
        return {name: Subset(modalities, subset) for name, subset in named.items() if not all(subset)}
    if pattern != "complete" and pattern not in named:
        raise AqaError(f"select.pattern: unknown '{pattern}': {nearest(pattern, ['complete', 'average', *named])}")
    chosen = parse_pattern(pattern, modalities, "select.pattern")
    return {chosen.name: chosen}


def selection_measure(
    scorer: Scorer, rows: Rows, truth: NDArray[np.float64], patterns: Mapping[str, MissingPattern]
) -> Callable[[], dict[str, float]]:
    """A function that measures the model as it then is on some rows, of true scores (n,).

    srcc is the Fisher-z mean over the patterns, NaN where one is undefined; mse the mean, in squared target units.
    """

    def measure() -> dict[str, float]:
        correlations, errors = [], []
        for prediction in scorer.predict(rows, patterns).values():
            scored = ~np.isnan(prediction)
            correlations.append(metrics.srcc(prediction[scored], truth[scored]))
            errors.append(metrics.mse(prediction[scored], truth[scored]))
        return {"srcc": metrics.fisher_mean(correlations), "mse": float(np.mean(errors))}

    return measure


def summary(
    predictions: Predictions,
    truth: NDArray[np.float64],
    patterns: Mapping[str, MissingPattern],
    target: Target,
    label_range: tuple[float, float],
    seed: int,
) -> dict[str, Any]:
    """The metrics of predictions against truth (n,) as metrics.json has them; ceilings where the data knows them.

    label_range: the lowest and highest true score of the data set, for the relative L2.
    """
    found = metrics.summarise(predictions, truth, incomplete(patterns), *label_range, seed=seed)
    for name, scores in found["patterns"].items():
        if name in target.ceiling:
            scores["ceiling"] = target.ceiling[name]
    averaged = incomplete(patterns)
    if averaged and all(name in target.ceiling for name in averaged):
        found["average_incomplete"]["ceiling"] = metrics.fisher_mean([target.ceiling[name] for name in averaged])
    return found
