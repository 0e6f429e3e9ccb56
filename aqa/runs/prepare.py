"""Everything that an experiment names: found, checked and loaded before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aqa.config.schema import Experiment, FoldsConfig
from aqa.errors import AqaError, nearest
from aqa.evaluation.measures import require_metrics
from aqa.evaluation.scorer import Scorer, own_key, selection_patterns
from aqa.features.alignment import Alignment, Counted, Rows
from aqa.features.cache import FeatureLoader
from aqa.features.statistics import Statistics
from aqa.missing import Draws, MissingPattern, parse_pattern, parse_test_patterns, sample_keys
from aqa.models import AQAModel, build, check
from aqa.models.seeds import SeedEnsemble
from aqa.runs.calibration import CUT_FROM_TRAIN
from aqa.runs.cost import attention_note
from aqa.runs.folds import Fold, Folds, Groups, cut_by_group, fold_of, make_folds, whose_videos
from aqa.runs.informing import informed, videos_of
from aqa.runs.load import require_prepared
from aqa.runs.notes import absence_notes, alignment_notes, label_notes
from aqa.runs.selection import MAYBE_TEST, UNKNOWN
from aqa.store.checks import require_sound
from aqa.store.fingerprint import fingerprint_of
from aqa.store.store import FeatureStore, Target
from aqa.store.synthetic import make_synthetic
from aqa.system.devices import pick_device
from aqa.system.precision import require_precision
from aqa.system.saying import Say
from aqa.training.compiling import require_compiling
from aqa.training.optimizers import parameter_groups


def build_model(config: Experiment, widths: Mapping[str, int]) -> AQAModel:
    """A freshly initialized model, of `train.ensemble` seeds where there are several.

    AqaError if it cannot take streams of different lengths and would get them, or if seeds change nothing in it.
    """
    name, seeds = config.model.name, config.train.ensemble
    model = build_one(config, widths)
    if config.data.align == "none" and not model.takes_unaligned:
        raise AqaError(f"data.align: model '{name}' needs aligned streams; use shortest or time")
    if seeds == 1:
        return model
    if model.closed_form or model.trained_apart != [model]:
        why = "is fitted in closed form, and no seed changes it" if model.closed_form else "combines models already"
        raise AqaError(f"train.ensemble: model '{name}' {why}; leave it out")
    return SeedEnsemble([model, *(build_one(config, widths) for _ in range(seeds - 1))])


def build_one(config: Experiment, widths: Mapping[str, int]) -> AQAModel:
    """A freshly initialized model of the experiment's kind, from one seed."""
    return build(config.model.name, widths=widths, **config.model.options)


def labelled(rows: Rows, target: Target) -> Rows:
    """Those of the rows that have a label."""
    return rows[~np.isnan(target.values[rows])]


FAR = 4  # times what the training videos have: beyond it a window is padding, a batch all videos, and both are mistakes


class Rowsets(NamedTuple):
    """Row numbers in the store of the videos that train, select and test."""

    train: Rows
    select: Rows
    test: Rows


