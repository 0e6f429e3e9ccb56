"""What becomes of feature stores that were cut off, damaged or made to do harm: counts of every outcome.

    python -m stress.broken_stores                       200 cuts, 500 flipped bytes, 50 hostile files
    python -m stress.broken_stores --format earliest     the same of a store in the oldest format of HDF5

Each file is opened, inspected, loaded whole and streamed, in a worker process with limited memory and time. A file is
*refused* in one line, *found damaged* by its checksums, *read* with every number as it was, or read *wrong*. A worker
that crashes, hangs or needs too much memory is replaced, and the file is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aqa.errors import AqaError
from aqa.features.streaming import load_features
from aqa.store import store as storing
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore, Modality, Target
from aqa.store.write import write_store

MEMORY = 2**30  # bytes that a worker may take beyond what it has
SECONDS = 20  # for one file
LENGTHS = {"visual": [3, 5, 0, 4, 6, 2], "audio": [3, 5, 2, 4, 0, 2], "flow": [3, 4, 2, 4, 6, 2]}
WIDTHS = {"visual": 16, "audio": 12, "flow": 16}
SECRET = b"a line of a file that is not the store's\n" * 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--flips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=["own", "earliest"], default="own", help="of the files that are damaged")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="broken") as name:
        folder = Path(name)
        whole = folder / "whole.h5"
        write_sample(whole, earliest=arguments.format == "earliest")
        data = whole.read_bytes()
        rng = np.random.default_rng(arguments.seed)
        kinds = {
            f"cut off ({arguments.cuts})": cuts(data, arguments.cuts),
            f"one byte flipped ({arguments.flips})": flips(data, arguments.flips, rng),
        }
        for kind, files in kinds.items():
            report(kind, outcomes(folder, {name: written(content) for name, content in files}))
        made = outcomes(folder, HOSTILE)
        report(f"hostile ({len(HOSTILE)})", made)
        for name, outcome in made.items():
            print(f"  {name}: {outcome}")


def report(kind: str, found: Mapping[str, str]) -> None:
    """How many files came to which end, with the names of those that should not have."""
    count = Counter(outcome.split(":")[0] for outcome in found.values())
    print(f"{kind}: " + ", ".join(f"{n} {outcome}" for outcome, n in count.most_common()))
    for name, outcome in found.items():
        if not outcome.startswith(("refused", "found damaged", "read")):
            print(f"  {name}: {outcome}")


def write_sample(path: Path, earliest: bool = False) -> None:
    """A store of six videos and three streams. earliest: in the oldest format, and without checksums."""
    rng = np.random.default_rng(1)
    before = storing.FORMAT
    storing.FORMAT = ("earliest", "v108") if earliest else before
    try:
        write_store(
            path,
            name="sample",
            source="made to be damaged",
            ids=[f"video {i}" for i in range(6)],
            modalities={m: Modality(WIDTHS[m], np.array(n), "VST", 2.5) for m, n in LENGTHS.items()},
            targets={"TES": Target(np.arange(6.0), 0, 10, {"VAF": 0.9}), "PCS": Target(np.arange(6.0), 0, 10)},
            splits={"train": [0, 1, 2, 3], "test": [4, 5]},
            read=lambda modality, row: rng.normal(size=(LENGTHS[modality][row], WIDTHS[modality])),
            overwrite=True,
        )
    finally:
        storing.FORMAT = before
    if earliest:
        with h5py.File(path, "a", libver=("earliest", "v108")) as file:
            without_checksums(file)


def without_checksums(file: h5py.File) -> None:
    """Make it a store of an earlier version: no checksums, texts of any length in a heap."""
    ids = file["ids"].asstr()[()]
    del file["ids"]
    file.create_dataset("ids", data=list(ids), dtype=h5py.string_dtype())
    for place in ("/", *(f"features/{modality}" for modality in file["features"])):
        for key, value in file[place].attrs.items():
            if isinstance(value, bytes):
                file[place].attrs[key] = value.decode()
    places = ["/", *(f"{group}/{name}" for group in ("targets", "splits") for name in file[group])]
    for modality in file["features"]:
        del file[f"features/{modality}/crc32"]
        places += [f"features/{modality}", f"features/{modality}/offsets"]
    for place in places:
        del file[place].attrs["crc32"]


def cuts(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """The file cut off at places spread over it."""
    for end in np.linspace(0, len(data) - 1, count).astype(int):
        yield f"cut at {end}", data[:end]


def flips(data: bytes, count: int, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """The file with one byte changed to any other."""
    for place in rng.choice(len(data), count, replace=count > len(data)):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        yield f"byte {place}: {data[place]} to {changed[place]}", bytes(changed)


def written(content: bytes) -> Callable[[Path], object]:
    """What writes a file of that content."""
    return lambda path: path.write_bytes(content)


def outcomes(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> dict[str, str]:
    """What became of each file, made in a folder of its own by what is given for it."""
    (folder / "secret").write_bytes(SECRET)
    write_sample(folder / "other.h5")
    worker, found = Worker(), {}
    path = folder / "broken.h5"
    for name, make in files.items():
        path.unlink(missing_ok=True)
        make(path)
        found[name] = worker.outcome(path)
    worker.stop()
    return found


class Worker:
    """A process that reads file after file, replaced where one has been its end."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("fork")
        self._start()

    def _start(self) -> None:
        self._pipe, other = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def outcome(self, path: Path) -> str:
        """How reading the file ended."""
        self._pipe.send(path)
        end = f"HANG: more than {SECONDS} s"
        if self._pipe.poll(SECONDS):
            with contextlib.suppress(EOFError):
                return str(self._pipe.recv())
            self._process.join()
            end = f"CRASH: ended by {self._process.exitcode}"
        self.stop()
        self._start()
        return end

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        pipe.send(examine(pipe.recv()))


