"""MoME's own choices: the gate over outputs, holistic token learning, and that both do what they are for."""

import math

import pytest
import torch
from torch import nn

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.models.mome import Outputs, divergence, mutual_guidance, self_guidance, side_by_side
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(7, 3, dtype=torch.bool)
SUBSETS = torch.tensor([[v, a, f] for v in (1, 0) for a in (1, 0) for f in (1, 0) if v or a or f], dtype=torch.bool)


def model(widths=WIDTHS, **options):
    torch.manual_seed(0)
    return build("mome", widths=widths, **{"hidden_dim": 16, "n_encoder": 1, "dropout": 0.0, **options})


def inputs(rows=7, clips=6, seed=0, widths=WIDTHS):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in widths.items()}


def log_grades(rows=7, n_modality=3, n_query=4, seed=0):
    return torch.randn(rows, n_modality, 2, n_query, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None]


def test_gate_weights_sum_to_one_over_what_is_visible_and_are_zero_elsewhere():
    for use_gate in (True, False):
        weights = model(use_gate=use_gate).eval().diagnostics(inputs(), SUBSETS)["gate_weights"]
        assert weights.shape == (7, 3)
        assert torch.allclose(weights.sum(1), torch.ones(7))
        assert (weights[~SUBSETS] == 0).all()
        assert (weights[SUBSETS] > 0).all()


def test_one_visible_expert_has_the_whole_say():
    alone = torch.eye(3, dtype=torch.bool)
    plain = model().eval()
    found = plain.diagnostics(inputs(3), alone)
    assert torch.equal(found["gate_weights"], torch.eye(3))
    assert torch.allclose(plain.score(inputs(3), alone), found["expert_scores"].diagonal())
    assert torch.equal(found["expert_scores"].isnan(), ~alone)


def test_a_score_is_the_gates_mean_of_the_experts_scores():
    plain = model().eval()
    found = plain.diagnostics(inputs(), SUBSETS)
    expected = (found["gate_weights"] * found["expert_scores"].nan_to_num()).sum(1)
    assert torch.allclose(plain.score(inputs(), SUBSETS), expected, atol=1e-6)


