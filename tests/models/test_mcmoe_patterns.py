"""MCMoE under several patterns at once gives what it gives under each alone, for a fraction of the work."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from aqa.models import build, mcmoe_patterns

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
SUBSETS = [s for s in itertools.product((True, False), repeat=3) if any(s)]
ROWS = 6
CHOICES = {
    "mask_padding": [False, True],
    "use_generator": [False, True],
    "use_experts": [False, True],
    "generator_queries": ["shared", "temporal"],
    "prototype_position": ["query", "batch_row"],
}


def model(widths=WIDTHS, **options):
    """A small MCMoE in evaluation mode, its batch-norm statistics away from their initial values."""
    torch.manual_seed(0)
    made = build("mcmoe", widths=widths, **{"hidden_dim": 16, "n_encoder": 1, "n_decoder": 2, **options})
    everything = torch.ones(16, len(widths), dtype=torch.bool)
    for seed in range(3):
        made.loss(inputs(16, widths=widths, seed=seed), torch.rand(16), everything, everything)
    return made.eval()


def inputs(rows=ROWS, clips=9, widths=WIDTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, clips, d, generator=generator) for m, d in widths.items()}


def every_subset(available):
    """Every subset of three modalities of what each row has: available (B, 3) -> (7, B, 3)."""
    return torch.tensor(SUBSETS).unsqueeze(1) & available


def together_and_apart(made, features, visible, lengths=None):
    """Scores and diagnostics of all patterns at once, and of one after the other."""
    with torch.inference_mode():
        return (
            made.score_patterns(features, visible, lengths, diagnose=True),
            made.score_one_by_one(features, visible, lengths, diagnose=True),
        )


def assert_same(together, apart):
    torch.testing.assert_close(together.score, apart.score, rtol=0, atol=1e-6, equal_nan=True)
    for ours, plain in zip(together.diagnostics, apart.diagnostics, strict=True):
        assert ours.keys() == plain.keys()
        for name in ours:
            torch.testing.assert_close(ours[name], plain[name], rtol=0, atol=1e-6)


ALL = torch.ones(ROWS, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    "options",
    [dict(zip(CHOICES, chosen, strict=True)) for chosen in itertools.product(*CHOICES.values())],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_scores_and_router_weights_are_those_of_each_pattern_alone(options):
    made = model(**options)
    for clips in (1, 2, 3, 4, 9):
        length = torch.arange(ROWS) % clips + 1
        for lengths in (None, dict.fromkeys(WIDTHS, length)):
            assert_same(*together_and_apart(made, inputs(clips=clips), every_subset(ALL), lengths))


@pytest.fixture(scope="module")
def masked():
    return {queries: model(mask_padding=True, generator_queries=queries) for queries in ("shared", "temporal")}


@given(data=st.data(), queries=st.sampled_from(["shared", "temporal"]), clips=st.integers(1, 7), rows=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_any_visibility_of_any_rows_gives_what_each_pattern_gives_alone(masked, data, queries, clips, rows):
    patterns = data.draw(st.integers(1, 10))  # more than go at once
    bits = data.draw(st.lists(st.booleans(), min_size=patterns * rows * 3, max_size=patterns * rows * 3))
    visible = torch.tensor(bits).view(patterns, rows, 3)
    visible[0, 0, 0] = True  # a batch has something in it
    length = torch.tensor(data.draw(st.lists(st.integers(1, clips), min_size=rows, max_size=rows)))
    features = inputs(rows, clips)
    together, apart = together_and_apart(masked[queries], features, visible, dict.fromkeys(WIDTHS, length))
    assert torch.equal(together.score.isnan(), ~visible.any(dim=2))
    assert_same(together, apart)


@pytest.mark.parametrize("widths", [{"sound": 6}, {"a": 4, "b": 5, "c": 6, "d": 7, "e": 3}])
def test_any_number_of_modalities_and_more_patterns_than_go_at_once(widths):
    subsets = torch.tensor([s for s in itertools.product((True, False), repeat=len(widths)) if any(s)])
    assert len(widths) == 1 or len(subsets) > mcmoe_patterns.PATTERNS_AT_ONCE
    visible = subsets.unsqueeze(1).expand(-1, ROWS, -1)
    assert_same(*together_and_apart(model(widths), inputs(widths=widths), visible))


def test_streams_of_different_lengths_count_under_each_pattern_as_they_do_alone():
    lengths = {"visual": torch.tensor([9, 4, 5, 1, 9, 3]), "audio": torch.full((6,), 9), "flow": torch.arange(1, 7)}
    assert_same(*together_and_apart(model(mask_padding=True), inputs(), every_subset(ALL), lengths))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_what_is_wrong_with_a_stream_reaches_only_the_patterns_that_show_it(poison):
    made, features, visible = model(), inputs(), every_subset(ALL)
    clean = made.score_patterns(features, visible).score
    features["audio"] = features["audio"].clone()
    features["audio"][2] = poison
    spoiled = made.score_patterns(features, visible, diagnose=True)
    untouched = ~visible[:, :, 1]
    untouched[:, torch.arange(ROWS) != 2] = True
    assert torch.equal(spoiled.score[untouched], clean[untouched])
    assert (spoiled.score != clean)[~untouched].all()
    for p, said in enumerate(spoiled.diagnostics):
        assert {name: values.isfinite().view(ROWS, -1).all(dim=1).tolist() for name, values in said.items()} == {
            name: spoiled.score[p].isfinite().tolist() for name in ("deviation", "router_weights")
        }


def test_hidden_features_are_never_looked_at():
    available = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)
    features, visible = inputs(), every_subset(available)
    poisoned = {
        m: x.masked_fill(~available[:, i].view(-1, 1, 1), float("nan")) for i, (m, x) in enumerate(features.items())
    }
    made = model(mask_padding=True)
    first, second = (made.score_patterns(f, visible).score for f in (features, poisoned))
    assert torch.equal(first.nan_to_num(-1), second.nan_to_num(-1))
    assert torch.equal(first.isnan(), ~visible.any(dim=2))


def test_scores_do_not_depend_on_the_rows_or_patterns_beside_them():
    made, features, visible = model(mask_padding=True), inputs(), every_subset(ALL)
    whole = made.score_patterns(features, visible).score
    rows = [made.score_patterns({m: x[[i]] for m, x in features.items()}, visible[:, [i]]).score for i in range(ROWS)]
    patterns = [made.score_patterns(features, visible[[p]]).score for p in range(len(visible))]
    torch.testing.assert_close(torch.cat(rows, dim=1), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat(patterns), whole, rtol=0, atol=1e-6)


def test_each_stream_is_projected_and_encoded_once_and_experts_see_little_more_than_real_streams():
    made, encoded, looked_at = model(), [], []
    made.encoder.register_forward_hook(lambda module, given, out: encoded.append(out.shape[:2]))
    made.experts["visual"].rest.register_forward_hook(lambda module, given, out: looked_at.append(len(out)))
    made.score_patterns(inputs(clips=50), every_subset(ALL))
    assert encoded == [(3 * ROWS, 50)]
    # three real streams, and each of three modalities hidden in three patterns, as three clips
    assert sum(looked_at) == 3 * ROWS * 50 + 3 * 3 * ROWS * 3


@pytest.mark.parametrize("mask_padding", [False, True])
def test_the_seven_subsets_take_at_most_a_fifth_more_operations_than_the_complete_one(mask_padding):
    made = build("mcmoe", widths={"visual": 1024, "audio": 768, "flow": 1024}, mask_padding=mask_padding).eval()
    features = inputs(2, 124, made.widths)
    visible, lengths = every_subset(ALL[:2]), dict.fromkeys(WIDTHS, torch.full((2,), 124))

    def operations(work):
        with FlopCounterMode(display=False) as counter:  # with gradients: it knows nothing of the encoder's fast path
            work()
        return counter.get_total_flops()

    complete = operations(lambda: made.score(features, visible[0], lengths))
    assert operations(lambda: made.score_patterns(features, visible, lengths)) < 1.4 * complete


def test_router_weights_are_worked_out_only_where_asked_for(monkeypatch):
    made = model()
    monkeypatch.setattr(made, "mean_router_weights", lambda *arguments: pytest.fail("not asked for"))
    assert made.score_patterns(inputs(), every_subset(ALL)).diagnostics == [{}] * 7
