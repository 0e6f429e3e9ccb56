"""Synthetic performances in which moments matter: what can be known of them, and the stores they make."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy import stats

from aqa.errors import AqaError
from aqa.store.draws import mixing
from aqa.store.fingerprint import fingerprint_of
from aqa.store.inspect import inspect_store
from aqa.store.moment_ceilings import linear_srcc, simulated_ceilings
from aqa.store.moments import FALL, MARK, MOMENTS, OWN, SHARED, marked_clips, quality, simulate_moments
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store

SUBSETS = ["VAF", "VA", "VF", "AF", "V", "A", "F"]
TINY = MOMENTS["moments_tiny"]
LENGTH = 29


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_synthetic("moments_tiny", tmp_path_factory.mktemp("moments") / "tiny.h5", samples=12)


@pytest.fixture(scope="module")
def simulated():
    """Latent numbers by modality, channel statistics, those of filler alone, and quality, of 16,000 performances."""
    rng = np.random.default_rng(3)
    parts = [_simulated(rng, 2000) for _ in range(8)]
    latent = {m: np.concatenate([part[0][m] for part in parts]) for m in TINY.streams}
    return latent, *(np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))


def _simulated(rng, n):
    features, drawn = simulate_moments(TINY, n, LENGTH, rng)
    latent, filler = {}, []
    for position, (m, stream) in enumerate(TINY.streams.items()):
        directions = 3 + stream.falls
        basis, offset = mixing(stream.width, directions + TINY.nuisance_dims, position, 0)
        latent[m] = (features[m] - offset) @ basis[:, :directions]
        rest = features[m][~marked_clips(TINY, m, drawn)].reshape(n, LENGTH - TINY.elements, -1)
        filler.append(_statistics(rest))
    everything = [_statistics(x) for x in features.values()]
    return latent, np.concatenate(everything, 1), np.concatenate(filler, 1), quality(TINY, "score", drawn)


def _statistics(x):
    return np.concatenate([x.mean(axis=1), x.std(axis=1)], axis=1)


def _regressed(x, q):
    """SRCC on the second half of the videos of least squares from the first."""
    x, half = np.c_[x, np.ones(len(x))], len(x) // 2
    weights = np.linalg.lstsq(x[:half], q[:half], rcond=None)[0]
    return stats.spearmanr(x[half:] @ weights, q[half:])[0]


def _oracle(latent, subset):
    """Finds the marked clips, compares streams in time as the docstring of `moments` says, and weighs what it reads."""
    score = TINY.targets["score"]
    onsets, read = [], {}
    for m, values in latent.items():
        if m[0].upper() not in subset:
            continue
        first, last = TINY.streams[m].at
        padded = np.concatenate([values, np.zeros((len(values), 4, values.shape[2]))], axis=1)
        marks = padded[:, :, MARK] > TINY.mark / 2
        delays = range(first, last + 1) if len(subset) > 1 else [first]  # a single stream needs no onset
        shown = [marks[:, d : d + LENGTH] for d in delays]
        onsets.append(np.logical_or.reduce(shown))
        read[m] = sum(padded[:, d : d + LENGTH] * s[:, :, None] for d, s in zip(delays, shown, strict=True))
        if len(subset) == 1:
            onsets, read[m] = [marks[:, :LENGTH]], values * marks[:, :LENGTH, None]
    precision = {m: 1 / TINY.streams[m].shared_error for m in read}
    shared = sum(precision[m] * read[m][:, :, SHARED] for m in read) / (1 + sum(precision.values()))
    worth = np.sqrt(score.shared) * shared
    for own, (m, stream) in zip(score.own, TINY.streams.items(), strict=True):
        if m in read:
            worth = worth + np.sqrt(own) * read[m][:, :, OWN] / (1 + stream.own_error)
    seen = [m for m in read if TINY.streams[m].falls]
    if seen:
        deviation = np.sqrt(TINY.fall * (1 - TINY.fall))
        worth = worth - np.sqrt(score.falls) * (read[seen[0]][:, :, FALL] > TINY.mark / 2) / deviation
    return (worth * np.logical_and.reduce(onsets)).sum(axis=1)


def test_an_oracle_that_reads_the_features_reaches_the_stored_ceilings_and_no_more(simulated):
    latent, _, _, q = simulated
    reached = {subset: stats.spearmanr(_oracle(latent, subset), q)[0] for subset in SUBSETS}
    assert reached == pytest.approx(TINY.targets["score"].ceiling, abs=0.015)


@pytest.mark.parametrize(
    ("name", "target", "count"),
    [("moments_tiny", "score", 100_000), ("moments", "TES", 10_000), ("moments", "PCS", 10_000)]
    + [("moments_rg", target, 10_000) for target in ("Ball", "Clubs", "Hoop", "Ribbon")],
)
def test_stored_ceilings_are_those_of_the_simulation(name, target, count):
    stored = MOMENTS[name].targets[target].ceiling
    assert list(stored) == SUBSETS
    for pattern, found in simulated_ceilings(MOMENTS[name], target, count, seed=1).items():
        assert abs(found.srcc - stored[pattern]) < 5 * found.error + 0.001
        assert found.error < 0.02


def test_fisv_at_full_width_has_the_ceilings_of_the_small_one():
    assert MOMENTS["moments_fisv"].targets == MOMENTS["moments"].targets


def test_pooled_statistics_fall_clearly_short(simulated):
    _, described, _, q = simulated
    ceiling = TINY.targets["score"].ceiling["VAF"]
    assert 0.5 < _regressed(described, q) < ceiling - 0.1


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_linear_bound_of_means_is_what_least_squares_reach(simulated, subset):
    latent, _, _, q = simulated
    known = [m for m in latent if m[0].upper() in subset]
    means = np.concatenate([latent[m].mean(axis=1)[:, 1:] for m in known], axis=1)  # the mark's mean is constant
    assert _regressed(means, q) == pytest.approx(linear_srcc(TINY, "score", known, LENGTH), abs=0.025)


def test_finding_the_marked_clips_helps_and_timing_helps_more():
    for preset in MOMENTS.values():
        for target, score in preset.targets.items():
            pooled = linear_srcc(preset, target, list(preset.streams), preset.lengths[0])
            untimed = linear_srcc(preset, target, list(preset.streams))
            assert pooled + 0.15 < untimed < score.ceiling["VAF"] - 0.05


def test_filler_says_nothing_of_the_score(simulated):
    _, _, filler, q = simulated
    assert abs(_regressed(filler, q)) < 4 / np.sqrt(len(q) / 2)


def test_quality_has_mean_zero_and_unit_variance(simulated):
    q = simulated[3]
    assert q.mean() == pytest.approx(0, abs=0.03)
    assert q.var() == pytest.approx(1, abs=0.05)
    for preset in MOMENTS.values():
        for score in preset.targets.values():
            assert 0.07 < score.judges < 0.11


@pytest.mark.parametrize("name", list(MOMENTS))
def test_slots_fit_into_the_shortest_performance_and_do_not_overlap(name):
    preset = replace(MOMENTS[name], streams={m: replace(s, width=16) for m, s in MOMENTS[name].streams.items()})
    _, drawn = simulate_moments(preset, 50, preset.lengths[0], np.random.default_rng(0))
    assert drawn.at.min() >= 0
    assert drawn.at.max() < preset.lengths[0]
    flow = drawn.at[:, :, list(preset.streams).index("flow")]
    assert np.diff(np.sort(flow, axis=1), axis=1).min() >= 4


def test_streams_show_an_element_at_their_own_time():
    _, drawn = simulate_moments(TINY, 200, LENGTH, np.random.default_rng(0))
    visual, audio, flow = drawn.at.transpose(2, 0, 1)
    assert set(np.unique(visual - flow)) == {1}
    assert set(np.unique(audio - visual)) == {1, 2}


@pytest.mark.parametrize(
    ("name", "samples", "clips", "widths", "targets"),
    [
        ("moments_tiny", 3 * 4, (26, 32), (16, 12, 16), {"score"}),
        ("moments", 3 * 4, (87, 124), (64, 48, 64), {"TES", "PCS"}),
        ("moments_fisv", 2 * 4, (87, 124), (1024, 768, 1024), {"TES", "PCS"}),
        ("moments_rg", 2 * 4 * 4, (48, 68), (1024, 768, 1024), {"Ball", "Clubs", "Hoop", "Ribbon"}),
    ],
)
def test_presets_have_the_shapes_of_the_benchmarks(tmp_path, name, samples, clips, widths, targets):
    with FeatureStore(make_synthetic(name, tmp_path / "x.h5", samples=4)) as store:
        assert len(store) == samples
        assert tuple(store.widths[m] for m in ("visual", "audio", "flow")) == widths
        assert store.lengths.min() >= clips[0]
        assert store.lengths.max() <= clips[1]
        assert set(store.targets) == targets
        for target, each in store.targets.items():
            assert each.ceiling == MOMENTS[name].targets[target].ceiling
        for m in store.modalities:
            assert [int(marks.sum()) for marks in store.moments(m)] == [MOMENTS[name].elements] * samples
            assert [len(marks) for marks in store.moments(m)] == list(np.diff(store.offsets[m]))


def test_a_video_is_the_same_whether_others_are_written_or_not(store, tmp_path):
    fewer = make_synthetic("moments_tiny", tmp_path / "fewer.h5", samples=3)
    other = make_synthetic("moments_tiny", tmp_path / "other.h5", samples=3, seed=1)
    with FeatureStore(store) as all_, FeatureStore(fewer) as few, FeatureStore(other) as differs:
        assert few.ids != all_.ids
        for row, name in enumerate(few.ids):
            twin = all_.ids.index(name)
            assert few.target("score").values[row] == all_.target("score").values[twin]
            for m in few.modalities:
                np.testing.assert_array_equal(few.read_sample(m, row), all_.read_sample(m, twin))
                np.testing.assert_array_equal(few.moments(m)[row], all_.moments(m)[twin])
        assert not np.array_equal(few.target("score").values, differs.target("score").values)


def test_marked_clips_of_a_store_have_the_mark_and_look_alikes_are_not_among_them(store):
    with FeatureStore(store) as opened:
        for position, m in enumerate(opened.modalities):
            directions = 3 + TINY.streams[m].falls
            basis, offset = mixing(opened.widths[m], directions + TINY.nuisance_dims, position, 0)
            strength = (opened.read(m) - offset) @ basis[:, MARK]
            marks = np.concatenate(opened.moments(m))
            assert strength[marks] == pytest.approx(TINY.mark, abs=1e-3)
            others = int((strength[~marks] > TINY.mark / 2).sum())
            assert others == TINY.look_alikes * len(opened)


def test_inspect_says_that_moments_are_known_and_how_the_ceiling_was_found(store):
    found = inspect_store(store)
    assert found.usable
    assert "moments   audio: known, 3 / 3 / 3 (min / median / max) clips of a video; no model sees them" in str(found)
    assert "best possible SRCC by simulation, standard error at most 0.001" in str(found)


def written(path, moments=None):
    lengths = np.array([2, 3])
    write_store(
        path,
        name="two",
        source="made for a test",
        ids=["a", "b"],
        modalities={m: Modality(2, lengths) for m in ("visual", "audio")},
        targets={"score": Target(np.array([1.0, 2.0]), 0, 10)},
        splits={"train": [0, 1]},
        read=lambda modality, row: np.full((lengths[row], 2), float(row)),
        moments=moments,
    )
    return path


def test_a_store_without_moments_knows_none_and_keeps_its_fingerprint(tmp_path):
    marks = {"visual": [[True, False], [False, False, True]]}
    with FeatureStore(written(tmp_path / "a.h5")) as plain, FeatureStore(written(tmp_path / "b.h5", marks)) as known:
        assert plain.moments("visual") is None
        assert known.moments("audio") is None
        assert [each.tolist() for each in known.moments("visual")] == marks["visual"]
        assert known.modalities == plain.modalities
        assert fingerprint_of(plain) != fingerprint_of(known)
    with h5py.File(tmp_path / "b.h5", "a") as file:  # what is left is a store as before
        del file["moments"]
    with FeatureStore(tmp_path / "a.h5") as plain, FeatureStore(tmp_path / "b.h5") as bare:
        assert fingerprint_of(plain) == fingerprint_of(bare)


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        ({"visul": []}, "did you mean 'visual'"),
        ({"visual": [[True, False]]}, "expected a mask for each of 2 samples"),
        ({"visual": [[True, False], [True]]}, "row 1: bool of shape .* expected a boolean for each of 3 clips"),
        ({"visual": [[1, 0], [0, 0, 1]]}, "row 0: int64"),
    ],
)
def test_moments_that_do_not_fit_are_refused(tmp_path, moments, said):
    with pytest.raises(AqaError, match=said):
        written(tmp_path / "x.h5", moments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["moments/visual"].__setitem__(0, 0), "does not fit its checksum"),
        (lambda file: file.create_dataset("moments/nothing", data=np.zeros(5, np.uint8)), "moments/nothing"),
        (lambda file: file.create_dataset("moments/audio", data=np.zeros(4, np.uint8)), "has 4 values"),
        (lambda file: file.create_dataset("moments/audio", data=np.full(5, 2, np.uint8)), "expected 0 or 1"),
    ],
)
def test_damaged_moments_are_noticed(tmp_path, change, said):
    path = written(tmp_path / "x.h5", {"visual": [[True, False], [False, False, True]]})
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(AqaError, match=said):
        FeatureStore(path)


def test_without_look_alikes_a_single_stream_knows_its_elements():
    preset = MOMENTS["moments"]
    without = simulated_ceilings(replace(preset, look_alikes=0), "TES", 20_000)
    known = simulated_ceilings(preset, "TES", 20_000)
    assert without["V"].srcc > known["V"].srcc + 0.05
    assert without["VAF"].srcc == pytest.approx(known["VAF"].srcc, abs=0.01)
