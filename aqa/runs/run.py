"""Running an experiment, from its file to the folder of its results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aqa.config.load import Overrides
from aqa.config.schema import Experiment
from aqa.errors import AqaError
from aqa.evaluation.intervals import RELIABILITY_LEVELS
from aqa.evaluation.scorer import Predictions, selection_measure, summary
from aqa.features.batches import training_batches
from aqa.features.cache import FeatureLoader
from aqa.runs.calibrating import calibrate, held_out
from aqa.runs.calibration import (
    ScoredPatterns,
    add_intervals,
    columns_beside,
    recorded_calibration,
    recorded_residuals,
)
from aqa.runs.checkpoint import describe_checkpoint
from aqa.runs.cross_validation import cross_validate, folds_in_store, is_cross_validation
from aqa.runs.evaluate import Result
from aqa.runs.folder import (
    CHECKPOINT,
    FIGURES,
    PLUGIN,
    PREDICTIONS,
    STATE,
    THREADS,
    RunFolder,
    unrecorded_text,
    versions,
)
from aqa.runs.load import load, require_prepared
from aqa.runs.members import fit_members, is_combined
from aqa.runs.notes import unlearned_notes
from aqa.runs.predictions import FOLD, GROUP, save_predictions
from aqa.runs.prepare import Prepared, learning_splits, make_store, prepare
from aqa.runs.selection import UNKNOWN
from aqa.runs.table import result_table
from aqa.runs.tracking import begin_service, require_wandb, tracked
from aqa.runs.trial import Trial, conclude_trial
from aqa.store.fingerprint import fingerprint_at
from aqa.system.files import plain
from aqa.system.saying import Say, silent
from aqa.training.loop import Diverged, Progress, train


def run(
    experiment: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    overwrite: bool = False,
    say: Say = silent,
    show_progress: bool = False,
) -> Result:
    """Train a model as an experiment file (or mapping) says, and score it under every test pattern.

    overrides: "dotted.key=value" texts, or values by dotted key; with another "model.name" the file's options that only
    its own model has are left out. The run's folder is `output`, or runs/NAME. An unfinished run of the same experiment
    is resumed from where it stopped; a finished one is returned as it is. AqaError for any mistake in the experiment,
    and where the folder holds something else, unless `overwrite`.
    """
    config = load(experiment, overrides, say)
    return run_loaded(config, FeatureLoader(), overwrite=overwrite, say=say, show_progress=show_progress)


def run_loaded(
    config: Experiment,
    loader: FeatureLoader,
    *,
    overwrite: bool = False,
    expected: str | None = None,
    trial: Trial | None = None,
    say: Say = silent,
    show_progress: bool = False,
) -> Result:
    """`run`, of an experiment that is loaded, with features that other runs may share.

    expected: the fingerprint that the store had when the run was named; AqaError if it has changed since. trial: that
    it is one, which is not scored on the test split; all runs but those of a search are.
    """
    if config.select.split == UNKNOWN:
        raise AqaError(
            f"select.split: '{UNKNOWN}' is of checkpoints that `aqa import` took in; to train, select on valid, train "
            "or test"
        )
    require_wandb(config.tracking)
    require_prepared(config.data.store)
    make_store(config, say)
    fingerprint = fingerprint_at(config.data.store)
    if expected not in (None, fingerprint):
        raise AqaError(f"{config.data.store} has changed since the sweep was started; start the sweep again")
    folder = RunFolder(config.output or default_folder(config, fingerprint))
    if not overwrite and folder.status == "finished" and folder.holds(config.resolved(), fingerprint):
        say_if_unrecorded(folder, say)
        return Result(folder.path, folder.metrics, already_finished=True)
    folder.require_unused()  # said before features are read, which may take minutes
    if is_cross_validation(config):
        loader = FeatureLoader(runs=len(folds_in_store(config).test))

        def run_fold(fold: Experiment) -> None:
            run_loaded(fold, loader, expected=fingerprint, trial=trial, say=say, show_progress=show_progress)

        return Result(folder.path, cross_validate(config, folder, fingerprint, overwrite, run_fold, say))
    begin_service(config.tracking)  # while features are read
    with threads_restored():
        prepared = prepare(config, loader, say, scored=trial is None, inner=None if trial is None else trial.inner)
        if prepared.fingerprint != fingerprint:
            raise AqaError(f"{config.data.store} was changed while it was being read; run it again")
        folder.require_free(config.resolved(), overwrite, fingerprint)
        with folder.held(say):
            folder = RunFolder.start(folder.path, config.resolved(), overwrite, fingerprint, torch.get_num_threads())
            if folder.status == "finished":  # by another process, meanwhile
                return Result(folder.path, folder.metrics, already_finished=True)
            return _trained(prepared, folder, overwrite, trial, say, show_progress)


@contextlib.contextmanager
def threads_restored() -> Iterator[None]:
    """Within the block a run may choose torch's threads; the next run of this process chooses for itself."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _trained(
    prepared: Prepared, folder: RunFolder, overwrite: bool, trial: Trial | None, say: Say, show_progress: bool
) -> Result:
    """Train into a folder, from the beginning or from what is saved there, and score, unless it is a trial."""
    config = prepared.config

    def report(line: str) -> None:
        say(line)
        folder.log(line)

    for note in prepared.notes:
        report(note)
    title = config.title if prepared.fold is None else f"{config.title}-fold{prepared.fold.number}"
    with tracked(config.tracking, title, config.resolved(), folder.path, report) as tracker:

        def on_epoch(row: Mapping[str, float]) -> None:
            folder.log(epoch_line(row))  # where there is no terminal to show a bar, this is what a user can follow
            tracker.epoch(row)

        try:
            progress = fit(prepared, folder, report, on_epoch, show_progress, trial.stop if trial else None)
            metrics = (conclude if trial is None else conclude_trial)(prepared, progress, folder)
        except KeyboardInterrupt as stop:
            stop.args = (how_to_resume(folder, config.train.epochs, overwrite),)
            with contextlib.suppress(AqaError):
                folder.log(str(stop))
            raise
        if trial is None:
            tracker.result(metrics, folder.path)
            folder.log(result_table(metrics))
    return Result(folder.path, metrics)


