"""Running an experiment, from its file to the folder of its results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aqa.compiling import require_compiling
from aqa.config import Experiment, load_experiment
from aqa.data.batches import Features, Rows, Statistics, training_batches
from aqa.data.checks import absence_notes, label_notes, require_sound
from aqa.data.sharing import FeatureLoader
from aqa.data.store import FeatureStore, Target
from aqa.data.synthetic import make_synthetic
from aqa.errors import AqaError, nearest
from aqa.evaluation import Predictions, Scorer, selection_measure, selection_patterns, summary
from aqa.files import plain, write_table
from aqa.missing import Draws, MissingPattern, parse_pattern, parse_test_patterns
from aqa.models import AQAModel
from aqa.precision import require_precision
from aqa.runs import CHECKPOINT, FIGURES, PLUGIN, PREDICTIONS, STATE, RunFolder, versions
from aqa.scoring import Result, build_model, describe_checkpoint, labelled, pick_device
from aqa.tracking import require_wandb, tracked
from aqa.training import Diverged, Progress, train
from aqa.turns import Work, to_the_end

Say = Callable[[str], object]


def silent(line: str) -> None:
    """Say nothing."""


class Rowsets(NamedTuple):
    """Row numbers in the store of the videos that train, select and test."""

    train: Rows
    select: Rows
    test: Rows


def run(
    experiment: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    overwrite: bool = False,
    say: Say = silent,
    show_progress: bool = False,
) -> Result:
    """Train a model as an experiment file (or mapping) says, and score it under every test pattern.

    overrides: "dotted.key=value" texts. The run's folder is `output`, or runs/NAME. An unfinished run of the same
    experiment goes on from where it stopped; a finished one is returned as it is. AqaError for any mistake in the
    experiment, and where the folder holds something else, unless `overwrite`.
    """
    config = load_experiment(experiment, overrides)
    return to_the_end(run_by_epoch(config, FeatureLoader(), overwrite=overwrite, say=say, show_progress=show_progress))


def run_by_epoch(
    config: Experiment,
    loader: FeatureLoader,
    *,
    overwrite: bool = False,
    say: Say = silent,
    show_progress: bool = False,
) -> Work[Result]:
    """`run`, an epoch a step, with features that other runs may share."""
    require_wandb(config.tracking)
    prepared = prepare(config, loader, say)
    folder = RunFolder.start(config.output or default_folder(config), config.resolved(), overwrite)
    if folder.status == "finished":
        return Result(folder.path, folder.metrics, already_finished=True)

    def report(line: str) -> None:
        say(line)
        folder.log(line)

    for note in prepared.notes:
        report(note)
    with tracked(config.tracking, config.title, config.resolved(), folder.path, report) as tracker:

        def on_epoch(row: Mapping[str, float]) -> None:
            folder.log(epoch_line(row))  # where there is no terminal to show a bar, this is what a user can follow
            tracker.epoch(row)

        try:
            progress = yield from fit(prepared, folder, report, on_epoch, show_progress)
            metrics = conclude(prepared, progress, folder)
        except KeyboardInterrupt as stop:
            stop.args = (how_to_go_on(folder, config.train.epochs, overwrite),)
            with contextlib.suppress(AqaError):
                folder.log(str(stop))
            raise
        tracker.result(metrics, folder.path)
    result = Result(folder.path, metrics)
    folder.log(str(result))
    return result


def how_to_go_on(folder: RunFolder, epochs: int, overwritten: bool) -> str:
    """What a user should know of a run that was stopped; overwritten: it was started with --overwrite."""
    if folder.status == "finished":
        return "stopped; the run is finished"
    saved = folder.load_state()
    if saved is None:
        return "stopped before anything was saved; the same command begins again"
    command = "the same command without --overwrite" if overwritten else "the same command"
    return f"stopped; {command} goes on after epoch {saved['progress']['epoch']} of {epochs}"


def default_folder(config: Experiment) -> Path:
    """runs/NAME; under an agent of a W&B sweep, which changes settings that names do not show, a folder for each."""
    sweep = os.environ.get("WANDB_SWEEP_ID")
    return Path("runs") / (f"wandb-{sweep}/{config.unique_name}" if sweep else config.title)


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
    statistics: Statistics  # by which features were standardised, empty where they were not
    training_pattern: MissingPattern
    selection_patterns: Mapping[str, MissingPattern]
    test_patterns: Mapping[str, MissingPattern]
    notes: list[str]  # what a user should know of the data


def prepare(config: Experiment, loader: FeatureLoader, say: Say) -> Prepared:
    """Find, check and load everything that an experiment names; AqaError before anything is written."""
    device = pick_device(config.train.device, config.train.threads)
    notes = require_precision(config.train.precision, device)
    make_store(config, say)
    with FeatureStore(config.data.store) as store:
        data_set, fingerprint, target = store.name, store.fingerprint(), store.target(config.data.target)
        modalities = chosen_modalities(store, config.data.modalities)
        training_pattern = parse_pattern(config.missing.train, modalities, "missing.train")
        test_patterns = parse_test_patterns(config.missing.test, modalities, "missing.test")
        selecting = selection_patterns(config.select.pattern, modalities)
        rowsets = split_rows(store, target, config, notes.append)
        parts = {"train": rowsets.train, config.select.split: rowsets.select, "test": rowsets.test}
        require_sound(store, config.data.target, parts)
        notes += label_notes(target, parts)
        features = loader.load(
            store,
            modalities,
            config.data.align,
            device,
            config.data.memory,
            config.data.standardize,
            config.train.batch_size,
            config.data.clips,
        )
    torch.manual_seed(config.train.seed)
    model = build_model(config.model.name, features.widths, config.model.options, config.data.align).to(device)
    available = training_availability(features, rowsets.train, training_pattern, config.train.seed, notes.append)
    notes += absence_notes(modalities, {"train": available, "test": features.available[rowsets.test]})
    require_training_options(config, model, int(available.any(axis=1).sum()), device)
    statistics = features.statistics(rowsets.train, available) if config.data.standardize else {}
    features = loader.standardised(features, statistics)
    clips = config.data.clips or int(features.lengths.max())
    scorer = Scorer(model, features, target.low, target.high, clips, config.train.batch_size, config.train.seed)
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
    )


def require_training_options(config: Experiment, model: AQAModel, rows: int, device: torch.device) -> None:
    """AqaError where the model, so many training videos or the machine do not go with what `train` asks for."""
    if model.closed_form and (config.train.compile or config.train.precision != "float32"):
        key = "compile" if config.train.compile else "precision"
        raise AqaError(f"train.{key}: model '{config.model.name}' is fitted in closed form; leave it out")
    if config.train.compile:
        require_compiling(model, config.model.name, rows, config.train.batch_size, device)


def fit(
    prepared: Prepared,
    folder: RunFolder,
    report: Say,
    on_epoch: Callable[[Mapping[str, float]], None],
    show_progress: bool,
) -> Work[Progress]:
    """Train the model, an epoch a step, from the beginning or from a saved state; leaves the selected weights in it."""
    config, scorer, rowsets = prepared.config, prepared.scorer, prepared.rowsets
    saved = folder.load_state()
    if saved is not None and saved.get("store", prepared.fingerprint) != prepared.fingerprint:
        raise AqaError(
            f"{config.data.store} has changed since {folder.path} was saved, and the run cannot go on from there; "
            "bring the store back, or begin again with --overwrite"
        )
    if saved is not None:
        progress = saved.get("progress") if isinstance(saved, dict) else None
        if not isinstance(progress, dict):
            raise AqaError(f"{folder.path / STATE} is no state that a run saved; --overwrite begins the run again")
        compare_versions(folder, report)
        report(f"going on after epoch {progress.get('epoch')}")
    truth = prepared.target.values
    training = train(
        scorer.model,
        lambda epoch: training_batches(
            scorer.features,
            rowsets.train,
            prepared.available,
            prepared.training_pattern,
            clips=scorer.clips,
            size=config.train.batch_size,
            seed=config.train.seed,
            epoch=epoch,
        ),
        torch.from_numpy(prepared.target.normalise(truth)).float().to(scorer.features.device),
        selection_measure(scorer, rowsets.select, truth[rowsets.select], prepared.selection_patterns),
        config.select.metric,
        config.select.split,
        config.train,
        saved=saved,
        save=lambda state: folder.save_state({**state, "store": prepared.fingerprint}),
        save_every=config.save_every,
        on_epoch=on_epoch,
        show_progress=show_progress,
    )
    try:
        progress = yield from training
    except Diverged as error:
        folder.log(str(error))
        raise AqaError(f"{error}{keep_what_was_best(prepared, error.progress, folder)}") from None
    if not progress.best_epoch:
        report(f"select.metric {config.select.metric} was undefined in every epoch; the last epoch's weights are kept")
    scorer.model.load_state_dict(progress.best_weights)
    return progress


def compare_versions(folder: RunFolder, report: Say) -> None:
    """Say which versions are others than when the run began; AqaError where a plugin is, of which nothing is known."""
    now = versions()
    for name, before in folder.versions.items():
        if now.get(name, before) == before:
            continue
        if name.startswith(PLUGIN):
            raise AqaError(
                f"{name} has changed since {folder.path} was begun, and the run cannot go on with it; "
                "bring the old one back, or begin again with --overwrite"
            )
        report(f"begun with {name} {before}, goes on with {now[name]}: numbers may differ from those of either")


def keep_what_was_best(prepared: Prepared, progress: Progress, folder: RunFolder) -> str:
    """Save the best weights and the history of a training that diverged; says where they are."""
    if not progress.best_epoch:
        return ""
    checkpoint = describe_checkpoint(prepared.config, prepared.scorer, prepared.target, progress, prepared.statistics)
    folder.save_history(progress.history)
    folder.save_checkpoint(checkpoint)
    return f"; the weights of epoch {progress.best_epoch}, the best before it, are in {folder.path}/{CHECKPOINT}"


def conclude(prepared: Prepared, progress: Progress, folder: RunFolder) -> dict[str, Any]:
    """Score the selected weights under every test pattern and fill the run's folder; returns its metrics."""
    config, scorer, rows, patterns = prepared.config, prepared.scorer, prepared.rowsets.test, prepared.test_patterns
    checkpoint = describe_checkpoint(config, scorer, prepared.target, progress, prepared.statistics)
    predictions, router_weights = scorer.predict_and_diagnose(rows, patterns)
    truth = prepared.target.values[rows]
    result = plain(
        {
            **summary(predictions, truth, patterns, prepared.target, checkpoint["label_range"], config.train.seed),
            "selection": checkpoint["selection"],
            "data_set": prepared.data_set,
            "target": config.data.target,
            "model": config.model.name,
            "seed": config.train.seed,
            "samples": {name: len(split) for name, split in prepared.rowsets._asdict().items()},
            "parameters": scorer.model.parameter_count,
            "modalities": scorer.features.modalities,
            "router_weights": {pattern: weights.tolist() for pattern, weights in router_weights.items()},
        }
    )
    folder.save_history(progress.history)
    folder.save_checkpoint(checkpoint)
    save_predictions(folder.path / PREDICTIONS, scorer.features.ids, rows, truth, config.data.target, predictions)
    draw(folder.path / FIGURES, result, predictions, truth, progress, router_weights, scorer.features.modalities)
    folder.finish(result)
    return result