@dataclass(frozen=True)
class Calibrating:
    """The labelled videos that intervals are made from: neither learned from nor tested.

    source: which they are, in words; selected: whether they select the epoch. patterns: those of the test that go by
    something known of videos, or damage them, for these videos. why_none: why there are none.
    """

    rows: Rows
    source: str
    selected: bool
    patterns: Mapping[str, MissingPattern]
    why_none: str | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything that an experiment names, found, checked and loaded."""

    config: Experiment
    data_set: str  # what the store calls itself
    fingerprint: str  # of what is in the store
    scorer: Scorer  # the model and its features, on the device
    target: Target
    rowsets: Rowsets
    available: NDArray[np.bool_]  # (n, M) of the training rows, without what is never to be seen
    statistics: Statistics  # by which features were standardized, empty if they were not
    training_pattern: MissingPattern
    selection_patterns: Mapping[str, MissingPattern]
    test_patterns: Mapping[str, MissingPattern]
    notes: list[str]  # what a user should know of the data
    calibrating: Calibrating
    fold: Fold | None = None  # of a cross-validation, where the run is one
    groups: Groups | None = None  # whose videos are together in inner folds of the training videos
    others: torch.Tensor | None = None  # (N, K) other labels to learn from in [0, 1]; NaN but for training rows


def prepare(
    config: Experiment, loader: FeatureLoader, say: Say, scored: bool = True, inner: FoldsConfig | None = None
) -> Prepared:
    """Find, check and load everything that an experiment names; AqaError before anything is written.

    scored: whether the test split will be scored. Where it will not, nothing knows its labels, not even how many it
    has: they are taken for unlabelled, except where the experiment selects on the test split. inner: the inner fold
    that selects, in place of the split that does.
    """
    device = pick_device(config.train.device, config.train.threads)
    notes = require_precision(config.train.precision, device)
    require_metrics(config.evaluate.metrics, "evaluate.metrics")
    make_store(config, say)
    require_prepared(config.data.store)
    with FeatureStore(config.data.store) as store:
        data_set, fingerprint, target = store.name, fingerprint_of(store), store.target(config.data.target)
        modalities = chosen_modalities(store, config.data.modalities)
        training_pattern = parse_pattern(config.missing.train, modalities, "missing.train")
        test_patterns = parse_test_patterns(config.missing.test, modalities, "missing.test")
        selecting = selection_patterns(config.select.pattern, modalities)
        splits, fold = splits_of(store, config, target)
        if not scored and config.select.split != "test":
            target = without_labels(target, splits["test"])
        if inner is not None:
            folds = inner_folds(store, splits, config, inner, target)
            number = fold_of(folds, inner.fold).number
            splits = {**splits, "train": folds.train(number), config.select.split: folds.test[number]}
        rowsets = split_rows(splits, fold, target, config, notes.append, scored)
        groups = inner_groups(store, config, rowsets.train, fold, notes.append)
        parts = {"train": rowsets.train}
        if config.select.split != UNKNOWN:
            parts[config.select.split] = rowsets.select
        if scored:
            parts["test"] = rowsets.test
        require_sound(store, config.data.target, parts, {} if "test" in parts else {"test": splits["test"]})
        notes += label_notes(target, parts)
        calibrating = calibrating_videos(splits, rowsets, target, config)
        if len(calibrating.rows):
            require_sound(store, config.data.target, {"valid": calibrating.rows})
        others = other_labels(store, config, rowsets.train, device, notes.append)
        training_pattern = training_pattern.informed(videos_of(store, modalities, rowsets.train, target))
        if scored:
            own = {name: pattern for name, pattern in test_patterns.items() if own_key(pattern)}
            if own and len(calibrating.rows):
                videos = videos_of(store, modalities, calibrating.rows, target)
                calibrating = replace(calibrating, patterns=informed(own, videos))
            test_patterns = informed(test_patterns, videos_of(store, modalities, rowsets.test, target))
        streams = Alignment.of(store, modalities, config.data.align, config.data.clips)
        available = training_availability(streams, store.ids, rowsets.train, training_pattern, config, notes.append)
        notes += alignment_notes(streams, modalities, rowsets.train, available)
        clips = window_clips(config.data.clips, streams, rowsets.train, available, notes.append)
        size = batch_size(config.train.batch_size, int(available.any(axis=1).sum()), notes.append)
        features = loader.load(
            store,
            modalities,
            config.data.align,
            device,
            clips=config.data.clips,
            memory=config.data.memory,
            standardize=config.data.standardize,
            batch_size=min(size, len(rowsets.train)),  # how many videos others have decides nothing in training
            window=clips,
        )
    torch.manual_seed(config.train.seed)
    model = build_model(config, features.widths).to(device)
    shown = {"test": features.available[rowsets.test]} if scored else {}
    notes += absence_notes(modalities, {"train": available, **shown})
    require_training_options(config, model, int(available.any(axis=1).sum()), device)
    notes += model.notes(int(available.any(axis=1).sum()))
    statistics = features.statistics(rowsets.train, available, clips) if config.data.standardize else {}
    features = loader.standardized(features, statistics)
    for network in [part for part in model.trained_apart if not part.closed_form][:1]:
        notes += attention_note(network, clips, streams.lengths(rowsets.train, available), size, device)
    scorer = Scorer(model, features, target.low, target.high, clips, size, config.train.seed)
    return Prepared(
        config,
        data_set,
        fingerprint,
        scorer,
        target,
        rowsets,
        available,
        statistics,
        training_pattern,
        selecting,
        test_patterns,
        notes,
        calibrating,
        fold,
        groups,
        others,
    )


def require_training_options(config: Experiment, model: AQAModel, rows: int, device: torch.device) -> None:
    """AqaError if the model, so many training videos or the machine do not go with what `train` asks for."""
    if config.data.learn_also is not None and not model.learns_also:
        raise AqaError(f"data.learn_also: model '{config.model.name}' learns from one target; leave it out")
    if model.closed_form and (config.train.compile or config.train.precision != "float32"):
        key = "compile" if config.train.compile else "precision"
        raise AqaError(f"train.{key}: model '{config.model.name}' is fitted in closed form; leave it out")
    for part in model.trained_apart if config.train.parts else []:
        parameter_groups(part, config.train.learning_rate, config.train.parts)
    if config.train.compile:
        require_compiling(model, config.model.name, rows, config.train.batch_size, device)


def make_store(config: Experiment, say: Say) -> None:
    """Make the synthetic data set that an experiment asks for, where its store does not exist yet."""
    store = Path(config.data.store)
    if config.data.synthetic is None or store.exists():
        return
    say(f"making the synthetic data set '{config.data.synthetic}' at {store}")
    try:
        make_synthetic(config.data.synthetic, store)
    except AqaError:
        if not store.exists():  # by another process, which began at the same time
            raise


def chosen_modalities(store: FeatureStore, names: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities that an experiment names, the store's where it names none."""
    for name in names or ():
        if name not in store.modalities:
            raise AqaError(f"data.modalities: {store.path} has no modality '{name}': {nearest(name, store.modalities)}")
    return tuple(names or store.modalities)


