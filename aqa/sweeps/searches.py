"""From a tune file to searches: which models on which experiments, over which settings, all with the same budget."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

import aqa
from aqa.config.load import load_experiment, validated
from aqa.config.schema import SEEDS, Experiment, FoldsConfig, StrictConfig, TrackingConfig
from aqa.config.text_keys import Answer, experiment_takes_text, takes_text
from aqa.config.yaml import read_yaml
from aqa.errors import AqaError, brief, nearest
from aqa.models import MODELS
from aqa.names import as_file_name, check_file_name
from aqa.runs.cross_validation import require_no_folds
from aqa.runs.folder import flat
from aqa.runs.load import load, require_prepared
from aqa.runs.prepare import chosen_modalities, inner_folds, make_store, split_rows, splits_of, without_labels
from aqa.store.fingerprint import fingerprint_of
from aqa.store.store import FeatureStore, Target
from aqa.sweeps.grid import EVERY, Point, Settings, targets_of
from aqa.sweeps.selecting import require_unlearned, require_validation
from aqa.sweeps.space import Space, described, parse_space
from aqa.system.saying import Say, silent

SHIPPED = Path("experiments") / "tune"  # the default search space of every model, MODEL.yaml
#: Settings of the base experiment that make it no other search.
NOT_OF_THE_SEARCH = (
    *("name", "data.store", "train.threads", "train.device", "save_every", "figures"),
    *("evaluate.metrics", "evaluate.intervals", "evaluate.level"),
)


class Tune(StrictConfig):
    """A tune file.

    experiments: base experiment files, relative to the tune file. targets: each is searched by itself; `all`: those of
    the experiment, of its store where it lists none. models: each is searched on each experiment and target. Both are
    the experiment's own where not given. set: settings of every trial, by dotted key. space: what is searched, by
    dotted key; spaces: the same for one model, or the tune file that has it. A model without either has its default
    space, experiments/tune/MODEL.yaml. replace: what is searched in place of what the spaces say that have the key.
    trials: of each search. seed: of the search; seeds: train.seed of the runs of
    the best settings. prune_after: epochs that every trial is trained at least. folds: inner folds of the videos that
    otherwise train and select, whose mean is the objective then.
    """

    name: str
    experiments: list[str] = Field(min_length=1)
    targets: list[str] | Literal["all"] | None = None
    models: list[str] | None = Field(None, min_length=1)
    set: Settings = Field(default_factory=dict)
    space: dict[str, Any] | None = Field(None, min_length=1)
    spaces: dict[str, str | dict[str, Any]] = Field(default_factory=dict)
    replace: dict[str, Any] = Field(default_factory=dict)
    trials: int = Field(20, ge=1, le=10**4)
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "halving", "none"] = "median"
    folds: FoldsConfig | None = None
    prune_after: int = Field(5, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    output: str | None = None  # the folder of the search; runs/NAME where not given

    @pydantic.field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        try:
            check_file_name(name, "it")
        except AqaError as error:
            raise ValueError(str(error)) from None
        return name

    @pydantic.field_validator("folds")
    @classmethod
    def _of_all_that_is_seen(cls, folds: FoldsConfig | None) -> FoldsConfig | None:
        for key in ("of", "fold"):
            if folds is not None and getattr(folds, key) is not None:
                raise ValueError(f"leave out `{key}`: every inner fold is run, of the videos that train and select")
        return folds

    @pydantic.field_validator("targets", mode="before")
    @classmethod
    def _all_or_a_list(cls, targets: Any) -> Any:
        if targets == [] or (isinstance(targets, str) and targets != EVERY):
            raise ValueError("write a list of one or more targets, or `all`")
        return targets

    @pydantic.field_validator("targets", "models", "seeds")
    @classmethod
    def _each_once(cls, values: Any) -> Any:
        twice = [value for value, count in Counter(values if isinstance(values, list) else ()).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0]} is listed twice")
        return values

    @pydantic.field_validator("seeds")
    @classmethod
    def _can_be_seeds(cls, seeds: list[int]) -> list[int]:
        if any(not 0 <= seed < SEEDS for seed in seeds):
            raise ValueError("a seed is 0 or more")
        return seeds


@dataclass(frozen=True)
class TuneFile:
    """A tune file that was read: its path, what it says, and the line of each key."""

    path: Path
    plan: Tune
    lines: Mapping[str, int]

    def place(self, key: str) -> str:
        """Where a dotted key is, for messages."""
        around = (key.rsplit(".", i)[0] for i in range(key.count(".") + 1))
        line = next((self.lines[name] for name in around if name in self.lines), None)
        return str(self.path) if line is None else f"{self.path}, line {line}"


@dataclass(frozen=True)
class Search:
    """The search for the settings of one model on one target of an experiment.

    name: of its folder. place: experiment, target and model. path: the experiment file. fixed: settings of every trial.
    experiment: what trials are, but for what is searched. fingerprint: of the store; "" where it is still to be made.
    inner_folds: what selects in each run of a trial: an inner fold, or None for the split that selects.
    """

    name: str
    place: Mapping[str, str]
    path: Path
    fixed: Settings
    space: Space
    experiment: Experiment
    fingerprint: str
    inner_folds: tuple[FoldsConfig | None, ...] = (None,)

    @property
    def on_test(self) -> bool:
        """Whether settings are selected on the test split, by the experiment's own published protocol."""
        return self.experiment.select.split == "test"

    @property
    def highest_is_best(self) -> bool:
        """Whether the selection metric is one of which more is better."""
        return self.experiment.select.metric != "mse"

    @property
    def metric(self) -> str:
        """The objective in words."""
        select, count = self.experiment.select, len(self.inner_folds)
        on = "TEST" if self.on_test else select.split if count == 1 else f"{count} inner folds"
        return f"{select.metric.upper()} ({select.pattern}) on {on}"

    @property
    def shares_features(self) -> bool:
        """Whether all trials see the same features, standardized alike."""
        return not any(key.startswith(("data.", "missing.")) for key in self.space)

    def trial(self, values: Mapping[str, Any], output: Path) -> Experiment:
        """The experiment of a trial. It is not tracked: what is logged is the runs of the best settings."""
        experiment = load(self.path, {**self.fixed, **values, "output": str(output)}, silent)
        return experiment.model_copy(update={"tracking": TrackingConfig()})

    def refits(self, values: Mapping[str, Any], seeds: Sequence[int]) -> list[Point]:
        """The runs of the best settings, one a seed."""
        points = []
        for seed in seeds:
            experiment = load(self.path, {**self.fixed, **values, "train.seed": seed}, silent)
            name = experiment.unique_name(self.fingerprint)
            points.append(Point({**self.place, "train.seed": seed}, experiment, name, self.fingerprint))
        return points

    def identity(self, plan: Tune) -> dict[str, Any]:
        """What makes it this search: another one may not go on in its folder."""
        settings = flat(json.loads(self.experiment.model_dump_json(exclude={"targets", "output", "tracking"})))
        kept = {
            key: value
            for key, value in settings.items()
            if key not in NOT_OF_THE_SEARCH
            and not any(key == searched or key.startswith(f"{searched}.") for searched in self.space)
        }
        about = plan.model_dump(include={"sampler", "pruner", "prune_after", "seed", "folds"})
        space = {f"space.{key}": text for key, text in described(self.space).items()}
        return {**kept, **about, **space, "fingerprint": self.fingerprint}


