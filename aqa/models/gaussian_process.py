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
Where the training videos have other labels too (`data.learn_also`), the processes of the labels' principal components
share the kernel, and the score is their combination. More videos than are exact are seen through some of them.
Everything is computed in float64, and by one thread up to 2,000 videos, so that the number of threads changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from aqa.errors import AqaError
from aqa.layers.clips import rows_of, scatter_rows
from aqa.layers.covariance import Described, by_group, covariance, each_with_each, each_with_itself, terms
from aqa.layers.label_components import label_components, standardized_labels
from aqa.layers.process import Conditioned, Likelihood, exact, likely_before, through_basis
from aqa.layers.statistics import NUMBERS, channel_statistics
from aqa.models import register
from aqa.models.base import AQAModel, Example, LeftOut
from aqa.registry import Positive
from aqa.system.host_masks import slices

CLIPPED_AT = 5.0  # standard deviations from the mean of the training videos
ROUNDING = 2.0**-20  # relative; a number that deviates by less is constant as far as float32 can tell
ONE_THREAD = 2000  # videos up to which one thread is fast enough

StatisticNames = Annotated[
    tuple[Literal["mean", "deviation", "slope", "quantiles", "autocorrelation"], ...], Field(min_length=1)
]
KernelNames = Annotated[tuple[Literal["linear", "rbf", "matern52"], ...], Field(min_length=1)]
VisibleSet = tuple[bool, ...]  # in the order of the modalities


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
    basis: Tensor  # (m,) long, which of them it sees the others through: all where it is exact
    process: Conditioned


