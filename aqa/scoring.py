"""Finished runs: what their checkpoint holds, and scoring with it again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pydantic
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from aqa.config import Experiment, load_experiment
from aqa.data.batches import Rows
from aqa.data.checks import require_sound
from aqa.data.store import FeatureStore, Target
from aqa.data.streaming import load_features
from aqa.errors import AqaError, first_line, nearest
from aqa.evaluation import Scorer, summary
from aqa.files import plain
from aqa.missing import parse_pattern, parse_test_patterns
from aqa.modalities import subset_name
from aqa.models import MODELS, AQAModel, build
from aqa.reporting.tables import result_table
from aqa.runs import CHECKPOINT, RunFolder
from aqa.training import Progress

CHECKPOINT_FORMAT = 1
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Result:
    """What a run or an evaluation found: the run's folder and its metrics, as in metrics.json (undefined: None).

    Printed, it is the table.
    """

    folder: Path
    metrics: dict[str, Any]
    already_finished: bool = False

    def __str__(self) -> str:
        return result_table(self.metrics)


def evaluate(
    run: str | os.PathLike[str],
    *,
    patterns: Any = None,
    store: str | os.PathLike[str] | None = None,
    split: str = "test",
    device: str = "auto",
    memory: float | None = None,
) -> Result:
    """Score a finished run's model again: under other patterns, on another store or split. Nothing is written.

    patterns: as `missing.test` in an experiment file; the run's own by default. store: a feature store with the run's
    target; the run's own by default. memory: GiB that features may take; `data.memory` of the run by default. AqaError
    for any mistake.
    """
    chosen_device = pick_device(device)
    folder = RunFolder.existing(run)
    config = load_experiment(folder.config)
    checkpoint = read_checkpoint(folder)
    with FeatureStore(store or config.data.store) as opened:
        target = opened.target(checkpoint["target"]["name"])
        rows = labelled(opened.split(split), target)
        require_sound(opened, checkpoint["target"]["name"], {split: rows})
        scorer = load_scorer(checkpoint, opened, chosen_device, config.data.memory if memory is None else memory)
    if not len(rows):
        raise AqaError(
            f"{store or config.data.store}: no video of split '{split}' has a label for {config.data.target}"
        )
    asked = config.missing.test if patterns is None else patterns
    chosen = parse_test_patterns(asked, scorer.features.modalities, "patterns")
    predictions = scorer.predict(rows, chosen)
    found = summary(predictions, target.values[rows], chosen, target, checkpoint["label_range"], scorer.seed)
    metrics, kept = folder.metrics, ("selection", "target", "model", "seed")
    lacking = [key for key in kept if key not in metrics]
    if lacking:
        raise AqaError(f"{folder.path}: metrics.json has no {lacking[0]}")
    about = {key: metrics[key] for key in kept}
    return Result(folder.path, plain({**found, **about, "split": split}))


def predict(
    run: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    split: str | None = None,
    device: str = "auto",
    memory: float | None = None,
) -> pd.DataFrame:
    """Scores of a finished run's model for the videos of a store, labelled or not, by whichever modalities they have.

    Returns a row a video: id; visible, the modalities that were there, such as "VA"; score in the target's units, NaN
    where there was none. split: only this one; all videos by default. memory: GiB that features may take; `data.memory`
    of the run by default. AqaError for any mistake.
    """
    chosen_device = pick_device(device)
    folder = RunFolder.existing(run)
    checkpoint = read_checkpoint(folder)
    memory = load_experiment(folder.config).data.memory if memory is None else memory
    with FeatureStore(store) as opened:
        rows = np.arange(len(opened)) if split is None else opened.split(split)
        scorer = load_scorer(checkpoint, opened, chosen_device, memory)
    features = scorer.features
    scores = scorer.predict(rows, {"available": parse_pattern("none", features.modalities, "patterns")})["available"]
    visible = [subset_name(features.modalities, features.available[row].tolist()) for row in rows]
    return pd.DataFrame({"id": [features.ids[row] for row in rows], "visible": visible, "score": scores})


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device to compute on; "auto" takes a GPU where there is one. AqaError for a GPU that is not there."""
    if name not in DEVICES:
        raise AqaError(f"unknown device '{name}': {nearest(name, DEVICES)}")
    if threads is not None:
        torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise AqaError("device cuda: torch sees no GPU here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def build_model(name: str, widths: Mapping[str, int], options: Mapping[str, Any], align: str) -> AQAModel:
    """A freshly initialised model; AqaError where it cannot take streams of different lengths and would get them."""
    model = build(name, widths=widths, **options)
    if align == "none" and not model.takes_unaligned:
        raise AqaError(f"data.align: model '{name}' needs aligned streams; use shortest")
    return model


def labelled(rows: Rows, target: Target) -> Rows:
    """Those of the rows that have a label."""
    return rows[~np.isnan(target.values[rows])]


def describe_checkpoint(
    config: Experiment, scorer: Scorer, target: Target, progress: Progress, statistics: Mapping[str, Any]
) -> dict[str, Any]:
    """The selected weights and all that scoring with them needs, in types that load without running code."""
    known = target.values[~np.isnan(target.values)]
    return {
        "format": CHECKPOINT_FORMAT,
        "weights": progress.best_weights,
        "model": config.model.name,
        "options": config.model.options,
        "widths": scorer.features.widths,
        "clips": scorer.clips,
        "align": config.data.align,
        "statistics": dict(statistics),
        "target": {"name": config.data.target, "low": target.low, "high": target.high},
        "label_range": (float(known.min()), float(known.max())),
        "selection": {
            **config.select.model_dump(),
            "epoch": progress.best_epoch or progress.epoch,
            "value": progress.best_value,
            "epochs": progress.epoch,
        },
        "batch_size": scorer.batch_size,
        "seed": scorer.seed,
    }


class _TargetForm(pydantic.BaseModel):
    name: str
    low: pydantic.FiniteFloat
    high: pydantic.FiniteFloat


class _CheckpointForm(pydantic.BaseModel):
    """What `describe_checkpoint` writes, as far as scoring needs it."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True, strict=True)
    weights: dict[str, torch.Tensor]
    model: str
    options: dict[str, Any]
    widths: dict[str, pydantic.PositiveInt]
    clips: pydantic.PositiveInt
    align: Literal["shortest", "none"]
    statistics: dict[str, tuple[torch.Tensor, torch.Tensor]]
    target: _TargetForm
    label_range: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]
    batch_size: pydantic.PositiveInt
    seed: pydantic.NonNegativeInt


def read_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """A finished run's checkpoint; AqaError, naming what is wrong, where it is not one of this version."""
    path = folder.path / CHECKPOINT
    checkpoint = folder.load_checkpoint()
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != CHECKPOINT_FORMAT:
        form = checkpoint.get("format") if isinstance(checkpoint, dict) else None
        raise AqaError(f"{path}: checkpoint format {form} is not {CHECKPOINT_FORMAT}, which this version reads")
    try:
        known = _CheckpointForm.model_validate(checkpoint)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AqaError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    for modality, pair in known.statistics.items():
        width = known.widths.get(modality)
        if any(part.shape != (width,) or not part.is_floating_point() or not part.isfinite().all() for part in pair):
            raise AqaError(f"{path}: statistics.{modality} are not two finite numbers for each of {width} channels")
    if known.statistics and known.statistics.keys() != known.widths.keys():
        raise AqaError(f"{path}: statistics are of {list(known.statistics)}, the model is of {list(known.widths)}")
    for name, weight in known.weights.items():
        if weight.is_floating_point() and weight.isnan().any():
            raise AqaError(f"{path}: the weights '{name}' hold NaN")
    if folder.plugins and known.model not in MODELS.names():
        files = " ".join(f"--plugin {plugin}" for plugin in folder.plugins)
        raise AqaError(f"{folder.path} has a model of its user's own, '{known.model}'; name the file again: {files}")
    return checkpoint


@contextmanager
def no_larger_than(weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """A model that is built in the block may be some times as large as these weights; AqaError as soon as it is larger.

    A small file may state a model that fills the memory.
    """
    tensors, numbers = 4 * len(weights) + 100, 4 * sum(weight.numel() for weight in weights.values()) + 10**6

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        if parameter is not None:
            tensors, numbers = tensors - 1, numbers - parameter.numel()
        if tensors < 0 or numbers < 0:
            raise AqaError("the checkpoint's options make a larger model than its weights are of")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # of torch: one tensor that no memory holds
        raise AqaError(f"the checkpoint's model cannot be built: {first_line(error)}") from None
    finally:
        handle.remove()


def load_scorer(
    checkpoint: Mapping[str, Any], store: FeatureStore, device: torch.device, memory: float | None = None
) -> Scorer:
    """The model of a checkpoint with the features of a store, which may lack some of its modalities.

    memory: GiB that features may take, all that is free by default.
    """
    widths = checkpoint["widths"]
    if not set(widths) & set(store.modalities):
        raise AqaError(f"{store.path} has none of the model's modalities ({', '.join(widths)})")
    features = load_features(
        store,
        modalities=list(widths),
        widths=widths,
        align=checkpoint["align"],
        device=device,
        memory=memory,
        standardise=bool(checkpoint["statistics"]),
        batch_size=checkpoint["batch_size"],
        clips=checkpoint["clips"],
    )
    features.standardise(checkpoint["statistics"])
    with no_larger_than(checkpoint["weights"]):
        model = build(checkpoint["model"], widths=widths, **checkpoint["options"])
    try:
        model.load_state_dict(checkpoint["weights"])
    except RuntimeError as error:  # of torch: a heading, then what differs
        what = " ".join(str(error).split("\n\t")[1:2]) or first_line(error)
        raise AqaError(f"the checkpoint's weights do not fit model '{checkpoint['model']}': {what}") from None
    target = checkpoint["target"]
    return Scorer(
        model.to(device),
        features,
        target["low"],
        target["high"],
        checkpoint["clips"],
        checkpoint["batch_size"],
        checkpoint["seed"],
    )
