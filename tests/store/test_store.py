"""A store reads back what was written, is written whole or not at all, and says what is wrong with it."""

from __future__ import annotations

import subprocess
import sys
import zlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch

from aqa.errors import AqaError
from aqa.features.loading import fill
from aqa.features.streaming import StreamedFeatures
from aqa.store import hdf5
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store

LENGTHS = {"visual": [3, 0, 2, 4], "audio": [3, 5, 0, 4]}


def features():
    rng = np.random.default_rng(0)
    widths = {"visual": 4, "audio": 2}
    return {m: [rng.normal(size=(n, widths[m])).astype(np.float32) for n in LENGTHS[m]] for m in LENGTHS}


def write(path, **changes):
    clips = features()
    parts = {
        "name": "mini",
        "source": "made for a test",
        "ids": ["a", "b", "c", "ü"],
        "modalities": {
            "visual": Modality(4, np.array(LENGTHS["visual"]), "VST", 2.5),
            "audio": Modality(2, np.array(LENGTHS["audio"])),
        },
        "targets": {"TES": Target(np.array([1, 2, np.nan, 4.0]), 0, 10, {"VAF": 0.9})},
        "splits": {"train": [0, 1, 2], "test": [3]},
        "read": lambda modality, row: clips[modality][row],
    }
    write_store(path, **{**parts, **changes})
    return clips


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "x.h5")
    return tmp_path / "x.h5"


def test_round_trip(tmp_path):
    clips = write(tmp_path / "deep" / "x.h5")
    with FeatureStore(tmp_path / "deep" / "x.h5") as store:
        assert len(store) == 4
        assert store.ids == ["a", "b", "c", "ü"]
        assert (store.name, store.source) == ("mini", "made for a test")
        assert store.created_by.startswith("aqa ")
        assert store.modalities == ("visual", "audio")
        assert store.widths == {"visual": 4, "audio": 2}
        assert store.dtypes == {"visual": "float32", "audio": "float32"}
        assert store.lengths.T.tolist() == list(LENGTHS.values())
        assert store.available.tolist() == [[True, True], [False, True], [True, False], [True, True]]
        assert store.attributes == {"visual": {"extractor": "VST", "clip_seconds": 2.5}, "audio": {}}
        for modality, samples in clips.items():
            np.testing.assert_array_equal(store.read(modality), np.concatenate(samples))
            for row, sample in enumerate(samples):
                np.testing.assert_array_equal(store.read_sample(modality, row), sample)
        target = store.target("TES")
        np.testing.assert_array_equal(target.values, [1, 2, np.nan, 4])
        assert (target.low, target.high, target.ceiling) == (0, 10, {"VAF": 0.9})
        np.testing.assert_array_equal(target.normalize(target.values), [0.1, 0.2, np.nan, 0.4])
        assert store.split("train").tolist() == [0, 1, 2]


def test_order_of_modalities_is_kept(tmp_path):
    ones = {m: Modality(2, np.ones(4, dtype=np.int64)) for m in ("zeta", "alpha")}
    write(tmp_path / "x.h5", modalities=ones, read=lambda modality, row: np.ones((1, 2)))
    assert FeatureStore(tmp_path / "x.h5").modalities == ("zeta", "alpha")


def test_order_of_modalities_where_it_is_not_stated(path):
    with h5py.File(path, "a") as file:
        del file["features"].attrs["modalities"]
        file.copy("features/audio", "features/aroma")
    assert FeatureStore(path).modalities == ("visual", "audio", "aroma")


def test_float16(tmp_path):
    clips = write(tmp_path / "x.h5", dtype="float16")
    with FeatureStore(tmp_path / "x.h5") as store:
        assert store.dtypes["visual"] == "float16"
        assert store.read("visual").dtype == store.read_sample("visual", 0).dtype == np.float32
        np.testing.assert_allclose(store.read("visual"), np.concatenate(clips["visual"]), rtol=1e-3, atol=1e-3)


def test_unknown_target_and_split(path):
    with FeatureStore(path) as store:
        with pytest.raises(AqaError, match=r"x\.h5 has no target 'tess': did you mean 'TES'"):
            store.target("tess")
        with pytest.raises(AqaError, match=r"x\.h5 has no split 'tests': did you mean 'test'"):
            store.split("tests")


def test_file_that_is_not_there(path):
    with pytest.raises(AqaError, match=r"no feature store at .*y\.h5; did you mean 'x\.h5'"):
        FeatureStore(path.with_name("y.h5"))


def test_file_that_is_no_store(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"not HDF5 at all")
    with pytest.raises(AqaError, match="not a readable HDF5 file"):
        FeatureStore(tmp_path / "x.h5")


