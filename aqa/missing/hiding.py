"""Patterns that hide modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest
from aqa.missing.base import PATTERNS, Draws, MissingPattern, Visibility, keep_one
from aqa.modalities import MOST_MODALITIES, find_subset, subset_name, subsets
from aqa.registry import check_options


@PATTERNS.register("none")
class Nothing(MissingPattern):
    """Nothing is hidden: all that is available is visible."""

    name = "none"


class Subset(MissingPattern):
    """A named subset, the same for every sample: "VA" shows visual and audio where they are available.

    A sample that has none of them stays without: it cannot be scored, and is reported.
    """

    def __init__(self, modalities: Sequence[str], subset: Sequence[bool]):
        super().__init__(modalities)
        self.subset = tuple(subset)

    @property
    def name(self) -> str:
        return subset_name(self.modalities, self.subset)

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        return available & np.array(self.subset)


@PATTERNS.register("random_subset")
class RandomSubset(MissingPattern):
    """A subset drawn evenly from the incomplete ones, one draw per batch (as MCMoE is published) or per sample.

    per: "batch" or "sample". include_complete: the complete set is drawn too. only: names of the subsets to draw from.
    A sample that has no modality of the subset drawn shows one that it has.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        per: Literal["batch", "sample"] = "batch",
        include_complete: bool = False,
        only: list[str] | None = None,
    ):
        super().__init__(modalities)
        self.per, self.include_complete, self.only = per, include_complete, only
        if only is not None and not only:
            raise AqaError("missing pattern 'random_subset': only lists no subset")
        if only is None:
            drawn = [s for s in subsets(modalities).values() if include_complete or not all(s)]
        else:
            drawn = [_subset(modalities, name) for name in only]
        if not drawn:
            raise AqaError("missing pattern 'random_subset' hides nothing of a single modality; use none")
        self.choices: Visibility = np.array(drawn)

    @property
    def name(self) -> str:
        of = "+".join(self.only) if self.only else "all" if self.include_complete else "incomplete"
        return f"random_subset({of}, per {self.per})"

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        drawn = draws.uniform("subset", per=self.per)[:, 0] * len(self.choices)
        return keep_one(available & self.choices[drawn.astype(np.int64)], available, draws)


@PATTERNS.register("only")
class Only(RandomSubset):
    """One of the subsets listed, drawn as random_subset draws: {only: [VA, V]}."""

    @classmethod
    def parse(cls, modalities: Sequence[str], value: Any, where: str) -> MissingPattern:
        listed = value if isinstance(value, list) else [value]
        return cls(modalities, only=[str(name) for name in listed])


@PATTERNS.register("rates")
class Rates(MissingPattern):
    """Each modality is missing at its own rate, in the share of samples that have it: {rates: {visual: 0.3}}.

    One modality always stays, without bending the rates: subsets are drawn from independent draws conditioned on not
    being empty, with the draws' probabilities solved so that every rate is met exactly. Where the rates leave less than
    one modality a sample on average (three times 0.7), exactly one stays, in proportion to what the rates would leave,
    and the rates met are lower: with M modalities none can average over (M - 1) / M.
    """

    def __init__(self, modalities: Sequence[str], *, rates: dict[str, float]):
        super().__init__(modalities)
        self._index(list(rates))
        for modality, rate in rates.items():
            if not 0 <= rate <= 1:
                raise AqaError(f"missing pattern 'rates': {modality} is {rate}, not between 0 and 1")
        if len(modalities) > MOST_MODALITIES:
            raise AqaError(f"missing pattern 'rates' takes at most {MOST_MODALITIES} modalities")
        self.rates = np.array([rates.get(m, 0.0) for m in self.modalities])

    @classmethod
    def parse(cls, modalities: Sequence[str], value: Any, where: str) -> MissingPattern:
        rates = value if isinstance(value, Mapping) else dict.fromkeys(modalities, value)
        return cls(modalities, **check_options(cls, {"rates": rates}, where))

    @property
    def name(self) -> str:
        if len(set(self.rates)) == 1:
            return f"rates({self.rates[0]:g})"
        return "rates(" + ", ".join(f"{m} {r:g}" for m, r in zip(self.modalities, self.rates, strict=True)) + ")"

    def visible(self, available: Visibility, draws: Draws) -> Visibility:
        drawn = draws.uniform("rates")[:, 0]
        visible = np.zeros_like(available)
        for has in np.unique(available, axis=0):
            if has.any():
                rows = (available == has).all(axis=1)
                shown, probability = self._distribution(has)
                place = np.searchsorted(np.cumsum(probability), drawn[rows], side="right")
                visible[rows] = shown[np.minimum(place, len(shown) - 1)]
        return visible

    def _distribution(self, has: Visibility) -> tuple[Visibility, NDArray[np.float64]]:
        """The subsets (S, M) of a sample's modalities and their probabilities (S,)."""
        stay = np.where(has, 1.0 - self.rates, 0.0)
        shown = np.array([s for s in subsets(self.modalities).values() if not (np.array(s) & ~has).any()])
        if stay.sum() <= 1.0 + 1e-6:  # rates that come to one modality need not sum to it exactly
            weights = np.where(shown.sum(axis=1) == 1, shown @ (stay if stay.any() else has.astype(float)), 0.0)
            return shown, weights / weights.sum()
        # With p = c * stay, the chance of a modality given that the subset is not empty is p / (1 - prod(1 - p)), which
        # is `stay` for the c that solves the line below.
        scale = 1.0
        if not np.any(stay == 1.0):
            scale = scipy.optimize.brentq(lambda c: -np.expm1(np.log1p(-c * stay).sum()) / c - 1.0, 1e-9, 1.0)
        p = scale * stay
        weights = np.prod(np.where(shown, p, 1.0 - p), axis=1)
        return shown, weights / weights.sum()


def _subset(modalities: Sequence[str], name: str) -> tuple[bool, ...]:
    """The subset of that name; AqaError with the nearest one otherwise."""
    subset = find_subset(modalities, name)
    if subset is None:
        known = subsets(modalities) if len(modalities) <= MOST_MODALITIES else modalities
        raise AqaError(f"unknown subset '{name}': {nearest(name, known)}")
    return subset
