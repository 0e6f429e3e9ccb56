import torch

from aqa.models.gaussian_process import GaussianProcess
from benchmarks.gaussian_process import COMPLETE, WIDTHS, counted, fitting, likelihood_of, random_videos

CPU = torch.device("cpu")


def test_the_evaluations_of_the_likelihood_are_counted():
    few, many = (counted(fitting(30, CPU, iterations)) for iterations in (1, 25))
    assert 1 <= few < many


def test_the_likelihood_that_is_timed_is_that_of_the_fit():
    model = GaussianProcess(WIDTHS, iterations=1)
    model.fit([random_videos(30, CPU)])
    assert likelihood_of(30, CPU).maximized(1).tolist() == model.predictor(COMPLETE).process.logs.tolist()
