"""Files that appear whole or not at all, and checkpoints read without running code from them."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aqa.errors import AqaError
from aqa.system.signals import uninterrupted

try:
    import fcntl
except ImportError:  # Windows, where what a killed process left is not told from what another still writes
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import pandas as pd


PARTIAL = ".partial"
# What may have the name of a file and is none: reading it would wait for ever, or never end.
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NOTHING_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
STAGE, COMPLETE = ".unfinished", "complete"  # a folder for files that belong together; in it a sign: they are whole


class Unwritable(AqaError):
    """A file that cannot be written where it should be, whatever is to be in it."""


def has_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file to read at a path; every reader asks this first.

    AqaError for a folder, a pipe, a socket or a device, and where the path cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:  # a null character in the path
        return False
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return False
        raise AqaError(f"{path} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise AqaError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
    return True


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """AqaError if a file is there already that would be replaced unasked."""
    if os.path.exists(path) and not overwrite:
        clear_leftovers(Path(path))
        raise AqaError(
            f"{path} exists; choose another name, or replace it with --overwrite (in Python: overwrite=True)"
        )


@contextlib.contextmanager
def written_whole(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well.

    AqaError if it cannot be written: a full disk, a folder that is gone; without `overwrite` also where a file of
    that name is there by then, so that of two processes that write the same file at once one succeeds. What a process
    left that was killed while it wrote the same file is removed.
    """
    clear_leftovers(path)
    partial = None
    try:
        partial, lock = _new_partial(path)
        try:
            yield partial
            with open(partial, "rb") as written:  # on the disk before it has the name
                os.fsync(written.fileno())
            os.chmod(partial, 0o666 & ~_umask())
            if overwrite:
                os.replace(partial, path)
            else:
                _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
            os.close(lock)
    except OSError as error:
        if error.filename not in (None, str(partial)) and partial is not None:
            raise  # another file's
        raise Unwritable(f"{path} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder, with those above it, for a block; where the block fails those that are new are removed again."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for empty in new:
            with contextlib.suppress(OSError):  # somebody has put a file there meanwhile
                empty.rmdir()
        raise


def _name(partial: Path, path: Path) -> None:
    """Give a file its name; AqaError if another has it by now, which `os.replace` would remove."""
    try:
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: an empty file takes the name first, which only one can do
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            os.replace(partial, path)
    except FileExistsError:
        raise Unwritable(f"{path} exists: another process wrote it meanwhile; nothing was replaced") from None


def _new_partial(path: Path) -> tuple[Path, int]:
    """A temporary file beside `path`, and the open file that holds its lock: somebody is still writing it."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        if fcntl is None:
            os.close(handle)
            return Path(name), os.open(os.devnull, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # nobody took it for a leftover before it was locked
            return Path(name), handle
        os.close(handle)


def clear_leftovers(path: Path) -> None:
    """Remove what processes left that were killed while they wrote `path`."""
    for partial in partials(path):
        with contextlib.suppress(OSError), _locked(partial):
            partial.unlink()


def partials(path: Path) -> list[Path]:
    """What is written of `path` now, or was by processes that were killed."""
    return [path.parent / n for n in glob.glob(f".{glob.escape(path.name)}.*{PARTIAL}", root_dir=path.parent)]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder; OSError where another process does, or nobody can."""
    if fcntl is None:
        raise OSError("no locks here")
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refuse_existing_together(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """AqaError if one of the names is in the folder already, unless `written_together` was killed over moving it."""
    stage = folder / STAGE
    if not (stage / COMPLETE).is_file():
        with contextlib.suppress(OSError), _locked(stage):  # what one left that was killed before, or just after
            shutil.rmtree(stage)
        for name in names:
            refuse_existing(folder / name, overwrite)


@contextlib.contextmanager
def written_together(folder: Path, last: str) -> Iterator[Path]:
    """A temporary folder whose files are moved to `folder` when the block ends well, the one called `last` at last.

    Where the block fails nothing is moved. AqaError if another process is at it.
    """
    stage, new = folder / STAGE, not folder.exists()
    stage.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(_locked(stage))
        except BlockingIOError:
            raise AqaError(f"another process is writing to {folder}") from None
        except OSError:
            pass  # a file system without locks
        parts = stage / "files"
        try:
            shutil.rmtree(parts, ignore_errors=True)
            parts.mkdir()
            yield parts
            with uninterrupted():
                (stage / COMPLETE).touch()
                for path in sorted(parts.rglob("*"), key=lambda path: (path.name == last, path)):
                    if path.is_file():
                        place = folder / path.relative_to(parts)
                        place.parent.mkdir(exist_ok=True)
                        os.replace(path, place)
                (stage / COMPLETE).unlink()
        finally:
            shutil.rmtree(parts, ignore_errors=True)
            for empty in [stage, folder] if new else [stage]:  # the stage stays where an earlier one was half moved
                with contextlib.suppress(OSError):
                    empty.rmdir()


class Sink(io.FileIO):
    """A file for libraries that fare badly where a write fails: it keeps the failure until it is closed.

    HDF5 cannot close such a file, and crashes when the process ends; torch says nothing of what went wrong.
    """

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self.failure: BaseException | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.failure is None:
                rest = rest[super().write(rest) :]
        except BaseException as failure:  # Ctrl-C as well, where nobody holds it back
            self.failure = failure
        return size

    def write_at(self, place: int, data: Any) -> None:
        """Write bytes, or a contiguous array, from a place of the file on."""
        if self.failure is None:
            self.seek(place)
        self.write(data)

    def reserve(self, place: int, size: int) -> None:
        """Have the file system find room for what will be written, which is faster at once than write by write.

        Where there is not room enough this is the failure. Where the file system does not know how, nothing is done.
        """
        if size and self.failure is None and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self.fileno(), place, size)
            except OSError as failure:
                if failure.errno in _NO_ROOM:
                    self.failure = failure

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.failure is None else size or 0
        except BaseException as failure:
            self.failure = failure
            return size or 0

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self.failure is not None:
            raise self.failure


@contextlib.contextmanager
def sink(path: Path) -> Iterator[Sink]:
    """A `Sink` for one file; raises its first failure, whatever the library made of it.

    The block is `uninterrupted`: a signal that comes while a library writes would be taken for a failure of the file.
    """
    with uninterrupted(), Sink(path) as file:
        try:
            yield file
        finally:
            file.check()


def write_text(path: Path, text: str, overwrite: bool = True) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path, overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame, overwrite: bool = True) -> None:
    """Write a CSV file whole or not at all; undefined numbers become empty cells."""
    with written_whole(path, overwrite) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def plain(value: Any) -> Any:
    """What strict JSON can hold: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
