"""Incomplete multimodal action quality assessment.

The public names load on first use, so that `import aqa` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aqa.version import __version__ as __version__

if TYPE_CHECKING:
    from aqa import models
    from aqa.errors import AqaError
    from aqa.models.published import load_published_mcmoe
    from aqa.reporting.report import report
    from aqa.runs.evaluate import evaluate, predict
    from aqa.runs.run import run
    from aqa.store.inspect import inspect_store
    from aqa.store.store import FeatureStore, Modality, Target
    from aqa.store.write import write_store

_HOME = {
    "AqaError": "aqa.errors",
    "FeatureStore": "aqa.store.store",
    "Modality": "aqa.store.store",
    "Target": "aqa.store.store",
    "evaluate": "aqa.runs.evaluate",
    "inspect_store": "aqa.store.inspect",
    "load_published_mcmoe": "aqa.models.published",
    "predict": "aqa.runs.evaluate",
    "report": "aqa.reporting.report",
    "run": "aqa.runs.run",
    "write_store": "aqa.store.write",
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
