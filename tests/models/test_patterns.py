"""Models that share work between patterns score as under each pattern alone, and encode each stream once."""

import pytest
import torch
from torch import nn

from aqa.models import MODELS
from aqa.models.base import AQAModel, Encoded, RowScores
from tests.models.test_contract import CLIPS, SUBSETS, WIDTHS, padded, poisoned_lengths, small

SHARING = [entry.name for entry in MODELS.entries() if entry.make.shares_patterns]
EVERY_SHARING_MODEL = pytest.mark.parametrize("name", SHARING)
# What takes each stream by itself, by model: parts that one look at each stream is enough for.
ENCODERS = {
    "actionmae": ["temporal.{}"],
    "dimml": ["encoders.{}"],
    "grade_decoder": ["projections.{}"],
    "late_fusion": ["projections.{}", "networks.{}"],
    "mea": ["projections.{}", "exclusive_encoders.{}", "self_attention.{}"],
    "momke": ["projections.{}", "experts.{}", "routers.{}"],
    "mome": ["experts.{}"],
    "pamfn": ["branches.{}"],
    "simmlm": ["experts.{}"],
    "temporal_convolution": ["projections.{}"],
}
ABSENT = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)  # available
ROWS = len(ABSENT)


def every_subset(available):
    """Every subset of three modalities of what each row has: available (B, 3) -> (7, B, 3)."""
    return SUBSETS.unsqueeze(1) & available


def streams(available, poison=0.0):
    """Videos of several lengths, the features of streams that they lack replaced by something."""
    features, length = padded(len(available))
    hidden = {m: ~available[:, i].view(-1, 1, 1) for i, m in enumerate(WIDTHS)}
    return {m: x.masked_fill(hidden[m], poison) for m, x in features.items()}, dict.fromkeys(WIDTHS, length)


def together(model, features, visible, lengths):
    with torch.inference_mode():
        return model.score_patterns(features, visible, lengths, diagnose=True)


def alone(model, features, visible, lengths):
    with torch.inference_mode():
        return model.score_one_by_one(features, visible, lengths, diagnose=True)


def assert_same(found, expected):
    """To 1e-6: a product of another number of rows may round another way, as in any batch of another size."""
    torch.testing.assert_close(found.score, expected.score, rtol=0, atol=1e-6, equal_nan=True)
    for ours, plain in zip(found.diagnostics, expected.diagnostics, strict=True):
        assert ours.keys() == plain.keys()
        for name, values in plain.items():
            torch.testing.assert_close(ours[name], values, rtol=0, atol=1e-6, equal_nan=True, msg=name)


@EVERY_SHARING_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_scores_and_diagnostics_are_those_of_each_pattern_alone(name, mask):
    """With padding, streams that a video lacks, and a video that has nothing; again without lengths and reversed."""
    model, visible = small(name, mask_padding=mask), every_subset(ABSENT)
    features, lengths = streams(ABSENT)
    found = together(model, features, visible, lengths)
    assert torch.equal(found.score.isnan(), ~visible.any(dim=2))
    assert_same(found, alone(model, features, visible, lengths))
    assert_same(together(model, features, visible, None), alone(model, features, visible, None))
    reversed_rows = ({m: x.flip(0) for m, x in each.items()} for each in (features, lengths))
    backwards = together(model, next(reversed_rows), visible.flip(1), next(reversed_rows))
    torch.testing.assert_close(backwards.score.flip(1), found.score, rtol=0, atol=1e-6, equal_nan=True)


@EVERY_SHARING_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_they_are_the_same_bits_where_videos_have_all_streams(name, mask):
    """Every product then has as many rows as under a pattern alone. MCMoE regroups sums as well."""
    model, visible = small(name, mask_padding=mask), every_subset(torch.ones_like(ABSENT))
    features, lengths = streams(torch.ones_like(ABSENT))
    found, expected = (way(model, features, visible, lengths) for way in (together, alone))
    assert name == "mcmoe" or torch.equal(found.score, expected.score)


@EVERY_SHARING_MODEL
def test_streams_of_different_lengths_count_under_each_pattern_as_they_do_alone(name):
    model, visible = small(name, mask_padding=True), every_subset(torch.ones_like(ABSENT))
    features, length = padded(ROWS)
    lengths = {"visual": length, "audio": torch.full((ROWS,), CLIPS), "flow": 1 + torch.arange(ROWS) % CLIPS}
    assert_same(together(model, features, visible, lengths), alone(model, features, visible, lengths))


@EVERY_SHARING_MODEL
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_what_a_pattern_hides_does_not_change_a_bit_of_its_scores_though_another_shows_it(name, poison):
    model, visible = small(name), every_subset(torch.ones_like(ABSENT))
    features, lengths = streams(torch.ones_like(ABSENT))
    clean = together(model, features, visible, lengths)
    features["audio"][2] = poison
    spoiled = together(model, features, visible, lengths)
    untouched = ~visible[:, :, 1] | (torch.arange(ROWS) != 2)
    assert torch.equal(spoiled.score[untouched], clean.score[untouched])
    assert (spoiled.score != clean.score)[~untouched].any()
    for p, hidden in enumerate(~SUBSETS[:, 1]):
        for key, values in clean.diagnostics[p].items() if hidden else ():
            assert torch.equal(spoiled.diagnostics[p][key].nan_to_num(-1), values.nan_to_num(-1)), key


