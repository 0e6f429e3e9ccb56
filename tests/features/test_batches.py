"""Windows of clips, statistics, and the batches that training and scoring draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aqa.errors import AqaError
from aqa.features.batches import Features, scored_at_once, scoring_batches, training_batches
from aqa.missing import Draws, parse_pattern, sample_keys
from aqa.store.store import FeatureStore

WIDTHS = {"visual": 3, "audio": 2, "flow": 1}
LENGTHS = {"visual": [4, 6, 2, 5, 0, 3, 0, 7], "audio": [4, 6, 3, 0, 4, 3, 0, 7], "flow": [4, 5, 2, 0, 4, 3, 0, 7]}
SHORTEST = [4, 5, 2, 5, 4, 3, 0, 7]  # of the streams that each video has
EVERY = np.arange(8)


@pytest.fixture
def load(tiny_store):
    """A function that writes a tiny store, loads its features, and takes options for both."""

    def load(align="shortest", modalities=None, widths=None, lengths=None, **changes):
        with FeatureStore(tiny_store(lengths=lengths, **changes)) as store:
            return Features(store, align=align, modalities=modalities, widths=widths)

    return load


def clip_numbers(stream):
    """Which clips of their video a window (T, D) shows, by the values that the tiny store writes; 0 is padding."""
    return (stream[:, 0].abs() % 100).int().tolist()


def pattern(spec, modalities=tuple(WIDTHS)):
    return parse_pattern(spec, modalities, "missing.train")


def train_on(features, rows=EVERY, spec="none", available=None, size=3, seed=0, epoch=1, clips=4):
    available = features.available[rows] if available is None else available
    made = pattern(spec, features.modalities)
    return list(training_batches(features, rows, available, made, clips=clips, size=size, seed=seed, epoch=epoch))


def score_on(features, rows=EVERY, spec="none", size=3, clips=4):
    made = pattern(spec, features.modalities)
    return list(scoring_batches(features, rows, [made], clips=clips, size=size, seed=0))


def rows_of(batches):
    return [row for batch in batches for row in batch.rows.tolist()]


# Loading


def test_availability_and_lengths_follow_the_store(load):
    features = load(align="none")
    own = np.array(list(LENGTHS.values())).T
    np.testing.assert_array_equal(features.stored, own)
    np.testing.assert_array_equal(features.available, own > 0)
    assert features.modalities == tuple(WIDTHS)
    assert features.widths == WIDTHS


def test_modalities_choose_and_order_the_streams(load):
    features = load(modalities=["flow", "visual"])
    assert features.modalities == ("flow", "visual")
    np.testing.assert_array_equal(features.stored[:3], [[4, 4], [5, 6], [2, 2]])
    window, _ = features.window(np.array([7]), 7)
    assert {m: tuple(x.shape) for m, x in window.items()} == {"flow": (1, 7, 1), "visual": (1, 7, 3)}


def test_a_stream_that_the_store_lacks_is_absent_where_its_width_is_given(load):
    lengths = {"visual": [3, 2]}
    features = load(lengths=lengths, modalities=["visual", "pose"], widths={"visual": 3, "pose": 9})
    assert features.available.tolist() == [[True, False], [True, False]]
    assert features.stored.tolist() == [[3, 0], [2, 0]]
    window, kept = features.window(np.array([0, 1]), 4)
    assert window["pose"].shape == (2, 4, 9)
    assert not window["pose"].any()
    assert kept["pose"].tolist() == [0, 0]
    assert window["visual"][:, 0].any()


def test_a_modality_of_no_known_width_is_a_mistake(load):
    with pytest.raises(AqaError, match=r"tiny\.h5 has no modality 'visaul': did you mean 'visual'\?$"):
        load(modalities=["visaul"])


def test_another_width_than_the_models_is_a_mistake(load):
    with pytest.raises(AqaError, match=r"tiny\.h5: audio has 2 channels, the model was trained on 768$"):
        load(widths={"audio": 768})


def test_a_float16_store_is_loaded_as_float32(load):
    window, _ = load(dtype="float16").window(np.array([1]), 5)
    exact, _ = load(name="full.h5").window(np.array([1]), 5)
    assert window["visual"].dtype == torch.float32
    torch.testing.assert_close(window["visual"], exact["visual"], rtol=0, atol=0)  # halves of 100 fit in float16


# Windows


def test_a_window_is_the_middle_of_a_longer_stream(load):
    window, length = load().window(np.array([7, 0, 1]), 4)  # 7, 4 and 5 clips
    for m in WIDTHS:
        assert [clip_numbers(x) for x in window[m]] == [[2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4]]
        assert length[m].tolist() == [4, 4, 4]


def test_a_window_holds_the_stores_values(load, tiny_store):
    window, _ = load().window(np.array([7]), 3)
    with FeatureStore(tiny_store(name="again.h5")) as store:
        for m in WIDTHS:
            np.testing.assert_array_equal(window[m][0].numpy(), store.read_sample(m, 7)[2:5])


def test_a_shorter_stream_is_followed_by_zeros(load):
    window, length = load().window(np.array([2, 6, 3]), 4)  # 2 clips, none, and 5 of the visual stream alone
    assert clip_numbers(window["visual"][0]) == [1, 2, 0, 0]
    assert not window["visual"][0, 2:].any()
    assert {m: n.tolist() for m, n in length.items()} == {"visual": [2, 0, 4], "audio": [2, 0, 0], "flow": [2, 0, 0]}
    assert not window["visual"][1].any()
    assert not window["audio"][1:].any()


def test_places_cover_every_start_evenly(load):
    place = np.arange(0, 1, 0.001)
    window, _ = load().window(np.full(1000, 7), 4, place)  # 7 clips: starts 0 to 3
    starts = window["visual"][:, 0, 0].int() % 100
    assert torch.bincount(starts).tolist() == [0, 250, 250, 250, 250]
    ends = window["visual"][:, 3, 0].int() % 100
    torch.testing.assert_close(ends, starts + 3)


def test_all_streams_of_a_video_are_cropped_at_the_same_place(load):
    window, _ = load().window(np.array([7] * 9), 2, np.linspace(0, 0.99, 9))
    for m in WIDTHS:
        assert [clip_numbers(x) for x in window[m]] == [clip_numbers(x) for x in window["visual"]]


def test_unaligned_streams_keep_their_own_lengths(load):
    window, length = load(align="none").window(np.array([2]), 5)
    assert clip_numbers(window["visual"][0]) == [1, 2, 0, 0, 0]
    assert clip_numbers(window["audio"][0]) == [1, 2, 3, 0, 0]
    assert (length["visual"].item(), length["audio"].item()) == (2, 3)


@pytest.mark.parametrize(("place", "visual", "audio"), [(0.0, [1, 2], [1, 2, 3, 4]), (0.99, [3, 4], [5, 6, 7, 8])])
def test_a_crop_of_unaligned_streams_shows_the_same_stretch_of_the_video(load, place, visual, audio):
    features = load(align="none", lengths={"visual": [4], "audio": [8], "flow": [0]}, splits={"test": [0]})
    window, length = features.window(np.array([0]), 4, np.array([place]))
    assert clip_numbers(window["visual"][0]) == [*visual, 0, 0]
    assert clip_numbers(window["audio"][0]) == audio
    assert [length[m].item() for m in WIDTHS] == [2, 4, 0]


@pytest.mark.parametrize("bad", EVERY)
def test_a_videos_clips_never_reach_anothers_window(load, bad):
    features, others = load(), np.delete(EVERY, bad)
    for i, m in enumerate(WIDTHS):
        start = features.offsets[bad, i]
        features.values[m][start : start + LENGTHS[m][bad]] = torch.nan
    window, length = features.window(EVERY, 5)
    for i, m in enumerate(WIDTHS):
        assert torch.isnan(window[m][bad]).any() == features.available[bad, i]
        assert (window[m][others][:, :, 0] != 0).sum(dim=1).tolist() == length[m][others].tolist()
        assert not torch.isnan(window[m][others]).any()


@pytest.mark.parametrize("bad", [0, 3, 5, 7])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused_and_the_video_named(load, bad, value):
    def read(modality, row):
        return np.full((LENGTHS[modality][row], WIDTHS[modality]), value if row == bad else 1.0, np.float32)

    with pytest.raises(AqaError, match=rf"tiny\.h5: visual of 'video {bad}' holds NaN or inf; see aqa inspect$"):
        load(read=read)


# Statistics


def test_statistics_are_over_the_clips_of_the_rows_given_where_available(load):
    features = load()
    rows, available = np.array([0, 1, 3, 7]), np.ones((4, 3), bool)
    available[:, 1:] = features.available[rows][:, 1:]
    available[3, 0] = False  # hidden for good: must not count
    with_numbers = features.statistics(rows, available)
    taken = np.concatenate([100 * r + 1 + np.arange(SHORTEST[r]) for r in (0, 1, 3)])
    mean, std = with_numbers["visual"]
    np.testing.assert_allclose(mean, taken.mean() + 0.25 * np.arange(3), rtol=1e-6)
    np.testing.assert_allclose(std, np.full(3, taken.std()), rtol=1e-6)
    taken = -np.concatenate([100 * r + 1 + np.arange(SHORTEST[r]) for r in (0, 1, 7)])
    np.testing.assert_allclose(with_numbers["audio"][0], taken.mean() - 0.25 * np.arange(2), rtol=1e-6)


def test_standardized_channels_have_zero_mean_and_unit_deviation_over_those_rows(load):
    features = load()
    rows = np.array([0, 1, 2, 5])
    features.standardize(features.statistics(rows, features.available[rows]))
    for mean, std in features.statistics(rows, features.available[rows]).values():
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(std, torch.ones_like(std), atol=1e-5, rtol=0)
    other, _ = features.statistics(np.array([7]), features.available[[7]])["visual"]
    assert (other > 2).all()


def test_a_constant_channel_is_centred_and_not_divided(load):
    def read(modality, row):
        return np.full((LENGTHS[modality][row], WIDTHS[modality]), 5.0, np.float32)

    features = load(read=read)
    found = features.statistics(EVERY, features.available)
    assert found["visual"][1].tolist() == [1, 1, 1]
    features.standardize(found)
    assert all(not values.any() for values in features.values.values())


def test_a_constant_channel_is_left_as_it_is_though_its_mean_is_rounded(tiny_store):
    """Sums of 0.1 come to a deviation of 1e-17, by which another number in a test video would become enormous."""
    lengths = {"visual": [4, 6, 2, 5, 3, 3, 1, 7]}

    def read(modality, row):
        clips = np.full((lengths["visual"][row], 3), 0.1, np.float32)
        clips[:, 1] = np.float32(1 / 3) if row < 6 else 5.0
        clips[:, 2] = np.arange(len(clips))
        return clips

    with FeatureStore(tiny_store(lengths, read=read)) as store:
        features = Features(store)
    found = features.statistics(np.arange(6), features.available[:6])
    deviation = found["visual"][1]
    assert deviation[:2].tolist() == [1, 1]
    features.standardize(found)
    values = features.values["visual"]
    assert values[:, 0].abs().max() < 1e-6
    assert values[:, 1].abs().max() == pytest.approx(5 - 1 / 3)


def test_padding_stays_zero_after_standardizing(load):
    features = load()
    features.standardize(features.statistics(EVERY, features.available))
    window, _ = features.window(np.array([2]), 5)
    assert not window["visual"][0, 2:].any()
    assert window["visual"][0, :2].all()


def test_statistics_of_a_stream_that_no_training_video_has_are_a_mistake(load):
    features = load()
    with pytest.raises(AqaError, match=r"^data\.standardize: no training video has audio; leave it out"):
        features.statistics(np.array([0, 3]), np.array([[True, False, True], [True, False, False]]))


# Training batches


def test_an_epoch_shows_every_row_once_and_leaves_out_what_has_nothing_visible(load):
    batches = train_on(load(), rows=np.array([7, 6, 3, 2, 1, 0]), size=2)
    assert sorted(rows_of(batches)) == [0, 1, 2, 3, 7]
    assert max(len(batch.rows) for batch in batches) <= 2


def test_rows_without_anything_visible_are_left_out_even_where_a_whole_batch_is(load):
    batches = train_on(load(), spec="V", size=1)
    assert sorted(rows_of(batches)) == [0, 1, 2, 3, 5, 7]
    assert all(batch.visible.tolist() == [[True, False, False]] for batch in batches)


def test_epochs_and_seeds_shuffle_differently_and_the_same_ones_alike(load):
    features = load(lengths={"visual": [2] * 40, "audio": [2] * 40})
    orders = [rows_of(train_on(features, np.arange(40), seed=s, epoch=e)) for s, e in [(0, 1), (0, 1), (0, 2), (1, 1)]]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    assert orders[0] != sorted(orders[0])


def test_batches_carry_what_is_available_and_what_is_visible(load):
    features = load()
    for batch in train_on(features, spec="random_subset"):
        rows = batch.rows.numpy()
        np.testing.assert_array_equal(batch.available.numpy(), features.available[rows])
        assert not (batch.visible & ~batch.available).any()
        assert batch.visible.any(dim=1).all()
        for m in WIDTHS:
            assert batch.features[m].shape == (len(rows), 4, WIDTHS[m])
            assert (batch.features[m][:, 0, 0].abs() // 100).int().tolist() == [
                r * (n > 0) for r, n in zip(rows, batch.lengths[m], strict=True)
            ]


def test_random_subset_is_one_draw_a_training_batch(load):
    features = load(lengths={m: [2] * 48 for m in WIDTHS})
    batches = train_on(features, np.arange(48), spec="random_subset", size=8)
    assert all((batch.visible == batch.visible[0]).all() for batch in batches)
    assert len({tuple(batch.visible[0].tolist()) for batch in batches}) > 1


def test_a_samples_mask_and_crop_do_not_depend_on_the_batch_size(load):
    features = load(lengths={m: [9] * 24 for m in WIDTHS})

    def by_row(size):
        batches = train_on(features, np.arange(24), spec={"rates": 0.5}, size=size, clips=3)
        return {
            row: (batch.visible[i].tolist(), clip_numbers(batch.features["visual"][i]))
            for batch in batches
            for i, row in enumerate(batch.rows.tolist())
        }

    assert by_row(4) == by_row(24)
    assert len({tuple(crop) for _, crop in by_row(4).values()}) > 3


def test_random_crops_reach_the_first_and_the_last_start_and_change_by_epoch(load):
    features = load(lengths={m: [6] * 60 for m in WIDTHS})
    starts = []
    for epoch in (1, 2):
        crops = {}
        for batch in train_on(features, np.arange(60), size=60, clips=4, epoch=epoch):
            for i, row in enumerate(batch.rows.tolist()):
                crops[row] = clip_numbers(batch.features["flow"][i])[0]
        assert set(crops.values()) == {1, 2, 3}
        starts.append(crops)
    assert starts[0] != starts[1]


def test_what_a_fixed_pattern_took_away_is_no_longer_available_in_training(load):
    features, made = load(), pattern({"fixed": "VA"})
    remaining = made.remaining(features.available, Draws.once(0, sample_keys(features.ids)))
    for batch in train_on(features, spec={"fixed": "VA"}, available=remaining):
        assert not batch.available[:, 2].any()
        assert not batch.visible[:, 2].any()


def test_damage_is_done_to_training_batches(load):
    for batch in train_on(load(), rows=np.array([0, 1, 7]), spec={"shift": {"clips": 1}}):
        for m in WIDTHS:
            assert not batch.features[m][:, 0].any()
            assert batch.features[m][:, 1].all()


# Scoring batches


def test_scoring_keeps_the_order_and_leaves_out_rows_without_anything_visible(load):
    batches = score_on(load(), rows=np.array([7, 4, 6, 0, 3]), spec="VA", size=2)
    assert [batch.rows.tolist() for batch in batches] == [[7, 4], [0, 3]]
    assert torch.cat([batch.visible for batch in batches], dim=1)[0].tolist() == [
        [True, True, False],
        [False, True, False],
        [True, True, False],
        [True, False, False],
    ]


def test_scoring_takes_middle_crops_every_time(load):
    first, second = (torch.cat([b.features["visual"] for b in score_on(load(name=n), clips=3)]) for n in ("a", "b"))
    assert torch.equal(first, second)
    assert clip_numbers(first[-1]) == [3, 4, 5]


def test_scoring_under_a_random_pattern_does_not_depend_on_batches_or_other_rows(load):
    features = load(lengths={m: [3] * 30 for m in WIDTHS})

    def by_row(rows, size):
        batches = score_on(features, rows, spec="random_subset", size=size)
        return dict(
            zip(rows_of(batches), torch.cat([batch.visible for batch in batches], dim=1)[0].tolist(), strict=True),
        )

    whole = by_row(np.arange(30), 7)
    assert by_row(np.arange(30), 30) == whole
    assert by_row(np.array([20, 3]), 1) == {20: whole[20], 3: whole[3]}
    assert len({tuple(v) for v in whole.values()}) > 3


def test_no_rows_make_no_batches(load):
    nothing = np.array([], dtype=np.int64)
    assert score_on(load(), nothing) == []
    assert train_on(load(name="again.h5"), nothing) == []


@pytest.mark.parametrize(
    ("batch_size", "clips", "videos"), [(8, 10, 32), (8, 2**15, 16), (8, 2**16, 8), (8, 2**20, 8), (1, 1, 4)]
)
def test_small_videos_are_scored_four_times_as_many_at_once(batch_size, clips, videos):
    assert scored_at_once(batch_size, clips, [1, 1]) == videos
