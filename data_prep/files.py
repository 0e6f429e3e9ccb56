"""Finding a published file at any depth under the folder it was downloaded to."""

from __future__ import annotations

import difflib
from pathlib import Path

from aqa.errors import AqaError, nearest
from aqa.system.files import has_file


def find(source: Path, *names: str) -> Path:
    """The one file or folder under `source` that has one of `names`.

    Raises AqaError where there is none, with the nearest name there is, and where there are two, naming both.
    """
    source = Path(source)
    if not source.is_dir():
        raise AqaError(f"{source} is not a folder; --source is the folder with the downloaded files")
    found = sorted(path for name in names for path in source.rglob(name))
    if len(found) > 1:
        raise AqaError(f"{' or '.join(names)} found {len(found)} times: {_listed(found)}; keep one, or narrow --source")
    if not found:
        alike = _alike(source, names[0])
        hint = nearest(names[0], alike) if alike else f"no {Path(names[0]).suffix or 'folder'} is there"
        raise AqaError(f"{' or '.join(names)} not found under {source}; {hint}")
    if Path(names[0]).suffix:
        has_file(found[0])
    return found[0]


def _alike(source: Path, name: str) -> list[str]:
    """Names of the same kind under `source`: the closest one, or the first few."""
    suffix = Path(name).suffix
    there = sorted({path.name for path in source.rglob(f"*{suffix}") if suffix or path.is_dir()})
    return difflib.get_close_matches(name, there, n=1) or there[:8]


def _listed(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
