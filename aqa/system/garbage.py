"""Work in which Python looks for no garbage, and a program that ends without looking for it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is collected meanwhile.

    The many small objects of a figure would have Python look through all that torch consists of, again and again, which
    takes a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def imported_for_good() -> Iterator[None]:
    """Nothing is collected while modules are imported, and what they consist of is not looked through later either.

    For a program that is ours. Looking for garbage takes a sixth of the time of importing torch and pandas.
    """
    with uncollected():
        yield
        gc.freeze()


@functools.cache
def end_uncollected() -> None:
    """Let this program end without looking for garbage, which takes a third of a second where torch is imported.

    For a program that is ours: what is left is given back to the system when it has ended.
    """
    atexit.register(gc.freeze)
