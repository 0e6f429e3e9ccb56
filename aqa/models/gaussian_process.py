"""A Gaussian process on channel statistics: the project's own model for small rated data sets, fitted in closed form.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: prediction (section 2.2), marginal likelihood
(5.4.1), leave-one-out (5.4.2). The additive kernel follows Duvenaud et al., Additive Gaussian Processes, NeurIPS 2011;
the sum of kernels per stream follows Goenen and Alpaydin, Multiple Kernel Learning Algorithms, JMLR 2011.
Task: regression of a score from pooled clip features, with any set of streams visible.

A video is described by groups of numbers, one group per modality and statistic: by default the mean and the standard
deviation of every channel over its real clips. Each number is standardized by the training videos that have the
modality, and clipped at 5. For the p numbers x and z of one group of two videos the default kernel is

    k_g(x, z) = a_g <x, z> / p + b_g exp(-|x - z|^2 / (2 l_g^2 p))

and the kernel of a visible set S is the sum of k_g over the groups of those modalities of S that both videos have.
Each visible set has a predictor of its own, and nothing is imputed: a stream that is hidden or absent adds nothing.

A predictor learns from all training videos that have a modality of its visible set, seen through this set only. A
stream that the training pattern hides for an epoch is used all the same; one that a `fixed` pattern hides never is.
Everything is computed in float64, and by one thread up to 2,000 videos, so that the number of threads changes no bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from aqa.errors import AqaError
from aqa.layers.covariance import Floats, Pairs, covariance, prior_means, summed, terms
from aqa.layers.statistics import NUMBERS, channel_statistics
from aqa.models import register
from aqa.models.base import AQAModel, Example, LeftOut
from aqa.registry import Positive

CLIPPED_AT = 5.0  # standard deviations from the mean of the training videos
ROUNDING = 2.0**-20  # relative; a number that deviates by less is constant as far as float32 can tell
PRIOR_WEIGHT = 0.1  # of their squared deviations from these means
LARGEST_LOG = 10.0
ONE_THREAD = 2000  # videos up to which one thread is fast enough

StatisticNames = Annotated[
    tuple[Literal["mean", "deviation", "slope", "quantiles", "autocorrelation"], ...], Field(min_length=1)
]
KernelNames = Annotated[tuple[Literal["linear", "rbf", "matern52"], ...], Field(min_length=1)]
VisibleSet = tuple[bool, ...]  # in the order of the modalities


# -- the marginal likelihood


def negative_likelihood(logs: Floats, groups: Sequence[Pairs], names: Sequence[str], y: Tensor) -> tuple[float, Floats]:
    """Minus the log marginal likelihood of y (n,), plus the penalty; and the gradient (K,). Equations 5.8 and 5.9.

    The variance that scales kernel and noise alike is profiled out: y' (K + s I)^-1 y / n. Constants are left out.
    """
    noise, apart = math.exp(logs[-1]), logs - prior_means(names, len(groups))
    found = [term for group in terms(groups, names, logs) for term in group]
    inverse, log_determinant = inverted(summed(found), noise)
    weights = inverse @ y
    variance = profiled_variance(y, weights)
    value = 0.5 * (len(y) * math.log(variance) + log_determinant) + PRIOR_WEIGHT * float(apart @ apart)
    by_entry = 0.5 * inverse.addr(weights, weights, alpha=-1 / variance)  # the derivative by each entry of K
    flat = by_entry.flatten()
    directions = [
        term.amplitude * float(torch.vdot(flat, direction.flatten()))
        for term in found
        for direction in (term.value, term.slope)
        if direction is not None
    ]
    gradient = np.array([*directions, noise * float(by_entry.trace())])
    return value, gradient + 2 * PRIOR_WEIGHT * apart


def most_likely(groups: Sequence[Pairs], names: Sequence[str], y: Tensor, iterations: int) -> Floats:
    """The logarithms (K,) of the kernel's numbers that `negative_likelihood` is least for."""
    start = prior_means(names, len(groups))
    found = scipy.optimize.minimize(
        negative_likelihood,
        start,
        (groups, names, y),
        method="L-BFGS-B",
        jac=True,
        bounds=[(-LARGEST_LOG, LARGEST_LOG)] * len(start),
        options={"maxiter": iterations},
    )
    return np.asarray(found.x, np.float64)


