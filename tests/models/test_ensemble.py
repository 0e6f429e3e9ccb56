"""The ensemble is a weighted mean, and its weights are those of least penalized error."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from aqa.errors import AqaError
from aqa.models import build
from aqa.models.ensemble import PRIOR_DEVIATION, member_weights, visible_sets
from aqa.models.seeds import SeedEnsemble

WIDTHS = {"visual": 4, "audio": 3, "flow": 2}
MEMBERS = {"ridge": {}, "late_fusion": {"hidden_dim": 8}}
ROWS, CLIPS = 7, 5


def ensemble(widths=WIDTHS, members=MEMBERS, **options):
    torch.manual_seed(0)
    return build("ensemble", widths=widths, members=members, **options).eval()


def features(rows=ROWS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, CLIPS, d, generator=generator) for m, d in WIDTHS.items()}


def scored(videos, seed, quality=(0.9, 0.5, 0.0)):
    """Scores of members (n, K) that follow the target as closely as `quality` says, and the target (n,)."""
    rng = np.random.default_rng(seed)
    target = 0.5 + 0.1 * rng.standard_normal(videos)
    noise = 0.1 * rng.standard_normal((videos, len(quality)))
    return 0.5 + np.array(quality) * (target[:, None] - 0.5) + (1 - np.array(quality)) * noise, target


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_not_negative_and_their_sum_is_at_most_one(seed):
    rng = np.random.default_rng(seed)
    for scores, target in (
        scored(40, seed),
        (rng.random((25, 3)), rng.random(25)),
        (-scored(30, seed)[0], np.ones(30)),
    ):
        weights = member_weights(scores, target, float(target.mean()))
        assert (weights >= 0).all()
        assert weights.sum() <= 1 + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_least_penalized_error(seed):
    scores, target = scored(60, seed)
    middle = float(target.mean())
    apart, error = scores - middle, target - middle
    mean = apart.mean(axis=1)
    share = np.clip(mean @ error / (mean @ mean), 0, 1)
    firm = np.square(error - share * mean).mean() / PRIOR_DEVIATION**2

    def penalized(weights):
        return np.square(error - apart @ weights).sum() + firm * np.square(weights - share / 3).sum()

    least = minimize(
        penalized,
        np.full(3, 0.2),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "ineq", "fun": lambda weights: 1 - weights.sum()},
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(member_weights(scores, target, middle), least.x, atol=1e-4)


def test_better_members_weigh_more_and_members_that_predict_nothing_leave_the_mean_label():
    weights = member_weights(*scored(5000, 0), 0.5)
    assert weights[0] > 0.8
    assert weights[1:].sum() < 0.2
    useless = np.random.default_rng(0).normal(0.5, 0.1, (5000, 3))
    assert member_weights(useless, scored(5000, 1)[1], 0.5).sum() < 0.06


def test_members_that_predict_the_opposite_still_leave_an_order():
    scores, target = scored(60, 0)
    weights = member_weights(1 - scores, target, float(target.mean()))
    np.testing.assert_allclose(weights, 0.05 / 3)


def test_the_score_is_the_weighted_sum_of_the_members_and_the_mean_label():
    model, rng = ensemble(), np.random.default_rng(0)
    sets = visible_sets(3)
    available = rng.random((200, 3)) < 0.8
    available[~available.any(axis=1)] = True
    model.weigh(rng.random((2, len(sets), 200)), rng.random(200), available)
    visible = torch.tensor(sets)
    members = model.member_scores(features(), visible)
    assert torch.equal(model.diagnostics(features(), visible)["members"], members.T)
    networks = [network.score(features(), visible) for network in model.models_of["late_fusion"]]
    assert len(networks) == 3
    torch.testing.assert_close(members[1], torch.stack(networks).mean(dim=0))
    assert torch.equal(members[0], model.models_of["ridge"][0].score(features(), visible))
    assert len(model.weights.unique(dim=0)) > 3  # each visible set has its own
    for row, chosen in enumerate(sets):
        weights = model.weights_of(chosen)
        expected = weights @ members[:, row].double() + (1 - weights.sum()) * model.middle
        assert float(model.score(features(), visible)[row]) == pytest.approx(float(expected), abs=1e-6)


def test_a_visible_set_that_few_videos_have_takes_the_weights_of_all():
    model, sets = ensemble(), visible_sets(3)
    target = np.random.default_rng(0).random(100)
    available = np.ones((100, 3), bool)
    available[:, 2] = np.arange(100) < 10
    scores = np.random.default_rng(1).random((2, len(sets), 100))
    scores[0] = target
    scores[:, sets.index((True, False, False))] = 0.5  # members are of no use with the first stream alone
    model.weigh(scores, target, available)
    assert torch.equal(model.weights_of((True, True, True)), model.weights_of((False, False, True)))
    assert not torch.equal(model.weights_of((True, True, True)), model.weights_of((True, False, False)))


def test_what_a_member_has_to_say_of_the_training_set_is_said():
    members = {"ridge": {}, "gaussian_process": {"most_videos": 20, "basis_videos": 10}}
    found = build("ensemble", widths=WIDTHS, members=members).notes(30)
    assert len(found) == 1
    assert "these 30 are seen through 10 of them" in found[0]


def test_what_cannot_be_is_said_in_a_line():
    with pytest.raises(AqaError, match="takes at most 5 modalities, got 6"):
        ensemble(dict.fromkeys("abcdef", 2))
    with pytest.raises(AqaError, match="cannot be a member"):
        ensemble(members={"ensemble": {}})
    with pytest.raises(AqaError, match="unknown model 'rige'"):
        ensemble(members={"rige": {}})
    with pytest.raises(AqaError, match="no option 'hidden'"):
        ensemble(members={"late_fusion": {"hidden": 3}})


def test_the_mean_of_seeds_has_their_spread_under_each_pattern():
    torch.manual_seed(0)
    members = [build("late_fusion", widths=WIDTHS, hidden_dim=8).eval() for _ in range(3)]
    model = SeedEnsemble(members)
    visible = torch.stack([torch.tensor(visible_sets(3)), torch.zeros(ROWS, 3, dtype=torch.bool)])
    visible[1, 2:5, 0] = True
    found = model.score_patterns(features(), visible, diagnose=True)
    alone = torch.stack([member.score_patterns(features(), visible).score for member in members])
    torch.testing.assert_close(found.score, alone.mean(dim=0), equal_nan=True)
    for p, spread in enumerate(each["deviation"] for each in found.diagnostics):
        torch.testing.assert_close(spread, alone[:, p, visible[p].any(dim=1)].std(dim=0))
    torch.testing.assert_close(model.score(features(), visible[0]), found.score[0])
    assert torch.equal(model.diagnostics(features(), visible[0])["deviation"], found.diagnostics[0]["deviation"])


def test_members_share_work_between_patterns_and_are_weighed_by_what_each_shows():
    model, encoded = ensemble(), []
    model.weights.copy_(torch.rand(model.weights.shape, generator=torch.Generator().manual_seed(0)) / 2)
    for network in model.models_of["late_fusion"]:
        network.networks["audio"].register_forward_hook(lambda *arguments: encoded.append(len(arguments[2][0])))
    visible = torch.tensor(visible_sets(3)).unsqueeze(1).repeat(1, ROWS, 1)
    visible[4:, 0] = False
    assert model.shares_patterns
    found = model.score_patterns(features(), visible, diagnose=True)
    assert encoded == [ROWS] * model.folds
    expected = model.score_one_by_one(features(), visible, diagnose=True)
    assert torch.equal(found.score.isnan(), ~visible.any(dim=2))
    torch.testing.assert_close(found.score, expected.score, rtol=0, atol=1e-6, equal_nan=True)
    for ours, alone in zip(found.diagnostics, expected.diagnostics, strict=True):
        torch.testing.assert_close(ours["members"], alone["members"], rtol=0, atol=1e-6)
    assert model.score_patterns(features(), visible).diagnostics == [{}] * 7