def load_tune(path: str | os.PathLike[str]) -> TuneFile:
    """A tune file; AqaError, one line naming the file, the key and the nearest right one, for what is none."""
    path = Path(path)
    content, lines = read_yaml(path, tune_takes_text)
    if "experiments" not in content and "data" in content:
        raise AqaError(f"{path} is an experiment file; run it with: aqa run {path}")
    if "grid" in content:
        raise AqaError(f"{path} is a sweep file; run it with: aqa sweep {path}")
    plan = validated(Tune, content, str(path), {key: f"{path}, line {line}" for key, line in lines.items()})
    return TuneFile(path, plan, lines)


def tune_takes_text(path: Sequence[str]) -> Answer:
    """Which keys of a tune file are text: its own, and the dotted keys of an experiment."""
    match list(path):
        case ["space" | "replace", key, index, *rest] | ["spaces", _, key, index, *rest] if index.isdigit():
            return experiment_takes_text([*key.split("."), *rest])
        case ["space" | "replace", _, *_] | ["spaces", _, _, *_]:
            return "no"
        case ["set", key, *rest]:
            return experiment_takes_text([*key.split("."), *rest])
    return takes_text(Tune, path)


def searches_of(file: TuneFile, make: bool = True, say: Say = silent) -> list[Search]:
    """The searches of a tune file; AqaError for one that cannot be, before anything is written.

    make: whether synthetic stores that do not exist yet are made.
    """
    found: dict[str, Search] = {}
    for experiment in file.plan.experiments:
        path = file.path.parent / experiment
        models: Sequence[str | None] = file.plan.models or [None]
        for target, model in itertools.product(_targets(file, path, make, say), models):
            search = _search(file, path, target, model, make, say)
            if search.name in found:
                raise AqaError(f"{file.path}: two searches are called {search.name}; name one of the files otherwise")
            found[search.name] = search
    for model in file.plan.spaces:
        if model not in {search.place["model"] for search in found.values()}:
            raise AqaError(f"{file.place(f'spaces.{model}')}: spaces: no model '{model}' is searched")
    for key in file.plan.replace:
        known = {key for search in found.values() for key in search.space}
        if key not in known:
            raise AqaError(f"{file.place(f'replace.{key}')}: replace: no space has {brief(key)}: {nearest(key, known)}")
    return list(found.values())


