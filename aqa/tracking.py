"""Following runs in Weights & Biases, where an experiment asks for it. Whatever goes wrong there never costs a run."""

from __future__ import annotations

import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from aqa.config import TrackingConfig
from aqa.errors import AqaError, first_line
from aqa.runs import CHECKPOINT, FIGURES, PREDICTIONS

# Seconds that a run may wait for a server: for any sign of it, for it to take the run, and for what is still to be sent
# at the end. After that it goes on by itself; what was not sent lies in its folder.
PATIENCE_FOR_A_SIGN, PATIENCE_AT_START, PATIENCE_AT_END = 3.0, 10.0, 30.0

Say = Callable[[str], object]


class Tracker(Protocol):
    """What a run tells of itself as it goes."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch's row of the history."""

    def result(self, metrics: Mapping[str, Any], folder: Path) -> None:
        """The metrics of a finished run, as in metrics.json, and its folder."""


class Silent:
    """A tracker for runs that nobody follows."""

    def epoch(self, row: Mapping[str, float]) -> None:
        pass

    def result(self, metrics: Mapping[str, Any], folder: Path) -> None:
        pass


class Wandb:
    """A run in Weights & Biases.

    History by epoch; then every pattern's metrics as a summary ("test/VA/srcc"), the predictions as a table, the
    figures as images and the checkpoint as an artifact. The first thing that goes wrong is said, and nothing more sent.
    """

    def __init__(self, run: Any, say: Say):
        self.run, self.say = run, say
        self.broken = False

    def epoch(self, row: Mapping[str, float]) -> None:
        self._send(lambda: self.run.log(dict(row), step=int(row["epoch"])))

    def result(self, metrics: Mapping[str, Any], folder: Path) -> None:
        scores = {**metrics["patterns"], "average_incomplete": metrics["average_incomplete"]}
        summary = {
            f"test/{pattern}/{name}": value for pattern, found in scores.items() for name, value in found.items()
        }
        self._send(lambda: self.run.summary.update({**summary, "selection": metrics["selection"]}))
        self._send(lambda: self._send_files(folder))

    def finish(self) -> None:
        """Send what is still to be sent, for as long as patience lasts."""
        self._send(self.run.finish)

    def _send_files(self, folder: Path) -> None:
        import pandas as pd
        import wandb

        media = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted((folder / FIGURES).glob("*.png"))}
        self.run.log({**media, "predictions": wandb.Table(dataframe=pd.read_csv(folder / PREDICTIONS))})
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", self.run.name or "run"), type="model")
        artifact.add_file(str(folder / CHECKPOINT))
        self.run.log_artifact(artifact)

    def _send(self, what: Callable[[], object]) -> None:
        if self.broken:
            return
        try:
            what()
        except Exception as error:
            self.broken = True
            self.say(f"Weights & Biases is left out from here on: {first_line(error)}")


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
    settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path, say: Say
) -> Iterator[Tracker]:
    """A tracker for one run, closed at the end.

    Without a key, or where no server answers, a run is tracked offline in its own folder, and how to send that later is
    said; where even that fails it goes on untracked.
    """
    if settings.wandb == "disabled":
        yield Silent()
        return
    run = _start(settings, name, config, folder, say)
    if run is None:
        yield Silent()
        return
    tracker = Wandb(run, say)
    try:
        yield tracker
    finally:
        tracker.finish()


def _start(settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path, say: Say) -> Any:
    """A run of wandb, offline where it cannot be online; None where it cannot be at all."""
    modes: list[str] = [settings.wandb]
    if settings.wandb == "online":
        problem = _problem_online()
        modes = ["offline"] if problem else ["online", "offline"]
        if problem:
            say(f"{problem}; tracked offline: wandb sync {folder}/wandb/offline-run-*")
    for mode in modes:
        try:
            return _init(mode, settings, name, config, folder)
        except Exception as error:  # whatever goes wrong there must not cost the run
            if mode != modes[-1]:
                say(
                    f"Weights & Biases does not answer ({first_line(error)}); "
                    f"tracked offline: wandb sync {folder}/wandb/offline-run-*"
                )
            else:
                say(f"Weights & Biases is left out: {first_line(error)}")
    return None


def _init(mode: str, settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path) -> Any:
    import wandb

    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        tags=settings.tags,
        name=name,
        config=dict(config),
        dir=str(folder),
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=PATIENCE_AT_START,
            login_timeout=PATIENCE_AT_START,
            finish_timeout=PATIENCE_AT_END,
        ),
    )


def _problem_online() -> str:
    """Why a run cannot be tracked online; "" where nothing is known to be in the way."""
    import wandb

    try:
        key = wandb.login(prompt=False, verify=False)
    except Exception:  # a key that is malformed is none
        key = False
    if not key:
        return "no key of Weights & Biases is configured"
    address = wandb.setup().settings.base_url
    return "" if gives_a_sign(address, PATIENCE_FOR_A_SIGN) else f"{address} does not answer"


def gives_a_sign(address: str, seconds: float) -> bool:
    """Whether a server answers at all within some time; wandb itself would try for much longer."""
    signs = []

    def ask() -> None:
        try:
            urllib.request.urlopen(address, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # wandb may know certificates that Python does not
                return
        except OSError:
            return
        signs.append(True)

    asking = threading.Thread(target=ask, daemon=True)  # looking a name up knows no limit of time
    asking.start()
    asking.join(seconds)
    return bool(signs)
