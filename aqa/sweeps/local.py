"""Running a sweep's points, each once, by any number of processes on one folder.

A run is claimed by an operating system lock beside its folder, which its holder loses when it ends, however it ends. So
nobody hands out work: every worker goes through the points, or groups of points that are to run together, and takes
what is neither done, failed nor claimed.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aqa.errors import AqaError
from aqa.runs.folder import InUse
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import Point
from aqa.sweeps.workers import POLL, is_orphan, keep_at_work
from aqa.system.signals import stop_here_if_asked

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
    lost: Counter[str] = Counter()
    keep_at_work(
        jobs,
        _take,
        (units, folder),
        lambda: all_settled(points, folder),
        lambda worker: bury(worker, points, folder, lost),
        on_change,
        most=len(units),
    )


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
    cause = ending(worker.exitcode)

    def may_resume(name: str) -> bool:
        lost[name] += 1
        return worker.exitcode in STOPPED and lost[name] <= RETRIES

    begun = [point.name for point in points if is_holder(worker, folder.holder(point.name))]
    if not begun and not may_resume(NO_RUN):
        raise AqaError(f"a process of the sweep ended before it began a run: {cause}; the same command resumes")
    for name in begun:
        if folder.state(name) == "waiting" and not may_resume(name):
            folder.fail(name, f"the process that ran it ended: {cause}")


def is_holder(worker: Any, holder: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is the one: another machine of the sweep may use the same pid."""
    return holder["pid"] == worker.pid and holder["host"] == socket.gethostname()


def ending(exitcode: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit status {exitcode}"


def _take(units: Sequence[Sequence[Point]], folder: SweepFolder) -> None:
    """Take runs until all are settled."""
    while open_units := [unit for unit in units if not all_settled(unit, folder)]:
        stop_here_if_asked()
        took = False
        for unit in open_units:
            if is_orphan():
                return
            took |= run_if_free(unit, folder)
        if not took:
            time.sleep(POLL)  # others have the rest; whoever of them dies leaves it to us


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
