"""MEA: unaligned streams, predictive attention, two discriminators at cross purposes, graphs of what is there."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import aqa
from aqa.errors import AqaError
from aqa.features.batches import Features
from aqa.models import build
from aqa.models.mea import GraphFusion, PredictiveEncoder, ReverseGradient, masked_softmax, modality_loss
from aqa.store.store import FeatureStore, Modality
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store
from aqa.training.optimizers import parameter_groups

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
CLIPS = {"visual": 10, "audio": 20, "flow": 7}
LENGTHS = {
    "visual": torch.tensor([10, 8, 5, 3, 1, 9]),
    "audio": torch.tensor([20, 2, 10, 7, 1, 13]),
    "flow": torch.tensor([7, 7, 6, 1, 1, 4]),
}
ALL = torch.ones(6, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
TARGET = torch.linspace(0.1, 0.9, 6)


def model(**options):
    torch.manual_seed(0)
    return build("mea", widths=WIDTHS, **{"hidden_dim": 16, "dropout": 0.0, **options})


def inputs(seed=0):
    """Streams of 10, 20 and 7 clips, zeros beyond each video's own lengths."""
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(6, CLIPS[m], d, generator=generator) * real(m).unsqueeze(-1) for m, d in WIDTHS.items()}


def represented(made, features, visible, lengths):
    """The streams' exclusive and agnostic representations."""
    return made.represent(made.encode(features, visible, lengths), visible)


def real(m):
    return torch.arange(CLIPS[m]) < LENGTHS[m].unsqueeze(1)


# Unaligned streams


def test_a_score_depends_on_every_clip_of_streams_of_different_lengths():
    plain = model().eval()
    with torch.no_grad():
        before = plain.score(inputs(), ALL, LENGTHS)
        for m in WIDTHS:
            features = inputs()
            last = LENGTHS[m] - 1
            features[m][torch.arange(6), last] += 2 * torch.randn(6, WIDTHS[m])
            assert (plain.score(features, ALL, LENGTHS) != before).all()


@pytest.mark.parametrize("more", [{"visual": 4}, {"audio": 1, "flow": 9}])
def test_padding_does_not_count_however_much_each_stream_has(more):
    padded = {m: torch.cat([x, x.new_zeros(6, more.get(m, 0), x.shape[2])], dim=1) for m, x in inputs().items()}
    plain = model()
    losses = [plain.loss(x, TARGET, MIXED, ALL, LENGTHS) for x in (inputs(), padded)]
    scores = [plain.eval().score(x, MIXED, LENGTHS) for x in (inputs(), padded)]
    assert torch.allclose(*scores, atol=1e-6)
    for name in losses[0].parts:
        assert torch.allclose(losses[0].parts[name], losses[1].parts[name], rtol=1e-5)


@pytest.mark.parametrize("poison", [float("nan"), 1e30])
def test_padded_clips_are_never_looked_at(poison):
    spoiled = {m: x.masked_fill(~real(m).unsqueeze(-1), poison) for m, x in inputs().items()}
    plain = model()
    assert torch.equal(
        plain.loss(spoiled, TARGET, MIXED, ALL, LENGTHS).total, plain.loss(inputs(), TARGET, MIXED, ALL, LENGTHS).total
    )
    plain.eval()
    assert torch.equal(plain.score(spoiled, MIXED, LENGTHS), plain.score(inputs(), MIXED, LENGTHS))


def test_padding_counts_where_it_is_not_to_be_masked():
    plain = model(mask_padding=False).eval()
    assert not torch.allclose(plain.score(inputs(), ALL, LENGTHS), model().eval().score(inputs(), ALL, LENGTHS))
    assert torch.equal(plain.score(inputs(), ALL, LENGTHS), plain.score(inputs(), ALL))


# Predictive self-attention


def encoder(prediction=0.5, n_layer=2):
    torch.manual_seed(0)
    return PredictiveEncoder(16, 2, n_layer, 32, 0.0, prediction).eval()


def test_attention_looks_at_nothing_but_the_real_clips_of_its_own_stream():
    stream = torch.randn(6, 10, 16, requires_grad=True)
    clips = real("visual")
    encoder(n_layer=3)(stream, clips)[clips].square().sum().backward()
    assert (stream.grad[~clips] == 0).all()
    assert (stream.grad[clips].abs().sum(dim=-1) > 0).all()
    weights = masked_softmax(torch.randn(6, 2, 10, 10), clips[:, None, None])
    assert (weights.transpose(1, 3)[~clips] == 0).all()
    assert torch.allclose(weights.sum(-1), torch.ones(6, 2, 10))


