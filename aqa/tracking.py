"""Following runs in Weights & Biases, where an experiment asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from aqa.config import TrackingConfig
from aqa.errors import AqaError, first_line


class Tracker(Protocol):
    """What a run tells of itself as it goes."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch's row of the history."""

    def result(self, metrics: Mapping[str, Any]) -> None:
        """The metrics of a finished run, as in metrics.json."""


class Silent:
    """A tracker for runs that nobody follows."""

    def epoch(self, row: Mapping[str, float]) -> None:
        pass

    def result(self, metrics: Mapping[str, Any]) -> None:
        pass


class Wandb:
    """A run in Weights & Biases: history by epoch, then every pattern's metrics as a summary ("test/VA/srcc")."""

    def __init__(self, run: Any):
        self.run = run

    def epoch(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row), step=int(row["epoch"]))

    def result(self, metrics: Mapping[str, Any]) -> None:
        scores = {**metrics["patterns"], "average_incomplete": metrics["average_incomplete"]}
        for pattern, found in scores.items():
            for metric, value in found.items():
                self.run.summary[f"test/{pattern}/{metric}"] = value
        self.run.summary["selection"] = metrics["selection"]


def require_wandb(settings: TrackingConfig) -> None:
    """AqaError where an experiment asks for Weights & Biases and the package is not there."""
    if settings.wandb == "disabled":
        return
    try:
        import wandb  # noqa: F401
    except ImportError:
        raise AqaError(
            f"tracking.wandb is {settings.wandb}, but the package is not installed: pip install 'aqa[wandb]'"
        ) from None


@contextmanager
def tracked(
    settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path, say: Callable[[str], object]
) -> Iterator[Tracker]:
    """A tracker for one run, closed at the end. A run goes on untracked, and says so, where W&B cannot be reached."""
    if settings.wandb == "disabled":
        yield Silent()
        return
    import wandb

    try:
        run = wandb.init(
            mode=settings.wandb,
            project=settings.project,
            entity=settings.entity,
            group=settings.group,
            tags=settings.tags,
            name=name,
            config=dict(config),
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off"),
        )
    except Exception as error:  # whatever goes wrong there must not cost the run
        say(f"Weights & Biases is left out: {first_line(error)}")
        yield Silent()
        return
    try:
        yield Wandb(run)
    finally:
        run.finish()
