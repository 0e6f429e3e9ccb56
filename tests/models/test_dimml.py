"""DI-MML: who learns from whom, which dimensions are taught, who is believed, and that stages survive a stop."""

import pytest
import torch

import aqa
from aqa.config.schema import TrainConfig
from aqa.errors import AqaError
from aqa.features.batches import Batch
from aqa.models import build, options_of_run
from aqa.models.base import Example
from aqa.models.dimml import (
    certainty_weights,
    effective_dimensions,
    grades_of,
    level_weights,
    one_way_contrast,
    separability,
)
from aqa.store.synthetic import make_synthetic
from aqa.training.loop import train

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
TARGET = torch.linspace(0.1, 0.9, 6)


def model(**options):
    torch.manual_seed(0)
    return build("dimml", widths=WIDTHS, **{"hidden_dim": 16, "dropout": 0.0, **options})


def inputs(rows=6, clips=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in WIDTHS.items()}


def contrasting(**effective):
    """A model after its warm-up, in which the named modalities have the given effective dimensions."""
    staged = model(contrast_temperature=1.0)
    for i, m in enumerate(staged.modalities):
        staged.effective[i, effective.get(m, [])] = True
    staged.start_epoch(staged.warmup_epochs + 1)
    return staged


def gradients(module):
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def test_in_the_warm_up_no_objective_reaches_another_modalitys_encoder():
    plain = model()
    parts = plain.loss(inputs(), TARGET, ALL, ALL).parts
    for m in WIDTHS:
        for other in WIDTHS:
            weights = list(plain.encoders[other].parameters())
            reached = torch.autograd.grad(parts[f"own_{m}"], weights, retain_graph=True, allow_unused=True)
            assert all((g is not None) == (m == other) for g in reached)
    weights = list(plain.encoders.parameters())
    joined = torch.autograd.grad(parts["joined"], weights, retain_graph=True, allow_unused=True)
    assert all(g is None for g in joined)
    assert parts["contrast"] == 0


def test_in_the_warm_up_what_an_encoder_learns_does_not_depend_on_the_other_modalities():
    learned = []
    for seed in (1, 2):
        plain = model()
        plain.loss({**inputs(seed=seed), "visual": inputs()["visual"]}, TARGET, MIXED, ALL).total.backward()
        learned.append({m: gradients(plain.encoders[m]) for m in WIDTHS})
    assert all(torch.equal(a, b) for a, b in zip(learned[0]["visual"], learned[1]["visual"], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(learned[0]["audio"], learned[1]["audio"], strict=True))


def test_the_shared_head_learns_from_every_modality_and_defines_their_space():
    plain = model()
    parts = plain.loss(inputs(), TARGET, ALL, ALL).parts
    weights = [encoder.projection.weight for encoder in plain.encoders.values()]
    reached = torch.autograd.grad(parts["shared"], [plain.shared_head.weight, *weights])
    assert all((g != 0).any() for g in reached)


def test_the_contrast_reaches_the_taught_side_only():
    staged = contrasting(visual=[0, 1, 2, 3], audio=[0, 1, 2, 3, 4, 5], flow=[0, 1, 2, 3, 4, 5])
    parts = staged.loss(inputs(), TARGET, ALL, ALL).parts  # dimensions 4 and 5 are taught to visual, nothing else is
    parts["contrast"].backward()
    assert all((p.grad != 0).any() for p in staged.encoders["visual"].norm.parameters())
    assert (staged.encoders["visual"].norm.bias.grad != 0).nonzero().flatten().tolist() == [4, 5]
    assert all(g is None for other in ("audio", "flow") for g in gradients(staged.encoders[other]))
    assert all(p.grad is None for p in staged.own_heads.parameters())


def test_dimensions_effective_on_both_sides_or_neither_are_not_taught():
    assert contrasting(visual=[1, 2], audio=[1, 2], flow=[1, 2]).loss(inputs(), TARGET, ALL, ALL).parts["contrast"] == 0
    assert contrasting().loss(inputs(), TARGET, ALL, ALL).parts["contrast"] == 0


def test_a_pair_is_contrasted_over_the_rows_that_have_both():
    staged = contrasting(audio=[3, 7])
    encoded = staged.extract(inputs(), MIXED, None)
    both = MIXED[:, 0] & MIXED[:, 1]
    dimensions = staged.effective[1]
    expected = one_way_contrast(encoded["visual"][both], encoded["audio"][both], dimensions, 1.0)
    both = MIXED[:, 2] & MIXED[:, 1]
    expected = expected + one_way_contrast(encoded["flow"][both], encoded["audio"][both], dimensions, 1.0)
    assert torch.allclose(staged.contrast(encoded, MIXED), expected)


def test_the_contrast_raises_the_agreement_of_the_taught_dimensions_and_leaves_the_others():
    torch.manual_seed(0)
    before, teacher = torch.randn(32, 8), torch.randn(32, 8)
    dimensions = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
    taught, fixed = before.clone().requires_grad_(), teacher.clone().requires_grad_()
    optimizer = torch.optim.Adam([taught], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        one_way_contrast(taught, fixed, dimensions, 1.0).backward()
        optimizer.step()

    def agreement(feature):
        return torch.stack([torch.corrcoef(torch.stack([feature[:, d], teacher[:, d]]))[0, 1] for d in range(8)])

    after = taught.detach()
    assert fixed.grad is None
    assert (agreement(after)[dimensions] > 0.7).all()
    assert (agreement(before)[dimensions] < 0.4).all()
    assert torch.equal(after[:, ~dimensions], before[:, ~dimensions])


def test_contrast_equals_its_written_out_form():
    torch.manual_seed(0)
    taught, teacher = torch.randn(5, 4), torch.randn(5, 4)
    expected = 0.0
    for i in range(5):
        similar = torch.stack([(taught[i, [0, 2]] * teacher[j, [0, 2]]).sum() / 0.7 for j in range(5)]).exp()
        expected = expected - (similar[i] / similar.sum()).log() / 5
    found = one_way_contrast(taught, teacher, torch.tensor([True, False, True, False]), 0.7)
    assert torch.allclose(found, expected)


def test_separability_equals_a_search_by_hand_and_skips_grades_without_a_video():
    torch.manual_seed(0)
    feature, grade = torch.randn(20, 3), torch.randint(0, 3, (20,))
    grade[grade == 1] = 3  # of four grades one has no video
    centroids = {g: feature[grade == g].mean(0) for g in (0, 2, 3)}
    expected = [0, 0, 0]
    for row, right in zip(feature.tolist(), grade.tolist(), strict=True):
        for d in range(3):
            nearest = min((0, 2, 3), key=lambda g, d=d, row=row: abs(row[d] - float(centroids[g][d])))
            expected[d] += nearest == right
    assert (separability(feature, grade, 4) * 20).tolist() == pytest.approx(expected)


def test_separability_is_one_where_a_dimension_tells_the_grade_and_chance_where_it_is_noise():
    torch.manual_seed(0)
    grade = torch.arange(4).repeat(500)
    half = grade // 2  # tells two grades from the other two, and no more
    feature = torch.stack([grade + 0.1 * torch.rand(2000), half + 0.1 * torch.rand(2000), torch.rand(2000)], dim=1)
    found = separability(feature, grade, 4)
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.25], abs=0.03)
    assert effective_dimensions(found.unsqueeze(0)).tolist() == [[True, False, False]]


