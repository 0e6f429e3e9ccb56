"""What files of features hold, by their ending: one array, or arrays by name. Nothing in them is run.

.npy                  an array, or a pickled mapping of arrays (read without running it)
.npz                  arrays by name
.csv .tsv .txt        a table of numbers, a line a clip, with or without a line of names
.parquet              the same
.mat                  variables by name, of MATLAB 4 to 7.2 (scipy) and 7.3 (h5py)
.h5 .hdf5             arrays by their path
.pt .pth              a tensor, or tensors by name
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, first_line
from aqa.store import hdf5
from aqa.system.files import has_file
from aqa.system.torch_files import load_torch

from .files import what_it_is
from .npy import load_npz, read_npy
from .sheets import parquet_table
from .tables import Table
from .words import nearest_of_many

Array = NDArray[Any]
Content = Array | Mapping[str, Any]  # an array, or arrays (and mappings of them) by name
UNPACKED = 2**30  # bytes that what a file holds may always take, whatever it takes in the file
MOST_ARRAYS = 1_000_000  # by name, in a file
MATLAB_NUMBERS = {"double", "single", "logical", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64))}


def read_file(path: str | os.PathLike[str]) -> Content:
    """What a file of features holds; AqaError, one line with the file's name, where it cannot be read."""
    if not has_file(path):
        raise AqaError(f"there is no file {path}")
    if os.fspath(path).lower().endswith(".npy"):  # whose reader looks at the first bytes itself
        return read_npy(path)
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".npz", ".pt", ".pth", ".mat", ".h5", ".hdf5", ".parquet") or not path.stat().st_size:
        what = what_it_is(path)
        if what is not None:
            raise AqaError(f"{path} {what}")
    return READERS[ending](path)


class Lazy(Mapping[str, Any]):
    """Arrays by name, each read when it is asked for."""

    def __init__(self, names: list[str], read: Callable[[str], Any]):
        self._names, self._read = dict.fromkeys(names), read

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def pick(content: Content, place: str | None, where: str) -> Array:
    """The array at a place in a file, the only one where no place is given; AqaError with the nearest name."""
    if place is not None:
        content = at_place(content, place, where)
    if isinstance(content, Mapping):
        if len(content) != 1:
            names = list(content)
            shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise AqaError(f"{where} holds {len(names)} arrays ({shown}); say which one after a colon")
        content = pick(content[next(iter(content))], None, where)
    return content


def at_place(content: Content, place: str, where: str) -> Content:
    """What is at a place in a file, a name or names with "/" between them."""
    if not isinstance(content, Mapping):
        raise AqaError(f"{where} holds one array, without names; leave ':{place}' out")
    if place in content:
        found: Content = content[place]
        return found
    first, slash, rest = place.partition("/")
    if slash and first in content and isinstance(content[first], Mapping):
        return at_place(content[first], rest, where)
    raise AqaError(f"{where} has no array '{place}': {nearest_of_many(place, map(str, content))}")


def holds(content: Content, place: str) -> bool:
    """Whether there is something at a place, which is not read."""
    if not isinstance(content, Mapping):
        return False
    first, slash, rest = place.partition("/")
    return place in content or bool(slash and first in content and holds(content[first], rest))


