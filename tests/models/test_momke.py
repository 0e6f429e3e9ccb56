"""MoMKE's own choices: experts that learn alone, then are mixed by routers."""

import pytest
import torch
import torch.nn.functional as F

import aqa
from aqa.errors import AqaError
from aqa.models import build
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def model(epoch=None, **options):
    torch.manual_seed(0)
    small = {"hidden_dim": 16, "n_head": 2, "n_encoder": 1, "dropout": 0.0, "stage_epochs": 2}
    made = build("momke", widths=WIDTHS, **{**small, **options})
    if epoch is not None:
        made.start_epoch(epoch)
    return made


def inputs(rows=6, clips=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in WIDTHS.items()}


def lengths(rows=6, clips=9):
    return {m: torch.full((rows,), clips) for m in WIDTHS}


def reached(made):
    """Names of the parameters that a gradient has come to."""
    return {n for n, p in made.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}


def without_key_biases(names):
    """Softmax does not know a bias that all keys share: its gradient is rounding."""
    return {n for n in names if not n.endswith("key.bias")}


def test_experts_learn_alone_for_as_many_epochs_as_asked():
    staged = model()
    assert [staged.start_epoch(epoch) or staged.mixing for epoch in (1, 2, 3, 4)] == [False, False, True, True]
    assert model(1, stage_epochs=0).mixing
    halved = model(stage_epochs=0.5)
    halved.epochs = 6
    assert [halved.start_epoch(epoch) or halved.mixing for epoch in (3, 4)] == [False, True]
    assert set(model(2).loss(inputs(), torch.rand(6), ALL, ALL).parts) == {"unimodal"}
    assert set(model(3).loss(inputs(), torch.rand(6), ALL, ALL).parts) == {"mse", "unimodal"}


def test_in_the_first_stage_no_gradient_comes_to_routers_or_the_joint_score():
    alone = model(1)
    alone.loss(inputs(), torch.rand(6), MIXED, ALL).total.backward()
    without = {n.split(".")[0] for n, p in alone.named_parameters() if p.grad is None}
    assert without == {"routers", "joint", "joint_score"}
    assert {n.split(".")[0] for n in reached(alone)} == {"projections", "experts", "own_scores"}


@pytest.mark.parametrize("modality", list(WIDTHS))
def test_in_the_first_stage_no_gradient_crosses_modalities(modality):
    alone, only = model(1), torch.tensor([m == modality for m in WIDTHS]).expand(6, 3)
    alone.loss(inputs(), torch.rand(6), only, only).total.backward()
    assert without_key_biases(reached(alone)) == without_key_biases(
        {n for n, _ in alone.named_parameters() if n.startswith((f"projections.{modality}.", f"experts.{modality}."))}
        | {"own_scores.weight", "own_scores.bias"}
    )
    rows = alone.own_scores.weight.grad.abs().sum(dim=1) > 0
    assert rows.tolist() == only[0].tolist()


def test_in_the_first_stage_one_modality_learns_the_same_whatever_the_others_are():
    target, taught = torch.rand(6), []
    for seed in (0, 1):
        alone, features = model(1), {**inputs(seed=seed), "audio": inputs()["audio"]}
        alone.loss(features, target, ALL, ALL).total.backward()
        taught.append({n: p.grad for n, p in alone.named_parameters() if ".audio." in n and p.grad is not None})
    assert taught[0]
    assert all(torch.equal(gradient, taught[1][n]) for n, gradient in taught[0].items())


def test_the_first_stage_sums_the_errors_of_the_experts_own_scores_over_all_that_is_available():
    alone, features, target = model(1), inputs(), torch.rand(6)
    expected = 0.0
    for i, (m, x) in enumerate(features.items()):
        rows = MIXED[:, i]
        said = alone.experts[m](alone.projections[m](x[rows]), None).mean(dim=1)
        own = torch.sigmoid(said @ alone.own_scores.weight[i] + alone.own_scores.bias[i])
        expected = expected + (own - target[rows]).square().mean()
    visual = torch.zeros(6, 3, dtype=torch.bool)  # hidden streams teach too
    visual[:, 0] = True
    for visible in (MIXED, MIXED & visual):
        assert torch.allclose(alone.loss(features, target, visible, MIXED).total, expected)


def test_in_the_second_stage_every_expert_and_router_learns_from_every_stream():
    mixing = model(3)
    visual = torch.tensor([True, False, False]).expand(6, 3)
    mixing.loss(inputs(), torch.rand(6), visual, ALL).total.backward()
    names = reached(mixing)
    for m in WIDTHS:
        assert any(n.startswith(f"experts.{m}.") for n in names)
        assert any(n.startswith(f"routers.{m}.") for n in names) is (m == "visual")
        assert any(n.startswith(f"projections.{m}.") for n in names) is (m == "visual")
    assert "joint.0.weight" in names
    assert "own_scores.weight" not in names


def test_the_second_stage_looks_at_nothing_hidden():
    features, target = inputs(), torch.rand(6)
    poisoned = {
        m: x.masked_fill(~MIXED[:, i].view(-1, 1, 1), float("nan")) for i, (m, x) in enumerate(features.items())
    }
    losses = [model(3).loss(x, target, MIXED, ALL).total for x in (features, poisoned)]
    assert torch.equal(*losses)


def test_own_scores_go_on_learning_in_the_second_stage_if_asked_to():
    keeping = model(3, unimodal_weight=0.5)
    total, parts = keeping.loss(inputs(), torch.rand(6), MIXED, ALL)
    assert torch.allclose(total, parts["mse"] + 0.5 * parts["unimodal"])
    total.backward()
    assert "own_scores.weight" in reached(keeping)


