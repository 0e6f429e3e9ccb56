"""A terminal that was closed while a command still runs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def may_be_closed(stream: TextIO) -> Iterator[None]:
    """A block that prints to a stream. Where that is a terminal that was closed, nobody reads it, and it is no error.

    Other errors, such as those of a file or a pipe, are raised.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO or not stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)  # also for what is still in the stream's buffer
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
