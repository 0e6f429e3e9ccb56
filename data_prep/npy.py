"""Reading .npy files from others without running what is in them.

The benchmarks publish features as pickled object arrays: a 0-d array that holds a dict of video id -> (T, D) array.
`numpy.load(allow_pickle=True)` would run any code that such a file asks for. Here the pickle may name the few things
that an array is written with, and even these are not numpy's: stand-ins collect shape, type and bytes, and a plain
array is made from them after they were checked. Nothing else can be named, so nothing else can be run. Before that the
pickle is read through without being run, and every size that a file states is compared with the file's own.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, first_line, printable
from aqa.system.files import has_file
from aqa.system.pickles import Refused, examine

from .files import what_it_is

# Booleans, integers and floats of a fixed size: "f4", "<f8", "i8". Text, records and objects are not features.
_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]  # shape, whether in Fortran's order, type
_MAGIC = b"\x93NUMPY"
# The header of an array of numbers as numpy writes it, in this many bytes.
_BEGINNING = 128
_SIZE = rb"(?:0|[1-9]\d{0,17})"
_PLAIN = re.compile(
    rb"\x93NUMPY\x01\0v\0\{'descr': '(?P<type>[<>|](?:b1|[iu][1248]|f[248]))', "
    rb"'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>|" + _SIZE + rb",|" + _SIZE + rb"(?:, " + _SIZE + rb")+)\), \} *\n"
)
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    ImportError,
    OverflowError,
    MemoryError,
    RuntimeError,
    struct.error,
    SyntaxError,  # both of numpy's reader of headers
    tokenize.TokenError,
)
UNPACKED = 2**30  # bytes that the arrays of an .npz file may take, whatever they take in the file


class _Dtype:
    """Stand-in for numpy.dtype: keeps the type's code and byte order."""

    def __init__(self, code: object, align: object = False, copy: object = False):
        self.code = str(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.code = order + self.code.lstrip("<>=|")

    @property
    def is_object(self) -> bool:
        return self.code.lstrip("|") in ("O", "O4", "O8")

    def numeric(self) -> np.dtype[Any]:
        if not _NUMERIC.fullmatch(self.code):
            raise ValueError(f"an array of type '{self.code}', not of numbers")
        return np.dtype(self.code)


class _Array:
    """Stand-in for numpy.ndarray: keeps what the pickle says the array is made of."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = _Dtype("O")
        self.fortran = False
        self.data: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def numeric(self) -> NDArray[Any]:
        """The array itself; ValueError where the bytes are not those of numbers in the stated shape."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data  # str: written by Python 2
        if self.dtype.is_object:
            raise ValueError("an array of objects, not of numbers")
        values = np.frombuffer(data, dtype=self.dtype.numeric())
        return values.reshape(self.shape, order="F" if self.fortran else "C")


class _Ndarray:
    """Stands where a pickle says numpy.ndarray; of no use but as the argument of `_reconstruct`."""


def _reconstruct(subtype: object, shape: object, typecode: object) -> _Array:
    if subtype is not _Ndarray:
        raise ValueError(f"an array of class {subtype!r}")
    return _Array()


def _frombuffer(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _latin1(text: str, encoding: str) -> bytes:
    # Python 3 writes bytes in this roundabout way at protocol 2.
    if encoding != "latin1":
        raise Refused(f"_codecs.encode to '{encoding}'")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    # And empty bytes in this one; without arguments the call can make nothing else.
    return b""


def _ordered_dict(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    return dict(pairs)


def _default_dict(factory: object = None) -> dict[Any, Any]:
    # What would make missing entries is a name here, which nothing can call.
    if factory is not None and not isinstance(factory, _Inert):
        raise ValueError(f"a defaultdict of {type(factory).__name__}")
    return {}


def _scalar(dtype: object, data: object) -> int | str:
    """A numpy integer or text, as keys are; numpy's own reader would unpickle the bytes of an object."""
    code = dtype.code.lstrip("=|") if isinstance(dtype, _Dtype) else ""
    data = data.encode("latin1") if isinstance(data, str) else data
    if isinstance(data, bytes) and re.fullmatch(r"[<>]?[iu][1248]", code):
        return int(np.frombuffer(data, code, count=1)[0])
    if isinstance(data, bytes) and re.fullmatch(r"[<>]?U\d+", code):
        return data.decode("utf-32-be" if code.startswith(">") else "utf-32-le").rstrip("\0")
    raise Refused(f"numpy.core.multiarray.scalar of type '{code}'")


class _Inert:
    """Stands where a pickle names a built-in type that it may mention but not call."""


_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    **{f"{home}.{name}": _Inert() for home in ("builtins", "__builtin__") for name in ("dict", "float", "int", "list")},
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.ndarray": _Ndarray,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _latin1,
    "__builtin__.bytes": _no_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows arrays and built-in containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in _ALLOWED:
            raise Refused(wanted)
        return _ALLOWED[wanted]


def load_npy(path: str | os.PathLike[str]) -> NDArray[Any] | dict[Any, Any]:
    """What a published .npy file holds: a plain array, or the dict inside a pickled 0-d object array.

    The dict's arrays are numeric; its keys and the arrays' dimensions are the caller's to check (`load_mapping`).
    Raises AqaError, naming the file, where it is missing, cut off or not .npy, and where its pickle asks for anything
    but arrays, naming what it asked for.
    """
    path = Path(path)
    _require_there(path)
    return read_npy(path)


def read_npy(path: str | os.PathLike[str]) -> NDArray[Any] | dict[Any, Any]:
    """The same of a file that is known to be there."""
    try:
        with open(path, "rb", buffering=0) as file:
            header = _read_header(file, path)
            if _is_pickled(header, path):
                with io.BufferedReader(file) as buffered:  # a pickle is read in small pieces
                    return _unpickle(buffered, Path(path))
            return _plain_array(file, header, os.fstat(file.fileno()).st_size)
    except Refused as refused:
        raise AqaError(_refusal(path, refused)) from None
    except OSError as error:
        raise AqaError(f"{path} cannot be read: {error.strerror or error}") from None
    except _BROKEN as error:
        raise AqaError(f"{path} is cut off or not a feature file: {first_line(error)}") from None


def _require_there(path: Path) -> None:
    if not has_file(path):
        raise AqaError(f"{path} cannot be read: No such file")


def shape_of(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """The shape of the plain array of numbers in an .npy file, of which the beginning alone is read; None otherwise.

    None as well where `load_npy` may say that something is wrong.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            header = _plain_header(file.read(_BEGINNING))
            if header is None:
                return None
            shape, _, dtype = header
            whole = math.prod(shape) * dtype.itemsize <= os.fstat(file.fileno()).st_size - _BEGINNING
            return shape if whole else None
    except OSError:
        return None


def _refusal(path: str | os.PathLike[str], refused: Refused) -> str:
    if str(refused).startswith("numpy.ma."):
        return f"{path} holds masked arrays, which are not read; save each as array.filled(0), or leave the stream out"
    # A name may hold line breaks and worse.
    return f"{path} asks to run {printable(str(refused))}: refused, a feature file holds arrays and nothing else"


def _plain_array(file: io.RawIOBase | io.BytesIO, header: Header, size: int) -> NDArray[Any]:
    """An array of numbers without a pickle; ValueError where it states more than the `size` bytes that there are.

    header: what was read of the file, up to the numbers.
    """
    shape, fortran, dtype = header
    if dtype.hasobject:
        raise ValueError("Object arrays are pickles, which are not read here")
    if dtype.kind not in "biufSU":
        raise ValueError(f"an array of type '{dtype}', not of numbers")
    stated, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if stated > there:
        raise ValueError(f"an array of {stated} bytes is stated, {there} are there")
    array: NDArray[Any] = np.empty(shape, dtype, order="F" if fortran else "C")
    rest = array.reshape(-1, order="A").view(np.uint8).data if stated else memoryview(b"")
    while rest:
        count = file.readinto(rest)  # at most 2 GB at once, from a file
        if not count:
            raise ValueError("the file ends too early")
        rest = rest[count:]
    return array


def load_npz(path: str | os.PathLike[str], names: Sequence[str]) -> list[NDArray[Any]]:
    """Arrays of numbers or text from an .npz file, by name.

    Raises AqaError, naming the file, where one is missing or twice, states another size than it has, or unpacks to more
    than UNPACKED bytes, and for anything that is not such a file.
    """
    path = Path(path)
    try:
        _require_there(path)
        what = None if zipfile.is_zipfile(path) else what_it_is(path)
        if what is not None:
            raise AqaError(f"{path} {what}")
        with zipfile.ZipFile(path) as archive:
            entries = {}
            for name in names:
                found = [entry for entry in archive.infolist() if entry.filename == f"{name}.npy"]
                if len(found) != 1:
                    raise ValueError(f"'{name}' is in it {len(found)} times, not once")
                entries[name] = found[0]
            unpacked = sum(entry.file_size for entry in entries.values())
            if unpacked > UNPACKED:
                raise ValueError(f"they unpack to {unpacked} bytes; {UNPACKED} are the most")
            return [_entry(archive, entry) for entry in entries.values()]
    except OSError as error:
        raise AqaError(f"{path} cannot be read: {error.strerror or first_line(error)}") from None
    except (*_BROKEN, zipfile.BadZipFile, zlib.error) as error:
        wanted = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise AqaError(f"{path} cannot be read as {wanted}: {first_line(error)}") from None


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as packed:  # gives no more bytes than the entry states
        file = io.BytesIO(packed.read())
        return _plain_array(file, _read_header(file), entry.file_size)


def load_mapping(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """A published file of many videos: video id -> array of numbers, (T, D) where the file is right.

    Raises AqaError as `load_npy` does, and where the file holds one plain array or has ids that are not text.
    """
    loaded = load_npy(path)
    if not isinstance(loaded, dict):
        raise AqaError(f"{path} holds one array of shape {loaded.shape}; expected video id -> array")
    for key, value in loaded.items():
        if not isinstance(value, np.ndarray):
            raise AqaError(f"{path}: {key!r} holds {_what_else(value)}")
    return loaded


def _what_else(value: object) -> str:
    """What stands in the place of a video's array, and what to do about it."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} entries, not an array; save that mapping by itself"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)} entries, not an array; save np.stack of it, (clips, channels)"
    return f"a {type(value).__name__}, not an array"


def _ids_as_text(content: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    """A mapping whose whole-number ids are made text, which is said; AqaError for other ids and for one given twice."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(key, bool) or not isinstance(key, (int, str)):
            raise AqaError(f"{path}: the id {key!r} is not text")
        if str(key) in found:
            raise AqaError(f"{path}: the id '{key}' is there twice, as a number and as text")
        found[str(key)] = value
    numbers = [key for key in content if isinstance(key, int)]
    if numbers:
        warnings.warn(
            f"{path}: {len(numbers)} ids are numbers and are read as text, such as '{numbers[0]}'", stacklevel=2
        )
    return found


def _is_pickled(header: Header, path: str | os.PathLike[str]) -> bool:
    """True where a pickle follows a header, which then must be one 0-d object array."""
    shape, _, dtype = header
    if dtype.hasobject and (shape != () or dtype != np.dtype(object)):
        raise AqaError(f"{path} holds objects of type '{dtype}' in shape {shape}; expected one dict, or plain numbers")
    if not dtype.hasobject and dtype.kind not in "biuf":
        raise AqaError(f"{path} holds '{dtype}', not numbers")
    return bool(dtype.hasobject)


def _read_header(file: io.RawIOBase | io.BytesIO, path: str | os.PathLike[str] | None = None) -> Header:
    """Shape, order and type of the array in a file, of which the rest comes next.

    Most headers are as numpy writes them, and cost little to read; all others numpy reads. AqaError, where the path is
    given, for a file of another kind that its first bytes tell.
    """
    start = file.read(_BEGINNING)
    plain = _plain_header(start)
    if plain is not None:
        return plain
    if path is not None and not start.startswith(_MAGIC) and (what := what_it_is(Path(path))) is not None:
        raise AqaError(f"{path} {what}")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    # Version 3 differs in the names of record fields only, and record arrays are no features.
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: Header = read_header(file)
    return header


@lru_cache(maxsize=1024)
def _plain_header(start: bytes) -> Header | None:
    """What the beginning of a file states that is as numpy writes it; None otherwise. Most files begin as others do."""
    found = _PLAIN.fullmatch(start)
    if found is None:
        return None
    shape = tuple(map(int, found["shape"].replace(b",", b" ").split()))
    return shape, found["fortran"] == b"True", np.dtype(found["type"].decode())


def _unpickle(file: BinaryIO, path: Path) -> dict[Any, Any]:
    start = file.tell()
    examine(file, _ALLOWED.__contains__)
    file.seek(start)
    outer = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(outer, _Array) or not outer.dtype.is_object or outer.shape != ():
        raise ValueError("the pickle is not a 0-d object array")
    content = outer.data[0] if isinstance(outer.data, list) and len(outer.data) == 1 else None
    if not isinstance(content, Mapping):
        raise AqaError(f"{path} holds a {type(content).__name__}; expected video id -> array")
    arrays = {key: _numeric(value, key, path) for key, value in _ids_as_text(content, path).items()}
    total = sum(array.nbytes for array in arrays.values() if isinstance(array, np.ndarray))
    if total > path.stat().st_size:  # many ids may refer to the same bytes
        raise AqaError(f"{path} states arrays of {total} bytes, more than it holds")
    return arrays


def _numeric(value: object, key: object, path: Path) -> object:
    if not isinstance(value, _Array):
        return value
    try:
        return value.numeric()
    except _BROKEN as error:
        raise AqaError(f"{path}: {key!r} is {first_line(error)}") from None
