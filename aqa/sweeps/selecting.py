"""What may choose the settings of a search: videos that no trial has learned from, and not the test split."""

from __future__ import annotations

from collections.abc import Callable

from aqa.config.schema import Experiment
from aqa.errors import AqaError
from aqa.runs.prepare import added_to_learning

WhereIs = Callable[[str], str]  # of a dotted key in the tune file, for messages


def require_validation(own: Experiment, asked: Experiment, place: WhereIs) -> None:
    """AqaError for a search that would choose on the training videos, or on the test split.

    own: the experiment file as it is. asked: the same with the settings of the tune file. A search on the test split
    is allowed where the experiment file itself selects on it, as its published protocol does.
    """
    split = asked.select.split
    if split == "test" and own.select.split != "test":
        raise AqaError(
            f"{place('set.select.split')}: select.split: test would choose the settings on the test videos. Leave "
            "it out; only an experiment file that itself selects on test, as its published protocol, is searched so"
        )
    if split == "train":
        raise AqaError(
            f"{place('set.select.split')}: select.split: train would choose the settings on videos that every trial "
            "has learned from; select on valid"
        )


def require_unlearned(trial: Experiment, where: str) -> None:
    """AqaError for a trial whose model learns from the split that chooses the settings. where: for the message."""
    split = trial.select.split
    if split in added_to_learning(trial):
        asked = trial.model.options["learn_from"]
        raise AqaError(
            f"{where}model.learn_from: {asked} is not searched: the settings are chosen on split '{split}', which the "
            f"model would have learned from. Leave it out here, and give it to a run of the best settings: "
            f"aqa run EXPERIMENT.yaml model.learn_from={asked} select.split=train"
        )
