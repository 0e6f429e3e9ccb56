"""Locks between processes: of the operating system, so that a holder loses its lock however it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aqa.errors import AqaError
from aqa.system.files import has_file, write_text

NOBODY: dict[str, Any] = {"host": "", "pid": 0, "time": 0.0}
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)  # of a file system that has none


@contextlib.contextmanager
def claimed(lock: Path, wait: float = 0.0, remove: bool = False) -> Iterator[bool]:
    """Whether a lock is ours until the block ends, and False at once, or after `wait` seconds, where it is another's.

    lock: a file, made where there is none, and removed in the end where `remove` says so. Processes that use one lock
    must agree on that. OSError where the file system has no locks.
    """
    held = FileLock(lock, timeout=wait)
    try:
        held.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        if remove:  # while it is held: who waits for it sees that the file is gone, and makes a new one
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
        held.release()


def is_claimed(lock: Path) -> bool:
    """Whether somebody holds a lock now."""
    if not has_file(lock):
        return False
    with claimed(lock) as free:
        return not free


def has_no_locks(error: OSError) -> bool:
    """Whether an error of `claimed` says that the file system has no locks."""
    return error.errno in NO_LOCKS


def note_holder(note: Path) -> None:
    """Write down that this process holds a lock since now: host, pid and time."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
    write_text(note, json.dumps(holder))


def holder_in(note: Path) -> dict[str, Any]:
    """Who wrote that note last, and when; empty and zeros where nobody did."""
    try:
        return NOBODY | json.loads(note.read_text(encoding="utf-8")) if has_file(note) else dict(NOBODY)
    except (AqaError, OSError, ValueError, TypeError):
        return dict(NOBODY)


def holder_text(note: Path) -> str:
    """The same for people: "process 12 on node7, since 2026-01-31 12:00:00"."""
    holder = holder_in(note)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["time"]))
    except (TypeError, ValueError, OverflowError):
        since = ""
    if not holder["pid"] or not since:
        return "another process"
    return f"process {holder['pid']} on {holder['host']}, since {since}"
