"""Incomplete multimodal action quality assessment.

The public names load on first use, so that `import aqa` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aqa import models
    from aqa.data.inspect import inspect_store
    from aqa.data.store import FeatureStore, Modality, Target, write_store
    from aqa.errors import AqaError
    from aqa.experiment import run
    from aqa.models.published import load_published_mcmoe
    from aqa.reporting.report import report
    from aqa.scoring import evaluate, predict

_HOME = {
    "AqaError": "aqa.errors",
    "FeatureStore": "aqa.data.store",
    "Modality": "aqa.data.store",
    "Target": "aqa.data.store",
    "evaluate": "aqa.scoring",
    "inspect_store": "aqa.data.inspect",
    "load_published_mcmoe": "aqa.models.published",
    "predict": "aqa.scoring",
    "report": "aqa.reporting.report",
    "run": "aqa.experiment",
    "write_store": "aqa.data.store",
}

__all__ = [
    "AqaError",
    "FeatureStore",
    "Modality",
    "Target",
    "evaluate",
    "inspect_store",
    "load_published_mcmoe",
    "models",
    "predict",
    "report",
    "run",
    "write_store",
]


def __getattr__(name: str) -> Any:
    if name == "models":
        return import_module("aqa.models")
    if name not in _HOME:
        raise AttributeError(f"module 'aqa' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