def without_labels(target: Target, rows: Rows) -> Target:
    """A target whose videos in some rows are not labelled."""
    values = target.values.copy()
    values[rows] = np.nan
    return replace(target, values=values)


def splits_of(store: FeatureStore, config: Experiment, target: Target) -> tuple[Mapping[str, Rows], Fold | None]:
    """The splits of a run: the store's, or what its fold of a cross-validation trains on and tests.

    AqaError where there is no split train or test.
    """
    if config.data.folds is None:
        for name in ("train", "test"):
            if name not in store.splits:
                hint = nearest(name, store.splits)
                raise AqaError(f"{store.path} has no split '{name}': {hint}; data.folds needs none: it makes folds")
        return store.splits, None
    folds = make_folds(store, config.data.folds, target)
    fold = fold_of(folds, config.data.folds.fold)
    return {"train": folds.train(fold.number), "test": folds.test[fold.number]}, fold


def inner_folds(
    store: FeatureStore, splits: Mapping[str, Rows], config: Experiment, inner: FoldsConfig, target: Target
) -> Folds:
    """Folds of the videos that otherwise train and select: none of the test split is in them."""
    selecting = splits.get(config.select.split, splits["train"])
    return make_folds(store, inner, target, np.union1d(splits["train"], selecting))


def inner_groups(store: FeatureStore, config: Experiment, rows: Rows, fold: Fold | None, note: Say) -> Groups | None:
    """Whose videos inner folds of the training videos keep together, for a model that makes such folds."""
    options = check(config.model.name, config.model.options)
    if not {"folds", "group"} <= options.keys():
        return None
    found = whose_videos(store, options["group"], rows, fold, "model.group")
    if found is None and store.groups:
        note(f"the store has groups ({', '.join(store.groups)}); model.group says whose videos belong together")
    return found


