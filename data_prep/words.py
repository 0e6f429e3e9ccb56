"""The words in which files are named on the command line: a path, and after a colon the place in the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aqa.errors import AqaError, nearest

MOST_NAMED, MOST_LISTED = 1000, 8  # names among which the nearest is looked for, and those that are listed


def option(key: str) -> str:
    """What a user wrote, or has to write, on the command line and in Python."""
    return f"--{key.replace('_', '-')} (in Python: {key}=)"


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are channels, names and ranges (none: all that are left), and by which rows are ordered.

    option: as it was typed, for messages.
    """

    texts: tuple[str, ...]
    order: str | None
    option: str


def nearest_of_many(name: str, known: Iterable[str]) -> str:
    """`nearest`, but of many names of which none is close the first ones are listed."""
    names = list(islice(known, MOST_NAMED))
    hint = nearest(name, names)
    if hint.startswith("did") or len(names) <= MOST_LISTED:
        return hint
    return f"there are {', '.join(names[:MOST_LISTED])} ..."


def split_place(given: str, endings: Sequence[str], option: str) -> tuple[Path, str | None]:
    """ "f.npz:audio" as path and place, None without one; the colon counts only after an ending, as "C:" has one too.

    AqaError, with the nearest ending, for a file of a kind that is not read. option: which one, for messages.
    """
    known = "|".join(re.escape(ending) for ending in sorted(endings, key=len, reverse=True))
    found = re.fullmatch(rf"(.*(?:{known}))(?::(.*))?", given, flags=re.IGNORECASE | re.DOTALL)
    if found is None:
        ending = Path(given.partition(":")[0] if ":" in given[2:] else given).suffix
        hint = nearest(ending, endings) if ending else f"known: {', '.join(endings)}"
        raise AqaError(f"{option} {given}: a file of a kind that is not read, by its ending '{ending}'; {hint}")
    if found[2] == "":
        raise AqaError(f"{option} {given}: nothing follows the colon")
    return Path(found[1]), found[2]


def split_columns(given: str, tables: Sequence[str], option: str) -> tuple[str, Columns | None]:
    """ "v/{id}.csv[f0..f127 by frame]" as what stands before the brackets, and the columns; None without brackets.

    tables: the endings of files that have columns. AqaError for brackets after another file; in the place of an array
    ("f.npz:a[0]") they belong to its name. option: which one, for messages.
    """
    found = re.fullmatch(r"(.+?)\[([^\[\]]*)\]", given, flags=re.DOTALL)
    if found is None:
        return given, None
    known = "|".join(map(re.escape, tables))
    if not re.fullmatch(rf".*(?:{known})(?::.*)?", found[1], flags=re.IGNORECASE | re.DOTALL):
        if ":" in Path(found[1]).name:
            return given, None
        raise AqaError(f"{option} {given}: columns in brackets are those of a table ({', '.join(tables)})")
    words = re.fullmatch(r"(?:(.*?)(?:\s+|^))?by\s+(.+)|(.*)", found[2].strip(), flags=re.DOTALL)
    assert words is not None
    listed, order = (words[1] or "", words[2].strip()) if words[2] else (words[3], None)
    texts = [text.strip() for text in listed.split(",")] if listed.strip() else []
    if "" in texts or not (texts or order):
        raise AqaError(f"{option} {given}: brackets name columns, such as [f0..f127], [f0,f1], [by frame]")
    return found[1], Columns(tuple(texts), order, f"{option} {given}")


def named(given: str, option: str, example: str) -> tuple[str, str]:
    """ "visual=features/{id}.npy" as name and value; AqaError where one of them is missing."""
    name, equals, value = given.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise AqaError(f"{option} {given}: write NAME=VALUE, such as {option} {example}")
    return name.strip(), value.strip()


def numbered(text: str) -> list[str] | None:
    """ "judge1..judge5" as the five names; None for a text without dots, AqaError where the two do not fit together."""
    first, dots, last = (part.strip() for part in text.partition(".."))
    if not dots:
        return None
    begin, end = (re.fullmatch(r"(.*?)(\d+)", part) for part in (first, last))
    if begin is None or end is None or begin[1] != end[1] or int(begin[2]) >= int(end[2]) or int(end[2]) > 10_000:
        raise AqaError(f"'{text}': a range of columns is two names that end in numbers, such as judge1..judge5")
    width = len(begin[2]) if begin[2].startswith("0") else 0
    return [f"{begin[1]}{number:0{width}d}" for number in range(int(begin[2]), int(end[2]) + 1)]
