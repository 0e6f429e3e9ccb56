"""YAML files read as plain data, with the line of each key."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from aqa.config.schema import Experiment
from aqa.errors import AqaError, first_line, nearest
from aqa.system.files import has_file

MOST_BYTES = 2**20  # of a YAML file
MOST_DIGITS = 40  # of a whole number in it
MOST_LISTED = 8  # files in a hint
DEEPEST = 50  # how far its mappings and lists may be nested


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
    if not has_file(path):
        raise AqaError(f"there is no file {path}; {_nearest_file(path)}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise AqaError(f"{path} has {size} bytes; a YAML file has {MOST_BYTES} at most")
    lines: dict[str, int] = {}
    try:
        loader = _PlainLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        _walk(root, "", lines, path)
        content = loader.construct_document(root) if root is not None else None
    except UnicodeDecodeError:
        raise AqaError(f"{path}: not valid YAML: it is not text in UTF-8") from None
    except RecursionError:
        raise AqaError(f"{path}: not valid YAML: nested more than {DEEPEST} deep") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no such day as 2025-13-40
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or first_line(error)
        raise AqaError(f"{path}{line}: not valid YAML: {problem}") from None
    if not isinstance(content, dict):
        raise AqaError(f"{path}: an experiment file is a mapping of keys ({', '.join(Experiment.model_fields)})")
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


def parse_value(text: str) -> Any:
    """A value given on the command line, as plain YAML; YAMLError, ValueError or RecursionError for what is not."""
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
