"""SRCC as more and more is missing: the area under its curve over missing rates, as one number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.evaluation import bootstrap as resampling
from aqa.evaluation.bootstrap import RESAMPLES, Floats, ResampledTarget, interval
from aqa.evaluation.metrics import srcc


def area_under_rates(
    predictions: Mapping[str, Floats],
    target: Floats,
    rates: Mapping[str, float],
    seed: int = 0,
    units: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """The area under SRCC against the missing rate, divided by the width of the rates: a mean SRCC over them.

    predictions: by pattern, (N,), NaN for a video that was not scored; target: (N,), without NaN; rates: the rate of
    two patterns or more. By the trapezoidal rule over the rates that were tested, so it depends on which these are:
    compare areas over the same ones. Returns srcc, its 95 % bootstrap interval over videos (srcc_low, srcc_high), rates
    and patterns in rising order; NaN if the SRCC of one pattern is undefined.
    """
    patterns = sorted(rates, key=lambda name: rates[name])
    at = np.array([rates[name] for name in patterns])
    scored = {name: ~np.isnan(predictions[name]) for name in patterns}
    values = np.array([srcc(predictions[name][scored[name]], target[scored[name]]) for name in patterns])
    draws = []
    for counts in resampling.resamples(len(target), RESAMPLES, seed, units):
        resampled = ResampledTarget(target, counts)
        draws.append(mean_over(at, np.array([resampled.srcc(predictions[name]) for name in patterns])))
    found = interval(np.concatenate(draws))
    area: dict[str, Any] = {
        "srcc": float(mean_over(at, values[:, None])[0]),
        "srcc_low": found.low,
        "srcc_high": found.high,
        "rates": at.tolist(),
        "patterns": patterns,
    }
    if not np.isnan(area["srcc"]) and found.why_none is not None:
        area["why_no_interval"] = found.why_none
    return area


def mean_over(rates: Floats, values: Floats) -> Floats:
    """The area under values (k, R) at rising rates (k,), divided by their width: (R,)."""
    widths = np.diff(rates)[:, None]
    return np.asarray((widths * (values[1:] + values[:-1]) / 2).sum(axis=0) / widths.sum())
