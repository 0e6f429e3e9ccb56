"""Clips: what replacing them and following gradients says, on models whose answer is known."""

import pytest
import torch

from aqa.explaining.clips import ClipWindow, cut, occlusion, replaced, score_once
from aqa.explaining.deletion import deletion_curve
from aqa.explaining.gradients import integrated_gradients, level_stream
from aqa.models.base import AQAModel
from tests.models.test_contract import CLIPS, SUBSETS, WIDTHS, inputs, lengths, small


class PeakModel(AQAModel):
    """The score is a fifth of what the highest clip of the first channel has, or the product of two clips."""

    product = False

    def score(self, features, visible, lengths=None):
        found = torch.zeros(len(visible))
        for i, m in enumerate(self.modalities):
            rows = visible[:, i]
            first = features[m][rows][:, :, 0]
            found[rows] = found[rows] + (first[:, 0] * first[:, 1] if self.product else first.amax(dim=1)) / 5
        return found


def peaks(rows=2, clips=6):
    """Two streams of zeros with one peak each: at clip 1 of a, at clip 4 of b."""
    features = {m: torch.zeros(rows, clips, 2) for m in ("a", "b")}
    features["a"][:, 1, 0], features["b"][:, 4, 0] = 1.0, 2.0
    return features, {m: torch.full((rows,), clips) for m in features}


def test_windows_cover_a_stream_once():
    windows = cut(3, 1, 70)
    assert [w.start for w in windows] == list(range(0, 70, 3))
    assert windows[-1] == ClipWindow(3, 1, 69, 70)
    assert cut(0, 0, 1) == cut(0, 0, 5, 5) == cut(0, 0, 0) == []
    assert len(cut(0, 0, 5, 2)) == 3


def test_occlusion_names_the_peaks():
    features, clips = peaks()
    model, visible = PeakModel({"a": 2, "b": 2}), torch.tensor([[True, True], [True, False]])
    windows = [w for row in range(2) for m in range(2) if visible[row, m] for w in cut(row, m, 6, 1)]
    found = occlusion(model, features, visible, clips, windows, size=4)
    by_window = dict(zip(windows, found.tolist(), strict=True))
    assert by_window[ClipWindow(0, 0, 1, 2)] == pytest.approx(1 / 5)  # the other clips are 0
    assert by_window[ClipWindow(0, 1, 4, 5)] == pytest.approx(2 / 5)
    others = [value for w, value in by_window.items() if (w.stream, w.start) not in ((0, 1), (1, 4))]
    assert others == pytest.approx([0.0] * len(others), abs=1e-7)


def test_replaced_clips_are_the_mean_of_the_others_and_padding_stays():
    stream = torch.arange(10.0).view(1, 5, 2)
    masks = {"a": torch.tensor([[True, False, False, True, True]])}
    found = replaced({"a": stream}, {"a": torch.tensor([4])}, masks)["a"]
    mean = stream[0, 1:3].mean(dim=0)
    assert torch.equal(found[0], torch.stack([mean, stream[0, 1], stream[0, 2], mean, stream[0, 4]]))
    everything = {"a": torch.ones(1, 5, dtype=torch.bool)}
    assert torch.equal(replaced({"a": stream}, {"a": torch.tensor([4])}, everything)["a"], stream)


def test_gradients_of_a_linear_score_are_its_terms():
    model, slope = PeakModel({"a": 2}), torch.tensor([1.0, 2, 3])
    model.score = lambda features, visible, lengths=None: (features["a"][:, :, 0] * slope).sum(1)
    features = {"a": torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))}
    visible = torch.ones(4, 1, dtype=torch.bool)
    found = integrated_gradients(model, features, visible, {"a": torch.full((4,), 3)}, steps=2)["a"]
    first = features["a"][:, :, 0].double()
    torch.testing.assert_close(found, (first - first.mean(dim=1, keepdim=True)) * slope, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["mcmoe", "mome", "ridge"])
def test_gradients_add_up_to_what_moments_add(name):
    model, features, clips = small(name), inputs(7), lengths(7)
    level = {m: level_stream(x, clips[m], SUBSETS[:, i]) for i, (m, x) in enumerate(features.items())}
    whole, alike = (score_once(model, x, SUBSETS, clips) for x in (features, level))
    added = integrated_gradients(model, features, SUBSETS, clips)
    total = sum(part.sum(dim=1) for part in added.values())
    torch.testing.assert_close(total, whole - alike, rtol=0.02, atol=1e-4)
    assert all((part[~SUBSETS[:, i]] == 0).all() for i, part in enumerate(added.values()))


@pytest.mark.parametrize("name", ["mcmoe", "late_fusion", "gaussian_process", "momke"])
def test_hidden_values_and_lengths_change_no_explanation(name):
    model, clean = small(name), inputs(7)
    windows = [w for row in range(7) for i in range(3) if SUBSETS[row, i] for w in cut(row, i, CLIPS, 3)]
    hidden = {m: ~SUBSETS[:, i] for i, m in enumerate(WIDTHS)}
    poisoned = {m: x.masked_fill(hidden[m].view(-1, 1, 1), torch.nan) for m, x in clean.items()}
    others = {m: torch.where(hidden[m], 1, CLIPS) for m in WIDTHS}
    found = [occlusion(model, x, SUBSETS, clips, windows, 5) for x, clips in ((clean, lengths(7)), (poisoned, others))]
    assert torch.equal(*found)
    if model.differentiable:
        one, other = (
            integrated_gradients(model, x, SUBSETS, c, 2) for x, c in ((clean, lengths(7)), (poisoned, others))
        )
        assert all(torch.equal(one[m], other[m]) for m in WIDTHS)


def test_deleting_the_clips_named_most_important_moves_the_score_most():
    features, clips = peaks()
    model, visible = PeakModel({"a": 2, "b": 2}), torch.tensor([[True, True], [True, False]])
    important = {m: x[:, :, 0] for m, x in features.items()}
    curve = deletion_curve(model, features, visible, clips, important, [0, 1 / 12, 1 / 6])
    # Row 0 shows 12 clips: the peak of b goes first, then that of a. Row 1 shows 6 clips of a alone.
    torch.testing.assert_close(curve[:, 0], torch.tensor([0.0, 2 / 5, 3 / 5]).double())
    torch.testing.assert_close(curve[:, 1], torch.tensor([0.0, 0.0, 1 / 5]).double())
    least = {m: -x for m, x in important.items()}
    assert (deletion_curve(model, features, visible, clips, least, [1 / 2])[0] <= 1e-6).all()
