"""MCMoE's own choices; numbers of the published implementation are in tests/golden."""

import pytest
import torch
from torch import nn

from aqa.errors import AqaError
from aqa.layers.clips import on_clips
from aqa.layers.grade_decoder import sinusoid
from aqa.models import build
from aqa.models.mcmoe import GatedGenerator

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}


def model(**options):
    torch.manual_seed(0)
    return build(
        "mcmoe", widths=WIDTHS, **{"hidden_dim": 16, "n_encoder": 1, "n_decoder": 1, "dropout": 0.0, **options}
    )


def inputs(rows=6, clips=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in WIDTHS.items()}


def lengths(rows=6, clips=9):
    return {m: torch.full((rows,), clips) for m in WIDTHS}


ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def test_prototypes_numbered_by_batch_row_make_scores_depend_on_the_order():
    by_row, by_query = model(prototype_position="batch_row").eval(), model().eval()
    reverse = torch.arange(5, -1, -1)
    features = inputs()
    flipped = {m: x[reverse] for m, x in features.items()}
    with torch.no_grad():
        assert not torch.allclose(by_row.score(features, ALL), by_row.score(flipped, ALL)[reverse], atol=1e-4)
        assert torch.allclose(by_query.score(features, ALL), by_query.score(flipped, ALL)[reverse], atol=1e-6)


@pytest.mark.parametrize(("queries", "constant"), [("shared", True), ("temporal", False)])
def test_only_temporal_queries_generate_streams_that_change_over_time(queries, constant):
    torch.manual_seed(0)
    generator = GatedGenerator(16, queries).eval()
    stream = generator(torch.randn(2, 20, 16), torch.zeros(2, 20, dtype=torch.bool), clips=10)
    assert stream.shape == (2, 10, 16)
    assert bool((stream - stream[:, :1]).abs().max() < 1e-6) is constant


def test_one_shared_query_gives_what_equal_queries_at_every_clip_give():
    torch.manual_seed(0)
    generator = GatedGenerator(16, "shared").eval()
    context = torch.randn(2, 20, 16)
    stream = torch.zeros(2, 10, 16)
    for attention in generator.attention:
        published = nn.MultiheadAttention(16, 4, batch_first=True)
        published.load_state_dict(attention.state_dict())
        stream, _ = published(stream, context, context)
    gate = generator.gate(torch.cat([stream.mean(1), context.mean(1)], -1)).sigmoid()
    ours = generator(context, torch.zeros(2, 20, dtype=torch.bool), clips=10)
    assert torch.allclose(ours, gate.unsqueeze(1) * stream, atol=1e-6)


def test_masked_padding_makes_scores_and_losses_independent_of_how_much_there_is():
    short = inputs(clips=9)
    long = {m: torch.cat([x, torch.zeros(6, 5, x.shape[2])], dim=1) for m, x in short.items()}
    target = torch.rand(6)
    for masking in (True, False):
        masked = model(mask_padding=masking)
        losses = [masked.loss(x, target, MIXED, ALL, lengths()).total for x in (short, long)]
        masked.eval()
        scores = [masked.score(x, MIXED, lengths()) for x in (short, long)]
        assert torch.allclose(*losses, rtol=1e-5) is masking
        assert torch.allclose(*scores, atol=1e-6) is masking


def test_masked_padding_never_looks_at_padded_clips():
    features = inputs()
    spoiled = {m: x.clone() for m, x in features.items()}
    for x in spoiled.values():
        x[:, 5:] = float("nan")
    masked = model(mask_padding=True).eval()
    assert torch.equal(masked.score(features, MIXED, lengths(clips=5)), masked.score(spoiled, MIXED, lengths(clips=5)))


def test_a_present_stream_of_zeros_is_not_taken_for_a_missing_one():
    features = inputs()
    features["audio"] = torch.zeros_like(features["audio"])
    plain = model().eval()
    without = torch.tensor([[True, False, True]]).expand(6, 3)
    with torch.no_grad():
        assert not torch.allclose(plain.score(features, ALL), plain.score(features, without), atol=1e-5)


def test_rows_count_the_same_in_the_loss_whatever_the_patterns_of_the_others():
    features, target = inputs(), torch.rand(6)
    plain = model().eval()  # without batch statistics rows do not touch each other, except for the triplet term
    parts = [
        plain.loss({m: x[i : i + 1] for m, x in features.items()}, target[i : i + 1], MIXED[i : i + 1], ALL[:1]).parts
        for i in range(6)
    ]
    together = plain.loss(features, target, MIXED, ALL).parts
    for name in ("mse", "reconstruction", "kl"):
        assert torch.allclose(together[name], torch.stack([p[name] for p in parts]).mean(), rtol=1e-5)


