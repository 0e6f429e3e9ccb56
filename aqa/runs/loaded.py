"""A finished run taken out of its trainer: a scorer of videos that a program has as arrays, without any store."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aqa.errors import AqaError, brief, nearest
from aqa.evaluation.scorer import Scorer
from aqa.explaining.clips import require_window
from aqa.explaining.tables import ScoreExplanation, explained_once, mean_explanation
from aqa.features.batches import Features
from aqa.features.given import GivenVideo, GivenVideos
from aqa.missing import parse_pattern
from aqa.models import AQAModel
from aqa.runs.averages import ScoringRun, asked_level, finished_runs, mean_of_runs
from aqa.runs.checkpoint import load_model, scorer_of
from aqa.runs.fold_models import MeanScores
from aqa.system.devices import pick_device

_ONE_AT_A_TIME = threading.Lock()  # what torch sets for the whole process: its threads, and the precision of a GPU
SHOWN = "shown"


class ScoreInterval(NamedTuple):
    """Scores with the ends of their intervals, numbers of one video or (n,) of n, in the target's units.

    Infinite where too few videos were kept to make an interval, NaN where the run has none; its table says why.
    """

    score: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]


class VideoScorer:
    """Scores videos from whichever streams they have, as `aqa predict` does. Made by `aqa.load`.

    Several threads may use one scorer at the same time. A score depends on nothing but the streams of its own video.

    widths: channels D of each stream. target: the name of the score. low, high: its range. level: of intervals, by
    default. seconds: how long a clip takes, by stream, where it is known.
    """

    def __init__(self, runs: Sequence[ScoringRun], device: torch.device, seconds: Mapping[str, float]):
        first = runs[0]
        self.widths, self.level = dict(first.widths), first.level
        self.target, self.low, self.high = first.target["name"], first.target["low"], first.target["high"]
        self.seconds = {**first.checkpoints[0].get("clip_seconds", {}), **seconds}
        self._device = device
        self._models = [[load_model(each, device).eval() for each in run.checkpoints] for run in runs]
        self._runs = [_without_weights(run) for run in runs]
        self._patterns = {SHOWN: parse_pattern("none", self.modalities, "patterns")}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the streams that the model takes."""
        return tuple(self.widths)

    def __repr__(self) -> str:
        streams = ", ".join(f"{name} ({width})" for name, width in self.widths.items())
        return f"VideoScorer of {self.target}, {self.low:g} to {self.high:g}, from {streams}"

    def score(self, videos: GivenVideo | Sequence[GivenVideo]) -> float | NDArray[np.float64]:
        """The score of a video in the target's units, or the scores (n,) of a list of n videos.

        A video is a mapping of streams to arrays of numbers (T, D): {"visual": x, "audio": y}. A stream that it lacks
        is left out, or None. AqaError, one line, for a stream that the model does not know, one of another width,
        without clips, or with numbers that are not finite, and for a video without any stream.
        """
        score = self._said(videos, self.level).scores[SHOWN]
        return float(score[0]) if isinstance(videos, Mapping) else score

    def interval(self, videos: GivenVideo | Sequence[GivenVideo], level: float | None = None) -> ScoreInterval:
        """The score of a video with an interval that holds its label with probability `level`, or those of n videos.

        videos: as in `score`. level: by default that of the run.
        """
        level = asked_level(level, self.level)
        said = self._said(videos, level)
        found = said.scores[SHOWN], *said.bounds[level][SHOWN]
        return ScoreInterval(*(float(part[0]) if isinstance(videos, Mapping) else part for part in found))

    def explain(self, videos: GivenVideo | Sequence[GivenVideo], window: int | None = None) -> ScoreExplanation:
        """What each stream and each window of clips adds to the scores of videos, as `aqa explain` works it out.

        videos: as in `score`; they are called "the video", or "video 0" and so on. window: clips that are replaced
        together, by default a 32nd of a stream. Of several models the mean. AqaError also for runs of older versions,
        which do not know the mean label of their training videos.
        """
        require_window(window)
        if any(checkpoint.get("training_mean") is None for run in self._runs for checkpoint in run.checkpoints):
            raise AqaError("this run was made before scores were explained; `aqa explain` explains it, with its store")
        source = self._given(videos)
        with self._alone():
            pairs = zip(self._runs, self._models, strict=True)
            return mean_explanation([self._explained(run, models, source, window) for run, models in pairs])

    def _explained(
        self, run: ScoringRun, models: Sequence[AQAModel], source: GivenVideos, window: int | None
    ) -> list[ScoreExplanation]:
        """What each model of a run says."""
        return [
            explained_once(self._scorer(checkpoint, model, source), checkpoint["training_mean"], window)
            for checkpoint, model in zip(run.checkpoints, models, strict=True)
        ]

    def _given(self, videos: GivenVideo | Sequence[GivenVideo]) -> GivenVideos:
        """Videos that a program gives, checked."""
        given = [videos] if isinstance(videos, Mapping) else videos
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or not given:
            raise AqaError(f"videos are {brief(given)}; expected a mapping of streams to arrays, or a list of them")
        return GivenVideos.of(given, self.widths, self.seconds)

    def _said(self, videos: GivenVideo | Sequence[GivenVideo], level: float) -> MeanScores:
        """What the models say of videos, as they are shown."""
        source = self._given(videos)
        scorers = (
            (self._scorer(checkpoint, model, source) for checkpoint, model in zip(run.checkpoints, models, strict=True))
            for run, models in zip(self._runs, self._models, strict=True)
        )
        with self._alone():
            return mean_of_runs(self._runs, scorers, np.arange(len(source)), self._patterns, level)

    def _scorer(self, checkpoint: Mapping[str, Any], model: AQAModel, source: GivenVideos) -> Scorer:
        """One of the models with the videos, standardized as it takes them."""
        features = Features(
            source,
            modalities=self.modalities,
            align=checkpoint["align"],
            clips=checkpoint.get("data_clips"),
            device=self._device,
        )
        features.standardize(checkpoint["statistics"])
        return scorer_of(checkpoint, model, features)

    def _alone(self) -> AbstractContextManager[object]:
        """Keeps other threads out of what is not made for several at once: a GPU's settings, and some models."""
        apart = self._device.type == "cpu" and all(model.concurrent for models in self._models for model in models)
        return nullcontext() if apart else _ONE_AT_A_TIME


