"""How near to a plain read with a checksum of the same bytes `aqa inspect` and `aqa prepare` come.

    python -m benchmarks.checking

Random features of Fis-V's shape lie in a temporary folder, a .npy file per video and stream, and are in the page cache.
`prepare` reads, checks and writes them as a store that is new in each turn, which `inspect` reads and checks. The limit
reads the same files from beginning to end and takes a CRC-32, as the store has it, of what it read. What `prepare`
writes has a second limit: the same, and a plain write of what was read to a new file, which is on the disk in the end
(fsync), as a store is before it has its name. All are in turn, in one process: by the clock, and in processor time,
which other programs on the machine change least.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aqa import inspect, prepare
from benchmarks.harness import Report, Work, options, parsed, ratios
from benchmarks.steps import shape_of

CLIPS, WIDTHS = 124, shape_of("fisv").widths
AIM = 0.6
BYTES_AT_ONCE = 2**20
CLOCKS = {"by the clock": time.perf_counter, "processor time": time.process_time}


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--videos", type=int, default=250)
    arguments, device = parsed(parser)
    report = Report("checking", arguments, device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = published(folder, arguments.videos)
        size = sum(file.stat().st_size for file in features)
        report.section(f"{arguments.videos} videos, {size / 1e6:.0f} MB; rates relative to a limit in the same turn")
        store, copy = folder / "store.h5", folder / "copy"
        words = {name: str(folder / name / "{id}.npy") for name in WIDTHS}
        works = {
            "plain read with a checksum": Work(lambda: read_and_checked(features)),
            "plain read with a checksum and plain write": Work(
                lambda: read_checked_and_written(features, copy), before=lambda: copy.unlink(missing_ok=True)
            ),
            "aqa prepare": Work(
                lambda: prepare("table", store, labels=str(folder / "labels.csv"), stream=words, target=["score"]),
                before=lambda: store.unlink(missing_ok=True),
            ),
        }
        compare(report, works, size, arguments.repeats)
        works = {
            "plain read of the store with a checksum": Work(lambda: read_and_checked([store])),
            "aqa inspect": Work(lambda: inspect(store)),
        }
        compare(report, works, size, arguments.repeats)
    report.write()


def published(folder: Path, videos: int) -> list[Path]:
    """Files of features, and labels; no two videos are alike."""
    rng = np.random.default_rng(0)
    names = [f"video{i}" for i in range(videos)]
    for modality, width in WIDTHS.items():
        (folder / modality).mkdir()
        for name in names:
            np.save(folder / modality / f"{name}.npy", rng.standard_normal((CLIPS, width), np.float32))
    rows = [f"{name},{score:.2f}" for name, score in zip(names, rng.uniform(0, 40, videos), strict=True)]
    (folder / "labels.csv").write_text("\n".join(["id,score", *rows]) + "\n", encoding="utf-8")
    return [folder / modality / f"{name}.npy" for modality in WIDTHS for name in names]


def compare(report: Report, works: dict[str, Work], size: int, repeats: int) -> None:
    """Rates of some limits and, last, of what they limit, and the quotient of this and each limit."""
    *limits, last = works
    for kind, samples in in_turn(works, repeats).items():
        for what, seconds in samples.items():
            report.add(f"{what}, {kind}", [size / 1e9 / s for s in seconds], "GB/s")
        for limit in limits:
            report.add(f"{last} / {limit}, {kind}", ratios(samples[limit], samples[last]), f"aim {AIM}")


def in_turn(works: dict[str, Work], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each work in each turn, after one that is not counted, by each clock."""
    samples: dict[str, dict[str, list[float]]] = {kind: {what: [] for what in works} for kind in CLOCKS}
    for turn in range(repeats + 1):
        for what, work in works.items():
            if work.before is not None:
                work.before()
            started = {kind: clock() for kind, clock in CLOCKS.items()}
            work.run()
            for kind, clock in CLOCKS.items() if turn else ():
                samples[kind][what].append(clock() - started[kind])
    return samples


def read_and_checked(files: Sequence[Path]) -> int:
    """The CRC-32 of files, read from beginning to end."""
    crc = 0
    for piece in pieces(files):
        crc = zlib.crc32(piece, crc)
    return crc


def read_checked_and_written(files: Sequence[Path], copy: Path) -> int:
    """The same, with everything written to another file."""
    crc = 0
    with open(copy, "wb", buffering=0) as file:
        for piece in pieces(files):
            crc = zlib.crc32(piece, crc)
            file.write(piece)
        os.fsync(file.fileno())
    return crc


def pieces(files: Sequence[Path]) -> Iterator[memoryview]:
    """What files hold, from beginning to end, each piece in the memory of the one before.

    The memory begins at a page, as the files' bytes do in the page cache: a copy to an address 16 bytes after that,
    where large arrays of Python begin, takes twice as long on common processors.
    """
    memory = memoryview(mmap.mmap(-1, BYTES_AT_ONCE))
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(memory):
                yield memory[:count]


if __name__ == "__main__":
    main()