@pytest.mark.parametrize("masking", [True, False])
def test_router_weights_are_distributions_over_experts_that_depend_on_the_input(masking):
    mixing = model(mask_padding=masking).eval()
    weights, others = (
        mixing.diagnostics(inputs(seed=s), ALL, lengths(clips=6))["router_weights"].detach() for s in (0, 1)
    )
    assert weights.shape == (6, 3, 3)
    assert torch.allclose(weights.sum(-1), torch.ones(6, 3))
    assert (weights > 0).all()
    assert ((weights - others).abs().amax(dim=-1) > 1e-4).all()
    hidden = mixing.diagnostics(inputs(), MIXED, lengths(clips=6))["router_weights"].detach()
    assert torch.allclose(hidden[MIXED], weights[MIXED], atol=1e-6)
    assert (hidden[~MIXED] == 0).all()


def test_a_stream_is_the_experts_opinions_weighed_by_its_own_router():
    mixing, features = model().eval(), inputs()
    with torch.no_grad():
        said = mixing.mix(features, ALL, None)["audio"]
        stream = mixing.projections["audio"](features["audio"])
        opinions = [mixing.experts[m](stream, None) for m in WIDTHS]
        weights = mixing.routers["audio"](stream).softmax(dim=-1)
        expected = sum(weights[..., i : i + 1] * opinion for i, opinion in enumerate(opinions))
        assert torch.allclose(said.mixture, expected, atol=1e-5)
        assert torch.equal(said.own, opinions[1])
        mixing.routers["audio"][3].bias.copy_(torch.tensor([0.0, 100.0, 0.0]))  # all trust in its own expert
        assert torch.allclose(mixing.mix(features, ALL, None)["audio"].mixture, opinions[1], atol=1e-5)


def test_a_hidden_stream_is_zeros_in_the_joint_representation():
    mixing, features = model().eval(), inputs()
    with torch.no_grad():
        audio = torch.tensor([False, True, False]).expand(6, 3)
        mixture = mixing.mix(features, audio, None)["audio"].mixture
        joint = torch.cat([torch.zeros_like(mixture), mixture, torch.zeros_like(mixture)], dim=-1)
        joint = (joint + F.relu(joint @ mixing.joint[0].weight.T + mixing.joint[0].bias)).mean(dim=1)
        expected = torch.sigmoid(joint @ mixing.joint_score.weight[0] + mixing.joint_score.bias)
        assert torch.allclose(mixing.score(features, audio), expected, atol=1e-6)


def test_padded_clips_do_not_count_unless_asked_to():
    short = inputs()
    long = {m: F.pad(x, (0, 0, 0, 5), value=7.0) for m, x in short.items()}
    target = torch.rand(6)
    for epoch in (1, 3):
        for masking in (True, False):
            plain = model(epoch, mask_padding=masking).eval()
            losses = [plain.loss(x, target, MIXED, ALL, lengths()).total for x in (short, long)]
            assert torch.allclose(*losses, rtol=1e-4) is masking
    nothing = {m: F.pad(x, (0, 0, 0, 5), value=float("nan")) for m, x in short.items()}
    plain = model().eval()
    assert torch.allclose(plain.score(short, MIXED, lengths()), plain.score(nothing, MIXED, lengths()), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 15}, "hidden_dim 15 must be a multiple of n_head 2"),
        ({"stage_epochs": -1}, "'stage_epochs': must be 0 or more, got -1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


def experiment(store, output, epochs, **options):
    return {
        "name": "momke",
        "data": {"store": str(store), "target": "score"},
        "model": {"name": "momke", **options},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}},
        "train": {"epochs": epochs, "batch_size": 32, "learning_rate": 2e-3, "seed": 0},
        "output": str(output),
    }


STAGED = {"hidden_dim": 8, "n_encoder": 1, "dropout": 0.2, "stage_epochs": 2}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A store and a run of two epochs of the first stage and three of the second."""
    folder = tmp_path_factory.mktemp("unbroken")
    store = make_synthetic("tiny", folder / "tiny.h5", samples=40)
    aqa.run(experiment(store, folder / "run", 5, **STAGED))
    return store, folder / "run"


@pytest.mark.parametrize("broken_in", [2, 3, 5])  # in the first stage, between the stages, in the second
def test_a_run_broken_off_in_either_stage_goes_on_to_the_same_bits(unbroken, tmp_path, monkeypatch, broken_in):
    store, whole = unbroken
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    epoch_of_training, calls = aqa.training.loop.train_epoch, []

    def broken_off(*arguments):
        calls.append(1)
        if len(calls) == broken_in:
            raise KeyboardInterrupt
        return epoch_of_training(*arguments)

    monkeypatch.setattr("aqa.training.loop.train_epoch", broken_off)
    config = experiment(store, tmp_path / "broken", 5, **STAGED)
    with pytest.raises(KeyboardInterrupt):
        aqa.run(config)
    aqa.run(config)
    assert len(calls) == 6  # five epochs, one of them begun twice
    for name in ("metrics.json", "predictions.csv", "history.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (whole / name).read_bytes()
    first, second = (
        torch.load(folder / "checkpoint.pt", weights_only=True)["weights"] for folder in (whole, tmp_path / "broken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns(tmp_path):
    store = make_synthetic("tiny", tmp_path / "tiny.h5", samples=400)
    options = {"hidden_dim": 32, "n_encoder": 1, "dropout": 0.1, "stage_epochs": 5}
    found = aqa.run(experiment(store, tmp_path / "run", 15, **options)).metrics
    assert found["selection"]["epoch"] > 5
    assert found["patterns"]["VAF"]["srcc"] >= 0.8 * found["patterns"]["VAF"]["ceiling"]
