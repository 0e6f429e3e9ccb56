"""Convolutions over time: neighbours in time matter, padding and hidden streams do not."""

import pytest
import torch

from aqa.models import build

WIDTHS = {"visual": 4, "audio": 3}
ROWS, CLIPS = 5, 12
ALL = torch.ones(ROWS, 2, dtype=torch.bool)


def model(**options):
    torch.manual_seed(0)
    made = build("temporal_convolution", widths=WIDTHS, **{"hidden_dim": 16, "dropout": 0.0, **options})
    with torch.no_grad():
        made.hidden_streams.normal_()
    return made.eval()


def inputs(clips=CLIPS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(ROWS, clips, d, generator=generator) for m, d in WIDTHS.items()}


def scores(of, features, visible=ALL, lengths=None):
    with torch.no_grad():
        return of.score(features, visible, lengths)


def test_a_score_depends_on_the_order_of_clips():
    features = inputs()
    shuffled = {m: x[:, torch.randperm(CLIPS, generator=torch.Generator().manual_seed(1))] for m, x in features.items()}
    assert (scores(model(), features) - scores(model(), shuffled)).abs().max() > 1e-4


def test_a_kernel_of_one_clip_knows_no_order():
    features = inputs()
    reversed_ = {m: x.flip(1) for m, x in features.items()}
    of = model(kernel_size=1)
    torch.testing.assert_close(scores(of, features), scores(of, reversed_))


def test_when_one_stream_follows_the_other_matters():
    """The same clips of both streams, one stream a clip later: a mean over time could not tell."""
    features = inputs()
    later = {"visual": features["visual"], "audio": features["audio"].roll(1, dims=1)}
    torch.testing.assert_close(features["audio"].mean(dim=1), later["audio"].mean(dim=1))
    assert (scores(model(), features) - scores(model(), later)).abs().max() > 1e-4


@pytest.mark.parametrize("padding", [0.0, float("nan")])
def test_padding_changes_nothing(padding):
    of, features, lengths = model(), inputs(), {m: torch.full((ROWS,), CLIPS) for m in WIDTHS}
    padded = {m: torch.cat([x, torch.full((ROWS, 4, x.shape[2]), padding)], dim=1) for m, x in features.items()}
    torch.testing.assert_close(scores(of, features, lengths=lengths), scores(of, padded, lengths=lengths))


def test_the_network_is_told_what_is_hidden():
    """A stream whose projection is zero is not the same as a hidden one."""
    of, features = model(), inputs()
    for parameter in of.projections["audio"].parameters():
        parameter.data.zero_()
    seen = ALL.clone()
    seen[:, 1] = False
    assert (scores(of, features) - scores(of, features, seen)).abs().max() > 1e-4


def test_one_layer_equals_its_definition():
    of, features = model(n_layer=1, kernel_size=3), inputs()
    joined = sum(of.projections[m](x) for m, x in features.items())
    before = torch.nn.functional.pad(joined, (0, 0, 1, 1))
    kernel, bias = of.convolutions[0].weight, of.convolutions[0].bias  # (H, H, 3), (H,)
    found = sum(before[:, k : k + CLIPS] @ kernel[:, :, k].T for k in range(3)) + bias
    wanted = of.head((joined + found.relu()).mean(dim=1)).squeeze(1).sigmoid()
    torch.testing.assert_close(scores(of, features), wanted.detach())
