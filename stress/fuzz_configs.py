"""Thousands of experiment files through `aqa run`: right ones run, the others are one clear line and nothing else.

    python -m stress.fuzz_configs --cases 5000

A case that does not do as it must is printed with its number, which `--only NUMBER` runs again and shows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

import aqa.runs.cross_validation
import aqa.runs.run
from aqa.cli import main as aqa_main
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from stress.config_cases import STORES, WITHOUT_VALID, Case
from stress.config_mistakes import case_of, sweep_case_of

SECONDS = 20  # that a case may take
MEMORY = 8 * 2**30  # bytes of address space, so that enormous numbers are refused and not granted
WIDTHS = {"visual": 4, "audio": 3, "flow": 2, "face": 3, "pose": 5}


class TookTooLong(BaseException):
    """A case did not end in time."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: the exit status (None: a traceback or no end), what was printed, how long it took."""

    status: int | None
    out: str
    err: str
    seconds: float


def make_stores(folder: Path) -> None:
    """Small feature stores: streams of unequal length, absent ones, unlabelled videos; some without a valid split."""
    for name, modalities in STORES.items():
        rng = np.random.default_rng(len(name))
        lengths = {m: rng.integers(2, 6, 24) for m in modalities}
        for m in modalities[1:]:
            lengths[m][[3, 20]] = 0
        labels = {"score": rng.uniform(0.5, 9.5, 24), "grace": rng.uniform(-1, 1, 24)}
        labels["grace"][[1, 19]] = np.nan
        whole = {"train": range(12), "valid": range(12, 18), "test": range(18, 24)}
        split = {"train": range(18), "test": range(18, 24)} if name in WITHOUT_VALID else whole
        write_store(
            folder / f"{name}.h5",
            name=name,
            source="random numbers",
            ids=[f"clip {i}" for i in range(24)],
            modalities={m: Modality(WIDTHS[m], lengths[m]) for m in modalities},
            targets={"score": Target(labels["score"], 0, 10), "grace": Target(labels["grace"], -1, 1)},
            splits=split,
            read=lambda m, row, lengths=lengths, rng=rng: rng.normal(size=(lengths[m][row], WIDTHS[m])),
        )


def run(arguments: Sequence[str]) -> Outcome:
    """The command line in this process, with an end to its time."""
    out, err = io.StringIO(), io.StringIO()
    begun = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _limited(SECONDS):
        try:
            status: int | None = aqa_main(list(arguments))
        except TookTooLong:
            status = None
            err.write(f"no end after {SECONDS} s")
        except BaseException:
            status = None
            traceback.print_exc()
    return Outcome(status, out.getvalue(), err.getvalue(), time.monotonic() - begun)


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def end(signum: int, frame: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, end), signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor: the machine may be busy with other things
    signal.setitimer(signal.ITIMER_REAL, 30 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGPROF, before[0])
        signal.signal(signal.SIGALRM, before[1])


def try_case(case: Case, folder: Path) -> tuple[str, str | None]:
    """What came of a case (run, refused or failed), and what is wrong with that, None if nothing is."""
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.suffix != ".h5":
            left.unlink()
    text = case.text if isinstance(case.text, bytes) else case.text.encode("utf-8", "surrogatepass")
    (folder / "e.yaml").write_bytes(text)
    before = sorted(folder.iterdir())
    outcome = run(["run", "e.yaml", *case.overrides])
    if outcome.status is None:
        return "failed", outcome.err
    if outcome.status == 0:
        return "run", _wrong_with_run(case, outcome)
    return "refused", _wrong_with_refusal(case, outcome, sorted(folder.iterdir()) == before)