def _targets(file: TuneFile, path: Path, make: bool, say: Say) -> Sequence[str | None]:
    """The targets that are searched on an experiment file; None stands for its own."""
    asked = file.plan.targets
    if asked is not None and "data.target" in file.plan.set:
        raise AqaError(f"{file.place('set.data.target')}: data.target is set, and targets are listed; leave out one")
    if asked != EVERY:
        return asked or [None]
    if make:
        make_store(load_experiment(path, _of_data(file.plan.set)), say)
    return targets_of(path, _of_data(file.plan.set))


def _search(file: TuneFile, path: Path, target: str | None, model: str | None, make: bool, say: Say) -> Search:
    """The search on one experiment file; target, model: the experiment's own where they are None."""
    of_target = {} if target is None else {"data.target": target}
    own = load_experiment(path, {**_of_data(file.plan.set), **of_target})
    if model is not None and model not in MODELS.names():
        raise AqaError(f"{file.place('models')}: {_unknown_model(model)}")
    name = model or str(file.plan.set.get("model.name", own.model.name))
    space, settings = _space_of(file, name)
    space = {**space, **{key: span for key, span in _replacing(file).items() if key in space}}
    fixed = {"tracking.group": file.plan.name, **settings, **file.plan.set, **of_target}
    if model is not None:
        fixed["model.name"] = model
    for key in space:
        if key in file.plan.set:
            raise AqaError(f"{file.place(f'set.{key}')}: {key} is both set and searched; leave out one of them")
    experiment = load(path, fixed, say)
    require_validation(own, experiment, file.place)
    require_unlearned(experiment, f"{file.place('set.model.learn_from')}: ")
    _check_space(file, path, fixed, space, name)
    if make:
        make_store(experiment, say)
    to_be_made = experiment.data.synthetic is not None and not Path(experiment.data.store).exists()
    named = (path.stem, name) if target is None else (path.stem, target, name)
    return Search(
        "-".join(map(as_file_name, named)),
        {"experiment": path.stem, "target": experiment.data.target, "model": name},
        path,
        fixed,
        space,
        experiment,
        *(("",) if to_be_made else _checked_store(experiment, file)),
    )


