"""What an experiment file may say: the only place where its keys and defaults are written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import pydantic

from aqa.config.overrides import parse_override
from aqa.config.schema import Experiment, ModelConfig
from aqa.config.text_keys import experiment_takes_text
from aqa.config.yaml import read_yaml, split_by_shell
from aqa.errors import AqaError, brief, nearest, needed

S = TypeVar("S", bound=pydantic.BaseModel)
#: From the names of two models and of options, those of the options that the second model lacks.
Lacking = Callable[[str, str, Collection[str]], Collection[str]]
#: Texts "key.key=value" as they are typed, or values by dotted key.
Overrides = Sequence[str] | Mapping[str, Any]


def load_experiment(
    source: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Overrides = (),
    lacking: Lacking | None = None,
) -> Experiment:
    """An experiment from a YAML file (or a mapping), overrides of its target applied, then those given.

    overrides: texts "key.key=value" as they are typed, or values by dotted key, which are taken as they are.
    lacking: where an override names another model than the file does, the file's options that the new model lacks,
    which are left out. A relative store is made absolute: beside the experiment file if it is there, else in the
    working folder.
    AqaError, one line naming the file, the key and the nearest right one, for anything wrong.
    """
    lines: dict[str, int] = {}
    if isinstance(source, Mapping):
        where, content = "experiment", _copy(source)
    else:
        where = str(source)
        content, lines = read_yaml(Path(source), experiment_takes_text)
        if "experiments" in content and "data" not in content:
            raise AqaError(f"{where} is a sweep file; run it with: aqa sweep {where}")
    changes = _changes(overrides)
    target = next((value for key, value, _ in reversed(changes) if key == "data.target"), None)
    content, chosen = _for_target(content, target, where)
    content = _for_model(content, changes, lacking)
    places = {key: f"{where}, line {line}" for key, line in lines.items()}
    if chosen is not None:
        prefix = f"targets.{chosen}."
        places |= {key.removeprefix(prefix): place for key, place in places.items() if key.startswith(prefix)}
    for name, value, place in changes:
        key = name.split(".")
        _set(content, key, value)
        for i in range(1, len(key)):
            places.setdefault(".".join(key[:i]), place)
        places[name] = place
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
        raise AqaError(_explain(error, kind, content, where, places)) from None


def _changes(overrides: Overrides) -> list[tuple[str, Any, str]]:
    """The dotted key, the value and the place, for messages, of each change."""
    if isinstance(overrides, Mapping):
        return [(key, _copy(value), f"setting {brief(key)}") for key, value in overrides.items()]
    if whole := split_by_shell(overrides):
        raise AqaError(f"the shell splits at spaces what is not quoted: write {whole}")
    return [(*parse_override(text), f"override {brief(text)}") for text in overrides]


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


def _for_model(
    content: dict[str, Any], changes: Sequence[tuple[str, Any, str]], lacking: Lacking | None
) -> dict[str, Any]:
    """The content without options of the file's model that another one, named by a change, lacks."""
    given = content.get("model", {})
    named = {key: value for key, value, _ in changes}
    new = named.get("model.name")
    if lacking is None or not isinstance(given, dict) or not isinstance(new, str) or "model" in named:
        return content
    old = given.get("name", ModelConfig().name)
    if old == new:
        return content
    left_out = lacking(old, new, [name for name in given if name != "name"])
    return {**content, "model": {name: value for name, value in given.items() if name not in left_out}}


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
    error: pydantic.ValidationError,
    kind: type[pydantic.BaseModel],
    content: Mapping[str, Any],
    where: str,
    places: Mapping[str, str],
) -> str:
    """The worst mistake of a file in one line; a misspelt key goes before the one it leaves missing."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = _path(first, content)
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
    return f"{place}: {key}: {needed(first)}"


def _path(mistake: Mapping[str, Any], content: Any) -> list[str]:
    """Where in the content a mistake is; pydantic also names which of several types it tried, which is left out."""
    path = []
    for part in mistake["loc"]:
        if (isinstance(content, Mapping) and part in content) or (isinstance(content, list) and isinstance(part, int)):
            content = content[part]
        elif not (mistake["type"] in ("missing", "invalid_key") and part == mistake["loc"][-1]):
            continue
        path.append(str(part))
    return path


def _keys(kind: type[pydantic.BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that a section may have, below a file of the given kind."""
    section: Any = kind
    named_freely = False  # whether what comes next is a key of a mapping, which has the section that the mapping is of
    for part in path:
        if not part.isdigit() and not named_freely:  # an item of a list has the section that the list is of
            annotation = section.model_fields[part].annotation
            section = next((inner for inner in get_args(annotation) if _is_section(inner)), annotation)
            named_freely = get_origin(annotation) is dict
        else:
            named_freely = False
    return list(section.model_fields)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)
