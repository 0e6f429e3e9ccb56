"""SimMLM: the gate over visible modalities, the More vs. Fewer ranking loss, the two stages, and that it learns."""

import pytest
import torch

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.models.simmlm import drawn_pair, more_vs_fewer, nested_pair, pair_weights
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def model(widths=WIDTHS, **options):
    torch.manual_seed(0)
    return build("simmlm", widths=widths, **{"hidden_dim": 16, "n_encoder": 1, "dropout": 0.0, **options})


def inputs(rows=6, clips=9, widths=WIDTHS):
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in widths.items()}


def lengths(rows=6, clips=9):
    return {m: torch.full((rows,), clips) for m in WIDTHS}


def test_gate_weights_sum_to_one_over_visible_modalities_and_are_zero_for_hidden_ones():
    weights = model().diagnostics(inputs(), MIXED)["gate_weights"]
    assert weights.shape == (6, 3)
    assert torch.allclose(weights.sum(dim=1), torch.ones(6))
    assert (weights[~MIXED] == 0).all()
    assert (weights[MIXED] > 0).all()


def test_gate_weights_follow_the_sample():
    weights = model().diagnostics(inputs(), ALL)["gate_weights"]
    assert (weights.std(dim=0) > 0).all()


def test_a_score_is_the_visible_answers_mixed_by_the_gate_before_the_sigmoid():
    simmlm, features = model(), inputs()
    found = simmlm.diagnostics(features, MIXED)
    assert torch.equal(found["answers"].isnan(), ~MIXED)
    mixed = (found["gate_weights"] * found["answers"].logit().nan_to_num()).sum(dim=1).sigmoid()
    assert torch.allclose(simmlm.score(features, MIXED), mixed, atol=1e-6)


def test_an_experts_answer_does_not_depend_on_who_else_is_there():
    simmlm, features = model(), inputs()
    together, some = (simmlm.diagnostics(features, seen)["answers"] for seen in (ALL, MIXED))
    assert torch.allclose(together[MIXED], some[MIXED], atol=1e-6)
    alone = MIXED.sum(dim=1) == 1
    assert torch.allclose(simmlm.score(features, MIXED)[alone], together[MIXED & alone.unsqueeze(1)], atol=1e-6)


def test_the_ranking_loss_is_by_how_much_more_is_worse_than_fewer():
    with_more = torch.tensor([0.1, 0.5, 0.3, 0.25], requires_grad=True)
    with_fewer = torch.tensor([0.4, 0.2, 0.3, 0.15], requires_grad=True)
    loss = more_vs_fewer(with_more, with_fewer)
    assert loss.item() == pytest.approx((0.3 + 0.1) / 4)
    loss.backward()
    # Down with the error of more, up with that of fewer, where the order is wrong; nothing where it is right or equal.
    assert torch.equal(with_more.grad, torch.tensor([0.0, 0.25, 0.0, 0.25]))
    assert torch.equal(with_fewer.grad, -with_more.grad)
    assert more_vs_fewer(torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.2])) == 0


@pytest.mark.parametrize("mofe_weight", [0.0, 0.3])
def test_the_loss_is_that_of_both_sides_and_the_ranking_between_them(mofe_weight):
    widths = {"visual": 12, "audio": 8}
    simmlm = model(widths, mofe_weight=mofe_weight, pairs="visible")
    features, target = inputs(widths=widths), torch.rand(6)
    visible, both = torch.tensor([[True, False]] * 6), torch.ones(6, 2, dtype=torch.bool)
    total, parts = simmlm.loss(features, target, visible, both)  # of two modalities the other set is both
    more, fewer = ((simmlm.score(features, seen) - target).square() for seen in (both, visible))
    assert torch.allclose(parts["mse"], (more.mean() + fewer.mean()) / 2)
    assert torch.allclose(parts["mofe"], (more - fewer).clamp(min=0).mean())
    assert parts["mofe"] > 0
    assert torch.allclose(total, parts["mse"] + mofe_weight * parts["mofe"])


def test_a_row_with_one_available_modality_has_nothing_to_rank():
    alone = torch.tensor([[False, True, False]] * 6)
    total, parts = model().loss(inputs(), torch.rand(6), alone, alone)
    assert parts["mofe"] == 0
    assert total == parts["mse"]


def test_pairs_are_nested_within_what_is_available_and_one_of_them_is_visible():
    torch.manual_seed(0)
    available = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool).repeat(500, 1)
    visible = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool).repeat(500, 1)
    more, fewer = nested_pair(visible, available)
    assert not (fewer & ~more).any()
    assert not (more & ~available).any()
    assert fewer.any(dim=1).all()
    assert ((more == visible).all(dim=1) | (fewer == visible).all(dim=1)).all()
    strict = (more != fewer).any(dim=1)
    assert torch.equal(strict, available.sum(dim=1) > 1)


