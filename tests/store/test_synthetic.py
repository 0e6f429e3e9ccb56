"""The synthetic stores: their ceilings against simulation, and the files they make."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeCV

from aqa.errors import AqaError
from aqa.store.store import FeatureStore
from aqa.store.synthetic import PRESETS, ar1_information, ceiling_srcc, ceilings, make_synthetic, simulate, videos

SUBSETS = ["VAF", "VA", "VF", "AF", "V", "A", "F"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_synthetic("tiny", tmp_path_factory.mktemp("synthetic") / "tiny.h5")


def regress(preset, target, length, chunks, chunk, fresh):
    """SRCC of least squares from all clips of each subset, fitted to chunks * chunk videos, on fresh * chunk others.

    Knows nothing of the process: features are flattened over time, and only the sums X'X and X'y are kept.
    """
    rng = np.random.default_rng(7)
    owner = np.concatenate([[m[0].upper()] * (s.width * length) for m, s in preset.streams.items()])

    def draw():
        features, quality = simulate(preset, chunk, length, rng)
        flat = [x.reshape(chunk, -1) for x in features.values()]
        return np.concatenate([*flat, np.ones((chunk, 1), np.float32)], axis=1), quality[target]

    gram, moment = np.zeros((len(owner) + 1,) * 2), np.zeros(len(owner) + 1)
    for _ in range(chunks):
        x, q = draw()
        gram += x.T @ x
        moment += x.T @ q
    columns = {s: np.flatnonzero([*(o in s for o in owner), True]) for s in SUBSETS}
    weights = {s: np.linalg.solve(gram[np.ix_(c, c)], moment[c]) for s, c in columns.items()}
    predicted, truth = {s: [] for s in SUBSETS}, []
    for _ in range(fresh):
        x, q = draw()
        truth.append(q)
        for s, c in columns.items():
            predicted[s].append(x[:, c] @ weights[s])
    truth = np.concatenate(truth)
    return {s: stats.spearmanr(np.concatenate(p), truth)[0] for s, p in predicted.items()}


def test_a_million_samples_reach_the_stored_ceilings_and_no_more(tiny):
    with FeatureStore(tiny) as store:
        stored = store.target("score").ceiling
    reached = regress(PRESETS["tiny"], "score", length=5, chunks=70, chunk=10_000, fresh=30)
    assert list(stored) == SUBSETS
    assert reached == pytest.approx(stored, abs=0.005)


@pytest.mark.parametrize("length", [1, 2, 11])
def test_the_ceiling_is_the_same_for_every_length(length):
    reached = regress(PRESETS["tiny"], "score", length, chunks=20, chunk=5000, fresh=10)
    assert reached == pytest.approx(ceilings(PRESETS["tiny"], "score"), abs=0.015)


@pytest.mark.parametrize("target", ["TES", "PCS"])
def test_every_target_of_a_video_has_its_own_ceiling(target):
    preset = replace(PRESETS["tiny"], targets=PRESETS["fisv"].targets)
    reached = regress(preset, target, length=4, chunks=20, chunk=5000, fresh=10)
    assert reached == pytest.approx(ceilings(preset, target), abs=0.015)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("length", [1, 2, 3, 124])
def test_information_of_an_ar1_mean(length, phi):
    covariance = phi ** np.abs(np.subtract.outer(np.arange(length), np.arange(length)), dtype=float)
    assert ar1_information(length, phi) == pytest.approx(np.linalg.solve(covariance, np.ones(length)).sum())


def test_quality_has_unit_variance():
    for preset in PRESETS.values():
        for score in preset.targets.values():
            assert np.linalg.norm(score.weights) == pytest.approx(1)


def test_ceilings_are_realistic_and_grow_with_what_is_seen():
    for preset in PRESETS.values():
        for target in preset.targets:
            best = ceilings(preset, target)
            if preset.targets[target].grades:  # their ties lower all of them
                continue
            assert 0.88 < best["VAF"] < 0.92
            assert min(best["VA"], best["VF"], best["AF"]) > 0.73
            assert max(best["VA"], best["VF"], best["AF"]) < best["VAF"]
            assert 0.75 > best["V"] > best["F"] > best["A"] > 0.54
            assert max(best["V"], best["F"], best["A"]) < min(best["VA"], best["VF"], best["AF"])
            assert ceiling_srcc(preset, target, []) == 0


@pytest.mark.parametrize(
    ("name", "videos_a_split", "clips", "widths", "ranges"),
    [
        ("tiny", {"train": 1000, "valid": 200, "test": 600}, 12, (16, 12, 16), {"score": 100}),
        ("fisv", {"train": 400, "test": 100}, 124, (1024, 768, 1024), {"TES": 45, "PCS": 40}),
        (
            "rg",
            {"train": 800, "test": 200},
            68,
            (1024, 768, 1024),
            dict.fromkeys(["Ball", "Clubs", "Hoop", "Ribbon"], 25),
        ),
        (
            "fs1000",
            {"train": 1000, "test": 247},
            95,
            (768, 768, 1024),
            {"TES": 130, "PCS": 60} | dict.fromkeys(["SS", "TR", "PE", "CO", "IN"], 10),
        ),
    ],
)
def test_presets_have_the_shapes_of_the_benchmarks(tmp_path, name, videos_a_split, clips, widths, ranges):
    preset = PRESETS[name]
    rows = videos(preset)
    assert {s: sum(v.split == s for v in rows) for s in preset.splits} == videos_a_split
    assert len({v.id for v in rows}) == len({v.number for v in rows}) == sum(videos_a_split.values())
    assert preset.lengths[1] == clips
    with FeatureStore(make_synthetic(name, tmp_path / "few.h5", samples=2)) as store:
        assert store.modalities == ("visual", "audio", "flow")
        assert tuple(store.widths.values()) == widths
        assert store.available.all()
        assert (store.lengths == store.lengths[:, :1]).all()
        assert store.lengths.min() >= 0.65 * clips
        assert store.lengths.max() <= clips
        assert {t: target.high for t, target in store.targets.items()} == ranges
        assert all(target.low == 0 for target in store.targets.values())
        assert set(store.splits) == set(videos_a_split)


def test_a_gymnastics_video_is_labelled_for_its_own_apparatus(tmp_path):
    with FeatureStore(make_synthetic("rg", tmp_path / "rg.h5", samples=1)) as store:
        assert len(store) == 8
        for name, target in store.targets.items():
            assert [i.split("_")[0] == name for i in store.ids] == (~np.isnan(target.values)).tolist()


def test_scores_stay_in_the_range_without_clipping(tiny):
    with FeatureStore(tiny) as store:
        scores = store.target("score").values
    assert scores.min() > 0
    assert scores.max() < 100
    assert len(set(scores)) == 1800
    assert scores.std() == pytest.approx(10, rel=0.1)


def test_a_seed_repeats_the_data_and_another_does_not(tmp_path):
    stores = [
        FeatureStore(make_synthetic("tiny", tmp_path / f"{i}.h5", seed=seed, samples=5))
        for i, seed in enumerate([4, 4, 5])
    ]
    first, again, other = ([s.read(m) for m in s.modalities] + [s.target("score").values] for s in stores)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[-1], other[-1])
    for store in stores:
        store.close()


def test_a_video_does_not_depend_on_the_others(tmp_path, tiny):
    few = make_synthetic("tiny", tmp_path / "few.h5", samples=3)
    with FeatureStore(tiny) as whole, FeatureStore(few) as part:
        for row, video in enumerate(part.ids):
            twin = whole.ids.index(video)
            assert part.target("score").values[row] == whole.target("score").values[twin]
            for modality in part.modalities:
                np.testing.assert_array_equal(part.read_sample(modality, row), whole.read_sample(modality, twin))


def test_errors_and_noise_of_two_modalities_are_independent(tiny):
    with FeatureStore(tiny) as store:
        visual, flow = (store.read(m) for m in ("visual", "flow"))
        rows = np.repeat(np.arange(len(store)), store.lengths[:, 0])
    # Within a video the evidence is constant, so differences between neighbouring clips hold errors and noise only.
    steps = [np.diff(x, axis=0)[np.diff(rows) == 0] for x in (visual, flow)]
    across = np.corrcoef(*steps, rowvar=False)[:16, 16:]
    assert np.abs(across).max() < 0.05


def test_ridge_on_time_means_comes_near_the_ceiling_from_the_training_split(tiny):
    with FeatureStore(tiny) as store:
        clips = np.diff(store.offsets["visual"])[:, None]
        means = [np.add.reduceat(store.read(m), store.offsets[m][:-1], axis=0) / clips for m in store.modalities]
        x, target = np.concatenate(means, axis=1), store.target("score")
        train, test = store.split("train"), store.split("test")
    model = RidgeCV(np.logspace(-1, 4, 6)).fit(x[train], target.values[train])
    reached, ceiling = stats.spearmanr(model.predict(x[test]), target.values[test])[0], target.ceiling["VAF"]
    assert 0.95 * ceiling < reached < ceiling + 0.03


@pytest.mark.parametrize(
    ("name", "target", "score", "first"),
    [
        (
            "tiny",
            "score",
            47.42755718869263,
            [[0.5112929, -0.6526453], [1.2074357, 1.5200632], [0.8840953, -0.7473768]],
        ),
        ("fisv", "TES", 21.674705576326552, [[1.4471027, 0.2096788], [-0.5229884, -0.2392325], [1.5434318, -3.628971]]),
        (
            "fisv_small",
            "PCS",
            18.32850877548094,
            [[1.476798, 2.428342], [-0.629823, -0.187475], [0.0525064, -2.3005562]],
        ),
        (
            "rg",
            "Ball",
            11.856889297173158,
            [[-0.0665059, -2.4011465], [-0.4871313, 0.4727104], [0.2203494, -2.8917294]],
        ),
        ("fs1000", "TR", 4.475353037844213, [[0.4633732, -0.0962347], [0.3267582, 0.0621755], [2.8361554, -3.2355878]]),
    ],
)
def test_the_linear_presets_draw_the_same_numbers_as_ever(tmp_path, name, target, score, first):
    with FeatureStore(make_synthetic(name, tmp_path / "x.h5", samples=1, seed=3)) as store:
        assert store.target(target).values[0] == pytest.approx(score, rel=1e-12)
        for m, numbers in zip(("visual", "audio", "flow"), first, strict=True):
            assert store.read_sample(m, 0)[0, :2] == pytest.approx(numbers, abs=1e-5)


def test_an_unknown_preset_names_the_nearest(tmp_path):
    with pytest.raises(AqaError, match="did you mean 'fisv'"):
        make_synthetic("fis-v", tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"samples": 0}])
def test_a_negative_seed_or_no_samples_is_refused(tmp_path, wrong):
    with pytest.raises(AqaError, match="seed of 0 or more"):
        make_synthetic("tiny", tmp_path / "x.h5", **wrong)


def test_an_existing_file_is_replaced_only_when_asked(tmp_path):
    out = make_synthetic("tiny", tmp_path / "x.h5", samples=1)
    with pytest.raises(AqaError, match="exists"):
        make_synthetic("tiny", out, samples=1)
    written = []
    make_synthetic("tiny", out, samples=2, overwrite=True, progress=written.append)
    assert sum(written) == 3 * 2 * 3
    with FeatureStore(out) as store:
        assert len(store) == 6
