"""Which keys of a file are text by its schema, so that what is typed there is text whatever it looks like."""

from __future__ import annotations

import types
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic

from aqa.config.schema import Experiment

Answer = Literal["no", "yes", "unless null"]


def takes_text(kind: Any, path: Sequence[str]) -> Answer:
    """Whether the scalar at a path of keys below a value of the given type is text."""
    inner = get_args(kind)
    origin = get_origin(kind)
    if kind is str or (origin is Literal and all(isinstance(choice, str) for choice in inner)):
        return "yes"
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        field = kind.model_fields.get(path[0]) if path else None
        return takes_text(field.annotation, path[1:]) if field is not None else "no"
    if origin is Annotated:
        return takes_text(inner[0], path)
    if origin in (Union, types.UnionType):
        answers = {takes_text(one, path) for one in inner if one is not type(None)}
        if "no" in answers:
            return "no"
        return "unless null" if "unless null" in answers or (type(None) in inner and not path) else "yes"
    if origin in (list, dict) and path:
        return takes_text(inner[-1], path[1:])
    return "no"


def experiment_takes_text(path: Sequence[str]) -> Answer:
    """`takes_text` of an experiment file; below `targets.T` are keys of an experiment."""
    return _experiment_takes_text(tuple(path[2:] if path and path[0] == "targets" else path))


@lru_cache(maxsize=4096)  # a report asks for the same few of each run
def _experiment_takes_text(path: tuple[str, ...]) -> Answer:
    return takes_text(Experiment, path)
