"""How near to a plain read with a checksum of the same bytes `aqa inspect` and `aqa prepare` come.

    python -m benchmarks.checking

Random features of Fis-V's shape lie in a temporary folder, a .npy file per video and stream, and are in the page cache.
`prepare` reads, checks and writes them as a store, which `inspect` reads and checks. The limit reads the same files
from beginning to end and takes a CRC-32, as the store has it, of what it read. All are in turn, in one process: by the
clock, and in processor time, which other programs on the machine change least.
"""

from __future__ import annotations

import mmap
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aqa import inspect, prepare
from benchmarks.harness import Report, options, parsed, ratios
from benchmarks.steps import shape_of

CLIPS, WIDTHS = 124, shape_of("fisv").widths
AIM = 0.6
BYTES_AT_ONCE = 2**20


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--videos", type=int, default=250)
    arguments, device = parsed(parser)
    report = Report("checking", arguments, device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features, store = published(folder, arguments.videos), folder / "store.h5"
        words = {name: str(folder / name / "{id}.npy") for name in WIDTHS}

        def preparing() -> None:
            prepare("table", store, labels=str(folder / "labels.csv"), stream=words, target=["score"], overwrite=True)

        works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "prepare": (preparing, lambda: read_and_checked(features)),
            "inspect": (lambda: inspect(store), lambda: read_and_checked([store])),
        }
        size = sum(file.stat().st_size for file in features)
        report.section(
            f"{arguments.videos} videos, {size / 1e6:.0f} MB; rates relative to a plain read with a checksum"
        )
        for what, (work, limit) in works.items():
            samples = in_turn([work, limit], arguments.repeats)
            for kind, (taken, at_least) in zip(("by the clock", "processor time"), samples, strict=True):
                report.add(f"plain read with a checksum, {kind}", [size / 1e9 / s for s in at_least], "GB/s")
                report.add(f"aqa {what}, {kind}", [size / 1e9 / s for s in taken], "GB/s")
                report.add(f"aqa {what} / plain read, {kind}", ratios(at_least, taken), f"aim {AIM}")
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


def read_and_checked(files: Sequence[Path]) -> int:
    """The CRC-32 of files, read from beginning to end.

    Into memory that begins at a page, as the files' bytes do in the page cache: a copy to an address 16 bytes after
    that, where large arrays of Python begin, takes twice as long on common processors.
    """
    memory, crc = memoryview(mmap.mmap(-1, BYTES_AT_ONCE)), 0
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(memory):
                crc = zlib.crc32(memory[:count], crc)
    return crc


def in_turn(works: Sequence[Callable[[], object]], repeats: int) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of each work in each turn, after one that is not counted: by the clock, and of the processor."""
    passed: list[list[float]] = [[] for _ in works]
    used: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for number, work in enumerate(works):
            clock, processor = time.perf_counter(), time.process_time()
            work()
            if turn:
                passed[number].append(time.perf_counter() - clock)
                used[number].append(time.process_time() - processor)
    return passed, used


if __name__ == "__main__":
    main()
