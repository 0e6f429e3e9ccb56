"""An experiment as its file and the changes to it say, for the model that they name."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aqa.config.load import Overrides, load_experiment
from aqa.config.schema import Experiment
from aqa.data_prep import DATASETS
from aqa.errors import AqaError
from aqa.models import MODELS, check
from aqa.registry import option_names
from aqa.store.synthetic import find_preset
from aqa.system.saying import Say


def load(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Overrides, say: Say) -> Experiment:
    """An experiment whose model is known and takes the options given, its synthetic data too; AqaError otherwise.

    Where a change takes another model than the file does, options of the file that only the file's model has are left
    out, which is said. An option that a change gives itself must be one of the new model.
    """

    def lacking(old: str, new: str, options: Collection[str]) -> list[str]:
        left_out = only_of(old, new, options)
        if left_out:
            say(f"model.name={new}: these options in the file are of {old} alone and left out: {', '.join(left_out)}")
        return left_out

    experiment = load_experiment(source, overrides, lacking)
    if experiment.data.synthetic is not None:
        find_preset(experiment.data.synthetic)
    check(experiment.model.name, experiment.model.options)
    return experiment


def require_prepared(store: str) -> None:
    """AqaError if a store is not there that `aqa prepare` makes, by its name, from a published data set."""
    path = Path(store)
    if not path.exists() and path.stem in DATASETS.names():  # in this order: the names are those of imported modules
        shown = os.path.relpath(path)
        raise AqaError(
            f"no feature store at {shown}; make it first from the published files in a folder: "
            f"aqa prepare {path.stem} --source FOLDER --out {shown}"
        )


def only_of(old: str, new: str, options: Collection[str]) -> list[str]:
    """Those of the options that model `old` has and `new` has not; all that `new` lacks where `old` is not known."""
    known = MODELS.names()
    if new not in known:
        return []
    lacking = [name for name in options if name not in option_names(MODELS.get(new).make)]
    return [name for name in lacking if old not in known or name in option_names(MODELS.get(old).make)]
