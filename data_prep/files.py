"""Finding a published file at any depth under the folder it was downloaded to."""

from __future__ import annotations

import difflib
import os
import re
import zipfile
from pathlib import Path

from aqa.errors import AqaError, nearest
from aqa.system.files import has_file

from .words import option

MACOS_FOLDER, MACOS_PREFIX = "__MACOSX", "._"  # what archives made on macOS contain besides the files themselves
# Words in names of files; two files whose words differ in one of these are not mistaken for each other.
_TOLD_APART = (
    {"rgb": 0, "vst": 0, "visual": 0, "video": 0, "output": 0, "audio": 1, "ast": 1, "flow": 2, "i3d": 2, "y": 3},
    {"train": 0, "test": 1, "val": 2, "valid": 2},
    {"ball": 0, "clubs": 1, "hoop": 2, "ribbon": 3},
)


# Files that people have beside their tables, by how they begin.
OTHERS = [
    (re.compile(mark, re.DOTALL), kind)
    for mark, kind in (
        (rb"\x89PNG\r\n", "an image (PNG)"),
        (rb"\xff\xd8\xff", "an image (JPEG)"),
        (rb"GIF8[79]a", "an image (GIF)"),
        (rb"%PDF-", "a PDF file"),
        (rb"RIFF....WAVE", "a sound (WAV)"),
        (rb"RIFF....AVI ", "a video (AVI)"),
        (rb"....ftyp", "a video or a sound (MP4)"),
        (rb"\x1aE\xdf\xa3", "a video (Matroska, WebM)"),
    )
]


def find(source: Path, *names: str) -> Path:
    """The one file or folder under `source` that has one of `names`.

    Raises AqaError if there is none, with the nearest name there is, and where there are two, naming both.
    """
    source = Path(source)
    if not source.is_dir():
        raise AqaError(f"{source} is not a folder; {option('source')} is the folder with the downloaded files")
    found = sorted(path for name in names for path in source.rglob(name) if not is_macos(path.relative_to(source)))
    if len(found) > 1:
        raise AqaError(
            f"{' or '.join(names)} found {len(found)} times: {_listed(found)}; keep one, or narrow {option('source')}"
        )
    if not found:
        hint = _hint(source, names[0])
        raise AqaError(f"{' or '.join(names)} not found under {source}; {hint}")
    if Path(names[0]).suffix:
        has_file(found[0])
    return found[0]


def is_macos(path: str | os.PathLike[str]) -> bool:
    """Whether a file or folder is one that macOS adds to an archive; none holds data."""
    text = os.fspath(path)  # thousands of files are asked for: a Path of each costs as much as opening it
    return (MACOS_PREFIX in text and Path(text).name.startswith(MACOS_PREFIX)) or (
        MACOS_FOLDER in text and MACOS_FOLDER in Path(text).parts
    )


def macos_note(source: Path) -> str:
    """What a summary says about the files of macOS under `source`; empty if there are none."""
    count = sum(path.is_file() and is_macos(path.relative_to(source)) for path in source.rglob("*"))
    return f"skipped: {count} file{'s' * (count != 1)} that macOS added to an archive (._NAME, __MACOSX)" * bool(count)


def original_of_copy(name: str) -> str | None:
    """The name that a browser or file manager copied: "a" for "a (1)"; None if it is not such a name."""
    match = re.fullmatch(r"(.+) \(\d+\)", name)
    return match[1] if match else None


def what_it_is(path: Path) -> str | None:
    """For a file in the place of another, what its first bytes show and what to do; None if they show nothing."""
    with path.open("rb") as file:
        start = file.read(1024)
    if not start:
        return "is empty; download it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; run 'git lfs pull' in the clone, or download the file"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML), not the file itself; download it again"
    if start.startswith(b"PK\x03\x04"):
        return _what_archive(path)
    if start.startswith(b"\x1f\x8b"):
        return "is compressed with gzip; unpack it"
    if start.startswith(b"\x89HDF"):
        return "is an HDF5 file, whatever its name says"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a plain pickle; if you trust it, load it with pickle and write it with numpy.save"
    return next((f"is {kind}, not a table or an array of numbers" for mark, kind in OTHERS if mark.match(start)), None)


def _what_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            is_npz = any(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return "is a zip archive that is damaged or cut off; download it again"
    return "is an .npz archive; write its array with numpy.save" if is_npz else "is a zip archive; unpack it"


def _hint(source: Path, name: str) -> str:
    """What is said of a name that is not there: a copy or an .npz of it, the nearest name, or what there is."""
    suffix = Path(name).suffix
    there = sorted(
        {
            path.name
            for path in source.rglob("*")
            if not is_macos(path.relative_to(source)) and (path.suffix == suffix if suffix else path.is_dir())
        }
    )
    for other in there:
        if original_of_copy(Path(other).stem) == Path(name).stem:
            return f"'{other}' is named like a copy of it; rename it"
    if suffix == ".npy" and any(source.rglob(f"{Path(name).stem}.npz")):
        return f"'{Path(name).stem}.npz' is an .npz archive; write its array with numpy.save"
    if not there:
        return f"no {suffix or 'folder'} is there"
    there = [other for other in there if not _told_apart(name, other)]
    if not there:
        return "no file of a similar name is there"
    return nearest(name, difflib.get_close_matches(name, there, n=1) or there[:8])


def _told_apart(one: str, other: str) -> bool:
    words = [re.split(r"[^a-z0-9]+", name.lower()) for name in (one, other)]
    for group in _TOLD_APART:
        first, second = ({group[word] for word in part if word in group} for part in words)
        if first and second and not first & second:
            return True
    return False


def _listed(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
