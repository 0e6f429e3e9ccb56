"""Statistics of a channel are numpy's over the real clips, whatever the padding holds."""

import numpy as np
import pytest
import torch

from aqa.layers.statistics import NUMBERS, STATISTICS, channel_statistics

LENGTHS = torch.tensor([1, 2, 5, 9])


def slope(clips):
    time = np.arange(len(clips)) / max(len(clips) - 1, 1)
    return np.polyfit(time, clips, 1)[0] if len(clips) > 1 else np.zeros(clips.shape[1])


def autocorrelation(clips):
    apart = clips - clips.mean(0)
    square = (apart**2).sum(0)
    return np.divide((apart[1:] * apart[:-1]).sum(0), square, out=np.zeros_like(square), where=square > 0)


EXPECTED = {
    "mean": lambda clips: clips.mean(0),
    "deviation": lambda clips: clips.std(0),
    "slope": slope,
    "quantiles": lambda clips: np.quantile(clips, [0.1, 0.9], axis=0).ravel(),
    "autocorrelation": autocorrelation,
}


def stream():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((4, 9, 3)))


@pytest.mark.parametrize("name", STATISTICS)
def test_they_are_numpys_over_the_real_clips(name):
    padded = stream().masked_fill((torch.arange(9) >= LENGTHS.unsqueeze(1)).unsqueeze(-1), torch.nan)
    (found,) = channel_statistics(padded, LENGTHS, [name])
    expected = [EXPECTED[name](clips[:n].numpy()) for clips, n in zip(padded, LENGTHS, strict=True)]
    assert found.shape == (4, 3 * NUMBERS.get(name, 1))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_without_lengths_every_clip_is_real(name):
    (found,) = channel_statistics(stream(), None, [name])
    (same,) = channel_statistics(stream(), torch.full((4,), 9), [name])
    assert torch.equal(found, same)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_constant_channel_has_a_number(name):
    (found,) = channel_statistics(torch.full((2, 5, 1), 0.3, dtype=torch.double), torch.tensor([1, 5]), [name])
    assert torch.allclose(found, torch.full_like(found, 0.3 if name in ("mean", "quantiles") else 0.0))
