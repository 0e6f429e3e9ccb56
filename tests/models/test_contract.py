"""What every registered model promises, checked on each of them."""

import copy
import functools

import pytest
import torch

from aqa.models import MODELS, build
from aqa.models.base import Example
from aqa.models.ensemble import visible_sets
from aqa.registry import option_names
from tests.models.tiny_llm import ALL_MODELS, without_default

WIDTHS = {"visual": 12, "audio": 8, "flow": 10}
CLIPS = 7
SMALL = {"hidden_dim": 16, "n_encoder": 1, "n_decoder": 1}
SUBSETS = torch.tensor([[v, a, f] for v in (1, 0) for a in (1, 0) for f in (1, 0) if v or a or f], dtype=torch.bool)
EVERY_MODEL = pytest.mark.parametrize("name", ALL_MODELS)
# The ensemble is trained member by member; in these tests its networks have the weights that they start with.
CLOSED_FORM = {entry.name for entry in MODELS.entries() if entry.make.closed_form} | {"ensemble"}
NO_GRADIENT = pytest.mark.skip(reason="fitted in closed form, not by gradients")
EVERY_MODEL_WITH_GRADIENTS = pytest.mark.parametrize(
    "name",
    [pytest.param(*p.values, marks=NO_GRADIENT if p.values[0] in CLOSED_FORM else p.marks) for p in ALL_MODELS],
)


def small(name, widths=WIDTHS, **options):
    """The model, small and with weights that make scores differ; the same at each call, random numbers after it too."""
    model, random = made(name, tuple(widths.items()), tuple(options.items()))
    torch.set_rng_state(random)
    return copy.deepcopy(model)


@functools.cache
def made(name, widths, options):
    """What `small` returns copies of, and torch's random state once it is made."""
    torch.manual_seed(0)
    widths, taken = dict(widths), option_names(MODELS.get(name).make)
    wanted = {**SMALL, **without_default(name), **dict(options)}
    model = build(name, widths=widths, **{k: v for k, v in wanted.items() if k in taken})
    model.train()
    with torch.no_grad():
        for _ in range(3):  # batch-norm statistics away from their initial values
            # A model in closed form knows of hidden streams what one fit has shown it.
            visible = ones(16, widths) if name not in CLOSED_FORM else counted_in_binary(16, widths)
            learn(model, inputs(16, widths, seed=9), torch.rand(16), visible)
    return model.eval(), torch.get_rng_state()


def learn(model, features, target, visible, available=None, clips=None):
    """The loss of one batch; a model in closed form is fitted to it, and so are the weights of an ensemble."""
    available = visible if available is None else available
    clips = lengths(len(target), features) if clips is None else clips
    if model.trained_apart != [model]:
        losses = [learn(part, features, target, visible, available, clips).detach() for part in model.trained_apart]
        weigh(model, features, target, available, clips)
        return torch.stack([loss.double() for loss in losses]).sum()
    if model.closed_form:
        return torch.tensor(model.fit([Example(features, target, visible, available, clips)])["loss"])
    return model.loss(features, target, visible, available, clips).total


def weigh(model, features, target, available, clips):
    """Give an ensemble the weights of what its members score after they have learned."""
    found = torch.full((len(model.members), len(visible_sets(available.shape[1])), len(target)), torch.nan)
    model.eval()
    for s, visible in enumerate(visible_sets(available.shape[1])):
        seen = available & torch.tensor(visible)
        rows = seen.any(dim=1)
        taken = ({m: x[rows] for m, x in each.items()} for each in (features, clips))
        with torch.no_grad():
            found[:, s, rows] = model.member_scores(next(taken), seen[rows], next(taken))
    model.weigh(found.double().numpy(), target.double().numpy(), available.numpy())
    model.train()


def inputs(rows, widths=WIDTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(rows, CLIPS, d, generator=generator) for m, d in widths.items()}


def ones(rows, widths=WIDTHS):
    return torch.ones(rows, len(widths), dtype=torch.bool)


