"""An ensemble of unlike models: ridge regression, a Gaussian process and a network, weighted by out-of-fold scores.

Wolpert, Stacked Generalization, Neural Networks 1992; Breiman, Stacked Regressions, Machine Learning 1996, who found
weights that are not negative to be the ones that work. Task: regression of a score with any set of streams visible.

Each training video is scored by members that were trained on other videos, and with groups on videos of other groups
(`aqa.runs.members` does this). For each visible set S the scores f_k of the training videos that have all of S give

    score = (1 - w_1 - ... - w_K) m + w_1 f_1 + ... + w_K f_K,     w_k >= 0,  w_1 + ... + w_K <= 1

with m the mean label: a weighted mean of the members and the mean label, which takes the place of an intercept. The
weights minimize the squared error plus s^2 |w - c / K|^2 / 0.1^2: a prior by which all members have the same weight,
give or take 0.1. c is the weight that the plain mean of the members has in the best fit of this mean alone, and s^2 is
what this fit leaves. Without the prior a few hundred videos decide too little. A visible set that fewer than 20
training videos have takes the weights of all training videos, each seen with all that it has. Where the weights come to
less than 0.05 together, no member predicts anything: all then have the same weight, 0.05 together, since with none
every video would have the mean label for its score, and there would be no order.

A member that is fitted in closed form is fitted once more, on all training videos, and scores so. A network is not: its
score is the mean over the folds' networks. With three folds that costs twice one training, and no more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from aqa.errors import AqaError
from aqa.models import build, check, register
from aqa.models.base import AQAModel, PatternScores, RowScores, by_pattern, showing
from aqa.models.gaussian_process import VisibleSet
from aqa.registry import Several
from aqa.system.host_masks import asked, row_numbers, selected, slices, told

Floats = NDArray[np.float64]


def _with_all_options(members: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Members with the defaults of their options filled in, which a run records."""
    if "ensemble" in members:
        raise AqaError("model 'ensemble', option 'members': an ensemble cannot be a member of one")
    return {name: check(name, options) for name, options in members.items()}


Members = Annotated[
    dict[str, dict[str, Any]],
    Field(min_length=1, validate_default=True),
    AfterValidator(_with_all_options),
]

MEMBERS: dict[str, dict[str, Any]] = {"ridge": {}, "gaussian_process": {}, "mome": {"hidden_dim": 64}}
MOST_TO_WEIGH = 5  # each of their 31 visible sets has its own weights
PRIOR_DEVIATION = 0.1  # of a member's weight from the mean of all
FEWEST_TO_WEIGH = 20  # videos that weights are fitted to
LEAST_WEIGHT = 0.05  # of all members together


def visible_sets(modalities: int) -> list[VisibleSet]:
    """All visible sets of so many modalities, the complete one first."""
    return [s for s in itertools.product((True, False), repeat=modalities) if any(s)]


def member_weights(scores: Floats, target: Floats, middle: float) -> Floats:
    """The weights (K,) of members' scores (n, K), by their squared error from target (n,) and the prior.

    None is negative and their sum is 0.05 to 1; what is missing from 1 is the weight of `middle`.
    """
    count = scores.shape[1]
    apart, error = scores - middle, target - middle
    mean = apart.mean(axis=1)
    share = float(np.clip(mean @ error / max(mean @ mean, 1e-12), 0, 1))
    firm = float(np.sqrt(np.square(error - share * mean).mean())) / PRIOR_DEVIATION
    # The sum of all weights is 1, as far as a heavy equation of its own can say so (Lawson and Hanson, chapter 22).
    heavy = 1e4 * max(float(np.abs(apart).max()), firm, 1e-6) * len(target) ** 0.5
    rows = np.zeros((len(target) + count + 1, count + 1))  # the last column is of the weight of `middle`
    rows[: len(target), :count], rows[len(target) : -1, :count], rows[-1] = apart, firm * np.eye(count), heavy
    found, _ = scipy.optimize.nnls(rows, np.concatenate([error, np.full(count, firm * share / count), [heavy]]))
    weights = np.asarray(found[:-1] / found.sum(), np.float64)
    return weights if weights.sum() >= LEAST_WEIGHT else np.full(count, LEAST_WEIGHT / count)


