"""Scoring a model under missing patterns, and what is said of the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, NotANumber, nearest
from aqa.evaluation import metrics
from aqa.evaluation.bootstrap import numbered_labels
from aqa.evaluation.curves import area_under_rates
from aqa.evaluation.measures import Ranges, measured
from aqa.features.batches import Features, Rows, scored_at_once, scoring_batches, scoring_visibility
from aqa.missing import MissingPattern, parse_pattern
from aqa.missing.hiding import Nothing, Rates, Subset
from aqa.modalities import MOST_MODALITIES, find_subset, subsets
from aqa.models import AQAModel
from aqa.models.base import PatternScores
from aqa.store.store import Target
from aqa.system.host_masks import known
from aqa.system.precision import float32_products

Predictions = dict[str, NDArray[np.float64]]
RouterWeights = dict[str, NDArray[np.float64]]  # pattern -> (streams, experts), means over samples


class Scored(NamedTuple):
    """Scores by pattern, router weights by pattern, and the model's own standard deviations of the scores by pattern.

    The deviations are in the target's units, (n,); a model that states none has none.
    """

    predictions: Predictions
    router_weights: RouterWeights
    spreads: Predictions


class _Queued(NamedTuple):
    """What a device was asked for: rows (B,) of a batch, and, on the host, which of them each pattern scores (P, B)."""

    names: list[str]
    rows: Tensor
    scored: NDArray[np.bool_]
    found: PatternScores


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

    def predict(self, rows: Rows, patterns: Mapping[str, MissingPattern]) -> Predictions:
        """Scores by pattern in the target's units, (n,); NaN for a sample that a pattern leaves with no modality.

        NotANumber, an AqaError, where the model's score of a sample is none.
        """
        return self._score(rows, patterns, diagnose=False).predictions

    def predict_and_diagnose(self, rows: Rows, patterns: Mapping[str, MissingPattern]) -> Scored:
        """Scores as from `predict`, with what else the model says of them."""
        return self._score(rows, patterns, diagnose=True)

    def visible(self, rows: Rows, pattern: MissingPattern) -> NDArray[np.bool_]:
        """What a pattern leaves of some rows, (n, M)."""
        return scoring_visibility(self.features, rows, pattern, self.seed)

    def _score(self, rows: Rows, patterns: Mapping[str, MissingPattern], diagnose: bool) -> Scored:
        self.model.eval()
        size = self.batch_size
        if not self.model.numbers_rows:
            size = scored_at_once(size, self.clips, self.features.widths.values())
        queued: list[_Queued] = []
        for names, taken in self._scored_together(rows, patterns):
            together = [patterns[name] for name in names]
            for batch in scoring_batches(self.features, taken, together, clips=self.clips, size=size, seed=self.seed):
                with torch.inference_mode(), float32_products("float32"):
                    visible = known(batch.visible, batch.on_host[0])  # so that no model waits to see what it picks
                    found = self.model.score_patterns(batch.features, visible, batch.lengths, diagnose=diagnose)
                queued.append(_Queued(names, batch.rows, batch.on_host[0].any(dim=2).numpy(), found))
        return self._read(queued, rows, patterns)

    def _read(self, queued: Sequence[_Queued], rows: Rows, patterns: Mapping[str, MissingPattern]) -> Scored:
        """The scores of all batches from the device: not one by one, for which its queue of work would run empty."""
        by_row = {name: np.full(len(self.features.ids), np.nan) for name in patterns}
        spread_by_row = {name: np.full(len(self.features.ids), np.nan) for name in patterns}
        routed: dict[str, list[NDArray[np.float64]]] = {name: [] for name in patterns}
        spread: set[str] = set()
        for names, on_device, scored, found in queued:
            scores, at = found.score.double().cpu().numpy(), on_device.cpu().numpy()
            for p, name in enumerate(names):
                wrong = scored[p] & ~np.isfinite(scores[p])
                if wrong.any():
                    sample = self.features.ids[at[wrong][0]]
                    raise NotANumber(f"the model's score of '{sample}' under {name} is not a number")
                by_row[name][at] = self.low + scores[p] * (self.high - self.low)
                said = found.diagnostics[p]
                if "router_weights" in said:
                    routed[name].append(said["router_weights"].double().cpu().numpy())
                if "deviation" in said:
                    spread.add(name)
                    deviation = said["deviation"].double().cpu().numpy()
                    spread_by_row[name][at[scored[p]]] = deviation * (self.high - self.low)
        return Scored(
            {name: scores[rows] for name, scores in by_row.items()},
            {name: np.concatenate(weights).mean(axis=0) for name, weights in routed.items() if weights},
            {name: spread_by_row[name][rows] for name in patterns if name in spread},
        )

    def _scored_together(self, rows: Rows, patterns: Mapping[str, MissingPattern]) -> list[tuple[list[str], Rows]]:
        """Names of the patterns that one pass over some of the rows can score, and these rows.

        One pass has one window for all its patterns. Patterns that damage features have a pass each. The others go
        together where they score the same rows and show them alike, so that neither rows nor windows follow from what
        a pattern hides. A model whose patterns share work is given all of them at once for the rows on which they
        agree, which are all rows where no video has streams of different lengths.
        """
        decisive: dict[str, NDArray[np.float64]] = {}  # (n, 2), 0 for a row of which a pattern leaves nothing
        for name, pattern in patterns.items():
            if not pattern.damages:
                visible = scoring_visibility(self.features, rows, pattern, self.seed)
                decisive[name] = self.features.alignment.decisive(rows, visible, self.clips)
        found = []
        agree = np.zeros(len(rows), bool)
        if decisive and self.model.shares_patterns and not self.model.numbers_rows:
            agree = _agreed(np.stack(list(decisive.values())))
            found.append((list(decisive), rows[agree]))
        if not agree.all():
            alike: dict[bytes, list[str]] = {}
            for name, part in decisive.items():
                alike.setdefault(part[~agree].tobytes(), []).append(name)
            found += [(names, rows[~agree]) for names in alike.values()]
        return found + [([name], rows) for name, pattern in patterns.items() if pattern.damages]


def _agreed(decisive: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The rows (n,) that all patterns which leave something of them show alike. decisive: (P, n, 2)."""
    seen = decisive[:, :, :1] > 0
    most = np.where(seen, decisive, -np.inf).max(axis=0)
    least = np.where(seen, decisive, np.inf).min(axis=0)
    return np.asarray((most <= least).all(axis=1))


