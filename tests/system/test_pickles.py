"""What a pickle asks for is found without running it, wherever the project reads one."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import torch

from aqa.data_prep.npy import load_mapping, load_npy, load_npz
from aqa.errors import AqaError
from aqa.system.pickles import BROKEN, Refused, examine
from aqa.system.torch_files import load_torch

HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(127) + b"\n"


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def doubled(kind):
    """Sixty values, each of the one before twice: (x, x) or [x, x]."""
    steps = b"K\x01K\x02\x86\x94" if kind == "tuple" else b"]\x94"
    for i in range(60):
        last = b"h" + bytes([i])
        steps += b"0" + last + last + b"\x86\x94" if kind == "tuple" else b"0](" + last + last + b"e\x94"
    return steps


def tricks(canary):
    """Pickles, by the trick that each tries; every one that runs code would make the canary file."""
    touch = f"touch {canary}"
    made = pickle.dumps(Calls(os.system, touch), 2)
    return {
        "os.system": pickle.dumps(Calls(os.system, touch)),
        "at protocol 0": pickle.dumps(Calls(os.system, touch), 0),
        "builtins.eval": pickle.dumps(Calls(eval, f"open({str(canary)!r}, 'w')")),
        "builtins.exec": pickle.dumps(Calls(exec, f"open({str(canary)!r}, 'w')")),
        "open": pickle.dumps(Calls(open, str(canary), "w")),
        "subprocess": pickle.dumps(Calls(__import__("subprocess").check_call, touch.split())),
        "importlib": pickle.dumps(Calls(__import__("importlib").import_module, "antigravity")),
        "getattr": b"\x80\x04cbuiltins\ngetattr\ncos\nenviron\n\x86R.",
        "operator": pickle.dumps(Calls(__import__("operator").attrgetter, "system")),
        "functools.partial": pickle.dumps(Calls(__import__("functools").partial, os.system, touch)),
        "copyreg": b"\x80\x02ccopyreg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
        "nested pickle": pickle.dumps(Calls(pickle.loads, made)),
        "numpy scalar of an object": pickle.dumps(Calls(np._core.multiarray.scalar, np.dtype("O"), made)),
        "torch.load": pickle.dumps(Calls(torch.load, str(canary))),
        "torch storage": pickle.dumps(Calls(torch.storage._load_from_bytes, made)),
        "dotted name": b"\x80\x04" + text("numpy") + text("ndarray.__init__.__globals__") + b"\x93.",
        "name that is made": b"\x80\x04]" + text("system") + b"\x93.",
        "line break in a name": b"\x80\x04" + text("os\nposix") + text("system") + b"\x93.",
        "INST": b"(S'" + touch.encode() + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + touch.encode() + b"'\no.",
        "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "extension registry": b"\x80\x02\x82\x01.",
        "extension registry, long": b"\x80\x02\x84\x01\x00\x00\x00.",
        "persistent id": b"Pabc\n.",
        "change of a function": b"\x80\x02c_codecs\nencode\n}\x8c\x01a\x8c\x01bsb.",
        "call of what was made": b"\x80\x02c_codecs\nencode\n\x8c\x01a\x8c\x06latin1\x86R)R.",
        "memo of 4,000 million": b"\x80\x04N" + b"r" + struct.pack("<I", 2**32 - 2) + b".",
        "bytes of terabytes": b"\x80\x05\x96" + struct.pack("<Q", 2**42) + b"abc.",
        "text of gigabytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**36) + b"abc.",
        "number of gigabytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        "number in too many digits": b"L" + b"9" * 10_000 + b"L\n.",
        "pairs of pairs as a key": b"\x80\x04}" + doubled("tuple") + b"N" + b"s.",
        "lists of lists": b"\x80\x04" + doubled("list") + b".",
        "a list in itself": b"\x80\x04]\x94h\x00a.",
        "fill of memory": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R.",
        "too little on the stack": b"\x80\x04R.",
        "no end": b"\x80\x04]",
    }


NAMES = list(tricks("x"))
SAID = {
    "os.system": "posix.system",
    "at protocol 0": "posix.system",
    "builtins.eval": "builtins.eval",
    "getattr": "builtins.getattr",
    "nested pickle": "_pickle.loads",
    "torch storage": "torch.storage._load_from_bytes",
    "dotted name": "numpy.ndarray.__init__.__globals__",
    "line break in a name": r"os\nposix.system",
    "INST": "os.system",
    "extension registry": "the extension registry (EXT1)",
    "memo of 4,000 million": "place 4294967294 of a memo of 0",
    "pairs of pairs as a key": "values that unfold without end",
    "fill of memory": "builtins.bytearray",
}


def zipped(path, pickled, **more):
    """A checkpoint as torch writes it, with another pickle in it."""
    with zipfile.ZipFile(path, "w", **more) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", b"")


WRITERS = {
    "npy": (lambda path, pickled: path.write_bytes(HEADER + pickled), load_npy),
    "checkpoint": (zipped, load_torch),
    "old checkpoint": (lambda path, pickled: path.write_bytes(pickled), load_torch),
}


@pytest.mark.parametrize("place", WRITERS)
@pytest.mark.parametrize("name", NAMES)
def test_no_trick_runs_hangs_or_takes_memory(tmp_path, place, name):
    canary, path = tmp_path / "canary", tmp_path / "file"
    write, load = WRITERS[place]
    write(path, tricks(canary)[name])
    begin, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AqaError) as error:
        load(path)
    assert time.process_time() - begin < 60  # of the processor: what these tricks ask for never ends
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 100 * 1024  # KiB
    assert "\n" not in str(error.value)
    assert SAID.get(name, "") in str(error.value)
    assert not canary.exists()


def test_the_tricks_would_work_on_a_reader_that_runs_them(tmp_path):
    for name in ("os.system", "at protocol 0", "builtins.exec", "nested pickle", "INST", "OBJ"):
        canary = tmp_path / name.replace(" ", "-")
        pickle.loads(tricks(canary)[name])
        assert canary.exists(), name


@pytest.mark.parametrize("protocol", range(6))
def test_honest_pickles_pass_at_every_protocol(protocol):
    shared = [1, "x" * 200, 2.5, b"abc", None, True, 10**30]
    content = {"a": (shared, shared), "b": {3: [[]], "ü": frozenset({1, 2})}, "c": [shared] * 10}
    names = {"builtins.frozenset", "__builtin__.frozenset", "_codecs.encode", "__builtin__.bytes"}
    assert examine(io.BytesIO(pickle.dumps(content, protocol)), names.__contains__) == []


def test_garbage_ends_in_one_of_the_errors_named():
    whole, rng = pickle.dumps({"a": [1, (2, 3)], "b": "text"}, 4), np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        with contextlib.suppress(Refused, *BROKEN):
            examine(io.BytesIO(bytes(data)), lambda name: False)


# Arrays without pickles


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_plain_array_that_states_terabytes_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy(np.zeros(123456, np.float32)).replace(b"123456", b"9" * 6)[:1000])
    with pytest.raises(AqaError, match="an array of 3999996 bytes is stated, 872 are there"):
        load_npy(tmp_path / "x.npy")


def test_ids_that_share_their_bytes_are_refused(tmp_path):
    """A million videos may be the same megabyte, and would be written as a terabyte."""
    shared = np.ones((50, 50))
    np.save(tmp_path / "x.npy", {str(i): shared for i in range(50)})
    with pytest.raises(AqaError, match="states arrays of 1000000 bytes, more than it holds"):
        load_mapping(tmp_path / "x.npy")


def archive(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)


SOUND = npy(np.arange(3.0))
BOMB = npy(np.zeros(0)).replace(b"(0,)", b"(134217728,)") + bytes(2**20)
ARCHIVES = {
    "twice": ([("a.npy", SOUND), ("a.npy", SOUND), ("b.npy", SOUND)], "'a' is in it 2 times, not once"),
    "missing": ([("a.npy", SOUND)], "'b' is in it 0 times, not once"),
    "elsewhere": ([("../a.npy", SOUND), ("/b.npy", SOUND)], "'a' is in it 0 times, not once"),
    "pickled": ([("a.npy", HEADER + pickle.dumps({})), ("b.npy", SOUND)], "Object arrays are pickles"),
    "too much stated": ([("a.npy", BOMB), ("b.npy", SOUND)], "an array of 1073741824 bytes is stated"),
    "no arrays": ([("a.npy", b"no array at all"), ("b.npy", b"")], "magic string is not correct"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("entries", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_of_another_kind_is_one_line(tmp_path, entries, message):
    archive(tmp_path / "x.npz", entries)
    with pytest.raises(AqaError, match=r"x\.npz cannot be read as a and b") as error:
        load_npz(tmp_path / "x.npz", ("a", "b"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("aqa.data_prep.npy.UNPACKED", 2**20)
    archive(tmp_path / "x.npz", [("a.npy", npy(np.zeros(2**18))), ("b.npy", SOUND)], zipfile.ZIP_DEFLATED)
    assert (tmp_path / "x.npz").stat().st_size < 2**13
    with pytest.raises(AqaError, match="they unpack to 2097432 bytes; 1048576 are the most"):
        load_npz(tmp_path / "x.npz", ("a", "b"))


def test_an_archive_that_lies_about_its_sizes_or_is_damaged_is_one_line(tmp_path):
    path = tmp_path / "x.npz"
    archive(path, [("a.npy", npy(np.arange(500.0))), ("b.npy", SOUND)], zipfile.ZIP_DEFLATED)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 2):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(AqaError):
            load_npz(path, ("a", "b"))
    path.write_bytes(npy(np.zeros(3)))
    with pytest.raises(AqaError, match="cannot be read as a and b: File is not a zip file"):
        load_npz(path, ("a", "b"))
