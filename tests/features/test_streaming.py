"""Features read in blocks are those read at once: the same videos, windows, statistics and scores, in less memory."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import aqa
from aqa.config.load import load_experiment
from aqa.errors import AqaError
from aqa.features import streaming
from aqa.features.batches import Features, scored_at_once, scoring_batches, training_batches
from aqa.features.cache import FeatureLoader
from aqa.features.loading import mapped
from aqa.features.streaming import StreamedFeatures, load_features
from aqa.missing import parse_pattern
from aqa.runs.prepare import prepare
from aqa.store.store import FeatureStore, Modality
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store
from aqa.system.memory import GIB

COUNT = 60
CAPACITY = 600  # bytes; a video takes at most 9 clips of 24
NOISY = {"combine": ["random_subset", {"noise": {"std": 0.5}}, {"shift": {"clips": 1, "random": True}}]}


def some_lengths(seed=0):
    """Clips of each video: of one length a video, or 0 where a stream is absent."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 10, COUNT)
    return {m: length * (rng.random(COUNT) > 0.2) for m in ("visual", "audio", "flow")}


@pytest.fixture
def both(tiny_store):
    """A function that writes a store and returns its features in memory and streamed."""

    def load(capacity=CAPACITY, lengths=None, align="shortest", widths=None, modalities=None, change=None, **changes):
        path = tiny_store(lengths=lengths or some_lengths(), **changes)
        if change is not None:
            change(path)
        chosen = {"align": align, "widths": widths, "modalities": modalities}
        with FeatureStore(path) as store:
            return Features(store, **chosen), StreamedFeatures(store, capacity=capacity, **chosen)

    return load


def compressed(path):
    with h5py.File(path, "a") as file:
        for m in ("visual", "audio"):
            data = file[f"features/{m}/values"][()]
            del file[f"features/{m}/values"]
            file.create_dataset(f"features/{m}/values", data=data, chunks=(5, 1), compression="gzip")


def trained_on(features, rows, spec="random_subset", size=7, epoch=1, seed=0, clips=4):
    made = parse_pattern(spec, features.modalities, "missing.train")
    available = features.available[rows]
    return list(training_batches(features, rows, available, made, clips=clips, size=size, seed=seed, epoch=epoch))


def training_batches_of(features):
    """An epoch of all rows, a batch at a time."""
    made = parse_pattern("none", features.modalities, "missing.train")
    rows, options = np.arange(COUNT), {"clips": 4, "size": 7, "seed": 0, "epoch": 1}
    return training_batches(features, rows, features.available[rows], made, **options)


def scored_on(features, rows, spec="random_subset", size=7):
    made = parse_pattern(spec, features.modalities, "missing.test")
    return list(scoring_batches(features, rows, [made], clips=4, size=size, seed=0))


def by_row(batches):
    """What each row of some batches is given: clips and length of each stream, availability."""
    return {
        row: [batch.available[i], *(x[i] for part in (batch.features, batch.lengths) for x in part.values())]
        for batch in batches
        for i, row in enumerate(batch.rows.tolist())
    }


def rows_of(batches):
    return [row for batch in batches for row in batch.rows.tolist()]


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for field in ("rows", "available", "visible"):
            assert torch.equal(getattr(one, field), getattr(other, field))
        for field in ("features", "lengths"):
            for m, x in getattr(one, field).items():
                assert torch.equal(x, getattr(other, field)[m])


def scattered(features):
    """Rows that have something, a few left out, in no order."""
    rows = np.flatnonzero(features.available.any(axis=1))
    return np.random.default_rng(3).permutation(rows)[:-9]


