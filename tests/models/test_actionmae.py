"""ActionMAE's own choices: what is predicted, where it enters, and what it is taught by."""

import pytest
import torch
import torch.nn.functional as F

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.models.actionmae import normalized
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def model(**options):
    torch.manual_seed(0)
    small = {"hidden_dim": 16, "n_head": 4, "n_temporal": 1, "n_encoder": 1, "n_decoder": 1, "n_fusion": 1}
    return build("actionmae", widths=WIDTHS, **{**small, "dropout": 0.0, **options})


def inputs(rows=6, clips=9, seed=0):
    """Streams that share one signal a video, so that each tells something of the others."""
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(rows, 1, 3, generator=generator)
    mixing = torch.Generator().manual_seed(99)
    return {
        m: signal @ torch.randn(3, d, generator=mixing) + 0.1 * torch.randn(rows, clips, d, generator=generator)
        for m, d in WIDTHS.items()
    }


def lengths(rows=6, clips=9):
    return {m: torch.full((rows,), clips) for m in WIDTHS}


def gradients(module):
    return [p.grad for p in module.parameters() if p.grad is not None and bool((p.grad != 0).any())]


def test_predictions_enter_in_place_of_hidden_streams_and_nowhere_else():
    plain = model().eval()
    tokens, predicted = torch.randn(6, 3, 16), torch.randn(6, 3, 16)
    completed = plain.complete(tokens, predicted, MIXED)
    assert torch.equal(completed[MIXED], tokens[MIXED])
    assert torch.equal(completed[~MIXED], predicted[~MIXED])
    with torch.no_grad():
        before = plain.score(inputs(), MIXED)
        plain.prediction.weight.add_(torch.randn(16, 16))
        after = plain.score(inputs(), MIXED)
    complete = MIXED.all(dim=1)
    assert torch.equal(before[complete], after[complete])
    assert (before[~complete] != after[~complete]).all()


def test_predictions_follow_the_visible_tokens_and_not_the_hidden_ones():
    plain = model().eval()
    tokens, others = torch.randn(6, 3, 16), torch.randn(6, 3, 16)
    seen = MIXED.unsqueeze(-1)
    with torch.no_grad():
        predicted = plain.predict(tokens, MIXED)
        assert torch.equal(predicted, plain.predict(torch.where(seen, tokens, others), MIXED))
        changed = plain.predict(torch.where(seen, others, tokens), MIXED)
    assert ((predicted - changed).abs().amax(dim=(1, 2)) > 1e-4).all()


def test_two_streams_hidden_together_are_predicted_differently_where_they_are_numbered():
    tokens = torch.randn(6, 3, 16)
    for position, apart in (("sinusoid", True), ("none", False)):
        predicted = model(position=position).eval().predict(tokens, MIXED)
        assert ((predicted[1, 1] - predicted[1, 2]).abs().max() > 1e-3) == apart


def test_predictions_take_from_the_memory_tokens():
    plain, tokens = model(n_memory=2).eval(), torch.randn(6, 3, 16)
    before = plain.predict(tokens, MIXED)
    before[~MIXED].square().sum().backward()
    assert plain.memory.shape == (2, 16)
    assert (plain.memory.grad.abs().sum(dim=1) > 0).all()


def test_the_reconstruction_is_the_mean_error_of_the_hidden_tokens_to_their_normalized_truth():
    plain, hidden = model(), ~MIXED
    tokens = 3 * torch.randn(6, 3, 16) + 1
    truth = normalized(tokens)
    assert plain.reconstruction(truth, tokens, hidden) == pytest.approx(0, abs=1e-6)
    assert plain.reconstruction(torch.zeros(6, 3, 16), tokens, hidden) == pytest.approx(15 / 16, abs=1e-3)
    spoiled = truth.masked_fill(MIXED.unsqueeze(-1), 1e6)  # what is predicted for visible streams is not judged
    assert plain.reconstruction(spoiled, tokens, hidden) == pytest.approx(0, abs=1e-6)
    one = torch.zeros(6, 3, dtype=torch.bool)
    one[1, 2] = True
    assert plain.reconstruction(truth + 2 * one.unsqueeze(-1), tokens, hidden) == pytest.approx(4 / hidden.sum())
    raw = model(normalize_target=False)
    assert raw.reconstruction(torch.zeros(6, 3, 16), tokens, one) == pytest.approx(tokens[1, 2].square().mean().item())


@pytest.mark.parametrize("stop_target", [False, True])
def test_the_target_learns_as_well_as_the_prediction_unless_it_is_stopped(stop_target):
    plain = model(mse_weight=0.0, stop_target=stop_target)
    only_visual = torch.tensor([True, False, False]).expand(6, 3)
    available = torch.tensor([True, True, False]).expand(6, 3)
    plain.loss(inputs(), torch.rand(6), only_visual, available).total.backward()
    assert bool(gradients(plain.temporal["audio"])) is not stop_target  # hidden: in the loss as the target alone
    assert gradients(plain.temporal["visual"])
    assert gradients(plain.encoder)
    assert gradients(plain.decoder)
    assert not gradients(plain.temporal["flow"])
    assert not gradients(plain.grades)  # the reconstruction is judged before the fusion


