"""Patterns made of patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from aqa.errors import AqaError, nearest
from aqa.missing.base import PATTERNS, Draws, MissingPattern, Videos, Visibility
from aqa.missing.parsing import parse_pattern


@PATTERNS.register("fixed")
class Fixed(MissingPattern):
    """Another pattern drawn once: the training set itself is incomplete, and what is hidden is never seen again.

    Written {fixed: PATTERN}, or {fixed: {pattern: PATTERN, seed: 7}} for a draw that does not follow the run's seed.
    """

    def __init__(self, modalities: Sequence[str], *, pattern: MissingPattern, seed: int | None = None):
        super().__init__(modalities)
        self.pattern, self.seed = pattern, seed

    @classmethod
    def parse(cls, modalities: Sequence[str], value: Any, where: str) -> MissingPattern:
        if not (isinstance(value, Mapping) and "pattern" in value):
            value = {"pattern": value}
        unknown = [key for key in value if key not in ("pattern", "seed")]
        if unknown:
            raise AqaError(f"{where} has no option '{unknown[0]}': {nearest(unknown[0], ('pattern', 'seed'))}")
        if not isinstance(value.get("seed", 0), int):
            raise AqaError(f"{where}, option 'seed': a whole number is needed, got {value['seed']!r}")
        return cls(modalities, pattern=parse_pattern(value["pattern"], modalities, where), seed=value.get("seed"))

    @property
    def name(self) -> str:
        return f"fixed {self.pattern.name}"

    @property
    def has_a_reason(self) -> bool:
        return self.pattern.has_a_reason

    def informed(self, videos: Videos) -> MissingPattern:
        return Fixed(self.modalities, pattern=self.pattern.informed(videos), seed=self.seed)

    def remaining(self, available: Visibility, draws: Draws) -> Visibility:
        seed = draws.seed if self.seed is None else self.seed
        once = replace(Draws.once(seed, draws.sample), part=draws.part)
        return self.pattern.visible(available, once)


@PATTERNS.register("combine")
class Combine(MissingPattern):
    """Several patterns in turn, drawn independently: {combine: [{fixed: {rates: {audio: 0.5}}}, random_subset]}."""

    def __init__(self, modalities: Sequence[str], *, patterns: list[MissingPattern]):
        super().__init__(modalities)
        self.patterns = patterns

    @classmethod
    def parse(cls, modalities: Sequence[str], value: Any, where: str) -> MissingPattern:
        if not isinstance(value, list) or not value:
            raise AqaError(f"{where} takes a list of patterns, got {value!r}")
        return cls(modalities, patterns=[parse_pattern(v, modalities, where) for v in value])

    @property
    def name(self) -> str:
        return " & ".join(pattern.name for pattern in self.patterns)

    def informed(self, videos: Videos) -> MissingPattern:
        return Combine(self.modalities, patterns=[pattern.informed(videos) for pattern in self.patterns])

    def remaining(self, available: Visibility, draws: Draws) -> Visibility:
        for i, pattern in enumerate(self.patterns):
            available = pattern.remaining(available, draws.of_part(str(i)))
        return available

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        for i, pattern in enumerate(self.patterns):
            available = pattern.visible(available, draws.of_part(str(i)))
        return available

    def damage(self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        for i, pattern in enumerate(self.patterns):
            features = pattern.damage(features, lengths, draws.of_part(str(i)))
        return dict(features)

    @property
    def damages(self) -> bool:
        return any(pattern.damages for pattern in self.patterns)

    @property
    def has_a_reason(self) -> bool:
        return any(pattern.has_a_reason for pattern in self.patterns)