def counted_in_binary(rows, widths=WIDTHS):
    """Every subset of the modalities in turn, the complete one where none would be visible."""
    visible = (torch.arange(rows).unsqueeze(1) >> torch.arange(len(widths))) % 2 == 1
    return visible | ~visible.any(dim=1, keepdim=True)


def lengths(rows, widths=WIDTHS):
    return {m: torch.full((rows,), CLIPS) for m in widths}


def score(model, features, visible):
    rows = len(visible)
    with torch.no_grad():
        return model.score(features, visible, lengths(rows, features))


ODD_NAMES = ["a.b", "forward", "__class__", "training", "c d"]


@EVERY_MODEL
def test_modalities_may_have_any_name_that_stores_take(name):
    """The same scores under other names: the tokenizer of the tiny language model does not know any of them."""
    odd, plain = ({prefix + m: 4 for m in ODD_NAMES} for prefix in ("", "plain"))
    names = dict(zip(plain, odd, strict=True))
    features = inputs(3, plain)
    expected = score(small(name, plain), features, counted_in_binary(3, plain))
    found = score(small(name, odd), {names[m]: x for m, x in features.items()}, counted_in_binary(3, odd))
    assert torch.equal(found, expected)


@EVERY_MODEL
def test_scores_lie_in_the_unit_interval_for_every_visibility(name):
    scores = score(small(name), inputs(7), SUBSETS)
    assert scores.shape == (7,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.std() > 0


@EVERY_MODEL
def test_lengths_may_be_left_out(name):
    model = small(name)
    with torch.no_grad():
        assert torch.equal(model.score(inputs(7), SUBSETS), score(model, inputs(7), SUBSETS))


@EVERY_MODEL
def test_a_score_does_not_depend_on_other_rows_or_batch_size(name):
    model, features = small(name), inputs(7)
    together = score(model, features, SUBSETS)
    alone = torch.cat(
        [score(model, {m: x[i : i + 1] for m, x in features.items()}, SUBSETS[i : i + 1]) for i in range(7)]
    )
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    shuffled = score(model, {m: x[order] for m, x in features.items()}, SUBSETS[order])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together[order], shuffled, atol=1e-5)


@EVERY_MODEL
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_a_score_does_not_depend_on_hidden_values(name, poison):
    model, features = small(name), inputs(7)
    poisoned = {m: x.masked_fill(~SUBSETS[:, i].view(-1, 1, 1), poison) for i, (m, x) in enumerate(features.items())}
    assert torch.equal(score(model, features, SUBSETS), score(model, poisoned, SUBSETS))


def padded(rows):
    """Videos of 3 to CLIPS clips, and features with zeros after them."""
    length = 3 + torch.arange(rows) % (CLIPS - 2)
    real = torch.arange(CLIPS) < length.unsqueeze(1)
    return {m: x * real.unsqueeze(-1) for m, x in inputs(rows).items()}, length


def poisoned_lengths(length, seen, poison):
    """Lengths of streams (B,), another number where they are not seen (B, M)."""
    return {m: torch.where(seen[:, i], length, poison) for i, m in enumerate(WIDTHS)}


@EVERY_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_a_score_does_not_depend_on_hidden_lengths(name, mask):
    model, (features, length) = small(name, mask_padding=mask), padded(7)
    patterns = torch.stack([SUBSETS, SUBSETS & torch.tensor([True, True, False])])
    patterns[:, ~patterns[1].any(dim=1)] = torch.tensor([True, False, False])

    def scores(poison):
        clips = poisoned_lengths(length, SUBSETS, poison)
        together = poisoned_lengths(length, patterns.any(dim=0), poison)
        with torch.no_grad():
            alone, found = model.score(features, SUBSETS, clips), model.score_patterns(features, patterns, together)
        return torch.cat([alone, found.score.flatten()])

    expected = scores(CLIPS)
    for poison in (0, 1, 10 * CLIPS):
        assert torch.equal(scores(poison), expected)