def incomplete(patterns: Mapping[str, MissingPattern]) -> list[str]:
    """Names of the patterns that an average over incomplete patterns takes: the subsets but the complete one."""
    return [name for name, p in patterns.items() if isinstance(p, Subset) and not all(p.subset)]


def selection_patterns(pattern: str, modalities: tuple[str, ...]) -> dict[str, MissingPattern]:
    """The patterns behind `select.pattern`: complete, a subset's name, or average (the incomplete subsets)."""
    if pattern == "average" and len(modalities) == 1:
        raise AqaError(
            f"select.pattern: average is over the incomplete subsets, and {modalities[0]} alone has none; use complete"
        )
    if pattern == "average":
        return {name: Subset(modalities, subset) for name, subset in subsets(modalities).items() if not all(subset)}
    if pattern != "complete" and find_subset(modalities, pattern) is None:
        known = ["complete", "average", *(subsets(modalities) if len(modalities) <= MOST_MODALITIES else ())]
        raise AqaError(f"select.pattern: unknown '{pattern}': {nearest(pattern, known)}")
    chosen = parse_pattern(pattern, modalities, "select.pattern")
    return {chosen.name: chosen}


def selection_measure(
    scorer: Scorer, rows: Rows, truth: NDArray[np.float64], patterns: Mapping[str, MissingPattern]
) -> Callable[[], dict[str, float]]:
    """A function that measures the model as it then is on some rows, of true scores (n,).

    srcc is the Fisher-z mean over the patterns, NaN if one is undefined; mse the mean, in squared target units.
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
    labels: Sequence[str] | None = None,
    further: Sequence[str] = (),
    intervals: bool = True,
) -> dict[str, Any]:
    """The metrics of predictions against truth (n,) as metrics.json has them; ceilings where the data knows them.

    label_range: the lowest and highest true score of the data set, for the relative L2. labels: (n,), of what the
    bootstrap draws in place of videos, such as athletes. further: measures by name, with bootstrap intervals unless
    `intervals` is false. Where several missing rates were tested, the area under SRCC against them is added.
    """
    units = None if labels is None else numbered_labels(labels)
    found = metrics.summarize(predictions, truth, incomplete(patterns), *label_range, seed=seed, units=units)
    ranges = Ranges((target.low, target.high), label_range)
    found |= {"ranges": ranges._asdict()} if further else {}
    for name, values in measured(further, predictions, truth, ranges, seed, intervals, units).items():
        if values:
            found["patterns"][name]["measures"] = values
    rates = {name: rate for name, p in patterns.items() if (rate := missing_rate(p)) is not None}
    if len(set(rates.values())) > 1:
        found["area_under_rates"] = area_under_rates(predictions, truth, rates, seed, units)
    return completed(found, patterns, target)


def completed(found: dict[str, Any], patterns: Mapping[str, MissingPattern], target: Target) -> dict[str, Any]:
    """Metrics with the ceilings that the data knows, and the patterns that the average leaves out ("left_out").

    These are patterns that were tested with something missing and are not subsets.
    """
    for name, scores in found["patterns"].items():
        if name in target.ceiling:
            scores["ceiling"] = target.ceiling[name]
    average, averaged = found["average_incomplete"], incomplete(patterns)
    average["left_out"] = [name for name, p in patterns.items() if name not in averaged and not _is_complete(p)]
    if averaged and all(name in target.ceiling for name in averaged):
        average["ceiling"] = metrics.fisher_mean([target.ceiling[name] for name in averaged])
    return found


def own_key(pattern: MissingPattern) -> str:
    """The name of a pattern that has to be calibrated by itself, as what is visible does not tell what it does.

    It damages what is visible, or hides for a reason. "" for all others: what is visible is all that matters.
    """
    return pattern.name if pattern.damages or pattern.has_a_reason else ""


def missing_rate(pattern: MissingPattern) -> float | None:
    """The rate at which a pattern hides every modality; None for one that does anything else."""
    if isinstance(pattern, Nothing) or _is_complete(pattern):
        return 0.0
    if isinstance(pattern, Rates) and len(set(pattern.rates)) == 1:
        return float(pattern.rates[0])
    return None


def _is_complete(pattern: MissingPattern) -> bool:
    return isinstance(pattern, Subset) and all(pattern.subset)
