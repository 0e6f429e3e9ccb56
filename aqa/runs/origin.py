"""The store that a run was made from: how the run's folder records it, and how it is found in a project that moved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aqa.errors import AqaError, printable
from aqa.store.fingerprint import fingerprint_at


class Origin(NamedTuple):
    """What config.yaml says of the store: its path, as recorded and as it was then, and its fingerprint.

    Version 0.1 recorded an absolute path and neither of the others.
    """

    store: str
    was_at: str | None
    fingerprint: str | None


def recorded(store: str, folder: Path, fingerprint: str) -> Origin:
    """What a new run's config.yaml says of its store: relative to the run's folder, so that both can move together."""
    path = os.path.realpath(store)
    try:
        relative = Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        relative = path
    return Origin(relative, path, fingerprint)


def origin_in(config: Mapping[str, Any]) -> Origin:
    """What a run's config.yaml says of its store."""
    data = config.get("data")
    store = data.get("store") if isinstance(data, Mapping) else None
    was_at, fingerprint = config.get("store_was_at"), config.get("fingerprint")
    return Origin(
        str(store),
        was_at if isinstance(was_at, str) else None,
        fingerprint if isinstance(fingerprint, str) else None,
    )


def find_store(origin: Origin, folder: Path) -> Path:
    """Where a run's store is now; AqaError, saying where it was looked for, where there is none.

    Relative to the run's folder, whatever it holds. Where nothing is there, any place that it may have been left at,
    as long as the content is the run's.
    """
    beside = [
        Path(os.path.realpath(folder.resolve() / origin.store)),
        Path(os.path.normpath(folder.absolute() / origin.store)),  # where the project's runs are a symbolic link
    ]
    left = [Path(origin.was_at)] if origin.was_at else []
    for place in beside:
        if place.is_file():
            return place
    for place in [*left, *_elsewhere_in_the_project(origin.store, folder)]:
        if place.is_file() and origin.fingerprint is not None and _holds(place, origin.fingerprint):
            return place
    looked = ", ".join(map(str, dict.fromkeys([*beside, *left])))
    raise AqaError(
        f"the feature store of {folder} is not found: looked for {printable(looked)}; "
        "bring it back, or say where it is: --store PATH to score, data.store=PATH to run"
    )


def _elsewhere_in_the_project(store: str, folder: Path) -> Iterator[Path]:
    """Where a store that is recorded as ../../data/x.h5 would be, had the run's folder been deeper or higher."""
    inner = [part for part in Path(store).parts if part != ".."]
    if not os.path.isabs(store):
        for above in [*folder.absolute().parents, Path.cwd()]:
            yield above.joinpath(*inner)


def _holds(path: Path, fingerprint: str) -> bool:
    try:
        return fingerprint_at(path) == fingerprint
    except AqaError:  # not a feature store
        return False


def changed_store(origin: Origin, folder: Path) -> Path | None:
    """A run's store, where it is there and holds something else than when the run was made; None otherwise."""
    if origin.fingerprint is None:
        return None
    try:
        store = find_store(origin, folder)
    except AqaError:
        return None
    return None if _holds(store, origin.fingerprint) else store
