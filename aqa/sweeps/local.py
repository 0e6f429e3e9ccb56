"""Running a sweep's points, each once, by any number of processes on one folder.

A run is claimed by an operating system lock beside its folder, which its holder loses when it ends, however it ends. So
nobody hands out work: every worker goes through the points, or groups of points that are to run together, and takes
what is neither done, failed nor claimed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aqa.errors import AqaError
from aqa.runs.folder import InUse
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import Point
from aqa.system.signals import away_from_terminal, stop_here_if_asked, stopped_by_parent, uninterrupted

POLL = 0.2
STOPPED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes of a process that was not at fault
RETRIES = 2  # of a run whose process was stopped so
NO_RUN = ""  # counts processes that were stopped before they began a run


def run_points(
    groups: Sequence[Sequence[Point]], folder: SweepFolder, jobs: int, on_change: Callable[[], object] = lambda: None
) -> None:
    """Run every point that is neither done nor failed, in `jobs` processes, and return when all are settled.

    groups: the points that a process takes together. on_change is called every now and then. A process that dies (out
    of memory, a crash) costs the runs that it had, which are listed as failed; another takes its place. One that is
    stopped (SIGTERM) has saved its run, which another resumes.
    """
    folder.make()
    points = [point for group in groups for point in group]
    units = units_of([[p for p in group if not folder.settled(p.name)] for group in groups], jobs)
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    gpus = _gpus()

    def hire(number: int) -> None:
        gpu = gpus[number % len(gpus)] if gpus else None
        worker = context.Process(target=_work, args=(units, folder, threads, gpu), name=f"worker {number}")
        with uninterrupted(), away_from_terminal():  # or there would be a process that nobody knows of
            worker.start()
            workers[number] = worker

    workers: dict[int, Any] = {}
    lost: Counter[str] = Counter()
    try:
        for number in range(min(jobs, len(units))):
            hire(number)
        while any(worker.is_alive() for worker in workers.values()):
            time.sleep(POLL)
            stop_here_if_asked()
            on_change()
            for number, worker in list(workers.items()):
                if not worker.is_alive() and not all_settled(points, folder):
                    bury(worker, points, folder, lost)
                    hire(number)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()
    on_change()


def all_settled(points: Sequence[Point], folder: SweepFolder) -> bool:
    """Whether every point is done or failed."""
    return all(folder.settled(point.name) for point in points)


def units_of(groups: Sequence[Sequence[Point]], jobs: int) -> list[Sequence[Point]]:
    """What a worker takes at a time: the groups, divided evenly where there are fewer of them than workers."""
    groups = [group for group in groups if group]
    parts = -(-jobs // max(len(groups), 1))
    return [group[i::parts] for group in groups for i in range(min(parts, len(group)))]


def bury(worker: Any, points: Sequence[Point], folder: SweepFolder, lost: Counter[str]) -> None:
    """List the runs that a process had when it ended as failed, except for those that another is to resume.

    lost: how often each run lost its process. AqaError if it never had one: the next would end as well.
    """
    cause = _cause(worker.exitcode)

    def may_resume(name: str) -> bool:
        lost[name] += 1
        return worker.exitcode in STOPPED and lost[name] <= RETRIES

    begun = [point.name for point in points if _is_holder(worker, folder.holder(point.name))]
    if not begun and not may_resume(NO_RUN):
        raise AqaError(f"a process of the sweep ended before it began a run: {cause}; the same command resumes")
    for name in begun:
        if folder.state(name) == "waiting" and not may_resume(name):
            folder.fail(name, f"the process that ran it ended: {cause}")


def _is_holder(worker: Any, holder: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is the one: another machine of the sweep may use the same pid."""
    return holder["pid"] == worker.pid and holder["host"] == socket.gethostname()


def _cause(exitcode: int) -> str:
    return f"signal {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit status {exitcode}"


def _gpus() -> list[str]:
    import torch

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",") if allowed else [str(i) for i in range(torch.cuda.device_count())]


def _work(units: Sequence[Sequence[Point]], folder: SweepFolder, threads: int, gpu: str | None) -> None:
    """Take runs until all are settled; what keeps it from that is one line, and the parent lists what it had."""
    try:
        with stopped_by_parent():
            _take(units, folder, threads, gpu)
    except (AqaError, OSError) as error:  # the sweep's own folder is gone, or the disk is full
        sys.exit(f"aqa: {error}")


def _take(units: Sequence[Sequence[Point]], folder: SweepFolder, threads: int, gpu: str | None) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import torch

    from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    while open_units := [unit for unit in units if not all_settled(unit, folder)]:
        stop_here_if_asked()
        took = False
        for unit in open_units:
            if is_orphan():
                return
            took |= run_if_free(unit, folder)
        if not took:
            time.sleep(POLL)  # others have the rest; whoever of them dies leaves it to us


def is_orphan() -> bool:
    """Whether the process that started this one is gone, and with it anyone who could stop it."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def run_if_free(points: Sequence[Point], folder: SweepFolder) -> bool:
    """Run points, but not those settled by now and those that others have; False where others have all."""
    with contextlib.ExitStack() as claims:
        ours = [point for point in points if claims.enter_context(folder.claimed(point.name))]
        _run_one_by_one([point for point in ours if not folder.settled(point.name)], folder)
        return bool(ours)


def _run_one_by_one(points: Sequence[Point], folder: SweepFolder) -> None:
    """Run points one after another on features that are loaded once; one that fails costs no other."""
    from aqa.features.cache import FeatureLoader
    from aqa.runs.run import run_loaded

    loader = FeatureLoader(runs=len(points))
    for point in points:
        folder.start(point.name)
        output = str(folder.run(point.name))
        try:
            run_loaded(point.experiment.model_copy(update={"output": output}), loader, expected=point.fingerprint)
        except InUse:
            pass  # an `aqa run` took the folder meanwhile
        except AqaError as error:
            folder.fail(point.name, str(error))
        except Exception:  # the sweep continues; the error is kept
            folder.fail(point.name, traceback.format_exc())
