"""Whether a Gaussian process should choose the numbers of its kernel by leaving out groups of training videos.

    python -m benchmarks.process_groups --store data/percepiano.h5 --group passage

By default they maximize the marginal likelihood, which knows of no groups. Three other objectives look at each group as
the other groups predict it, in closed form from the same inverse: its joint density, the density of each video by
itself, and the squared error. Kernel, priors, start and iterations are the same. Each choice is tested on inner folds
of the training split that divide no group; the other splits are not looked at. Without --group each video is a group.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from aqa import FeatureStore
from aqa.evaluation.metrics import srcc
from aqa.layers.covariance import Floats, covariance, each_with_each, slopes, summed, terms
from aqa.layers.process import LARGEST_LOG, PRIOR_WEIGHT, Likelihood, exact, inverted
from aqa.layers.statistics import channel_statistics
from aqa.models.gaussian_process import GaussianProcess, VisibleSet, one_thread
from aqa.runs.table import align

ITERATIONS = 25


@dataclass(frozen=True)
class Groups:
    """G groups of n videos. rows: (G, m) their numbers, 0 where a group has fewer than m; real: (G, m) bool."""

    rows: Tensor
    real: Tensor

    @classmethod
    def of(cls, labels: Sequence[str]) -> Groups:
        """The groups that labels (n,) tell apart."""
        _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
        rows, real = (torch.zeros(len(counts), int(counts.max()), dtype=kind) for kind in (torch.long, torch.bool))
        for group, count in enumerate(counts.tolist()):
            rows[group, :count] = torch.from_numpy(np.flatnonzero(numbers == group))
            real[group, :count] = True
        return cls(rows, real)


@dataclass(frozen=True)
class LeftOut:
    """Each group as the others predict it, with zeros beside the real videos. Variances are relative to the scale."""

    error: Tensor  # (G, m) labels less their mean given the other groups
    weighted: Tensor  # (G, m) the error by the inverse of its covariance, which is the weights of the whole process
    variance: Tensor  # (G, m) of each video
    log_determinant: Tensor  # () the sum over groups of that of the covariances


def left_out(inverse: Tensor, y: Tensor, groups: Groups) -> LeftOut:
    """From (K + s I)^-1 (n, n) of all videos: with its block P of a group, the group has covariance P^-1 given the rest
    and error P^-1 (K + s I)^-1 y. Equation 5.12 of Rasmussen and Williams, for several videos at once."""
    both = groups.real.unsqueeze(2) & groups.real.unsqueeze(1)
    one = torch.eye(groups.rows.shape[1], dtype=y.dtype)
    factor = torch.linalg.cholesky(
        torch.where(both, inverse[groups.rows.unsqueeze(2), groups.rows.unsqueeze(1)], one)  # (G, m, m)
    )
    weighted = torch.where(groups.real, (inverse @ y)[groups.rows], 0.0)
    error = torch.cholesky_solve(weighted.unsqueeze(2), factor).squeeze(2)
    variance = torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2)
    return LeftOut(error, weighted, variance, -2 * factor.diagonal(dim1=1, dim2=2).log().sum())


# Each is minimized, with the scale that is best profiled out, where there is one; constants are left out.
Objective = Callable[[LeftOut, int], Tensor]
OBJECTIVES: Mapping[str, Objective] = {
    "joint density": lambda out, n: n / 2 * ((out.error * out.weighted).sum() / n).log() + out.log_determinant / 2,
    "density": lambda out, n: (
        n / 2 * ((out.error.square() / out.variance).sum() / n).log() + out.variance.log().sum() / 2
    ),
    "squared error": lambda out, n: n / 2 * (out.error.square().sum() / n).log(),
}


def negative(likelihood: Likelihood, objective: Objective, groups: Groups, logs: Floats) -> tuple[float, Floats]:
    """The objective plus the penalty of the marginal likelihood, and the gradient by the logarithms, of one output."""
    apart, n, noise = logs - likelihood.start, len(likelihood.y), float(np.exp(logs[-1]))
    found = terms(likelihood.pairs, likelihood.names, logs[:-1], slopes=True)
    lower = likelihood.y.new_zeros(n * n).index_copy_(0, likelihood.place, summed(found)).view(n, n)
    inverse, _ = inverted(lower, noise)
    inverse = ((inverse + inverse.T) / 2).requires_grad_(True)
    value = objective(left_out(inverse, likelihood.y[:, 0], groups), n)
    (by_inverse,) = torch.autograd.grad(value, inverse)
    inverse = inverse.detach()
    by_entry = -inverse @ ((by_inverse + by_inverse.T) / 2) @ inverse
    by_pair = by_entry.flatten()[likelihood.place] * likelihood.twice
    gradient = np.append(slopes(found, by_pair), noise * float(by_entry.trace()))
    return float(value.detach()) + PRIOR_WEIGHT * float(apart @ apart), gradient + 2 * PRIOR_WEIGHT * apart


def chosen(likelihood: Likelihood, objective: Objective | None, groups: Groups) -> Floats:
    """The logarithms of the kernel's numbers, by an objective; None: by the marginal likelihood."""
    if objective is None:
        return likelihood.maximized(ITERATIONS)
    bounds = [(-LARGEST_LOG, LARGEST_LOG)] * len(likelihood.start)
    found = scipy.optimize.minimize(
        lambda logs: negative(likelihood, objective, groups, logs),
        likelihood.start,
        method="L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": ITERATIONS},
    )
    return np.asarray(found.x, np.float64)


