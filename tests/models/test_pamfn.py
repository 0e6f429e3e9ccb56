"""PAMFN: what each stage trains, what enters the mixed branch, the policy over FusionNets, and that it learns."""

import pytest
import torch
from torch.nn import functional as F

import aqa
from aqa.config.schema import TrainConfig
from aqa.errors import AqaError
from aqa.features.batches import Batch
from aqa.layers.convolutions import pool
from aqa.models import build
from aqa.models.pamfn import AdaptiveFusion
from aqa.store.synthetic import make_synthetic
from aqa.training.loop import train
from aqa.training.optimizers import parameter_groups

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
TARGET = torch.linspace(0.2, 0.8, 6)


SMALL = {"hidden_dim": 8, "embedding_dim": 16, "n_fusion": 3, "dropout": 0.0, "branch_epochs": 0}


def model(**options):
    torch.manual_seed(0)
    return build("pamfn", widths=WIDTHS, **{**SMALL, **options})


def inputs(rows=6, clips=9):
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in WIDTHS.items()}


def lengths(rows=6, clips=9):
    return {m: torch.full((rows,), clips) for m in WIDTHS}


def staged(epoch, **options):
    """The model in the stage of that epoch, of which the first two train the branches."""
    pamfn = model(branch_epochs=2, **options)
    pamfn.start_epoch(epoch)
    return pamfn


def gradients(pamfn, features, visible=MIXED):
    pamfn.zero_grad(set_to_none=True)
    pamfn.loss(features, TARGET, visible, ALL).total.backward()
    return {name: p.grad for name, p in pamfn.named_parameters()}


def test_in_the_first_stage_the_branches_learn_and_the_mixed_branch_does_not():
    for epoch in (1, 2):
        found = gradients(staged(epoch), inputs())
        assert all((grad is None) == name.startswith("mixed") for name, grad in found.items())


def test_no_gradient_crosses_the_branches():
    pamfn, features = staged(1), inputs()
    own = [features[m].requires_grad_() for m in WIDTHS]
    scores = pamfn.branch_out(features, ALL, torch.ones(6, 9, dtype=torch.bool))[1]
    for i in range(3):
        found = torch.autograd.grad(scores[:, i].sum(), own, allow_unused=True, retain_graph=True)
        assert [grad is not None and bool((grad != 0).any()) for grad in found] == [i == j for j in range(3)]
    before = gradients(pamfn, inputs())
    after = gradients(pamfn, {**inputs(), "visual": inputs()["visual"] + 1})
    for name, grad in before.items():
        if not name.startswith("mixed"):
            assert torch.equal(grad, after[name]) is not name.startswith("branches.visual") or (grad == 0).all()


def test_in_the_second_stage_the_branches_are_frozen_with_their_statistics_and_dropout():
    pamfn = staged(3, dropout=0.5, second_stage="frozen")
    pamfn.train()
    assert not any(module.training for module in pamfn.branches.modules())
    assert pamfn.mixed.training
    before = {name: x.clone() for name, x in pamfn.state_dict().items()}
    optimizer = torch.optim.AdamW(pamfn.parameters(), lr=0.1, weight_decay=0.1)
    found = gradients(pamfn, inputs())
    optimizer.step()
    assert all((grad is None) == name.startswith("branches") for name, grad in found.items())
    changed = {name for name, x in pamfn.state_dict().items() if not torch.equal(x, before[name])}
    assert not any(name.startswith("branches") for name in changed)
    assert any("policy" in name for name in changed)


def test_in_the_published_second_stage_the_audio_branch_learns_on():
    pamfn = staged(3)
    pamfn.train()
    assert pamfn.branches.training
    found = gradients(pamfn, inputs())
    assert all(
        (grad is None) == name.startswith(("branches.visual", "branches.flow"))
        for name, grad in found.items()
        if not name.startswith("branches.audio")
    )
    assert any(grad is not None for name, grad in found.items() if name.startswith("branches.audio.levels"))
    hidden = gradients(staged(3), inputs(), torch.tensor([[True, False, True]] * 6))
    assert all(grad is None or (grad == 0).all() for name, grad in hidden.items() if name.startswith("branches.audio"))


def test_the_first_stage_may_be_a_share_of_all_epochs():
    pamfn = model(branch_epochs=0.5)
    pamfn.epochs = 6
    assert [pamfn.start_epoch(epoch) or pamfn.stage for epoch in (3, 4)] == ["branches", "mixed"]


def test_the_head_learns_at_a_rate_of_its_own():
    groups = parameter_groups(model(), 1.0)
    assert [group["lr"] for group in groups] == [1.0, 0.1]
    assert len(groups[1]["params"]) == len(list(model().mixed.head.parameters()))


