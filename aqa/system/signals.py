"""Being stopped by Ctrl-C, SIGTERM or a closed terminal (SIGHUP): the first signal ends a command in good order.

A second Ctrl-C or SIGTERM ends it at once. A second SIGHUP does not: a shell and the kernel each send one when a
terminal closes or a connection is cut.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a program as Ctrl-C does except for its exit status."""


class HungUp(KeyboardInterrupt):
    """SIGHUP: the terminal was closed, or the connection to it was cut."""


RAISED: dict[signal.Signals, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
FROM_TERMINAL = [signal.SIGINT]  # what a terminal sends to every process that it started
if hasattr(signal, "SIGHUP"):  # not on Windows
    RAISED[signal.SIGHUP] = HungUp
    FROM_TERMINAL.append(signal.SIGHUP)

_asked: list[int] = []  # the signals that came, in the order they came
_raised = False  # whether the block was told of the first of them
_held = 0  # how many nested blocks are running that must not be left in the middle


def exit_status(stop: KeyboardInterrupt) -> int:
    """128 and the signal, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + next(number for number, kind in RAISED.items() if type(stop) is kind)


@contextmanager
def stoppable(signals: Sequence[signal.Signals] = tuple(RAISED), hurried: bool = True) -> Iterator[None]:
    """Signals raise KeyboardInterrupt in the block, once; a second ends the process and its children at once.

    hurried: that a second does so; else it changes nothing. A signal that the parent left ignored stays ignored: shells
    do so for what runs in the background, nohup for SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives signals
        yield
        return
    global _raised
    before = {number: signal.getsignal(number) for number in signals}
    hook = sys.unraisablehook
    _asked.clear()
    _raised = False
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop if hurried else _stop_once)
    sys.unraisablehook = partial(_not_heard, hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def _stop(signum: int, frame: object) -> None:
    if _asked and RAISED.get(signal.Signals(signum)) is HungUp:
        return
    _asked.append(signum)
    if len(_asked) > 1:
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + signum)
    if not _held:
        _raise()


def _stop_once(signum: int, frame: object) -> None:
    if not _asked:
        _stop(signum, frame)


def _raise() -> None:
    global _raised
    _raised = True  # what is still to be saved may use `uninterrupted` blocks of its own
    raise RAISED[signal.Signals(_asked[0])]


def _not_heard(report: Callable[[Any], object], lost: Any) -> None:
    """Python drops an exception raised in a finalizer: where that was the stop, the next chance raises it again."""
    global _raised
    if isinstance(lost.exc_value, KeyboardInterrupt) and _raised:
        _raised = False
    else:
        report(lost)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that `stoppable` stops at its end and not before."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not _held:
        stop_here_if_asked()


def stop_here_if_asked() -> None:
    """A place where an `uninterrupted` block may be left all the same, unless it is within another."""
    if _asked and not _raised and _held <= 1:
        _raise()


@contextmanager
def away_from_terminal(and_terminated: bool = False) -> Iterator[None]:
    """Processes that are started in the block get no signal that a terminal sends to all: their parent stops them.

    and_terminated: nor SIGTERM, which a scheduler sends to all. It is for one that waits for others to end in good
    order, and itself ends with its parent.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    blocked = [*FROM_TERMINAL, signal.SIGTERM] if and_terminated else FROM_TERMINAL
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        resource_tracker.ensure_running()  # the first start of a process would start it, and unblock Ctrl-C again
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stopped_by_parent() -> Iterator[None]:
    """In a child process: SIGTERM, or the parent's death, ends the block in good order and the process with status 143.

    Ctrl-C and a closed terminal are for the parent. A second SIGTERM changes nothing: a scheduler sends one to all
    processes, whereupon the parent sends another. A parent in a hurry kills.
    """
    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, args=(partial(os.kill, os.getpid(), signal.SIGTERM),), daemon=True).start()
    try:
        with stoppable([signal.SIGTERM], hurried=False):
            if hasattr(signal, "pthread_sigmask"):  # not on Windows; what it was forked from may have blocked it
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            yield
    except KeyboardInterrupt as stop:
        sys.exit(exit_status(stop))


def end_with_parent() -> None:
    """In a child process with nothing to save: the parent's death ends it, and signals are the parent's."""
    for number in RAISED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, args=(lambda: os._exit(128 + signal.SIGTERM),), daemon=True).start()


def _outlive_nobody(end: Callable[[], object]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        end()
