"""What modalities, targets, splits, groups, ids and runs may be called, and file names made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from aqa.errors import AqaError, printable

LONGEST_NAME = 250  # characters of an id, a target ...
LONGEST_FILE_NAME = 200  # bytes of a run's name, which leaves room for endings: file systems take 255
#: Words that patterns and selection use of their own.
RESERVED = frozenset({"all", "all_subsets", "average", "available", "complete", "none"})
JOINS = {"+": "joins modalities in the names of patterns", ",": "stands between the names of patterns"}


def check_name(name: str, where: str) -> None:
    """AqaError for what cannot be the name of anything: an empty one, a very long one, one that a terminal would obey.

    where: what is named, such as "x.h5: id".
    """
    if len(name) > LONGEST_NAME:
        raise AqaError(f"{where}, '{printable(name[:20])}...', has {len(name)} characters; {LONGEST_NAME} are the most")
    if printable(name) != name:
        raise AqaError(f"{where}, '{printable(name)}', holds control characters or is not valid UTF-8")


def check_id(name: str, where: str) -> None:
    """AqaError for what cannot be the id of a video: spaces alone, too."""
    check_name(name, where)
    if not name.strip():
        raise AqaError(f"{where}, '{name}', is empty; a name has at least one character that is not a space")


def check_key(name: str, where: str) -> None:
    """AqaError for what cannot be the name of a modality, target, split or group: a place in an HDF5 file."""
    check_id(name, where)
    if name in (".", "..") or "/" in name:
        raise AqaError(f"{where}, '{name}', is a path; a name holds no '/' and is neither '.' nor '..'")


def check_modalities(names: Iterable[str], where: str) -> None:
    """AqaError for names of modalities of which two patterns could have one name."""
    for name in names:
        check_key(name, f"{where}: modality")
        for mark, what in JOINS.items():
            if mark in name:
                raise AqaError(f"{where}: modality, '{name}', holds '{mark}', which {what}; write '_' or '-'")
        if name.lower() in RESERVED:
            raise AqaError(f"{where}: modality, '{name}', has the name of a missing pattern; name it otherwise")


def check_file_name(name: str, where: str) -> None:
    """AqaError for what cannot be the name of a folder; where to write is set by `output`, not by a name."""
    if not name.strip():
        raise AqaError(f"{where}: '{name}' is empty; a name has at least one character that is not a space")
    if name.strip() in (".", "..", "~") or re.search(r"[/\\]", name):
        raise AqaError(
            f"{where}: '{name}' is a path; a name has no '/' and no '\\' (where to write is set by `output`)"
        )
    if len(name.encode()) > LONGEST_FILE_NAME:
        shown = f"{name[:20]}...{name[-20:]}"
        raise AqaError(f"{where}: '{shown}' has {len(name.encode())} bytes; {LONGEST_FILE_NAME} are the most")


def as_file_name(text: str, most_bytes: int | None = None) -> str:
    """A name as part of the name of a folder, such as a target's in a run's: as it is, where a file system takes it.

    Letters that some file system refuses are percent-encoded, as in web addresses, so that two names stay two.
    most_bytes: what is beyond is cut off, for names that are told apart by more than this.
    """
    safe = re.sub(r'[%/\\<>:"|?*\x00-\x1f\x7f]', lambda found: quote(found[0], safe=""), text)
    safe = re.sub(r"^[.~ ]", lambda found: f"%{ord(found[0]):02X}", safe)
    return safe if most_bytes is None else safe.encode()[:most_bytes].decode(errors="ignore")
