"""Layers on the rows of a batch that count: the same by masks as by picking rows."""

import pytest
import torch
from torch import nn

from aqa.layers import clips
from aqa.layers.clips import in_rows, on_clips

ROWS = torch.tensor([True, False, True])


@pytest.fixture(params=[False, True], ids=["picked", "masked"])
def by_masks(request, monkeypatch):
    monkeypatch.setattr(clips, "works_on_all", lambda x: request.param)
    return request.param


def test_rows_that_count_are_replaced_and_the_others_stay(by_masks):
    base, x = torch.full((3, 2, 4), 7.0), torch.arange(24.0).view(3, 2, 4)
    given = []

    def double(stream, nothing):
        given.append(len(stream))
        return 2 * stream

    found = in_rows(base, ROWS, double, x, None)
    assert torch.equal(found, torch.where(ROWS.view(3, 1, 1), 2 * x, base))
    assert torch.equal(in_rows(None, ROWS, double, x, None), 2 * x * ROWS.view(3, 1, 1))
    assert given == ([3, 3] if by_masks else [2, 2])


def test_rows_that_do_not_count_may_be_nan(by_masks):
    x = torch.ones(3, 2, 4).masked_fill(~ROWS.view(3, 1, 1), torch.nan)
    assert torch.equal(in_rows(None, ROWS, nn.Identity(), x), torch.ones(3, 2, 4) * ROWS.view(3, 1, 1))


def test_a_layer_without_a_clip_to_work_on_is_not_trained():
    layer = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).train()
    x = torch.full((3, 2, 4), torch.nan)
    out = on_clips(layer, x, torch.zeros(3, 2, dtype=torch.bool))
    assert torch.equal(out, torch.zeros(3, 2, 5))
    assert not out.requires_grad
    assert layer[1].num_batches_tracked == 0
    assert layer.training
