"""Loss terms against closed forms."""

import math

import pytest
import torch

from aqa.layers.losses import channel_divergence, hardest_triplet, squared_error


def test_hardest_triplet_of_a_hand_worked_batch():
    # Two rows, two queries in the plane, at angles 0 and 90, and 60 and 90 degrees. Query 0: its farthest own is 60
    # degrees away (distance 1 - 1/2), its nearest other 90 (1 - 0) for the first row and 30 (1 - sqrt(3)/2) for the
    # second. Query 1: its farthest own is itself (0), its nearest other 30 degrees away, for both rows.
    angles = torch.tensor([[0.0, 90.0], [60.0, 90.0]]).deg2rad()
    queries = torch.stack([angles.cos(), angles.sin()], dim=-1) * 3.0  # lengths do not matter
    near = 1 - math.sqrt(3) / 2
    expected = [0.5 - 1.0 + 0.2, 0.5 - near + 0.2, 0 - near + 0.2, 0 - near + 0.2]
    expected = sum(max(0.0, e) for e in expected) / 4
    assert hardest_triplet(queries, margin=0.2).item() == pytest.approx(expected, abs=1e-6)


def test_triplet_of_well_separated_queries_is_zero():
    queries = torch.eye(4).expand(3, 4, 4)
    assert hardest_triplet(queries, margin=1.0) == 0
    assert hardest_triplet(queries, margin=1.5).item() == pytest.approx(0.5)


def test_divergence_is_zero_for_equal_streams_and_the_kl_formula_otherwise():
    stream, reference = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.allclose(channel_divergence(stream, stream), torch.zeros(2), atol=1e-7)
    p, q = reference.softmax(-1), stream.softmax(-1)
    assert torch.allclose(channel_divergence(stream, reference), (p * (p / q).log()).mean(dim=(1, 2)), atol=1e-6)


def test_masked_rows_average_over_real_clips_only():
    prediction, truth = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    clips = torch.arange(5) < torch.tensor([[5], [2]])
    expected = torch.stack(
        [(prediction[0] - truth[0]).square().mean(), (prediction[1, :2] - truth[1, :2]).square().mean()]
    )
    assert torch.allclose(squared_error(prediction, truth, clips), expected)