KINDS = {
    "float32": {},
    "float16": {"dtype": "float16"},
    "chunked and compressed": {"change": compressed},
    "unaligned": {
        "align": "none",
        "lengths": {"visual": np.arange(COUNT) % 9 + 1, "audio": np.arange(COUNT) % 4, "flow": np.arange(COUNT) % 6},
    },
    "cut": {
        "lengths": {"visual": np.arange(COUNT) % 9 + 1, "audio": np.arange(COUNT) % 4, "flow": np.arange(COUNT) % 6}
    },
    "a modality that the store lacks": {"modalities": ["pose", "flow"], "widths": {"pose": 5, "flow": 1}},
    "most of it in memory": {"capacity": 6000},
    "a block a video": {"capacity": 220},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_scoring_batches_are_the_same(both, kind):
    held, streamed = both(**kind)
    for rows in (np.arange(COUNT), scattered(held)):
        same(scored_on(streamed, rows), scored_on(held, rows))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_epoch_shows_every_row_once_with_the_same_windows_and_draws(both, kind):
    held, streamed = both(**kind)
    rows = scattered(held)
    spec = {"combine": [{"rates": 0.3}, {"noise": {"std": 0.5}}, {"shift": {"clips": 1, "random": True}}]}
    for epoch in (1, 2):
        mine, expected = (trained_on(f, rows, spec, epoch=epoch) for f in (streamed, held))
        assert sorted(rows_of(mine)) == sorted(rows_of(expected))
        assert [len(batch.rows) for batch in mine] == [len(batch.rows) for batch in expected]
        mine, expected = by_row(mine), by_row(expected)
        for row, parts in expected.items():
            assert all(torch.equal(a, b) for a, b in zip(mine[row], parts, strict=True))


def test_rows_with_nothing_visible_are_left_out_and_the_others_are_not(both):
    held, streamed = both()
    rows = np.arange(COUNT)
    assert sorted(rows_of(trained_on(streamed, rows, "V"))) == sorted(rows_of(trained_on(held, rows, "V")))


def test_the_order_follows_from_seed_and_epoch_alone(both):
    _, streamed = both()
    _, again = both(name="again.h5")
    rows = scattered(streamed)
    orders = [rows_of(trained_on(f, rows, seed=s, epoch=e)) for f, s, e in [
        (streamed, 0, 1), (again, 0, 1), (streamed, 0, 2), (streamed, 1, 1),
    ]]  # fmt: skip
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    same(trained_on(streamed, rows, NOISY, epoch=5), trained_on(again, rows, NOISY, epoch=5))


def test_an_epoch_mixes_blocks_from_anywhere_and_videos_within_memory(both):
    _, streamed = both(capacity=2000)
    rows = np.arange(COUNT)
    order = rows[streamed.order(rows, streamed.available, 0, 1)]
    assert sorted(order) == rows.tolist()
    first = order[:20]
    assert np.ptp(first) > COUNT / 2
    assert (np.diff(first) < 0).sum() > 5


def test_an_epoch_reads_every_clip_once_and_blocks_in_whole(both, monkeypatch):
    _, streamed = both(lengths={m: [4] * COUNT for m in ("visual", "audio", "flow")}, capacity=96 * 32)
    read = []
    plain = streaming.fill
    monkeypatch.setattr(
        streaming,
        "fill",
        lambda s, m, first, out, **how: (read.append((m, first, len(out))), plain(s, m, first, out, **how)),
    )
    trained_on(streamed, np.arange(COUNT))
    for m in streamed.modalities:
        clips = np.concatenate([np.arange(first, first + n) for name, first, n in read if name == m])
        np.testing.assert_array_equal(np.sort(clips), np.arange(4 * COUNT))
        assert len([n for name, _, n in read if name == m]) <= COUNT / 2  # blocks of two videos


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_statistics_and_standardized_windows_are_the_same_to_the_bit(both, kind):
    held, streamed = both(**{"modalities": ["visual", "flow"], **kind, "widths": None} | (
        {"modalities": ["flow", "audio"]} if "widths" in kind else {}
    ))  # fmt: skip
    rows = np.arange(COUNT)[::2]
    found, expected = (f.statistics(rows, f.available[rows]) for f in (streamed, held))
    for m, numbers in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(found[m], numbers, strict=True))
    held.standardize(expected)
    streamed.standardize(found)
    same(scored_on(streamed, np.arange(COUNT)), scored_on(held, np.arange(COUNT)))


def test_what_is_no_number_is_refused_when_it_is_read(tiny_store):
    def spoil(path):
        with h5py.File(path, "a") as file:
            file["features/flow/values"][-1] = np.nan

    path = tiny_store(lengths={m: [4] * COUNT for m in ("visual", "audio", "flow")})
    spoil(path)
    with FeatureStore(path) as store:
        streamed = StreamedFeatures(store, capacity=CAPACITY)
    with pytest.raises(AqaError, match="flow of 'video 59' holds NaN or inf"):
        scored_on(streamed, np.arange(COUNT))
    assert len(scored_on(streamed, np.arange(42))) == 6  # those before it


