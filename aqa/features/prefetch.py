"""Work that is done ahead, in a thread, while the caller is busy with what is done already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

R = TypeVar("R")


def in_turn(works: Sequence[Callable[[Event], R]]) -> Iterator[R]:
    """The result of each work, done when it is asked for."""
    for work in works:
        yield work(Event())


def one_ahead(works: Sequence[Callable[[Event], R]]) -> Iterator[R]:
    """The results of some works, in order: each is done in a thread while the caller has the one before.

    A work starts when the caller has left the result of the one before the last, and may use its memory again. It is
    given an event that is set where nobody wants its result any more, so that it may end early. An error of a work is
    raised where its result is asked for. A thread lives as long as one work, and none is left when the iterator is
    closed, or was left behind.
    """
    unwanted = Event()
    ahead: list[Future[R]] = []
    try:
        for number, work in enumerate(works):
            current = ahead.pop() if ahead else _started(work, unwanted)
            result = current.result()
            del current
            if number + 1 < len(works):
                ahead.append(_started(works[number + 1], unwanted))
            yield result
    finally:
        unwanted.set()
        wait(ahead)


def _started(work: Callable[[Event], R], unwanted: Event) -> Future[R]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="reading ahead")
    try:
        return thread.submit(work, unwanted)
    finally:
        thread.shutdown(wait=False)
