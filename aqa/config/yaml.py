"""YAML files: finding and reading them, with the line of each key."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from aqa.config.dialect import NotAccepted, TakesText, parse
from aqa.config.schema import Experiment
from aqa.errors import AqaError, first_line, nearest
from aqa.system.files import has_file

MOST_BYTES = 2**20  # of a YAML file
MOST_LISTED = 8  # files in a hint


def read_yaml(
    path: Path, takes_text: TakesText, kind: str = "an experiment file", keys: Iterable[str] = Experiment.model_fields
) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML file's mapping and the line of each dotted key; plain data only, no tags, no key twice.

    takes_text: which keys are text, by the schema of the file, whatever is typed there. kind, keys: what the file is
    and what it may say, for messages.
    """
    if not has_file(path):
        raise AqaError(f"there is no file {path}; {_nearest_file(path)}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise AqaError(f"{path} has {size} bytes; a YAML file has {MOST_BYTES} at most")
    try:
        content, lines = parse(path.read_text(encoding="utf-8"), takes_text)
    except UnicodeDecodeError:
        raise AqaError(f"{path}: not valid YAML: it is not text in UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        said = problem if isinstance(error, NotAccepted) else f"not valid YAML: {problem}"
        raise AqaError(f"{path}{line}: {said}") from None
    if not isinstance(content, dict):
        raise AqaError(f"{path}: {kind} is a mapping of keys ({', '.join(keys)})")
    return content, lines


def _nearest_file(path: Path) -> str:
    """A hint for a YAML file that is not there: the same name in a folder nearby, or the nearest name beside it."""
    beside = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    if not beside:  # the folder is misspelt, or left out
        above = next((folder for folder in path.parents if folder.is_dir()), Path())
        beside = [str(file) for file in (*above.glob("*.y*ml"), *above.glob("*/*.y*ml"))]
    else:
        beside += [str(file) for file in path.parent.glob(f"*/{glob.escape(path.name)}")]
    same = [file for file in beside if Path(file).name == path.name]
    if len(same) == 1:
        return f"did you mean '{same[0]}'?"
    hint = nearest(str(path), sorted(beside)) if beside else "there is no YAML file nearby"
    return hint if len(beside) <= MOST_LISTED or hint.startswith("did") else f"there are {len(beside)} others nearby"


def split_by_shell(words: Sequence[str]) -> str:
    """What a user meant whose shell split a value at its spaces, in quotes; "" where no brackets were torn apart.

    `missing.train={rates:` and `0.3}` are `missing.train='{rates: 0.3}'`.
    """
    for first in range(len(words)):
        for last in range(first + 1, len(words)):
            joined = " ".join(words[first : last + 1])
            if _open_brackets(words[first]) <= 0:
                break
            if not _open_brackets(joined):
                key, equals, value = joined.partition("=")
                named = equals and key.replace(".", "").isidentifier()
                return f"{key}='{value}'" if named else f"'{joined}'"
    return ""


def _open_brackets(text: str) -> int:
    return sum(text.count(opening) for opening in "{[") - sum(text.count(closing) for closing in "}]")