# Memory


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux says how much memory was used at most")
def test_an_epoch_takes_no_more_memory_than_is_allowed_batches_included(tmp_path):
    clips, width, size, allowed = 64, 1024, 32, 96 * 2**20
    count = 1000  # 250 MiB; a batch takes 8, of which one is to spare
    some = np.random.default_rng(0).standard_normal((clips, width), np.float32)
    write_store(
        tmp_path / "large.h5",
        name="large",
        source="made for a test",
        ids=[f"video {i}" for i in range(count)],
        modalities={"visual": Modality(width, np.full(count, clips))},
        targets={},
        splits={},
        read=lambda modality, row: some,
    )
    with FeatureStore(tmp_path / "large.h5") as store:
        streamed = load_features(store, memory=allowed / GIB, batch_size=size)
    assert type(streamed) is StreamedFeatures
    rows = np.arange(count)
    made = parse_pattern("none", streamed.modalities, "missing.train")

    def epoch(rows, number):
        options = {"clips": clips, "size": size, "seed": 0, "epoch": number}
        for _ in training_batches(streamed, rows, streamed.available[rows], made, **options):
            pass

    epoch(rows[:40], 1)  # what torch takes for its first batches
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is now
    before = memory_of("VmRSS")
    epoch(rows, 2)
    assert allowed / 2 < memory_of("VmHWM") - before < allowed
    assert memory_of("VmRSS") - before < allowed / 4  # the rest is handed back


