"""Picking the best setting of a sweep: by validation alone, and what it then comes to on the test split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aqa.errors import AqaError
from aqa.evaluation.comparison import Estimate, best_of
from aqa.evaluation.measures import METRICS
from aqa.runs.selection import is_validated
from aqa.runs.table import UNDEFINED, interval_text
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.tables import Setting, measures_in, selected_text, settings_found
from aqa.sweeps.tested import estimates_on_test


def above_others(found: pd.DataFrame, folder: SweepFolder) -> dict[tuple[str, str], int]:
    """By target and pattern, which of `settings_found` is above every other one by the paired test on the test videos.

    found: as `aqa.sweeps.tables.results` gives it. Settings that were selected on the test split are not among them.
    None of a target whose settings were tested on different videos.
    """
    if found.empty or found["seed"].nunique() < 2:  # there is no table then
        return {}
    settings = settings_found(found)
    best: dict[tuple[str, str], int] = {}
    for target in dict.fromkeys(one.target for one in settings):
        own = {i: one for i, one in enumerate(settings) if one.target == target and one.selection["split"] != "test"}
        if len(own) < 2:  # one alone is above none, and its runs' predictions need not be read
            continue
        try:
            tested = estimates_on_test({str(i): [folder.run(run) for run in one.runs] for i, one in own.items()})
        except AqaError:
            continue
        for pattern in dict.fromkeys(name for one in tested.values() for name in one.srcc):
            known = {int(i): one.srcc[pattern] for i, one in tested.items() if pattern in one.srcc}
            first = best_of(known) if len(known) == len(own) else None
            if first is not None:
                best[target, pattern] = first
    return best


def best_text(found: pd.DataFrame, folder: SweepFolder) -> str:
    """For each target the setting with the best validation value, its runs, and SRCC on the test split.

    found: as `aqa.sweeps.tables.results` gives it. Settings whose epochs were selected on the test split, or on the
    training videos, are not picked: they have no validation value.
    """
    settings = settings_found(found)
    lines = []
    for target in dict.fromkeys(one.target for one in settings):
        own = [one for one in settings if one.target == target]
        valid = [one for one in own if is_validated(one.selection) and not np.isnan(one.selection["value"])]
        lines += _of_target(target, valid, folder)
        for split, words in (("test", "the TEST split"), ("train", "the training videos")):
            if left_out := sum(one.selection["split"] == split for one in own):
                lines.append(f"  not picked from: {left_out} settings whose epochs were selected on {words}")
    return "\n".join(lines) if lines else "no run is done yet"


def _of_target(target: str, settings: Sequence[Setting], folder: SweepFolder) -> list[str]:
    if not settings:
        return [f"{target}: no setting has a validation value"]
    kinds = {
        (one.selection["metric"], one.rows["selection_pattern"].iloc[0], one.selection["split"]) for one in settings
    }
    if len(kinds) > 1:
        return [f"{target}: settings were selected by different metrics, patterns or splits, and cannot be compared"]
    best, others = settings[0], len(settings) - 1
    named = " ".join(f"{axis}={value}" for axis, value in best.values.items()) or best.runs[0]
    value = f"{selected_text(best.selection)} on {best.selection['split']}"
    tested = estimates_on_test({str(i): [folder.run(run) for run in one.runs] for i, one in enumerate(settings)})
    lines = [f"{target}: {named}, the best of {len(settings)} by validation ({value})"]
    for pattern, estimate in tested["0"].srcc.items():
        text = f"  test {pattern}: SRCC {_estimate_text(estimate)}"
        if others:
            first = best_of({i: own.srcc[pattern] for i, own in tested.items() if pattern in own.srcc}) == "0"
            text += "; above every other setting by the paired test" if first else ""
        lines.append(text + _further_text(best.rows[best.rows["pattern"] == pattern]))
    lines += [f"  {folder.run(run)}" for run in best.runs]
    return lines


def _further_text(rows: pd.DataFrame) -> str:
    """The further measures under a pattern, plain means over seeds."""
    means = {name: float(rows[name].astype(float).to_numpy().mean()) for name in measures_in(rows)} if len(rows) else {}
    return "".join(f"; {METRICS.get(name).about['title']} {value:.3f}" for name, value in means.items())


def _estimate_text(found: Estimate) -> str:
    if np.isnan(found.value):
        return UNDEFINED
    low, high = (None if np.isnan(end) else float(end) for end in found.interval[:2])
    return f"{found.value:.3f} {interval_text(low, high, found.interval.why_none)}"
