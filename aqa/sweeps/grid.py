"""From a sweep file to runs: which experiments a grid consists of, and what the folder of each is called."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from aqa.config.dialect import in_one_line, quoted
from aqa.config.load import load_experiment, validated
from aqa.config.schema import Experiment, StrictConfig
from aqa.config.text_keys import Answer, experiment_takes_text, takes_text
from aqa.config.yaml import read_yaml
from aqa.errors import AqaError
from aqa.names import check_file_name
from aqa.runs.load import load, require_prepared
from aqa.store.fingerprint import fingerprint_at
from aqa.store.store import FeatureStore
from aqa.system.saying import Say, silent

EVERY = "all"  # in place of a list of targets: every target of the experiment

Settings = dict[str, Any]  # dotted key -> value


class Rule(StrictConfig):
    """Settings for the points of a grid that match: {when: {data.target: PCS}, set: {train.epochs: 510}}."""

    when: Settings
    set: Settings


class RayCluster(StrictConfig):
    """A Ray cluster that runs a sweep, and what each run asks of it."""

    address: str = "auto"  # HOST:PORT; auto: the cluster that this machine is in
    cpus: int = Field(1, ge=1)  # of each run, and torch's threads
    gpus: float = Field(0, ge=0, le=1)  # of each run; 0.5: two runs share one
    memory: float | None = Field(None, gt=0)  # GiB that Ray sets aside for each run; no limit to what it takes
    retries: int = Field(3, ge=0)  # how often a run is retried whose worker or node was lost

    @pydantic.field_validator("address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        if not re.fullmatch(r"auto|[^/]+:\d+", address):
            raise ValueError("write auto or HOST:PORT")
        return address


class Launcher(StrictConfig):
    """Who runs a sweep other than processes of this machine."""

    ray: RayCluster


class Sweep(StrictConfig):
    """A sweep file.

    experiments: base experiment files, relative to the sweep file. set: settings of every run. grid: axis -> values; an
    axis is a dotted key with a list of values, or any name with settings by name ({no_kl: {model.kl_weight: 0}}).
    include: further points, by dotted keys. exclude: points left out, by a part of their place in the grid. rules:
    settings for some points. A later one of set, rules and grid wins. launcher: processes of this
    machine where not given.
    """

    name: str
    experiments: list[str] = Field(min_length=1)
    set: Settings = Field(default_factory=dict)
    grid: dict[str, list[Any] | dict[str, Settings] | Literal["all"]] = Field(default_factory=dict)
    include: list[Settings] = Field(default_factory=list)
    exclude: list[Settings] = Field(default_factory=list)
    rules: list[Rule] = Field(default_factory=list)
    output: str | None = None  # the folder of its runs; runs/NAME where not given
    vectorize: Literal["seeds"] | None = None
    launcher: Launcher | None = None

    @pydantic.field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        try:
            check_file_name(name, "it")
        except AqaError as error:
            raise ValueError(str(error)) from None
        return name

    @pydantic.field_validator("launcher")
    @classmethod
    def _takes_single_runs(cls, launcher: Launcher | None, info: pydantic.ValidationInfo) -> Launcher | None:
        if launcher is not None and info.data.get("vectorize"):
            raise ValueError("a Ray cluster is given single runs; leave out launcher or vectorize")
        return launcher


@dataclass(frozen=True)
class Point:
    """One run of a sweep: where in the grid it is, its experiment in full, and the name of its folder.

    fingerprint: of what is in its store; None if there is no store yet.
    """

    place: Settings
    experiment: Experiment
    name: str
    fingerprint: str | None = None


def load_sweep(path: str | os.PathLike[str]) -> Sweep:
    """A sweep from a YAML file; AqaError, one line naming the file, the key and the nearest right one."""
    path = Path(path)
    content, lines = read_yaml(path, sweep_takes_text)
    if "data" in content and "experiments" not in content:
        raise AqaError(f"{path} is an experiment file; run it with: aqa run {path}")
    return validated(Sweep, content, str(path), {key: f"{path}, line {line}" for key, line in lines.items()})


def sweep_takes_text(path: Sequence[str]) -> Answer:
    """Which keys of a sweep file are text: its own, and the dotted keys of an experiment in its settings."""
    match list(path):
        case ["grid", axis, _]:
            return experiment_takes_text(axis.split("."))
        case ["include" | "exclude", _, "experiment", *_] | ["rules", _, "when", "experiment", *_]:
            return "yes"
        case (
            ["set", key, *rest]
            | ["include" | "exclude", _, key, *rest]
            | ["grid", _, _, key, *rest]
            | ["rules", _, "when" | "set", key, *rest]
        ):
            return experiment_takes_text([*key.split("."), *rest])
    return takes_text(Sweep, path)


def points_of(sweep: Sweep, folder: Path, say: Say = silent) -> list[Point]:
    """The runs of a sweep whose file is in `folder`, in the order of the grid; AqaError for one that cannot be.

    say: told once which options of a file are left out for a model that lacks them.
    """
    say = _once(say)
    points: dict[str, Point] = {}
    used: set[int] = set()
    for file in sweep.experiments:
        path = folder / file
        axes = {axis: axis_values(axis, values, path, sweep.set) for axis, values in sweep.grid.items()}
        for place in _product(axes):
            left_out = [i for i, rule in enumerate(sweep.exclude) if _matches(rule, place, path)]
            used.update(left_out)
            if not left_out:
                point = _point(sweep, path, place, [axes[axis][name] for axis, name in place.items()], say)
                points.setdefault(point.name, point)
        for extra in sweep.include:
            if _matches({"experiment": extra.get("experiment", path.stem)}, {}, path):
                settings = {key: value for key, value in extra.items() if key != "experiment"}
                point = _point(sweep, path, settings, [settings], say)
                points.setdefault(point.name, point)
    for i, rule in enumerate(sweep.exclude):
        if i not in used:
            raise AqaError(f"sweep '{sweep.name}': exclude {rule} leaves out nothing; is a value misspelt?")
    if not points:
        raise AqaError(f"sweep '{sweep.name}' has no run")
    return list(points.values())


def _once(say: Say) -> Say:
    said: set[str] = set()

    def once(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return once


def groups_of(points: Sequence[Point], vectorize: Literal["seeds"] | None) -> list[list[Point]]:
    """The points that one process runs after each other on shared features: one each, or those that differ in
    nothing but `train.seed`."""
    if vectorize is None:
        return [[point] for point in points]
    groups: dict[str, list[Point]] = {}
    for point in points:
        train = point.experiment.train.model_copy(update={"seed": 0})
        same = point.experiment.model_copy(update={"train": train}).unique_name(point.fingerprint)
        groups.setdefault(same, []).append(point)
    return list(groups.values())


def axis_values(axis: str, values: Any, path: Path, common: Settings) -> dict[str, Settings]:
    """An axis as settings by name."""
    if values == EVERY:
        if axis != "data.target":
            raise AqaError(f"grid.{axis}: 'all' stands for every target and goes with data.target only")
        values = targets_of(path, common)
    if not values:
        raise AqaError(f"grid.{axis} lists no value; give one or more, or leave it out")
    if isinstance(values, Mapping):
        return {str(name): dict(settings) for name, settings in values.items()}
    named: dict[str, Settings] = {}
    for value in values:
        name = in_one_line(value)
        if isinstance(value, str) and named.get(name, {axis: value}) != {axis: value}:
            name = quoted(value)  # the text '1' beside the number
        named[name] = {axis: value}
    return named


def targets_of(path: Path, common: Settings) -> list[str]:
    """The targets that an experiment file lists, those of its store where it lists none."""
    listed = read_yaml(path, experiment_takes_text)[0].get("targets")
    if isinstance(listed, Mapping):
        return list(listed)
    experiment = load_experiment(path, common)
    require_prepared(experiment.data.store)
    with FeatureStore(experiment.data.store) as store:
        return sorted(store.targets)


def _product(axes: Mapping[str, Mapping[str, Settings]]) -> Iterator[dict[str, str]]:
    for names in itertools.product(*axes.values()):
        yield dict(zip(axes, names, strict=True))


def _matches(rule: Mapping[str, Any], place: Mapping[str, Any], path: Path) -> bool:
    """Whether a point of the experiment at `path` is one that a rule speaks of; a list is any of its values."""
    where = {**place, "experiment": path.stem}

    def meant(value: Any) -> set[str]:
        return {in_one_line(value), *map(in_one_line, value if isinstance(value, list) else ())}

    return all(key in where and in_one_line(where[key]) in meant(value) for key, value in rule.items())


def _point(sweep: Sweep, path: Path, place: Mapping[str, Any], chosen: Sequence[Mapping[str, Any]], say: Say) -> Point:
    """The run at a place of the grid; chosen: the settings of each axis there."""
    settings = {"tracking.group": sweep.name, **sweep.set}
    for rule in sweep.rules:
        if _matches(rule.when, place, path):
            settings |= rule.set
    for of_axis in chosen:
        settings |= of_axis
    experiment = load(path, settings, say)
    fingerprint = _content(experiment.data.store)
    return Point({"experiment": path.stem, **place}, experiment, experiment.unique_name(fingerprint), fingerprint)


def _content(store: str) -> str | None:
    """The fingerprint of a store; None if there is none that can be read, which each of its runs says for itself."""
    try:
        return fingerprint_at(store)
    except AqaError:
        return None
