"""From a published data set to a feature store: check every sample, report all problems by id, write one file.

A reader (`fisv.py`, `rg.py` ...) says what was published, as a `Published`; `convert` does the rest. Nothing is dropped
silently: by default any problem stops the conversion, and with ``on_error="skip"`` the samples left out are listed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aqa.errors import AqaError, nearest, printable
from aqa.names import LONGEST_NAME
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from aqa.system.files import Unwritable, refuse_existing

from .summary import Summary, listed

OnError = Literal["refuse", "skip"]
Array = NDArray[Any]
Lengths = dict[str, dict[str, int]]  # by modality and id
_UNUSABLE = -1
SKIPPING = "--on-error skip (in Python: on_error='skip') leaves them out"


@dataclass(frozen=True)
class Problem:
    """What is wrong with one sample: its id, the kind of problem (counted in messages) and the particulars."""

    id: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return printable(f"{self.id}: {self.kind}" + (f" ({self.detail})" if self.detail else ""))


@dataclass(frozen=True)
class Stream:
    """One modality as published.

    width: D, columns of every sample. ids: the samples that have it. load(id) returns (T, D) numbers, and is called
    at most three times per sample. extractor, clip_seconds: what made the features, and how much video a row covers.
    shape(id), where it is given, is the shape of what load(id) will return, or None where only loading tells: a data
    set of which all shapes are known is read once, and not a second time after it was checked.
    """

    width: int
    ids: Collection[str]
    load: Callable[[str], Array]
    extractor: str | None = None
    clip_seconds: float | None = None
    shape: Callable[[str], tuple[int, ...] | None] | None = None


def in_memory(width: int, samples: Mapping[str, Array], extractor: str) -> Stream:
    """A stream whose samples are read already, (T, D) by id."""
    return Stream(width, samples.keys(), samples.__getitem__, extractor, shape=lambda i: samples[i].shape)


@dataclass(frozen=True)
class Published:
    """A data set as published, before anything of it is checked.

    labels: per target, id -> score in the target's own units; an id that is not there is unlabelled.
    ranges: per target, (lowest, highest) possible score. splits: per split, its ids in file order.
    complete: every sample has every modality, so one that lacks a stream is a problem and not a fact.
    problems: what the reader found while it read the label files. ids: all samples, in the order of the store, where
    some are in no split; by default those of the splits, one after the other, or without splits those of the streams.
    groups: per group, id -> label; folds: which of them are the folds of a cross-validation. spreads: per target that
    is a mean, id -> standard deviation of the judges' scores. notes: lines for the summary.
    """

    name: str
    source: str
    streams: Mapping[str, Stream]
    labels: Mapping[str, Mapping[str, float]]
    ranges: Mapping[str, tuple[float, float]]
    splits: Mapping[str, Sequence[str]]
    complete: bool = True
    problems: Sequence[Problem] = field(default_factory=list)
    ids: Sequence[str] | None = None
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    spreads: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    folds: Sequence[str] = ()

    @property
    def samples(self) -> list[str]:
        """The ids of all samples, each once, in the order of the store."""
        named = self.splits.values() or [stream.ids for stream in self.streams.values()]
        return list(dict.fromkeys([i for members in named for i in members] if self.ids is None else self.ids))


def convert(
    published: Published,
    out: str | os.PathLike[str],
    on_error: OnError = "refuse",
    overwrite: bool = False,
    progress: bool = True,
    advice: str = SKIPPING,
) -> Summary:
    """Check a published data set and write it as a feature store, whole or not at all.

    on_error: "refuse" raises AqaError with every problem, listed by id, and writes nothing; "skip" leaves the samples
    that have a problem out and lists them in the summary. progress: bars on stderr where that is a terminal. advice:
    what a refusal says may be done.
    """
    if on_error not in ("refuse", "skip"):
        raise AqaError(f"on_error '{on_error}' is unknown: {nearest(on_error, ('refuse', 'skip'))}")
    refuse_existing(out, overwrite)  # said before the features are read, which takes minutes
    problems = _check_all_but_features(published)
    lengths = None if problems else _stated_lengths(published)
    if lengths is not None and not _check_absence(published, lengths):
        try:
            return _written(published, out, lengths, [], overwrite, progress)
        except Unwritable:
            raise
        except AqaError:  # then every stream is checked before anything is said
            pass
    lengths, in_features = _check_features(published, progress)
    problems += in_features + _check_absence(published, lengths)
    if problems and on_error == "refuse":
        raise AqaError(_refusal(published.name, problems, advice), *_listed_problems(problems))
    return _written(published, out, lengths, problems, overwrite, progress)


def _written(
    published: Published,
    out: str | os.PathLike[str],
    lengths: Lengths,
    problems: Sequence[Problem],
    overwrite: bool,
    progress: bool,
) -> Summary:
    """Write the samples that have no problem; AqaError for a stream that has one all the same."""
    bad = {problem.id for problem in problems}
    splits = {name: [i for i in ids if i not in bad] for name, ids in published.splits.items()}
    ids = [i for i in published.samples if i not in bad]
    if not ids:
        raise AqaError(f"{published.name}: no sample is left to write", *_listed_problems(problems))
    modalities, targets = _store_parts(published, ids, lengths)
    groups = {name: [labels.get(i, "") for i in ids] for name, labels in published.groups.items()}
    _write(published, out, ids, modalities, targets, splits, groups, overwrite, progress)
    skipped = [str(problem) for problem in problems]
    return Summary(published.name, str(out), splits, modalities, targets, skipped, ids, groups, published.notes)


def _write(
    published: Published,
    out: str | os.PathLike[str],
    ids: Sequence[str],
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    splits: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    overwrite: bool,
    progress: bool,
) -> None:
    rows = {i: row for row, i in enumerate(ids)}
    total = sum(int(np.count_nonzero(m.lengths)) for m in modalities.values())
    try:
        with _bar(total, f"{published.name}: writing", progress) as bar:
            write_store(
                out,
                name=published.name,
                source=published.source,
                ids=ids,
                modalities=modalities,
                targets=targets,
                splits={name: [rows[i] for i in members] for name, members in splits.items()},
                read=lambda modality, row: published.streams[modality].load(ids[row]),
                groups=groups,
                folds=published.folds,
                overwrite=overwrite,
                progress=bar.update,
            )
    except OSError as error:
        raise Unwritable(f"{out} cannot be written: {error.strerror or error}") from None


def _check_all_but_features(published: Published) -> list[Problem]:
    """What is wrong with samples, whatever their streams hold."""
    problems = list(published.problems)
    problems += _check_names(published.samples) + _check_splits(published.splits)
    return problems + _check_labels(published)


def _stated_lengths(published: Published) -> Lengths | None:
    """Per modality the length of each sample's stream, as it is known before they are loaded; None where one is not.

    None as well for a stream of another shape than (T, width).
    """
    lengths: Lengths = {}
    for modality, stream in published.streams.items():
        if stream.shape is None:
            return None
        lengths[modality] = {}
        for i in published.samples:
            shape = stream.shape(i) if i in stream.ids else (0, stream.width)
            if shape is None or len(shape) != 2 or shape[1] != stream.width:
                return None
            lengths[modality][i] = shape[0]
    return lengths


def _check_features(published: Published, progress: bool) -> tuple[Lengths, list[Problem]]:
    """Per modality the length of each sample's stream, and every problem, in the order of the splits."""
    problems: list[Problem] = []
    lengths: Lengths = {}
    ids = published.samples
    total = sum(i in stream.ids for stream in published.streams.values() for i in ids)
    with _bar(total, f"{published.name}: checking", progress) as bar:
        for modality, stream in published.streams.items():
            lengths[modality] = {}
            for i in ids:
                if i in stream.ids:
                    lengths[modality][i], problem = _check_stream(i, modality, stream)
                    problems += problem
                    bar.update(1)
    return lengths, problems


