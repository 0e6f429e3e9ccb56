"""The folder of a sweep: the runs, and who has which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aqa.runs.folder import ERRORS, LOCK, METRICS, RunFolder
from aqa.system.files import has_file, write_text
from aqa.system.locks import claimed, holder_in, is_claimed, note_holder

RESULTS = "results.csv"  # in the folder of a sweep or a search: what was found
TRIALS_TABLE, IMPORTANCE, SUMMARY = "trials.csv", "importance.csv", "summary.txt"  # in that of a search
State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class SweepFolder:
    """The folder of a sweep: a run's folder a point, and beside them what is known of who runs what."""

    path: Path

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.path / name

    def error(self, name: str) -> Path:
        """Where the error of a failed run is kept."""
        return self.path / ERRORS / f"{_plain(name)}.txt"

    def _claim(self, name: str, kind: str) -> Path:
        return self.path / ".claims" / f"{_plain(name)}.{kind}"

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Whether the run is ours until the block ends: no other sweep has it, and no `aqa run` its folder."""
        with claimed(self._claim(name, "lock")) as ours:
            yield ours and not is_claimed(self.run(name) / LOCK)

    def settled(self, name: str) -> State | None:
        """Done or failed; None for a run that still has to be."""
        if RunFolder(self.run(name)).status == "finished":
            return "done"
        return "failed" if has_file(self.error(name)) else None

    def state(self, name: str) -> State:
        """How far a run is."""
        settled = self.settled(name)
        if settled is not None:
            return settled
        with self.claimed(name) as free:
            return "waiting" if free else "running"

    def holder(self, name: str) -> dict[str, Any]:
        """Who started a run last, and when: host, pid and time; empty and zeros where nobody did."""
        return holder_in(self._claim(name, "json"))

    def start(self, name: str) -> None:
        """Note that this process starts a run now."""
        note_holder(self._claim(name, "json"))

    def fail(self, name: str, error: str) -> None:
        """Keep the error of a run that failed."""
        write_text(self.error(name), error.rstrip() + "\n")

    def forget_failures(self) -> None:
        """Let failed runs be retried."""
        for path in (self.path / ERRORS).glob("*.txt"):
            path.unlink(missing_ok=True)  # another sweep on this folder may forget them as well

    def seconds(self, name: str) -> float:
        """How long a finished run took, from its last start to its end."""
        return (self.run(name) / METRICS).stat().st_mtime - self.holder(name)["time"]

    def make(self) -> None:
        """Create the folder."""
        for part in (ERRORS, ".claims"):
            (self.path / part).mkdir(parents=True, exist_ok=True)


def _plain(name: str) -> str:
    """A run's name as that of a file: folds lie in a folder of their cross-validation."""
    return name.replace("/", "-")