def say_if_unrecorded(folder: RunFolder, say: Say) -> None:
    """Say where a run was made by a version that did not record what was in its store."""
    if folder.origin.fingerprint is None:
        say(unrecorded_text(folder))


def how_to_resume(folder: RunFolder, epochs: int, overwritten: bool) -> str:
    """What a user should know of a run that was stopped; overwritten: it was started with --overwrite."""
    if folder.status == "finished":
        return "stopped; the run is finished"
    saved = folder.load_state()
    if saved is None:
        return "stopped before anything was saved; the same command starts again"
    command = "the same command without --overwrite" if overwritten else "the same command"
    return f"stopped; {command} resumes after epoch {saved['progress']['epoch']} of {epochs}"


def default_folder(config: Experiment, fingerprint: str) -> Path:
    """runs/NAME; under an agent of a W&B sweep, which changes settings that names do not show, a folder for each.

    One fold alone is where its cross-validation looks for it.
    """
    sweep = os.environ.get("WANDB_SWEEP_ID")
    if sweep:
        return Path("runs") / f"wandb-{sweep}/{config.unique_name(fingerprint)}"
    folds = config.data.folds
    folder = RunFolder(Path("runs") / config.title)
    return folder.path if folds is None or folds.fold is None else folder.fold(folds.fold).path


def fit(
    prepared: Prepared,
    folder: RunFolder,
    report: Say,
    on_epoch: Callable[[Mapping[str, float]], None],
    show_progress: bool,
    stop: Callable[[int, float], bool] | None = None,
) -> Progress:
    """Train the model, from the beginning or from a saved state; leaves the selected weights in it.

    stop(epoch, value): whether training ends after an epoch, by the selection metric in it.
    """
    config, scorer, rowsets = prepared.config, prepared.scorer, prepared.rowsets
    saved = folder.load_state()
    identity = folder.identity
    if saved is not None:
        progress = saved.get("progress") if isinstance(saved, dict) else None
        if not isinstance(progress, dict):
            raise AqaError(f"{folder.path / STATE} is not a training state; --overwrite starts the run again")
        if saved.get("run", identity) != identity:
            raise AqaError(f"{folder.path / STATE} was saved by another run; --overwrite starts the run again")
        say_if_unrecorded(folder, report)
        compare_versions(folder, report)
        report(f"resuming after epoch {progress.get('epoch')}")
    truth = prepared.target.values

    def save(state: dict[str, Any]) -> None:
        folder.save_state({**state, "run": identity})

    try:
        if is_combined(scorer.model):
            return fit_members(prepared, saved, save, report, on_epoch, show_progress)
        progress = train(
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
            torch.from_numpy(prepared.target.normalize(truth)).float().to(scorer.features.device),
            selection_measure(scorer, rowsets.select, truth[rowsets.select], prepared.selection_patterns),
            config.select.metric,
            config.select.split,
            config.train,
            saved=saved,
            save=save,
            save_every=config.save_every,
            on_epoch=on_epoch,
            show_progress=show_progress,
            stop=stop,
            others=prepared.others,
        )
    except Diverged as error:
        folder.log(str(error))
        raise AqaError(f"{error}{keep_what_was_best(prepared, error.progress, folder)}") from None
    if not progress.best_epoch:
        report(f"select.metric {config.select.metric} was undefined in every epoch; the last epoch's weights are kept")
    learned_from = prepared.target.normalize(truth[rowsets.train])
    for note in unlearned_notes(progress.history, learned_from, config.train.weight_decay):
        report(note)
    scorer.model.load_state_dict(progress.best_weights)
    return progress


