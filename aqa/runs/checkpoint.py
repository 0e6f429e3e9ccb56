"""What a run's checkpoint holds: written, read, and made into a scorer again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from aqa.config.schema import Experiment
from aqa.errors import AqaError, first_line, needed
from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Features
from aqa.features.streaming import load_features
from aqa.models import MODELS, AQAModel, build, check, options_of_run
from aqa.models.ensemble import Ensemble
from aqa.models.language_model import reading
from aqa.models.seeds import SeedEnsemble
from aqa.runs.folder import CHECKPOINT, RunFolder
from aqa.runs.selection import UNKNOWN_SELECTION
from aqa.store.store import FeatureStore, Target
from aqa.system.files import plain
from aqa.training.loop import Progress

CHECKPOINT_FORMAT = 1


def describe_checkpoint(
    config: Experiment,
    scorer: Scorer,
    target: Target,
    progress: Progress,
    statistics: Mapping[str, Any],
    further: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The selected weights and all that scoring with them needs, in types that load without running code.

    further: what intervals are made from, of a run that has ended.
    """
    known = target.values[~np.isnan(target.values)]
    return {
        "format": CHECKPOINT_FORMAT,
        "weights": progress.best_weights,
        "model": config.model.name,
        "options": plain(check(config.model.name, config.model.options)),
        "ensemble": config.train.ensemble,
        "widths": scorer.features.widths,
        "clips": scorer.clips,
        "align": config.data.align,
        "data_clips": config.data.clips,
        "clip_seconds": known_seconds(scorer.features),
        "statistics": dict(statistics),
        "target": {"name": config.data.target, "low": target.low, "high": target.high},
        "label_range": (float(known.min()), float(known.max())),
        "selection": selection_of(config, progress, scorer.model),
        "batch_size": scorer.batch_size,
        "seed": scorer.seed,
        **(further or {}),
    }


def selection_of(config: Experiment, progress: Progress, model: AQAModel) -> dict[str, Any]:
    """What selected the weights, and its value there."""
    if config.imported:
        return dict(UNKNOWN_SELECTION)
    return {
        **config.select.model_dump(),
        "epoch": progress.best_epoch or progress.epoch,
        "value": progress.best_value,
        "epochs": progress.epoch,
        **parts_of_model(model),
    }


def known_seconds(features: Features) -> dict[str, float]:
    """How long a clip of each modality takes, of those of which it is known."""
    seconds = zip(features.modalities, features.alignment.seconds.tolist(), strict=True)
    return {m: clip for m, clip in seconds if not math.isnan(clip)}


def parts_of_model(model: AQAModel) -> dict[str, int]:
    """Of a model that combines others, what they are: so many "seeds", or the "inner_folds" of an ensemble."""
    if isinstance(model, Ensemble):
        return {"inner_folds": model.folds}
    return {"seeds": len(model.members)} if isinstance(model, SeedEnsemble) else {}


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
    ensemble: pydantic.PositiveInt = 1  # seeds
    widths: dict[str, pydantic.PositiveInt]
    clips: pydantic.PositiveInt
    align: Literal["shortest", "none", "time"]
    data_clips: pydantic.PositiveInt | None = None  # as the experiment gives them; to "time" that is another window
    clip_seconds: dict[str, pydantic.PositiveFloat] = {}  # of the store that it was trained on
    statistics: dict[str, tuple[torch.Tensor, torch.Tensor]]
    target: _TargetForm
    label_range: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]
    training_mean: pydantic.FiniteFloat | None = None  # of the labels; older versions did not record it
    batch_size: pydantic.PositiveInt
    seed: pydantic.NonNegativeInt


def read_checkpoint(folder: RunFolder) -> dict[str, Any]:
    """A finished run's checkpoint; AqaError, naming what is wrong, where it is not one of this version."""
    return checked(folder.load_checkpoint(), folder.path / CHECKPOINT, folder.plugins)


def checked(checkpoint: Any, path: Path, plugins: Sequence[str]) -> dict[str, Any]:
    """A checkpoint from a file, checked; plugins: those that its run had. AqaError as in `read_checkpoint`."""
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != CHECKPOINT_FORMAT:
        form = checkpoint.get("format") if isinstance(checkpoint, dict) else None
        raise AqaError(f"{path}: checkpoint format {form} is not {CHECKPOINT_FORMAT}, which this version reads")
    try:
        known = _CheckpointForm.model_validate(checkpoint)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise AqaError(f"{path}: {'.'.join(map(str, first['loc']))}: {needed(first)}") from None
    for modality, pair in known.statistics.items():
        width = known.widths.get(modality)
        if any(part.shape != (width,) or not part.is_floating_point() or not part.isfinite().all() for part in pair):
            raise AqaError(f"{path}: statistics.{modality} are not two finite numbers for each of {width} channels")
    if known.statistics and known.statistics.keys() != known.widths.keys():
        raise AqaError(f"{path}: statistics are of {list(known.statistics)}, the model is of {list(known.widths)}")
    for name, weight in known.weights.items():
        if weight.is_floating_point() and weight.isnan().any():
            raise AqaError(f"{path}: the weights '{name}' hold NaN")
    if plugins and known.model not in MODELS.names():
        files = " ".join(f"--plugin {plugin}" for plugin in plugins)
        raise AqaError(f"{path.parent} has a model of its user's own, '{known.model}'; name the file again: {files}")
    return dict(checkpoint)


@contextmanager
def no_larger_than(weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """A model that is built in the block may be some times as large as these weights; AqaError as soon as it is larger.

    A small file may state a model that fills the memory. A pretrained model that is read from files of this machine
    does not count: no checkpoint holds it.
    """
    tensors, numbers = 4 * len(weights) + 100, 4 * sum(weight.numel() for weight in weights.values()) + 10**6

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        if parameter is not None and not reading():
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
        clips=checkpoint.get("data_clips"),
        device=device,
        memory=memory,
        standardize=bool(checkpoint["statistics"]),
        batch_size=checkpoint["batch_size"],
        window=checkpoint["clips"],
    )
    features.standardize(checkpoint["statistics"])
    return scorer_of(checkpoint, load_model(checkpoint, device), features)


def load_model(checkpoint: Mapping[str, Any], device: torch.device) -> AQAModel:
    """The model of a checkpoint; AqaError where its weights are not of that model."""
    widths = checkpoint["widths"]
    options = options_of_run(checkpoint["model"], checkpoint["options"])
    with no_larger_than(checkpoint["weights"]):
        seeds = [build(checkpoint["model"], widths=widths, **options) for _ in range(checkpoint.get("ensemble", 1))]
        model = seeds[0] if len(seeds) == 1 else SeedEnsemble(seeds)
    try:
        model.load_state_dict(checkpoint["weights"])
    except RuntimeError as error:  # of torch: a heading, then what differs
        what = " ".join(str(error).split("\n\t")[1:2]) or first_line(error)
        raise AqaError(f"the checkpoint's weights do not fit model '{checkpoint['model']}': {what}") from None
    return model.to(device)


def scorer_of(checkpoint: Mapping[str, Any], model: AQAModel, features: Features) -> Scorer:
    """The model of a checkpoint with features, standardized as it takes them."""
    target = checkpoint["target"]
    return Scorer(
        model,
        features,
        target["low"],
        target["high"],
        checkpoint["clips"],
        checkpoint["batch_size"],
        checkpoint["seed"],
    )