def load(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    rate: Mapping[str, float] | None = None,
    device: str = "auto",
) -> VideoScorer:
    """A scorer of videos, from the folder of a finished run; the data that it was trained on is not needed.

    run: a folder, or several of the same target, range and streams, whose scores are averaged: seeds, or folds. All
    kinds of runs will do: cross-validations, whose folds are averaged, `train.ensemble`, models in closed form. rate:
    clips a second by stream, which counts where `data.align` is "time"; by default those of the training data. device:
    auto, cpu or cuda. AqaError where a folder is no finished run, and for runs that cannot be averaged.
    """
    runs = finished_runs(run)
    seconds = {}
    for name, clips in (rate or {}).items():
        if name not in runs[0].widths:
            raise AqaError(f"rate: the model has no stream {brief(name)}: {nearest(str(name), runs[0].widths)}")
        if isinstance(clips, bool) or not isinstance(clips, (int, float, np.number)) or not 0 < clips < np.inf:
            raise AqaError(f"rate of {name} is {brief(clips)}; expected clips a second, a number above 0")
        seconds[name] = 1 / float(clips)
    return VideoScorer(runs, pick_device(device), seconds)


def _without_weights(run: ScoringRun) -> ScoringRun:
    """A run whose models are loaded."""
    return replace(run, checkpoints=[{**each, "weights": {}} for each in run.checkpoints])
