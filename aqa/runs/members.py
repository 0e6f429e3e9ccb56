"""Training a model that combines others: each by itself, one after another, and then what combines them.

A part is one such training. What it came to is saved with the run's state, so a run that is stopped resumes in the part
where it stopped, with the same numbers as a run without a stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aqa.evaluation.scorer import Scorer, selection_measure
from aqa.features.batches import Batch, training_batches
from aqa.missing import Draws, MissingPattern
from aqa.missing.hiding import Subset
from aqa.modalities import subset_name
from aqa.models import AQAModel
from aqa.models.ensemble import Ensemble, visible_sets
from aqa.runs.folds import inner_parts
from aqa.runs.notes import unlearned_notes
from aqa.runs.prepare import Prepared, build_one
from aqa.system.saying import Say
from aqa.training.loop import Diverged, Progress, train

Places = NDArray[np.int64]  # of videos among those that train


@dataclass(frozen=True)
class Part:
    """One training. at: the videos that it learns from; held_out: those that it then scores under every visible set."""

    title: str
    make: Callable[[], AQAModel]
    seed: int
    at: Places
    held_out: Places
    kept: AQAModel | None  # the model that its weights are for


@dataclass
class Done:
    """What the parts so far came to. scores: (S, n) in [0, 1] of the videos that each held out."""

    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    scores: list[torch.Tensor] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


def is_combined(model: AQAModel) -> bool:
    """Whether a model's score is made of those of others, which are trained apart."""
    return model.trained_apart != [model]


def fit_members(
    prepared: Prepared,
    saved: Mapping[str, Any] | None,
    save: Callable[[dict[str, Any]], None],
    report: Say,
    on_epoch: Callable[[Mapping[str, float]], None],
    show_progress: bool,
) -> Progress:
    """Train every part of a model that combines others; leaves all weights in it.

    saved: a state that was passed to `save` earlier. Each network of an `Ensemble` is trained for all epochs, as the
    videos that it does not learn from are to be scored, and choose nothing.
    """
    model, config = prepared.scorer.model, prepared.config
    parts = parts_of(prepared)
    done = Done() if saved is None else Done(**saved["done"])
    training = None if saved is None else saved["training"]
    for number, part in enumerate(parts):
        if number < len(done.epochs):
            continue
        report(f"part {number + 1} of {len(parts)}: {part.title}")
        before = sum(done.epochs)

        def numbered(row: Mapping[str, float], before: int = before, number: int = number) -> dict[str, float]:
            return {**row, "epoch": before + row["epoch"], "part": number + 1.0}

        def keep(state: dict[str, Any], before: int = before) -> None:
            save({"progress": {"epoch": before + state["progress"]["epoch"]}, "done": vars(done), "training": state})

        learner = _learner(prepared, part)
        try:
            progress = _train(
                prepared, part, learner, training, keep, lambda row: on_epoch(numbered(row)), show_progress
            )
        except Diverged as error:
            error.progress = Progress()  # the weights of one part are not those of the run
            raise
        truth = prepared.target.values[prepared.rowsets.train[part.at]]
        for note in unlearned_notes(progress.history, prepared.target.normalize(truth), config.train.weight_decay):
            report(note)
        learner.model.load_state_dict(progress.best_weights)
        training = None
        done.scores.append(_held_out_scores(prepared, part, learner))
        done.weights.append({} if part.kept is None else progress.best_weights)
        done.history += [numbered(row) for row in progress.history]
        done.epochs.append(progress.epoch)
        save({"progress": {"epoch": sum(done.epochs)}, "done": vars(done), "training": None})
    for part, weights in zip(parts, done.weights, strict=True):
        if part.kept is not None:
            part.kept.load_state_dict(weights)
    if isinstance(model, Ensemble):
        _weigh(prepared, parts, done, report)
    measured = _measure(prepared, prepared.scorer)()
    epochs = sum(done.epochs)
    if isinstance(model, Ensemble):
        done.history[-1] |= {f"{config.select.split}_{name}": value for name, value in measured.items()}
    value = measured[config.select.metric]
    return Progress(epochs, done.history, 0 if math.isnan(value) else epochs, value, model.state_dict())


def parts_of(prepared: Prepared) -> list[Part]:
    """What is to be trained for a model, in order."""
    model, config = prepared.scorer.model, prepared.config
    everyone, nobody = np.arange(len(prepared.rowsets.train)), np.arange(0)
    if not isinstance(model, Ensemble):
        seeds = range(config.train.seed, config.train.seed + len(model.trained_apart))

        def one() -> AQAModel:
            return build_one(config, prepared.scorer.features.widths)

        return [
            Part(f"seed {seed}", one, seed, everyone, nobody, member)
            for seed, member in zip(seeds, model.trained_apart, strict=True)
        ]
    held_out = inner_folds_of(prepared, model)
    parts = []
    for name, models in model.models_of.items():

        def fresh(name: str = name) -> AQAModel:
            return model.fresh(name)

        whole = models[0] if len(models) == 1 else None
        for fold, out in enumerate(held_out):
            title = f"{name} without fold {fold + 1} of {len(held_out)}"
            kept = None if whole is not None else models[fold]
            parts.append(Part(title, fresh, config.train.seed + fold, np.setdiff1d(everyone, out), out, kept))
        if whole is not None:
            parts.append(Part(f"{name} on all training videos", fresh, config.train.seed, everyone, nobody, whole))
    return parts