def learning_splits(config: Experiment) -> list[str]:
    """The splits that the model learns from: train, and what its option `learn_from` adds to it.

    AqaError where the experiment selects on one that is added: its value would be of videos that were learned from.
    """
    added = added_to_learning(config)
    if config.select.split in added:
        asked = "+".join(["train", *added])
        raise AqaError(
            f"model.learn_from: {asked} leaves no videos of split '{config.select.split}' to select on; set "
            "select.split: train (its value is then of videos that the model has learned from), or learn_from: train"
        )
    return ["train", *added]


def added_to_learning(config: Experiment) -> list[str]:
    """The splits that the model learns from beside train, by its option `learn_from`."""
    asked: str = check(config.model.name, config.model.options).get("learn_from", "train")
    return asked.split("+")[1:]


def split_rows(
    splits: Mapping[str, Rows],
    fold: Fold | None,
    target: Target,
    config: Experiment,
    note: Say,
    scored: bool = True,
) -> Rowsets:
    """The labelled videos that train, select and test; none that test where they will not be scored.

    Where there is no split `valid` and selection asks for one, it is cut from train by the run's seed; in a fold whose
    videos belong to groups, by group.
    """
    store = config.data.store
    named = learning_splits(config)
    for name in named:
        if name not in splits:
            raise AqaError(f"model.learn_from: {store} has no split '{name}' apart from train; use learn_from: train")
    learned = [splits[name] for name in named]
    train_rows = labelled(learned[0] if len(learned) == 1 else np.unique(np.concatenate(learned)), target)
    test = labelled(splits["test"], target)
    test = test if scored else test[:0]
    split = config.select.split
    if split == "valid" and "valid" not in splits:
        select, train_rows = cut_from_train(train_rows, fold, config, note)
    elif split == UNKNOWN:  # weights that were trained elsewhere
        select = test[:0]
    elif split in splits:
        select = labelled(splits[split], target)
    else:
        where = store if fold is None else f"{fold.name} of a cross-validation"
        raise AqaError(f"select.split: {where} has no split '{split}': {nearest(split, [*splits, 'valid'])}")
    for name, rows in {"train": train_rows, split: select, **({"test": test} if scored else {})}.items():
        if not len(rows) and name != UNKNOWN:
            where = f"split '{name}'" if fold is None else f"'{name}' in {fold.name}"
            raise AqaError(f"{store}: no video of {where} has a label for {config.data.target}")
    counted = (*named, "test") if scored else named
    skipped = sum(len(splits[name]) for name in counted) - len(train_rows) - len(test)
    skipped -= len(select) if "valid" not in splits and split == "valid" else 0
    if skipped:
        note(f"{skipped} videos of {' and '.join(counted)} have no label for {config.data.target} and are left out")
    return Rowsets(train_rows, select, test)


def calibrating_videos(splits: Mapping[str, Rows], rowsets: Rowsets, target: Target, config: Experiment) -> Calibrating:
    """The videos that intervals are made from: those that select, or a split `valid` that does nothing else.

    Never a video that is tested, or that the model learns from.
    """
    split, learned = config.select.split, learning_splits(config)
    rows, source = rowsets.select, split if split in splits else CUT_FROM_TRAIN
    if split in (*MAYBE_TEST, *learned):
        rows, source = splits["valid"] if "valid" in splits and "valid" not in learned else rows[:0], "valid"
    rows = np.setdiff1d(labelled(rows, target), np.concatenate([rowsets.train, rowsets.test]))
    if len(rows):
        selected = split == source or source == CUT_FROM_TRAIN
        return Calibrating(rows, source, selected, patterns={})
    why = f"the model learns from {' and '.join(learned)}, and no split 'valid' is left to calibrate on"
    if split == "test":
        why = "the epoch is selected on test, and no split 'valid' is left to calibrate on"
    elif split == UNKNOWN:
        why = "the checkpoint was imported, and the store has no split 'valid' to calibrate on"
    elif split not in learned:
        why = f"every video of '{split}' is learned from or tested"
    return Calibrating(rows, source, selected=False, patterns={}, why_none=why)


