"""What fitting a Gaussian process costs beside the eigendecompositions of its kernel at LAPACK's rate.

    python -m benchmarks.gaussian_process              the fit of one visible set of 500 videos
    python -m benchmarks.gaussian_process --large      also 5,000 videos exactly and 50,000 through basis videos

The limit: one symmetric eigendecomposition of the kernel's size, in float64 and with as many threads as the fit has,
for each evaluation of the marginal likelihood, as an implementation would need that gets the gradient from one
(Rasmussen and Williams, section 5.4.1). The fit and one decomposition are timed in turn. Videos have three streams with
the default statistics, so six groups of numbers and twelve kernels. The large fits run once each, too long to be
sampled; their memory is the peak of a process of its own, which takes one step in the place of all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from unittest import mock

import torch

from aqa.layers.process import Likelihood
from aqa.models.base import Example
from aqa.models.gaussian_process import GaussianProcess, one_thread
from benchmarks.harness import Report, Work, by_turns, options, parsed, peak_memory, ratios, timed

WIDTHS = {"visual": 64, "audio": 32, "flow": 32}
COMPLETE = (True, True, True)
CLIPS = 4


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--videos", type=int, default=500)
    parser.add_argument("--large", action="store_true", help="also 5,000 and 50,000 videos, which takes many minutes")
    arguments, device = parsed(parser)
    report = Report("gaussian_process", arguments, device)
    against_eigendecompositions(arguments.videos, arguments.repeats, device, report)
    if arguments.large:
        exactly(5000, device, report)
        through_basis_videos(50_000, device, report)
    report.write()


def against_eigendecompositions(videos: int, repeats: int, device: torch.device, report: Report) -> None:
    """The fit of one visible set, in turn with one decomposition of a kernel of its size."""
    fit, kernel = fitting(videos, device), gram_matrix(videos, device)
    evaluations, likelihoods = counted(fit), likelihood_of(videos, device)
    with one_thread(videos):
        works = {
            "fit": Work(fit),
            "evaluation": Work(lambda: likelihoods.negative(likelihoods.start)),
            "decomposition": Work(lambda: torch.linalg.eigh(kernel)),
        }
        seconds = by_turns(works, repeats, device)
    report.section(f"one visible set of {videos} videos, {evaluations} evaluations of the likelihood")
    report.add("fit", seconds["fit"], "s")
    report.add("one eigendecomposition", seconds["decomposition"], "s")
    report.add(
        "fit / its eigendecompositions", [r / evaluations for r in ratios(seconds["fit"], seconds["decomposition"])]
    )
    report.add("one evaluation / one eigendecomposition", ratios(seconds["evaluation"], seconds["decomposition"]))


def exactly(videos: int, device: torch.device, report: Report) -> None:
    """A fit that is still exact, once, beside one decomposition before it and one after it."""
    fit, kernel = fitting(videos, device), gram_matrix(videos, device)
    report.section(f"one visible set of {videos} videos, exactly, once")
    before = timed(lambda: torch.linalg.eigh(kernel), device)
    evaluations: list[int] = []
    taken = timed(lambda: evaluations.append(counted(fit)), device)
    after = timed(lambda: torch.linalg.eigh(kernel), device)
    report.value("fit", taken, "s")
    report.value("evaluations of the likelihood", evaluations[0])
    report.value("one eigendecomposition, mean of two", statistics.mean([before, after]), "s")
    report.value("fit / its eigendecompositions", taken / evaluations[0] / statistics.mean([before, after]))
    report.value("memory", peak_memory(fitting, videos, device, 1, device=device).added / 2**30, "GiB")


def through_basis_videos(videos: int, device: torch.device, report: Report) -> None:
    """A fit of more videos than are exact, once."""
    report.section(f"one visible set of {videos} videos through basis videos, once")
    report.value("fit", timed(fitting(videos, device), device), "s")
    report.value("memory", peak_memory(fitting, videos, device, 1, device=device).added / 2**30, "GiB")


def fitting(videos: int, device: torch.device, iterations: int = 25) -> Callable[[], object]:
    """What fits the predictor of the complete set, of a model that has its training videos."""
    model = GaussianProcess(WIDTHS, iterations=iterations).to(device)
    example = random_videos(videos, device)

    def fit() -> object:
        return model.fit([example])

    return fit


def random_videos(videos: int, device: torch.device) -> Example:
    """Videos with a score that a nonlinear function of their channels' means decides, and noise."""
    draws = torch.Generator().manual_seed(0)
    features, score = {}, torch.zeros(videos)
    for m, width in WIDTHS.items():
        level = torch.randn(videos, 1, width, generator=draws)
        features[m] = (level + torch.randn(videos, CLIPS, width, generator=draws)).to(device)
        score += torch.tanh(level[:, 0] @ torch.randn(width, generator=draws) / width**0.5)
    score += torch.randn(videos, generator=draws)
    seen = torch.ones(videos, len(WIDTHS), dtype=torch.bool, device=device)
    return Example(features, torch.sigmoid(score).to(device), seen, seen, None)


def likelihood_of(videos: int, device: torch.device) -> Likelihood:
    """The marginal likelihood that such a fit maximizes."""
    model = GaussianProcess(WIDTHS, iterations=1).to(device)
    model.fit([random_videos(videos, device)])
    learned = model._learned(torch.arange(videos, device=device), COMPLETE)
    return Likelihood.of(learned, model.kernel, model.outputs)


def gram_matrix(videos: int, device: torch.device) -> torch.Tensor:
    """A symmetric matrix like a kernel of so many videos, (n, n) float64."""
    rows = torch.randn(videos, videos, dtype=torch.double, device=device)
    return rows @ rows.T / videos


def counted(fit: Callable[[], object]) -> int:
    """Run a fit; how often it evaluated the marginal likelihood."""
    with mock.patch.object(Likelihood, "negative", autospec=True, side_effect=Likelihood.negative) as evaluated:
        fit()
    return evaluated.call_count


if __name__ == "__main__":
    main()
