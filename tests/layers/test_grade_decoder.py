"""Scores and spreads of distributions over grades."""

import pytest
import torch

from aqa.layers.grade_decoder import GradeDecoder, grade_deviation, mean_grade


@pytest.mark.parametrize(
    ("weights", "mean", "deviation"),
    [([1, 0, 0], 0, 0), ([0.5, 0, 0.5], 0.5, 0.5), ([0.25, 0.5, 0.25], 0.5, 0.125**0.5), ([0.2] * 5, 0.5, 0.125**0.5)],
)
def test_mean_and_deviation_are_those_of_the_distribution(weights, mean, deviation):
    several = torch.tensor([[weights]], dtype=torch.float)
    assert mean_grade(several).tolist() == [[pytest.approx(mean)]]
    assert grade_deviation(several).tolist() == [[pytest.approx(deviation)]]


def test_the_decoders_score_is_the_mean_of_the_distribution_whose_deviation_is_the_spread():
    torch.manual_seed(0)
    decoder = GradeDecoder(8, n_query=4, n_head=1, n_layer=1, feedforward=8, dropout=0.0).eval()
    scores, queries = decoder(torch.randn(3, 5, 8))
    weights = decoder.weigh(queries)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(mean_grade(weights), scores)
    drawn = torch.linspace(0, 1, 4)[torch.multinomial(weights, 20_000, replacement=True)]
    torch.testing.assert_close(drawn.std(dim=1), grade_deviation(weights), rtol=0.02, atol=0)