def test_nothing_hidden_means_nothing_reconstructed():
    parts = model().loss(inputs(), torch.rand(6), ALL, ALL).parts
    assert parts["reconstruction"] == 0
    assert parts["kl"] > 0


def test_unavailable_streams_are_generated_but_never_a_target():
    fixed = model().loss(inputs(), torch.rand(6), MIXED, MIXED).parts
    assert fixed["reconstruction"] == 0


def test_loss_weights_weigh_their_parts():
    features, target = inputs(), torch.rand(6)
    options = {"alpha": 0.3, "reconstruction_weight": 2.0, "kl_weight": 5.0}
    total, parts = model(**options).loss(features, target, MIXED, ALL)
    expected = 10 * parts["mse"] + 0.3 * parts["triplet"] + 2 * parts["reconstruction"] + 5 * parts["kl"]
    assert torch.allclose(total, expected)


def test_router_weights_are_a_distribution_over_experts_for_each_stream():
    for masking in (True, False):
        weights = model(mask_padding=masking).eval().diagnostics(inputs(), MIXED, lengths())["router_weights"]
        assert weights.shape == (6, 3, 3)
        assert torch.allclose(weights.sum(-1), torch.ones(6, 3))


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(AqaError, match="hidden_dim 18 must be a multiple of 4"):
        model(hidden_dim=18)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden_dim": 3}, "did you mean 'hidden_dim'"),
        ({"dropout": "much"}, "option 'dropout'.*'much'"),
        ({"prototype_position": "row"}, "option 'prototype_position'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(AqaError, match=message):
        build("mcmoe", widths=WIDTHS, **options)


def test_sinusoid_is_the_transformers_for_even_and_odd_widths():
    position, channel = 5, 2
    assert sinusoid(9, 8)[position, 2 * channel] == pytest.approx(torch.sin(torch.tensor(5 / 10000 ** (4 / 8))))
    assert sinusoid(9, 8)[position, 2 * channel + 1] == pytest.approx(torch.cos(torch.tensor(5 / 10000 ** (4 / 8))))
    assert sinusoid(9, 7).shape == (9, 7)


def test_on_clips_lets_only_real_clips_into_batch_statistics():
    norm = nn.BatchNorm1d(4)
    x = torch.randn(3, 5, 4)
    clips = torch.arange(5) < torch.tensor([[5], [2], [3]])
    x[~clips] = 1e6
    out = on_clips(norm, x, clips)
    assert torch.allclose(out[clips].mean(0), torch.zeros(4), atol=1e-5)
    assert torch.equal(out[~clips], torch.zeros(5, 4))


def test_without_the_generator_hidden_streams_are_zeros_and_nothing_is_reconstructed():
    ablated = model(use_generator=False)
    assert not any("generator" in name for name, _ in ablated.named_parameters())
    streams = ablated.complete(ablated.enhance(inputs(), ALL, None), MIXED, None)
    for i, stream in enumerate(streams.values()):
        assert (stream[~MIXED[:, i]] == 0).all()
        assert (stream[MIXED[:, i]].abs().sum(dim=(1, 2)) > 0).all()
    loss = ablated.loss(inputs(), torch.rand(6), MIXED, ALL)
    assert loss.parts["reconstruction"] == 0
    assert loss.parts["kl"] > 0


def test_without_experts_the_streams_are_fused_as_they_are():
    ablated = model(use_experts=False)
    assert not any(name.startswith(("experts", "router")) for name, _ in ablated.named_parameters())
    streams = ablated.complete(ablated.enhance(inputs(), ALL, None), MIXED, None)
    assert all(torch.equal(ablated.mix(streams, None)[m], stream) for m, stream in streams.items())
    loss = ablated.loss(inputs(), torch.rand(6), MIXED, ALL)
    assert loss.parts["kl"] == 0
    assert loss.parts["reconstruction"] > 0
    assert set(ablated.eval().diagnostics(inputs(), MIXED)) == {"deviation"}


@pytest.mark.parametrize("part", ["use_generator", "use_experts"])
def test_an_ablated_model_looks_at_nothing_hidden_either(part):
    ablated, features = model(**{part: False}).eval(), inputs()
    poisoned = {
        m: x.masked_fill(~MIXED[:, i].view(-1, 1, 1), float("nan")) for i, (m, x) in enumerate(features.items())
    }
    with torch.no_grad():
        assert torch.equal(ablated.score(features, MIXED), ablated.score(poisoned, MIXED))
