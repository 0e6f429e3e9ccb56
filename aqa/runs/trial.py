"""A trial: a run that is trained and measured on the split that selects, and never scored on the test split.

Its folder is an ordinary run's without checkpoint, predictions and figures; metrics.json has what the selection metric
came to. `aqa tune` makes trials, and refits the settings that did best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aqa.config.schema import FoldsConfig
from aqa.runs.folder import TRIAL, RunFolder
from aqa.runs.prepare import Prepared
from aqa.runs.selection import mean_selection
from aqa.system.files import plain
from aqa.training.loop import Progress


@dataclass(frozen=True)
class Trial:
    """That a run is a trial. stop(epoch, value): whether it ends after an epoch, by the selection metric in it.

    inner: the inner fold that selects, in place of the split that does.
    """

    stop: Callable[[int, float], bool]
    inner: FoldsConfig | None = None


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to: the best value of the selection metric (NaN: undefined), and its epoch.

    epochs: how many were trained.
    """

    value: float
    epoch: int
    epochs: int

    @classmethod
    def of(cls, folds: Sequence[Mapping[str, Any]]) -> TrialResult:
        """From the metrics.json of its inner folds, or of its only run: the mean value and epoch, all epochs."""
        selections = [metrics["selection"] for metrics in folds]
        epoch = sum(one["epoch"] for one in selections) / len(selections)
        value = selections[0]["value"] if len(selections) == 1 else mean_selection(selections)["value"]
        return cls(math.nan if value is None else float(value), round(epoch), sum(one["epochs"] for one in selections))


def conclude_trial(prepared: Prepared, progress: Progress, folder: RunFolder) -> dict[str, Any]:
    """Fill the folder of a trial that was trained; returns its metrics."""
    config = prepared.config
    folder.save_history(progress.history)
    return folder.finish(
        plain(
            {
                "selection": {
                    **config.select.model_dump(),
                    "epoch": progress.best_epoch or progress.epoch,
                    "value": progress.best_value,
                    "epochs": progress.epoch,
                },
                TRIAL: True,
                "data_set": prepared.data_set,
                "data": {"fingerprint": prepared.fingerprint},
                "target": config.data.target,
                "model": config.model.name,
                "seed": config.train.seed,
            }
        )
    )
