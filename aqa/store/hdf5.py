"""HDF5 files from others: only what a feature store may hold is read, and none of it before its size is known.

A file can name other files (links, arrays kept elsewhere), declare more numbers than any memory holds, or unpack to a
thousand times its size. All of that is refused here, in one line that says where. What cannot be guarded against in
Python are faults of the HDF5 library itself; see docs/untrusted.md.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, printable
from aqa.names import check_name

MOST_MEMBERS = 1000  # of a group: targets, splits, groups
MOST_ROWS = 10_000_000  # of ids and all that goes with them
LONGEST_TEXT = 65_536  # characters of an attribute
AT_ONCE = 2**28  # bytes that ids read together may take, whatever they say
UNPACKED = 2**30  # bytes: what a compressed array may always unpack to
SMALL = 2**20  # the same of ids, offsets, targets, splits and groups
RATIO = 100  # and how many times its size in the file beyond that
BIG_CHUNK = 2**26  # bytes; a chunk may be larger only if its array is
DEFLATE_RATIO = 1032  # the most that a byte of a deflate stream can unpack to
LZF_RATIO = 88
FILTERS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF, h5py.h5z.FILTER_FLETCHER32}
REFERENCE = np.dtype([("length", "<u4"), ("place", "<u8"), ("number", "<u4")])  # as HDF5 keeps texts of any length
DAMAGE = (OSError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, MemoryError)


def held_by_a_writer(error: BaseException) -> str:
    """What keeps a file from being opened that another program writes, in words; "" for any other error."""
    said = str(error)
    if "already open for write" in said:
        return (
            "is still being written, or was not closed by the program that wrote it; close it there first "
            "(if that program is gone, write the file again)"
        )
    if "unable to lock file" in said or isinstance(error, BlockingIOError):
        return "is open for writing in another program; close it there first"
    return ""


def group(file: h5py.File, name: str) -> h5py.Group | None:
    """A group by its path; None if it is missing."""
    found = _member(file, name)
    if found is not None and not isinstance(found, h5py.Group):
        raise AqaError(f"{file.filename}: '{name}' is not a group")
    return found


def members(file: h5py.File, name: str) -> list[str]:
    """The names in a group, none if it is missing; each is the file's own and fit to be printed."""
    found = group(file, name)
    if found is None:
        return []
    if len(found) > MOST_MEMBERS:
        raise AqaError(f"{file.filename}: {name} has {len(found)} members; {MOST_MEMBERS} are the most")
    names = [str(key) for key in found]
    for key in names:
        check_name(key, f"{file.filename}: a name in {name}")
        _own(file, found, key, f"{name}/{key}")
    return names


def dataset(file: h5py.File, name: str, ndim: int) -> h5py.Dataset:
    """An array of the file's own, of so many dimensions, whose numbers it really holds."""
    found = _member(file, name)
    if found is None:
        raise AqaError(f"{file.filename}: '{name}' is missing")
    if isinstance(found, h5py.Group):
        raise AqaError(f"{file.filename}: '{name}' is a group, not an array; a name with '/' makes one, and is refused")
    if not isinstance(found, h5py.Dataset) or found.ndim != ndim:
        raise AqaError(f"{file.filename}: '{name}' is not an array of {ndim} dimension{'s' * (ndim > 1)}")
    if found.external or found.is_virtual:
        raise AqaError(f"{file.filename}: {name} keeps its data in another file; a store holds its own data")
    return found


def numbers(file: h5py.File, name: str, kinds: str, dtype: type[Any], rows: int | None = None) -> NDArray[Any]:
    """A small array (n,) of numbers. kinds: of type, as numpy has them; rows: how many are expected."""
    found = dataset(file, name, ndim=1)
    if found.dtype.kind not in kinds or found.dtype.itemsize > 8:
        expected = "whole numbers" if "f" not in kinds else "numbers"
        raise AqaError(f"{file.filename}: {name} is of type {printable(str(found.dtype))}, not {expected}")
    if rows is not None and len(found) != rows:
        raise AqaError(f"{file.filename}: {name} has {len(found)} values for {rows} ids")
    check_size(file, found, name, SMALL)
    return np.asarray(found[()], dtype=dtype)


