"""What every speed benchmark is made of: work timed in turn with a limit of the machine, and a record of every sample.

A time alone says little on a machine whose speed changes. So a benchmark times its work and what limits it (matrix
products, copies in memory, reading a file) in turn in one process, and gives their ratio, turn by turn: the figure to
compare between versions and machines. Figures are medians, with the lowest and the highest sample and their number.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.metadata
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from aqa.errors import AqaError
from aqa.system.devices import keep_freed_memory, pick_device
from aqa.system.files import plain
from aqa.system.precision import Precision, float32_products
from aqa.version import __version__

RESULTS = Path(__file__).parent / "results"
FEWEST = 7  # samples of which a median is given
PRELOADED = [
    "torch",
    "torch._dynamo",
    "aqa.training.loop",
]  # dynamo: what torch's optimizers import when they are first made
# What data sheets promise, by the name that torch gives a GPU: dense products in TFLOP/s, the memory in TB/s.
DATA_SHEETS = {
    "NVIDIA H200": {"float32": 67.0, "tf32": 494.7, "bf16": 989.0, "memory": 4.8},
    "NVIDIA H100 80GB HBM3": {"float32": 67.0, "tf32": 494.7, "bf16": 989.0, "memory": 3.35},
    "NVIDIA A100-SXM4-80GB": {"float32": 19.5, "tf32": 156.0, "bf16": 312.0, "memory": 2.039},
}
PACKAGES = ("numpy", "h5py")
FUSED_ATTENTION = {  # of a CPU, whose operations torch does not count by itself
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda gradient, q, k, v, *_, **__: sdpa_backward_flop_count(gradient, q, k, v)
    ),
}


Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """Something to time. amount: what one run does, in operations or bytes. before: called before each, not timed."""

    run: Callable[[], object]
    amount: float = 1.0
    before: Callable[[], object] | None = None


class Spread(NamedTuple):
    """A figure: the median of n samples, with the lowest and the highest."""

    median: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{short(self.median):>9}  ({short(self.low)} to {short(self.high)}, n={self.n})"


class Memory(NamedTuple):
    """Bytes that a process held at most, and what it held before the work was set up."""

    peak: int
    start: int

    @property
    def added(self) -> int:
        """Bytes that the work and its setting up took."""
        return self.peak - self.start


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values), len(values))


def short(value: float) -> str:
    """A number with three digits that count, and no exponent where it can be read without."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Quotients of the samples that were taken in the same turn."""
    return [a / b for a, b in zip(above, below, strict=True)]


def rates(work: Work, seconds: Sequence[float]) -> list[float]:
    """What was done in a second, in the unit of the work's amount."""
    return [work.amount / s for s in seconds]


def by_turns(
    works: Mapping[str, Work], repeats: int, device: torch.device, clock: Clock | None = None
) -> dict[str, list[float]]:
    """Seconds of each run of each work: `repeats` turns in which each is run once, after one that is not counted.

    On a GPU its queue is emptied before the clock is started and before it is stopped. clock: `time.process_time` for
    seconds of the processor, which other programs on the machine do not lengthen.
    """
    if repeats < FEWEST:
        raise AqaError(f"{repeats} repeats: a median needs {FEWEST} or more")
    samples: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            if work.before is not None:
                work.before()
            taken = timed(work.run, device, clock)
            if turn:
                samples[name].append(taken)
    return samples


def timed(run: Callable[[], object], device: torch.device, clock: Clock | None = None) -> float:
    """Seconds of a run by a clock, which is the wall's where none is given."""
    clock = clock or time.perf_counter
    synchronise(device)
    start = clock()
    run()
    synchronise(device)
    return clock() - start


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_product(device: torch.device, precision: Precision = "float32", n: int | None = None) -> Work:
    """A large square matrix product, n x n; its amount is floating-point operations, 2 n^3."""
    n = n or (8192 if device.type == "cuda" else 2048)
    matrix = torch.randn(n, n, device=device).to(torch.bfloat16 if precision == "bf16" else torch.float32)

    def multiply() -> None:
        with float32_products(precision):
            matrix @ matrix

    return Work(multiply, 2.0 * n**3)


def memory_copy(device: torch.device, size: int = 2**28) -> Work:
    """A copy that no cache holds; its amount is the bytes that are read and written, twice `size`."""
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return Work(lambda: target.copy_(source), 2.0 * size)


def beside_data_sheet(report: Report, what: str, achieved: Sequence[float], device: torch.device) -> None:
    """Figures of what a GPU's data sheet promises, and the share of it that was achieved; none if it is not known.

    what: "memory" or a precision. achieved: bytes or operations in a second.
    """
    sheet = DATA_SHEETS.get(device_name(device))
    if sheet is not None:
        report.value("  data sheet", 1e3 * sheet[what], "GB/s" if what == "memory" else "GFLOP/s")
        report.add("  achieved / data sheet", [rate / (1e12 * sheet[what]) for rate in achieved])


def file_read(path: Path, cold: bool = False) -> Work:
    """Reading a file from its beginning to its end; its amount is its bytes.

    From the page cache, into which the turn that is not counted brings it; cold: from the disk, as far as the kernel
    lets go of its cached pages when it is asked to.
    """
    buffer = memoryview(bytearray(2**24))

    def read() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def forget() -> None:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return Work(read, float(path.stat().st_size), forget if cold else None)


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of a run, fused attention's among them."""
    with FlopCounterMode(display=False, custom_mapping=FUSED_ATTENTION) as counter:
        run()
    return counter.get_total_flops()