@EVERY_MODEL
def test_patterns_together_are_scored_as_each_alone_and_nothing_hidden_in_one_leaks_from_another(name):
    model, features = small(name), inputs(7)
    visible = torch.stack([SUBSETS, SUBSETS.roll(2, dims=0), SUBSETS & torch.tensor([True, False, True])])
    features["audio"][0] = float("nan")  # visible to row 0 in the first pattern only
    visible[1, 0, 1] = False
    with torch.no_grad():
        together = model.score_patterns(features, visible, lengths(7)).score
    assert torch.equal(together.isnan()[1:], ~visible.any(dim=2)[1:])
    for scores, seen in zip(together, visible, strict=True):
        rows = seen.any(dim=1)
        alone = score(model, {m: x[rows] for m, x in features.items()}, seen[rows])
        torch.testing.assert_close(scores[rows], alone, rtol=0, atol=1e-6, equal_nan=True)


def said(model, features, visible, clips):
    with torch.no_grad():
        return model.score_patterns(features, visible, clips, diagnose=True).diagnostics


@EVERY_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_what_a_model_says_of_a_score_depends_on_nothing_hidden(name, mask):
    model, (features, length) = small(name, mask_padding=mask), padded(7)
    patterns = torch.stack([SUBSETS, SUBSETS & torch.tensor([True, True, False])])
    patterns[:, ~patterns[1].any(dim=1)] = torch.tensor([True, False, False])
    seen = patterns.any(dim=0)
    poisoned = {m: x.masked_fill(~seen[:, i].view(-1, 1, 1), torch.nan) for i, (m, x) in enumerate(features.items())}
    expected = said(model, features, patterns, poisoned_lengths(length, seen, CLIPS))
    found = said(model, poisoned, patterns, poisoned_lengths(length, seen, 1))
    for one, other in zip(expected, found, strict=True):
        assert set(one) == set(other)
        for key, values in one.items():
            torch.testing.assert_close(values, other[key], rtol=0, atol=0, equal_nan=True, msg=key)


STATES_A_DEVIATION = {
    *("actionmae", "dimml", "gaussian_process", "grade_decoder", "late_fusion", "mcmoe", "mea", "mean_fill"),
    *("modality_dropout", "mome", "zero_fill"),
}


@EVERY_MODEL
def test_a_deviation_is_stated_by_models_with_a_distribution_and_is_one_of_the_unit_interval(name):
    model, features = small(name), inputs(7)
    patterns = torch.stack([SUBSETS, torch.ones_like(SUBSETS)])
    found = said(model, features, patterns, lengths(7))
    assert ["deviation" in one for one in found] == [name in STATES_A_DEVIATION] * 2
    for one, visible in zip(found, patterns, strict=True):
        if "deviation" in one:
            assert one["deviation"].shape == (7,)
            assert ((one["deviation"] > 0) & (one["deviation"] <= 0.5)).all()
            alone = said(model, features, visible.unsqueeze(0), lengths(7))[0]["deviation"]
            torch.testing.assert_close(one["deviation"], alone, rtol=0, atol=1e-6)


@EVERY_MODEL
def test_a_score_depends_on_visible_values(name):
    model, features = small(name), inputs(7)
    changed = {
        m: x + 1.0 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5)) for m, x in features.items()
    }
    assert (score(model, features, SUBSETS) != score(model, changed, SUBSETS)).all()


@EVERY_MODEL_WITH_GRADIENTS
def test_the_loss_is_finite_and_its_gradient_reaches_every_parameter(name):
    model = small(name).train()
    features, target = inputs(14), torch.rand(14, generator=torch.Generator().manual_seed(2))
    loss = model.loss(features, target, SUBSETS.repeat(2, 1), ones(14), lengths(14))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert all(part.dim() == 0 and torch.isfinite(part) for part in loss.parts.values())
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    assert sum(bool((p.grad != 0).any()) for p in model.parameters()) > 0.9 * len(list(model.parameters()))