def test_every_other_size_and_member_of_a_pair_is_as_likely():
    torch.manual_seed(0)
    available = torch.ones(6000, 4, dtype=torch.bool)
    visible = torch.tensor([True, True, False, False]).expand(6000, -1)
    more, fewer = nested_pair(visible, available)
    sizes = torch.where((more == visible).all(dim=1), fewer.sum(dim=1), more.sum(dim=1))
    assert torch.allclose(sizes.bincount(minlength=5) / 6000, torch.tensor([0, 1, 0, 1, 1]) / 3, atol=0.03)
    assert torch.allclose(fewer[sizes == 1].float().mean(dim=0), torch.tensor([0.5, 0.5, 0, 0]), atol=0.05)
    assert torch.allclose(more[sizes == 3].float().mean(dim=0), torch.tensor([1, 1, 0.5, 0.5]), atol=0.05)


def test_drawn_pairs_are_nested_and_available_and_a_lone_modality_is_compared_with_itself():
    torch.manual_seed(0)
    available = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1]], dtype=torch.bool).repeat(500, 1)
    more, fewer = drawn_pair(available, pair_weights(4))
    assert not (fewer & ~more).any()
    assert not (more & ~available).any()
    assert fewer.any(dim=1).all()
    assert torch.equal((more != fewer).any(dim=1), available.sum(dim=1) > 1)
    two = available.sum(dim=1) == 2
    assert torch.equal(more[two], available[two])


@pytest.mark.parametrize("pairs", ["drawn", "visible"])
def test_pairs_take_in_nothing_that_is_not_available(pairs):
    features, target = inputs(), torch.rand(6)
    poisoned = {m: x.masked_fill(~MIXED[:, i].view(-1, 1, 1), torch.nan) for i, (m, x) in enumerate(features.items())}
    losses = []
    for given in (features, poisoned):
        simmlm = model(pairs=pairs)
        torch.manual_seed(3)
        losses.append(simmlm.loss(given, target, MIXED, MIXED).total)
    assert torch.equal(*losses)


def test_experts_alone_learn_from_their_own_stream_and_the_gate_does_not():
    simmlm, target = model(expert_epochs=2), torch.rand(6)

    def gradients(features):
        simmlm.zero_grad(set_to_none=True)
        simmlm.loss(features, target, MIXED, ALL).total.backward()
        return [p.grad for p in simmlm.experts["audio"].parameters()]

    simmlm.start_epoch(2)
    features = inputs()
    before, after = gradients(features), gradients({**features, "visual": features["visual"] + 1})
    assert all(p.grad is None for p in simmlm.gate.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    simmlm.start_epoch(3)
    gradients(features)
    assert all(p.grad is not None for p in simmlm.parameters())


def test_padding_changes_nothing_and_is_never_looked_at():
    short = inputs()
    long = {m: torch.cat([x, torch.full((6, 5, x.shape[2]), torch.nan)], dim=1) for m, x in short.items()}
    simmlm = model().eval()
    assert torch.allclose(simmlm.score(short, MIXED), simmlm.score(long, MIXED, lengths()), atol=1e-6)
    zeros = {m: x.nan_to_num() for m, x in long.items()}
    unmasked = model(mask_padding=False).eval()
    assert not torch.allclose(unmasked.score(short, MIXED), unmasked.score(zeros, MIXED, lengths()), atol=1e-6)


def test_streams_may_differ_in_length():
    features = inputs()
    features["audio"] = features["audio"].repeat(1, 2, 1)
    simmlm = model()
    assert simmlm.takes_unaligned
    n = {"visual": torch.full((6,), 9), "audio": torch.full((6,), 18), "flow": torch.full((6,), 9)}
    assert torch.isfinite(simmlm.loss(features, torch.rand(6), MIXED, ALL, n).total)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_head": 3}, "hidden_dim 16 must be a multiple of n_head 3"),
        ({"mofe_weight": 0.5}, "'mofe_weight': must be less than 0.5, got 0.5"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


def test_it_learns_and_more_modalities_are_no_worse_than_fewer(tmp_path):
    store = make_synthetic("tiny", tmp_path / "tiny.h5", samples=400)
    found = aqa.run(
        {
            "name": "simmlm",
            "data": {"store": str(store), "target": "score"},
            "model": {"name": "simmlm", "hidden_dim": 16, "n_encoder": 1, "dropout": 0.1, "expert_epochs": 3},
            "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}},
            "train": {"epochs": 20, "batch_size": 32, "learning_rate": 3e-3, "threads": 1},
            "output": str(tmp_path / "run"),
        }
    ).metrics["patterns"]
    assert found["VAF"]["srcc"] >= 0.8 * found["VAF"]["ceiling"]
    errors = [
        sum(found[name]["mse"] for name in names) / len(names)
        for names in (["VAF"], ["VA", "VF", "AF"], ["V", "A", "F"])
    ]
    assert errors == sorted(errors)
