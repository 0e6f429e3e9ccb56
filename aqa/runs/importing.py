"""A finished run made of a checkpoint that the authors of a method publish: scored, but not trained."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aqa.config.load import load_experiment
from aqa.config.overrides import parse_override
from aqa.config.schema import Experiment
from aqa.errors import AqaError, brief, nearest
from aqa.features.cache import FeatureLoader
from aqa.models.base import AQAModel
from aqa.models.published import find_method, read_published
from aqa.runs.evaluate import Result
from aqa.runs.folder import RunFolder
from aqa.runs.load import require_prepared
from aqa.runs.prepare import Prepared, prepare
from aqa.runs.run import conclude, threads_restored
from aqa.runs.selection import UNKNOWN
from aqa.runs.table import result_table
from aqa.store.fingerprint import fingerprint_at
from aqa.store.store import FeatureStore
from aqa.system.saying import Say, silent
from aqa.training.loop import Progress

# Keys beside `train` that say nothing of weights that were trained elsewhere: config.yaml does not have them.
OF_TRAINING = (("missing", "train"), ("select", "metric"), ("select", "pattern"), ("data", "validation"))
READ_AT_ONCE = 2**20  # bytes of a file


def import_published(
    method: str,
    file: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: str | None = None,
    option: Mapping[str, Any] | Sequence[str] | None = None,
    modality: Mapping[str, str] | Sequence[str] | None = None,
    clips: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    say: Say = silent,
) -> Result:
    """Make a finished run of a checkpoint that a method's authors publish, which is scored on a store's test split.

    method: as in `load_published`. file: .pkl, .pt or .pth, read without running code from it. like: a feature store
    with the splits train and test, whose streams the checkpoint takes; the model's scores in [0, 1] are stretched to
    the range of its target. out: the run's folder. target: needed where the store has several. option: what weights do
    not show, such as {"n_head": 2} or ["n_head=2"]. modality: what a modality of the checkpoint is called in the store,
    such as {"v": "rgb"} or ["v=rgb"]. clips: of a window; as many as the longest video of split train by default.
    Intervals are made from the split valid, where there is one. What the epoch was selected on is not known, and is
    said to be unknown. AqaError for any mistake, and where `out` exists, unless `overwrite`.
    """
    folder = RunFolder(out)
    _require_free(folder, overwrite)
    known = find_method(method)
    require_prepared(str(like))
    with FeatureStore(like) as store:
        target = _target(store, target)
    model, options = _read(method, file, _named(modality), _options(option), say)
    with FeatureStore(like) as store:
        _require_widths(store, model, {here: there for there, here in {**known.streams, **_named(modality)}.items()})
    config = load_experiment(
        {
            "name": f"{method}-imported",
            "data": {"store": str(like), "target": target, "modalities": list(model.widths), "clips": clips},
            "model": {"name": known.model, **options},
            "missing": {"train": "none"},
            "train": {"device": device},
            "select": {"split": UNKNOWN},
            "imported": {"method": method, "file": os.path.abspath(file), "sha256": _digest(file)},
        }
    )
    fingerprint = fingerprint_at(config.data.store)
    with threads_restored():
        prepared = prepare(config, FeatureLoader(), silent)
        if prepared.fingerprint != fingerprint:
            raise AqaError(f"{like} was changed while it was being read; import it again")
        _require_window(prepared, clips)
        prepared.scorer.model.load_state_dict(model.state_dict())
        with folder.held(say):
            folder = RunFolder.start(out, _recorded(config), overwrite, fingerprint, torch.get_num_threads())
            metrics = conclude(prepared, Progress(), folder)
        folder.log(result_table(metrics))
    return Result(folder.path, metrics)


def _require_free(folder: RunFolder, overwrite: bool) -> None:
    """AqaError where something is in the run's folder already that is not to be replaced."""
    folder.require_unused()
    path = folder.path
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not folder.is_run:
        raise AqaError(f"--out {path}: it exists and is no run's folder; name another")
    if not overwrite:
        raise AqaError(f"--out {path}: it holds a run; name another folder, or replace it with --overwrite")


def _target(store: FeatureStore, asked: str | None) -> str:
    """The target that is asked for, or the only one."""
    names = list(store.targets)
    if asked is None and len(names) != 1:
        raise AqaError(f"{store.path} has {len(names)} targets; say with --target which: {', '.join(names)}")
    if asked is not None and asked not in names:
        raise AqaError(f"--target: {store.path} has no target '{asked}': {nearest(asked, names)}")
    return names[0] if asked is None else asked


def _options(given: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Options of the model, typed as key=value or given as a mapping."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    found: dict[str, Any] = {}
    for text in given:
        name, equals, _ = text.partition("=")
        if not equals or not name.strip():
            raise AqaError(f"--option {brief(text)}: write key=value, such as n_head=2")
        key, value = parse_override(f"model.{text.strip()}")
        found[key.removeprefix("model.")] = value
    return found


def _named(given: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """What modalities of the checkpoint are called in the store."""
    if given is None or isinstance(given, Mapping):
        return dict(given or {})
    pairs = [text.partition("=") for text in given]
    for theirs, _, ours in pairs:
        if not theirs or not ours:
            raise AqaError(f"--modality {brief(theirs or ours)}: write THEIRS=OURS, such as v=rgb")
    return {theirs: ours for theirs, _, ours in pairs}


def _read(
    method: str, file: str | os.PathLike[str], modality: Mapping[str, str], options: Mapping[str, Any], say: Say
) -> tuple[AQAModel, dict[str, Any]]:
    """The model with its authors' weights and all its options; what was left out of the file is said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, known = read_published(method, os.fspath(file), modality, options)
    for warning in caught:
        say(str(warning.message))
    return model, known


def _require_widths(store: FeatureStore, model: AQAModel, theirs: Mapping[str, str]) -> None:
    """AqaError where the store's streams are not those that the checkpoint takes. theirs: its names by ours."""
    for name, width in model.widths.items():
        if name not in store.modalities:
            hint = nearest(name, store.modalities)
            raise AqaError(
                f"{store.path} has no modality '{name}', which the checkpoint takes: {hint}; --modality "
                f"{theirs[name]}=NAME says what it is called there"
            )
        if store.widths[name] != width:
            raise AqaError(
                f"{store.path}: modality '{name}' has {store.widths[name]} channels, and the checkpoint takes {width}"
            )


def _require_window(prepared: Prepared, asked: int | None) -> None:
    """AqaError where the window that is asked for would not be taken: scores may depend on the padding in it."""
    if asked is not None and prepared.scorer.clips != asked:
        raise AqaError(
            f"--clips {asked}: the longest video of split train has {prepared.scorer.clips} clips; the rest would be "
            "padding"
        )


def _digest(file: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _recorded(config: Experiment) -> dict[str, Any]:
    """What the run's config.yaml says: nothing of training."""
    content = {**config.resolved(), "imported": config.imported}
    del content["train"]
    for section, key in OF_TRAINING:
        del content[section][key]
    return content
