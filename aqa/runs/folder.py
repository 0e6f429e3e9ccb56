"""A run's folder: resolved config, checkpoint, metrics, predictions, history and log.

Every file appears whole or not at all. A folder is new, unfinished (it holds a saved state to go on from) or finished
(it holds metrics.json); what is in it is never overwritten unasked.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from aqa import plugins
from aqa.config.schema import DEFAULTS_OF_OLDER_RUNS
from aqa.config.yaml import MOST_BYTES, refuse_unfolding
from aqa.errors import AqaError, first_line
from aqa.system.files import clear_leftovers, has_file, partials, plain, sink, write_table, write_text, written_whole
from aqa.system.torch_files import load_torch
from aqa.version import __version__

CONFIG, STATE, CHECKPOINT, METRICS = "config.yaml", "state.pt", "checkpoint.pt", "metrics.json"
HISTORY, PREDICTIONS, LOG, FIGURES = "history.csv", "predictions.csv", "log.txt", "figures"
ERRORS = "errors"  # beside the runs of a sweep: what was wrong with those that failed
PLUGIN = "plugin "  # before the name of one among the versions
# In the order in which they are removed: without metrics a run is not finished; with a config a folder is a run's.
OWN_FILES = (METRICS, STATE, CHECKPOINT, HISTORY, PREDICTIONS, LOG, CONFIG)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where PyYAML was built with it


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


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    @classmethod
    def start(cls, path: str | os.PathLike[str], config: Mapping[str, Any], overwrite: bool) -> RunFolder:
        """Create the folder, or take up the one that holds the same experiment.

        config: everything that decides the run's numbers. AqaError where the folder holds another experiment or is not
        a run's folder; with `overwrite` the former's files are removed instead (and no others).
        """
        run = cls(path)
        if run.path.exists() and not run._is_empty:
            if not run.is_run:
                raise AqaError(f"{run.path} exists and is no run's folder; name another with output=DIR")
            if overwrite:
                run._clear()
            else:
                run._require_same(config)
                run._tidy()
                if run.status != "new":
                    return run
        run.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({**config, "versions": versions()}, sort_keys=False, allow_unicode=True)
        write_text(run.path / CONFIG, text)
        return run

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A folder with a finished run; AqaError otherwise."""
        run = cls(path)
        if not run.is_run:
            raise AqaError(f"{run.path} is no run's folder: it has no {CONFIG} that a run wrote")
        if run.status != "finished":
            raise AqaError(f"{run.path} is unfinished; start its `aqa run` again to go on from where it stopped")
        return run

    @property
    def _is_empty(self) -> bool:
        """Whether nothing is in it but what a run leaves that is killed while it writes its first file."""
        return self.path.is_dir() and set(self.path.iterdir()) <= set(partials(self.path / CONFIG))

    @property
    def is_run(self) -> bool:
        """Whether a run wrote this folder."""
        try:
            config = self._whole_config()
        except (OSError, ValueError, yaml.YAMLError):
            return False
        return isinstance(config, dict) and "versions" in config

    def _whole_config(self) -> dict[str, Any]:
        path = self.path / CONFIG
        if not has_file(path):
            raise FileNotFoundError(path)
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        refuse_unfolding(text, LOADER)
        return yaml.load(text, Loader=LOADER)

    @property
    def status(self) -> Literal["new", "unfinished", "finished"]:
        """Whether the run still has to begin, can go on from a saved state, or is done."""
        if has_file(self.path / METRICS):
            return "finished"
        return "unfinished" if has_file(self.path / STATE) else "new"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved experiment, without versions."""
        config = self._whole_config()
        config.pop("versions", None)
        return config

    @property
    def versions(self) -> dict[str, str]:
        """The versions and plugins that the run was made with."""
        return dict(self._whole_config().get("versions") or {})

    @property
    def plugins(self) -> list[str]:
        """The plugins that the run had."""
        return [key.removeprefix(PLUGIN) for key in self.versions if key.startswith(PLUGIN)]

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json; undefined numbers are None. AqaError where it is no such file."""
        path = self.path / METRICS
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise AqaError(f"{path} cannot be read: {first_line(error)}") from None
        if not isinstance(metrics, dict):
            raise AqaError(f"{path} holds no mapping")
        return metrics

    def _require_same(self, config: Mapping[str, Any]) -> None:
        here, there = flat(config), flat(self.config)
        for key in [*here, *there]:
            known = there.get(key, DEFAULTS_OF_OLDER_RUNS.get(key))
            if here.get(key) != known:
                difference = f"{key} is {known!r} there, {here.get(key)!r} here"
                raise AqaError(
                    f"{self.path} holds another experiment ({difference}); "
                    "name another folder with output=DIR, or replace it with --overwrite"
                )

    def _clear(self) -> None:
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
        """Save what training needs to go on."""
        self._save(STATE, state)

    def load_state(self) -> dict[str, Any] | None:
        """The state to go on from, None where there is none."""
        path = self.path / STATE
        return load_torch(path) if has_file(path) else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, which makes the run finished; the saved state has done its work."""
        if not self.is_run:
            raise AqaError(f"{self.path / CONFIG} is gone: somebody removed it while the run went on")
        write_text(self.path / METRICS, json.dumps(plain(metrics), indent=2, allow_nan=False) + "\n")
        (self.path / STATE).unlink(missing_ok=True)

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

    def _save(self, name: str, content: Mapping[str, Any]) -> None:
        import torch

        with written_whole(self.path / name) as partial, sink(partial) as file:
            torch.save(dict(content), file)

    def save_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write history.csv, a row an epoch."""
        write_table(self.path / HISTORY, pd.DataFrame(list(history)).astype({"epoch": int}))

    def log(self, line: str) -> None:
        """Add a line to log.txt."""
        has_file(self.path / LOG)  # a pipe would be waited for
        try:
            with open(self.path / LOG, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise AqaError(f"{self.path / LOG} cannot be written: {error.strerror or error}") from None


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found
