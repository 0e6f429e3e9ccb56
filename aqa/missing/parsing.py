"""From what an experiment file says to missing patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aqa.config.dialect import parse
from aqa.errors import AqaError, nearest
from aqa.missing.base import PATTERNS, MissingPattern
from aqa.missing.hiding import RandomSubset, Subset
from aqa.modalities import MOST_MODALITIES, find_subset, subsets


def parse_pattern(spec: Any, modalities: Sequence[str], where: str) -> MissingPattern:
    """One pattern from an experiment file: a name, a subset's name, or a mapping of one name to its options."""
    if isinstance(spec, MissingPattern):
        return spec
    if isinstance(spec, int) and not isinstance(spec, bool):
        spec = str(spec)  # initials that are digits: 12 of 1rgb and 2flow
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, value = next(iter(spec.items()))
    elif isinstance(spec, str) or spec is None:
        name, value = spec or "none", None
    else:
        raise AqaError(f"{where}: a missing pattern is a name or one name with its options, got {spec!r}")
    if value is None:
        if name == "all_subsets":
            return RandomSubset(modalities, include_complete=True)
        if name == "complete":
            return Subset(modalities, [True] * len(modalities))
        if subset := find_subset(modalities, str(name)):
            return Subset(modalities, subset)
        named = subsets(modalities) if len(modalities) <= MOST_MODALITIES else {}
        known = [*PATTERNS.names(), "all_subsets", "complete", *named]
    else:
        known = PATTERNS.names()
    if name not in PATTERNS.names():
        raise AqaError(f"{where}: unknown missing pattern '{name}': {nearest(str(name), known)}")
    try:
        return PATTERNS.get(name).make.parse(modalities, value, f"missing pattern '{name}'")
    except AqaError as error:
        raise AqaError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def patterns_of_text(text: str, where: str) -> Any:
    """What a user typed as patterns, as `parse_test_patterns` takes it: YAML, or names with commas such as VA,V."""
    try:
        spec, _ = parse(text, lambda path: "unless null" if len(path) < 2 else "no")  # initials may be digits
    except (yaml.YAMLError, ValueError):
        raise AqaError(f"{where}: not valid YAML: {text}") from None
    return [name.strip() for name in spec.split(",")] if isinstance(spec, str) and "," in spec else spec


def parse_test_patterns(spec: Any, modalities: Sequence[str], where: str) -> dict[str, MissingPattern]:
    """The patterns to test under, by name: "all_subsets", or a list of patterns."""
    if spec == "all_subsets":
        return {name: Subset(modalities, subset) for name, subset in subsets(modalities).items()}
    if spec == []:
        raise AqaError(f"{where} lists no pattern; all_subsets takes every subset")
    patterns: dict[str, MissingPattern] = {}
    for one in spec if isinstance(spec, list) else [spec]:
        pattern = parse_pattern(one, modalities, where)
        if pattern.name in patterns:
            raise AqaError(f"{where} lists the pattern {pattern.name} twice")
        patterns[pattern.name] = pattern
    return patterns
