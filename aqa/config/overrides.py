"""Changes to an experiment as they are typed: key.key=value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from aqa.config.dialect import CommandLineLoader, TakesText, in_one_line, parse, quoted
from aqa.config.text_keys import experiment_takes_text
from aqa.errors import AqaError, brief

NO_VALUE = ("", "~", "null", "Null", "None")  # null, for a key that is text and may be without


def parse_override(text: str) -> tuple[str, Any]:
    """The dotted key and the value of a change; AqaError for what is not one."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise AqaError(f"{brief(text)} is not an override; write key.key=value, such as train.seed=1")
    parts = key.split(".")
    try:
        return key, _value(value.strip(), lambda path: experiment_takes_text([*parts, *path]))
    except (yaml.YAMLError, ValueError):
        raise AqaError(f"{brief(text)}: the value is not valid YAML") from None


def as_override(key: str, value: Any) -> str:
    """The change as a user would type it, which `parse_override` reads back to the same value."""
    typed = f"{key}={in_one_line(value)}"
    if not isinstance(value, str):
        return typed
    try:
        return typed if parse_override(typed) == (key, value) else f"{key}={quoted(value)}"
    except AqaError:
        return f"{key}={quoted(value)}"


def _value(text: str, takes_text: TakesText) -> Any:
    """A typed value: as it stands for a key that is text, unless it is quoted as a whole; otherwise YAML.

    A `#` begins no comment: what YAML does not read to its end is text.
    """
    takes = takes_text(())
    if takes != "no" and not _is_quoted(text):
        return None if not text or (takes == "unless null" and text in NO_VALUE) else text
    tokens = [token for token in yaml.scan(text, Loader=CommandLineLoader) if not isinstance(token, _WITHOUT_TEXT)]
    end = max((token.end_mark.index for token in tokens), default=0)
    return text if text[end:].strip() else parse(text, takes_text, CommandLineLoader)[0]


_WITHOUT_TEXT = (yaml.StreamStartToken, yaml.StreamEndToken, yaml.BlockEndToken)


def _is_quoted(text: str) -> bool:
    """Whether a text is one quoted scalar of YAML, from its first character to its last."""
    if text[:1] not in ("'", '"'):
        return False
    try:
        tokens: Sequence[yaml.Token] = list(yaml.scan(text, Loader=CommandLineLoader))
    except yaml.YAMLError:
        return False
    return len(tokens) == 3 and isinstance(tokens[1], yaml.ScalarToken) and tokens[1].end_mark.index == len(text)
