"""Which videos a fold of a cross-validation trains on and tests, and which of them belong together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aqa.config.schema import FoldsConfig
from aqa.errors import AqaError
from aqa.features.alignment import Rows
from aqa.store.checks import counted, first
from aqa.store.store import FeatureStore, Target

STRATA = 5  # of labels, whose shares are alike in all folds where `stratify` asks for it


@dataclass(frozen=True)
class Folds:
    """The folds of a cross-validation.

    test: for each fold, of all repeats one after another, the rows that it tests, in rising order. taking_part: the
    rows of all folds of a repeat. names: what each fold is called, by its number or its label. group: whose
    videos belong together; labels: of every video of the store (N,), where there is such a group.
    """

    test: list[Rows]
    taking_part: Rows
    names: list[str]
    repeats: int
    group: str | None
    labels: Sequence[str] | None

    def train(self, fold: int) -> Rows:
        """The rows that a fold does not test."""
        return np.setdiff1d(self.taking_part, self.test[fold])

    def repeat(self, fold: int) -> int:
        """In which draw a fold is."""
        return fold // (len(self.test) // self.repeats)


@dataclass(frozen=True)
class Fold:
    """A run's place in a cross-validation: its number and its name; labels (N,): of the videos' group, or None."""

    number: int
    name: str
    labels: Sequence[str] | None


def fold_of(folds: Folds, number: int | None) -> Fold:
    """The fold of that number; AqaError if there is none."""
    if number is None or number >= len(folds.test):
        raise AqaError(f"data.folds.fold: {number} is not one of the {len(folds.test)} folds, which count from 0")
    return Fold(number, folds.names[number], folds.labels)


def make_folds(store: FeatureStore, config: FoldsConfig, target: Target, rows: Rows | None = None) -> Folds:
    """The folds that an experiment asks for; AqaError where the store does not allow them.

    All videos take part, labelled or not, so that targets have the same folds. Labels decide nothing, except where
    `stratify` asks for it. rows: those that take part, in rising order, where it is not `config` that says so.
    """
    from sklearn.model_selection import LeaveOneGroupOut, PredefinedSplit  # a second to import

    rows = _taking_part(store, config) if rows is None else rows
    group = config.whose
    labels = (
        None
        if group is None
        else _labels(store, group, rows, f"data.folds.{'leave_out' if config.leave_out else 'group'}")
    )
    if config.count is not None:
        test = [rows[part] for part in _drawn(store, config, rows, labels, target)]
        return Folds(test, rows, [f"fold {i}" for i in range(len(test))], config.repeats, group, labels)
    if config.leave_out is not None:
        assert labels is not None
        names, numbers = _numbered([labels[row] for row in rows])
        parts = LeaveOneGroupOut().split(rows, groups=numbers) if len(names) > 1 else []
    else:
        assert config.column is not None
        column = _labels(store, config.column, rows, "data.folds.column")
        names, numbers = _numbered([column[row] for row in rows])
        parts = PredefinedSplit(numbers).split()
        if labels is not None:
            _require_whole(labels, column, rows, f"data.folds: {store.path}: groups/{group}", config.column)
    if len(names) < 2:
        only = f"groups/{config.leave_out or config.column} has one label, {names[0]}"
        raise AqaError(f"data.folds: {store.path}: {only}; there is nothing to train on")
    shown = [f"{config.column} {name}" if config.leave_out is None else f"{group} {name} left out" for name in names]
    return Folds([rows[part] for _, part in parts], rows, shown, 1, group, labels)


def _taking_part(store: FeatureStore, config: FoldsConfig) -> Rows:
    """The rows whose videos take part, in rising order."""
    if config.of is None:
        return np.arange(len(store), dtype=np.int64)
    return np.unique(np.concatenate([store.split(name) for name in config.of]))


def _labels(store: FeatureStore, group: str, rows: Rows, key: str) -> Sequence[str]:
    """The labels of a group (N,); AqaError, naming the experiment's key, if a video that takes part has none."""
    try:
        labels = store.group(group)
    except AqaError as error:
        raise AqaError(f"{key}: {error}") from None
    unknown = [store.ids[row] for row in rows if not labels[row]]
    if unknown:
        remedy = ", or name with data.folds.of the splits that have it" if key.startswith("data.folds") else ""
        raise AqaError(f"{key}: {store.path}: groups/{group} is not known for {counted(unknown)}; add it{remedy}")
    return labels


def _numbered(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The labels in order, whole numbers by their value, and the place of each video's label among them (n,)."""
    whole = all(label.isdecimal() for label in labels)
    names = sorted(set(labels), key=lambda label: (int(label) if whole else 0, label))
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place[label] for label in labels], dtype=np.int64)


def _require_whole(labels: Sequence[str], column: Sequence[str], rows: Rows, where: str, name: str) -> None:
    """AqaError for a group that stated folds tear apart."""
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(labels[row], set()).add(column[row])
    torn = [f"{label} ({', '.join(sorted(found))})" for label, found in sorted(folds.items()) if len(found) > 1]
    if torn:
        raise AqaError(f"{where} is in more than one fold of groups/{name}: {first(torn)}")


