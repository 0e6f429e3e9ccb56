"""Processes that share out the work of a report, and what is to be had of them."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

import joblib
from joblib.externals import loky

from aqa.errors import AqaError
from aqa.system.signals import away_from_terminal, end_with_parent

Outcome = TypeVar("Outcome")

RUNS_EACH = 50  # for which it is worth starting a process
COLLECTED_AFTER = 50_000  # objects more, of which the files of many runs have millions, and hardly one is garbage


class ThisProcess(Executor):
    """Does at once what it is given."""

    def submit(self, function: Callable[..., Outcome], /, *given: Any, **options: Any) -> Future[Outcome]:
        """A future that is there already; what goes wrong is raised here."""
        future: Future[Outcome] = Future()
        future.set_result(function(*given, **options))
        return future


@contextlib.contextmanager
def processes(runs: int) -> Iterator[Executor]:
    """As many processes as there are cores, of use for so many runs; this process alone for few.

    They have what this one has imported, where they can be forked from it: on Linux, unless it has other threads. They
    end with the block; where it is left by an error, when they have done what they have begun: one that is killed while
    it hands over a result would be waited for without end. AqaError where one of them is killed from outside.
    """
    count = min(joblib.cpu_count(), max(1, runs // RUNS_EACH))
    if count == 1:
        yield ThisProcess()
        return
    if sys.platform == "linux" and threading.active_count() == 1:
        forked = multiprocessing.get_context("fork")
        executor: Executor = ProcessPoolExecutor(count, mp_context=forked, initializer=_begin)
        break_off: Callable[[], None] = partial(executor.shutdown, cancel_futures=True)
    else:
        beside = loky.ProcessPoolExecutor(count)
        executor, break_off = beside, partial(beside.shutdown, kill_workers=True)
    try:
        with away_from_terminal():
            executor.submit(_nothing)  # starts them all
        yield executor
    except BrokenExecutor:
        raise AqaError("a process of the report was ended from outside; memory may have run out") from None
    except BaseException:
        break_off()
        raise
    executor.shutdown()


def _begin() -> None:
    end_with_parent()
    gc.freeze()  # what was imported stays, and need not be looked through for garbage
    gc.set_threshold(COLLECTED_AFTER)
    gc.enable()


def _nothing() -> None:
    """What is done first."""
