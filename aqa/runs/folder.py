"""A run's folder: resolved config, checkpoint, metrics, predictions, history and log.

Every file appears whole or not at all. A folder is new, unfinished (it holds a saved state to resume from) or finished
(it holds metrics.json); what is in it is never overwritten unasked.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import platform
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import yaml

from aqa import plugins
from aqa.config.dialect import FastLoader, dump, parse
from aqa.config.schema import DEFAULTS_OF_OLDER_RUNS, FINGERPRINT_SHOWN, NOT_OF_THE_EXPERIMENT
from aqa.config.text_keys import experiment_takes_text
from aqa.config.yaml import MOST_BYTES
from aqa.errors import AqaError, first_line, printable
from aqa.runs.origin import Origin, changed_store, find_store, origin_in, recorded
from aqa.system.files import clear_leftovers, has_file, partials, plain, sink, write_table, write_text, written_whole
from aqa.system.locks import claimed, has_no_locks, holder_text, is_claimed, note_holder
from aqa.system.torch_files import digest_of_archive, load_torch
from aqa.version import __version__

CONFIG, STATE, CHECKPOINT, METRICS = "config.yaml", "state.pt", "checkpoint.pt", "metrics.json"
HISTORY, PREDICTIONS, LOG, FIGURES = "history.csv", "predictions.csv", "log.txt", "figures"
HELD_OUT = "held_out.pt"  # of a fold: residuals of what it tested, for the intervals of new videos
ERRORS = "errors"  # beside the runs of a sweep: what was wrong with those that failed
LOCK, HOLDER = ".running.lock", ".running.json"  # while a process trains into the folder, and which one
WAIT_SECONDS = 0.5  # for a lock that somebody only looks at
FOLD = re.compile(r"fold\d+")  # folders of folds, inside the folder of a cross-validation
TRIAL = "trial"  # in metrics.json: the run is a trial of a search, which is not scored
TRIALS, REFITS = "trials", "refits"  # in the folder of a search: its trials, and the runs of the best settings
PLUGIN, THREADS = "plugin ", "threads"  # among the versions: before a plugin's name; torch's threads on a CPU
# In the order in which they are removed: without metrics a run is not finished; with a config a folder is a run's.
OWN_FILES = (METRICS, STATE, CHECKPOINT, HELD_OUT, HISTORY, PREDICTIONS, LOG, CONFIG)
# Which metrics.json states digests of, so that no file of another run is taken for the run's own.
BOUND = (CONFIG, CHECKPOINT, HELD_OUT)
# In config.yaml, beside the experiment.
OF_THE_RUN_ITSELF = ("versions", "fingerprint", "store_was_at", "model_options", "imported")


def versions() -> dict[str, str]:
    """Versions that numbers may depend on, with the digests of plugins."""
    import torch  # seconds to import, and finished runs are read without it

    return {
        "aqa": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        **{f"{PLUGIN}{name}": version for name, version in plugins.loaded().items()},
    }


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    """A config.yaml as plain data, which nobody may change: a report asks for each of its runs' many times."""
    found: dict[str, Any] = parse(text, experiment_takes_text, FastLoader)[0]
    return found


