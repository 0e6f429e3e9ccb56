"""A model's scores under patterns: all patterns of a batch together give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aqa.errors import AqaError
from aqa.evaluation.scorer import Scorer
from aqa.features.batches import Features
from aqa.missing import Draws, parse_pattern, parse_test_patterns
from aqa.models import MODELS, build
from aqa.models.base import Example
from aqa.registry import option_names
from aqa.store.store import FeatureStore
from tests.models.tiny_llm import ALL_MODELS, without_default

SMALL = {"hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.permutation(24)[:20]
COMPLETE = {m: [5, 3, 1, 2, 7, 4] * 4 for m in ("visual", "audio", "flow")}
# Every fourth video lacks visual, every fifth audio, every third flow; video 0 has nothing.
INCOMPLETE = {
    m: [n if i % every else 0 for i, n in enumerate(COMPLETE[m])]
    for m, every in {"visual": 4, "audio": 5, "flow": 3}.items()
}
PATTERNS = [
    *("VAF", "VA", "VF", "AF", "V", "A", "F", "random_subset", "none"),
    {"rates": 0.5},
    {"fixed": {"rates": 0.4}},
    {"combine": [{"fixed": {"rates": {"audio": 0.5}}}, "VA"]},
    {"gaps": {"fraction": 0.4}},
    {"noise": {"std": 0.5}},
    {"shift": {"clips": 1}},
    {"combine": ["VF", {"gaps": {"fraction": 0.5}}]},
]


@pytest.fixture
def scorer(tiny_store):
    """A function that makes a scorer with a small model whose weights make scores differ; the same at each call."""

    def make(name="mcmoe", lengths=INCOMPLETE, size=7, clips=6, **options):
        with FeatureStore(tiny_store(lengths=lengths, overwrite=True)) as store:
            features = Features(store)
        for values in features.values.values():
            values.copy_(torch.randn(values.shape, generator=torch.Generator().manual_seed(1)))
        torch.manual_seed(0)
        taken = option_names(MODELS.get(name).make)
        made = {k: v for k, v in {**SMALL, **without_default(name), **options}.items() if k in taken}
        model = build(name, widths=features.widths, **made)
        learn(model, features.widths)
        return Scorer(model, features, 10.0, 30.0, clips, size, 0)

    return make


def learn(model, widths):
    """Batch-norm statistics away from their initial values; a model in closed form is fitted."""
    features = {m: torch.randn(16, 5, d) for m, d in widths.items()}
    visible = (torch.arange(16).unsqueeze(1) >> torch.arange(len(widths))) % 2 == 1
    visible |= ~visible.any(dim=1, keepdim=True)
    lengths, available = {m: torch.full((16,), 5) for m in widths}, torch.ones_like(visible)
    for part in model.trained_apart:
        if part.closed_form:
            part.fit([Example(features, torch.rand(16), visible, visible, lengths)])
        else:
            part.train()
            part.loss(features, torch.rand(16), available, available, lengths)


def patterns(specs=PATTERNS):
    return parse_test_patterns(specs, ("visual", "audio", "flow"), "missing.test")


def one_by_one(scorer, rows, chosen):
    """Scores by pattern, each pattern on its own, batches made of the rows that it leaves something of."""
    scorer.model.eval()
    found = {}
    for name, pattern in chosen.items():
        draws = Draws.once(scorer.seed, scorer.features.keys[rows])
        visible = pattern.visible(pattern.remaining(scorer.features.available[rows], draws), draws)
        found[name] = np.full(len(rows), np.nan)
        scorable = np.flatnonzero(visible.any(axis=1))
        for at in np.split(scorable, range(scorer.batch_size, len(scorable), scorer.batch_size)):
            features, lengths = scorer.features.window(rows[at], scorer.clips)
            features = pattern.damage(features, lengths, draws.at(at))
            with torch.inference_mode():
                score = scorer.model.score(features, torch.from_numpy(visible[at]), lengths)
            found[name][at] = scorer.low + (scorer.high - scorer.low) * score.double().numpy()
    return found


def assert_same(found, expected, atol=2e-5):
    """Scores in the target's units, here 20 wide: 1e-6 of that."""
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", ALL_MODELS)
@pytest.mark.parametrize("mask_padding", [False, True])
def test_every_model_scores_patterns_together_as_it_scores_each_alone(scorer, name, mask_padding):
    made = scorer(name, mask_padding=mask_padding)
    expected = one_by_one(made, ROWS, patterns())
    assert np.isnan(expected["V"]).sum() > 3
    assert np.nanstd(expected["V"]) > 0
    assert_same(made.predict(ROWS, patterns()), expected)


@pytest.mark.parametrize("lengths", [COMPLETE, INCOMPLETE], ids=["complete", "incomplete"])
def test_a_model_that_numbers_rows_meets_the_rows_that_it_meets_alone(scorer, lengths):
    made = scorer(lengths=lengths, prototype_position="batch_row")
    assert_same(made.predict(ROWS, patterns()), one_by_one(made, ROWS, patterns()))


def test_scores_do_not_depend_on_batch_size_order_or_the_other_patterns(scorer):
    made, chosen = scorer(size=7), patterns(["VAF", "VA", "F", {"rates": 0.5}, {"noise": {"std": 0.5}}])
    whole = made.predict(ROWS, chosen)
    for size in (1, 3, 100):
        assert_same(replace(made, batch_size=size).predict(ROWS, chosen), whole)
    backwards = made.predict(ROWS[::-1], chosen)
    assert_same({name: scores[::-1] for name, scores in backwards.items()}, whole)
    assert_same({name: made.predict(ROWS, {name: pattern})[name] for name, pattern in chosen.items()}, whole)