def test_at_once_the_branches_learn_what_they_would_alone():
    at_once, alone = gradients(model(), inputs()), gradients(staged(1), inputs())
    assert all(grad is not None for grad in at_once.values())
    for name, grad in alone.items():
        assert grad is None or torch.equal(grad, at_once[name])


def test_parts_of_the_loss_are_those_of_the_stage():
    features = inputs()
    first, second, at_once = (m.loss(features, TARGET, MIXED, ALL) for m in (staged(1), staged(3), model()))
    assert first.parts["mse"] == 0 < first.parts["branch_mse"] == first.total
    assert second.parts["branch_mse"] == 0 < second.parts["mse"] == second.total
    assert torch.allclose(at_once.total, at_once.parts["mse"] + at_once.parts["branch_mse"])


def test_a_branch_learns_from_every_video_that_has_its_modality():
    pamfn = staged(1).eval()
    scores = pamfn.branch_out(inputs(), ALL, torch.ones(6, 9, dtype=torch.bool))[1]
    errors = (scores - TARGET.unsqueeze(1)).square()
    expected = sum(errors[MIXED[:, i], i].mean() for i in range(3))
    hidden = torch.zeros(6, 3, dtype=torch.bool).scatter(1, MIXED.long().argmax(dim=1, keepdim=True), True)
    assert torch.allclose(pamfn.loss(inputs(), TARGET, hidden, MIXED).total, expected)


def fit(states, stop_after=None, saved=None):
    """Two epochs of branches and two of the mixed branch, with dropout and drawn policies; weights, history."""
    pamfn = model(branch_epochs=2, dropout=0.3)
    epochs = []

    def batches(epoch):
        visible = MIXED if epoch % 2 else ALL
        yield Batch(torch.arange(6), inputs(), lengths(), ALL, visible, (visible, ALL))

    def measure():
        return {"srcc": float(pamfn.score(inputs(), ALL).detach().sum()), "mse": 0.0}

    def on_epoch(row):
        epochs.append(row)
        if len(epochs) == stop_after:
            raise KeyboardInterrupt

    def evaluated():
        pamfn.eval()
        with torch.no_grad():
            return measure()

    settings = TrainConfig(epochs=4, learning_rate=1e-2)
    progress = train(
        pamfn, batches, TARGET, evaluated, "srcc", "valid", settings, saved, states.save, on_epoch, show_progress=False
    )
    return pamfn.state_dict(), progress.history


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_run_stopped_in_either_stage_goes_on_to_the_same_bits(monkeypatch, states, done):
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    weights, history = fit(states)
    assert states[done - 1]["progress"]["epoch"] == done
    torch.manual_seed(123)
    resumed, resumed_history = fit(states, saved=states[done - 1])
    assert resumed_history == history
    assert all(torch.equal(x, resumed[name]) for name, x in weights.items())


def test_hidden_streams_do_not_enter_the_mixed_branch():
    pamfn, features = model().eval(), inputs()
    with torch.no_grad():
        before = pamfn.score(features, MIXED)
        pamfn.branches["audio"].head[1].bias.add_(5)
        pamfn.branches["audio"].embedding[4].bias.add_(5)
        after = pamfn.score(features, MIXED)
    audio = MIXED[:, 1]
    assert torch.equal(before[~audio], after[~audio])
    assert (before[audio] != after[audio]).all()


def test_training_lets_no_hidden_stream_into_the_mixed_branch_either():
    features = inputs()
    changed = {m: torch.where(MIXED[:, i].view(-1, 1, 1), x, 3 * x + 1) for i, (m, x) in enumerate(features.items())}
    losses = []
    for given in (features, changed):
        pamfn = staged(3)
        pamfn.train()
        losses.append(pamfn.loss(given, TARGET, MIXED, ALL).total)
    assert torch.equal(*losses)


def test_fusion_nets_weigh_visible_modalities_alone():
    weights = model().eval().diagnostics(inputs(), MIXED)["modality_weights"]
    assert weights.shape == (6, 3, 3, 3)
    hidden = (~MIXED).view(6, 1, 1, 3).expand_as(weights)
    assert (weights[hidden] == 0).all()
    assert ((weights >= 0) & (weights <= 1)).all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(6, 3, 3))


def test_gates_lie_between_0_and_1_and_open_in_order():
    for training in (True, False):
        policy = model().train(training).diagnostics(inputs(), MIXED)["policy"]
        assert policy.shape == (6, 3, 3)
        assert ((policy >= 0) & (policy <= 1)).all()
        assert (policy[..., 0] == 1).all()
        assert (policy.diff(dim=-1) <= 0).all()


