"""Running an experiment, evaluating and predicting: what the command line and Python share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from aqa.config import Experiment, load_experiment
from aqa.data.batches import Features, Rows, training_batches
from aqa.data.store import FeatureStore, Target
from aqa.data.synthetic import make_synthetic
from aqa.errors import AqaError, nearest
from aqa.evaluation import Predictions, Scorer, selection_measure, selection_patterns, summary
from aqa.files import plain, write_table
from aqa.missing import Draws, MissingPattern, parse_pattern, parse_test_patterns, subset_name
from aqa.models import AQAModel, build
from aqa.reporting.tables import result_table
from aqa.runs import FIGURES, PREDICTIONS, RunFolder
from aqa.training import Progress, train

CHECKPOINT_FORMAT = 1
Say = Callable[[str], object]


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Result:
    """What a run or an evaluation found: the run's folder and its metrics, as in metrics.json (undefined: None)."""

    folder: Path
    metrics: dict[str, Any]
    already_finished: bool = False


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
    device = pick_device(config.train.device, config.train.threads)
    make_store(config, say)
    notes: list[str] = []
    with FeatureStore(config.data.store) as store:
        target = store.target(config.data.target)
        modalities = tuple(config.data.modalities or store.modalities)
        training_pattern = parse_pattern(config.missing.train, modalities, "missing.train")
        test_patterns = parse_test_patterns(config.missing.test, modalities, "missing.test")
        selecting = selection_patterns(config.select.pattern, modalities)
        rowsets = split_rows(store, target, config, notes.append)
        features = Features(store, modalities=modalities, align=config.data.align, device=device)
    torch.manual_seed(config.train.seed)
    model = build_model(config.model.name, features.widths, config.model.options, config.data.align).to(device)

    folder = RunFolder.start(config.output or Path("runs") / config.title, config.resolved(), overwrite)
    if folder.status == "finished":
        return Result(folder.path, folder.metrics, already_finished=True)

    def report(line: str) -> None:
        say(line)
        folder.log(line)

    available = training_availability(features, rowsets.train, training_pattern, config.train.seed, notes.append)
    statistics = features.statistics(rowsets.train, available) if config.data.standardize else {}
    features.standardise(statistics)
    clips = config.data.clips or int(features.lengths.max())
    scorer = Scorer(model, features, target.low, target.high, clips, config.train.batch_size, config.train.seed)
    for note in notes:
        report(note)

    saved = folder.load_state()
    if saved is not None:
        report(f"going on after epoch {saved['progress']['epoch']}")
    progress = train(
        model,
        lambda epoch: training_batches(
            features,
            rowsets.train,
            available,
            training_pattern,
            clips=clips,
            size=config.train.batch_size,
            seed=config.train.seed,
            epoch=epoch,
        ),
        torch.from_numpy(target.normalise(target.values)).float().to(device),
        selection_measure(scorer, rowsets.select, target.values[rowsets.select], selecting),
        config.select.metric,
        config.select.split,
        config.train,
        saved=saved,
        save=folder.save_state,
        show_progress=show_progress,
    )
    if not progress.best_epoch:
        report(f"select.metric {config.select.metric} was undefined in every epoch; the last epoch's weights are kept")

    model.load_state_dict(progress.best_weights)
    checkpoint = describe_checkpoint(config, scorer, target, progress, statistics)
    predictions = scorer.predict(rowsets.test, test_patterns)
    truth = target.values[rowsets.test]
    result = {
        **summary(predictions, truth, test_patterns, target, checkpoint["label_range"], config.train.seed),
        "selection": checkpoint["selection"],
        "target": config.data.target,
        "model": config.model.name,
        "seed": config.train.seed,
        "samples": {name: len(rows) for name, rows in rowsets._asdict().items()},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    folder.save_history(progress.history)
    folder.save_checkpoint(checkpoint)
    save_predictions(folder.path / PREDICTIONS, features.ids, rowsets.test, truth, config.data.target, predictions)
    router_weights = scorer.router_weights(rowsets.test, test_patterns)
    draw(folder.path / FIGURES, plain(result), predictions, truth, progress, router_weights, modalities)
    folder.finish(result)
    folder.log(result_table(folder.metrics))
    return Result(folder.path, folder.metrics)


def evaluate(
    run: str | os.PathLike[str],
    *,
    patterns: Any = None,
    store: str | os.PathLike[str] | None = None,
    split: str = "test",
    device: str = "auto",
) -> Result:
    """Score a finished run's model again: under other patterns, on another store or split. Nothing is written.

    patterns: as `missing.test` in an experiment file; the run's own by default. store: a feature store with the run's
    target; the run's own by default. AqaError for any mistake.
    """
    folder = RunFolder.existing(run)
    config = load_experiment(folder.config)
    checkpoint = folder.load_checkpoint()
    with FeatureStore(store or config.data.store) as opened:
        target = opened.target(checkpoint["target"]["name"])
        rows = labelled(opened.split(split), target)
        scorer = load_scorer(checkpoint, opened, pick_device(device))
    if not len(rows):
        raise AqaError(
            f"{store or config.data.store}: no video of split '{split}' has a label for {config.data.target}"
        )
    asked = config.missing.test if patterns is None else patterns
    chosen = parse_test_patterns(asked, scorer.features.modalities, "patterns")
    predictions = scorer.predict(rows, chosen)
    found = summary(predictions, target.values[rows], chosen, target, checkpoint["label_range"], scorer.seed)
    about = {key: folder.metrics[key] for key in ("selection", "target", "model", "seed")}
    return Result(folder.path, plain({**found, **about, "split": split}))


def predict(
    run: str | os.PathLike[str], store: str | os.PathLike[str], *, split: str | None = None, device: str = "auto"
) -> pd.DataFrame:
    """Scores of a finished run's model for the videos of a store, labelled or not, by whichever modalities they have.

    Returns a row a video: id; visible, the modalities that were there, such as "VA"; score in the target's units, NaN
    where there was none. split: only this one; all videos by default. AqaError for any mistake.
    """
    checkpoint = RunFolder.existing(run).load_checkpoint()
    with FeatureStore(store) as opened:
        rows = np.arange(len(opened)) if split is None else opened.split(split)
        scorer = load_scorer(checkpoint, opened, pick_device(device))
    features = scorer.features
    scores = scorer.predict(rows, {"available": parse_pattern("none", features.modalities, "patterns")})["available"]
    visible = [subset_name(features.modalities, features.available[row].tolist()) for row in rows]
    return pd.DataFrame({"id": [features.ids[row] for row in rows], "visible": visible, "score": scores})


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device to compute on; "auto" takes a GPU where there is one. AqaError for a GPU that is not there."""
    if threads is not None:
        torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise AqaError("train.device is cuda, but torch sees no GPU here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_store(config: Experiment, say: Say) -> None:
    """Make the synthetic data set that an experiment asks for, where its store does not exist yet."""
    store = Path(config.data.store)
    if config.data.synthetic is not None and not store.exists():
        say(f"making the synthetic data set '{config.data.synthetic}' at {store}")
        make_synthetic(config.data.synthetic, store)


def build_model(name: str, widths: Mapping[str, int], options: Mapping[str, Any], align: str) -> AQAModel:
    """A freshly initialised model; AqaError where it cannot take streams of different lengths and would get them."""
    model = build(name, widths=widths, **options)
    if align == "none" and not model.takes_unaligned:
        raise AqaError(f"data.align: model '{name}' needs aligned streams; use shortest")
    return model


def labelled(rows: Rows, target: Target) -> Rows:
    """Those of the rows that have a label."""
    return rows[~np.isnan(target.values[rows])]


def split_rows(store: FeatureStore, target: Target, config: Experiment, note: Say) -> Rowsets:
    """The labelled videos that train, select and test.

    Where the store has no `valid` split and selection asks for one, it is cut from train by the run's seed.
    """
    train_rows, test = labelled(store.split("train"), target), labelled(store.split("test"), target)
    split = config.select.split
    if split == "valid" and "valid" not in store.splits:
        order = np.random.default_rng([config.train.seed, len(train_rows)]).permutation(len(train_rows))
        cut = round(config.data.validation * len(train_rows))
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


def describe_checkpoint(
    config: Experiment, scorer: Scorer, target: Target, progress: Progress, statistics: Mapping[str, Any]
) -> dict[str, Any]:
    """The selected weights and all that scoring with them needs, in types that load without running code."""
    known = target.values[~np.isnan(target.values)]
    return {
        "format": CHECKPOINT_FORMAT,
        "weights": progress.best_weights,
        "model": config.model.name,
        "options": config.model.options,
        "widths": scorer.features.widths,
        "clips": scorer.clips,
        "align": config.data.align,
        "statistics": dict(statistics),
        "target": {"name": config.data.target, "low": target.low, "high": target.high},
        "label_range": (float(known.min()), float(known.max())),
        "selection": {
            **config.select.model_dump(),
            "epoch": progress.best_epoch or progress.epoch,
            "value": progress.best_value,
            "epochs": progress.epoch,
        },
        "batch_size": scorer.batch_size,
        "seed": scorer.seed,
    }


def load_scorer(checkpoint: Mapping[str, Any], store: FeatureStore, device: torch.device) -> Scorer:
    """The model of a checkpoint with the features of a store, which may lack some of its modalities."""
    if checkpoint.get("format") != CHECKPOINT_FORMAT:
        raise AqaError(
            f"checkpoint format {checkpoint.get('format')} is not {CHECKPOINT_FORMAT}, which this version reads"
        )
    widths = checkpoint["widths"]
    if not set(widths) & set(store.modalities):
        raise AqaError(f"{store.path} has none of the model's modalities ({', '.join(widths)})")
    features = Features(store, modalities=list(widths), widths=widths, align=checkpoint["align"], device=device)
    features.standardise(checkpoint["statistics"])
    model = build(checkpoint["model"], widths=widths, **checkpoint["options"])
    model.load_state_dict(checkpoint["weights"])
    target = checkpoint["target"]
    return Scorer(
        model.to(device),
        features,
        target["low"],
        target["high"],
        checkpoint["clips"],
        checkpoint["batch_size"],
        checkpoint["seed"],
    )


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
