"""Early and late fusion: what stands in for a hidden stream, and what does not touch what."""

import pytest
import torch
import torch.nn.functional as F

import aqa
from aqa.errors import AqaError
from aqa.layers.losses import hardest_triplet
from aqa.models import build
from aqa.models.modality_dropout import dropped
from aqa.store.synthetic import make_synthetic

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
ROWS, CLIPS = 6, 9
EARLY = ["grade_decoder", "zero_fill", "mean_fill", "modality_dropout"]
FUSION = [*EARLY, "late_fusion"]
ALL = torch.ones(ROWS, 3, dtype=torch.bool)
MIXED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)


def model(name, widths=WIDTHS, **options):
    torch.manual_seed(0)
    return build(name, widths=widths, **{"hidden_dim": 16, "n_decoder": 1, "dropout": 0.0, **options})


def inputs(seed=0, rows=ROWS, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, CLIPS, d, generator=generator) + shift for m, d in WIDTHS.items()}


def poisoned(features, seen):
    return {m: x.masked_fill(~seen[:, i].view(-1, 1, 1), float("nan")) for i, (m, x) in enumerate(features.items())}


def lengths(clips=CLIPS):
    return {m: torch.as_tensor(clips).expand(ROWS) for m in WIDTHS}


def projected(of, features, visible):
    """What goes into the projection of each modality, (B, T, D), while the model scores."""
    found, hooks = {}, []
    for m, layer in of.projections.items():
        hooks.append(layer.register_forward_pre_hook(lambda _, given, m=m: found.update({m: given[0]})))
    with torch.no_grad():
        of.score(features, visible)
    for hook in hooks:
        hook.remove()
    return {m: x.unflatten(0, (ROWS, CLIPS)) for m, x in found.items()}


@pytest.mark.parametrize("name", ["zero_fill", "modality_dropout"])
def test_a_hidden_stream_is_zeros_to_the_projection(name):
    features = inputs(shift=3.0)
    seen = projected(model(name).eval(), poisoned(features, MIXED), MIXED)
    for i, m in enumerate(WIDTHS):
        assert (seen[m][~MIXED[:, i]] == 0).all()
        assert torch.equal(seen[m][MIXED[:, i]], features[m][MIXED[:, i]])


def test_a_hidden_stream_is_the_training_mean_to_the_projection():
    filling, features = model("mean_fill"), inputs(shift=3.0)
    filling.loss(features, torch.rand(ROWS), ALL, ALL)
    seen = projected(filling.eval(), poisoned(features, MIXED), MIXED)
    for i, m in enumerate(WIDTHS):
        hidden = seen[m][~MIXED[:, i]]
        assert torch.allclose(hidden, features[m].mean(dim=(0, 1)).expand_as(hidden), atol=1e-5)
        assert torch.equal(seen[m][MIXED[:, i]], features[m][MIXED[:, i]])


def test_the_running_mean_is_exact_over_an_epoch_of_real_clips_of_available_videos():
    filling, expected = model("mean_fill"), {m: [] for m in WIDTHS}
    visible = MIXED & torch.tensor([[True, False, True]])  # what is hidden but available counts
    visible[~visible.any(dim=1)] = MIXED[~visible.any(dim=1)]
    for step in range(5):
        features, clips = inputs(seed=step, shift=100.0 + step), torch.randint(1, CLIPS + 1, (ROWS,))
        real = torch.arange(CLIPS) < clips.unsqueeze(1)
        for i, m in enumerate(WIDTHS):
            expected[m].append(features[m][real & MIXED[:, i].unsqueeze(1)])
            features[m][~real] = 1e6
        filling.loss(poisoned(features, MIXED), torch.rand(ROWS), visible, MIXED, lengths(clips))
    for i, (m, mean) in enumerate(filling.means().items()):
        taken = torch.cat(expected[m]).double()
        assert torch.allclose(mean.double(), taken.mean(dim=0), rtol=1e-6)
        assert filling.clips[i] == len(taken)


