"""A journal of trials: a file of JSON lines that processes, also on several machines, add to.

Optuna has one of its own, whose lock outlives a process that is killed, and which cannot be read any more where such a
process left half a line. Here the lock is the operating system's, and who holds it removes half a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend

from aqa.errors import AqaError


class Journal(BaseJournalBackend):
    """A file of JSON lines. AqaError for a line that is none."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = FileLock(f"{path}.lock")
        self._start_of = {0: 0}  # by number of a line, where in the file it starts, as far as it was read
        with self._lock:
            path.touch()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from that number on; half a line, which is being written, is left for the next time."""
        known = max(number for number in self._start_of if number <= log_number_from)
        with open(self.path, "rb") as file:
            file.seek(self._start_of[known])
            for number, line in enumerate(file, start=known):
                if not line.endswith(b"\n"):
                    return
                self._start_of[number + 1] = self._start_of[number] + len(line)
                if number >= log_number_from:
                    yield self._parsed(line, number)

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            content = json.loads(line)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise AqaError(f"{self.path}, line {number + 1}, is not a line of a search's journal; was the file edited?")
        return content

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines; they are on the disk when this returns."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with self._lock, open(self.path, "rb+") as file:
                _cut_half_line(file)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AqaError(f"{self.path} cannot be written: {error.strerror or error}") from None


def _cut_half_line(file: IO[bytes]) -> None:
    """Go to the end of a file, without what follows its last line end."""
    size = file.seek(0, os.SEEK_END)
    whole = size
    while whole:
        file.seek(whole - 1)
        if file.read(1) == b"\n":
            break
        whole -= 1
    if whole < size:
        file.truncate(whole)
    file.seek(whole)