def texts(file: h5py.File, name: str) -> list[str]:
    """A small array (n,) of names, or of whole numbers that serve as names."""
    found = dataset(file, name, ndim=1)
    if len(found) > MOST_ROWS:
        raise AqaError(f"{file.filename}: {name} has {len(found)} entries; {MOST_ROWS} are the most")
    kind = h5py.check_string_dtype(found.dtype)
    if kind is None and found.dtype.kind not in "iu":
        raise AqaError(f"{file.filename}: {name} is of type {printable(str(found.dtype))}, not text")
    check_size(file, found, name, SMALL)
    step = max(AT_ONCE // max(_largest(file, found), 1), 1)
    values: list[str] = []
    where = f"{file.filename}: {name}"  # once: HDF5 is asked for it
    for first in range(0, len(found), step):
        for value in found[first : first + step]:
            text = as_text(value)
            check_name(text, f"{where}, row {len(values)}")
            values.append(text)
    return values


def _largest(file: h5py.File, found: h5py.Dataset) -> int:
    """Bytes that an entry may take, whatever the entries say: many may refer to one text, as long as the file."""
    kind = h5py.check_string_dtype(found.dtype)
    if kind is None or kind.length is not None:
        return int(found.dtype.itemsize)
    place = found.id.get_offset()
    if place is not None and found.id.get_storage_size() == len(found) * REFERENCE.itemsize:
        lengths = np.fromfile(file.filename, REFERENCE, len(found), offset=place)["length"]
        return int(lengths.max(initial=0))
    return os.path.getsize(file.filename)


def attribute(file: h5py.File, name: str, key: str, shape: tuple[int, ...] = ()) -> Any:
    """An attribute of a group or array, numbers or text of the shape expected; None if there is none."""
    thing = file[name]
    if key not in thing.attrs:
        return None
    where = f"{file.filename}: attribute '{key}' of {name}"
    found = thing.attrs.get_id(key)
    kind = found.dtype
    if found.shape != shape or found.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise AqaError(f"{where} has shape {found.shape}, not {shape}")
    if (h5py.check_string_dtype(kind) is None and kind.kind not in "iuf") or kind.itemsize > LONGEST_TEXT:
        raise AqaError(f"{where} is of type {printable(str(kind))}, neither text nor a number")
    value = thing.attrs[key]
    if h5py.check_string_dtype(kind) is None:
        return value
    if shape:
        return [_checked_text(item, where) for item in value]
    return _checked_text(value, where)


def check_size(file: h5py.File, found: h5py.Dataset, name: str, allowed: int) -> None:
    """AqaError if an array would take more memory than its bytes in the file warrant.

    allowed: bytes that a compressed array may unpack to in any case.
    """
    created = found.id.get_create_plist()
    where = f"{file.filename}: {name}"
    declared = math.prod(found.shape) * found.id.get_type().get_size()
    held = found.id.get_storage_size()
    filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    strange = [number for number in filters if number not in FILTERS]
    if strange:
        raise AqaError(f"{where} is packed by filter {strange[0]}; gzip, lzf, shuffle and fletcher32 are read")
    if found.chunks:
        _check_chunks(found, filters, declared, where)
    elif declared and found.id.get_offset() is not None:
        held = min(held, os.path.getsize(file.filename) - found.id.get_offset())
    if declared > (max(allowed, RATIO * held) if _packs(filters) else held):
        raise AqaError(f"{where} declares {declared} bytes, of which the file holds {max(held, 0)}")


def _check_chunks(found: h5py.Dataset, filters: list[int], declared: int, where: str) -> None:
    """AqaError for chunks that take much memory to unpack: reading a single number unpacks a whole one."""
    raw = math.prod(found.chunks) * found.id.get_type().get_size()
    if raw > max(BIG_CHUNK, declared):
        raise AqaError(f"{where} has chunks of {raw} bytes, larger than all of it")
    if not _packs(filters):
        return
    # In the order of writing; packed twice, a stream unpacks to a million times its size.
    order = [number for number in filters if number not in (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)]
    if len(order) > 1 or h5py.h5z.FILTER_SHUFFLE in filters[filters.index(order[0]) :]:
        raise AqaError(f"{where} is packed in an unusual way (filters {filters}); gzip or lzf, after shuffle, is read")
    deflated = order[0] == h5py.h5z.FILTER_DEFLATE
    for offset, size in _stored_chunks(found):
        # The library unpacks a chunk to its end, however much that is.
        suspect = size * (DEFLATE_RATIO if deflated else LZF_RATIO) > UNPACKED
        if size > raw + raw // 16 + 1024 or (suspect and (not deflated or _inflates_beyond(found, offset, raw))):
            raise AqaError(f"{where}: a chunk unpacks to more than its {raw} bytes")


def _stored_chunks(found: h5py.Dataset) -> list[tuple[tuple[int, ...], int]]:
    """Place and stored size of every chunk."""
    chunks: list[tuple[tuple[int, ...], int]] = []
    found.id.chunk_iter(lambda info: chunks.append((info.chunk_offset, info.size)))
    return chunks


def _inflates_beyond(found: h5py.Dataset, offset: tuple[int, ...], raw: int) -> bool:
    skipped, packed = found.id.read_direct_chunk(offset)
    return not skipped and any(total > raw for total in _inflated(packed))


def _inflated(packed: bytes) -> Iterator[int]:
    """How many bytes a deflate stream has given, after each piece of it."""
    stream, total = zlib.decompressobj(), 0
    while packed and not stream.eof:
        total += len(stream.decompress(packed, 2**20))
        packed = stream.unconsumed_tail
        yield total


def _packs(filters: list[int]) -> bool:
    return h5py.h5z.FILTER_DEFLATE in filters or h5py.h5z.FILTER_LZF in filters


def _member(file: h5py.File, name: str) -> Any:
    """What a path leads to, each step of it one of the file's own; None if it is missing."""
    found: Any = file
    for key in name.split("/"):
        if not isinstance(found, h5py.Group) or key not in found:
            return None
        _own(file, found, key, name)
        found = found[key]
    return found


def _own(file: h5py.File, parent: h5py.Group, key: str, name: str) -> None:
    if not isinstance(parent.get(key, getlink=True), h5py.HardLink):
        raise AqaError(f"{file.filename}: {name} is a link; a store holds its own data")


def _checked_text(value: Any, where: str) -> str:
    text = as_text(value)
    if len(text) > LONGEST_TEXT:
        raise AqaError(f"{where} has {len(text)} characters; {LONGEST_TEXT} are the most")
    return text


def as_text(value: Any) -> str:
    """A text as h5py gives it, bytes or not."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
