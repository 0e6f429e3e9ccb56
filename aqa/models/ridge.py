"""Ridge regression on each channel's mean and standard deviation, the baseline that takes a second.

Hoerl and Kennard, Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 1970; scikit-learn's
`RidgeCV`, which chooses the penalty by leave-one-out. A video is the mean and the standard deviation of every channel
over its real clips, zeros for streams that are hidden or absent; each of these numbers is standardized over the
training set, in which streams are hidden as the experiment's pattern says. It is fitted once, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aqa.errors import AqaError
from aqa.layers.clips import rows_of, scatter_rows
from aqa.layers.statistics import channel_statistics
from aqa.models import register
from aqa.models.base import AQAModel, Example, LeftOut
from aqa.system.host_masks import slices

Penalties = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 5, 21))


@register(
    "ridge", paper="Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 1970", year=1970
)
class Ridge(AQAModel):
    """Ridge regression on channel means and deviations, fitted in closed form.

    alphas: the penalties of which leave-one-out cross-validation chooses.
    """

    closed_form = True
    takes_unaligned = True

    # What was fitted, P = 2 * sum of widths numbers per video; double, as it was fitted in.
    centre: Tensor  # (P,)
    scale: Tensor  # (P,)
    weight: Tensor  # (P,)
    bias: Tensor  # ()
    alpha: Tensor  # (), the penalty chosen

    def __init__(self, widths: Mapping[str, int], *, alphas: Penalties = ALPHAS):
        super().__init__(widths)
        self.alphas = alphas
        inputs = 2 * sum(widths.values())
        for name, start in {"centre": 0.0, "scale": 1.0, "weight": 0.0}.items():
            self.register_buffer(name, torch.full((inputs,), start, dtype=torch.double))
        for name in ("bias", "alpha"):
            self.register_buffer(name, torch.zeros((), dtype=torch.double))

    @property
    def parameter_count(self) -> int:
        return len(self.weight) + 1

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        described = (self.describe(features, visible, lengths) - self.centre) / self.scale
        return (described @ self.weight + self.bias).clamp(0, 1).float()

    def fit(self, batches: Iterable[Example]) -> dict[str, float]:
        """Fit to videos as they are visible; "loss" is the mean squared error on them."""
        from sklearn.linear_model import RidgeCV  # here: it takes seconds to import, and other models do not need it
        from sklearn.preprocessing import StandardScaler

        described, targets = [], []
        for example in batches:
            described.append(self.describe(example.features, example.visible, example.lengths).cpu().numpy())
            targets.append(example.target.double().cpu().numpy())
        if not described:
            raise AqaError("missing.train leaves no training sample with a visible modality")
        inputs, target = np.concatenate(described), np.concatenate(targets)
        scaler = StandardScaler().fit(inputs)
        with np.errstate(invalid="ignore"):  # nothing can be left out of a single video, or of equal ones
            ridge = RidgeCV(np.array(self.alphas)).fit(scaler.transform(inputs), target)
        fitted = (scaler.mean_, scaler.scale_, ridge.coef_, ridge.intercept_, ridge.alpha_)
        for buffer, value in zip((self.centre, self.scale, self.weight, self.bias, self.alpha), fitted, strict=True):
            buffer.copy_(torch.as_tensor(value, dtype=torch.double))
        error = ridge.predict(scaler.transform(inputs)) - target
        return {"loss": float(np.mean(error**2))}

    def left_out(self, batches: Iterable[Example], sets: Sequence[Sequence[bool]]) -> list[LeftOut]:
        """The same penalty and standardization, without one video each. Hastie et al. 2009, section 7.10.

        Without video i, of inputs z_i as it was learned from, the weights change by -(X'X + alpha I)^-1 z_i r_i /
        (1 - h_i). What it then scores under a visible set are its inputs x_i as they are seen through that set.
        """
        full, shown, available, targets = [], [], [], []
        for example in batches:
            full.append(self.describe(example.features, example.available, example.lengths))
            shown.append(example.visible)
            available.append(example.available)
            targets.append(example.target.double())
        inputs, seen, has, target = (torch.cat(parts) for parts in (full, shown, available, targets))
        learned = self._through(inputs, seen)
        residual = target - (learned @ self.weight + self.bias)
        gram = learned @ learned.T
        inverse = torch.linalg.inv(gram + self.alpha * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
        leverage = 1 / len(gram) + (gram * inverse).sum(dim=1)
        found = []
        for chosen in sets:
            subset = torch.tensor(list(chosen), device=has.device)
            rows = has[:, subset].all(dim=1)
            looked = self._through(inputs, has & subset)[rows]
            pull = 1 / len(gram) + (looked @ learned.T * inverse[rows]).sum(dim=1)
            score = looked @ self.weight + self.bias - pull * (residual / (1 - leverage))[rows]
            found.append(LeftOut(score.clamp(0, 1), target[rows]))
        return found

    def _through(self, inputs: Tensor, visible: Tensor) -> Tensor:
        """What describes videos (n, P), seen through (n, M), standardized."""
        counts = torch.tensor([2 * width for width in self.widths.values()], device=visible.device)
        return (inputs * visible.repeat_interleave(counts, dim=1) - self.centre) / self.scale

    def describe(self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None) -> Tensor:
        """Mean and standard deviation of each channel, modality by modality, zeros where hidden: (B, P)."""
        parts = []
        for m, rows in zip(self.modalities, slices(visible, 1), strict=True):
            clips = None if lengths is None else rows_of(lengths[m], rows)
            part = torch.cat(channel_statistics(rows_of(features[m], rows).double(), clips), dim=1)
            parts.append(scatter_rows(part, rows))
        return torch.cat(parts, dim=1)