def epoch_line(row: Mapping[str, float]) -> str:
    """An epoch's row of the history in one line of the log."""
    measured = (f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
    return f"epoch {row['epoch']:.0f}: {', '.join(measured)}"


def make_store(config: Experiment, say: Say) -> None:
    """Make the synthetic data set that an experiment asks for, where its store does not exist yet."""
    store = Path(config.data.store)
    if config.data.synthetic is not None and not store.exists():
        say(f"making the synthetic data set '{config.data.synthetic}' at {store}")
        make_synthetic(config.data.synthetic, store)


def chosen_modalities(store: FeatureStore, names: Sequence[str] | None) -> tuple[str, ...]:
    """The modalities that an experiment names, the store's where it names none."""
    for name in names or ():
        if name not in store.modalities:
            raise AqaError(f"data.modalities: {store.path} has no modality '{name}': {nearest(name, store.modalities)}")
    return tuple(names or store.modalities)


def split_rows(store: FeatureStore, target: Target, config: Experiment, note: Say) -> Rowsets:
    """The labelled videos that train, select and test.

    Where the store has no `valid` split and selection asks for one, it is cut from train by the run's seed.
    """
    train_rows, test = labelled(store.split("train"), target), labelled(store.split("test"), target)
    split = config.select.split
    if split == "valid" and "valid" not in store.splits:
        order = np.random.default_rng([config.train.seed, len(train_rows)]).permutation(len(train_rows))
        cut = round(config.data.validation * len(train_rows))
        if not 0 < cut < len(train_rows):
            raise AqaError(
                f"data.validation: {config.data.validation} of {len(train_rows)} training videos leaves none to "
                + ("select on" if cut == 0 else "train on")
            )
        select, train_rows = np.sort(train_rows[order[:cut]]), np.sort(train_rows[order[cut:]])
        note(
            f"no split 'valid' in the store: {cut} training videos, drawn by seed {config.train.seed}, select the epoch"
        )
    elif split in store.splits:
        select = labelled(store.split(split), target)
    else:
        raise AqaError(f"select.split: {store.path} has no split '{split}': {nearest(split, [*store.splits, 'valid'])}")
    for name, rows in {"train": train_rows, split: select, "test": test}.items():
        if not len(rows):
            raise AqaError(f"{store.path}: no video of split '{name}' has a label for {config.data.target}")
    skipped = sum(len(store.split(name)) for name in ("train", "test")) - len(train_rows) - len(test)
    skipped -= len(select) if "valid" not in store.splits and split == "valid" else 0
    if skipped:
        note(f"{skipped} videos of train and test have no label for {config.data.target} and are left out")
    return Rowsets(train_rows, select, test)


def training_availability(
    features: Features, rows: Rows, pattern: MissingPattern, seed: int, note: Say
) -> NDArray[np.bool_]:
    """What each training video has, (n, M), once fixed patterns have taken away what is never to be seen."""
    available = pattern.remaining(features.available[rows], Draws.once(seed, features.keys[rows]))
    if features.cut:
        note(f"{features.cut} videos have streams of different lengths; each is cut to its shortest")
    without = int((~available.any(axis=1)).sum())
    if without:
        note(f"{without} of {len(rows)} training videos have no modality and are left out")
    return available


def save_predictions(
    path: Path, ids: Sequence[str], rows: Rows, truth: NDArray[np.float64], target: str, predictions: Predictions
) -> None:
    """predictions.csv: id, target, pattern, score (empty where nothing was visible), label."""
    names = [ids[row] for row in rows]
    by_pattern = [
        pd.DataFrame({"id": names, "target": target, "pattern": pattern, "score": scores, "label": truth})
        for pattern, scores in predictions.items()
    ]
    write_table(path, pd.concat(by_pattern))


def draw(
    folder: Path,
    result: Mapping[str, Any],
    predictions: Predictions,
    truth: NDArray[np.float64],
    progress: Progress,
    router_weights: Mapping[str, NDArray[np.float64]],
    modalities: Sequence[str],
) -> None:
    """The figures of a run."""
    from aqa.reporting import figures  # matplotlib takes a second to import

    folder.mkdir(exist_ok=True)
    figures.srcc_by_pattern(result, folder / "srcc_by_pattern.png")
    figures.predicted_against_true(result, predictions, truth, folder / "predicted_against_true.png")
    figures.training_curves(progress.history, result["selection"], folder / "training_curves.png")
    if router_weights:
        figures.router_weights(router_weights, modalities, folder / "router_weights.png")