def peak_memory(make: Callable[..., Callable[[], object]], *arguments: Any, device: torch.device) -> Memory:
    """Most memory at once while `make(*arguments)()` is set up and run twice, in a process of its own.

    On the CPU what the process holds of the machine's memory (RSS); on a GPU what torch has allocated there. make is a
    function of a module, so that the other process finds it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, make, arguments, device, torch.get_num_threads()).result()


def _measured(
    make: Callable[..., Callable[[], object]], arguments: Sequence[Any], device: torch.device, threads: int
) -> Memory:
    torch.set_num_threads(threads)
    keep_freed_memory()
    start = _held(device)
    run = make(*arguments)
    for _ in range(2):
        run()
    synchronise(device)
    return Memory(_held(device), start)


def _held(device: torch.device) -> int:
    """Most bytes at once so far. Not by getrusage, which begins with the memory of the process that made this one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def options(about: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="torch's CPU threads; its own choice where not given")
    parser.add_argument("--repeats", type=int, default=FEWEST, help=f"samples of each figure, {FEWEST} or more")
    parser.add_argument("--out", type=Path, help="the record, JSON; benchmarks/results/NAME.json where not given")
    parser.set_defaults(**defaults)
    return parser


def parsed(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, torch.device]:
    """The command line, checked, and the device it names; ends with one line where that is not there."""
    arguments = parser.parse_args()
    keep_freed_memory()  # as `aqa run` does
    try:
        if arguments.repeats < FEWEST:
            raise AqaError(f"--repeats {arguments.repeats}: a median needs {FEWEST} or more")
        return arguments, pick_device(arguments.device, arguments.threads)
    except AqaError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def add_processor_time(parser: argparse.ArgumentParser) -> None:
    """The option that `clock_of` reads."""
    about = "time by the processor time of the one thread, for a machine that does other things as well"
    parser.add_argument("--processor-time", action="store_true", help=about)


def clock_of(arguments: argparse.Namespace) -> Clock:
    """The clock that the options ask for; ends with one line where processor time would not be that of the work."""
    if not arguments.processor_time:
        return time.perf_counter
    if arguments.device != "cpu" or arguments.threads != 1:
        sys.exit(f"{Path(sys.argv[0]).stem}: --processor-time adds up over threads: use --device cpu --threads 1")
    return time.process_time


class Seconds(NamedTuple):
    """By the clock, and of the processor: user and system."""

    clock: float
    processor: float


def command_seconds(arguments: Sequence[str], folder: Path) -> Seconds:
    """What a Python command of one thread takes in a folder; it must succeed.

    Processor time is of all the processes that it starts, those that it leaves to end by themselves included.
    """
    adopt_orphans()
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    clock, processor = time.perf_counter() - start, used.ru_utime + used.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        stem = Path(sys.argv[0]).stem
        sys.exit(f"{stem}: python {' '.join(arguments)} ended with exit status {process.returncode}")
    return Seconds(clock, processor + sum(used.ru_utime + used.ru_stime for used in orphans()))


def adopt_orphans() -> None:
    """Let what outlives a child process become a child of this one (Linux), so that its time and memory are known."""
    set_child_subreaper = 36  # of Linux's sys/prctl.h
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def orphans() -> Iterator[resource.struct_rusage]:
    """What each process took that was adopted, as it ends; for when no child process is left that another waits for."""
    with contextlib.suppress(ChildProcessError):
        while True:
            yield os.wait4(-1, 0)[2]


class Report:
    """Figures as they are measured: printed, a line each, and kept for the record with all their samples."""

    def __init__(self, name: str, arguments: argparse.Namespace, device: torch.device):
        self.out: Path = arguments.out or RESULTS / f"{name}.json"
        self.repeats: int = arguments.repeats
        settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "device")}
        self.record: dict[str, Any] = {
            "benchmark": name,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": {
                "python": platform.python_version(),
                "aqa": __version__,
                **{p: importlib.metadata.version(p) for p in PACKAGES},
                "torch": torch.__version__,  # which names the build as well, such as +cpu
            },
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "settings": settings,
            "figures": [],
        }
        print(f"{name}: {self.record['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}")

    def section(self, title: str) -> None:
        """What the figures that follow are of."""
        self.record["figures"].append({"section": title})
        print(f"\n{title}")

    def add(self, name: str, samples: Sequence[float], unit: str = "") -> Spread:
        """Print and keep a figure with all its samples."""
        found = spread(samples)
        self.record["figures"].append({"name": name, "unit": unit, **found._asdict(), "samples": list(samples)})
        print(f"  {name:<44} {found} {unit}")
        return found

    def value(self, name: str, value: float, unit: str = "") -> None:
        """Print and keep a number that was not sampled: counted, or a peak."""
        self.record["figures"].append({"name": name, "unit": unit, "value": value})
        print(f"  {name:<44} {short(value):>9}  {unit}")

    def unknown(self, name: str, why: str) -> None:
        """Print and keep that a figure could not be measured here, and why."""
        self.record["figures"].append({"name": name, "unknown": why})
        print(f"  {name:<44} {why}")

    def needs_cuda(self, name: str) -> None:
        """Print and keep that a figure needs a GPU, which this machine has not."""
        self.unknown(name, "needs CUDA")

    def write(self) -> None:
        """Write the record."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(plain(self.record), indent=1, default=str, allow_nan=False) + "\n")
        print(f"\nevery sample: {self.out}")


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "load": os.getloadavg()[0],  # at the start: how busy the machine was with other things
    }


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