def _check_absence(published: Published, lengths: Lengths) -> list[Problem]:
    """Samples that lack streams which they should have."""
    problems = []
    for i in published.samples:
        absent = [m for m in published.streams if lengths[m].get(i, 0) == 0]
        if absent and (published.complete or len(absent) == len(published.streams)):
            problems.append(Problem(i, "label without features", ", ".join(absent)))
    return problems


def _check_names(ids: Sequence[str]) -> list[Problem]:
    odd = [i for i in ids if printable(i) != i or len(i) > LONGEST_NAME]
    return [Problem(i[:LONGEST_NAME], "name with control characters, or too long") for i in odd]


def _check_splits(splits: Mapping[str, Sequence[str]]) -> list[Problem]:
    problems = []
    places: dict[str, list[str]] = {}
    for name, ids in splits.items():
        for i in ids:
            places.setdefault(i, []).append(name)
    for i, names in places.items():
        if len(set(names)) > 1:
            problems.append(Problem(i, "in two splits", ", ".join(dict.fromkeys(names))))
        elif len(names) > 1:
            problems.append(Problem(i, "labelled twice", f"in {names[0]}"))
    return problems


def _check_labels(published: Published) -> list[Problem]:
    problems = []
    known = set(published.samples)
    for target, scores in published.labels.items():
        low, high = published.ranges[target]
        for i, score in scores.items():
            if not low <= score <= high:
                problems.append(Problem(i, "label outside its range", f"{target} {score:g}, range {low:g} to {high:g}"))
    homes: dict[str, list[str]] = {}
    for modality, stream in published.streams.items():
        for i in stream.ids:
            if i not in known:
                homes.setdefault(i, []).append(modality)
    problems += [Problem(i, "features without a label", ", ".join(names)) for i, names in homes.items()]
    return problems


