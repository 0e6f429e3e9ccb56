"""What an experiment file may say: the only place where its keys and defaults are written."""

from __future__ import annotations

import hashlib
import json
import math
import re
import string
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from aqa.errors import AqaError, brief
from aqa.names import as_file_name, check_file_name

PLACEHOLDER_FORMAT = r"0?\d{0,2}d?"  # what may follow a placeholder's colon: {seed:03d}

# Whole numbers that any array library can count with; torch's and numpy's generators take seeds of 63 bits.
MOST, SEEDS = 2**31, 2**63


class StrictConfig(pydantic.BaseModel):
    """A part of an experiment file in which unknown keys are mistakes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _one_line(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError("control characters and line breaks are not accepted in a name")
    return text


Name = Annotated[str, pydantic.AfterValidator(_one_line)]


class FoldsConfig(StrictConfig):
    """Cross-validation: which videos are tested together, by a model that was trained on the others.

    One of count, leave_out and column says how the folds are made. Names are those of groups in the store.
    """

    count: int | None = Field(None, ge=2, lt=MOST)  # so many folds, drawn by `seed`
    leave_out: str | None = None  # a fold per label of this group: leave one surgeon out
    column: str | None = None  # this group says the fold of each video: published folds
    group: str | None = None  # with count: no label of this group in two folds; with column: that this holds
    repeats: int = Field(1, ge=1, lt=1000)  # with count: how often the folds are drawn anew
    stratify: bool = False  # with count: like distributions of labels in all folds; the draw then follows the labels
    seed: int = Field(0, ge=0, lt=SEEDS)  # of the draw, whatever `train.seed` is
    of: list[str] | None = Field(None, min_length=1)  # the splits whose videos take part; all videos by default
    fold: int | None = Field(None, ge=0, lt=MOST)  # run this fold alone

    @pydantic.model_validator(mode="after")
    def _made_in_one_way(self) -> FoldsConfig:
        ways = [name for name in ("count", "leave_out", "column") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give one of count, leave_out and column, not {' and '.join(ways) or 'none of them'}")
        if self.leave_out is not None and self.group is not None:
            raise ValueError("leave_out has its own group; leave out `group`")
        for name in ("repeats", "stratify", "seed"):
            if self.count is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} goes with count only; nothing is drawn with {ways[0]}")
        return self

    @property
    def whose(self) -> str | None:
        """The group whose videos stay together, in the validation split and in the bootstrap; None: each by itself."""
        return self.group if self.leave_out is None else self.leave_out


class DataConfig(StrictConfig):
    """Where features come from and how videos become windows of clips."""

    store: Name  # an HDF5 feature store; relative to the experiment file or the working folder
    target: Name  # the score to predict, a name under `targets` in the store
    synthetic: str | None = None  # a preset of `aqa prepare synthetic`, made at `store` where there is no file yet
    clips: int | None = Field(None, ge=1, lt=MOST)  # window length; the longest training video's where it is not given
    modalities: list[str] | None = Field(None, min_length=1)  # which streams, in which order; the store's by default
    align: Literal["shortest", "none", "time"] = "shortest"  # how streams of different lengths go together
    standardize: bool = False  # channels to zero mean and unit deviation, by the training split's statistics
    validation: float = Field(0.2, gt=0, lt=1)  # share of train cut off where there is no split `valid`
    memory: float | None = Field(None, gt=0, lt=MOST)  # GiB that features may take; a larger store is read in blocks
    folds: FoldsConfig | None = None  # cross-validation in place of the store's splits
    learn_also: Literal["all"] | list[str] | None = None  # other targets whose labels of training videos teach too

    @pydantic.field_validator("learn_also")
    @classmethod
    def _others_once(cls, names: Any) -> Any:
        if isinstance(names, list) and (not names or len(set(names)) < len(names)):
            raise ValueError("a target is listed twice" if names else "name a target, or leave it out")
        return names

    @pydantic.field_validator("modalities")
    @classmethod
    def _each_once(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a modality is listed twice")
        return names


def _finite(value: Any) -> Any:
    """A value of any kind as it is; ValueError where a number in it is NaN or infinite."""
    if isinstance(value, Mapping):
        for inner in value.values():
            _finite(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _finite(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    return value


class ModelConfig(pydantic.BaseModel):
    """A registered model and its own options, which the model checks."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)
    name: str = "mcmoe"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _finite_options(cls, content: Any) -> Any:
        return _finite(content)

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class MissingConfig(StrictConfig):
    """Which modalities are missing, in training and in testing."""

    train: Any = "random_subset"
    test: Any = "all_subsets"

    @pydantic.field_validator("train", "test")
    @classmethod
    def _finite_numbers(cls, pattern: Any) -> Any:
        return _finite(pattern)


class PartConfig(StrictConfig):
    """How a part of the model learns that learns in its own way."""

    learning_rate_factor: float = Field(1.0, gt=0)  # times train.learning_rate
    weight_decay: float | None = Field(None, ge=0)  # train.weight_decay where it is not given


Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["cosine", "step", "constant"]


