"""Incomplete multimodal action quality assessment.

The public names load on first use, so that `import aqa` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aqa.version import __version__ as __version__

if TYPE_CHECKING:
    from aqa import models
    from aqa.data_prep.prepare import prepare
    from aqa.errors import AqaError
    from aqa.exporting.export import export
    from aqa.models.published import load_published, load_published_mcmoe
    from aqa.reporting.card import Card, card
    from aqa.reporting.explanation import explain
    from aqa.reporting.report import report
    from aqa.reporting.worth import worth
    from aqa.runs.evaluate import Result, evaluate, predict
    from aqa.runs.importing import import_published
    from aqa.runs.loaded import ScoreInterval, VideoScorer, load
    from aqa.runs.run import run
    from aqa.store.inspect import Inspection, inspect
    from aqa.store.store import FeatureStore, Modality, Target
    from aqa.store.write import write_store
    from aqa.sweeps.sweep import SweepResult, sweep
    from aqa.sweeps.tune import TuneResult, tune

_HOME = {
    "AqaError": "aqa.errors",
    "Card": "aqa.reporting.card",
    "FeatureStore": "aqa.store.store",
    "Inspection": "aqa.store.inspect",
    "Modality": "aqa.store.store",
    "Result": "aqa.runs.evaluate",
    "ScoreInterval": "aqa.runs.loaded",
    "SweepResult": "aqa.sweeps.sweep",
    "Target": "aqa.store.store",
    "TuneResult": "aqa.sweeps.tune",
    "VideoScorer": "aqa.runs.loaded",
    "card": "aqa.reporting.card",
    "evaluate": "aqa.runs.evaluate",
    "explain": "aqa.reporting.explanation",
    "export": "aqa.exporting.export",
    "import_published": "aqa.runs.importing",
    "inspect": "aqa.store.inspect",
    "inspect_store": "aqa.store.inspect",  # as `inspect` was called in 0.1
    "load": "aqa.runs.loaded",
    "load_published": "aqa.models.published",
    "load_published_mcmoe": "aqa.models.published",
    "predict": "aqa.runs.evaluate",
    "prepare": "aqa.data_prep.prepare",
    "report": "aqa.reporting.report",
    "run": "aqa.runs.run",
    "sweep": "aqa.sweeps.sweep",
    "tune": "aqa.sweeps.tune",
    "worth": "aqa.reporting.worth",
    "write_store": "aqa.store.write",
}

__all__ = [
    "AqaError",
    "Card",
    "FeatureStore",
    "Inspection",
    "Modality",
    "Result",
    "ScoreInterval",
    "SweepResult",
    "Target",
    "TuneResult",
    "VideoScorer",
    "card",
    "evaluate",
    "explain",
    "export",
    "import_published",
    "inspect",
    "load",
    "load_published",
    "load_published_mcmoe",
    "models",
    "predict",
    "prepare",
    "report",
    "run",
    "sweep",
    "tune",
    "worth",
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