class Fixed(nn.Module):
    """An expert that says the same whatever it is given, as tokens and log grades."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.tokens = torch.randn(2, 16, generator=generator)
        self.log_grades = torch.randn(2, 4, generator=generator).log_softmax(-1)

    def forward(self, stream, clips=None):
        return self.tokens.expand(len(stream), -1, -1), self.log_grades.expand(len(stream), -1, -1)


def test_the_gate_sees_what_experts_put_out_and_nothing_else():
    plain = model().eval()
    before = plain.diagnostics(inputs(seed=0), ALL)["gate_weights"]
    assert not torch.allclose(before, plain.diagnostics(inputs(seed=1), ALL)["gate_weights"], atol=1e-4)

    plain.experts = nn.ModuleDict({m: Fixed(seed) for seed, m in enumerate(WIDTHS)})
    fixed = plain.diagnostics(inputs(seed=0), ALL)["gate_weights"]
    assert torch.equal(fixed, plain.diagnostics(inputs(seed=1), ALL)["gate_weights"])  # other inputs, same outputs
    assert (fixed == fixed[0]).all()
    plain.experts["audio"] = Fixed(seed=9)
    assert not torch.allclose(fixed, plain.diagnostics(inputs(seed=0), ALL)["gate_weights"], atol=1e-4)


def test_the_gate_compares_experts():
    """The ratio of two weights depends on what the third expert puts out; with it hidden, only on the two."""
    plain = model().eval()
    outputs = side_by_side(plain.encode(inputs(), ALL))
    other = outputs.tokens.clone()
    other[:, 2] = torch.randn(7, 2, 16)

    def ratio(tokens, visible):
        weights = plain.weigh(Outputs(tokens, outputs.log_grades), visible)
        return weights[:, 0] / weights[:, 1]

    without = ALL & torch.tensor([True, True, False])
    assert not torch.allclose(ratio(outputs.tokens, ALL), ratio(other, ALL), rtol=1e-3)
    assert torch.equal(ratio(outputs.tokens, without), ratio(other, without))


def test_without_the_gate_visible_experts_count_alike():
    ablated = model(use_gate=False)
    assert not any("gate" in name for name, _ in ablated.named_parameters())
    weights = ablated.diagnostics(inputs(), SUBSETS)["gate_weights"]
    assert torch.allclose(weights, SUBSETS / SUBSETS.sum(1, keepdim=True))


def test_divergence_is_the_kl_formula_and_teaches_the_student_alone():
    teacher, student = log_grades(seed=1).requires_grad_(), log_grades(seed=2).requires_grad_()
    found = divergence(teacher, student)
    p, q = teacher.detach().exp(), student.detach().exp()
    assert torch.allclose(found.detach(), (p * (p / q).log()).sum(-1), atol=1e-6)
    found.sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_divergences_of_two_grades_have_their_closed_form():
    """Class token (3/4, 1/4) and clip tokens (1/2, 1/2) in the first expert; both (1/2, 1/2) in the second."""
    uneven, even = torch.tensor([0.75, 0.25]).log(), torch.tensor([0.5, 0.5]).log()
    grades = torch.stack([torch.stack([uneven, even]), torch.stack([even, even])]).unsqueeze(0)  # (1, 2, 2, 2)
    there = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    back = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    both = torch.ones(1, 2, dtype=torch.bool)
    assert self_guidance(grades, both).item() == pytest.approx((there + back) / 2, abs=1e-6)  # two experts, one at 0
    assert mutual_guidance(grades, both).item() == pytest.approx((there + back) / 2, abs=1e-6)  # two ordered pairs


@pytest.mark.parametrize("guidance", [self_guidance, mutual_guidance])
def test_guidance_is_zero_where_distributions_agree_and_positive_elsewhere(guidance):
    agreed = log_grades()[:, :1, :1].expand(-1, 3, 2, -1)
    assert torch.allclose(guidance(agreed, SUBSETS), torch.zeros(7), atol=1e-6)
    values = guidance(log_grades(), ALL)
    assert values.shape == (7,)
    assert (values > 0).all()


def test_each_guidance_is_blind_to_what_the_other_one_sees():
    same_tokens = log_grades()[:, :, :1].expand(-1, -1, 2, -1)  # experts differ, their tokens agree
    same_experts = log_grades()[:, :1].expand(-1, 3, -1, -1)  # tokens differ, experts agree
    zero = torch.zeros(7)
    assert torch.allclose(self_guidance(same_tokens, ALL), zero, atol=1e-6)
    assert torch.allclose(mutual_guidance(same_experts, ALL), zero, atol=1e-6)
    assert (self_guidance(same_experts, ALL) > 0).all()
    assert (mutual_guidance(same_tokens, ALL) > 0).all()


@pytest.mark.parametrize("kind", [0, 1])
def test_mutual_guidance_covers_both_kinds_of_token(kind):
    grades = log_grades()[:, :1].repeat(1, 3, 1, 1)
    grades[:, 1, kind] = log_grades(seed=5)[:, 1, kind]
    assert (mutual_guidance(grades, ALL) > 0).all()


@pytest.mark.parametrize("guidance", [self_guidance, mutual_guidance])
def test_guidance_is_among_visible_experts_only(guidance):
    grades = log_grades().requires_grad_()
    values = guidance(grades, SUBSETS)
    changed = torch.where(SUBSETS[:, :, None, None], grades.detach(), log_grades(seed=3))
    assert torch.equal(values.detach(), guidance(changed, SUBSETS))
    values.sum().backward()
    assert (grades.grad[~SUBSETS] == 0).all()
    taught = SUBSETS if guidance is self_guidance else SUBSETS & (SUBSETS.sum(1, keepdim=True) > 1)
    assert (grades.grad[taught].abs().sum(dim=(1, 2)) > 0).all()


def test_one_visible_expert_knows_no_mutual_guidance():
    alone = SUBSETS.sum(1) == 1
    assert torch.equal(mutual_guidance(log_grades(), SUBSETS) == 0, alone)
    parts = model().loss(inputs(3), torch.rand(3), SUBSETS[alone], ALL[:3]).parts
    assert parts["mutual_guidance"] == 0
    assert parts["self_guidance"] > 0


def test_an_expert_hidden_from_all_gets_no_gradient_and_so_do_no_others_from_it():
    hidden = ALL & torch.tensor([True, False, True])
    plain = model()
    plain.loss(inputs(), torch.rand(7), hidden, ALL).total.backward()
    assert gradients(plain.experts["audio"]) == []
    for m in ("visual", "flow"):
        assert all((g != 0).any() for g in gradients(plain.experts[m]))


def test_guidance_alone_makes_heads_agree():
    torch.manual_seed(1)
    free = nn.Parameter(torch.randn(7, 3, 2, 4))
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        grades = free.log_softmax(-1)
        (self_guidance(grades, ALL) + mutual_guidance(grades, ALL)).sum().backward()
        optimizer.step()
    learned = free.detach().softmax(-1)
    assert (learned - learned.mean(dim=(1, 2), keepdim=True)).abs().max() < 0.01


def test_loss_weights_weigh_their_parts():
    options = {"expert_weight": 0.3, "self_weight": 2.0, "mutual_weight": 5.0}
    total, parts = model(**options).loss(inputs(), torch.rand(7), SUBSETS, ALL)
    expected = 10 * (parts["mse"] + 0.3 * parts["expert"]) + 2 * parts["self_guidance"] + 5 * parts["mutual_guidance"]
    assert torch.allclose(total, expected)


def test_rows_count_the_same_in_the_loss_whatever_the_patterns_of_the_others():
    plain, features, target = model(), inputs(), torch.rand(7)
    alone = [
        plain.loss({m: x[i : i + 1] for m, x in features.items()}, target[i : i + 1], SUBSETS[i : i + 1], ALL[:1]).parts
        for i in range(7)
    ]
    for name, together in plain.loss(features, target, SUBSETS, ALL).parts.items():
        assert torch.allclose(together, torch.stack([parts[name] for parts in alone]).mean(), rtol=1e-4)


def test_masked_padding_never_looks_at_padded_clips_of_streams_of_different_lengths():
    lengths = {"visual": torch.full((7,), 4), "audio": torch.full((7,), 2), "flow": torch.full((7,), 5)}
    features = inputs()
    features["audio"] = features["audio"][:, :3]
    spoiled = {m: x.clone() for m, x in features.items()}
    for m, x in spoiled.items():
        x[:, int(lengths[m][0]) :] = float("nan")
    cut = {m: x[:, : int(lengths[m][0])] for m, x in features.items()}
    plain = model().eval()
    scores = plain.score(features, SUBSETS, lengths)
    assert torch.equal(scores, plain.score(spoiled, SUBSETS, lengths))
    assert torch.allclose(scores, plain.score(cut, SUBSETS), atol=1e-6)
    attended = model(mask_padding=False).eval()
    assert not torch.allclose(attended.score(features, SUBSETS, lengths), scores, atol=1e-5)


def test_the_order_of_clips_matters():
    plain, features = model().eval(), inputs()
    backwards = {m: x.flip(1) for m, x in features.items()}
    assert not torch.allclose(plain.score(features, ALL), plain.score(backwards, ALL), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 18}, "hidden_dim 18 must be a multiple of n_head 4"),
        ({"n_query": 1}, "'n_query': must be 2 or more, got 1"),
        ({"n_encoder": 0}, "'n_encoder': must be 1 or more, got 0"),
        ({"selfweight": 1.0}, "did you mean 'self_weight'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


PAIR = {"left": 6, "right": 6}


def judged(rows, seed, spoil):
    """Videos of two streams that both tell their score, before spoil (rows, 2) makes pure noise of some."""
    generator = torch.Generator().manual_seed(seed)
    quality = torch.randn(rows, generator=generator)
    features = {}
    for i, (m, width) in enumerate(PAIR.items()):
        noise = torch.randn(rows, 4, width, generator=generator)
        features[m] = torch.where(spoil[:, i].view(-1, 1, 1), 1.5 * noise, 0.5 * noise + quality.view(-1, 1, 1))
    return features, 0.5 + 0.1 * quality


def trained(spoil, steps=60, **options):
    plain = model(PAIR, **options).train()
    optimizer = torch.optim.Adam(plain.parameters(), lr=3e-3)
    for step in range(steps):
        features, target = judged(64, step, spoil)
        both = torch.ones(64, 2, dtype=torch.bool)
        optimizer.zero_grad()
        plain.loss(features, target, both, both).total.backward()
        optimizer.step()
    return plain.eval()


def weights_of(plain, spoil):
    features, _ = judged(64, 999, spoil)
    return plain.diagnostics(features, torch.ones(64, 2, dtype=torch.bool))["gate_weights"].detach()


def test_the_gate_turns_away_from_a_stream_of_pure_noise():
    for noisy in (0, 1):
        spoil = torch.zeros(64, 2, dtype=torch.bool)
        spoil[:, noisy] = True
        before = weights_of(model(PAIR).eval(), spoil)[:, noisy].mean()
        after = weights_of(trained(spoil), spoil)[:, noisy].mean()
        assert before > 0.3
        assert after < 0.1


def test_the_gate_tells_by_sample_which_expert_to_trust():
    """Half of the videos have noise on the left, half on the right: no fixed weights could tell."""
    spoil = torch.arange(64).unsqueeze(1) % 2 == torch.arange(2)
    weights = weights_of(trained(spoil, steps=120), spoil)
    assert weights[spoil].mean() < 0.25
    assert 0.3 < weights[:, 0].mean() < 0.7


def test_it_comes_within_a_fifth_of_the_best_possible_on_complete_videos(tmp_path):
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=300)
    experiment = {
        "name": "mome",
        "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
        "model": {"name": "mome", "hidden_dim": 16, "n_encoder": 1},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}, "test": ["VAF"]},
        "train": {"epochs": 10, "batch_size": 32, "learning_rate": 3e-3, "seed": 0},
        "output": str(tmp_path / "run"),
    }
    found = aqa.run(experiment).metrics["patterns"]["VAF"]
    assert found["srcc"] >= 0.8 * found["ceiling"]