def _epochs(given: Any) -> Any:
    numbers = given if isinstance(given, list) else [given]
    if given is None:
        return None
    if not numbers or any(type(number) is not int or not 1 <= number < MOST for number in numbers):
        raise ValueError(f"a whole number of epochs is needed, or a list of them, 1 or more each, got {brief(given)}")
    return given


Steps = Annotated[int | list[int] | None, pydantic.BeforeValidator(_epochs)]


class StageConfig(StrictConfig):
    """A stage of training, which begins with a new optimizer. What is not given is as under `train`."""

    epochs: float | None = Field(None, gt=0, lt=MOST)  # below 1 a share of all; the last stage has what is left
    optimizer: Optimizer | None = None
    momentum: float | None = Field(None, ge=0, lt=1)
    nesterov: bool | None = None
    learning_rate: float | None = Field(None, gt=0)
    schedule: Schedule | None = None
    final_learning_rate: float | None = Field(None, ge=0, le=1)
    warmup: int | None = Field(None, ge=0, lt=MOST)
    steps: Steps = None
    step_factor: float | None = Field(None, gt=0, le=1)
    weight_decay: float | None = Field(None, ge=0)
    gradient_clip: float | None = Field(None, gt=0)


class TrainConfig(StrictConfig):
    """The training loop. The defaults are those of MCMoE as published for Fis-V."""

    epochs: int = Field(100, ge=1, lt=MOST)
    batch_size: int = Field(32, ge=1, lt=MOST)
    optimizer: Optimizer = "adam"
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd
    nesterov: bool = False  # of sgd
    learning_rate: float = Field(2e-4, gt=0)
    schedule: Schedule = "cosine"  # of the learning rate over the epochs
    final_learning_rate: float = Field(0.01, ge=0, le=1)  # where cosine decay ends, as a share of learning_rate
    warmup: int = Field(0, ge=0, lt=MOST)  # epochs in which the rate rises, before the schedule begins
    steps: Steps = None  # of schedule step: after which epochs, or every so many
    step_factor: float = Field(0.1, gt=0, le=1)  # of schedule step: what the rate is multiplied by
    weight_decay: float = Field(1e-4, ge=0)
    parts: dict[str, PartConfig] = {}  # parts of the model with a rate or weight decay of their own
    gradient_clip: float | None = Field(None, gt=0)  # largest norm of the gradient
    stages: list[StageConfig] = []  # each begins with a new optimizer and its own schedule
    patience: int | None = Field(None, ge=1, lt=MOST)  # stop after so many epochs without a better selection metric
    seed: int = Field(0, ge=0, lt=SEEDS)
    ensemble: int = Field(1, ge=1, le=100)  # so many models, from seeds `seed` and up, whose mean score is the score
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, lt=MOST)  # torch's CPU threads; torch's own choice where not given
    precision: Literal["float32", "tf32", "bf16"] = "float32"  # of training; scoring is in float32
    compile: bool = False  # the loss by torch.compile, on a GPU as a CUDA graph

    def by_stage(self) -> list[TrainConfig]:
        """The settings of each stage, its own number of epochs among them; ValueError where they do not fit."""
        lengths = []
        for stage in self.stages[:-1]:
            if stage.epochs is None:
                raise ValueError("every stage but the last needs `epochs`")
            lengths.append(round(stage.epochs * self.epochs) if stage.epochs < 1 else round(stage.epochs))
        if self.stages and self.stages[-1].epochs is not None:
            raise ValueError("the last stage has the epochs that are left; leave out its `epochs`")
        lengths.append(self.epochs - sum(lengths))
        if min(lengths) < 1:
            raise ValueError(f"stages of {lengths[:-1]} epochs and a last one do not fit into {self.epochs} epochs")
        given = [stage.model_dump(exclude_none=True) for stage in self.stages] or [{}]
        return [
            self.model_copy(update={**own, "epochs": length, "stages": []})
            for own, length in zip(given, lengths, strict=True)
        ]

    @pydantic.model_validator(mode="after")
    def _keys_that_go_together(self) -> TrainConfig:
        each = self.by_stage()
        for stage in each:
            if stage.schedule == "step" and not stage.steps:
                raise ValueError("schedule step needs `steps`: after which epochs, or every so many")
            if stage.optimizer == "sgd" and stage.nesterov and not stage.momentum:
                raise ValueError("nesterov needs a momentum")
        needs = {"momentum": "sgd", "nesterov": "sgd", "steps": "step", "step_factor": "step"}
        for key, what in {**needs, "final_learning_rate": "cosine"}.items():
            kind = "optimizer" if what == "sgd" else "schedule"
            for stage in each:
                default = type(self).model_fields[key].default
                if getattr(stage, key) != default and all(getattr(other, kind) != what for other in each):
                    raise ValueError(f"{key} goes with {kind} {what} only")
        return self


#: Keys that came after runs were made, and what those runs did: they are not to be taken for other experiments.
DEFAULTS_OF_OLDER_RUNS: Mapping[str, Any] = {
    "train.precision": "float32",
    "train.compile": False,
    "train.ensemble": 1,
    "train.momentum": 0.9,
    "train.nesterov": False,
    "train.schedule": "cosine",
    "train.warmup": 0,
    "train.steps": None,
    "train.step_factor": 0.1,
    "train.parts": {},
    "train.stages": [],
    "data.folds": None,
    "data.learn_also": None,
    "evaluate.metrics": [],
    "evaluate.intervals": True,
    "evaluate.level": 0.9,
}