@register("ensemble", paper="Stacked Regressions, Machine Learning 1996", year=1996)
class Ensemble(AQAModel):
    """Ridge, a Gaussian process and a network, weighted per visible set by out-of-fold scores.

    members: model -> its options; any models. folds: of the out-of-fold scores. group: of the store, whose videos are
    in one fold; by default that of `data.folds`, if there is one. learn_from: train, or train and valid together, as
    nothing is selected. Five modalities at most, as each visible set has its own weights.
    """

    # K members, M modalities.
    weights: Tensor  # (2^M, K), by the number that a visible set is in binary
    middle: Tensor  # () the mean label

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        members: Members = MEMBERS,
        folds: Several = 3,
        group: str | None = None,
        learn_from: Literal["train", "train+valid"] = "train",
    ):
        super().__init__(widths)
        if len(widths) > MOST_TO_WEIGH:
            raise AqaError(
                f"model 'ensemble' takes at most {MOST_TO_WEIGH} modalities, got {len(widths)}: each visible set has "
                "weights of its own; choose some with data.modalities"
            )
        self.options, self.folds, self.group = {name: dict(given) for name, given in members.items()}, folds, group
        self.members = nn.ModuleList()
        for name in self.options:
            first = self.fresh(name)
            further = 0 if first.closed_form else folds - 1
            self.members.append(nn.ModuleList([first, *(self.fresh(name) for _ in range(further))]))
        everyone = self.trained_apart
        self.learns_also = any(model.learns_also for model in everyone)
        self.takes_unaligned = all(model.takes_unaligned for model in everyone)
        self.differentiable = all(model.differentiable for model in everyone)
        self.shares_patterns = any(model.shares_patterns for model in everyone)
        self.numbers_rows = any(model.numbers_rows for model in everyone)
        self.concurrent = all(model.concurrent for model in everyone)
        sets, count = 2 ** len(widths), len(self.members)
        self.register_buffer("weights", torch.full((sets, count), 1 / count, dtype=torch.double))
        self.register_buffer("middle", torch.zeros((), dtype=torch.double))

    @property
    def trained_apart(self) -> list[AQAModel]:
        return [model for models in self.models_of.values() for model in models]

    @property
    def models_of(self) -> dict[str, list[AQAModel]]:
        """The models whose mean score is that of a member, by the member's name."""
        grouped = cast(Iterable[Iterable[AQAModel]], self.members)
        return {name: list(models) for name, models in zip(self.options, grouped, strict=True)}

    @property
    def parameter_count(self) -> int:
        return sum(model.parameter_count for model in self.trained_apart) + self.weights.numel()

    def fresh(self, name: str) -> AQAModel:
        """A member that has learned nothing."""
        return build(name, widths=self.widths, **self.options[name])

    def notes(self, videos: int) -> list[str]:
        return [note for models in self.models_of.values() for note in models[0].notes(videos)]

    def weigh(self, scores: Floats, target: Floats, available: NDArray[np.bool_]) -> None:
        """Set the weights from out-of-fold scores (K, S, N) of the S `visible_sets`, for targets (N,) in [0, 1].

        available: (N, M). A score counts under a set if the video has all of it.
        """
        sets = visible_sets(len(self.widths))
        self.middle = self.middle.new_tensor(target.mean())
        own = np.array([sets.index(tuple(map(bool, has))) for has in available])  # seen with all that it has
        pooled = scores[:, own, np.arange(len(target))].T
        if len(target) < FEWEST_TO_WEIGH:
            return
        common = member_weights(pooled, target, target.mean())
        for number, visible in enumerate(sets):
            having = available[:, list(visible)].all(axis=1)
            weights = common
            if having.sum() >= FEWEST_TO_WEIGH:
                weights = member_weights(scores[:, number, having].T, target[having], target.mean())
            self.weights[self._numbered(torch.tensor([visible]))] = self.weights.new_tensor(weights)

    def weights_of(self, visible: VisibleSet) -> Tensor:
        """The members' weights under a visible set, (K,)."""
        return self.weights[self._numbered(torch.tensor([visible]))][0]

    def _numbered(self, visible: Tensor) -> Tensor:
        """The number of each row's visible set, (B,)."""
        places = 2 ** torch.arange(len(self.widths), device=visible.device)
        return (visible * places).sum(dim=1)

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.weighed(self.member_scores(features, visible, lengths), visible)

    def weighed(self, found: Tensor, visible: Tensor) -> Tensor:
        """The score (B,) that the members' scores (K, B) make by the weights of each row's visible set."""
        weights = self.weights[self._numbered(visible)].T  # (K, B)
        mean = (weights * found.double()).sum(dim=0) + (1 - weights.sum(dim=0)) * self.middle
        return mean.clamp(0, 1).float()

    def score_patterns(
        self,
        features: Mapping[str, Tensor],
        visible: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
        *,
        diagnose: bool = False,
    ) -> PatternScores:
        """As in `AQAModel`: members whose patterns share work do it once."""
        visible = told(visible)
        means = [
            torch.stack([model.score_patterns(features, visible, lengths).score for model in models]).mean(dim=0)
            for models in self.models_of.values()
        ]
        fused: list[RowScores | None] = []
        for members, seen in zip(torch.stack(means, dim=1), slices(visible, 0), strict=True):  # (K, B), (B, M)
            rows = showing(seen)
            said = members[:, row_numbers(rows)]
            scored = asked(rows).any()
            fused.append(RowScores(self.weighed(said, selected(seen, rows)), {"members": said.T}) if scored else None)
        return by_pattern(visible, fused, diagnose)

    def member_scores(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The score of each member, (K, B)."""
        means = [
            torch.stack([model.score(features, visible, lengths) for model in models]).mean(dim=0)
            for models in self.models_of.values()
        ]
        return torch.stack(means)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """members: (B, K), the score of each."""
        return {"members": self.member_scores(features, visible, lengths).T}