def test_the_prediction_of_a_map_reads_three_by_three_of_the_one_before_and_no_padding():
    coder = encoder()
    coder.prediction = 1.0
    nn.init.normal_(coder.predictors[0].weight)
    clips = torch.arange(10).expand(1, 10) < 8
    seen = {}
    convolve = coder.predictors[0].forward

    def spy(x):
        seen["map"] = x.requires_grad_() if x.is_leaf else x
        seen["map"].retain_grad()
        return convolve(seen["map"])

    coder.predictors[0].forward = spy
    _, maps = coder.attend(torch.randn(1, 10, 16), clips)
    maps[1][0, 0, 4, 6].backward()
    touched = seen["map"].grad[0].abs().sum(dim=0) > 0
    expected = torch.zeros(10, 10, dtype=torch.bool)
    expected[3:6, 5:8] = True
    assert torch.equal(touched, expected)
    assert (seen["map"][0, :, 8:] == 0).all()
    assert (seen["map"][0, :, :, 8:] == 0).all()


@pytest.mark.parametrize("prediction", [0.0, 0.25, 1.0])
def test_a_map_is_its_prediction_and_its_own_in_the_given_shares(prediction):
    coder, stream, clips = encoder(prediction), torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool)
    _, maps = coder.attend(stream, clips)
    first, second = coder.layers
    between = first.add(stream, first.attention.read(maps[0], stream, clips))
    own = second.attention.map(between, between)
    predicted = maps[0] + coder.predictors[0].bias.view(1, -1, 1, 1)  # the convolution starts as the identity
    assert torch.allclose(maps[1], prediction * predicted + (1 - prediction) * own, atol=1e-6)


# Cross-modal attention


def test_the_agnostic_representation_of_a_stream_depends_on_the_others_and_the_exclusive_one_does_not():
    features = {m: x.requires_grad_() for m, x in inputs().items()}
    exclusive, agnostic = represented(model(), features, ALL, LENGTHS)
    alone = torch.autograd.grad(
        exclusive[:, 0].square().sum(), list(features.values()), allow_unused=True, retain_graph=True
    )
    assert [g is not None and bool(g.abs().sum() > 0) for g in alone] == [True, False, False]
    crossed = torch.autograd.grad(agnostic[:, 0].square().sum(), list(features.values()))
    assert all(bool((g.abs().sum(dim=(1, 2)) > 0).all()) for g in crossed)


def test_without_levels_nothing_crosses_and_each_level_adds_its_own_weights():
    features = {m: x.requires_grad_() for m, x in inputs().items()}
    flat = model(n_level=0)
    crossed = torch.autograd.grad(
        represented(flat, features, ALL, LENGTHS)[1][:, 0].sum(), list(features.values()), allow_unused=True
    )
    assert [g is not None and bool(g.abs().sum() > 0) for g in crossed] == [True, False, False]
    counts = [sum(p.numel() for p in model(n_level=n).parameters()) for n in range(3)]
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


# Discriminators


def test_the_agnostic_encoder_gets_the_reverse_of_its_discriminators_gradient_and_the_exclusive_ones_do_not():
    plain = model()
    exclusive, agnostic = represented(plain, inputs(), ALL, LENGTHS)
    direct = {
        "agnostic": modality_loss(plain.agnostic_discriminator(agnostic), ALL),
        "exclusive": modality_loss(plain.exclusive_discriminator(exclusive), ALL),
    }
    parts = plain.loss(inputs(), TARGET, ALL, ALL, LENGTHS).parts
    for space, sign in (("agnostic", -plain.agnostic_weight), ("exclusive", 1)):
        assert torch.allclose(parts[space], direct[space])
        judge = list(getattr(plain, f"{space}_discriminator").parameters())
        encoder = list((plain.agnostic_encoder if space == "agnostic" else plain.exclusive_encoders).parameters())
        used = torch.autograd.grad(parts[space], judge + encoder, retain_graph=True)
        truth = torch.autograd.grad(direct[space], judge + encoder, retain_graph=True)
        for i, (found, expected) in enumerate(zip(used, truth, strict=True)):
            factor = 1 if i < len(judge) else sign
            assert expected.abs().sum() > 0
            assert torch.allclose(found, factor * expected, atol=1e-7)


