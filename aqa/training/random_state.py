"""Pieces of work that are done a step at a time: one to its end, or several in turn, each as if it were alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from typing import Any, TypeVar

import torch

R = TypeVar("R")

Work = Generator[None, None, R]  # yields after each step, returns its result


def to_the_end(work: Work[R]) -> R:
    """Do all steps of a work and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def take_turns(works: Mapping[str, Work[Any]]) -> Iterator[tuple[str, Exception | None]]:
    """Do a step of each work in turn until all have ended; yields the name of each that does, and what it failed of.

    Each draws random numbers from torch as if nobody else did, if its first step seeds the generators. All are closed
    where the caller stops early.
    """
    waiting = deque((name, work, random_state()) for name, work in works.items())
    try:
        while waiting:
            name, work, state = waiting.popleft()
            set_random_state(state)
            try:
                next(work)
            except StopIteration:
                yield name, None
            except Exception as error:  # the others go on
                yield name, error
            else:
                waiting.append((name, work, random_state()))
    finally:
        for work in works.values():
            work.close()


def random_state() -> dict[str, Any]:
    """The state of torch's generators, of the CPU and, where this process uses them, of each GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # which is not to be started for this
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Let torch's generators go on from a state."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