#: Keys that make it no other experiment: where the store lies, whose content counts, and threads, which change the
#: last digits of numbers and are recorded with the versions.
NOT_OF_THE_EXPERIMENT = ("data.store", "train.threads")
NOT_OF_THE_NUMBERS = {
    *("targets", "output", "save_every", "figures", "tracking"),
    *("fingerprint", "store_was_at", "versions", "model_options", "imported"),
}
SHOWN_OF_A_NAME = 60  # bytes of a store's, target's or model's name in the name of a run, which ends in a hash
FINGERPRINT_SHOWN = 8  # characters of a fingerprint in names and messages


class SelectConfig(StrictConfig):
    """Which epoch's weights are kept. `split: test` is the published protocol, and is labelled so everywhere."""

    split: str = "valid"
    metric: Literal["srcc", "mse"] = "srcc"
    pattern: str = "complete"  # a subset such as VA, or `average`: over the incomplete subsets


class EvaluateConfig(StrictConfig):
    """What is said of the scores beside SRCC, MSE and R-l2."""

    metrics: list[str] = []  # further measures, such as mae or quadratic_kappa
    intervals: bool = True  # a bootstrap interval for each of them
    level: float = Field(0.9, gt=0, lt=1)  # of the interval of each score

    @pydantic.field_validator("metrics")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError("a metric is listed twice")
        return names


class TrackingConfig(StrictConfig):
    """Weights & Biases."""

    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "aqa"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = []


class Experiment(StrictConfig):
    """A whole experiment file.

    name may hold {target}, {model} and {seed}; it names the run's folder, runs/NAME, where `output` does not.
    targets: overrides by target name, applied for the target chosen.
    """

    name: Name
    data: DataConfig
    model: ModelConfig = ModelConfig()
    missing: MissingConfig = MissingConfig()
    train: TrainConfig = TrainConfig()
    select: SelectConfig = SelectConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    tracking: TrackingConfig = TrackingConfig()
    targets: dict[str, dict[str, Any]] = {}
    output: Name | None = None
    save_every: float | None = Field(None, ge=0)  # seconds between saved states; a default where not given
    figures: bool = True  # drawn at the end of a run, which takes seconds
    # Written into a run's config.yaml; these say nothing to a new run.
    fingerprint: str | None = None  # of what was in the store
    store_was_at: str | None = None  # its path then; data.store is relative to the run's folder there
    versions: dict[str, str] = {}
    model_options: dict[str, Any] = {}  # all of them, defaults filled in
    imported: dict[str, str] = {}  # of a checkpoint that was imported: its method, file and digest

    @property
    def title(self) -> str:
        """The name with its placeholders filled in, which can name a folder; a target's or model's name is escaped."""
        target, model = as_file_name(self.data.target), as_file_name(self.model.name)
        values = {"target": target, "model": model, "seed": self.train.seed}
        known = ", ".join("{" + v + "}" for v in values)
        try:
            for _, value, how, conversion in string.Formatter().parse(self.name):
                if value is not None and (
                    value not in values or conversion or not re.fullmatch(PLACEHOLDER_FORMAT, how or "")
                ):
                    raise ValueError
            title = self.name.format(**values)
        except ValueError:
            raise AqaError(f"name: {brief(self.name)} has a placeholder that is not one of {known}") from None
        check_file_name(title, "name")
        return title

    def unique_name(self, fingerprint: str | None) -> str:
        """Data, target, model, seed, a hash of the settings that decide the run's numbers, and the store's content.

        fingerprint: the store's (`aqa.store.fingerprint`); None if there is no store yet.
        """
        name = self._name_by_settings(threads=None)
        return name if fingerprint is None else f"{name}-{fingerprint[:FINGERPRINT_SHOWN]}"

    @property
    def earlier_name(self) -> str:
        """The name that version 0.1 gave the run: without the store's content, and with the threads asked for."""
        return self._name_by_settings(self.train.threads)

    def _name_by_settings(self, threads: int | None) -> str:
        resolved = self.resolved()
        store = Path(self.data.store).stem
        resolved["data"]["store"] = store  # where the file lies decides nothing
        resolved["train"]["threads"] = threads
        del resolved["name"]
        for key, before in DEFAULTS_OF_OLDER_RUNS.items():
            section, name = key.split(".")
            if resolved[section][name] == before:
                del resolved[section][name]
        resolved = {section: settings for section, settings in resolved.items() if settings != {}}
        digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:8]
        parts = [as_file_name(part, SHOWN_OF_A_NAME) for part in (store, self.data.target, self.model.name)]
        return f"{'-'.join(parts)}-seed{self.train.seed}-{digest}"

    def resolved(self) -> dict[str, Any]:
        """The settings of a run, defaults filled in."""
        return self.model_dump(mode="json", exclude=NOT_OF_THE_NUMBERS)