def test_reversal_is_the_identity_forward_and_minus_the_weight_backward():
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(ReverseGradient.apply(x, 0.5), x)
    (ReverseGradient.apply(x, 0.5) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [-0.5, -1, -1.5]


def test_the_modality_loss_of_a_blind_discriminator_is_log_of_the_modalities():
    logits = torch.zeros(6, 3, 3)
    assert modality_loss(logits, MIXED).item() == pytest.approx(math.log(3))
    sure = 50 * torch.eye(3).expand(6, 3, 3)
    assert modality_loss(sure, MIXED).item() == pytest.approx(0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mea")
    make_synthetic("tiny", folder / "tiny.h5")
    return folder


def streams(store, split):
    """The split's features (n, 12, D) with their lengths, and its targets in [0, 1]."""
    with FeatureStore(store) as opened:
        rows, target = opened.split(split), opened.target("score")
        features, lengths = Features(opened).window(rows, 12)
    return features, lengths, torch.from_numpy(target.normalize(target.values[rows])).float()


def fresh_accuracy(train, test):
    """How well a new linear classifier, trained on representations (n, M, H), tells the modality of others."""
    torch.manual_seed(1)
    width, modalities = train.shape[-1], train.shape[1]
    mean, std = train.flatten(0, 1).mean(0), train.flatten(0, 1).std(0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    classifier = nn.Linear(width, modalities)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    every = torch.ones(train.shape[:2], dtype=torch.bool)
    for _ in range(150):
        optimizer.zero_grad()
        modality_loss(classifier(train), every).backward()
        optimizer.step()
    return (classifier(test).argmax(-1) == torch.arange(modalities)).float().mean().item()


def accuracies(store, **options):
    """After training: accuracies on unseen videos of the trained discriminators and of fresh ones, by space."""
    torch.manual_seed(0)
    features, lengths, target = streams(store, "train")
    options = {"hidden_dim": 16, "n_encoder": 1, "n_level": 1, "dropout": 0.0, **options}
    trained = build("mea", widths={m: x.shape[-1] for m, x in features.items()}, **options)
    optimizer = torch.optim.Adam(parameter_groups(trained, 1e-3))
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    every = torch.ones(len(target), 3, dtype=torch.bool)
    for _ in range(STEPS):
        at = torch.randperm(len(target))[:32]
        optimizer.zero_grad()
        batch, short = ({m: x[at] for m, x in part.items()} for part in (features, lengths))
        trained.loss(batch, target[at], every[at], every[at], short).total.backward()
        optimizer.step()
        falling.step()
    trained.eval()
    with torch.no_grad():
        seen = represented(trained, features, every, lengths)
        unseen_features, unseen_lengths, unseen_target = streams(store, "test")
        unseen = represented(trained, unseen_features, every[: len(unseen_target)], unseen_lengths)
    found = {}
    for i, space in enumerate(("exclusive", "agnostic")):
        judge = getattr(trained, f"{space}_discriminator")
        guessed = judge(unseen[i]).argmax(-1)
        found[space] = (guessed == torch.arange(3)).float().mean().item()
        found[f"fresh {space}"] = fresh_accuracy(seen[i], unseen[i])
    return found


STEPS = 200  # of training, before the discriminators are asked


def test_a_trained_models_agnostic_representations_hide_what_its_exclusive_ones_show(tiny):
    found = accuracies(tiny / "tiny.h5")
    assert found["agnostic"] < 0.5  # chance is a third; 0.93 without the reversed gradient
    assert found["fresh agnostic"] < 0.65  # a linear one that the encoders never met
    assert found["exclusive"] > 0.95
    assert found["fresh exclusive"] > 0.95


def test_without_the_reversed_gradient_agnostic_representations_show_their_modality(tiny):
    found = accuracies(tiny / "tiny.h5", agnostic_weight=0.0)
    assert found["agnostic"] > 0.8


# Hidden modalities


def test_hidden_modalities_take_no_part_in_any_term():
    poisoned = {
        m: x.masked_fill(~MIXED[:, i].view(-1, 1, 1), float("nan")) for i, (m, x) in enumerate(inputs().items())
    }
    found = [model().loss(x, TARGET, MIXED, ALL, LENGTHS).parts for x in (inputs(), poisoned)]
    assert found[0] == found[1]


def test_a_modality_hidden_from_the_whole_batch_teaches_nothing_to_what_is_its_own():
    plain = model()
    hidden = ALL & torch.tensor([True, False, True])
    plain.loss(inputs(), TARGET, hidden, ALL, LENGTHS).total.backward()
    for parts in (plain.projections, plain.exclusive_encoders, plain.self_attention):
        assert all((p.grad is None) or (p.grad == 0).all() for p in parts["audio"].parameters())
        assert any((p.grad != 0).any() for p in parts["flow"].parameters())
    exclusive, agnostic = represented(plain, inputs(), hidden, LENGTHS)
    assert (exclusive[:, 1] == 0).all()
    assert (agnostic[:, 1] == 0).all()


def test_a_row_is_scored_as_if_its_hidden_streams_were_not_part_of_the_model_at_all():
    """What is visible alone, given to a model of two modalities with the same weights, has the same score."""
    three = model().eval()
    kept = {m: WIDTHS[m] for m in ("visual", "flow")}
    two = build("mea", widths=kept, hidden_dim=16, dropout=0.0).eval()
    weights = three.state_dict()
    two.load_state_dict({k: v if "discriminator" in k else weights[k] for k, v in two.state_dict().items()})
    hidden = ALL & torch.tensor([True, False, True])
    part = {m: inputs()[m] for m in kept}
    assert torch.allclose(three.score(inputs(), hidden, LENGTHS), two.score(part, ALL[:, :2], LENGTHS), atol=1e-6)


# Graph fusion


def test_edges_of_a_graph_join_visible_streams_only():
    edges = model().eval().diagnostics(inputs(), MIXED, LENGTHS)
    for name in ("exclusive_edges", "agnostic_edges"):
        assert torch.allclose(edges[name].sum(-1), MIXED.float())
        assert (edges[name][~(MIXED.unsqueeze(1) & MIXED.unsqueeze(2))] == 0).all()


def test_nodes_exchange_what_they_know_within_their_own_space_alone():
    torch.manual_seed(0)
    graph = GraphFusion(8, 0.0).eval()
    nodes, visible = torch.randn(2, 3, 8), torch.tensor([[True, True, True], [True, False, True]])
    fused = graph(nodes, visible)
    assert fused.shape == (2, 8)
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(graph(nodes[:, order], visible[:, order]), fused, atol=1e-6)
    changed = nodes.clone()
    changed[1, 1] = 100.0
    assert torch.equal(graph(changed, visible), fused)


# Options and runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 18}, "hidden_dim 18 must be a multiple of n_head 4"),
        ({"prediction": 1.5}, "'prediction': must be 1 or less, got 1.5"),
        ({"n_levels": 1}, "did you mean 'n_level'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(AqaError, match=message):
        model(**options)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("mea") / "small.h5", samples=400)


def unaligned(source, path):
    """The store with every other audio clip twice and every other flow clip left out."""
    repeats = {"visual": 1, "audio": 2, "flow": 1}
    step = {"visual": 1, "audio": 1, "flow": 2}

    with FeatureStore(source) as store:
        columns = dict(zip(store.modalities, store.lengths.T, strict=True))

        def read(m, row):
            return np.repeat(store.read_sample(m, row), repeats[m], axis=0)[:: step[m]]

        write_store(
            path,
            name="unaligned",
            source="made for a test",
            ids=store.ids,
            modalities={m: Modality(store.widths[m], -(-n * repeats[m] // step[m])) for m, n in columns.items()},
            targets={"score": store.target("score")},
            splits={split: store.split(split) for split in store.splits},
            read=read,
        )
    return path


def experiment(store, output, **data):
    return {
        "name": "small",
        "data": {"store": str(store), "target": "score", **data},
        "model": {"name": "mea", "hidden_dim": 16, "n_encoder": 2, "n_level": 1},
        "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}},
        "train": {"epochs": 12, "batch_size": 32, "learning_rate": 3e-3, "seed": 0},
        "output": str(output),
    }


def test_unaligned_streams_go_from_the_store_to_scores(small, tmp_path):
    store = unaligned(small, tmp_path / "unaligned.h5")
    found = aqa.run(experiment(store, tmp := tmp_path / "run", align="none")).metrics
    assert found["patterns"]["VAF"]["srcc"] > 0.6
    assert not any("cut to its shortest" in line for line in (tmp / "log.txt").read_text().splitlines())
    again = aqa.evaluate(tmp).metrics
    assert again["patterns"] == json.loads((tmp / "metrics.json").read_text())["patterns"]
    assert np.isfinite(aqa.predict(tmp, store, split="test")["score"]).all()


def test_it_learns(small, tmp_path):
    found = aqa.run(experiment(small, tmp_path / "run")).metrics["patterns"]["VAF"]
    assert found["srcc"] >= 0.8 * found["ceiling"]