def examine(path: Path) -> str:
    """Inspect a file, load it and stream it; how that ended, in a word, and what was said."""
    found = ""
    try:
        inspection = inspect_store(path)
        found = next(iter(inspection.problems), "")
        values = _everything(path)
    except AqaError as error:
        return f"refused: {error}" if "\n" not in str(error) else f"SEVERAL LINES: {error}"
    except MemoryError:
        return "MEMORY: more than allowed"
    except BaseException as error:
        return f"TRACEBACK: {type(error).__name__}: {error}"
    if found:
        return f"found damaged: {found}"
    return "read" if values == EXPECTED else "WRONG: read, with other numbers"


def _everything(path: Path) -> dict[str, Any]:
    """All that a store says, as text and checksums; loaded and streamed features must be the same."""
    with FeatureStore(path) as store:
        features = load_features(store, align="none")
        streamed = load_features(store, align="none", memory=2e-6)
        rows = np.arange(len(store))
        parts: dict[str, list[bytes]] = {m: [] for m in store.modalities}
        for _, held in streamed.portions(rows, streamed.available):
            for m in store.modalities:
                parts[m].append(held.values[m].numpy().tobytes())
        for m in store.modalities:
            if b"".join(parts[m]) != features.values[m].numpy().tobytes():
                raise AssertionError(f"{m} is not the same streamed and loaded")
        about: dict[str, Any] = {
            "name": store.name,
            "source": store.source,
            "ids": store.ids,
            "order": store.modalities,
        }
        about |= {m: (zlib.crc32(b"".join(parts[m])), store.offsets[m].tolist()) for m in store.modalities}
        about |= {f"about {m}": dict(store.attributes[m]) for m in store.modalities}
        about |= {n: (t.values.tolist(), t.low, t.high, dict(t.ceiling)) for n, t in store.targets.items()}
        return about | {name: split.tolist() for name, split in store.splits.items()}


def changing(change: Callable[[h5py.File], object]) -> Callable[[Path], object]:
    """What writes a whole store and then changes it."""

    def make(path: Path) -> None:
        write_sample(path)
        with h5py.File(path, "a") as file:
            change(file)

    return make


def replacing(name: str, **options: Any) -> Callable[[Path], object]:
    """What writes a store in which an array is another one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return changing(change)


def linking(name: str, link: Any) -> Callable[[Path], object]:
    """What writes a store in which a link stands in the place of something."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return changing(change)


