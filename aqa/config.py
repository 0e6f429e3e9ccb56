"""What an experiment file may say: the only place where its keys and defaults are written."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

import pydantic
import yaml
from pydantic import Field

from aqa.errors import AqaError, brief, first_line, nearest

MOST_BYTES = 2**20  # of a YAML file
MOST_DIGITS = 40  # of a whole number in it
DEEPEST = 50  # how far its mappings and lists may be nested
WIDTH = r"0?\d{0,2}d?"  # what may follow a placeholder's colon: {seed:03d}

S = TypeVar("S", bound=pydantic.BaseModel)

# Whole numbers that any array library can count with; torch's and numpy's generators take seeds of 63 bits.
MOST, SEEDS = 2**31, 2**63
LONGEST_NAME = 200  # characters of a title, which names a folder


class Section(pydantic.BaseModel):
    """A part of an experiment file in which unknown keys are mistakes."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _one_line(text: str) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError("control characters and line breaks are not accepted in a name")
    return text


Name = Annotated[str, pydantic.AfterValidator(_one_line)]


class DataConfig(Section):
    """Where features come from and how videos become windows of clips."""

    store: Name  # an HDF5 feature store; relative to the experiment file or the working folder
    target: Name  # the score to predict, a name under `targets` in the store
    synthetic: str | None = None  # a preset of `aqa prepare synthetic`, made at `store` where there is no file yet
    clips: int | None = Field(None, ge=1, lt=MOST)  # window length; the longest video's where it is not given
    modalities: list[str] | None = Field(None, min_length=1)  # which streams, in which order; the store's by default
    align: Literal["shortest", "none"] = "shortest"  # cut the streams of a video to its shortest one
    standardize: bool = False  # channels to zero mean and unit deviation, by the training split's statistics
    validation: float = Field(0.2, gt=0, lt=1)  # share of train cut off for validation where the store has no `valid`
    memory: float | None = Field(None, gt=0, lt=MOST)  # GiB that features may take; a larger store is read in blocks

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


class MissingConfig(Section):
    """Which modalities are missing, in training and in testing."""

    train: Any = "random_subset"
    test: Any = "all_subsets"

    @pydantic.field_validator("train", "test")
    @classmethod
    def _finite_numbers(cls, pattern: Any) -> Any:
        return _finite(pattern)


class TrainConfig(Section):
    """The training loop. The defaults are those of MCMoE as published for Fis-V."""

    epochs: int = Field(100, ge=1, lt=MOST)
    batch_size: int = Field(32, ge=1, lt=MOST)
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(2e-4, gt=0)
    final_learning_rate: float = Field(0.01, ge=0, le=1)  # where cosine decay ends, as a share of learning_rate
    weight_decay: float = Field(1e-4, ge=0)
    gradient_clip: float | None = Field(None, gt=0)  # largest norm of the gradient
    patience: int | None = Field(None, ge=1, lt=MOST)  # stop after so many epochs without a better selection metric
    seed: int = Field(0, ge=0, lt=SEEDS)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, lt=MOST)  # torch's CPU threads; torch's own choice where not given
    precision: Literal["float32", "tf32", "bf16"] = "float32"  # of training; scoring is in float32
    compile: bool = False  # the loss by torch.compile, on a GPU as a CUDA graph


#: Keys that came after runs were made, and what those runs did: they are not to be taken for other experiments.
LATER: Mapping[str, Any] = {"train.precision": "float32", "train.compile": False}


class SelectConfig(Section):
    """Which epoch's weights are kept. `split: test` is the published protocol, and is labelled so everywhere."""

    split: str = "valid"
    metric: Literal["srcc", "mse"] = "srcc"
    pattern: str = "complete"  # a subset such as VA, or `average`: over the incomplete subsets


class TrackingConfig(Section):
    """Weights & Biases."""

    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "aqa"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = []


class Experiment(Section):
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
    tracking: TrackingConfig = TrackingConfig()
    targets: dict[str, dict[str, Any]] = {}
    output: Name | None = None
    save_every: float | None = Field(None, ge=0)  # seconds between saved states; a default where not given
    versions: dict[str, str] = {}  # written into a run's config.yaml; says nothing to a new run

    @property
    def title(self) -> str:
        """The name with its placeholders filled in."""
        values = {"target": self.data.target, "model": self.model.name, "seed": self.train.seed}
        known = ", ".join("{" + v + "}" for v in values)
        try:
            for _, value, how, conversion in string.Formatter().parse(self.name):
                if value is not None and (value not in values or conversion or not re.fullmatch(WIDTH, how or "")):
                    raise ValueError
            title = self.name.format(**values)
        except ValueError:
            raise AqaError(f"name: {brief(self.name)} has a placeholder that is not one of {known}") from None
        if len(title) > LONGEST_NAME:
            raise AqaError(f"name: {brief(title)} has {len(title)} characters, which is more than {LONGEST_NAME}")
        return title

    @property
    def unique_name(self) -> str:
        """Data, target, model, seed, and a hash of all that decides the run's numbers."""
        resolved = self.resolved()
        store = Path(self.data.store).stem
        resolved["data"]["store"] = store  # where the file lies decides nothing
        del resolved["name"]
        for key, before in LATER.items():
            section, name = key.split(".")
            if resolved[section][name] == before:
                del resolved[section][name]
        digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:8]
        return f"{store}-{self.data.target}-{self.model.name}-seed{self.train.seed}-{digest}"

    def resolved(self) -> dict[str, Any]:
        """Everything that decides the numbers of a run, defaults filled in."""
        return self.model_dump(mode="json", exclude={"targets", "output", "save_every", "versions", "tracking"})


def load_experiment(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Experiment:
    """An experiment from a YAML file (or a mapping), overrides of its target applied, then `key.key=value` ones.

    A relative store is made absolute: beside the experiment file if it is there, else in the working folder.
    AqaError, one line naming the file, the key and the nearest right one, for anything wrong.
    """
    lines: dict[str, int] = {}
    if isinstance(source, Mapping):
        where, content = "experiment", _copy(source)
    else:
        where = str(source)
        content, lines = read_yaml(Path(source))
    changes = [_override(text) for text in overrides]
    target = next((value for key, value in reversed(changes) if key == ["data", "target"]), None)
    content, chosen = _for_target(content, target, where)
    places = {key: f"{where}, line {line}" for key, line in lines.items()}
    if chosen is not None:
        prefix = f"targets.{chosen}."
        places |= {key.removeprefix(prefix): place for key, place in places.items() if key.startswith(prefix)}
    for text, (key, value) in zip(overrides, changes, strict=True):
        _set(content, key, value)
        for i in range(1, len(key)):
            places.setdefault(".".join(key[:i]), f"override {brief(text)}")
        places[".".join(key)] = f"override {brief(text)}"
    experiment = validated(Experiment, content, where, places)
    folder = None if isinstance(source, Mapping) else Path(source).parent
    _ = experiment.title  # which is checked before anything is done
    store = _locate(experiment.data.store, folder)
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"store": str(store)})})


def validated(kind: type[S], content: Mapping[str, Any], where: str, places: Mapping[str, str]) -> S:
    """The content of a file as a section of the given kind; AqaError, one line, for its worst mistake.

    where: the file; places: where in it each dotted key is given.
    """
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        raise AqaError(_explain(error, kind, where, places)) from None