def test_grades_are_quantile_bins_of_the_targets():
    target = torch.rand(64, generator=torch.Generator().manual_seed(3)).square()
    grade = grades_of(target, 4)
    assert grade.bincount().tolist() == [16, 16, 16, 16]
    assert torch.equal(grade[target.argsort()], torch.arange(4).repeat_interleave(16))
    assert grades_of(torch.ones(5), 4).unique().numel() == 1  # equal targets are one grade


def example(rows, available, target, features):
    return Example({m: x[rows] for m, x in features.items()}, target[rows], available[rows], available[rows], None)


def test_dimensions_are_ranked_once_after_the_warm_up_by_all_training_videos():
    ranked = model(n_grade=4, warmup_epochs=3, dropout=0.5)
    target = torch.rand(64, generator=torch.Generator().manual_seed(3)).square()
    available = torch.rand(64, 3, generator=torch.Generator().manual_seed(4)) < 0.8
    features = inputs(64)
    asked = []
    for epoch in range(1, 7):
        ranked.start_epoch(epoch)
        asked.append(ranked.surveys(epoch))
    assert asked == [False, False, False, True, False, False]
    ranked.eval()  # as the training loop has it
    with torch.no_grad():
        encoded = ranked.extract(features, available, None)
        ranked.survey(example(rows, available, target, features) for rows in torch.randperm(64).split(16))
    for i, m in enumerate(WIDTHS):
        rows = available[:, i]
        found = separability(encoded[m][rows], grades_of(target, 4)[rows], 4)
        assert torch.equal(ranked.effective[i], found > found.mean())
    assert ranked.effective.any(dim=1).all()


def test_what_is_not_available_has_no_say_in_the_ranking():
    target, features = torch.rand(32, generator=torch.Generator().manual_seed(3)), inputs(32)
    available = torch.rand(32, 3, generator=torch.Generator().manual_seed(4)) < 0.6
    hidden = {m: x.clone() for m, x in features.items()}
    for i, m in enumerate(WIDTHS):
        hidden[m][~available[:, i]] = float("nan")
    found = []
    for each in (features, hidden):
        ranked = model().eval()
        with torch.no_grad():
            ranked.survey([example(torch.arange(32), available, target, each)])
        found.append(ranked.effective)
    assert torch.equal(*found)
    assert found[0].any()