def test_only_streams_that_are_available_and_hidden_are_reconstructed():
    plain, features, target = model(), inputs(), torch.rand(6)
    assert plain.loss(features, target, ALL, ALL).parts["reconstruction"] == 0
    assert plain.loss(features, target, MIXED, MIXED).parts["reconstruction"] == 0
    hidden = plain.loss(features, target, MIXED, ALL).parts["reconstruction"]
    tokens = plain.tokens(features, ALL, None)
    predicted = plain.predict(tokens, MIXED)
    truth = normalized(tokens)
    assert torch.allclose(hidden, (predicted - truth)[~MIXED].square().mean(), rtol=1e-4)


def test_the_score_teaches_the_decoder_only_through_hidden_streams():
    for visible, taught in ((ALL, False), (MIXED, True)):
        plain = model(reconstruction_weight=0.0)
        plain.loss(inputs(), torch.rand(6), visible, ALL).total.backward()
        assert bool(gradients(plain.prediction)) is taught
        assert bool(gradients(plain.decoder)) is taught


def test_the_reconstruction_error_falls_and_predictions_come_to_be_those_of_their_video():
    plain = model(stop_target=True)
    optimizer = torch.optim.Adam(plain.parameters(), lr=3e-3)
    visible, available = MIXED.repeat(8, 1), ALL.repeat(8, 1)
    errors = []
    for step in range(100):
        features = inputs(rows=48, clips=4, seed=step)
        target = features["visual"].mean(dim=(1, 2)).sigmoid()
        loss = plain.loss(features, target, visible, available)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        errors.append(loss.parts["reconstruction"].item())
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])
    with torch.no_grad():
        tokens = plain.tokens(inputs(rows=48, clips=4, seed=1000), available, None)
        predicted, others = plain.predict(tokens, visible), torch.roll(tokens, 6, dims=0)  # another video, hidden alike
        own_error, other_error = (plain.reconstruction(predicted, truth, ~visible) for truth in (tokens, others))
    assert own_error < 0.7 * other_error


def test_loss_weights_weigh_their_parts():
    total, parts = model(mse_weight=3.0, reconstruction_weight=0.5).loss(inputs(), torch.rand(6), MIXED, ALL)
    assert torch.allclose(total, 3 * parts["mse"] + 0.5 * parts["reconstruction"])


def test_the_score_is_the_mean_grade():
    plain = model(n_query=5, fusion="transformer")
    with torch.no_grad():
        plain.grades.weight.zero_()
        plain.grades.bias.copy_(torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4, 1e-9])))
    expected = 0.1 * 0 + 0.2 * 0.25 + 0.3 * 0.5 + 0.4 * 0.75
    assert torch.allclose(plain.score(inputs(), MIXED), torch.full((6,), expected))


def test_the_order_of_clips_is_told_apart_where_they_are_numbered():
    plain, features = model(position="sinusoid").eval(), inputs()
    turned = {m: x.flip(1) for m, x in features.items()}
    assert not torch.allclose(plain.score(features, ALL), plain.score(turned, ALL), atol=1e-6)


def test_padded_clips_do_not_count_unless_asked_to():
    short = inputs()
    long = {m: F.pad(x, (0, 0, 0, 5), value=7.0) for m, x in short.items()}
    for masking in (True, False):
        plain, target = model(mask_padding=masking).eval(), torch.rand(6)
        losses = [plain.loss(x, target, MIXED, ALL, lengths()).total for x in (short, long)]
        assert torch.allclose(*losses, rtol=1e-4) is masking
    nothing = {m: F.pad(x, (0, 0, 0, 5), value=float("nan")) for m, x in short.items()}
    plain = model().eval()
    assert torch.allclose(plain.score(short, MIXED, lengths()), plain.score(nothing, MIXED, lengths()), atol=1e-6)


def test_streams_may_have_lengths_of_their_own():
    plain, features = model().eval(), inputs()
    cut = {**features, "audio": features["audio"][:, :4]}
    padded = {**features, "audio": F.pad(features["audio"][:, :4], (0, 0, 0, 5), value=float("nan"))}
    unequal = {**lengths(), "audio": torch.full((6,), 4)}
    assert plain.takes_unaligned
    assert torch.allclose(plain.score(cut, MIXED), plain.score(padded, MIXED, unequal), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 18, "n_head": 4}, "hidden_dim 18 must be a multiple of n_head 4"),
        ({"n_memory": -1}, "'n_memory': must be 0 or more, got -1"),
        ({"n_query": 1}, "'n_query': must be 2 or more, got 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


@pytest.mark.parametrize("fusion", ["sum", "concat", "transformer"])
def test_every_fusion_scores_every_set(fusion):
    scores = model(fusion=fusion).eval().score(inputs(), MIXED)
    assert ((scores > 0) & (scores < 1)).all()


def test_it_works_without_memory():
    bare = model(n_memory=0).eval()
    assert ((bare.score(inputs(), MIXED) > 0) & (bare.score(inputs(), MIXED) < 1)).all()


def test_it_learns(tmp_path):
    store = make_synthetic("tiny", tmp_path / "tiny.h5", samples=400)
    options = {"hidden_dim": 32, "n_head": 4, "n_temporal": 1, "n_encoder": 1, "n_decoder": 1, "n_fusion": 1}
    found = aqa.run(
        {
            "name": "learns",
            "data": {"store": str(store), "target": "score"},
            "model": {"name": "actionmae", **options},
            "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}},
            "train": {"epochs": 10, "batch_size": 32, "learning_rate": 2e-3, "seed": 0},
            "output": str(tmp_path / "run"),
        }
    ).metrics["patterns"]["VAF"]
    assert found["srcc"] >= 0.8 * found["ceiling"]
