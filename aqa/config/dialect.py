"""The YAML of this project: plain data, and few words that are anything but text.

It is a subset of YAML 1.1. Numbers are decimal (`1`, `0.5`, `1e-4`, `.inf`), `true` and `false` are truth values,
`null`, `~` and nothing are null. All else is text: `no`, `on`, `007`, `1_000`, `12:30:45` and `2024-05-01` too. Keys
are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import yaml
from yaml.composer import Composer, ComposerError

MOST_DIGITS = 40  # of a whole number
DEEPEST = 50  # how far mappings and lists may be nested

_TAG = "tag:yaml.org,2002:"
TEXT, NULL, MERGE, INT = (_TAG + name for name in ("str", "null", "merge", "int"))
#: What a plain scalar may be other than text: its pattern, and the characters that it may begin with.
_FLOAT = r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
_IMPLICIT = {
    _TAG + "bool": (r"true|True|false|False", "tTfF"),
    NULL: (r"~|null|Null|", ("~", "n", "N", "")),
    INT: (r"0|-?[1-9][0-9]*", "-0123456789"),
    _TAG + "float": (rf"{_FLOAT}|\.(?:nan|NaN|NAN)", "-+.0123456789"),
}
_PLAIN = {TEXT, _TAG + "seq", _TAG + "map", *_IMPLICIT}

#: Whether a scalar is text as it is typed, by the keys above it: "no", "yes", or "unless null".
TakesText = Callable[[Sequence[str]], Literal["no", "yes", "unless null"]]


def _resolvers(implicit: dict[str, tuple[str, Sequence[str]]]) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, (pattern, firsts) in implicit.items():
        for first in firsts:
            found.setdefault(first, []).append((tag, re.compile(rf"(?:{pattern})\Z")))
    return found


class NotAccepted(yaml.MarkedYAMLError):
    """What is valid YAML and would do harm."""


class _Plain(Composer):
    """Plain data only, whatever parses it: no aliases, by which a small file unfolds without end, and no deep nesting,
    which would end the process."""

    yaml_implicit_resolvers = _resolvers(_IMPLICIT)
    yaml_constructors: ClassVar = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag in _PLAIN
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]
        if isinstance(event, yaml.AliasEvent):
            mark: Any = event.start_mark
            raise ComposerError(None, None, "aliases are not accepted", mark)
        if self.depth > DEEPEST:
            raise NotAccepted(problem=f"nested more than {DEEPEST} deep", problem_mark=event.start_mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        is_key = isinstance(parent, yaml.MappingNode) and index is None
        if is_key and isinstance(node, yaml.ScalarNode) and node.tag in _IMPLICIT:
            node.tag = TEXT
        return node


class PlainLoader(_Plain, yaml.SafeLoader):
    """Python's parser: its messages are the same everywhere."""


class CommandLineLoader(PlainLoader):
    """Reads Python's None as null, too: agents of Weights & Biases write values as Python does."""

    yaml_implicit_resolvers = _resolvers({**_IMPLICIT, NULL: (r"~|null|Null|None|", ("~", "n", "N", ""))})


class FastLoader(_Plain, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's parser, ten times as fast, where PyYAML was built with it."""

    def __init__(self, stream: str):
        Composer.__init__(self)
        getattr(yaml, "CSafeLoader", yaml.SafeLoader).__init__(self, stream)


class PlainDumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or this subset of it takes for anything but text; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # U+0085 is a line break in YAML 1.1, read back as a space unless it is escaped.
        style = '"' if "\x85" in data else None
        return self.represent_scalar(TEXT, data, style=style)


PlainDumper.add_representer(str, PlainDumper.represent_str)
PlainDumper.add_implicit_resolver(_TAG + "float", re.compile(rf"(?:{_FLOAT})\Z"), list("-+.0123456789"))
PlainDumper.add_implicit_resolver(NULL, re.compile(r"None\Z"), ["N"])


def no_text(path: Sequence[str]) -> Literal["no"]:
    """Every scalar is what YAML says."""
    return "no"


def parse(text: str, takes_text: TakesText = no_text, loader: Any = PlainLoader) -> tuple[Any, dict[str, int]]:
    """YAML as plain data, and the line of each dotted key.

    takes_text: where a scalar is text as it is typed, though it looks like a number, a truth value or null. YAMLError
    or ValueError for what is not plain YAML, a key that is given twice among it.
    """
    reader = loader(text)
    lines: dict[str, int] = {}
    try:
        root = reader.get_single_node()
        if root is None:
            return None, lines
        _walk(root, (), lines, takes_text)
        return reader.construct_document(root), lines
    finally:
        reader.dispose()


def _walk(node: yaml.Node, path: tuple[str, ...], lines: dict[str, int], takes_text: TakesText) -> None:
    """Note the line of each key, and make text of what is to be text; NotAccepted for what would do harm."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            name = ".".join(inner)
            if key.tag == MERGE or (key.value == "<<" and not key.style):
                raise NotAccepted(problem="merge keys (<<) are not accepted", problem_mark=key.start_mark)
            if name in lines:
                problem = f"'{name}' is already given on line {lines[name]}"
                raise NotAccepted(problem=problem, problem_mark=key.start_mark)
            lines[name] = key.start_mark.line + 1
            _walk(value, inner, lines, takes_text)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*path, str(i)), lines, takes_text)
    elif node.tag in _IMPLICIT and node.value:
        takes = takes_text(path)
        if takes == "yes" or (takes == "unless null" and node.tag != NULL):
            node.tag = TEXT
        elif node.tag == INT and len(node.value) > MOST_DIGITS:
            raise NotAccepted(problem=f"a number of {len(node.value)} digits", problem_mark=node.start_mark)


def dump(content: Any) -> str:
    """Plain data as YAML that `parse` reads back to the same values."""
    return yaml.dump(content, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


def in_one_line(value: Any) -> str:
    """A value as YAML in one line; a text as it is."""
    if isinstance(value, str):
        return value
    return _scalar(value, repr(value)) if value is None or isinstance(value, bool | int | float) else _flow(value)


@lru_cache(maxsize=4096)
def _scalar(value: bool | float | None, written: str) -> str:
    """A report asks for the same few of each run. written: tells equal ones apart, as 1, 1.0 and True."""
    return _flow(value)


def quoted(text: str) -> str:
    """A text in double quotes, as YAML in one line."""
    return _flow(text, default_style='"')


def _flow(value: Any, **style: Any) -> str:
    text = yaml.dump(value, Dumper=PlainDumper, default_flow_style=True, width=10**6, sort_keys=False, **style)
    return text.removesuffix("...\n").strip()
