"""Being stopped by Ctrl-C or SIGTERM: asked once a command ends in good order, asked again it leaves at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_asked: list[int] = []  # the signals that came, in the order they came
_raised = False  # whether the block was told of the first of them
_held = 0  # how many blocks run, one in the other, that are not to be left in their middle


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a program as Ctrl-C does but for its exit status."""


def exit_status(stop: BaseException) -> int:
    """128 and the signal, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def stoppable(signals: Sequence[signal.Signals] = SIGNALS) -> Iterator[None]:
    """Signals raise KeyboardInterrupt in the block, once; the next ends the process and its children on the spot.

    A signal that the parent left ignored, as shells do for what runs in the background, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are none of its business
        yield
        return
    global _raised
    before = {number: signal.getsignal(number) for number in signals}
    _asked.clear()
    _raised = False
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def _stop(signum: int, frame: object) -> None:
    _asked.append(signum)
    if len(_asked) > 1:
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + signum)
    if not _held:
        _raise()


def _raise() -> None:
    global _raised
    _raised = True  # what is still to be saved may take `uninterrupted` blocks of its own
    raise Terminated if _asked[0] == signal.SIGTERM else KeyboardInterrupt


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
def without_signal(number: signal.Signals) -> Iterator[None]:
    """Processes that are started in the block never get a signal."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stopped_by_parent() -> Iterator[None]:
    """In a child process: the parent's SIGTERM, or its death, ends the block; Ctrl-C is for the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    try:
        with stoppable([signal.SIGTERM]):
            yield
    except KeyboardInterrupt:
        pass


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