def compare_versions(folder: RunFolder, report: Say) -> None:
    """Say which versions are others than when the run began; AqaError if a plugin is, of which nothing is known."""
    now = {**versions(), THREADS: str(torch.get_num_threads())}
    for name, before in folder.versions.items():
        if now.get(name, before) == before:
            continue
        if name.startswith(PLUGIN):
            raise AqaError(
                f"{name} has changed since {folder.path} was begun, and the run cannot be resumed with it; "
                "restore the old one, or start again with --overwrite"
            )
        if name == THREADS:
            report(
                f"begun with {before} CPU threads, resumed with {now[name]}: numbers may differ in their last digits"
            )
            continue
        report(f"begun with {name} {before}, resumed with {now[name]}: numbers may differ from those of either")


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
    sets = {name: len(split) for name, split in prepared.rowsets._asdict().items()}
    predictions, router_weights, spreads = scorer.predict_and_diagnose(rows, patterns)
    calibration = calibrate(prepared)
    if prepared.fold is not None:
        folder.save_held_out({"residuals": recorded_residuals(held_out(prepared))})
    progress.best_weights = scorer.model.state_dict()  # a model may fit what it is first asked for in scoring
    mean = float(prepared.target.values[prepared.rowsets.train].mean())
    made = {"calibration": recorded_calibration(calibration), "training_mean": mean}
    checkpoint = describe_checkpoint(config, scorer, prepared.target, progress, prepared.statistics, made)
    truth, range_, seed = prepared.target.values[rows], checkpoint["label_range"], config.train.seed
    scored, level = ScoredPatterns(scorer, rows, patterns, predictions, spreads), config.evaluate.level
    bounds = {each: scored.bounds(calibration, each) for each in {*RELIABILITY_LEVELS, level}}
    further = fold_columns(prepared)
    found = summary(
        predictions,
        truth,
        patterns,
        prepared.target,
        range_,
        seed,
        further.get(GROUP),
        config.evaluate.metrics,
        config.evaluate.intervals,
    )
    result = plain(
        {
            **add_intervals(found, truth, bounds, calibration.summary(level, scorer.features.modalities)),
            "selection": checkpoint["selection"],
            "data_set": prepared.data_set,
            "data": {"fingerprint": prepared.fingerprint},
            "target": config.data.target,
            "model": config.model.name,
            "seed": config.train.seed,
            "samples": {"test": sets["test"]} if config.imported else sets,
            **({"imported": config.imported} if config.imported else {}),
            **({"learned_from": learned} if (learned := learning_splits(config)) != ["train"] else {}),
            **({} if prepared.others is None else {"learned_also": prepared.others.shape[1]}),
            "parameters": scorer.model.parameter_count,
            "modalities": scorer.features.modalities,
            "router_weights": {pattern: weights.tolist() for pattern, weights in router_weights.items()},
        }
    )
    if progress.history:  # not of a checkpoint that was imported
        folder.save_history(progress.history)
    folder.save_checkpoint(checkpoint)
    ids, target = scorer.features.ids, config.data.target
    beside = columns_beside(bounds[level], spreads)
    save_predictions(folder.path / PREDICTIONS, ids, rows, truth, target, predictions, further, beside)
    if config.figures:
        draw(folder.path / FIGURES, result, predictions, truth, progress, router_weights, scorer.features.modalities)
    return folder.finish(result)


def fold_columns(prepared: Prepared) -> dict[str, list[Any]]:
    """What predictions.csv says of the fold of a run: its number, and what each video belongs to."""
    fold, rows = prepared.fold, prepared.rowsets.test
    if fold is None:
        return {}
    groups = {} if fold.labels is None else {GROUP: [fold.labels[row] for row in rows]}
    return {FOLD: [fold.number] * len(rows), **groups}


def epoch_line(row: Mapping[str, float]) -> str:
    """An epoch's row of the history in one line of the log."""
    measured = (f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
    return f"epoch {row['epoch']:.0f}: {', '.join(measured)}"


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
    from aqa.runs import figures  # matplotlib takes a second to import

    folder.mkdir(exist_ok=True)
    figures.srcc_by_pattern(result, folder / "srcc_by_pattern.png")
    figures.predicted_against_true(result, predictions, truth, folder / "predicted_against_true.png")
    if progress.history:
        figures.training_curves(progress.history, result["selection"], folder / "training_curves.png")
    if router_weights:
        figures.router_weights(router_weights, modalities, folder / "router_weights.png")
