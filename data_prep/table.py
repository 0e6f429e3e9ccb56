"""Own data, named by words or in a YAML file (`aqa prepare table`): labels and files of features, or a pack of both."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aqa.config.load import validated
from aqa.config.schema import StrictConfig
from aqa.config.text_keys import takes_text
from aqa.config.yaml import read_yaml
from aqa.errors import AqaError, nearest
from aqa.names import check_id, check_key, check_modalities
from aqa.store.checks import first

from .convert import Problem, Published, Stream
from .draw import draw_split
from .labels import value_of
from .pack import Pack, read_pack
from .sheets import Sheet, read_sheet
from .streams import each_its_own, find_stream, make_stream, stream_words, time_notes
from .targets import TargetScores, numeric_columns, ranges_of, read_scores, target_words
from .words import named

ID_COLUMNS = ("id", "ids", "video", "video_id", "videoid", "name", "file", "filename", "clip", "sample")
#: Other words for the three splits; any other name of a split is kept as it is.
SPLITS = {"training": "train", "val": "valid", "validation": "valid", "dev": "valid", "testing": "test"}
NO_SPLIT = "none"


class TableConfig(StrictConfig):
    """What `aqa prepare table` is told, on the command line or in a YAML file."""

    labels: str | None = None  # CSV, TSV, XLSX, Parquet or JSON lines
    pack: str | None = None  # in place of labels: an .npz file whose arrays are streams and columns
    id: str | None = None  # the column of ids
    target: list[str] = Field(default_factory=list)  # NAME, NAME=COLUMN or NAME=mean(COLUMNS), each also with :LOW:HIGH
    stream: dict[str, str] = Field(default_factory=dict)  # by name: features/{id}.npy, f/{id}.csv[f0..f9], or an array
    rate: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)  # clips a second, by stream
    extractor: dict[str, str] = Field(default_factory=dict)  # what made the features, by stream
    split: str | None = None  # the column with train, valid, test; "none" for no splits
    group: list[str] = Field(default_factory=list)  # columns: the athlete, surgeon ... of each video
    fold: list[str] = Field(default_factory=list)  # columns with the fold of each video
    seed: int = Field(0, ge=0)  # of the split that is drawn where there is none
    name: str | None = None  # of the data set; the store's file name by default


def table_config(path: str | os.PathLike[str] | None, given: Mapping[str, Any]) -> TableConfig:
    """The words given, over those of a YAML file; paths in the file are relative to its folder. None: not given."""
    known = {key: value for key, value in given.items() if value not in (None, [], {})}
    if path is None:
        return validated(TableConfig, known, "aqa prepare table", {})
    config, keys = Path(path), TableConfig.model_fields
    content, lines = read_yaml(config, partial(takes_text, TableConfig), "a table file", keys)
    for key in ("target", "group", "fold"):  # one may be written without brackets
        if isinstance(content.get(key), str):
            content[key] = [content[key]]
    file = validated(TableConfig, content, str(config), {key: f"{config}, line {line}" for key, line in lines.items()})
    folder = config.parent
    kept = file.model_dump(exclude_unset=True)
    for key in ("labels", "pack"):
        if kept.get(key) is not None:
            kept[key] = str(folder / kept[key])
    if "pack" not in {**kept, **known}:
        kept["stream"] = {name: str(folder / path) for name, path in file.stream.items()}
    for key in ("stream", "rate", "extractor"):
        known[key] = {**kept.get(key, {}), **known.get(key, {})}
    return validated(TableConfig, {**kept, **known}, "aqa prepare table", {})


def by_name(given: Mapping[str, Any] | Sequence[str] | None, option: str, example: str) -> dict[str, Any]:
    """Words such as "visual=25" (or a mapping, in Python) as a mapping; AqaError for a name that is given twice."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    found: dict[str, Any] = {}
    for text in [given] if isinstance(given, str) else given:
        name, value = named(text, option, example)
        if name in found:
            raise AqaError(f"{option} {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def rates(given: Mapping[str, Any] | Sequence[str] | None) -> dict[str, float]:
    """Clips a second by stream; AqaError for what is no number above 0."""
    found = {}
    for name, value in by_name(given, "--rate", "visual=25").items():
        rate = value_of(value) if isinstance(value, str) else value
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < np.inf:
            raise AqaError(
                f"--rate {name}={value}: expected clips a second, a number above 0, such as --rate {name}=25"
            )
        found[name] = float(rate)
    return found


def read_table_data(config: TableConfig, name: str, unlabelled: bool = False) -> Published:
    """The data set that the words describe; AqaError, one line, where they do not fit the files.

    unlabelled: no label table; the ids are those that the files of features have.
    """
    if not config.stream and config.pack is None:
        raise AqaError("aqa prepare table needs --stream, at least one, such as --stream visual='features/{id}.npy'")
    for key in ("rate", "extractor"):
        for stream in getattr(config, key):
            if stream not in config.stream:
                raise AqaError(f"--{key} {stream}: there is no such stream: {nearest(stream, config.stream)}")
    name = config.name or name
    check_modalities(config.stream, "--stream")
    if unlabelled:
        return _unlabelled(config, name)
    if config.labels is None and config.pack is None:
        raise AqaError("aqa prepare table needs --labels, such as labels.csv; without scores say --unlabelled")
    if config.labels is not None and config.pack is not None:
        raise AqaError("aqa prepare table takes one of --labels and --pack, not both: a pack has its own labels")
    problems: list[Problem] = []
    notes: list[str] = []
    pack = None if config.pack is None else read_pack(config.pack, config.stream, _id_names(config))
    sheet, ids = _samples(read_sheet(str(config.labels)) if pack is None else pack.sheet, config, problems, notes)
    if not config.target:
        besides = (_id_column(sheet, config), config.split, *config.group, *config.fold)
        columns = numeric_columns(sheet, besides)
        raise AqaError(
            f"aqa prepare table needs --target, such as --target {(columns or ['score'])[0]}:0:100; columns of numbers "
            f"in {sheet.where}: {', '.join(columns) or 'none'}"
        )
    targets = [read_scores(target_words(text, sheet), sheet, ids, problems) for text in config.target]
    if pack is not None:
        pack = pack.of(sheet)
        targets = [pack.with_spread(target) for target in targets]
    _require_distinct([target.words.name for target in targets], "--target")
    groups = _groups(sheet, config)
    splits = _splits(sheet, ids, targets, groups, config, notes)
    train = np.isin(ids, splits["train"]) if "train" in splits else np.ones(len(ids), bool)
    ranges = ranges_of(targets, train, notes)
    _require_within(targets, ranges, ids)
    streams = _streams(config, pack, sheet, ids, problems, notes)
    given = ", ".join(f"{stream}={words}" for stream, words in config.stream.items())
    return Published(
        name=name,
        source=f"{config.labels or config.pack}; {given}",
        streams=streams,
        labels={t.words.name: _by_id(ids, t.values) for t in targets},
        ranges=ranges,
        splits=splits,
        complete=False,
        problems=problems,
        ids=ids,
        groups={group: dict(zip(ids, labels, strict=True)) for group, labels in groups.items()},
        spreads={t.words.name: _by_id(ids, t.spread) for t in targets if t.spread is not None},
        notes=notes,
        folds=config.fold,
    )


def _streams(
    config: TableConfig,
    pack: Pack | None,
    sheet: Sheet,
    ids: Sequence[str],
    problems: list[Problem],
    notes: list[str],
) -> dict[str, Stream]:
    """The streams of the samples, of the pack or of files of their own. sheet: a row for each of `ids`."""
    rates = {stream: config.rate.get(stream) for stream in config.stream}
    if pack is not None:
        return {stream: pack.stream(stream, ids, rates[stream], config.extractor.get(stream)) for stream in rates}
    rows = {i: dict(zip(sheet.columns, cells, strict=True)) for i, cells in zip(ids, sheet.rows, strict=True)}
    column = _id_column(sheet, config)
    found = [find_stream(stream_words(stream, given), rows, column) for stream, given in config.stream.items()]
    streams = {}
    for each in each_its_own(found, labelled=True):
        name = each.words.name
        streams[name] = make_stream(each, rates[name], config.extractor.get(name), problems)
        notes += time_notes(each)
    return streams


def _unlabelled(config: TableConfig, name: str) -> Published:
    """Streams alone: every video that has one of them, by the ids in the names of files."""
    for key in ("labels", "pack", "target", "split", "group", "fold"):
        if getattr(config, key):
            raise AqaError(f"--{key} goes with labels; leave it out, or leave out --unlabelled")
    column = config.id or "id"
    found = each_its_own(
        [find_stream(stream_words(stream, given), None, column) for stream, given in config.stream.items()],
        labelled=False,
    )
    streams = {
        each.words.name: make_stream(each, config.rate.get(each.words.name), config.extractor.get(each.words.name), [])
        for each in found
    }
    ids = sorted({i for stream in streams.values() for i in stream.ids})
    source = ", ".join(f"{stream}={given}" for stream, given in config.stream.items())
    notes = [note for each in found for note in time_notes(each)]
    return Published(name, source, streams, {}, {}, {}, complete=False, ids=ids, notes=notes)


def _by_id(ids: Sequence[str], numbers: NDArray[np.float64]) -> dict[str, float]:
    return {i: float(number) for i, number in zip(ids, numbers, strict=True) if np.isfinite(number)}


def _id_names(config: TableConfig) -> Sequence[str]:
    """What a column of ids may be called."""
    return ID_COLUMNS if config.id is None else (config.id,)


def _id_column(sheet: Sheet, config: TableConfig) -> str:
    """The column of ids: as said, else one with a usual name, else the first."""
    if config.id is not None:
        sheet.column(config.id, "--id")
        return config.id
    lower = {column.lower(): column for column in reversed(sheet.columns)}
    return next((lower[name] for name in ID_COLUMNS if name in lower), sheet.columns[0])


def _samples(sheet: Sheet, config: TableConfig, problems: list[Problem], notes: list[str]) -> tuple[Sheet, list[str]]:
    """The lines with an id, each id once, and the ids; the others are problems."""
    column = _id_column(sheet, config)
    if config.id is None:
        notes.append(f"ids: column '{column}' of {sheet.where}; another is named by --id")
    places: dict[str, str] = {}
    kept = []
    for row, (i, place) in enumerate(zip(sheet.column(column, "--id"), sheet.places, strict=True)):
        if not i:
            problems.append(Problem(f"({place})", "label without an id", f"column '{column}' is empty"))
        elif i in places:
            problems.append(Problem(i, "labelled twice", f"{places[i]} and {place}"))
        else:
            check_id(i, f"{sheet.where}, {place}: id")
            places[i] = place
            kept.append(row)
    if not kept:
        raise AqaError(f"{sheet.where}: column '{column}' has no id")
    rows, where = [sheet.rows[row] for row in kept], [sheet.places[row] for row in kept]
    return Sheet(sheet.where, sheet.columns, rows, where), list(places)


def _groups(sheet: Sheet, config: TableConfig) -> dict[str, list[str]]:
    """The labels of each column of groups and of folds."""
    _require_distinct([*config.group, *config.fold], "--group and --fold")
    groups = {column: sheet.column(column, "--group") for column in config.group}
    return groups | {column: sheet.column(column, "--fold") for column in config.fold}


def _require_distinct(names: Sequence[str], option: str) -> None:
    for name in names:
        check_key(name, option)
        if names.count(name) > 1:
            raise AqaError(f"{option}: '{name}' is named twice")


def _splits(
    sheet: Sheet,
    ids: Sequence[str],
    targets: Sequence[TargetScores],
    groups: Mapping[str, Sequence[str]],
    config: TableConfig,
    notes: list[str],
) -> dict[str, list[str]]:
    """The ids of each split: of the column named, of a column called split, or drawn; none where there are folds."""
    column = config.split
    if column is None and "split" in sheet.columns:
        column = "split"
        notes.append("splits: column 'split'; --split none leaves it out")
    if column == NO_SPLIT and NO_SPLIT not in sheet.columns:
        return {}
    if column is not None:
        return _named_splits(sheet, ids, column, notes)
    if config.fold:
        notes.append(
            f"splits: none, as there are folds; an experiment reads them by data.folds: {{column: {config.fold[0]}}}"
        )
        return {}
    labelled = np.asarray(np.isfinite(np.stack([target.values for target in targets])).any(axis=0))
    group = config.group[0] if config.group else None
    drawn, said = draw_split(ids, labelled, None if group is None else groups[group], group, config.seed)
    notes.append(said)
    return drawn


def _named_splits(sheet: Sheet, ids: Sequence[str], column: str, notes: list[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for i, cell in zip(ids, sheet.column(column, "--split"), strict=True):
        lower = cell.lower()
        name = SPLITS.get(lower, lower if lower in ("train", "valid", "test") else cell)
        if name != cell and cell:
            said = f"splits: '{cell}' in column '{column}' is taken as {name}"
            if said not in notes:
                notes.append(said)
        if cell:
            splits.setdefault(name, []).append(i)
    if not splits:
        raise AqaError(f"--split {column}: the column is empty; --split none makes a store without splits")
    for name in ("train", "test"):
        if name not in splits:
            raise AqaError(
                f"--split {column}: no video is in '{name}'; the column has {first(sorted(splits))}, and needs train "
                "and test (valid is optional); for cross-validation name the column with --fold"
            )
    order = [name for name in ("train", "valid", "test") if name in splits]
    return {name: splits[name] for name in (*order, *(name for name in splits if name not in order))}


def _require_within(
    targets: Sequence[TargetScores], ranges: Mapping[str, tuple[float, float]], ids: Sequence[str]
) -> None:
    """AqaError where a range that was proposed from some labels does not hold others."""
    for target in targets:
        (low, high), name = ranges[target.words.name], target.words.name
        outside = np.flatnonzero((target.values < low) | (target.values > high))
        if target.words.bounds is None and len(outside):
            shown = first([f"{ids[row]} ({target.values[row]:g})" for row in map(int, outside)])
            raise AqaError(
                f"--target {name}: the range {low:g} to {high:g}, proposed from the training labels, does not hold "
                f"{shown}; say the range of the scoring system: --target {name}:LOW:HIGH"
            )