def test_the_mean_is_of_training_alone_and_kept_with_the_weights():
    filling, other = model("mean_fill"), model("mean_fill")
    filling.loss(inputs(shift=5.0), torch.rand(ROWS), ALL, ALL)
    kept = filling.mean.clone()
    filling.eval().loss(inputs(shift=50.0), torch.rand(ROWS), ALL, ALL)
    filling.score(inputs(shift=50.0), ALL)
    other.load_state_dict(filling.state_dict())
    assert (kept > 4).all()
    assert torch.equal(filling.mean, kept)
    assert torch.equal(other.mean, kept)


def test_the_grade_decoder_sees_zeros_after_the_projection_and_is_told_so():
    decoder, found = model("grade_decoder").eval(), []
    decoder.join.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        decoder.score(poisoned(inputs(), MIXED), MIXED)
    (joined,) = found
    assert joined.shape == (ROWS, CLIPS, 3 * 16 + 3)
    for i in range(3):
        stream = joined[..., 16 * i : 16 * (i + 1)]
        assert (stream[~MIXED[:, i]] == 0).all()
        assert (stream[MIXED[:, i]].abs().sum(dim=-1) > 0).all()
    assert torch.equal(joined[..., 48:], MIXED.float().unsqueeze(1).expand(-1, CLIPS, -1))


def test_hidden_rows_stay_out_of_the_batch_statistics_of_the_grade_decoder_but_not_of_filling():
    for name, same in {"grade_decoder": True, "late_fusion": True, "zero_fill": False}.items():
        whole, visual_rows = model(name), MIXED[:, 0]
        whole.loss(inputs(shift=2.0), torch.rand(ROWS), MIXED, MIXED)
        seen = {m: x[visual_rows] for m, x in inputs(shift=2.0).items()}
        part = model(name)
        part.loss(seen, torch.rand(len(seen["visual"])), MIXED[visual_rows], MIXED[visual_rows])
        statistics = [m.projections["visual"][1].running_mean for m in (whole, part)]
        assert torch.allclose(*statistics, atol=1e-6) is same


@pytest.mark.parametrize("name", FUSION)
def test_with_one_modality_all_are_the_published_network(name):
    alone, stream = model(name, {"visual": 12}).eval(), inputs()["visual"]
    network = alone.networks["visual"] if name == "late_fusion" else alone.network
    with torch.no_grad():
        encoded = network.encoder(alone.projections["visual"](stream.flatten(0, 1)).unflatten(0, (ROWS, CLIPS)))
        expected = network.grades(encoded)[0]
        assert torch.allclose(alone.score({"visual": stream}, ALL[:, :1]), expected, atol=1e-6)
    assert not hasattr(alone, "join")


@pytest.mark.parametrize("name", FUSION)
def test_the_loss_is_the_squared_error_and_the_triplet_loss(name):
    fused, target = model(name, alpha=0.3, margin=0.7).eval(), torch.rand(ROWS)
    total, parts = fused.loss(inputs(), target, ALL, ALL)
    assert torch.allclose(total, parts["mse"] + 0.3 * parts["triplet"])
    if name != "late_fusion":
        score, queries = fused.grade(fused.encode(inputs(), ALL), ALL)
        assert torch.allclose(parts["mse"], F.mse_loss(score, target))
        assert torch.allclose(parts["triplet"], hardest_triplet(queries, 0.7))


def test_late_fusion_is_the_mean_of_the_visible_modalities_own_scores():
    late, features = model("late_fusion").eval(), inputs()
    with torch.no_grad():
        own = torch.stack([late.score(features, torch.eye(3).bool()[i].expand(ROWS, -1)) for i in range(3)], dim=1)
        fused = late.score(poisoned(features, MIXED), MIXED)
    assert own.std(dim=1).min() > 1e-4
    assert torch.allclose(fused, (own * MIXED).sum(dim=1) / MIXED.sum(dim=1), atol=1e-6)


def test_streams_of_late_fusion_may_differ_in_length():
    late, features = model("late_fusion").eval(), inputs()
    features["audio"] = features["audio"][:, :4]
    with torch.no_grad():
        own = [late.score(features, torch.eye(3).bool()[i].expand(ROWS, -1)) for i in range(3)]
        assert torch.allclose(late.score(features, ALL), torch.stack(own).mean(dim=0), atol=1e-6)
    assert late.takes_unaligned


