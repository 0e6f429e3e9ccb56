"""Named things that live one to a file: models, missing patterns, data sets.

A registry finds its entries by importing the modules of its package, and the plugins, at the first look-up, so that
adding a file with a decorated class or function is all it takes.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import pydantic
from pydantic import Field

from aqa import plugins
from aqa.errors import AqaError, nearest, needed

T = TypeVar("T", bound=Callable[..., Any])

# Types of options that say what is right, for the signatures of models.
Positive = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class or function, with what its author says of it (paper, year ...)."""

    name: str
    make: T
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.make) or "").split("\n", 1)[0]


class Registry(Generic[T]):
    """Names to classes or functions.

    kind: what an entry is called in messages ("model").
    package: the package (or module) whose modules register the entries when they are imported.
    """

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, **about: Any) -> Callable[[T], T]:
        """Decorator: put a class or function under `name`."""

        def add(make: T) -> T:
            if not make.__module__.startswith(self.package):  # the package's own names are taken before others'
                self._import_own()
            known = self._entries.get(name)
            if known is not None and known.make.__qualname__ != make.__qualname__:
                raise ValueError(f"two {self.kind}s are called '{name}': {known.make} and {make}")
            self._entries[name] = Entry(name, make, about)
            return make

        return add

    def _import_own(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            importlib.import_module(f"{self.package}.{module.name}")

    def _discover(self) -> None:
        self._import_own()
        plugins.load_all()

    def entries(self) -> list[Entry[T]]:
        """All entries, by name."""
        self._discover()
        return [self._entries[name] for name in sorted(self._entries)]

    def names(self) -> list[str]:
        """All names, sorted."""
        return [entry.name for entry in self.entries()]

    def get(self, name: str) -> Entry[T]:
        """The entry called `name`; AqaError with the nearest name otherwise."""
        self._discover()
        if name not in self._entries:
            raise AqaError(f"unknown {self.kind} '{name}': {nearest(name, self.names())}")
        return self._entries[name]


def check_options(
    make: Callable[..., Any], options: Mapping[str, Any], where: str, finite: bool = False
) -> dict[str, Any]:
    """Options from an experiment file, checked against the keyword-only parameters of `make`.

    A class whose `__init__` passes `**options` on takes those of its base class as well.

    where: how the options are called in messages ("model 'mcmoe'"). finite: no number may be NaN or infinite. Returns
    the options with their types applied and the defaults filled in. Raises AqaError for an unknown name, a missing one
    or a wrong type.
    """
    schema = _schema(make, finite)
    for name in options:
        if name not in schema.model_fields:
            raise AqaError(f"{where} has no option '{name}': {nearest(str(name), schema.model_fields)}")
    try:
        checked = schema(**options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise AqaError(f"{where}, option '{option}': {needed(first)}") from None
    return {name: getattr(checked, name) for name in schema.model_fields}


def option_names(make: Callable[..., Any]) -> frozenset[str]:
    """The names that `check_options` takes for `make`."""
    return frozenset(_schema(make).model_fields)


@cache
def _schema(make: Callable[..., Any], finite: bool = False) -> type[pydantic.BaseModel]:
    fields: dict[str, Any] = {}
    for function in _signatures(make):
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields.setdefault(parameter.name, (hints.get(parameter.name, Any), default))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    config: pydantic.ConfigDict = {"protected_namespaces": (), "allow_inf_nan": not finite}
    return pydantic.create_model(make.__qualname__, __config__=config, **fields)


def _signatures(make: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions whose parameters are options: a class's own `__init__`, then those of its bases in turn."""
    if not inspect.isclass(make):
        return [make]
    return [vars(base)["__init__"] for base in make.__mro__ if base is not object and "__init__" in vars(base)]
