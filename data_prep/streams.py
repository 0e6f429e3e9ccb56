"""Streams of features as `--stream` names them: a file per video by a template, or one file with all videos."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aqa.errors import AqaError, nearest

from .arrays import READERS, Content, at_place, holds, pick, read_file
from .convert import Problem, Stream
from .files import is_macos
from .npy import shape_of
from .tables import Table
from .words import Columns, nearest_of_many, split_columns, split_place

Array = NDArray[Any]
FIELD = re.compile(r"\{([^{}]+)\}")
TIMES = ("frame", "frame_id", "frame_number", "time", "timestamp", "second", "seconds")  # columns that are no features
TABLES = (".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class StreamWords:
    """What `--stream NAME=PATH:PLACE` says; path and place may have fields, {id} or {COLUMN} of the label table.

    columns: of tables, those that are channels; None for all.
    """

    name: str
    given: str
    path: str
    place: str | None
    columns: Columns | None = None

    @property
    def option(self) -> str:
        """As it was typed, for messages."""
        return f"--stream {self.name}={self.given}"

    @property
    def fields(self) -> list[str]:
        """The fields of the path and the place."""
        return FIELD.findall(self.path + (self.place or ""))

    @property
    def per_video(self) -> bool:
        """Whether each video has a file of its own."""
        return FIELD.search(self.path) is not None


def stream_words(name: str, given: str, folder: Path | None = None) -> StreamWords:
    """The words of one stream; folder: where relative paths begin, the working folder by default."""
    before, columns = split_columns(given, TABLES, f"--stream {name}=")
    path, place = split_place(before, list(READERS), f"--stream {name}=")
    words = StreamWords(name, given, str(path if folder is None else folder / path), place, columns)
    if re.search(r"[{}]", FIELD.sub("", words.path + (place or ""))):
        raise AqaError(f"{words.option}: a brace is not closed; a field is written {{id}}")
    return words


@dataclass(frozen=True)
class Found:
    """A stream's videos, before its width is known: where each is, and how it is read.

    extra: what is there besides, which no id of the label table names. shape: as `Stream` has it.
    """

    words: StreamWords
    places: Mapping[str, str]
    load: Any
    extra: Sequence[str] = ()
    shape: Callable[[str], tuple[int, ...] | None] | None = None


def find_stream(words: StreamWords, rows: Mapping[str, Mapping[str, str]] | None, id_column: str) -> Found:
    """The videos that have a stream. rows: by id, the cells of the label table by column; None without a table.

    AqaError where there is not one. Without a table the ids are those that the files have.
    """
    if unknown := [f for f in words.fields if f != "id" and (rows is None or f not in next(iter(rows.values()), {}))]:
        known = ["id"] if rows is None else ["id", *next(iter(rows.values()), {})]
        raise AqaError(f"{words.option}: unknown field '{{{unknown[0]}}}': {nearest(unknown[0], known)}")
    if words.per_video:
        return _files(words, rows)
    return _in_one_file(words, rows, id_column)


def each_its_own(found: Sequence[Found], labelled: bool) -> list[Found]:
    """The same where a template fits the files of another, as v/{id}.npy fits those of v/{id}_flow.npy.

    labelled: whether the ids are those of a table, by which such a file is not extra. Without a table it belongs to the
    stream whose template has more letters, and is no video of the other. AqaError where a stream has no file then.
    """
    owners: dict[str, tuple[int, str]] = {}
    for each in (one for one in found if one.words.per_video):
        letters = len(FIELD.sub("", each.words.path))
        for i, path in each.places.items():
            owners[path] = max(owners.get(path, (0, "")), (letters, i))
    kept = []
    for each in found:
        if not each.words.per_video:
            kept.append(each)
            continue
        own = {i: path for i, path in each.places.items() if labelled or owners[path][1] == i}
        if not own:
            raise AqaError(f"{each.words.option}: every file that fits is one of another stream")
        kept.append(replace(each, places=own, extra=[path for path in each.extra if path not in owners]))
    return kept


def _filled(text: str, i: str, cells: Mapping[str, str]) -> str:
    return FIELD.sub(lambda field: i if field[1] == "id" else cells[field[1]], text)


def _files(words: StreamWords, rows: Mapping[str, Mapping[str, str]] | None) -> Found:
    """A file per video; those that are there and fit the template but belong to no id are extra."""
    pattern = FIELD.sub("\0", words.path)
    there = sorted(p for p in glob.glob(glob.escape(pattern).replace("\0", "*")) if not is_macos(p))
    if rows is None:
        places = _ids_of(words, there)
        rows = {i: {} for i in places}
    else:
        places = {i: _filled(words.path, i, cells) for i, cells in rows.items()}
        for i, path in places.items():
            if ".." in path and ".." in Path(path[len(words.path.partition("{")[0]) :]).parts:
                raise AqaError(f"{words.option}: the id '{i}' leads out of the folder")
    found = {i: path for i, path in places.items() if os.path.isfile(path) or os.path.isdir(path)}
    if not found:
        raise AqaError(f"{words.option}: no video has a file; {_hint(words, places, there)}")
    extra = _besides(there, places.values()) if rows else []

    def load(i: str) -> Array:
        content = _read(found[i], words)
        return _clips(content, _filled(words.place, i, rows[i]) if words.place else None, found[i])

    def shape(i: str) -> tuple[int, ...] | None:
        stated = shape_of(found[i])
        return (1, *stated) if stated is not None and len(stated) == 1 else stated

    whole = words.place is None and words.path.lower().endswith(".npy")
    return Found(words, found, load, extra, shape if whole else None)


def _besides(there: Sequence[str], named: Collection[str]) -> list[str]:
    """The files among those that are there which have no name."""
    known = set(named)
    rest = [path for path in there if path not in known]
    known = {str(Path(path)) for path in named} if rest else known  # "./v/a.npy" is v/a.npy
    return [path for path in rest if str(Path(path)) not in known]


def _read(path: str | Path, words: StreamWords) -> Content:
    """What a file holds, of a table the columns that the words name."""
    content = read_file(path)
    return content.choose(words.columns) if isinstance(content, Table) and words.columns is not None else content


def _ids_of(words: StreamWords, there: Sequence[str]) -> dict[str, str]:
    """Ids by what stands in the place of {id} in the path of each file, the same wherever it stands."""
    before, *after = map(re.escape, words.path.split("{id}"))
    pattern = re.compile(before + "(.+)" + r"\1".join(after), re.DOTALL)
    matches = ((pattern.fullmatch(path), path) for path in there)
    return {match[1]: path for match, path in matches if match is not None}


def _hint(words: StreamWords, places: Mapping[str, str], there: Sequence[str]) -> str:
    """What a user may have meant whose template fits no file."""
    folder = Path(words.path.partition("{")[0] + "x").parent  # the last one without a field
    if not folder.is_dir():
        return f"there is no folder {folder}"
    expected = next(iter(places.values()), words.path)
    others = sorted(p.name for p in Path(expected).parent.glob("*")) if Path(expected).parent.is_dir() else []
    bare = (Path(re.sub(r"\.\w+(\.\w+)$", r"\1", path)) for path in places.values())
    if found := next((path for path in bare if str(path) not in places.values() and path.is_file()), None):
        return f"'{found.name}' is there without the ending of its id; give ids as the files are called"
    if there or others:
        return f"such as {expected}; {nearest_of_many(Path(expected).name, others)}"
    return f"{folder} is empty"


def _in_one_file(words: StreamWords, rows: Mapping[str, Mapping[str, str]] | None, id_column: str) -> Found:
    """One file with all videos: arrays by id, or the lines of a table by its column of ids."""
    path = Path(words.path)
    content, template = _by_id(words, path, id_column)
    names = [str(name) for name in content]
    if rows is None:
        rows = {i: {} for i in (names if template == "{id}" else _ids_in(template, content, str(path)))}
    places = {i: _filled(template, i, cells) for i, cells in rows.items()}
    found = {i: place for i, place in places.items() if holds(content, place)}
    if not found:
        wanted = next(iter(places.values()), template)
        raise AqaError(f"{words.option}: no id is in the file, such as '{wanted}': {nearest_of_many(wanted, names)}")
    known = set(places.values())
    extra = [name for name in names if name not in known] if template == "{id}" else []

    def load(i: str) -> Array:
        return _clips(at_place(content, found[i], str(path)), None, f"{path}:{found[i]}")

    return Found(words, found, load, extra)


def _by_id(words: StreamWords, path: Path, id_column: str) -> tuple[Mapping[str, Any], str]:
    """What a file holds, and where in it a video is: "{id}", or the place that the words say."""
    if not path.is_file():
        here = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest_of_many(path.name, here) if here else f"there is no folder {path.parent}"
        raise AqaError(f"{words.option}: there is no file {path}; {hint}; a file per video is written with {{id}}")
    content, template = _read(path, words), "{id}"
    if isinstance(content, Table):
        return content.by(words.place or id_column, words.option), template
    if words.place is not None:
        if FIELD.search(words.place):
            template = words.place
        else:
            content = at_place(content, words.place, str(path))
    if not isinstance(content, Mapping):
        raise AqaError(
            f"{words.option}: the file holds one array of shape {content.shape}, without ids; write a file per video "
            "({id} in the path), or arrays by id (.npz, .h5, .mat, .pt)"
        )
    return content, template


def _ids_in(template: str, content: Content, where: str) -> list[str]:
    """The ids for which a template such as "{id}/visual" leads to an array in a file."""
    before, _, after = template.partition("{id}")
    group, _, begin = before.rpartition("/")
    end = after.partition("/")[0]
    inside = at_place(content, group, where) if group else content
    names = [str(name) for name in inside] if isinstance(inside, Mapping) else []
    ids = [name[len(begin) : len(name) - len(end)] for name in names if name.startswith(begin) and name.endswith(end)]
    return [i for i in ids if holds(content, template.replace("{id}", i))]


def _clips(content: Content, place: str | None, where: str) -> Array:
    """The array of one video; a vector is one clip. AqaError for another number of dimensions."""
    if isinstance(content, Table) and place is None:
        return content.clips()
    array = content if isinstance(content, np.ndarray) and place is None else pick(content, place, where)
    if array.dtype.kind not in "biuf":
        raise AqaError(f"{where} holds '{array.dtype}', not numbers")
    return array[None, :] if array.ndim == 1 else array


def time_notes(found: Found) -> list[str]:
    """What must be said of a table whose column of time, by its name, is taken as a channel."""
    words = found.words
    if words.columns is not None or not words.path.lower().endswith(TABLES):
        return []
    try:
        content = read_file(Path(next(iter(found.places.values())) if words.per_video else words.path))
    except AqaError:  # told with all others, by id, when the features are checked
        return []
    names = content.names or () if isinstance(content, Table) else ()
    return [
        f"{words.name}: column '{name}' is taken as a channel; --stream {words.name}='{words.given}[by {name}]' orders "
        "the clips by it and leaves it out"
        for name in names
        if name.lower() in TIMES
    ]


def make_stream(found: Found, rate: float | None, extractor: str | None, problems: list[Problem]) -> Stream:
    """The stream with the width of its first video that can be read, which all others must have.

    rate: clips a second. extractor: what made the features. Both None where not known.
    """
    words = found.words
    width, failure = 0, ""
    for i in found.places:
        try:
            array = found.load(i)
        except AqaError as error:  # told with all others, by id, when the features are checked
            failure = failure or str(error)
            continue
        if array.ndim == 2 and array.shape[1]:
            width = array.shape[1]
            break
        failure = failure or f"{found.places[i]} has shape {array.shape}; expected (clips, channels)"
    if not width:
        raise AqaError(f"{words.option}: not one video can be read; the first: {failure}")
    problems += [Problem(name, "features without a label", words.name) for name in found.extra]
    return Stream(width, found.places.keys(), found.load, extractor, None if rate is None else 1 / rate, found.shape)