def _check_stream(i: str, modality: str, stream: Stream) -> tuple[int, list[Problem]]:
    """One stream's clips, or _UNUSABLE and why."""
    try:
        clips = np.asarray(stream.load(i))
    except AqaError as error:
        return _UNUSABLE, [Problem(i, "features that cannot be read", f"{modality}: {error}")]
    if clips.ndim == 1 and len(clips) == stream.width:
        advice = f"{modality} {clips.shape}; save it as (1, {len(clips)}) if it is one clip"
        return _UNUSABLE, [Problem(i, "features not of shape (clips, width)", advice)]
    if clips.ndim != 2:
        return _UNUSABLE, [Problem(i, "features not of shape (clips, width)", f"{modality} {clips.shape}")]
    if clips.shape[1] != stream.width:
        return _UNUSABLE, [Problem(i, "features of wrong width", f"{modality} {clips.shape[1]}, not {stream.width}")]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf in the store, and is found as inf here
        bad = int(np.count_nonzero(~np.isfinite(clips.astype(np.float32, copy=False)).all(axis=1)))
    if bad:
        return _UNUSABLE, [Problem(i, "NaN or inf in features", f"{modality}, {bad} of {len(clips)} rows")]
    return len(clips), []


def _store_parts(
    published: Published, ids: Sequence[str], lengths: Lengths
) -> tuple[dict[str, Modality], dict[str, Target]]:
    modalities = {
        name: Modality(
            stream.width,
            np.array([lengths[name].get(i, 0) for i in ids], dtype=np.int64),
            stream.extractor,
            stream.clip_seconds,
        )
        for name, stream in published.streams.items()
    }
    targets = {
        name: Target(_in_order(scores, ids), *published.ranges[name], spread=_spread(published, name, ids))
        for name, scores in published.labels.items()
    }
    return modalities, targets


def _in_order(numbers: Mapping[str, float], ids: Sequence[str]) -> NDArray[np.float64]:
    """Numbers by id as (N,), NaN where there is none."""
    return np.array([numbers.get(i, np.nan) for i in ids], dtype=np.float64)


def _spread(published: Published, target: str, ids: Sequence[str]) -> NDArray[np.float64] | None:
    return _in_order(published.spreads[target], ids) if target in published.spreads else None


def _refusal(name: str, problems: Sequence[Problem], advice: str) -> str:
    samples = len({problem.id for problem in problems})
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(problem.kind for problem in problems).items())
    return f"{name}: {samples} sample{'s' * (samples != 1)} with problems ({kinds}); nothing was written, {advice}"


def _listed_problems(problems: Iterable[Problem]) -> list[str]:
    return listed([str(problem) for problem in problems]).split("\n") if problems else [""]


def _bar(total: int, what: str, progress: bool) -> tqdm[Any]:
    # None: tqdm itself finds out whether stderr is a terminal.
    return tqdm(total=total, desc=what, unit="stream", leave=False, disable=None if progress else True)