@EVERY_MODEL
@pytest.mark.parametrize("poison_of_lengths", [CLIPS, 0, 1, 10 * CLIPS])
def test_the_loss_never_looks_at_what_is_not_available(name, poison_of_lengths):
    available = SUBSETS.repeat(2, 1)
    visible = available & torch.tensor([True, True, False])
    visible[~visible.any(dim=1)] = available[~visible.any(dim=1)]
    target = torch.rand(14, generator=torch.Generator().manual_seed(2))

    (sound, length), mask = padded(14), poison_of_lengths != CLIPS

    def total(poison, clips):
        features = {m: x.masked_fill(~available[:, i].view(-1, 1, 1), poison) for i, (m, x) in enumerate(sound.items())}
        model = small(name, dropout=0.0, mask_padding=mask).train()
        loss = learn(model, features, target, visible, available, poisoned_lengths(length, available, clips))
        if name in CLOSED_FORM:
            return loss, torch.cat([buffer.flatten() for buffer in model.buffers()])
        loss.backward()
        learned = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        return loss.detach(), torch.stack(learned + [buffer.double().norm() for buffer in model.buffers()])

    (clean, clean_learned), (poisoned, poisoned_learned) = total(0.0, CLIPS), total(float("nan"), poison_of_lengths)
    assert torch.equal(clean, poisoned)
    assert torch.equal(clean_learned, poisoned_learned)


@EVERY_MODEL
@pytest.mark.parametrize(
    "widths", [{"sound": 6}, {"pitch": 1}, {"left": 4, "right": 1}, {"a": 4, "b": 5, "c": 6, "d": 7}]
)
def test_any_set_of_modalities_works(name, widths):
    model = small(name, widths)
    features, visible = inputs(5, widths), ones(5, widths)
    visible[1:, 0] = len(widths) == 1
    assert model.modalities == tuple(widths)
    assert score(model, features, visible).unique().shape == (5,)
    assert torch.isfinite(learn(model.train(), features, torch.rand(5), visible, ones(5, widths)))


@EVERY_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_batches_with_next_to_nothing_in_them_can_be_learned_from(name, mask):
    """One video of one clip, and a modality that no video of the batch has."""
    model = small(name, mask_padding=mask).train()
    visible = torch.tensor([[True, False, False]])
    one_clip = {m: torch.ones(1, dtype=torch.long) for m in WIDTHS}
    for rows in (1, 4):
        clips = {m: n.expand(rows) for m, n in one_clip.items()}
        loss = learn(model, inputs(rows), torch.rand(rows), visible.expand(rows, -1), clips=clips)
        if name not in CLOSED_FORM:
            loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(torch.isfinite(buffer).all() for buffer in model.buffers())


@EVERY_MODEL
def test_weights_survive_a_round_trip(name):
    model, other = small(name), small(name)
    with torch.no_grad():
        for learned in other.state_dict().values() if name in CLOSED_FORM else other.parameters():
            if learned.is_floating_point():
                learned.add_(1.0)
    assert not torch.equal(score(model, inputs(7), SUBSETS), score(other, inputs(7), SUBSETS))
    other.load_state_dict(model.state_dict())
    assert torch.equal(score(model, inputs(7), SUBSETS), score(other, inputs(7), SUBSETS))


@EVERY_MODEL_WITH_GRADIENTS
def test_a_small_batch_can_be_learned(name):
    model = small(name, dropout=0.0).train()
    features, target = inputs(8), torch.linspace(0.2, 0.8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, 121):
        optimizer.zero_grad()
        model.loss(features, target, ones(8), ones(8), lengths(8)).total.backward()
        optimizer.step()
        if step % 20 == 0:
            learned = model.score(features, ones(8), lengths(8)).detach()  # in training mode: batch statistics
            agreement = torch.corrcoef(torch.stack([learned, target]))[0, 1]
            if agreement > 0.95:
                break
    assert agreement > 0.9


@EVERY_MODEL
def test_the_entry_says_which_paper_it_follows(name):
    entry = MODELS.get(name)
    assert entry.about["paper"]
    assert entry.about["year"] >= (1970 if name in CLOSED_FORM else 2016)  # ridge regression is from 1970
    assert entry.summary