def _drawn(
    store: FeatureStore, config: FoldsConfig, rows: Rows, labels: Sequence[str] | None, target: Target
) -> Iterator[NDArray[np.int64]]:
    """Places in `rows` of the videos of each fold, drawn as often as `repeats` says."""
    from sklearn.model_selection import BaseCrossValidator, KFold, StratifiedGroupKFold, StratifiedKFold

    assert config.count is not None
    own = None if labels is None else _numbered([labels[row] for row in rows])[1]
    units = len(rows) if own is None else len(np.unique(own))
    if config.count > units:
        what = "videos" if own is None else f"labels of groups/{config.group}"
        raise AqaError(f"data.folds.count: {config.count} folds of {units} {what} in {store.path}")
    # Where labels decide nothing all videos are of one stratum: folds of groups then have like numbers of videos.
    strata = _strata(target.values[rows], config.count) if config.stratify else np.zeros(len(rows), np.int64)
    for repeat in range(config.repeats):
        drawn_by = int(np.random.default_rng([config.seed, repeat]).integers(2**32))
        splitter: BaseCrossValidator
        if own is not None:
            splitter = StratifiedGroupKFold(config.count, shuffle=True, random_state=drawn_by)
        elif config.stratify:
            splitter = StratifiedKFold(config.count, shuffle=True, random_state=drawn_by)
        else:
            splitter = KFold(config.count, shuffle=True, random_state=drawn_by)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # a stratum of few videos
            parts = [part for _, part in splitter.split(rows, strata, own)]
        if not all(map(len, parts)):
            raise AqaError(f"data.folds.count: {config.count} folds of groups/{config.group} leave a fold empty")
        yield from parts


def _strata(values: NDArray[np.float64], folds: int) -> NDArray[np.int64]:
    """In which fifth of the labels each is (n,), of few videos in which half or third: a stratum has one for each fold.

    Videos without a label are a stratum of their own.
    """
    known = values[~np.isnan(values)]
    parts = min(STRATA, len(known) // folds)
    if parts < 2:
        return np.zeros(len(values), np.int64)
    bounds = np.unique(np.quantile(known, np.arange(1, parts) / parts))
    return np.where(np.isnan(values), STRATA, np.searchsorted(bounds, values, side="right")).astype(np.int64)


@dataclass(frozen=True)
class Groups:
    """A group of the store whose videos stay together; labels (N,) of every video."""

    name: str
    labels: Sequence[str]


def whose_videos(store: FeatureStore, name: str | None, rows: Rows, fold: Fold | None, key: str) -> Groups | None:
    """The group of that name, or that of the fold where no name is given; None where there is neither.

    AqaError, naming the experiment's key, where the store lacks it or a label of one of the rows.
    """
    if name is None:
        return None if fold is None or fold.labels is None else Groups("of data.folds", fold.labels)
    return Groups(f"groups/{name}", _labels(store, name, rows, key))


def inner_parts(
    videos: int, labels: Sequence[str] | None, count: int, seed: int, name: str | None
) -> list[NDArray[np.int64]]:
    """Which of some videos each of `count` inner folds holds out, in rising order.

    labels: (videos,) of the group that stays together, called `name`. No score decides anything.
    """
    from sklearn.model_selection import KFold, StratifiedGroupKFold

    own = None if labels is None else _numbered(labels)[1]
    units = videos if own is None else len(np.unique(own))
    if count > units:
        what = "training videos" if own is None else f"labels of {name} among the training videos"
        raise AqaError(f"model.folds: {count} folds of {units} {what}")
    drawn_by = int(np.random.default_rng([seed, videos]).integers(2**32))
    if own is None:
        parts = KFold(count, shuffle=True, random_state=drawn_by).split(np.zeros(videos))
    else:
        grouped = StratifiedGroupKFold(count, shuffle=True, random_state=drawn_by)
        parts = grouped.split(np.zeros(videos), np.zeros(videos, np.int64), own)
    held_out = [part for _, part in parts]
    if not all(map(len, held_out)):
        raise AqaError(f"model.folds: {count} folds of {name} leave a fold empty")
    return held_out


def cut_by_group(rows: Rows, labels: Sequence[str], share: float, seed: int, group: str) -> tuple[Rows, Rows]:
    """Rows that select, a share of the groups, and those that train; AqaError if all belong to one group."""
    from sklearn.model_selection import GroupShuffleSplit

    own = _numbered([labels[row] for row in rows])[1]
    if len(np.unique(own)) < 2:
        raise AqaError(
            f"data.folds: the training videos of a fold are all of one label of groups/{group} "
            f"({labels[rows[0]]}), and no other is left to select the epoch on"
        )
    drawn_by = int(np.random.default_rng([seed, len(rows)]).integers(2**32))
    splitter = GroupShuffleSplit(1, test_size=share, random_state=drawn_by)
    try:
        train, select = next(splitter.split(rows, groups=own))
    except ValueError:
        groups = f"{len(np.unique(own))} labels of groups/{group}"
        raise AqaError(f"data.validation: {share} of {groups} leaves none to train on") from None
    return rows[select], rows[train]