@register("gaussian_process", paper="Gaussian Processes for Machine Learning, 2006", year=2006)
class GaussianProcess(AQAModel):
    """A Gaussian process on channel means and deviations, fitted per visible set in closed form.

    statistics: what describes a channel; each is a group with its own part of the kernel. kernel: which kernels a group
    sums. learn_from: train, or train and valid together, as nothing is selected. components: how many principal
    components of the labels share a kernel, where there are labels beside the target. iterations: of L-BFGS on the
    marginal likelihood. most_videos: a larger training set is seen through basis_videos of its videos.
    """

    closed_form = True
    takes_unaligned = True
    learns_also = True
    concurrent = False  # predictors are fitted when they are first asked for, with torch's threads set to one
    differentiable = False  # covariance functions work in place

    # N training videos, M modalities, P numbers per video, S visible sets that have a predictor,
    # C components of the labels, K numbers of the kernel.
    target: Tensor  # (N,) in [0, 1]
    present: Tensor  # (N, M) 1 where a video has the modality, else 0
    described: Tensor  # (N, P) standardized, 0 where absent
    centre: Tensor  # (P,)
    stretch: Tensor  # (P,) 1 / standard deviation; 0 for constants, which say nothing
    sets: Tensor  # (S, M) 1 where visible, else 0
    logs: Tensor  # (S, K + C) logarithms of the kernel's numbers, 0 for those of other sets, and of the noise
    outputs: Tensor  # (N, C) components of the standardized labels; the standardized target where it is the only label
    loading: Tensor  # (C,) the standardized target is outputs @ loading

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        statistics: StatisticNames = ("mean", "deviation"),
        kernel: KernelNames = ("linear", "rbf"),
        learn_from: Literal["train", "train+valid"] = "train",
        components: Positive = 8,
        iterations: Positive = 25,
        most_videos: Positive = 5000,
        basis_videos: Positive = 2000,
    ):
        super().__init__(widths)
        for option, given in (("statistics", statistics), ("kernel", kernel)):
            if len(set(given)) < len(given):
                raise AqaError(f"model 'gaussian_process', option '{option}': {', '.join(given)} has one name twice")
        self.statistics, self.kernel, self.learn_from = tuple(statistics), tuple(kernel), learn_from
        self.components, self.iterations = components, iterations
        self.most_videos, self.basis_videos = most_videos, basis_videos
        self._sizes = {m: [NUMBERS.get(name, 1) * width for name in statistics] for m, width in widths.items()}
        modalities, numbers = len(widths), sum(map(sum, self._sizes.values()))
        for name, shape in {
            "target": (0,),
            "present": (0, modalities),
            "described": (0, numbers),
            "centre": (numbers,),
            "stretch": (numbers,),
            "sets": (0, modalities),
            "logs": (0, len(likely_before(kernel, modalities * len(statistics), outputs=1))),
            "outputs": (0, 1),
            "loading": (1,),
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
            torch.cat([_labels(e), e.available, self._raw(e.features, e.available, e.lengths)], 1) for e in batches
        ]
        if not parts:
            raise AqaError("missing.train leaves no training sample with a visible modality")
        videos = torch.cat(parts)
        videos = videos[_order(videos)]  # so that neither the seed nor the batches change a bit
        numbers = len(self.widths), len(self.centre)
        labels, self.present, raw = (
            part.clone() for part in videos.split([videos.shape[1] - sum(numbers), *numbers], dim=1)
        )
        self.target = labels[:, 0].clone()
        with one_thread(len(videos)):
            self._standardize(raw)
            self.outputs, self.loading = label_components(standardized_labels(labels), self.components)
        kernels = len(likely_before(self.kernel, len(self._groups_of), outputs=len(self.loading)))
        self.sets, self.logs, self._predictors = self.sets[:0], self.logs.new_zeros(0, kernels), {}
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
        basis = self._basis(rows)
        videos, y = self._learned(rows, visible), self.outputs[rows]
        used = self._used(visible)
        known = (self.sets == self.sets.new_tensor(visible)).all(dim=1)
        if known.any():
            logs = self.logs[known][0].cpu().numpy()[used]
        else:
            likelihood = Likelihood.of(self._learned(basis, visible), self.kernel, self.outputs[basis])
            logs = likelihood.maximized(self.iterations)
            row = np.zeros(len(used))
            row[used] = logs
            self.sets = torch.cat([self.sets, self.sets.new_tensor([visible])])
            self.logs = torch.cat([self.logs, self.logs.new_tensor(row).unsqueeze(0)])
        if len(basis) == len(rows):
            return Predictor(visible, rows, basis, exact(videos, self.kernel, logs, y, self.loading))
        seen = self._learned(basis, visible)
        return Predictor(visible, rows, basis, through_basis(videos, seen, self.kernel, logs, y, self.loading))

    def _basis(self, rows: Tensor) -> Tensor:
        """The training videos that a predictor sees its n training videos `rows` through: all of not too many."""
        if len(rows) <= self.most_videos:
            return rows
        drawn = np.random.default_rng(0).permutation(len(rows))[: self.basis_videos]
        return rows[torch.from_numpy(np.sort(drawn)).to(rows.device)]

    def notes(self, videos: int) -> list[str]:
        if videos <= self.most_videos:
            return []
        return [
            f"model 'gaussian_process' is exact up to {self.most_videos} training videos (model.most_videos); these "
            f"{videos} are seen through {self.basis_videos} of them (model.basis_videos)"
        ]

    # -- predicting

    def score(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        if torch.compiler.is_compiling():
            return self._score_of_every_set(features, visible, lengths).clamp(0, 1).float()
        return self.contributions(features, visible, lengths).sum(dim=1).clamp(0, 1).float()

    def _score_of_every_set(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> Tensor:
        """The posterior mean (B,), for export: every row by the predictor of every visible set, then its own is taken.

        All predictors have to be there, as nothing can be fitted while a program is traced.
        """
        middle, spread = self._target_scale()
        described = self._standardized(self._raw(features, visible, lengths), visible)
        score = middle.expand(visible.shape[0])
        for subset, known in self._predictors.items():
            pairs = each_with_each(self._groups(described, visible, subset), self._learned(known.basis, subset))
            across = covariance(pairs, self.kernel, known.process.logs[: -len(self.loading)]).view(visible.shape[0], -1)
            own = (visible == torch.tensor(subset)).all(dim=1)
            score = torch.where(own, middle + spread * (across @ known.process.weights), score)
        return score

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
        for among, videos, known in self._by_set(features, visible, lengths):
            with one_thread(len(self.target)):
                pairs = each_with_each(videos, self._learned(known.basis, known.visible))
                kernels = by_group(terms(pairs, self.kernel, known.process.logs[: -len(self.loading)]))
                parts = kernels.view(len(kernels), int(among.sum()), -1) @ known.process.weights  # (G, b)
                columns = 1 + np.flatnonzero(np.repeat(known.visible, len(self.statistics)))
                found[among.nonzero(), torch.from_numpy(columns).to(found.device)] = spread * parts.T
        return found

    def posterior(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Posterior:
        """Mean and deviation of each video's score, not clamped. Equations 2.25 and 2.26.

        Where no training video has any of what is visible, they are those of the training labels.
        """
        middle, spread = self._target_scale()
        mean, deviation = middle.repeat(len(visible)), spread.repeat(len(visible))
        for among, videos, known in self._by_set(features, visible, lengths):
            with one_thread(len(self.target)):
                logs = known.process.logs[: -len(self.loading)]
                pairs = each_with_each(videos, self._learned(known.basis, known.visible))
                across = covariance(pairs, self.kernel, logs).view(int(among.sum()), -1)
                itself = covariance(each_with_itself(videos), self.kernel, logs)
                expected, variance = known.process.predict(across, itself)
                mean[among], deviation[among] = middle + spread * expected, spread * variance.sqrt()
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
        mean, variance = known.process.left_out
        return Posterior(middle + spread * mean, spread * variance.sqrt())

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
        raw = self.centre.new_zeros(has.shape[0], len(self.centre))
        for m, columns, rows in zip(self.widths, self._columns_of_modalities(), slices(has, 1), strict=True):
            clips = None if lengths is None else rows_of(lengths[m], rows)
            found = torch.cat(channel_statistics(rows_of(features[m], rows).double(), clips, self.statistics), 1)
            raw[:, columns] = scatter_rows(found, rows)
        return raw

    def _standardized(self, raw: Tensor, has: Tensor) -> Tensor:
        described = ((raw - self.centre) * self.stretch).clamp(-CLIPPED_AT, CLIPPED_AT)
        for columns, rows in zip(self._columns_of_modalities(), has.T, strict=True):
            described[:, columns] = described[:, columns].masked_fill(~rows.unsqueeze(1), 0.0)
        return described

    def _by_set(
        self, features: Mapping[str, Tensor], visible: Tensor, lengths: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[Tensor, Described, Predictor]]:
        """For each visible set of a batch that has a predictor: which rows (B,) bool, these rows, and it."""
        described = self._standardized(self._raw(features, visible, lengths), visible)
        for subset in sorted({tuple(row) for row in visible.tolist()}):
            known = self.predictor(subset)
            if known is not None:
                among = (visible == torch.tensor(subset, device=visible.device)).all(dim=1)
                yield among, self._groups(described[among], visible[among], subset), known

    @property
    def _groups_of(self) -> list[int]:
        """The number of the modality of each group."""
        return [i for i, sizes in enumerate(self._sizes.values()) for _ in sizes]

    def _groups(self, described: Tensor, has: Tensor, visible: VisibleSet) -> Described:
        """Videos (b, P), which have (b, M), as the groups of a visible set."""
        sizes = [size for group in self._sizes.values() for size in group]
        groups = [
            (i, group) for i, group in zip(self._groups_of, described.split(sizes, dim=1), strict=True) if visible[i]
        ]
        return Described([group for _, group in groups], has[:, [i for i, _ in groups]])

    def _learned(self, rows: Tensor, visible: VisibleSet) -> Described:
        """Training videos `rows` (n,) as the groups of a visible set."""
        return self._groups(self.described[rows], self.present[rows].bool(), visible)

    def _rows(self, visible: VisibleSet) -> Tensor:
        """The training videos that have a modality of a visible set, (n,)."""
        return self.present[:, list(visible)].any(dim=1).nonzero().squeeze(1)

    def _used(self, visible: VisibleSet) -> NDArray[np.bool_]:
        """Which columns of `logs` belong to a visible set, (K + C,)."""
        outputs = len(self.loading)
        per_modality = (self.logs.shape[1] - outputs) // len(visible)
        return np.append(np.repeat(visible, per_modality), [True] * outputs)

    def _target_scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the training labels; 1 for the deviation where all are equal."""
        spread = self.target.std(correction=0)
        return self.target.mean(), torch.where(spread > 0, spread, 1.0)

    # -- checkpoints: the training videos, and the kernel's numbers of each visible set that was asked for

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Take as many training videos, visible sets and components of labels as the state has."""
        self._predictors = {}
        given = {name: state_dict[prefix + name] for name in self._buffers if prefix + name in state_dict}
        components = len(given["loading"]) if "loading" in given and given["loading"].dim() == 1 else 1
        numbers = len(likely_before(self.kernel, len(self._groups_of), components))
        self.loading, self.outputs = self.loading.new_zeros(components), self.outputs.new_zeros(0, components)
        self.logs = self.logs.new_zeros(0, numbers)
        for names in (("target", "present", "described", "outputs"), ("sets", "logs")):
            rows = {len(given[name]) for name in names if name in given and given[name].dim()}
            if len(rows) > 1:
                others[-1].append(f"{' and '.join(names)} are not of the same number of rows")
            for name in names if len(rows) == 1 else ():
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_zeros(*rows, *buffer.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _apply(self, *arguments: Any, **options: Any) -> GaussianProcess:
        self._predictors = {}  # on the device that the model was on
        return super()._apply(*arguments, **options)


def _labels(example: Example) -> Tensor:
    """The target of each video and then its other labels, (B, 1 + K)."""
    target = example.target.double().unsqueeze(1)
    return target if example.others is None else torch.cat([target, example.others.double()], dim=1)


def _order(videos: Tensor) -> Tensor:
    """Row numbers (N,) in an order that follows from the rows' content."""
    content = [row.tobytes() for row in videos.cpu().numpy()]
    return torch.tensor(sorted(range(len(content)), key=content.__getitem__), device=videos.device)