def _of_data(settings: Mapping[str, Any]) -> Settings:
    """Those settings that name the data: without a target, some experiment files are not whole."""
    return {key: value for key, value in settings.items() if key.startswith("data")}


def _unknown_model(name: str) -> str:
    try:
        MODELS.get(name)
    except AqaError as error:
        return str(error)
    return ""


def _space_of(file: TuneFile, model: str) -> tuple[Space, Settings]:
    """The space of a model, and the settings that go with its default one."""
    given = file.plan.spaces.get(model)
    if isinstance(given, dict):
        return parse_space(given, lambda key: file.place(f"spaces.{model}.{key}")), {}
    if given is not None:
        return _space_in(file.path.parent / given)
    if file.plan.space is not None:
        return parse_space(file.plan.space, lambda key: file.place(f"space.{key}")), {}
    name = SHIPPED / f"{model}.yaml"
    known = [root / name for root in (Path(aqa.__file__).parents[1], Path())]
    shipped = next((path for path in known if path.is_file()), None)
    if shipped is None:
        raise AqaError(f"{file.path}: there is no default search space of {model} ({known[0]}); write one, as `space`")
    return _space_in(shipped)


def _replacing(file: TuneFile) -> Space:
    return parse_space(file.plan.replace, lambda key: file.place(f"replace.{key}"))


def _space_in(path: Path) -> tuple[Space, Settings]:
    other = load_tune(path)
    if other.plan.space is None:
        raise AqaError(f"{path}: 'space' is missing")
    return parse_space(other.plan.space, lambda key: other.place(f"space.{key}")), other.plan.set


def _check_space(file: TuneFile, path: Path, fixed: Settings, space: Space, model: str) -> None:
    """AqaError for a key or a value that the experiment, or its model, does not take."""
    start = {key: span.ends()[0] for key, span in space.items()}
    for key, span in space.items():
        for value in span.ends():
            names = (f"replace.{key}", f"spaces.{model}.{key}", f"space.{key}")
            place = next((file.place(name) for name in names if name in file.lines), "")
            where = f"{place}: " if place else f"search space of {model}: "
            try:
                trial = load(path, {**fixed, **start, key: value}, silent)
            except AqaError as error:
                problem = str(error).removeprefix(f"setting {brief(key)}: ")
                raise AqaError(f"{where}{key}: {problem}" if key not in problem else f"{where}{problem}") from None
            require_unlearned(trial, where)


def _checked_store(experiment: Experiment, file: TuneFile) -> tuple[str, tuple[FoldsConfig | None, ...]]:
    """The fingerprint of an experiment's store, and what selects in each run of a trial.

    AqaError where the store lacks the target, a modality, a split or a group.
    """
    folds = file.plan.folds
    require_prepared(experiment.data.store)
    with FeatureStore(experiment.data.store) as store:
        target = _target(store, experiment, file)
        chosen_modalities(store, experiment.data.modalities)
        require_no_folds(experiment)
        splits, fold = splits_of(store, experiment, target)
        split_rows(splits, fold, target, experiment, silent)
        if folds is None:
            return fingerprint_of(store), (None,)
        if experiment.select.split == "test":
            raise AqaError(f"{file.place('folds')}: folds: the experiment selects on the test split; leave out `folds`")
        try:
            unseen = without_labels(target, splits["test"])
            made = inner_folds(store, splits, experiment, folds, unseen)
        except AqaError as error:
            raise AqaError(f"{file.place('folds')}: {str(error).removeprefix('data.')}") from None
        numbered = (folds.model_copy(update={"fold": number}) for number in range(len(made.test)))
        return fingerprint_of(store), tuple(numbered)


def _target(store: FeatureStore, experiment: Experiment, file: TuneFile) -> Target:
    try:
        return store.target(experiment.data.target)
    except AqaError as error:
        raise AqaError(f"{file.place('targets')}: {error}" if file.plan.targets else str(error)) from None
