"""Models of one kind that were trained from different seeds, as one model: the mean of their scores.

Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017.
The spread is the standard deviation of the members' scores: where they disagree, the training videos decide little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from aqa.models.base import AQAModel, PatternScores, showing
from aqa.system.host_masks import asked, row_numbers, slices, told

TRAITS = (
    *("takes_unaligned", "shares_patterns", "numbers_rows", "mask_padding", "fixed_shapes", "concurrent"),
    "differentiable",
)


class SeedEnsemble(AQAModel):
    """The mean of models of one kind. members: two or more."""

    def __init__(self, members: Sequence[AQAModel]):
        first = members[0]
        super().__init__(first.widths)
        self.members = nn.ModuleList(members)
        for trait in TRAITS:
            setattr(self, trait, getattr(first, trait))

    @property
    def trained_apart(self) -> list[AQAModel]:
        return cast(list[AQAModel], list(self.members))

    @property
    def parameter_count(self) -> int:
        return sum(member.parameter_count for member in self.trained_apart)

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return torch.stack([member.score(features, visible, lengths) for member in self.trained_apart]).mean(dim=0)

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        return self.score_patterns(features, visible.unsqueeze(0), lengths, diagnose=True).diagnostics[0]

    def score_patterns(
        self,
        features: Mapping[str, Tensor],
        visible: Tensor,
        lengths: Mapping[str, Tensor] | None = None,
        *,
        diagnose: bool = False,
    ) -> PatternScores:
        """As in `AQAModel`. "deviation" among the diagnostics is the spread, in place of the members' own."""
        visible = told(visible)
        found = [member.score_patterns(features, visible, lengths, diagnose=diagnose) for member in self.trained_apart]
        scores = torch.stack([each.score for each in found])  # (K, P, B)
        diagnostics: list[dict[str, Tensor]] = [{} for _ in visible]
        for p, rows in enumerate(slices(showing(visible), 0)):
            if diagnose and asked(rows).any():
                said = [each.diagnostics[p] for each in found]
                diagnostics[p] = {name: torch.stack([one[name] for one in said]).mean(dim=0) for name in said[0]}
                diagnostics[p]["deviation"] = scores[:, p, row_numbers(rows)].std(dim=0)
        return PatternScores(scores.mean(dim=0), diagnostics)
