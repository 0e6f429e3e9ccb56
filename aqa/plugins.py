"""Models, missing patterns and data sets from outside the package.

A plugin is a Python file that the user names, with `--plugin FILE` or in AQA_PLUGINS, or a module that an installed
package declares as an entry point of the group "aqa.plugins". Importing it registers what is in it. Nothing else names
one: no experiment, store, checkpoint or run folder can make its reader run code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from aqa.errors import AqaError, brief, first_line

# Files, separated as in PATH, or a JSON list where a path holds that separator. Processes of a sweep inherit it.
ENVIRONMENT = "AQA_PLUGINS"
GROUP = "aqa.plugins"

_loaded: dict[str, set[str]] = {}  # what a run notes of the plugins of this process, by file or package name
_begun: set[str] = set()  # a plugin that looks up a name while it is loaded is not loaded again


def use(files: Iterable[str | os.PathLike[str]]) -> None:
    """Load plugin files, here and in every process that this one starts. AqaError for one that cannot be."""
    named = [str(Path(file).absolute()) for file in files]
    before = _named_files()
    every = [*before, *(file for file in named if file not in before)]
    plain = not any(os.pathsep in file for file in every)
    os.environ[ENVIRONMENT] = os.pathsep.join(every) if plain else json.dumps(every)
    load_all()


def load_all() -> None:
    """Load every plugin that is named or installed and not loaded yet."""
    for file in _named_files():
        _once(file, partial(_load_file, Path(file)))
    for point in _installed():
        _once(f"{GROUP}:{point.name}", partial(_load_entry, point))


def loaded() -> dict[str, str]:
    """The plugins of this process by name: the digest of a file's content, or a package's version.

    Where two files have one name, both digests.
    """
    load_all()
    return {name: ", ".join(sorted(noted)) for name, noted in _loaded.items()}


def _named_files() -> list[str]:
    text = os.environ.get(ENVIRONMENT, "")
    if not text.startswith("["):
        return [file for file in text.split(os.pathsep) if file]
    try:
        files = json.loads(text)
    except ValueError:
        files = None
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise AqaError(f"{ENVIRONMENT} is {brief(text)}; expected paths, or a JSON list of paths")
    return files


@cache
def _installed() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _once(key: str, action: Callable[[], None]) -> None:
    if key in _begun:
        return
    _begun.add(key)
    try:
        action()
    except BaseException:
        _begun.discard(key)
        raise


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise AqaError(f"plugin {path}: there is no such file")
    if path.suffix != ".py":
        raise AqaError(f"plugin {path}: a plugin is a Python file (.py)")
    name = f"aqa_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    source = path.read_bytes()
    # Not by the loader, which takes what it compiled before of a file of the same size and second.
    _run(str(path), lambda: exec(compile(source, str(path), "exec"), module.__dict__))
    _loaded.setdefault(path.name, set()).add(f"sha256 {hashlib.sha256(source).hexdigest()[:16]}")


def _load_entry(point: EntryPoint) -> None:
    _run(f"{point.name} ({point.value})", point.load)
    _loaded.setdefault(point.name, set()).add(point.dist.version if point.dist is not None else "unknown")


def _run(what: str, action: Callable[[], object]) -> None:
    """Run a plugin; what goes wrong in it is one line with the place."""
    try:
        action()
    except AqaError as error:
        raise AqaError(f"plugin {what}: {error}") from None
    except SyntaxError as error:
        raise AqaError(f"plugin {what}, line {error.lineno}: {error.msg}") from None
    except SystemExit as error:
        raise AqaError(f"plugin {what}: it exits (SystemExit: {error}); a plugin only defines and registers") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == what]
        place = f", line {lines[-1]}" if lines else ""
        raise AqaError(f"plugin {what}{place}: {type(error).__name__}: {first_line(error)}") from None