def memory_of(name):
    """Bytes, as the system counts this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def test_batches_count_as_memory(tiny_store):
    with FeatureStore(tiny_store()) as store:
        needed = sum(int(store.offsets[m][-1]) * store.widths[m] * 4 for m in store.modalities)
        batches = 4 * 8 * 5 * 6 * 4  # four of eight videos, scored at once, of five clips and six channels
        options = {"batch_size": 2, "window": 5}
        assert type(load_features(store, memory=(needed + batches) / GIB, **options)) is Features
        assert type(load_features(store, memory=(needed + batches - 1) / GIB, **options)) is StreamedFeatures
        with pytest.raises(AqaError, match=r"^data\.memory: .* GiB are allowed, and batches of 8 videos alone take"):
            load_features(store, memory=batches / GIB, **options)


def test_memory_is_taken_once_a_pass_and_within_what_is_allowed(tiny_store, monkeypatch):
    lengths = {m: [400] * 300 for m in ("visual", "audio", "flow")}  # 2.9 MB
    with FeatureStore(tiny_store(lengths=lengths)) as store:
        streamed = StreamedFeatures(store, capacity=400_000)
    rows = np.arange(300)
    asked = []
    monkeypatch.setattr(streaming, "mapped", lambda count, device: asked.append(count) or mapped(count, device))
    for stretch, held in streamed.portions(rows[streamed.order(rows, streamed.available, 0, 1)], streamed.available):
        taken = sum(values.nbytes for values in held.values.values())
        assert taken <= 400_000
        assert (np.diff([stretch.start, stretch.stop]) == taken // 9600).all()
    assert len(asked) == 1
    assert 300_000 < asked[0] < 400_000 + 3 * 64


def test_passes_at_the_same_time_do_not_disturb_each_other(both):
    held, streamed = both()
    rows = np.arange(COUNT)
    made = parse_pattern("none", streamed.modalities, "missing.test")
    options = {"clips": 4, "size": 7, "seed": 0}
    expected = list(scoring_batches(held, rows, [made], **options))
    first, second = (scoring_batches(streamed, rows, [made], **options) for _ in range(2))
    for one, other, batch in zip(first, second, expected, strict=True):
        same([one, other], [batch, batch])


def test_what_fits_is_held_and_what_does_not_is_streamed(tiny_store):
    with FeatureStore(tiny_store(dtype="float16")) as store:
        needed = sum(int(store.offsets[m][-1]) * store.widths[m] * 2 for m in store.modalities)
        exactly = needed / GIB
        assert type(load_features(store)) is Features
        assert type(load_features(store, memory=exactly)) is Features
        assert type(load_features(store, memory=exactly * 0.9)) is StreamedFeatures
        assert type(load_features(store, memory=exactly * 1.9, standardize=True)) is StreamedFeatures
        assert type(load_features(store, memory=exactly * 2, standardize=True)) is Features
        assert type(load_features(store, memory=exactly * 0.9, modalities=["audio"])) is Features


def test_a_store_larger_than_free_memory_is_one_line_that_names_the_key(tiny_store, monkeypatch):
    monkeypatch.setattr(streaming, "free_memory", lambda device: 100)
    with FeatureStore(tiny_store()) as store:
        with pytest.raises(AqaError, match=r"tiny\.h5: the features take .* GiB, .* free on cpu; set data\.memory"):
            load_features(store)
        assert type(load_features(store, memory=1)) is Features


@pytest.mark.parametrize("memory", [None, 1])
def test_a_batch_larger_than_free_memory_is_one_line(tiny_store, memory):
    with (
        FeatureStore(tiny_store()) as store,
        pytest.raises(AqaError, match=r"^a batch of 2 videos of 1000000000000 cl"),
    ):
        load_features(store, memory=memory, batch_size=2, window=10**12)


def test_a_video_that_takes_more_than_is_allowed_is_named(tiny_store):
    with FeatureStore(tiny_store()) as store:
        with pytest.raises(AqaError, match=r"^data\.memory: 'video 7' of .* alone takes .* GiB of features"):
            StreamedFeatures(store, capacity=7 * 24 - 1)
        StreamedFeatures(store, capacity=7 * 24)


# Runs


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    make_synthetic("tiny", path, samples=40)
    return path


def experiment(store, output, **data):
    return {
        "name": "streamed",
        "data": {"store": str(store), "target": "score", "standardize": True, **data},
        "model": {"name": "mcmoe", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
        "missing": {"train": NOISY, "test": ["VAF", "VA", "F"]},
        "train": {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "seed": 1},
        "output": str(output),
    }


def a_third(store):
    """GiB that a third of a store takes, and the batches of the experiment."""
    with FeatureStore(store) as opened:
        features = sum(int(opened.offsets[m][-1]) * opened.widths[m] * 4 for m in opened.modalities)
        clips, widths = int(opened.lengths.max()), opened.widths.values()
        batch = min(scored_at_once(16, clips, widths), len(opened.ids)) * clips * sum(widths) * 4
    return (features / 3 + 4 * batch) / GIB


def test_a_streamed_run_is_scored_as_in_memory(synthetic, tmp_path):
    third = a_third(synthetic)
    config = experiment(synthetic, tmp_path / "run", memory=third)
    assert type(prepare(load_experiment(config), FeatureLoader(), print).scorer.features) is StreamedFeatures
    said = aqa.run(config).metrics
    held = aqa.evaluate(tmp_path / "run", memory=100)
    assert aqa.evaluate(tmp_path / "run").metrics == held.metrics
    assert said["patterns"] == held.metrics["patterns"]
    streamed, at_once = (aqa.predict(tmp_path / "run", synthetic, memory=m) for m in (None, 100))
    pd.testing.assert_frame_equal(streamed, at_once, check_exact=True)


def test_a_streamed_run_broken_off_goes_on_to_the_same_end(synthetic, tmp_path, monkeypatch):
    third = a_third(synthetic)
    aqa.run(experiment(synthetic, tmp_path / "whole", memory=third))
    monkeypatch.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
    plain, calls = aqa.training.loop.train_epoch, []

    def broken_off(model, batches, *arguments):
        calls.append(1)
        if len(calls) == 3:
            next(batches)
            raise KeyboardInterrupt
        return plain(model, batches, *arguments)

    monkeypatch.setattr("aqa.training.loop.train_epoch", broken_off)
    with pytest.raises(KeyboardInterrupt):
        aqa.run(experiment(synthetic, tmp_path / "broken", memory=third))
    said = []
    aqa.run(experiment(synthetic, tmp_path / "broken", memory=third), say=said.append)
    assert "resuming after epoch 2" in said
    for name in ("metrics.json", "predictions.csv", "history.csv"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_memory_is_another_experiment(synthetic, tmp_path):
    """Blocks follow from the memory, and the order of training from blocks."""
    aqa.run(experiment(synthetic, tmp_path / "run", memory=a_third(synthetic)))
    with pytest.raises(AqaError, match=r"holds another experiment \(data\.memory is .* there, None here\)"):
        aqa.run(experiment(synthetic, tmp_path / "run"))