def test_the_last_stage_teaches_the_joined_head_alone_on_features_without_dropout():
    staged = model(dropout=0.5)
    staged.epochs = 170
    assert staged.stage_starts() == [151]
    staged.start_epoch(151)
    losses = [staged.train().loss(inputs(), TARGET, MIXED, ALL) for _ in range(2)]
    assert torch.equal(losses[0].total, losses[1].total)
    assert torch.equal(losses[0].total, losses[0].parts["joined"])
    assert staged.encoders.training
    losses[0].total.backward()
    taught = {name for name, p in staged.named_parameters() if p.grad is not None}
    assert taught == {"joined_head.weight", "joined_head.bias"}


def test_the_joined_head_counts_once_it_has_begun_to_learn():
    staged = model()
    staged.epochs, weights = 170, {}
    for epoch in (1, 150, 151):
        staged.start_epoch(epoch)
        weights[epoch] = staged.eval().diagnostics(inputs(), MIXED)["certainty_weights"]
        again = model()
        again.load_state_dict(staged.state_dict())
        assert torch.equal(again.eval().score(inputs(), MIXED), staged.score(inputs(), MIXED))
    assert (weights[1][:, 3] == 0).all()
    assert (weights[150][:, 3] == 0).all()
    assert (weights[151][:, 3] > 0).all()
    assert torch.allclose(weights[1].sum(1), torch.ones(6))


def test_no_stage_of_its_own_lets_the_joined_head_learn_beside_the_encoders():
    beside = model(joined_epochs=0)
    assert beside.stage_starts() == []
    beside.start_epoch(1)
    assert beside.joined_counts
    beside.loss(inputs(), TARGET, MIXED, ALL).total.backward()
    assert all(p.grad is not None for p in beside.parameters())


def test_weights_of_a_run_from_before_are_taken():
    """It had counters of the warm-up among its weights, a joined head of two layers, and nothing of stages."""
    options = options_of_run("dimml", {"hidden_dim": 16, "dropout": 0.0})
    assert options["contrast_temperature"] == 1.0
    assert options["certainty"] == "spread"
    older = build("dimml", widths=WIDTHS, **options)
    state = older.state_dict()
    del state["joined_counts"]
    state |= {"below": torch.zeros(1000), "rows": torch.zeros(()), "centroids": torch.zeros(3, 5, 16)}
    again = build("dimml", widths=WIDTHS, **options)
    again.joined_counts.fill_(False)
    again.load_state_dict(state)
    assert again.joined_counts
    assert torch.equal(again.eval().score(inputs(), MIXED), older.eval().score(inputs(), MIXED))


def test_level_weights_have_the_target_as_their_mean_on_two_neighbours():
    target = torch.tensor([0.0, 0.13, 0.5, 0.99, 1.0])
    weights = level_weights(target, 11)
    assert torch.allclose(weights @ torch.linspace(0, 1, 11), target, atol=1e-6)
    assert torch.allclose(weights.sum(1), torch.ones(5))
    assert ((weights > 1e-5).sum(1) <= 2).all()


def test_weights_sum_to_one_over_the_heads_that_are_there():
    weights = model().eval().diagnostics(inputs(), MIXED)["certainty_weights"]
    assert weights.shape == (6, 4)  # the joined head's is the last
    assert torch.allclose(weights.sum(1), torch.ones(6))
    assert torch.equal(weights[:, :3] > 0, MIXED)


def test_by_spread_a_weight_is_in_proportion_to_its_inverse():
    probability = torch.tensor([[[0.5, 0.0, 0.5], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05]]])  # spreads 0.5, 0.2236, 0.1581
    logits = (probability + 1e-12).log()
    inverse = 1 / torch.tensor([0.5, 0.05**0.5, 0.025**0.5])
    present = torch.ones(1, 3, dtype=torch.bool)
    assert torch.allclose(certainty_weights(logits, present, 1.0, "spread")[0], inverse / inverse.sum(), atol=1e-4)
    squared = inverse.square()
    assert torch.allclose(certainty_weights(logits, present, 0.5, "spread")[0], squared / squared.sum(), atol=1e-4)
    two = certainty_weights(logits, torch.tensor([[True, False, True]]), 1.0, "spread")[0]
    assert torch.allclose(two, inverse * torch.tensor([1, 0, 1]) / (inverse[0] + inverse[2]), atol=1e-4)


