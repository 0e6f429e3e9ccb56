"""Files of features of every kind hold the same array; what is wrong with one is a line."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

from aqa.data_prep.arrays import READERS, pick, read_file
from aqa.data_prep.tables import Table
from aqa.errors import AqaError

CLIPS = np.array([[1.5, 2, 3], [4, 5, 6.25]])  # (T, D)


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def write_matlab73(path, arrays):
    """As MATLAB does: HDF5 with a block before it, arrays transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.asarray(array).T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
        file.create_group("#refs#")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


def read_array(path):
    content = read_file(path)
    return content.clips() if isinstance(content, Table) else pick(content, None, str(path))


ONE = {
    "x.npy": lambda path: np.save(path, CLIPS),
    "x.npz": lambda path: np.savez_compressed(path, clips=CLIPS),
    "x.csv": lambda path: path.write_text("1.5,2,3\n4,5,6.25\n"),
    "named.csv": lambda path: path.write_text("a,b,c\n1.5,2,3\n4,5,6.25\n"),
    "comma.csv": lambda path: path.write_text("a;b;c\n1,5;2;3\n4;5;6,25\n"),
    "bom.csv": lambda path: path.write_bytes("\ufeff1.5;2;3\r\n4;5;6.25\r\n".encode()),
    "x.tsv": lambda path: path.write_text("a\tb\tc\n1.5\t2\t3\n4\t5\t6.25\n"),
    "x.txt": lambda path: path.write_text("1.5 2   3\n4 5 6.25\n"),
    "x.parquet": lambda path: pd.DataFrame(CLIPS, columns=list("abc")).to_parquet(path),
    "x.mat": lambda path: scipy.io.savemat(path, {"clips": CLIPS}, do_compression=True),
    "x4.mat": lambda path: scipy.io.savemat(path, {"clips": CLIPS}, format="4"),
    "x73.mat": lambda path: write_matlab73(path, {"clips": CLIPS}),
    "x.h5": lambda path: write_h5(path, {"clips": CLIPS}),
    "deep.hdf5": lambda path: write_h5(path, {"a/b/clips": CLIPS}),
    "x.pt": lambda path: torch.save(torch.from_numpy(CLIPS).requires_grad_(), path),
    "dict.pth": lambda path: torch.save({"clips": torch.from_numpy(CLIPS)}, path),
    "half.pt": lambda path: torch.save(torch.from_numpy(CLIPS).to(torch.bfloat16), path),
}


@pytest.mark.parametrize("name", ONE)
def test_one_array(tmp_path, name):
    ONE[name](tmp_path / name)
    np.testing.assert_array_equal(read_array(tmp_path / name), CLIPS)


NAMED = {
    "x.npz": lambda path, arrays: np.savez(path, **arrays),
    "x.mat": scipy.io.savemat,
    "x73.mat": write_matlab73,
    "x.h5": write_h5,
    "x.pt": lambda path, arrays: torch.save({name: torch.from_numpy(each) for name, each in arrays.items()}, path),
    "x.npy": lambda path, arrays: np.save(path, np.array(arrays, dtype=object), allow_pickle=True),
}


@pytest.mark.parametrize("name", NAMED)
def test_arrays_by_name(tmp_path, name):
    NAMED[name](tmp_path / name, {"audio": CLIPS, "visual": CLIPS + 1})
    content = read_file(tmp_path / name)
    assert sorted(content) == ["audio", "visual"]
    np.testing.assert_array_equal(pick(content, "visual", name), CLIPS + 1)
    with pytest.raises(AqaError, match=r"x.* has no array 'visuals': did you mean 'visual'"):
        pick(content, "visuals", name)
    with pytest.raises(AqaError, match=r"x.* holds 2 arrays \(audio, visual\); say which one after a colon"):
        pick(content, None, name)


def test_every_ending_is_tested():
    endings = {"." + name.rpartition(".")[2] for name in [*ONE, *NAMED]}
    assert endings == set(READERS)


def test_places_in_groups(tmp_path):
    write_h5(tmp_path / "x.h5", {"a/visual": CLIPS, "b/visual": CLIPS})
    content = read_file(tmp_path / "x.h5")
    np.testing.assert_array_equal(pick(content, "b/visual", "x.h5"), CLIPS)
    np.testing.assert_array_equal(pick(content, "b", "x.h5"), CLIPS)
    with pytest.raises(AqaError, match=r"x\.h5 has no array 'audio': known: visual"):
        pick(content, "b/audio", "x.h5")


def test_one_array_has_no_places(tmp_path):
    np.save(tmp_path / "x.npy", CLIPS)
    with pytest.raises(AqaError, match="holds one array, without names; leave ':a' out"):
        pick(read_file(tmp_path / "x.npy"), "a", "x.npy")