def test_each_network_of_late_fusion_learns_by_itself():
    late, target = model("late_fusion"), torch.rand(ROWS)
    own = torch.stack([late.loss(inputs(), target, v, ALL).total for v in torch.eye(3).bool().unsqueeze(1) & ALL])
    assert torch.allclose(late.loss(inputs(), target, ALL, ALL).total, own.mean(), rtol=1e-4)
    late.loss(inputs(), target, ALL & torch.tensor([True, False, True]), ALL).total.backward()
    touched = {name.split(".")[1] for name, parameter in late.named_parameters() if parameter.grad is not None}
    assert touched == {"visual", "flow"}


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_modality_dropout_hides_at_its_rate_but_never_everything(rate):
    torch.manual_seed(0)
    for shown in ([True, True, True], [True, False, True], [False, True, False]):
        visible, count = torch.tensor(shown).expand(40000, 3), sum(shown)
        left = dropped(visible, rate)
        assert left.any(dim=1).all()
        assert not (left & ~visible).any()
        # Independent at the rate, except for the rows where all would go: there one of them stays.
        expected = rate - rate**count / count
        hidden = 1 - left[:, shown].float().mean(dim=0)
        assert torch.allclose(hidden, torch.full((count,), expected), atol=0.01)


def test_modality_dropout_hides_in_training_only():
    filling, dropping, never = (
        model("zero_fill"),
        model("modality_dropout", rate=0.6),
        model("modality_dropout", rate=0),
    )
    target = torch.rand(ROWS)
    expected = filling.loss(inputs(), target, ALL, ALL).total
    assert torch.equal(never.loss(inputs(), target, ALL, ALL).total, expected)
    assert not torch.allclose(dropping.loss(inputs(), target, ALL, ALL).total, expected)
    filling.eval()
    dropping.eval().load_state_dict(filling.state_dict())
    assert torch.equal(dropping.score(inputs(), ALL), filling.score(inputs(), ALL))
    assert torch.equal(dropping.loss(inputs(), target, ALL, ALL).total, filling.loss(inputs(), target, ALL, ALL).total)


@pytest.mark.parametrize("name", FUSION)
def test_masked_padding_is_never_looked_at(name):
    short = inputs()
    long = {m: torch.cat([x, torch.full((ROWS, 4, x.shape[2]), float("nan"))], dim=1) for m, x in short.items()}
    target = torch.rand(ROWS)
    masked = model(name, **({"rate": 0} if name == "modality_dropout" else {}))
    losses = [masked.loss(x, target, MIXED, MIXED, lengths()).total for x in (short, long)]
    assert torch.allclose(*losses, rtol=1e-5)
    masked.eval()
    assert torch.allclose(masked.score(short, MIXED), masked.score(long, MIXED, lengths()), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zero_fill", {"n_head": 3}, "hidden_dim 16 must be a multiple of n_head 3"),
        ("late_fusion", {"n_query": 1}, "'n_query': must be 2 or more, got 1"),
        ("grade_decoder", {"n_encoder": 0}, "'n_encoder': must be 1 or more, got 0"),
        ("modality_dropout", {"rate": 1.0}, "'rate': must be less than 1, got 1.0"),
        ("mean_fill", {"hiden_dim": 8}, "did you mean 'hidden_dim'"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(AqaError, match=message):
        model(name, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("store") / "tiny.h5", samples=400)


@pytest.mark.parametrize("name", FUSION)
def test_it_learns_what_there_is_to_learn(name, store, tmp_path):
    found = aqa.run(
        {
            "name": name,
            "data": {"store": str(store), "target": "score"},
            "model": {"name": name, "hidden_dim": 16, "n_decoder": 1, "dropout": 0.0, "alpha": 0.05},
            "missing": {"train": {"random_subset": {"per": "sample", "include_complete": True}}, "test": ["VAF"]},
            "train": {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "threads": 1},
            "select": {"pattern": "complete"},
            "output": str(tmp_path / "run"),
        }
    ).metrics["patterns"]["VAF"]
    assert found["srcc"] >= 0.8 * found["ceiling"]