class InUse(AqaError):
    """Another process has the folder of a run."""


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    @classmethod
    def start(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        overwrite: bool,
        fingerprint: str | None = None,
        threads: int | None = None,
    ) -> RunFolder:
        """Create the folder, or resume the one that holds the same experiment.

        config: everything that decides the run's numbers; fingerprint: of its store. threads: torch's, to be recorded.
        AqaError as in `require_free`; with `overwrite` the files of another run are removed instead (and no others).
        """
        run = cls(path)
        run.require_free(config, overwrite, fingerprint)
        if overwrite and run.path.exists():
            run._clear()
        elif run.path.exists() and not run._is_empty:
            run._tidy()
            if run.status != "new":
                return run
        run.path.mkdir(parents=True, exist_ok=True)
        used = {} if threads is None else {THREADS: str(threads)}
        content = {**config, "model_options": all_options(config), "versions": {**versions(), **used}}
        if fingerprint is not None:
            origin = recorded(config["data"]["store"], run.path, fingerprint)
            content["data"] = {**config["data"], "store": origin.store}
            content |= {"store_was_at": origin.was_at, "fingerprint": origin.fingerprint}
        write_text(run.path / CONFIG, dump(content))
        return run

    def require_free(self, config: Mapping[str, Any], overwrite: bool, fingerprint: str | None = None) -> None:
        """AqaError if the folder is not a run's, or holds another experiment and `overwrite` does not replace it."""
        if not self.path.exists() or self._is_empty:
            return
        if not self.is_run:
            raise AqaError(f"{self.path} exists and is no run's folder; name another with output=DIR")
        difference = "" if overwrite else self._difference(config, fingerprint)
        if difference:
            raise AqaError(f"{difference}; name another folder with output=DIR, or replace it with --overwrite")

    @contextlib.contextmanager
    def held(self, say: Callable[[str], object]) -> Iterator[None]:
        """Keep every other process out of the folder, which is made, until the block ends; InUse where one is there."""
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as lock:
            try:
                ours = lock.enter_context(claimed(self.path / LOCK, wait=WAIT_SECONDS, remove=True))
            except OSError as error:
                if not has_no_locks(error):
                    raise
                say(f"{self.path} is on a file system without locks: see to it that no second run writes to it")
                yield
                return
            if not ours:
                self._refuse_second()
            note_holder(self.path / HOLDER)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    (self.path / HOLDER).unlink(missing_ok=True)

    def require_unused(self) -> None:
        """InUse where another process trains into the folder now."""
        if is_claimed(self.path / LOCK):
            self._refuse_second()

    def _refuse_second(self) -> NoReturn:
        raise InUse(
            f"{self.path} is in use by {holder_text(self.path / HOLDER)}; wait until that run has ended, or "
            "name another folder with output=DIR"
        )

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A folder with a finished run; AqaError otherwise."""
        run = cls(path)
        if not run.is_run:
            raise AqaError(f"{run.path} is no run's folder: it has no {CONFIG} that a run wrote")
        if run.status != "finished":
            raise AqaError(f"{run.path} is unfinished; start its `aqa run` again to resume from where it stopped")
        if run.metrics.get(TRIAL):
            raise AqaError(
                f"{run.path} is a trial of `aqa tune`, which has no checkpoint and was not scored on the test split; "
                f"the best settings are run in {REFITS}/ of the search's folder"
            )
        foreign = run.foreign_file(run.metrics)
        if foreign:
            raise AqaError(f"{foreign}; put back the one that this run wrote, or run it again with --overwrite")
        return run

    @property
    def _is_empty(self) -> bool:
        """Whether nothing is in it but folds, and what a run leaves that is killed while it writes its first file."""
        if not self.path.is_dir():
            return False
        left = {*partials(self.path / CONFIG), *partials(self.path / HOLDER), self.path / LOCK, self.path / HOLDER}
        return set(self.path.iterdir()) <= {*left, *(fold.path for fold in self.folds)}

    @property
    def folds(self) -> list[RunFolder]:
        """What is called as the fold of a cross-validation is, in the order of their numbers."""
        inside = [path for path in self.path.glob("fold*") if FOLD.fullmatch(path.name) and path.is_dir()]
        return [RunFolder(path) for path in sorted(inside, key=lambda path: int(path.name.removeprefix("fold")))]

    def fold(self, number: int) -> RunFolder:
        """The folder of a fold."""
        return RunFolder(self.path / f"fold{number}")

    @property
    def is_run(self) -> bool:
        """Whether a run wrote this folder."""
        try:
            config = self._whole_config()
        except (OSError, ValueError, yaml.YAMLError):
            return False
        return isinstance(config, dict) and "versions" in config

    def _whole_config(self) -> Mapping[str, Any]:
        """All that is in config.yaml, which nobody may change."""
        path = self.path / CONFIG
        if not has_file(path):
            raise FileNotFoundError(path)
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return _parsed(path.read_text(encoding="utf-8"))

    @property
    def status(self) -> Literal["new", "unfinished", "finished"]:
        """Whether the run still has to begin, can resume from a saved state, or is done."""
        if has_file(self.path / METRICS):
            return "finished"
        return "unfinished" if has_file(self.path / STATE) else "new"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved experiment, its store as an absolute path; without versions and what else tells of the run."""
        return copy.deepcopy(self._experiment(self._whole_config()))

    def _experiment(self, content: Mapping[str, Any]) -> dict[str, Any]:
        config, origin = {key: content[key] for key in content if key not in OF_THE_RUN_ITSELF}, origin_in(content)
        if origin.fingerprint is not None:
            config["data"] = {**config["data"], "store": os.path.realpath(self.path.resolve() / origin.store)}
        return config

    @property
    def origin(self) -> Origin:
        """What is recorded of the store that the run was made from."""
        return origin_in(self._whole_config())

    @property
    def model_options(self) -> dict[str, Any]:
        """All options of its model, those that had their defaults too."""
        from aqa.models import options_of_run

        content = copy.deepcopy(self._whole_config())
        if "model" not in content:
            return {}
        given = content["model"]
        recorded = content.get("model_options") or {name: given[name] for name in given if name != "name"}
        return plain(options_of_run(given["name"], recorded))

    @property
    def store(self) -> Path:
        """Where that store is now; AqaError if it is not found."""
        return find_store(self.origin, self.path)

    @property
    def identity(self) -> str:
        """A digest of the experiment and of what was in its store."""
        content = self._whole_config()
        config = flat(self._experiment(content))
        told = {key: value for key, value in config.items() if key not in NOT_OF_THE_EXPERIMENT}
        text = json.dumps([told, origin_in(content).fingerprint], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def versions(self) -> dict[str, str]:
        """The versions and plugins that the run was made with, and torch's threads where they were recorded."""
        return dict(self._whole_config().get("versions") or {})

    @property
    def plugins(self) -> list[str]:
        """The plugins that the run had."""
        return [key.removeprefix(PLUGIN) for key in self.versions if key.startswith(PLUGIN)]

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json; undefined numbers are None. AqaError if it is no such file."""
        path = self.path / METRICS
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise AqaError(f"{path} cannot be read: {first_line(error)}") from None
        if not isinstance(metrics, dict):
            raise AqaError(f"{path} holds no mapping")
        return metrics

    def foreign_file(self, metrics: Mapping[str, Any]) -> str:
        """Which file of a finished run is not the one that its metrics were written with, in a line; "" for none.

        Runs of version 0.1 state no digests.
        """
        stated = metrics.get("files")
        digests = stated if isinstance(stated, Mapping) else {}
        for name in BOUND:
            if name in digests and has_file(self.path / name) and self._digest(name) != digests[name]:
                return (
                    f"{self.path / name} does not belong to {METRICS} beside it: it is of another run, or was changed"
                )
        return ""

    def _digest(self, name: str) -> str:
        return self.identity if name == CONFIG else digest_of_archive(self.path / name)

    def holds(self, config: Mapping[str, Any], fingerprint: str | None = None) -> bool:
        """Whether the folder is a run's of this very experiment, begun or finished."""
        return self.is_run and not self._difference(config, fingerprint)

    def _difference(self, config: Mapping[str, Any], fingerprint: str | None) -> str:
        """In what the folder's experiment differs from another, in a line; "" where it does not."""
        here, there = flat(config), flat(self.config)
        if here.get("model.name") == there.get("model.name"):  # then by all options, given or not: defaults change
            here, there = with_all_options(here, all_options(config)), with_all_options(there, self.model_options)
        for key in [*here, *there]:
            known = there.get(key, DEFAULTS_OF_OLDER_RUNS.get(key))
            if here.get(key) != known and key not in NOT_OF_THE_EXPERIMENT:
                return f"{self.path} holds another experiment ({key} is {known!r} there, {here.get(key)!r} here)"
        before = self.origin.fingerprint
        if before is None or fingerprint is None or before == fingerprint:
            return ""
        store, was = str(here["data.store"]), str(there["data.store"])
        if os.path.realpath(store) == was:
            return f"{store} has changed since {self.path} was made from it"
        contents = f"{before[:FINGERPRINT_SHOWN]} there, {fingerprint[:FINGERPRINT_SHOWN]} here"
        return f"{self.path} holds a run on {was}, not on {store}, and what is in them differs ({contents})"

    def _clear(self) -> None:
        """Remove a run's files, and those of its folds."""
        for fold in self.folds:
            if fold.is_run:
                fold.require_unused()
                fold._clear()
                with contextlib.suppress(OSError):  # something else lies there
                    (fold.path / FIGURES).rmdir()
                with contextlib.suppress(OSError):
                    fold.path.rmdir()
        self._tidy()
        for figure in (self.path / FIGURES).glob("*.png"):
            figure.unlink()
        for name in OWN_FILES:
            (self.path / name).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what a run leaves that is killed: half-written files, and the state of one that had just finished."""
        for name in OWN_FILES:
            clear_leftovers(self.path / name)
        if self.status == "finished":
            with contextlib.suppress(OSError):  # a finished run may lie where nothing can be changed
                (self.path / STATE).unlink(missing_ok=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Save what training needs to be resumed."""
        self._save(STATE, state)

    def load_state(self) -> dict[str, Any] | None:
        """The state to resume from, None if there is none."""
        path = self.path / STATE
        return load_torch(path) if has_file(path) else None

    def finish(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Write metrics.json, which makes the run finished; the saved state has done its work.

        Returns what is in it: the metrics, and digests of the files that they belong to.
        """
        if not self.is_run:
            raise AqaError(f"{self.path / CONFIG} is gone: somebody removed it while the run went on")
        files = {name: self._digest(name) for name in BOUND if (self.path / name).is_file()}
        content = {**plain(metrics), "files": files}
        write_text(self.path / METRICS, json.dumps(content, indent=2, allow_nan=False) + "\n")
        (self.path / STATE).unlink(missing_ok=True)
        return content

    def save_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Save the selected weights and all that scoring with them needs."""
        self._save(CHECKPOINT, checkpoint)

    def load_checkpoint(self) -> dict[str, Any]:
        """The selected weights and all that scoring with them needs."""
        if not has_file(self.path / CHECKPOINT):
            raise AqaError(
                f"{self.path} has no {CHECKPOINT}: it was deleted, and nothing can be scored without it; "
                "train again with the same `aqa run` and --overwrite"
            )
        return load_torch(self.path / CHECKPOINT)

    def save_held_out(self, residuals: Mapping[str, Any]) -> None:
        """Save what a fold adds to the intervals of new videos."""
        self._save(HELD_OUT, residuals)

    def load_held_out(self) -> dict[str, Any] | None:
        """What a fold adds to the intervals of new videos; None of a fold of an older version."""
        return load_torch(self.path / HELD_OUT) if has_file(self.path / HELD_OUT) else None

    def _save(self, name: str, content: Mapping[str, Any]) -> None:
        import torch

        with written_whole(self.path / name) as partial, sink(partial) as file:
            torch.save(dict(content), file)

    def save_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write history.csv, a row an epoch."""
        import pandas as pd

        write_table(self.path / HISTORY, pd.DataFrame(list(history)).astype({"epoch": int}))

    def log(self, line: str) -> None:
        """Add a line to log.txt."""
        has_file(self.path / LOG)  # a pipe would be waited for
        try:
            with open(self.path / LOG, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise AqaError(f"{self.path / LOG} cannot be written: {error.strerror or error}") from None


def unrecorded_text(folder: RunFolder) -> str:
    """What is said of a run that does not know its store."""
    version = folder.versions.get("aqa", "an earlier version")
    return f"{folder.path} was made by aqa {version}, which did not record what was in its store"


def changes_of_stores(runs: Iterable[tuple[Path, Origin]]) -> list[str]:
    """A line for each store that has changed since runs were made, and one for runs that do not know.

    runs: the folder of each, and what it records of its store.
    """
    changed: dict[Path, list[Path]] = defaultdict(list)
    unrecorded = []
    for path, origin in runs:
        if origin.fingerprint is None:
            unrecorded.append(path)
        elif (store := changed_store(origin, path)) is not None:
            changed[store].append(path)
    lines = [f"{store} has changed since {_some(made)} made from it" for store, made in changed.items()]
    if unrecorded:
        lines.append(f"{_some(unrecorded)} made by a version that did not record what was in the store")
    return [printable(line) for line in lines]


def _some(paths: Sequence[Path]) -> str:
    return f"{paths[0]} was" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more runs were"


def all_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an experiment's model, defaults filled in."""
    from aqa.models import check  # seconds to import, and finished runs are read without it

    given = config.get("model")
    if given is None:
        return {}
    return plain(check(given["name"], {name: given[name] for name in given if name != "name"}))


def with_all_options(settings: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted key, with these options of the model in the place of those that were given."""
    kept = {key: value for key, value in settings.items() if key == "model.name" or not key.startswith("model.")}
    return {**kept, **flat(options, "model.")}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found