def try_sweep(case: Case, folder: Path) -> tuple[str, str | None]:
    """As `try_case`, of a sweep file whose runs are listed."""
    base = {"name": "x", "data": {"store": "three.h5", "target": "score"}, "model": {"name": "ridge"}}
    (folder / "e.yaml").write_text(yaml.safe_dump(base))
    (folder / "s.yaml").write_text(str(case.text))
    before = sorted(folder.iterdir())
    outcome = run(["sweep", "s.yaml", "--dry-run"])
    untouched = sorted(folder.iterdir()) == before
    if outcome.status is None:
        return "failed", outcome.err
    if outcome.status == 0:
        wrong = "a mistake went through" if case.expected == "invalid" else None
        return "listed", wrong or (None if outcome.out.startswith("three-") else f"no runs: {outcome.out}")
    return "refused", _wrong_with_refusal(case, outcome, untouched)


def _wrong_with_run(case: Case, outcome: Outcome) -> str | None:
    if case.expected == "invalid":
        return "a mistake went through"
    said = outcome.out.lower()
    known = ("selected on", "undefined in every epoch", "members weighted by")
    if "run folder: " not in outcome.err or not any(words in said for words in known):
        return f"the run says nothing of itself: {outcome.out}{outcome.err}"
    if "Warning" in outcome.err:
        return f"a warning of a library: {outcome.err}"
    return None


def _wrong_with_refusal(case: Case, outcome: Outcome, untouched: bool) -> str | None:
    if case.expected == "valid":
        return f"a right file is refused: {outcome.err}"
    if outcome.status != 2:
        return f"status {outcome.status}"
    lines = outcome.err.splitlines()
    if outcome.out or not lines or not lines[-1].startswith("aqa: ") or (case.expected == "invalid" and len(lines) > 1):
        return f"not one line on stderr: {outcome.out}{outcome.err}"
    if len(lines[-1]) > 1000:
        return f"a line of {len(lines[-1])} characters: {lines[-1][:300]}"
    lacking = [hint for hint in case.hints if hint not in lines[-1]]
    if lacking:
        return f"the line does not say {lacking}: {lines[-1]}"
    if case.expected == "invalid" and not untouched:
        return "something was left behind"
    return None


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """A folder with the stores, in memory where that can be, without the drawing of figures, which takes a second."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    before, draw, draw_folds = Path.cwd(), aqa.runs.run.draw, aqa.runs.cross_validation.draw_out_of_fold
    with tempfile.TemporaryDirectory(dir=place) as folder, warnings.catch_warnings():
        warnings.simplefilter("always")
        make_stores(Path(folder))
        os.chdir(folder)
        aqa.runs.run.draw = aqa.runs.cross_validation.draw_out_of_fold = lambda *arguments: None
        try:
            yield Path(folder)
        finally:
            aqa.runs.run.draw, aqa.runs.cross_validation.draw_out_of_fold = draw, draw_folds
            os.chdir(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after that many")
    parser.add_argument("--only", type=int)
    parser.add_argument("--sweeps", action="store_true", help="sweep files, whose runs are listed, and no experiments")
    arguments = parser.parse_args()
    import resource

    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counts: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    slowest = (0.0, 0)
    with workplace() as folder:
        started = time.monotonic()
        numbers = range(arguments.first, arguments.first + arguments.cases)
        for number in numbers if arguments.only is None else [arguments.only]:
            if time.monotonic() - started > 60 * arguments.minutes:
                break
            case = (sweep_case_of if arguments.sweeps else case_of)(number, arguments.seed)
            begun = time.monotonic()
            came, problem = (try_sweep if arguments.sweeps else try_case)(case, folder)
            slowest = max(slowest, (time.monotonic() - begun, number))
            counts[case.kind, came] += 1
            if problem is not None:
                wrong.append(f"case {number} ({case.kind}, {case.expected}): {problem.strip().splitlines()[-1][:400]}")
                print(wrong[-1], flush=True)
            if arguments.only is not None:
                print(case, problem, sep="\n")
    for (kind, came), count in sorted(counts.items()):
        print(f"{kind:32} {came:8} {count:6}")
    print(f"{sum(counts.values())} cases, {len(wrong)} wrong; the slowest, {slowest[1]}, took {slowest[0]:.1f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
