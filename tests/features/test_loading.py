"""Reading into tensors: the store's own numbers whatever way the file keeps them, and none that is no number."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from aqa.errors import AqaError
from aqa.features import loading
from aqa.features.batches import Features
from aqa.features.loading import allocate, fill, shaped
from aqa.store.store import FeatureStore

LENGTHS = {"visual": [40, 0, 25, 60], "audio": [40, 7, 25, 0], "flow": [0, 7, 25, 60]}
CHUNKED = {"chunks": (7, 2)}
COMPRESSED = {"chunks": (16, 3), "compression": "gzip", "shuffle": True}
FIXED = {"fletcher32": True}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(loading, "BYTES_AT_ONCE", 100)  # so that small stores are read in many


def rewritten(path, name="features/visual/values", data=None, **options):
    """The store with one array kept in another way."""
    with h5py.File(path, "a") as file:
        data = file[name][()] if data is None else data
        del file[name]
        file.create_dataset(name, data=data, **options)
    return path


def held(store, modality="visual", first=0, stop=None):
    """Clips of a modality as `fill` reads them."""
    count = len(range(*slice(first, stop).indices(int(store.offsets[modality][-1]))))
    dtype = loading.disk_type(store, modality)
    width = store.widths[modality]
    out = shaped(allocate(count * width * dtype.itemsize, torch.device("cpu")), 0, count, width, dtype)
    fill(store, modality, first, out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("options", [{}, CHUNKED, COMPRESSED, FIXED], ids=str)
@pytest.mark.parametrize(("first", "stop"), [(0, None), (13, 100), (99, 100), (50, 50)])
def test_any_stretch_is_read_as_it_is(tiny_store, dtype, options, first, stop):
    path = rewritten(tiny_store(lengths=LENGTHS, dtype=dtype), **options)
    with h5py.File(path) as file:
        expected = file["features/visual/values"][first:stop]
    with FeatureStore(path) as store:
        found = held(store, "visual", first, stop)
    assert found.dtype == (torch.float16 if dtype == "float16" else torch.float32)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_float16_stream_can_be_read_into_float32(tiny_store):
    with FeatureStore(tiny_store(lengths=LENGTHS, dtype="float16")) as store:
        out = torch.empty(125, 3)
        fill(store, "visual", 0, out)
        np.testing.assert_array_equal(out.numpy(), store.read("visual"))


@pytest.mark.parametrize("options", [{}, {"chunks": (5, 1), "maxshape": (None, None)}], ids=["plain", "chunked"])
def test_clips_of_no_channels_are_no_clips_to_read(tiny_store, options):
    path = rewritten(tiny_store(lengths=LENGTHS), data=np.empty((125, 0), np.float32), **options)
    with FeatureStore(path) as store:
        assert held(store).shape == (125, 0)


def test_arrays_in_one_piece_are_read_past_hdf5_and_no_others(tiny_store, monkeypatch):
    """The file's own bytes where they are the numbers; and never with another reading of them than HDF5's."""
    path = rewritten(tiny_store(lengths=LENGTHS), "features/audio/values", **CHUNKED)
    rewritten(path, "features/flow/values", **FIXED)
    read = []
    plain = h5py.Dataset.read_direct
    monkeypatch.setattr(
        h5py.Dataset, "read_direct", lambda self, *arguments: (read.append(self.name), plain(self, *arguments))
    )
    with FeatureStore(path) as store:
        for m in store.modalities:
            held(store, m)
    assert set(read) == {"/features/audio/values", "/features/flow/values"}


def test_a_file_with_something_before_its_hdf5_is_read_at_the_right_place(tiny_store):
    path = tiny_store(lengths=LENGTHS)
    shifted = path.with_name("shifted.h5")
    with h5py.File(path) as old, h5py.File(shifted, "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    with FeatureStore(path) as one, FeatureStore(shifted) as other:
        for m in one.modalities:
            assert torch.equal(held(one, m), held(other, m))


def test_a_file_cut_short_while_it_is_open_is_one_line(tiny_store):
    path = tiny_store(lengths=LENGTHS)
    with FeatureStore(path) as store:
        with open(path, "r+b") as file:
            file.truncate(3000)
        with pytest.raises(AqaError, match=r"tiny\.h5 was changed while it was being read, and reading stops here"):
            held(store, "flow")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("clip", "video"), [(0, 0), (39, 0), (40, 2), (64, 2), (65, 3), (124, 3)])
def test_what_is_no_number_is_found_wherever_it_is(tiny_store, dtype, value, clip, video):
    path = tiny_store(lengths=LENGTHS, dtype=dtype)
    with h5py.File(path, "a") as file:
        file["features/visual/values"][clip, 1] = value
    with FeatureStore(path) as store:
        with pytest.raises(AqaError, match=rf"tiny\.h5: visual of 'video {video}' holds NaN or inf; see aqa inspect$"):
            Features(store)
        with pytest.raises(AqaError, match=rf"visual of 'video {video}' holds"):
            held(store, "visual", max(clip - 3, 0), clip + 1)


def test_the_first_of_several_videos_that_hold_no_numbers_is_named(tiny_store):
    path = tiny_store(lengths=LENGTHS)
    with h5py.File(path, "a") as file:
        file["features/visual/values"][45:] = np.nan
    with FeatureStore(path) as store, pytest.raises(AqaError, match="visual of 'video 2' holds NaN"):
        Features(store)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 3.4028235e38), ("float16", 65504)])
def test_the_largest_numbers_are_numbers(tiny_store, dtype, large):
    path = tiny_store(lengths=LENGTHS, dtype=dtype)
    with h5py.File(path, "a") as file:
        file["features/visual/values"][10:30] = large
        file["features/visual/values"][20:40] = -large
        expected = file["features/visual/values"][()]
    with FeatureStore(path) as store:
        np.testing.assert_array_equal(held(store).numpy(), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_every_pattern_of_bits_is_judged_as_isfinite_does(dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = bits.view(np.float16) if dtype is np.float16 else (bits.astype(np.uint32) << 16 | 1).view(np.float32)
    judged = [loading.all_finite(numbers[i : i + 1]) for i in range(0, len(numbers), 3)]
    np.testing.assert_array_equal(judged, np.isfinite(numbers[::3]))
    assert loading.all_finite(numbers[np.isfinite(numbers)])
    assert loading.all_finite(numbers[:0])


def test_opposite_infinities_do_not_cancel(tiny_store):
    path = tiny_store(lengths=LENGTHS)
    with h5py.File(path, "a") as file:
        file["features/visual/values"][41, :2] = np.inf, -np.inf
    with FeatureStore(path) as store, pytest.raises(AqaError, match="video 2"):
        held(store)


def test_features_of_another_file_are_refused(tiny_store, tmp_path):
    """A virtual array would show the reader's other files."""
    other = tiny_store(lengths=LENGTHS, name="other.h5")
    path = tiny_store(lengths=LENGTHS)
    layout = h5py.VirtualLayout(shape=(125, 3), dtype="float32")
    layout[:] = h5py.VirtualSource(str(other), "features/visual/values", shape=(125, 3))
    with h5py.File(path, "a") as file:
        del file["features/visual/values"]
        file.create_virtual_dataset("features/visual/values", layout)
    with pytest.raises(AqaError, match="keeps its data in another file"):
        FeatureStore(path)