def inner_folds_of(prepared: Prepared, model: Ensemble) -> list[Places]:
    """The training videos that each inner fold holds out, all of a group together."""
    rows, groups = prepared.rowsets.train, prepared.groups
    labels = None if groups is None else [groups.labels[row] for row in rows]
    name = None if groups is None else groups.name
    return inner_parts(len(rows), labels, model.folds, prepared.config.train.seed, name)


def _learner(prepared: Prepared, part: Part) -> Scorer:
    """The model of a part, as it is before its training."""
    torch.manual_seed(part.seed)
    return replace(prepared.scorer, model=part.make().to(prepared.scorer.features.device))


def _train(
    prepared: Prepared,
    part: Part,
    learner: Scorer,
    saved: dict[str, Any] | None,
    save: Callable[[dict[str, Any]], None],
    on_epoch: Callable[[Mapping[str, float]], None],
    show_progress: bool,
) -> Progress:
    """The training of one part; of an `Ensemble` nothing is measured in it, so that its last epoch is kept."""
    config, truth = prepared.config, prepared.target.normalize(prepared.target.values)
    combined = isinstance(prepared.scorer.model, Ensemble)
    measure = _unmeasured if combined else _measure(prepared, learner)
    settings = config.train.model_copy(update={"patience": None}) if combined else config.train

    def batches(epoch: int) -> Iterator[Batch]:
        return training_batches(
            learner.features,
            prepared.rowsets.train[part.at],
            prepared.available[part.at],
            prepared.training_pattern,
            clips=learner.clips,
            size=config.train.batch_size,
            seed=part.seed,
            epoch=epoch,
        )

    return train(
        learner.model,
        batches,
        torch.from_numpy(truth).float().to(learner.features.device),
        measure,
        config.select.metric,
        config.select.split,
        settings,
        saved=saved,
        save=save,
        save_every=config.save_every,
        others=prepared.others,
        on_epoch=on_epoch,
        show_progress=show_progress,
    )


def _unmeasured() -> dict[str, float]:
    return {"srcc": math.nan, "mse": math.nan}


def _measure(prepared: Prepared, scorer: Scorer) -> Callable[[], dict[str, float]]:
    rows = prepared.rowsets.select
    return selection_measure(scorer, rows, prepared.target.values[rows], prepared.selection_patterns)


class _Left(Subset):
    """A subset of what a training pattern leaves the data set, without what `fixed` patterns have taken away."""

    def __init__(self, modalities: Sequence[str], subset: Sequence[bool], training: MissingPattern):
        super().__init__(modalities, subset)
        self.training = training

    def remaining(self, available: NDArray[np.bool_], draws: Draws) -> NDArray[np.bool_]:
        return self.training.remaining(available, draws)


def _held_out_scores(prepared: Prepared, part: Part, learner: Scorer) -> torch.Tensor:
    """Scores in [0, 1] of the videos that a part has not learned from, under every visible set, (S, n)."""
    if not len(part.held_out):
        return torch.zeros(0, 0)
    modalities, low, high = learner.features.modalities, learner.low, learner.high
    patterns: dict[str, MissingPattern] = {
        subset_name(modalities, visible): _Left(modalities, visible, prepared.training_pattern)
        for visible in visible_sets(len(modalities))
    }
    found = learner.predict(prepared.rowsets.train[part.held_out], patterns)
    return torch.from_numpy((np.stack(list(found.values())) - low) / (high - low))


def _weigh(prepared: Prepared, parts: Sequence[Part], done: Done, report: Say) -> None:
    """Give an ensemble its weights, from what its members score without having learned from it."""
    model = prepared.scorer.model
    assert isinstance(model, Ensemble)
    count, modalities = len(prepared.rowsets.train), prepared.scorer.features.modalities
    sets = visible_sets(len(modalities))
    scores = np.full((len(model.options), len(sets), count), np.nan)
    folds = [(part, found) for part, found in zip(parts, done.scores, strict=True) if len(part.held_out)]
    for i, (part, found) in enumerate(folds):
        scores[i // model.folds][:, part.held_out] = found.numpy()
    having = prepared.available.any(axis=1)
    rows = prepared.rowsets.train[having]
    target = prepared.target.normalize(prepared.target.values)[rows]
    model.weigh(scores[:, :, having], target, prepared.available[having])
    for name, weights in weights_by_pattern(model, modalities).items():
        report(f"weights {name}: " + ", ".join(f"{member} {weight:.2f}" for member, weight in weights.items()))


def weights_by_pattern(model: Ensemble, modalities: Sequence[str]) -> dict[str, dict[str, float]]:
    """The weights of an ensemble's members under each visible set."""
    return {
        subset_name(modalities, visible): dict(zip(model.options, model.weights_of(visible).tolist(), strict=True))
        for visible in visible_sets(len(modalities))
    }