def inverted(kernel: Tensor, noise: float) -> tuple[Tensor, float]:
    """(K + s I)^-1, and the log of the determinant of what is inverted."""
    noisy = kernel + noise * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor, failed = torch.linalg.cholesky_ex(noisy)
    if failed:
        raise AqaError("the kernel of model 'gaussian_process' is not positive definite: its numbers are damaged")
    return torch.cholesky_inverse(factor).mT, 2 * float(factor.diagonal().log().sum())


def profiled_variance(y: Tensor, weights: Tensor) -> float:
    """The variance that is most likely; a little more than 0 where all labels are equal."""
    return max(float(y @ weights) / len(y), 1e-12)


@contextmanager
def one_thread(videos: int) -> Iterator[None]:
    """Within the block torch works with one thread, unless there are too many videos for it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if videos <= ONE_THREAD else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# -- the model


class Posterior(NamedTuple):
    """Mean and standard deviation of the scores of n videos, (n,) each, in [0, 1] units; the noise is included."""

    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Predictor:
    """The process of one visible set, given the n training videos that have a modality of it."""

    visible: VisibleSet
    rows: Tensor  # (n,) long, which training videos
    logs: Floats  # (K,) logarithms of the kernel's numbers
    weights: Tensor  # (n,) (K + s I)^-1 y
    inverse: Tensor  # (n, n) (K + s I)^-1
    variance: float


@register("gaussian_process", paper="Gaussian Processes for Machine Learning, 2006", year=2006)
class GaussianProcess(AQAModel):
    """A Gaussian process on channel means and deviations, fitted per visible set in closed form.

    statistics: what describes a channel; each is a group with its own part of the kernel. kernel: which kernels a group
    sums. learn_from: train, or train and valid together, as nothing is selected. iterations: of L-BFGS on the marginal
    likelihood. most_videos: a larger training set is refused.
    """

    closed_form = True
    takes_unaligned = True

    # N training videos, M modalities, P numbers per video, S visible sets that have a predictor.
    target: Tensor  # (N,) in [0, 1]
    present: Tensor  # (N, M) 1 where a video has the modality, else 0
    described: Tensor  # (N, P) standardized, 0 where absent
    centre: Tensor  # (P,)
    stretch: Tensor  # (P,) 1 / standard deviation; 0 for constants, which say nothing
    sets: Tensor  # (S, M) 1 where visible, else 0
    logs: Tensor  # (S, K) logarithms of the kernel's numbers, 0 for those of other sets

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        statistics: StatisticNames = ("mean", "deviation"),
        kernel: KernelNames = ("linear", "rbf"),
        learn_from: Literal["train", "train+valid"] = "train",
        iterations: Positive = 25,
        most_videos: Positive = 5000,
    ):
        super().__init__(widths)
        for option, given in (("statistics", statistics), ("kernel", kernel)):
            if len(set(given)) < len(given):
                raise AqaError(f"model 'gaussian_process', option '{option}': {', '.join(given)} has one name twice")
        self.statistics, self.kernel, self.learn_from = tuple(statistics), tuple(kernel), learn_from
        self.iterations, self.most_videos = iterations, most_videos
        self._sizes = {m: [NUMBERS.get(name, 1) * width for name in statistics] for m, width in widths.items()}
        modalities, numbers = len(widths), sum(map(sum, self._sizes.values()))
        for name, shape in {
            "target": (0,),
            "present": (0, modalities),
            "described": (0, numbers),
            "centre": (numbers,),
            "stretch": (numbers,),
            "sets": (0, modalities),
            "logs": (0, len(prior_means(kernel, modalities * len(statistics)))),
        }.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.double))
        self._predictors: dict[VisibleSet, Predictor] = {}

    @property
    def parameter_count(self) -> int:
        """The numbers of one visible set's kernel. Beside them the model keeps its training videos."""
        return self.logs.shape[1]

    # -- fitting

    def fit(self, batches: Iterable[Example]) -> dict[str, float]:
        """Keep the training videos; "loss" is the mean squared error when each is left out, seen with all that it has.

        Predictors of other visible sets are fitted when they are first asked for.
        """
        parts = [
            torch.cat([e.target.double().unsqueeze(1), e.available, self._raw(e.features, e.available, e.lengths)], 1)
            for e in batches
        ]
        if not parts:
            raise AqaError("missing.train leaves no training sample with a visible modality")
        videos = torch.cat(parts)
        if len(videos) > self.most_videos:
            raise AqaError(
                f"model 'gaussian_process' takes at most {self.most_videos} training videos (option most_videos), got "
                f"{len(videos)}: its memory grows with their square and its time with their cube"
            )
        videos = videos[_order(videos)]  # so that neither the seed nor the batches change a bit
        self.target, self.present, raw = (
            part.clone() for part in videos.split([1, len(self.widths), len(self.centre)], dim=1)
        )
        self.target = self.target.squeeze(1)
        with one_thread(len(videos)):
            self._standardize(raw)
        self.sets, self.logs, self._predictors = self.sets[:0], self.logs[:0], {}
        complete = (True,) * len(self.widths)
        error = self.leave_one_out(complete).mean - self.target[self._rows(complete)]
        return {"loss": float(error.square().mean())}

    def _standardize(self, raw: Tensor) -> None:
        """Centre and stretch each number, (N, P), by the training videos that have its modality."""
        self.centre, self.stretch = torch.zeros_like(raw[0]), torch.zeros_like(raw[0])
        for columns, has in zip(self._columns_of_modalities(), self.present.bool().T, strict=True):
            if has.any():
                own = raw[has][:, columns]
                deviation = own.std(dim=0, correction=0)
                varies = deviation > ROUNDING * own.abs().amax(dim=0)
                self.centre[columns] = own.mean(dim=0)
                self.stretch[columns] = torch.where(varies, 1 / deviation, 0.0)
        self.described = self._standardized(raw, self.present.bool())

    def predictor(self, visible: VisibleSet) -> Predictor | None:
        """The predictor of a visible set, fitted when first asked for; None if no training video has any of it."""
        if visible not in self._predictors:
            rows = self._rows(visible)
            if not len(rows):
                return None
            with torch.inference_mode(False), torch.no_grad(), one_thread(len(rows)):
                self._predictors[visible] = self._given(rows.clone(), visible)
        return self._predictors[visible]

    def _given(self, rows: Tensor, visible: VisibleSet) -> Predictor:
        """The predictor of a visible set, with the kernel's numbers as kept or, if there are none, the most likely."""
        groups = self._groups(self.described[rows], self.present[rows].bool(), rows, visible)
        y, used = self._scaled_target(rows), self._used(visible)
        known = (self.sets == self.sets.new_tensor(visible)).all(dim=1)
        if known.any():
            logs = self.logs[known][0].cpu().numpy()[used]
        else:
            logs = most_likely(groups, self.kernel, y, self.iterations)
            row = np.zeros(len(used))
            row[used] = logs
            self.sets = torch.cat([self.sets, self.sets.new_tensor([visible])])
            self.logs = torch.cat([self.logs, self.logs.new_tensor(row).unsqueeze(0)])
        inverse, _ = inverted(covariance(groups, self.kernel, logs), math.exp(logs[-1]))
        weights = inverse @ y
        return Predictor(visible, rows, logs, weights, inverse, profiled_variance(y, weights))

    # -- predicting

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.contributions(features, visible, lengths).sum(dim=1).clamp(0, 1).float()

    def contributions(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """What the posterior mean is the sum of, (B, 1 + G): the mean label, then each group's part.

        The groups are those of all modalities, statistic by statistic; a group that is not visible has 0.
        Equation 2.25: the mean is linear in the kernel, which is a sum over groups.
        """
        found = self.centre.new_zeros(len(visible), 1 + len(self.widths) * len(self.statistics))
        middle, spread = self._target_scale()
        found[:, 0] = middle
        for among, described, known in self._by_set(features, visible, lengths):
            with one_thread(len(self.target)):
                groups = self._groups(described, visible[among], known.rows, known.visible)
                parts = [summed(group) @ known.weights for group in terms(groups, self.kernel, known.logs)]
                columns = 1 + np.flatnonzero(np.repeat(known.visible, len(self.statistics)))
                found[among.nonzero(), torch.from_numpy(columns).to(found.device)] = spread * torch.stack(parts, dim=1)
        return found

    def posterior(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Posterior:
        """Mean and deviation of each video's score, not clamped. Equations 2.25 and 2.26.

        Where no training video has any of what is visible, they are those of the training labels.
        """
        middle, spread = self._target_scale()
        mean, deviation = middle.repeat(len(visible)), spread.repeat(len(visible))
        for among, described, known in self._by_set(features, visible, lengths):
            with one_thread(len(self.target)):
                groups = self._groups(described, visible[among], known.rows, known.visible)
                across = covariance(groups, self.kernel, known.logs)  # (b, n)
                itself = self._groups_with_themselves(described, visible[among], known.visible)
                own = covariance(itself, self.kernel, known.logs).squeeze(1) + math.exp(known.logs[-1])
                explained = ((across @ known.inverse) * across).sum(dim=1)
                mean[among] = middle + spread * (across @ known.weights)
                deviation[among] = spread * (known.variance * (own - explained).clamp(min=0)).sqrt()
        return Posterior(mean, deviation)

    def leave_one_out(self, visible: VisibleSet) -> Posterior:
        """Each training video that has a modality of a visible set, predicted from the others. Equation 5.12.

        The kernel's numbers and the scale of the labels are those that all of them together gave.
        """
        known = self.predictor(visible)
        if known is None:
            empty = self.target[:0]
            return Posterior(empty, empty)
        middle, spread = self._target_scale()
        precision = known.inverse.diagonal()
        mean = middle + spread * (self._scaled_target(known.rows) - known.weights / precision)
        return Posterior(mean, spread * (known.variance / precision).sqrt())

    def left_out(self, batches: Iterable[Example], sets: Sequence[Sequence[bool]]) -> list[LeftOut]:
        found = []
        for visible in (tuple(map(bool, chosen)) for chosen in sets):
            rows, known = self._rows(visible), self.leave_one_out(visible)
            has_all = self.present[rows][:, list(visible)].bool().all(dim=1)
            mean, deviation = (part[has_all] for part in known)
            found.append(LeftOut(mean.clamp(0, 1), self.target[rows][has_all], deviation))
        return found

    def diagnostics(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        return {
            "deviation": self.posterior(features, visible, lengths).deviation,
            "contributions": self.contributions(features, visible, lengths),
        }

    # -- videos as groups of numbers

    def _columns_of_modalities(self) -> list[slice]:
        """The columns of `described` that belong to each modality."""
        ends = np.cumsum([sum(sizes) for sizes in self._sizes.values()]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def _raw(self, features: Mapping[str, Tensor], has: Tensor, lengths: Mapping[str, Tensor] | None) -> Tensor:
        """The statistics of each video, modality by modality, 0 where it lacks one: (B, P)."""
        raw = self.centre.new_zeros(len(has), len(self.centre))
        for m, columns, rows in zip(self.widths, self._columns_of_modalities(), has.T, strict=True):
            clips = None if lengths is None else lengths[m][rows]
            raw[rows, columns] = torch.cat(channel_statistics(features[m][rows].double(), clips, self.statistics), 1)
        return raw

    def _standardized(self, raw: Tensor, has: Tensor) -> Tensor:
        described = ((raw - self.centre) * self.stretch).clamp(-CLIPPED_AT, CLIPPED_AT)
        for columns, rows in zip(self._columns_of_modalities(), has.T, strict=True):
            described[~rows, columns] = 0.0
        return described

    def _by_set(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[Tensor, Tensor, Predictor]]:
        """For each visible set of a batch that has a predictor: which rows (B,) bool, what describes them, and it."""
        described = self._standardized(self._raw(features, visible, lengths), visible)
        for subset in sorted({tuple(row) for row in visible.tolist()}):
            known = self.predictor(subset)
            if known is not None:
                among = (visible == torch.tensor(subset, device=visible.device)).all(dim=1)
                yield among, described[among], known

    def _split(self, described: Tensor, visible: VisibleSet) -> Iterator[tuple[int, Tensor]]:
        """The groups of a visible set in turn: the modality's number, and the group's numbers (b, p)."""
        for i, (columns, sizes) in enumerate(zip(self._columns_of_modalities(), self._sizes.values(), strict=True)):
            if visible[i]:
                yield from ((i, group) for group in described[:, columns].split(sizes, dim=1))

    def _groups(self, described: Tensor, has: Tensor, rows: Tensor, visible: VisibleSet) -> list[Pairs]:
        """Videos (b, P), which have (b, M), beside the training videos `rows` (n,)."""
        found = []
        learned = self._split(self.described[rows], visible)
        for (i, x), (_, z) in zip(self._split(described, visible), learned, strict=True):
            both = has[:, i].double().outer(self.present[rows, i].bool().double())
            square_x, square_z = x.square().mean(dim=1, keepdim=True), z.square().mean(dim=1, keepdim=True).T
            found.append(Pairs(x @ z.T / x.shape[1], square_x, square_z, both))
        return found

    def _groups_with_themselves(self, described: Tensor, has: Tensor, visible: VisibleSet) -> list[Pairs]:
        """Each of some videos beside itself alone, (b, 1)."""
        found = []
        for i, x in self._split(described, visible):
            square = x.square().mean(dim=1, keepdim=True)
            found.append(Pairs(square, square, square, has[:, i : i + 1].double()))
        return found

    def _rows(self, visible: VisibleSet) -> Tensor:
        """The training videos that have a modality of a visible set, (n,)."""
        return self.present[:, list(visible)].any(dim=1).nonzero().squeeze(1)

    def _used(self, visible: VisibleSet) -> NDArray[np.bool_]:
        """Which columns of `logs` belong to a visible set, (K,)."""
        per_modality = (self.logs.shape[1] - 1) // len(visible)
        return np.append(np.repeat(visible, per_modality), True)

    def _target_scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the training labels; 1 for the deviation where all are equal."""
        spread = self.target.std(correction=0)
        return self.target.mean(), torch.where(spread > 0, spread, 1.0)

    def _scaled_target(self, rows: Tensor) -> Tensor:
        middle, spread = self._target_scale()
        return (self.target[rows] - middle) / spread

    # -- checkpoints: the training videos, and the kernel's numbers of each visible set that was asked for

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Take as many training videos and visible sets as the state has."""
        self._predictors = {}
        for names in (("target", "present", "described"), ("sets", "logs")):
            given = [state_dict[prefix + name] for name in names if prefix + name in state_dict]
            rows = {len(tensor) for tensor in given if tensor.dim()}
            if len(rows) > 1:
                others[-1].append(f"{' and '.join(names)} are not of the same number of rows")
            for name in names if len(rows) == 1 else ():
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_zeros(*rows, *buffer.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _apply(self, *arguments: Any, **options: Any) -> GaussianProcess:
        self._predictors = {}  # on the device that the model was on
        return super()._apply(*arguments, **options)


def _order(videos: Tensor) -> Tensor:
    """Row numbers (N,) in an order that follows from the rows' content."""
    content = [row.tobytes() for row in videos.cpu().numpy()]
    return torch.tensor(sorted(range(len(content)), key=content.__getitem__), device=videos.device)
