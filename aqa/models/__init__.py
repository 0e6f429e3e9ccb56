"""The models, found by name. A new one is one file in this folder with a registered class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aqa.errors import AqaError, brief
from aqa.models.base import AQAModel, Loss
from aqa.registry import Registry, check_options

MODELS: Registry[type[AQAModel]] = Registry("model", __name__)
register = MODELS.register


def build(name: str, *, widths: Mapping[str, int], **options: Any) -> AQAModel:
    """The model called `name`, freshly initialized.

    widths: channels D of each modality's features, in the order that columns of `visible` follow.
    options: the model's own keyword arguments. AqaError for an unknown name, option or type.
    """
    checked = check(name, options)
    _check_widths(widths)
    return MODELS.get(name).make({m: int(width) for m, width in widths.items()}, **checked)


def _check_widths(widths: Mapping[str, int]) -> None:
    if not isinstance(widths, Mapping) or not widths:
        raise AqaError(f"widths is {brief(widths)}; it needs one modality or more, such as {{'visual': 1024}}")
    for modality, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
            raise AqaError(
                f"widths: the width of {brief(modality)} is {brief(width)}; expected a whole number of channels, "
                "1 or more"
            )


def check(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the model called `name`, defaults filled in; AqaError for an unknown name, option or type."""
    return check_options(MODELS.get(name).make, options, f"model '{name}'", finite=True)


def options_of_run(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options that a run's model had, from those that the run recorded; AqaError as `check`.

    Runs record all of them. Those made before recorded what was given, and the defaults were others.
    """
    return check(name, MODELS.get(name).make.options_of_older_runs(options))


__all__ = ["MODELS", "AQAModel", "Loss", "build", "check", "options_of_run", "register"]
