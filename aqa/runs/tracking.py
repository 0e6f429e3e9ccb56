"""Following runs in Weights & Biases, where an experiment asks for it. Whatever goes wrong there never costs a run."""

from __future__ import annotations

import base64
import json
import shlex
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aqa.config.schema import TrackingConfig
from aqa.errors import AqaError, first_line
from aqa.runs.tracked_files import lists_packages, send_files, send_packages
from aqa.runs.wandb_import import import_wandb
from aqa.system.saying import Say

# Seconds that a run may wait for a server: for any sign of it, for it to take the run, and for what is still to be sent
# at the end. After that it continues by itself; what was not sent lies in its folder.
PATIENCE_FOR_A_SIGN, PATIENCE_AT_START, PATIENCE_AT_END = 3.0, 10.0, 30.0
LOOK_SECONDS = 2.0  # between two looks at a server that is waited for

R = TypeVar("R")


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
    figures as images and the checkpoint as an artifact. Where a server is lost on the way, all that again offline;
    the first thing that goes wrong there is said, and nothing more kept.

    offline: starts the same run once more, offline, and says what it is of; None for one that is offline.
    """

    def __init__(self, run: Any, say: Say, offline: Callable[[str], Any] | None = None):
        self.run, self.say, self.offline = run, say, offline
        self.broken = False
        self.done: list[Callable[[Any], object]] = []  # what was told of the run so far

    def epoch(self, row: Mapping[str, float]) -> None:
        self._tell(lambda run: run.log(dict(row), step=int(row["epoch"])))

    def result(self, metrics: Mapping[str, Any], folder: Path) -> None:
        scores = {**metrics["patterns"], "average_incomplete": metrics["average_incomplete"]}
        summary = {
            f"test/{pattern}/{name}": value for pattern, found in scores.items() for name, value in found.items()
        }
        self._tell(lambda run: run.summary.update({**summary, "selection": metrics["selection"]}))
        self._tell(lambda run: send_files(run, folder), waits=True)

    def finish(self) -> None:
        """Send what is still to be sent, for as long as patience lasts."""
        self._tell(lambda run: run.finish(), waits=True)

    def _tell(self, what: Callable[[Any], object], waits: bool = False) -> None:
        """Tell of the run what there is to tell. waits: until the server has answered, where there is one."""
        if self.broken:
            return
        self.done.append(what)
        try:
            if waits and self.offline is not None:
                _in_time(lambda: what(self.run))
            else:
                what(self.run)
        except Exception as error:
            if self.offline is None:
                self._leave_out(error)
            else:
                self._begin_again_offline(first_line(error))

    def _begin_again_offline(self, why: str) -> None:
        restart, self.offline = self.offline, None
        told, self.done = self.done, []
        assert restart is not None
        _end_service(self.run)
        try:
            self.run = restart(why)
        except Exception as error:
            self._leave_out(error)
        for what in told:
            self._tell(what)

    def _leave_out(self, error: Exception) -> None:
        self.broken = True
        self.say(f"Weights & Biases is left out from here on: {first_line(error)}")


def _in_time(what: Callable[[], object]) -> None:
    """Do something that waits for the server; ConnectionError where that is lost meanwhile, or patience is.

    wandb itself would wait for minutes, whatever limit it is given: so it does so in a thread that is left behind.
    """
    failures: list[Exception] = []

    def do() -> None:
        try:
            what()
        except Exception as error:
            failures.append(error)

    doing = threading.Thread(target=do, daemon=True)
    until = time.monotonic() + PATIENCE_AT_END
    if problem := server_problem():
        raise ConnectionError(problem)
    doing.start()
    while doing.is_alive():
        doing.join(LOOK_SECONDS)
        if doing.is_alive() and (problem := server_problem()):
            raise ConnectionError(problem)
        if time.monotonic() > until:
            raise ConnectionError(f"it takes longer than {PATIENCE_AT_END:.0f} s")
    if failures:
        raise failures[0]


def _end_service(run: Any) -> None:
    """End the process that speaks to the server for wandb, which would keep trying."""
    import wandb

    with suppress(Exception):  # wandb has no word for all this, and another version may do it otherwise
        run._run_status_checker.stop()  # a thread, which would complain
        service: Any = wandb.setup().assert_service()
        service._proc._process.kill()
        wandb.sdk.lib.module.unset_globals()  # no run is going on: the next may be online again
    with suppress(Exception, SystemExit):  # it hands on the exit status of the process
        wandb.teardown()


def require_wandb(settings: TrackingConfig) -> None:
    """AqaError if an experiment asks for Weights & Biases and the package is not there."""
    if settings.wandb == "disabled":
        return
    try:
        import_wandb()
    except ImportError:
        raise AqaError(
            f"tracking.wandb is {settings.wandb}, but the package is not installed: pip install wandb"
        ) from None


def begin_service(settings: TrackingConfig) -> None:
    """Begin to start the process that works for wandb, which takes a fifth of a second of waiting, once per process.

    What goes wrong there is left to the run, which starts it itself if it is not there.
    """
    if settings.wandb != "disabled":
        threading.Thread(target=_set_up, name="wandb").start()


def _set_up() -> None:
    import wandb

    with suppress(Exception):  # a setting that another version may not have: do not ask the server who the user is
        wandb.setup(settings=wandb.Settings(x_disable_viewer=True))


@contextmanager
def tracked(
    settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path, say: Say
) -> Iterator[Tracker]:
    """A tracker for one run, closed at the end.

    Without a key, or where no server answers, a run is tracked offline in its own folder, and how to send that later is
    said; where even that fails the run continues untracked.
    """
    if settings.wandb == "disabled":
        yield Silent()
        return
    run = _start(settings, name, config, folder, say)
    if run is None:
        yield Silent()
        return

    def again_offline(why: str) -> Any:
        say(f"Weights & Biases was lost ({why}); {_tracked_offline(folder)}")
        return _init("offline", settings, name, config, folder, run.id)

    tracker = Wandb(run, say, None if run.offline else again_offline)
    try:
        yield tracker
    finally:
        tracker.finish()
        if settings.wandb == "offline" and not tracker.broken:
            say(_tracked_offline(folder))


def _tracked_offline(folder: Path) -> str:
    """How a run that is tracked offline is sent later."""
    return f"tracked offline: wandb sync {shlex.quote(str(folder))}/wandb/offline-run-*"


def _start(settings: TrackingConfig, name: str, config: Mapping[str, Any], folder: Path, say: Say) -> Any:
    """A run of wandb, offline where it cannot be online; None if it cannot be at all."""
    modes: list[str] = [settings.wandb]
    if settings.wandb == "online":
        problem = _problem_online()
        modes = ["offline"] if problem else ["online", "offline"]
        if problem:
            say(f"{problem}; {_tracked_offline(folder)}")
    for mode in modes:
        try:
            return _init(mode, settings, name, config, folder)
        except Exception as error:  # whatever goes wrong there must not cost the run
            if mode != modes[-1]:
                say(f"Weights & Biases does not answer ({first_line(error)}); {_tracked_offline(folder)}")
            else:
                say(f"Weights & Biases is left out: {first_line(error)}")
    return None


def _init(
    mode: str,
    settings: TrackingConfig,
    name: str,
    config: Mapping[str, Any],
    folder: Path,
    run_id: str | None = None,  # of one that is begun again
) -> Any:
    import wandb

    ours = lists_packages()
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        id=run_id,
        reinit="create_new" if run_id else None,  # the one before is still there for wandb
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
            **({"x_save_requirements": False} if ours else {}),
        ),
    )
    if ours:
        send_packages(run)
    if "select" in config:  # the summary is the best value, by which a sweep of Weights & Biases goes
        metric = config["select"]["metric"]
        run.define_metric(f"{config['select']['split']}_{metric}", summary="min" if metric == "mse" else "max")
    return run


def _problem_online() -> str:
    """Why a run cannot be tracked online; "" where nothing is known to be in the way."""
    import wandb

    _set_up()
    try:
        key = wandb.login(prompt=False, verify=False)
    except Exception:  # a key that is malformed is none
        key = False
    if not key:
        return "no key of Weights & Biases is configured"
    return server_problem()


def server_problem() -> str:
    """Why the server is of no use; "" where nothing is known to be wrong with it."""
    import wandb

    settings = wandb.setup().settings
    if not gives_a_sign(settings.base_url, PATIENCE_FOR_A_SIGN):
        return f"{settings.base_url} does not answer"
    return refusal(settings.base_url, settings.api_key or "", PATIENCE_FOR_A_SIGN)


def gives_a_sign(address: str, seconds: float) -> bool:
    """Whether a server answers at all within some time; wandb itself would try for much longer."""

    def ask() -> bool:
        try:
            urllib.request.urlopen(address, timeout=seconds).close()
        except urllib.error.HTTPError:
            return True  # an answer
        except urllib.error.URLError as error:
            return isinstance(error.reason, ssl.SSLError)  # wandb may know certificates that Python does not
        except OSError:
            return False
        return True

    return _within(seconds, ask) or False


def refusal(address: str, key: str, seconds: float) -> str:
    """How a server refuses a simple question, or that it leaves it unanswered; "" otherwise."""
    question = json.dumps({"operationName": "Viewer", "query": "query Viewer { viewer { id } }"}).encode()
    credentials = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}

    def ask() -> str:
        try:
            request = urllib.request.Request(f"{address.rstrip('/')}/graphql", question, headers)
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as error:
            return f"{address} answers HTTP {error.code}" if error.code in (401, 403) or error.code >= 500 else ""
        except TimeoutError:
            return f"{address} does not answer"
        except OSError:
            pass  # wandb may have a way that Python has not
        return ""

    answer = _within(seconds, ask)
    return f"{address} does not answer" if answer is None else answer


def _within(seconds: float, ask: Callable[[], R]) -> R | None:
    """An answer, or None if it takes longer: looking a name up knows no limit of time."""
    answers: list[R] = []
    asking = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    asking.start()
    asking.join(seconds)
    return answers[0] if answers else None