def in_one_line(value: Any) -> str:
    """A value as YAML in one line; a text as it is."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()


def refuse_unfolding(text: str, loader: Any) -> None:
    """ValueError where YAML has aliases, by which a small file unfolds without end, or is nested too deeply.

    libyaml's loader, unlike Python's, would end the process at the latter.
    """
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not accepted")
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")


class _PlainLoader(yaml.SafeLoader):
    """Plain data only: aliases can make a small file unfold without end, and experiments need none."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", event.start_mark)
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file's mapping and the line of each dotted key; plain data only, no tags, no key twice."""
    if not path.is_file():
        here = [str(p) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise AqaError(f"no experiment file at {path}; {nearest(str(path), here)}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise AqaError(f"{path} has {size} bytes; a YAML file has {MOST_BYTES} at most")
    lines: dict[str, int] = {}
    try:
        loader = _PlainLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        _walk(root, "", lines, path)
        content = loader.construct_document(root) if root is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such day as 2025-13-40
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise AqaError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise AqaError(f"{path}: an experiment file is a mapping of keys ({', '.join(Experiment.model_fields)})")
    return content, lines


def _walk(node: yaml.Node | None, prefix: str, lines: dict[str, int], path: Path, depth: int = 0) -> None:
    """Note the line of each key; AqaError for what is plain YAML and would do harm."""

    def refuse(node: yaml.Node, problem: str) -> NoReturn:
        raise AqaError(f"{path}, line {node.start_mark.line + 1}: {problem}")

    if node is not None and depth > DEEPEST:
        refuse(node, f"nested more than {DEEPEST} deep")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                refuse(key, "merge keys (<<) are not accepted")
            name = f"{prefix}{key.value}"
            if name in lines:
                refuse(key, f"'{name}' is already given on line {lines[name]}")
            lines[name] = key.start_mark.line + 1
            _walk(value, f"{name}.", lines, path, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, f"{prefix}{i}.", lines, path, depth + 1)
    elif node is not None and node.tag == "tag:yaml.org,2002:int" and len(node.value) > MOST_DIGITS:
        refuse(node, f"a number of {len(node.value)} digits")


def _override(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise AqaError(f"{brief(text)} is no override; write key.key=value, such as train.seed=1")
    try:
        return key.strip().split("."), parse_value(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise AqaError(f"{brief(text)}: the value is not valid YAML") from None


def parse_value(text: str) -> Any:
    """A value given on the command line, as plain YAML; YAMLError, ValueError or RecursionError for what is not."""
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _set(content: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for part in key[:-1]:
        inner = content.get(part)
        if not isinstance(inner, dict):
            inner = content[part] = {}
        content = inner
    content[key[-1]] = value


def _for_target(content: dict[str, Any], target: Any, where: str) -> tuple[dict[str, Any], str | None]:
    """The content with the overrides of the target chosen, and that target; what is malformed is left as it is."""
    by_target = content.get("targets")
    data = content.get("data")
    chosen = target if target is not None else data.get("target") if isinstance(data, dict) else None
    if not isinstance(by_target, dict) or not isinstance(chosen, str):
        return content, None
    if chosen not in by_target:
        raise AqaError(f"{where}: no target '{chosen}' under targets: {nearest(str(chosen), by_target)}")
    over = by_target[chosen]
    return (_merge(content, over), chosen) if isinstance(over, dict) else (content, None)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _copy(content: Any) -> Any:
    return {k: _copy(v) for k, v in content.items()} if isinstance(content, Mapping) else content


def _locate(store: str, folder: Path | None) -> Path:
    """Beside the experiment file if it is there, else in the working folder."""
    beside = folder / store if folder is not None else Path(store)
    return (beside if beside.exists() else Path(store)).absolute()


def _explain(
    error: pydantic.ValidationError, kind: type[pydantic.BaseModel], where: str, places: Mapping[str, str]
) -> str:
    """The worst mistake of a file in one line; a misspelt key goes before the one it leaves missing."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    around = (".".join(path[:i]) for i in range(len(path), 0, -1))
    place = next((places[name] for name in around if name in places), where)
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key '{key}': {nearest(path[-1], _keys(kind, path[:-1]))}"
    if first["type"] == "missing":
        return f"{place}: '{key}' is missing"
    if first["type"] == "literal_error":
        choices = re.findall(r"'([^']+)'", str(first["ctx"]["expected"]))
        given = brief(first["input"])
        hint = nearest(given.strip("'"), choices)
        return f"{place}: {key} is {given}, not one of {', '.join(choices)}; {hint}"
    if first["type"] == "model_type":
        return (
            f"{place}: {key}: a mapping of keys is needed ({', '.join(_keys(kind, path))}), got {brief(first['input'])}"
        )
    problem = first["msg"].removeprefix("Value error, ")
    return f"{place}: {key}: {problem[0].lower()}{problem[1:]}, got {brief(first['input'])}"


def _keys(kind: type[pydantic.BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that a section may have, below a file of the given kind."""
    section: Any = kind
    for part in path:
        if not part.isdigit():  # an item of a list has the section that the list is of
            annotation = section.model_fields[part].annotation
            section = next((inner for inner in get_args(annotation) if _is_section(inner)), annotation)
    return list(section.model_fields)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)
