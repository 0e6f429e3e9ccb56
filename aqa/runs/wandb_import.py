"""Importing wandb, which has some things to be told first."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress

LATER = "wandb.sdk.launch.inputs.internal"  # which wandb itself imports when a run begins


def import_wandb() -> None:
    """ImportError where it is not installed."""
    # Reports of its own errors and use, which wandb sends as the program ends: a server that hangs would delay that.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    importlib.import_module("wandb")


def import_all_of_wandb() -> None:
    """What a run will need of it too, where it is installed."""
    with suppress(Exception):  # LATER is no name to rely on
        import_wandb()
        importlib.import_module(LATER)