@pytest.mark.parametrize("schema", [None, 2])
def test_other_schema(path, schema):
    with h5py.File(path, "a") as file:
        del file.attrs["schema"]
        if schema:
            file.attrs["schema"] = schema
    with pytest.raises(AqaError, match=f"attribute 'schema' is {schema}; this version reads schema 1"):
        FeatureStore(path)


def damaged(name, value):
    def damage(file):
        del file[name]
        file[name] = value

    return damage


def removed(name):
    def damage(file):
        del file[name]

    return damage


DAMAGE = {
    "no ids": (removed("ids"), "'ids' is missing"),
    "ids of two dimensions": (damaged("ids", np.zeros((2, 2))), "'ids' is not an array of 1 dimension$"),
    "no features": (removed("features"), "no modality under 'features'"),
    "no values": (removed("features/audio/values"), "'features/audio/values' is missing"),
    "values of text": (damaged("features/audio/values", np.zeros((12, 2), dtype="S3")), r"is \|S3, not numbers of 64"),
    "values of truth": (damaged("features/audio/values", np.zeros((12, 2), dtype=bool)), "is bool, not numbers of 64"),
    "offsets too few": (damaged("features/audio/offsets", np.array([0, 12])), "has 2 entries for 4 ids"),
    "offsets too far": (damaged("features/audio/offsets", np.array([0, 3, 8, 8, 99])), "do not rise from 0 to the 12"),
    "offsets falling": (damaged("features/audio/offsets", np.array([0, 8, 3, 8, 12])), "do not rise from 0 to the 12"),
    "targets too few": (damaged("targets/TES", np.zeros(3)), "targets/TES has 3 values for 4 ids"),
    "no range": (damaged("targets/TES", np.zeros(4)), r"targets/TES needs an attribute 'range' \(low, high\)"),
    "split too far": (damaged("splits/test", np.array([4])), "splits/test names rows outside 0 to 3"),
    "split below zero": (damaged("splits/test", np.array([-1])), "splits/test names rows outside 0 to 3"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_line(path, damage, message):
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(AqaError, match=message) as error:
        FeatureStore(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["ids", "features/audio", "features/audio/values", "targets/TES", "splits/test"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_are_refused(path, tmp_path, name, kind):
    """A store from a stranger must not show the reader's other files."""
    write(tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", name) if kind == "external" else h5py.SoftLink("/elsewhere")
    with pytest.raises(AqaError, match="is a link; a store holds its own data"):
        FeatureStore(path)


def test_external_storage_is_refused(path, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(96))
    with h5py.File(path, "a") as file:
        del file["features/audio/values"]
        place = [(str(tmp_path / "secret"), 0, 96)]
        file["features/audio"].create_dataset("values", shape=(12, 2), dtype="float32", external=place)
    with pytest.raises(AqaError, match="keeps its data in another file"):
        FeatureStore(path)


def test_truncated_file(path):
    data = path.read_bytes()
    for end in range(0, len(data), 97):
        path.write_bytes(data[:end])
        with pytest.raises(AqaError):
            FeatureStore(path)


# Stores that others wrote


def kept_as(path, dtype, modality="visual", **options):
    """The store with one modality's numbers in another type."""
    with h5py.File(path, "a") as file:
        values = 100 * file[f"features/{modality}/values"][()].astype(np.float64)
        values = (np.abs(values) if np.dtype(dtype).kind == "u" else values).astype(dtype)
        del file[f"features/{modality}/values"]
        file.create_dataset(f"features/{modality}/values", data=values, **options)
        offsets, checksums = file[f"features/{modality}/offsets"][()], file[f"features/{modality}/crc32"]
        for row, (start, stop) in enumerate(pairwise(offsets)):
            checksums[row] = zlib.crc32(values[start:stop].tobytes())
    return values


FOREIGN = ["<f8", ">f8", ">f4", ">f2", "<i4", ">i8", "u1", ">u2"]


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3), "compression": "gzip"}], ids=["plain", "packed"])
@pytest.mark.parametrize("dtype", FOREIGN)
def test_numbers_of_another_type_are_converted_and_never_taken_for_bytes(path, dtype, options):
    values = kept_as(path, dtype, **options)
    held = np.float16 if dtype == ">f2" else np.float32
    expected = values.astype(held)
    with FeatureStore(path) as store:
        assert store.dtypes["visual"] == np.dtype(held).name
        assert list(store.converted) == ["visual"]
        np.testing.assert_array_equal(store.read("visual"), expected)
        np.testing.assert_array_equal(store.read_sample("visual", 2), expected[3:5])
        assert store.is_intact("visual", 2) is True
        out = torch.empty(7, 4, dtype=torch.float16 if dtype == ">f2" else torch.float32)
        fill(store, "visual", 2, out)
        np.testing.assert_array_equal(out.numpy(), expected[2:])
        np.testing.assert_array_equal(store.read("audio"), np.concatenate(features()["audio"]))
    report = inspect_store(path)
    kept = f"{'big-endian ' * (dtype[0] == '>')}{np.dtype(dtype).name}"
    assert str(report).count(f"converted visual is {kept} in the file, read as {np.dtype(held).name}\n") == 1
    assert report.usable, str(report)


def test_streamed_features_of_another_type_are_converted(path):
    values = kept_as(path, ">f8")
    with FeatureStore(path) as store:
        features = StreamedFeatures(store, capacity=10**4, align="none")
        ((_, held),) = features.portions(np.arange(4), counted=features.available[:4])
        np.testing.assert_array_equal(held.values["visual"].numpy(), values.astype(np.float32))


def test_damage_in_numbers_of_another_type_is_found(path):
    kept_as(path, ">f8")
    with h5py.File(path, "a") as file:
        file["features/visual/values"][0, 0] += 1
    assert "features/visual: not what was written, by its checksum, in 1 sample: a" in str(inspect_store(path))


@pytest.mark.parametrize("mode", ["lock", "swmr"])
def test_a_store_that_is_being_written_is_said_in_our_words(path, mode):
    code = f"import h5py, sys; f = h5py.File({str(path)!r}, 'r+', libver='latest'); "
    code += "f.swmr_mode = True; " * (mode == "swmr")
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print('open', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(
            AqaError, match=r"x\.h5 is (open for writing in another program|still being written)"
        ) as said:
            FeatureStore(path)
        assert "errno" not in str(said.value)
    finally:
        process.communicate()


def test_a_store_that_was_not_closed_is_said_in_our_words():
    said = hdf5.held_by_a_writer(OSError("file is already open for write (may use <h5clear file> to clear ...)"))
    assert said.startswith("is still being written, or was not closed")
    assert hdf5.held_by_a_writer(OSError("file signature not found")) == ""


def test_modalities_of_a_file_whose_patterns_would_have_one_name_are_refused(path):
    with h5py.File(path, "r+") as file:  # as another program may have written it
        file.move("features/audio", "features/visual+audio")
        del file["features"].attrs["modalities"]
    with pytest.raises(AqaError, match=r"x\.h5: modality, 'visual\+audio', holds '\+'"):
        FeatureStore(path)


def test_a_target_that_is_a_path_is_refused_in_words(path):
    with h5py.File(path, "r+") as file:
        file["targets/https:/judge"] = file["targets/TES"][()]
    with pytest.raises(AqaError, match="'targets/https:' is a group, not an array; a name with '/' makes one"):
        FeatureStore(path)


def test_scores_that_cannot_be_squared_are_refused(tiny_store):
    with pytest.raises(AqaError, match=r"^range -1e\+300 to 1e\+300: squared errors need scores up to 1e\+100 at most"):
        Target(np.zeros(8), -1e300, 1e300)
    path = tiny_store()
    with h5py.File(path, "r+") as file:
        file["targets/TES"].attrs["range"] = (-1e300, 1e300)
    with pytest.raises(AqaError, match=r"tiny\.h5: targets/TES: range -1e\+300"):
        FeatureStore(path)


# Groups


@pytest.fixture
def grouped(tmp_path):
    write(tmp_path / "groups.h5", groups={"athlete": ["x", "y", "x", "ü"], "fold": [1, 2, 1, None]})
    return tmp_path / "groups.h5"


def test_groups_are_read_back(grouped, path):
    with FeatureStore(grouped) as store:
        assert store.groups == {"athlete": ["x", "y", "x", "ü"], "fold": ["1", "2", "1", ""]}
        assert store.group("fold") == ["1", "2", "1", ""]
        with pytest.raises(AqaError, match=r"groups\.h5 has no group 'athletes': did you mean 'athlete'"):
            store.group("athletes")
    with FeatureStore(path) as store:
        assert store.groups == {}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("groups/fold", np.array([b"1", b"2", b"1", b"2"]), "groups/fold does not fit its checksum"),
        ("groups/new", np.array([b"1", b"2"]), "groups/new has 2 labels for 4 ids"),
        ("groups/new", np.zeros(4), "groups/new is of type float64, not text"),
    ],
)
def test_damaged_groups(grouped, name, value, message):
    with h5py.File(grouped, "a") as file:
        if name in file:
            file[name][0] = value[-1]
        else:
            file[name] = value
    with pytest.raises(AqaError, match=message):
        FeatureStore(grouped)