@dataclass(frozen=True)
class Videos:
    """n videos. raw: (n, P) channel statistics, 0 where absent; available: (n, M); groups: (n,) labels."""

    raw: Tensor
    available: Tensor
    groups: Sequence[str]


def training_videos(store: FeatureStore, modalities: Sequence[str], group: str | None) -> Videos:
    """The videos of the training split."""
    rows = np.sort(store.split("train"))
    described, available = [], []
    for m in modalities:
        clips = [torch.as_tensor(store.read_sample(m, int(row))) for row in rows]
        has = torch.tensor([len(stream) > 0 for stream in clips])
        part = torch.zeros(len(rows), 2 * store.widths[m], dtype=torch.double)
        for row in has.nonzero().squeeze(1).tolist():
            part[row] = torch.cat(channel_statistics(clips[row].double().unsqueeze(0), None), dim=1)[0]
        described.append(part)
        available.append(has)
    labels = store.ids if group is None else store.group(group)
    return Videos(torch.cat(described, dim=1), torch.stack(available, dim=1), [labels[row] for row in rows])


def folds_of(groups: Sequence[str], count: int) -> list[np.ndarray]:
    """The rows that each inner fold tests; no group is in two of them."""
    names, numbers = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).permutation(len(names))[numbers]
    return [np.flatnonzero(drawn % count == fold) for fold in range(count)]


def tested(
    model: GaussianProcess, videos: Videos, labels: Floats, test: np.ndarray, visible: VisibleSet
) -> dict[str, tuple[float, float, float]]:
    """By objective, on the rows `test`: SRCC, squared error relative to the labels' variance, seconds of choosing."""
    train = np.setdiff1d(np.arange(len(labels)), test)
    model.present = videos.available[train].double()
    model._standardize(videos.raw[train])
    y = torch.from_numpy(labels)
    y = (y - y[train].mean()) / y[train].std(correction=0)
    some = videos.available[train][:, list(visible)].any(dim=1)
    learned = model._groups(model.described[some], videos.available[train][some], visible)
    outputs, owners = y[train][some].unsqueeze(1), np.array(videos.groups)[train][some.numpy()]
    asked = test[videos.available[test][:, list(visible)].any(dim=1).numpy()]
    shown = model._standardized(videos.raw[asked], videos.available[asked])
    looked = model._groups(shown, videos.available[asked], visible)
    likelihood, found = Likelihood.of(learned, model.kernel, outputs), {}
    for name, objective in {"marginal likelihood": None, **OBJECTIVES}.items():
        start = time.perf_counter()
        logs = chosen(likelihood, objective, Groups.of(owners))
        taken = time.perf_counter() - start
        known = exact(learned, model.kernel, logs, outputs, torch.ones(1, dtype=torch.double))
        across = covariance(each_with_each(looked, learned), model.kernel, logs[:-1]).view(len(asked), -1)
        error = across @ known.weights - y[asked]
        found[name] = srcc((across @ known.weights).numpy(), y[asked].numpy()), float(error.square().mean()), taken
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--modalities", nargs="+", help="by default all")
    parser.add_argument("--targets", nargs="+", help="by default all")
    parser.add_argument("--group")
    parser.add_argument("--folds", type=int, default=3)
    arguments = parser.parse_args()
    with FeatureStore(arguments.store) as store, one_thread(0):
        modalities = arguments.modalities or store.modalities
        videos = training_videos(store, modalities, arguments.group)
        model = GaussianProcess({m: store.widths[m] for m in modalities})
        complete = (True,) * len(modalities)
        singles = [tuple(m == one for m in modalities) for one in modalities]
        rows = np.sort(store.split("train"))
        by_set: dict[VisibleSet, dict[str, list[tuple[float, float, float]]]] = {}
        for target in arguments.targets or store.targets:
            labels = np.asarray(store.target(target).values[rows], np.float64)
            for test in folds_of(videos.groups, arguments.folds):
                for visible in (complete, *singles):
                    for name, figures in tested(model, videos, labels, test, visible).items():
                        by_set.setdefault(visible, {}).setdefault(name, []).append(figures)
    show(by_set, modalities)


def show(
    by_set: Mapping[VisibleSet, Mapping[str, list[tuple[float, float, float]]]], modalities: Sequence[str]
) -> None:
    """A table: means over targets and folds, the difference of SRCC with its standard error over them, seconds."""
    lines = [["visible", "chosen by", "fits", "SRCC", "difference", "squared error", "seconds"]]
    for visible, found in by_set.items():
        shown = " ".join(m for m, seen in zip(modalities, visible, strict=True) if seen)
        usual = np.array(found["marginal likelihood"])
        for name, figures in found.items():
            own = np.array(figures)
            apart = own[:, 0] - usual[:, 0]
            error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else np.nan
            means = own.mean(axis=0)
            gain = "" if name == "marginal likelihood" else f"{apart.mean():+.4f} ± {error:.4f}"
            lines.append([shown, name, str(len(own)), f"{means[0]:.4f}", gain, f"{means[1]:.4f}", f"{means[2]:.2f}"])
    print("\n".join(align(lines)))


if __name__ == "__main__":
    main()