class Bad:
    """Runs something where it is unpickled."""

    def __reduce__(self):
        return (print, ("run",))


def pickled(path):
    np.save(path, np.array({"a": Bad()}, dtype=object), allow_pickle=True)


def cut(write):
    def spoil(path):
        write(path)
        path.write_bytes(path.read_bytes()[:-40])

    return spoil


def linked(path):
    with h5py.File(path, "w") as file:
        file["clips"] = h5py.ExternalLink("/etc/other.h5", "x")


def huge(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("clips", shape=(2**40, 3), dtype="f4", chunks=(2**10, 3), compression="gzip")


SPOILED = {
    "empty .npy": ("x.npy", b"", "is empty"),
    "empty .mat": ("x.mat", b"", "is empty"),
    "a .npy that is cut off": ("x.npy", cut(ONE["x.npy"]), r"x\.npy is cut off or not a feature file"),
    "an .npz that is cut off": ("x.npz", cut(ONE["x.npz"]), r"x\.npz is not an \.npz archive, or damaged"),
    "a .mat that is cut off": ("x.mat", cut(ONE["x.mat"]), r"x\.mat(: 'clips')? cannot be read"),
    "an .h5 that is cut off": ("x.h5", cut(ONE["x.h5"]), r"x\.h5 cannot be read as HDF5"),
    "a .pt that is cut off": ("x.pt", cut(ONE["x.pt"]), r"x\.pt is refused"),
    "a .parquet that is cut off": ("x.parquet", cut(ONE["x.parquet"]), r"x\.parquet cannot be read as Parquet"),
    "a pickle that runs": ("x.npy", pickled, r"asks to run (builtins|__builtin__)\.print: refused"),
    "a .pt that runs": ("x.pt", lambda path: torch.save(Bad(), path), r"x\.pt is refused: it asks for .*print"),
    "a plain pickle": ("x.npy", lambda path: path.write_bytes(pickle.dumps([1])), "is a plain pickle"),
    "a web page": ("x.csv", b"<html></html>", "is a web page"),
    "Git LFS": ("x.npz", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    "an .h5 called .npy": ("x.npy", ONE["x.h5"], "is an HDF5 file, whatever its name says"),
    "an .npy called .h5": ("x.h5", lambda p: p.write_bytes(b"\x93NUMPY"), r"x\.h5 cannot be read as HDF5"),
    "an archive without arrays": ("x.npz", lambda p: _empty_zip(p), "is an archive without arrays"),
    "words in a table": ("x.csv", b"a,b\n1,2\n3,high\n", r"column 'b', row 2, is 'high', not a number"),
    "an empty cell": ("x.csv", b"a,b\n1,\n", r"column 'b', row 1, is '', not a number"),
    "a line too long": ("x.csv", b"1,2\n3,4,5\n", r"x\.csv cannot be read as a table: .*line 2"),
    "lines too long": ("x.csv", b"a,b\n1,2,3\n3,4,5\n", "its lines have more fields than the first, 2"),
    "no line": ("x.csv", b"a,b\n", r"x\.csv has no line of features"),
    "Latin-1": ("x.csv", "grün,b\n1,2\n".encode("latin-1"), "it is not UTF-8; save it again"),
    "a link to elsewhere": ("x.h5", linked, "clips is a link"),
    "more than it holds": ("x.h5", huge, "clips declares 13194139533312 bytes"),
    "text in .h5": ("x.h5", lambda p: write_h5(p, {"clips": "text"}), "clips is not an array of numbers"),
    "a cell array": (
        "x.mat", lambda p: scipy.io.savemat(p, {"c": np.array([1, "a"], dtype=object)}), "'c' is a cell of MATLAB"
    ),
    "a struct": ("x.mat", lambda p: scipy.io.savemat(p, {"s": {"a": 1}}), "'s' is a struct of MATLAB"),
    "a list of tensors": ("x.pt", lambda p: torch.save([torch.ones(2)], p), "is a list, not a tensor"),
    "a sparse tensor": ("x.pt", lambda p: torch.save(torch.eye(2).to_sparse(), p), r"x\.pt is (refused|a sparse)"),
    "an unfolding tensor": ("x.pt", lambda p: torch.save(torch.ones(1).expand(2**40), p), "more numbers than it holds"),
}  # fmt: skip


def _empty_zip(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")


@pytest.mark.parametrize(("name", "content", "message"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_feature_file_is_one_line(tmp_path, name, content, message, capfd):
    if callable(content):
        content(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AqaError, match=message) as error:
        read_array(tmp_path / name)
    assert "\n" not in str(error.value)
    assert "run\n" not in capfd.readouterr().out


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AqaError, match="there is no file"):
        read_file(tmp_path / "x.npy")