def test_the_policy_enables_all_fusion_nets_up_to_the_chosen_one_and_learns_as_the_choice():
    fusion = AdaptiveFusion(("visual",), 8, 4).eval()
    logits = torch.tensor([[[0.0, 3.0, 1.0, 2.0], [5.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    policy = fusion.enabled(logits, torch.tensor(1.0))
    assert torch.equal(policy, torch.tensor([[[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]]))
    wanted = torch.tensor([0.1, -0.4, 2.0, 0.3])
    (found,) = torch.autograd.grad((policy * wanted).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(dim=-1) * wanted).sum(), logits)
    assert torch.allclose(found, expected)


def test_policies_are_drawn_in_training_by_their_logits_and_fixed_in_evaluation():
    torch.manual_seed(0)
    fusion, logits = AdaptiveFusion(("visual",), 8, 3), torch.tensor([0.0, 1.0, 2.0]).expand(20000, 1, 3)
    drawn = fusion.enabled(logits, torch.tensor(2.0)).sum(dim=-1).flatten().long().bincount(minlength=4)[1:] / 20000
    assert torch.allclose(drawn, F.softmax(logits[0, 0], dim=0), atol=0.02)
    assert (fusion.eval().enabled(logits, torch.tensor(2.0)).sum(dim=-1) == 3).all()


def test_the_loss_of_the_mixed_branch_moves_the_policy():
    found = gradients(staged(3), inputs())
    policies = [grad for name, grad in found.items() if "fusion.policy.weight" in name]
    assert len(policies) == 3
    assert all((grad != 0).any() for grad in policies)


def test_pooling_is_the_mean_over_the_clips_that_count():
    stream = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0], [2.0, 4.0, 6.0, torch.nan, torch.nan]]).unsqueeze(-1)
    clips = torch.tensor([[True] * 5, [True, True, True, False, False]])
    halves, real = pool(stream, clips)
    assert torch.equal(halves.squeeze(-1), torch.tensor([[2.0, 6.0], [3.0, 0.0]]))  # the odd clip is dropped
    assert torch.equal(real, torch.tensor([[True, True], [True, False]]))
    alone, real = pool(stream[:, :2], torch.tensor([[True, True], [True, False]]))
    assert torch.equal(alone.flatten(), torch.tensor([2.0, 2.0]))  # but not the only one
    assert real.all()
    assert torch.equal(pool(stream[:, :1], clips[:, :1])[0].flatten(), torch.tensor([1.0, 2.0]))
    means, real = pool(stream, clips, whole=True)
    assert torch.equal(means.flatten(), torch.tensor([5.0, 4.0]))
    assert real.all()


@pytest.mark.parametrize("clips", [1, 2, 3, 9])
def test_padding_changes_nothing_and_is_never_looked_at(clips):
    short = inputs(clips=clips)
    long = {m: torch.cat([x, torch.full((6, 5, x.shape[2]), torch.nan)], dim=1) for m, x in short.items()}
    pamfn = staged(1)
    losses = [pamfn.loss(x, TARGET, MIXED, ALL, lengths(clips=clips)).total for x in (short, long)]
    assert torch.allclose(*losses, rtol=1e-5)
    pamfn.eval()
    scores = [pamfn.score(x, MIXED, lengths(clips=clips)) for x in (short, long)]
    assert torch.allclose(*scores, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cross_heads": 3}, "hidden_dim 8 must be a multiple of n_head 3"),
        ({"n_fusion": 0}, "'n_fusion': must be 1 or more, got 0"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


def test_it_learns_in_two_stages(tmp_path):
    store = make_synthetic("tiny", tmp_path / "tiny.h5", samples=500)
    found = aqa.run(
        {
            "name": "pamfn",
            "data": {"store": str(store), "target": "score"},
            "model": {
                "name": "pamfn",
                "hidden_dim": 16,
                "n_fusion": 2,
                "dropout": 0.3,
                "branch_epochs": 4,
                "head_learning_rate": 1,
            },
            "missing": {"train": "none", "test": ["VAF"]},
            "train": {"epochs": 10, "batch_size": 32, "learning_rate": 5e-3, "threads": 1},
            "output": str(tmp_path / "run"),
        }
    ).metrics
    complete = found["patterns"]["VAF"]
    assert complete["srcc"] >= 0.8 * complete["ceiling"]
    assert found["selection"]["epoch"] > 4


def test_a_score_can_be_followed_back_to_the_features():
    features = {m: x.requires_grad_() for m, x in inputs().items()}
    model().eval().score(features, ALL).sum().backward()
    assert all((x.grad != 0).any() for x in features.values())