def calls(made, monkeypatch):
    """How many patterns and rows each call of the model's `score_patterns` from now on is given."""
    found, score_patterns = [], made.model.score_patterns

    def counted(features, visible, lengths, diagnose):
        found.append(tuple(visible.shape[:2]))
        return score_patterns(features, visible, lengths, diagnose=diagnose)

    monkeypatch.setattr(made.model, "score_patterns", counted)
    return found


def test_patterns_that_damage_nothing_are_scored_in_one_pass_and_the_others_alone(scorer, monkeypatch):
    made = scorer(lengths=COMPLETE, size=3)  # scored at once are four times as many, as long as they are small
    found = calls(made, monkeypatch)
    made.predict(ROWS, patterns())
    undamaged = 12
    assert found == [(undamaged, 12), (undamaged, 8)] + [(1, 12), (1, 8)] * (len(PATTERNS) - undamaged)


def test_a_model_that_numbers_rows_has_patterns_together_where_they_score_the_same_rows(scorer, monkeypatch):
    chosen = patterns("all_subsets")
    complete, incomplete = (scorer(lengths=x, size=20, prototype_position="batch_row") for x in (COMPLETE, INCOMPLETE))
    found = calls(complete, monkeypatch)
    complete.predict(ROWS, chosen)
    assert found == [(7, 20)]
    found = calls(incomplete, monkeypatch)
    incomplete.predict(ROWS, chosen)
    assert len(found) > 3


@pytest.mark.parametrize("name", ["mcmoe", "momke"])
def test_router_weights_are_means_over_the_samples_that_a_pattern_scores(scorer, name):
    made, chosen = scorer(name), patterns(["VA", "F"])
    predictions, weights, _ = made.predict_and_diagnose(ROWS, chosen)
    assert_same(predictions, made.predict(ROWS, chosen), atol=0)
    for pattern in chosen.values():
        rows = ROWS[~np.isnan(predictions[pattern.name])]
        features, lengths = made.features.window(rows, made.clips)
        visible = torch.from_numpy(pattern.visible(made.features.available[rows], Draws.once(0, rows)))
        with torch.inference_mode():
            own = made.model.diagnostics(features, visible, lengths)["router_weights"].double().mean(dim=0)
        np.testing.assert_allclose(weights[pattern.name], own, rtol=0, atol=1e-6)


def test_a_pattern_that_leaves_nothing_of_any_sample_has_no_scores_and_no_router_weights(scorer):
    made = scorer(lengths={**COMPLETE, "flow": [0] * 24})
    predictions, weights, _ = made.predict_and_diagnose(ROWS, patterns(["VA", "F"]))
    assert np.isnan(predictions["F"]).all()
    assert np.isfinite(predictions["VA"]).all()
    assert list(weights) == ["VA"]


def test_models_are_not_asked_for_diagnostics_that_nobody_reads(scorer, monkeypatch):
    made = scorer("momke")
    monkeypatch.setattr(made.model, "diagnostics", lambda *arguments: pytest.fail("nobody asked"))
    made.predict(ROWS, patterns(["VA"]))


def test_models_without_a_router_have_no_router_weights(scorer):
    assert scorer("late_fusion").predict_and_diagnose(ROWS, patterns(["VA", "F"]))[1] == {}


@pytest.mark.parametrize("name", ["mcmoe", "late_fusion"])
def test_a_score_that_is_not_a_number_is_told_with_its_sample_and_pattern(scorer, name):
    made = scorer(name, lengths=COMPLETE)
    made.features.values["audio"][made.features.offsets[ROWS[3], 1]] = float("nan")
    with pytest.raises(AqaError, match=f"the model's score of 'video {ROWS[3]}' under VA is not a number"):
        made.predict(ROWS, patterns(["V", "VA", "A"]))
    assert np.isfinite(made.predict(ROWS, patterns(["V", "VF"]))["VF"]).all()


def test_no_rows_have_no_scores(scorer):
    assert scorer().predict(ROWS[:0], patterns(["VA"]))["VA"].shape == (0,)


def test_combinations_damage_features_if_a_part_of_them_does():
    hiding, damaging = {"combine": ["VA", {"rates": 0.5}]}, {"combine": ["VA", {"noise": {"std": 0.1}}]}
    parse = {str(s): parse_pattern(s, ("visual", "audio", "flow"), "here").damages for s in (hiding, damaging)}
    assert parse == {str(hiding): False, str(damaging): True}


UNEVEN = {m: [n + extra * (i % 3) for i, n in enumerate(COMPLETE[m])] for extra, m in enumerate(COMPLETE)}


@pytest.mark.parametrize("name", ALL_MODELS)
def test_a_pattern_among_others_knows_no_length_that_it_hides(scorer, name):
    chosen, alone = patterns(["VAF", "VA", "V", "F"]), patterns(["V"])
    found = [scorer(name, lengths=lengths).predict(ROWS, chosen)["V"] for lengths in (COMPLETE, UNEVEN)]
    if MODELS.get(name).make.shares_patterns:  # float32 rounding differs where patterns share work
        assert_same({"V": found[0]}, {"V": found[1]})
    else:
        np.testing.assert_array_equal(*found)
    found = [scorer(name, lengths=lengths).predict(ROWS, alone)["V"] for lengths in (COMPLETE, UNEVEN)]
    np.testing.assert_array_equal(*found)


def test_videos_whose_streams_have_one_length_share_a_pass_beside_others(scorer, monkeypatch):
    made = scorer(lengths=UNEVEN, size=20)
    found = calls(made, monkeypatch)
    made.predict(ROWS, patterns("all_subsets"))
    even = sum(i % 3 == 0 for i in ROWS)
    assert found[0] == (7, even)
    assert sum(count * rows for count, rows in found) == 7 * len(ROWS)
