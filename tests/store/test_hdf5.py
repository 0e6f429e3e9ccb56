"""What is read of a stranger's HDF5 file, and what is refused before it takes memory."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from aqa.errors import AqaError
from aqa.store import hdf5
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore
from stress.broken_stores import deflated_zeros, without_checksums


@pytest.fixture
def changed(tiny_store):
    """A function that changes a small store and returns its path."""

    def change(do):
        path = tiny_store()
        with h5py.File(path, "a") as file:
            do(file)
        return path

    return change


def refusal(path):
    with pytest.raises(AqaError) as error:
        FeatureStore(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def replaced(name, **options):
    def change(file):
        values = file[name][()]
        del file[name]
        file.create_dataset(name, **({"data": values} | options))

    return change


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (3, 2)},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (7, 3)},
        {"compression": "lzf"},
        {"fletcher32": True},
    ],
    ids=str,
)
def test_honest_ways_of_keeping_an_array_are_read(changed, tiny_store, options):
    with FeatureStore(changed(replaced("features/visual/values", **options))) as store:
        found = store.read("visual")
    with FeatureStore(tiny_store(name="plain.h5")) as plain:
        np.testing.assert_array_equal(found, plain.read("visual"))


def test_ids_may_be_of_fixed_length_or_numbers(changed):
    path = changed(replaced("ids", data=np.arange(8)))
    with FeatureStore(path) as store:
        assert store.ids[3] == "3"
    path.unlink()
    fixed = np.array([f"vidé {i}".encode() for i in range(8)])
    assert FeatureStore(changed(replaced("ids", data=fixed))).ids[3] == "vidé 3"


@pytest.mark.parametrize("name", ["features", "targets", "splits", "features/visual"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "x"), h5py.SoftLink("/targets")], ids=["file", "soft"])
def test_no_group_is_reached_through_a_link(changed, name, link):
    """A link in the place of a group once let another file's contents in."""

    def change(file):
        del file[name]
        file[name] = link

    assert f"{name} is a link; a store holds its own data" in refusal(changed(change))


def test_a_chunk_that_unpacks_to_more_than_it_is_for_is_refused_before_it_is_unpacked(changed):
    def change(file):
        replaced("features/visual/values", chunks=(8, 3), compression="gzip")(file)
        file["features/visual/values"].id.write_direct_chunk((0, 0), deflated_zeros(1100))

    assert "a chunk unpacks to more than its 96 bytes" in refusal(changed(change))


def test_a_large_honest_chunk_is_read(tmp_path):
    """Chunks so large that they could unpack to gigabytes are tried first, without keeping what they unpack to."""
    values = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=values.shape, compression="gzip", compression_opts=1)
        found = hdf5.dataset(file, "x", 2)
        assert found.id.get_storage_size() * hdf5.DEFLATE_RATIO > hdf5.UNPACKED
        hdf5.check_size(file, found, "x", hdf5.UNPACKED)


def test_a_store_from_before_checksums_is_read(changed):
    path = changed(without_checksums)
    inspection = inspect_store(path)
    assert not any("checksum" in line for line in [*inspection.problems, *inspection.warnings])
    assert "checksums none of visual, audio, flow: a damaged number there is not noticed" in inspection.facts
    with FeatureStore(path) as store:
        assert store.is_intact("visual", 0) is None


@pytest.mark.parametrize(
    ("name", "place", "value"), [("targets/TES", 2, 13.5), ("splits/train", 1, 0), ("features/flow/offsets", 1, 3)]
)
def test_a_changed_number_that_is_plausible_is_noticed(changed, name, place, value):
    path = changed(lambda file: file[name].__setitem__(place, value))
    assert f"{name} does not fit its checksum" in refusal(path)
    assert f"delete the attribute 'crc32' of {name}" in refusal(path)
    with h5py.File(path, "a") as file:
        del file[name].attrs["crc32"]
    FeatureStore(path).close()


def test_a_changed_id_or_text_is_noticed(changed):
    path = changed(lambda file: file["ids"].__setitem__(0, "video 9"))
    assert "ids does not fit its checksum" in refusal(path)
    path.unlink()
    assert "/ does not fit its checksum" in refusal(changed(lambda file: file.attrs.__setitem__("source", "x")))


def test_inspect_names_the_videos_whose_features_are_not_what_was_written(changed):
    def change(file):
        file["features/audio/values"][0, 0] += 1
        file["features/audio/values"][-1, -1] += 1

    problems = inspect_store(changed(change)).problems
    assert problems[1:] == ["features/audio: not what was written, by its checksum, in 2 samples: video 0, video 7"]


def test_inspect_warns_of_ids_that_spreadsheets_run(tiny_store):
    ids = ["=HYPERLINK(1)", "@b", "c", "d", "e", "f", "g", "h"]
    warnings = inspect_store(tiny_store(ids=ids)).warnings
    assert any("may run as a formula 2 samples: =HYPERLINK(1), @b" in warning for warning in warnings)


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "nul\x7f", "‮cba", "\x9b2J"])
def test_names_that_a_terminal_obeys_are_refused_and_shown_escaped(changed, tiny_store, text):
    said = refusal(changed(replaced("ids", data=[text, *"bcdefgh"])))
    assert "ids, row 0, '" in said
    assert text not in said
    assert text.encode("unicode_escape").decode() in said
    with pytest.raises(AqaError, match=r"new\.h5: id, '.*', holds control characters"):
        tiny_store(ids=[text, *"bcdefgh"], name="new.h5")


def test_names_of_every_language_are_read(tiny_store):
    ids = ["浅田　真央", "Кирилл", "نسترن‌", "é", "👩‍👦", "a b", "=1", "x"]
    assert FeatureStore(tiny_store(ids=ids)).ids == ids


def test_free_text_is_shown_escaped(tiny_store):
    assert "source    \\x1b[2Jgone" in str(inspect_store(tiny_store(source="\x1b[2Jgone")))