@EVERY_SHARING_MODEL
@pytest.mark.parametrize("mask", [False, True])
def test_what_all_patterns_hide_and_videos_lack_does_not_change_a_bit(name, mask):
    model, visible = small(name, mask_padding=mask), every_subset(ABSENT)
    features, lengths = streams(ABSENT)
    clean = together(model, features, visible, lengths).score
    for poison, length in ((float("nan"), 0), (float("-inf"), 10 * CLIPS), (1e30, 1)):
        poisoned = poisoned_lengths(lengths["visual"], ABSENT, length)
        spoiled = together(model, streams(ABSENT, poison)[0], visible, poisoned).score
        assert torch.equal(spoiled.nan_to_num(-1), clean.nan_to_num(-1))


def calls(model, names):
    """What each of the named parts is called with from now on: by name the rows or clips of each call."""
    found = {name: [] for name in names}
    for name in names:
        hook = lambda part, given, out, name=name: found[name].append(len(given[0]))  # noqa: E731
        model.get_submodule(name).register_forward_hook(hook)
    return found


def parts_of(name):
    return [part.format(m) for part in ENCODERS[name] for m in WIDTHS]


def test_every_model_that_shares_patterns_says_what_it_does_once():
    assert {*ENCODERS, "mcmoe"} == set(SHARING)


@pytest.mark.parametrize("name", ENCODERS)
def test_each_stream_is_encoded_once_however_many_patterns_show_it(name):
    model, visible = small(name), every_subset(ABSENT)
    features, lengths = streams(ABSENT)
    found = calls(model, parts_of(name))
    together(model, features, visible, lengths)
    everything, counted = {part: list(rows) for part, rows in found.items()}, visible.any(dim=0)
    for rows in found.values():
        rows.clear()
    together(model, features, counted.unsqueeze(0), lengths)  # one pattern, that shows all that any shows
    assert found == everything
    assert all(found.values())


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoders_are_all_that_looks_at_features(name):
    """Once streams are encoded, features may be gone: nothing of the rest of the model reads them."""
    model, visible = small(name), every_subset(ABSENT)
    features, lengths = streams(ABSENT)
    expected = together(model, features, visible, lengths).score
    with torch.inference_mode():
        encoded = model.encode(features, visible.any(dim=0), lengths)
        for stream in features.values():
            stream.fill_(float("nan"))
        found = [model.fuse(encoded.shown(seen), seen[seen.any(dim=1)]).score for seen in visible]
    assert torch.equal(torch.cat(found), expected[visible.any(dim=2)])


def test_encoded_streams_show_rows_that_have_something_and_zeros_where_hidden():
    first, second = torch.arange(1.0, 7).view(3, 2), torch.ones(3, dtype=torch.bool)
    first[0, 0] = float("nan")
    clips = torch.tensor([[True, False], [True, True], [True, True]])
    encoded = Encoded({"visual": (first, second), "audio": (first.clone(), second)}, clips)
    shown = encoded.shown(torch.tensor([[False, True], [False, False], [True, True]]))
    assert torch.equal(shown.streams["visual"][0], torch.tensor([[0.0, 0.0], [5.0, 6.0]]))
    assert torch.equal(shown.streams["visual"][1], torch.tensor([False, True]))
    assert torch.equal(shown.streams["audio"][0].nan_to_num(-1), torch.tensor([[-1.0, 2.0], [5.0, 6.0]]))
    assert torch.equal(shown.clips, clips[[0, 2]])
    whole = encoded.shown(torch.ones(3, 2, dtype=torch.bool))
    assert whole.streams["audio"][0] is encoded.streams["audio"][0]  # nothing is copied that need not be
    assert not encoded.shown(torch.tensor([[False, True]] * 3)).streams["visual"][0].any()


class Summed(AQAModel):
    """A model as a plugin may be: encoded and fused, or all in one."""

    def __init__(self, shares):
        super().__init__(WIDTHS)
        self.shares_patterns, self.encoded = shares, 0
        self.weights = nn.ParameterDict({m: torch.linspace(-1, 1, width) for m, width in WIDTHS.items()})

    def encode(self, features, seen, lengths=None):
        self.encoded += 1
        kept = {m: x.masked_fill(~seen[:, i].view(-1, 1, 1), 0) for i, (m, x) in enumerate(features.items())}
        return Encoded({m: ((x @ self.weights[m]).mean(dim=1),) for m, x in kept.items()})

    def fuse(self, encoded, visible):
        total = sum(part for (part,) in encoded.streams.values()).sigmoid()
        return RowScores(total, {"streams": visible.sum(dim=1)})


def test_a_model_encodes_once_only_where_it_says_that_hidden_streams_are_zeros():
    features, visible = padded(ROWS)[0], every_subset(ABSENT)
    sharing, plain = Summed(True), Summed(False)
    found, expected = (model.score_patterns(features, visible) for model in (sharing, plain))
    assert torch.equal(found.score.nan_to_num(-1), expected.score.nan_to_num(-1))
    assert (sharing.encoded, plain.encoded) == (1, 7)
    for model in (sharing, plain):
        assert model.score_patterns(features, visible).diagnostics == [{}] * 7
        said = model.score_patterns(features, visible, diagnose=True).diagnostics
        assert [one["streams"].tolist() for one in said] == [[n for n in row if n] for row in visible.sum(2).tolist()]


def test_patterns_that_leave_nothing_of_any_video_have_no_scores():
    nothing = torch.zeros(2, ROWS, 3, dtype=torch.bool)
    found = Summed(True).score_patterns(padded(ROWS)[0], nothing, diagnose=True)
    assert found.score.isnan().all()
    assert found.diagnostics == [{}, {}]