def cut_from_train(rows: Rows, fold: Fold | None, config: Experiment, note: Say) -> tuple[Rows, Rows]:
    """The labelled training videos that select the epoch, and those that remain to train."""
    share, seed, folds = config.data.validation, config.train.seed, config.data.folds
    if fold is not None and folds is not None and fold.labels is not None and len(rows):
        select, train = cut_by_group(rows, fold.labels, share, seed, str(folds.whose))
        groups = len({fold.labels[row] for row in select})
        whose = f"{groups} groups ({folds.whose})"
        note(f"{len(select)} training videos from {whose}, drawn by seed {seed}, select the epoch")
        return select, train
    order = np.random.default_rng([seed, len(rows)]).permutation(len(rows))
    cut = round(share * len(rows))
    if not 0 < cut < len(rows):
        raise AqaError(
            f"data.validation: {share} of {len(rows)} training videos leaves none to "
            + ("select on" if cut == 0 else "train on")
        )
    why = "" if fold is not None else "no split 'valid' in the store: "
    note(f"{why}{cut} training videos, drawn by seed {seed}, select the epoch")
    return np.sort(rows[order[:cut]]), np.sort(rows[order[cut:]])


def other_labels(
    store: FeatureStore, config: Experiment, rows: Rows, device: torch.device, note: Say
) -> torch.Tensor | None:
    """What `data.learn_also` names: other labels of all videos in [0, 1], (N, K), NaN but for the rows that train."""
    named, target = config.data.learn_also, config.data.target
    if named is None:
        return None
    if target in named and named != "all":
        raise AqaError(f"data.learn_also: {target} is the target itself; name others")
    names = [name for name in store.targets if name != target] if named == "all" else named
    if not names:
        raise AqaError(f"data.learn_also: {store.path} has no target but {target}; leave it out")
    found = np.full((len(store), len(names)), np.nan)
    for column, name in enumerate(names):
        if name not in store.targets:
            raise AqaError(f"data.learn_also: {store.path} has no target '{name}': {nearest(name, store.targets)}")
        other = store.target(name)
        require_sound(store, name, {"train": rows}, {})
        found[rows, column] = other.normalize(other.values[rows])
        if np.isnan(found[rows, column]).all():
            note(f"no training video has a label for {name}: nothing is learned from it")
    return torch.from_numpy(found).to(device)


def training_availability(
    streams: Alignment, ids: Sequence[str], rows: Rows, pattern: MissingPattern, config: Experiment, note: Say
) -> Counted:
    """What each training video has, (n, M), once fixed patterns have taken away what is never to be seen."""
    keys = sample_keys(ids)[rows]
    available = pattern.remaining(streams.stored[rows] > 0, Draws.once(config.train.seed, keys))
    without = int((~available.any(axis=1)).sum())
    if without:
        note(f"{without} of {len(rows)} training videos have no modality and are left out")
    return available


def window_clips(asked: int | None, streams: Alignment, rows: Rows, available: Counted, note: Say) -> int:
    """How many clips a window has: as asked for, or as many as the longest training video.

    Of that video what may be seen counts, and no other split: a longer test video is cropped, or resampled. A window
    that would be padding for the most part is no longer than that either, unless videos are resampled to fill it.
    """
    longest = max(int(streams.lengths(rows, available).max(initial=0)), 1)
    if asked is None:
        return longest
    if asked > FAR * longest and streams.kind != "time":
        note(f"data.clips: {asked} is taken as {longest}, the longest training video's; the rest would be padding")
        return longest
    return asked


def batch_size(asked: int, videos: int, note: Say) -> int:
    """The videos of a batch: as many as asked for, or all training videos where that is many times as many."""
    if asked > FAR * max(videos, 1):
        note(f"train.batch_size: {asked} is taken as {videos}, all training videos; an epoch is one step")
        return max(videos, 1)
    return asked