def _npz(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        raise AqaError(f"{path} is not an .npz archive, or damaged; {what_it_is(path) or 'write it again'}") from None
    if not names:
        raise AqaError(f"{path} is an archive without arrays; an .npz archive is written with numpy.savez")
    return Lazy(names, lambda name: load_npz(path, (name,))[0])


def _parquet(path: Path) -> Content:
    return Table(path, parquet_table(path, UNPACKED).to_pandas())


def _text(path: Path) -> Content:
    return Table(path)


def _torch(path: Path) -> Content:
    return _tensors(load_torch(path), str(path))


def _tensors(loaded: Any, where: str) -> Content:
    """Tensors as arrays, in mappings as deep as they are; AqaError for all else."""
    import torch

    if isinstance(loaded, Mapping):
        return {str(name): _tensors(each, f"{where}:{name}") for name, each in loaded.items()}
    if not isinstance(loaded, torch.Tensor):
        raise AqaError(f"{where} is a {type(loaded).__name__}, not a tensor; save a tensor or a dict of tensors")
    if loaded.layout != torch.strided or loaded.is_quantized or loaded.is_complex():
        raise AqaError(f"{where} is a sparse, quantized or complex tensor; save it as plain numbers, tensor.to_dense()")
    if loaded.numel() * loaded.element_size() > loaded.untyped_storage().nbytes():
        raise AqaError(f"{where} states more numbers than it holds; save tensor.contiguous()")
    array = loaded.detach().cpu()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


def _matlab(path: Path) -> Content:
    if h5py.is_hdf5(path):
        return _hdf5(path, matlab=True)
    from scipy import io

    try:
        listed = io.whosmat(path)
        declared = sum(int(np.prod(shape, dtype=object)) * 8 for _, shape, _ in listed)
        most = max(UNPACKED, hdf5.RATIO * path.stat().st_size)
        if declared > most:
            raise AqaError(f"{path} states arrays of {declared} bytes; {most} are the most")
        kinds = {name: kind for name, _, kind in listed}

        def read(name: str) -> Any:
            if kinds[name] not in MATLAB_NUMBERS:
                raise AqaError(f"{path}: '{name}' is a {kinds[name]} of MATLAB, not an array of numbers")
            return io.loadmat(path, variable_names=[name])[name]

        names = [name for name, kind in kinds.items() if kind in MATLAB_NUMBERS] or list(kinds)
    except AqaError:
        raise
    except Exception as error:  # scipy's reader fails in many ways on a damaged file
        raise AqaError(f"{path} cannot be read as a MATLAB file: {first_line(error)}") from None
    return Lazy(names, _guarded(path, read))


def _guarded(path: Path, read: Callable[[str], Any]) -> Callable[[str], Any]:
    def guarded(name: str) -> Any:
        try:
            return read(name)
        except AqaError:
            raise
        except Exception as error:
            raise AqaError(f"{path}: '{name}' cannot be read: {first_line(error)}") from None

    return guarded


def _hdf5(path: Path, matlab: bool = False) -> Content:
    """The arrays of a file by name; groups are mappings. The file stays open for as long as they are in use."""
    try:
        file = h5py.File(path, "r")
    except hdf5.DAMAGE as error:
        other = "" if _begins_as_hdf5(path) else what_it_is(path)
        why = hdf5.held_by_a_writer(error) or other or f"cannot be read as HDF5: {first_line(error)}"
        raise AqaError(f"{path} {why}") from None
    return _group(file, path, "", matlab)


def _begins_as_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x89HDF"


def _group(file: h5py.File, path: Path, prefix: str, matlab: bool) -> Content:
    """What a group of a file has, by name; each array is read when it is asked for. MATLAB keeps arrays transposed."""

    def read(name: str) -> Any:
        place = f"{prefix}{name}"
        own = isinstance(file.get(place, getlink=True), h5py.HardLink)
        if own and isinstance(file[place], h5py.Group):
            return _group(file, path, f"{place}/", matlab)
        found = hdf5.dataset(file, place, ndim=file[place].ndim if own else 0)
        if found.dtype.kind not in "fiub" or found.dtype.itemsize > 8:
            raise AqaError(f"{path}: {place} is not an array of numbers")
        hdf5.check_size(file, found, place, UNPACKED)
        array = np.asarray(found[()])
        return array.T if matlab else array

    inside = file[prefix] if prefix else file
    if len(inside) > MOST_ARRAYS:
        raise AqaError(f"{path}: {prefix or 'it'} has {len(inside)} arrays; {MOST_ARRAYS} are the most")
    names = [str(name) for name in inside if not (matlab and name in ("#refs#", "#subsystem#"))]
    return Lazy(names, _guarded(path, read))


READERS: dict[str, Callable[[Path], Content]] = {
    ".npy": read_npy,
    ".npz": _npz,
    ".csv": _text,
    ".tsv": _text,
    ".txt": _text,
    ".parquet": _parquet,
    ".mat": _matlab,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".pt": _torch,
    ".pth": _torch,
}