def test_a_modality_that_is_certain_gets_more():
    plain = model().eval()
    before = plain.diagnostics(inputs(), ALL)["certainty_weights"]
    with torch.no_grad():
        plain.own_heads["audio"].bias[5] += 4.0
    after = plain.diagnostics(inputs(), ALL)["certainty_weights"]
    assert (after[:, 1] > before[:, 1]).all()
    assert (after[:, 1] > after[:, [0, 2, 3]].amax(1)).all()
    assert (after[:, [0, 2, 3]] < before[:, [0, 2, 3]]).all()


def test_masked_padding_changes_nothing_however_much_there_is_and_whatever_it_holds():
    short, lengths = inputs(), {m: torch.full((6,), 5) for m in WIDTHS}
    long = {m: torch.cat([x, torch.full((6, 3, x.shape[2]), float("nan"))], dim=1) for m, x in short.items()}
    plain = model()
    losses = [plain.loss(x, TARGET, MIXED, ALL, lengths).total for x in (short, long)]
    assert torch.allclose(*losses)
    plain.eval()
    assert torch.allclose(plain.score(short, MIXED, lengths), plain.score(long, MIXED, lengths), atol=1e-6)


def test_streams_need_not_be_aligned():
    features = {m: x[:, : 2 + i] for i, (m, x) in enumerate(inputs().items())}
    lengths = {m: torch.full((6,), x.shape[1]) for m, x in features.items()}
    plain = model()
    assert plain.takes_unaligned
    assert torch.isfinite(plain.loss(features, TARGET, MIXED, ALL, lengths).total)
    assert torch.equal(plain.eval().score(features, MIXED, lengths), plain.score(features, MIXED))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 15}, "hidden_dim 15 must be a multiple of n_head 2"),
        ({"warmup_epochs": 0}, "'warmup_epochs': must be 1 or more, got 0"),
        ({"joined_layers": 3}, "'joined_layers': must be 1 or 2, got 3"),
        ({"n_grade": 1}, "'n_grade': must be 2 or more, got 1"),
        ({"contrast_temperature": 0.0}, "'contrast_temperature': must be more than 0, got 0.0"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


def fitted(saved=None, save=None, stop_after=None):
    """Eight epochs, four of warm-up and two of the last stage, with dropout, whose random state has to be resumed."""
    staged, features, target = model(warmup_epochs=4, joined_epochs=2, dropout=0.2), inputs(24), torch.rand(24)
    available = torch.rand(24, 3) < 0.8
    available[:, 0] = True

    def batches(epoch):
        for rows in torch.randperm(24, generator=torch.Generator().manual_seed(epoch)).split(8):
            here = {m: x[rows] for m, x in features.items()}
            there = available[rows]
            yield Batch(rows, here, {m: torch.full((8,), 5) for m in WIDTHS}, there, there, (there, there))

    def on_epoch(row):
        if row["epoch"] == stop_after:
            raise KeyboardInterrupt

    settings, measured = TrainConfig(epochs=8, learning_rate=1e-3), {"srcc": 0.5, "mse": 0.5}
    progress = train(
        staged,
        batches,
        target,
        lambda: measured,
        "srcc",
        "valid",
        settings,
        saved,
        save,
        on_epoch,
        False,
    )
    return staged, progress


@pytest.mark.parametrize("epoch", [1, 3, 4, 5, 6, 7])
def test_a_run_stopped_in_any_stage_goes_on_to_the_same_bits(monkeypatch, states, epoch):
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    whole, expected = fitted()
    assert [row["loss_contrast"] > 0 for row in expected.history] == [False] * 4 + [True] * 2 + [False] * 2
    assert [row["loss_joined"] > 0 for row in expected.history] == [False] * 6 + [True] * 2
    assert expected.history[6]["learning_rate"] == 1e-3  # which begins anew
    with pytest.raises(KeyboardInterrupt):
        fitted(save=states.save, stop_after=epoch + 1)
    assert states[-1]["progress"]["epoch"] == epoch
    resumed, progress = fitted(saved=states[-1])
    assert progress.history == expected.history
    state = resumed.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.state_dict().items())


def test_it_learns_what_there_is_to_learn(tmp_path):
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=300)
    found = aqa.run(
        {
            "name": "dimml",
            "data": {"store": str(tmp_path / "tiny.h5"), "target": "score"},
            "model": {"name": "dimml", "hidden_dim": 32, "dropout": 0.1, "warmup_epochs": 6},
            "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}},
            "train": {"epochs": 15, "batch_size": 32, "learning_rate": 2e-3, "seed": 0},
            "output": str(tmp_path / "run"),
        }
    ).metrics
    complete = found["patterns"]["VAF"]
    assert complete["srcc"] >= 0.8 * complete["ceiling"]