def _virtual(file: h5py.File) -> None:
    del file["features/audio/values"]
    layout = h5py.VirtualLayout(shape=(16, 12), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "features/audio/values", shape=(16, 12))
    file.create_virtual_dataset("features/audio/values", layout)


def _inflating(file: h5py.File) -> None:
    """A chunk of 1280 bytes that unpacks to two gigabytes."""
    del file["features/visual/values"]
    values = file.create_dataset("features/visual/values", (20, 16), "f4", chunks=(20, 16), compression="gzip")
    values.id.write_direct_chunk((0, 0), deflated_zeros(2048))


def deflated_zeros(mebibytes: int) -> bytes:
    """A deflate stream of that many MiB, made of one block again and again."""
    stream = zlib.compressobj(9)
    start = stream.compress(b"") + stream.flush(zlib.Z_FULL_FLUSH)
    block = stream.compress(bytes(2**20)) + stream.flush(zlib.Z_FULL_FLUSH)
    return start + block * mebibytes + stream.flush()


def _packed_zeros(file: h5py.File) -> None:
    """Sixteen gigabytes of zeros in as many megabytes of chunks, all the same bytes."""
    for name in ("values", "offsets"):
        del file[f"features/visual/{name}"]
    rows = 2**20
    file["features/visual/offsets"] = np.array([0, *[rows] * 6])
    packed = zlib.compress(bytes(2**26), 9)
    values = file.create_dataset("features/visual/values", (rows, 4096), "f4", chunks=(4096, 4096), compression="gzip")
    for first in range(0, rows // 16, 4096):
        values.id.write_direct_chunk((first, 0), packed)


def _shared_text(file: h5py.File) -> None:
    """A million ids that are one text of four megabytes."""
    del file["ids"]
    ids = file.create_dataset("ids", (2**20,), h5py.string_dtype())
    ids[0] = "x" * 2**22
    place = ids.id.get_offset()
    file.flush()
    with open(file.filename, "r+b") as raw:
        raw.seek(place)
        reference = raw.read(16)
        raw.seek(place)
        raw.write(reference * 2**20)


def _nested(file: h5py.File) -> None:
    group = file["features/visual"]
    for _ in range(10_000):
        group = group.create_group("g")


def _many(file: h5py.File) -> None:
    for i in range(100_000):
        file["targets"].create_group(f"t{i}")


def _attributes(file: h5py.File) -> None:
    file.attrs.create("source", "x" * 2**24, dtype=h5py.string_dtype())
    file["features/visual"].attrs.create("extractor", "y" * 2**24, dtype=h5py.string_dtype())


def _named(group: str, name: str) -> Callable[[Path], object]:
    return changing(lambda file: file.move(f"{group}", f"{group.rsplit('/', 1)[0]}/{name}"))


def _references(file: h5py.File) -> None:
    del file["ids"]
    file.create_dataset("ids", data=[file.ref] * 6, dtype=h5py.ref_dtype)


def _regions(file: h5py.File) -> None:
    values = file["features/audio/values"]
    del file["targets/TES"]
    file.create_dataset("targets/TES", data=[values.regionref[:]] * 6, dtype=h5py.regionref_dtype)


def _unknown_filter(file: h5py.File) -> None:
    """A filter that nobody has, said to be optional so that it can be written."""
    del file["features/audio/values"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((16, 12))
    plan.set_filter(40000, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    kind, space = h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((16, 12))
    made = h5py.h5d.create(file["features/audio"].id, b"values", kind, space, plan)
    h5py.Dataset(made)[...] = 1


def _twice_packed(file: h5py.File) -> None:
    del file["features/audio/values"]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((16, 12))
    plan.set_deflate(9)
    plan.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    kind, space = h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((16, 12))
    h5py.Dataset(h5py.h5d.create(file["features/audio"].id, b"values", kind, space, plan))[...] = 1


OFFSETS = np.array([0, 2**62, 2**63 - 1, -(2**63), -(2**62), 0, 20])  # never falls by differences that wrap around
HOSTILE: dict[str, Callable[[Path], object]] = {
    **{f"external link: {n}": linking(n, h5py.ExternalLink("other.h5", n)) for n in ("features", "targets", "ids")},
    "soft link out of the group": linking("features/visual", h5py.SoftLink("/targets")),
    "soft link that goes in circles": linking("splits", h5py.SoftLink("/splits")),
    "external storage": replacing(
        "features/audio/values", shape=(16, 12), dtype="f4", external=[("secret", 0, h5py.h5f.UNLIMITED)]
    ),
    "external storage of labels": replacing("targets/TES", shape=(6,), dtype="f8", external=[("secret", 0, 48)]),
    "external storage of ids": replacing("ids", shape=(6,), dtype="S8", external=[("/etc/passwd", 0, 48)]),
    "virtual array over another file": changing(_virtual),
    "region references as labels": changing(_regions),
    "references as ids": changing(_references),
    "unknown filter": changing(_unknown_filter),
    "packed twice": changing(_twice_packed),
    "chunk that inflates to gigabytes": changing(_inflating),
    "sixteen gigabytes of packed zeros": changing(_packed_zeros),
    "terabytes never written": replacing("features/visual/values", shape=(2**40, 16), dtype="f4", chunks=(64, 16)),
    "gigabytes never written": replacing("targets/TES", shape=(2**31,), dtype="f8", chunks=(2**16,)),
    "labels never written": replacing("targets/TES", shape=(6,), dtype="f8", chunks=(6,)),
    "ids never written": replacing("ids", shape=(2**40,), dtype=h5py.string_dtype(), chunks=(2**10,)),
    "huge chunks": replacing(
        "features/audio/values", shape=(16, 12), maxshape=(None, 12), dtype="f4", chunks=(2**26, 12)
    ),
    "a million channels and more": replacing(
        "features/audio/values", shape=(0, 2**40), maxshape=(None, None), dtype="f4"
    ),
    "a million ids in one long text": changing(_shared_text),
    "a long id": replacing("ids", data=["x" * 2**20, *"abcde"]),
    "lists of numbers as labels": replacing("targets/TES", shape=(6,), dtype=h5py.vlen_dtype(np.dtype("f8"))),
    "text as labels": replacing("targets/TES", data=["1"] * 6),
    "records as labels": replacing("targets/TES", data=np.zeros(6, dtype=[("a", "f8")])),
    "complex labels": replacing("targets/TES", data=np.zeros(6, dtype=complex)),
    "labels in a table": replacing("targets/TES", data=np.zeros((6, 2))),
    "a single label": replacing("targets/TES", data=1.0),
    "no data space": replacing("targets/TES", data=h5py.Empty("f8")),
    "offsets that wrap around": replacing("features/visual/offsets", data=OFFSETS),
    "offsets with fractions": replacing("features/visual/offsets", data=np.linspace(0, 20, 7)),
    "split out of range": replacing("splits/test", data=np.array([2**64 - 1], dtype="u8")),
    "an array as a group": replacing("splits", data=1),
    "attributes of megabytes": changing(_attributes),
    "schema of text": changing(lambda file: file.attrs.__setitem__("schema", "1")),
    "ceiling that is no mapping": changing(lambda file: file["targets/TES"].attrs.__setitem__("ceiling", "[1]")),
    "ceiling nested deeply": changing(lambda file: file["targets/TES"].attrs.__setitem__("ceiling", "[" * 50_000)),
    "range of infinity": changing(lambda file: file["targets/TES"].attrs.__setitem__("range", [0, np.inf])),
    "groups nested 10,000 deep": changing(_nested),
    "100,000 members": changing(_many),
    "a name with a terminal escape": _named("targets/TES", "\x1b[2J\x1b]0;owned\x07"),
    "a name with a line break": _named("splits/test", "te\nst"),
    "a very long name": _named("targets/TES", "T" * 60_000),
    "an id with a terminal escape": replacing("ids", data=["\x1b[31m", *"abcde"]),
    "an id that is no UTF-8": replacing("ids", data=np.array([b"\xff\xfe", *[b"a"] * 5])),
    "an empty file": written(b""),
    "a file of text": written(SECRET),
}

with tempfile.TemporaryDirectory(prefix="sample") as _name:
    write_sample(Path(_name) / "sample.h5")
    EXPECTED = _everything(Path(_name) / "sample.h5")

if __name__ == "__main__":
    main()
