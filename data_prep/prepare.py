"""What `aqa prepare` does: find the data set by name and write its feature store."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from aqa.data_prep import DATASETS
from aqa.errors import AqaError, nearest
from aqa.store.synthetic import make_synthetic
from aqa.system.files import refuse_existing

from .convert import OnError, Published, convert
from .files import macos_note
from .table import by_name, rates, read_table_data, table_config
from .words import option

SYNTHETIC, TABLE = "synthetic", "table"


def prepare(
    name: str,
    out: Path,
    *,
    source: Path | None = None,
    on_error: str = "refuse",
    unlabelled: bool = False,
    preset: str | None = None,
    seed: int = 0,
    samples: int | None = None,
    labels: str | None = None,
    pack: str | None = None,
    stream: Mapping[str, str] | Sequence[str] | None = None,
    id: str | None = None,
    target: Sequence[str] | None = None,
    split: str | None = None,
    group: Sequence[str] | None = None,
    fold: Sequence[str] | None = None,
    rate: Mapping[str, float] | Sequence[str] | None = None,
    config: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Write the feature store of a data set and say what is in it.

    source: where the published files are, for the data sets that have some. unlabelled: there are no label files; the
    videos can be predicted. preset, samples (videos a split at most): for name "synthetic". seed: of the synthetic
    data, or of the split that "table" draws.
    labels, pack, stream, id, target, split, group, fold, rate, config: own data, for name "table", in the words of the
    command line; stream and rate may be mappings by name.
    on_error: "refuse" writes nothing if any video has a problem, "skip" leaves those videos out and lists them.
    """
    words = {
        **{"labels": labels, "pack": pack, "id": id, "target": _listed(target), "split": split},
        **{"group": _listed(group), "fold": _listed(fold), "stream": by_name(stream, "--stream", "visual=f/{id}.npy")},
        "rate": rates(rate),
    }
    known = [*DATASETS.names(), SYNTHETIC, TABLE]
    if name not in known:
        raise AqaError(f"unknown data set '{name}': {nearest(name, known)}")
    _require_options(name, SYNTHETIC, {"preset": preset, "samples": samples})
    _require_options(name, TABLE, {**words, "config": config})
    if on_error not in ("refuse", "skip"):
        raise AqaError(f"{option('on_error')} is '{on_error}': {nearest(on_error, ('refuse', 'skip'))}")
    out = Path(out)
    if name in (SYNTHETIC, TABLE) and source is not None:
        raise AqaError(
            f"aqa prepare synthetic makes its own data and takes no {option('source')}"
            if name == SYNTHETIC
            else f"aqa prepare table takes no {option('source')}; files are named by --labels and --stream, or --pack"
        )
    if name == SYNTHETIC:
        if unlabelled:
            raise AqaError(f"{option('unlabelled')} goes with files, not with 'synthetic'")
        if preset is None:
            raise AqaError(
                f"aqa prepare synthetic needs {option('preset')}: tiny, fisv, rg, fs1000, moments ... (docs/data.md)"
            )
        make_synthetic(preset, out, seed=seed, overwrite=overwrite, samples=samples)
        return f"{out}: synthetic data set '{preset}', seed {seed}"
    refuse_existing(out, overwrite)  # said before the long reading, not after it
    if name == TABLE:
        published = read_table_data(table_config(config, {**words, "seed": seed or None}), out.stem, unlabelled)
    else:
        published = _published(name, source, unlabelled)
    summary = str(convert(published, out, on_error=cast(OnError, on_error), overwrite=overwrite))
    return "\n".join(filter(None, (summary, macos_note(source) if source is not None else "")))


def _published(name: str, source: Path | None, unlabelled: bool) -> Published:
    """A published data set, read from its files."""
    if source is None:
        raise AqaError(f"aqa prepare {name} needs {option('source')}, the folder of the published files")
    if not source.exists():
        raise AqaError(f"{option('source')}: {source} does not exist")
    make = DATASETS.get(name).make
    if not unlabelled:
        return cast(Published, make(source))
    if "unlabelled" not in inspect.signature(make).parameters:
        raise AqaError(f"{option('unlabelled')}: data set '{name}' is read with its labels only")
    published = cast(Published, make(source, unlabelled=True))
    return replace(published, labels={}, splits={}, groups={}, complete=False)


def _require_options(name: str, data_set: str, options: Mapping[str, Any]) -> None:
    """AqaError for an option that another data set takes."""
    for key, value in options.items():
        if value not in (None, [], {}) and name != data_set:
            raise AqaError(f"{option(key)} goes with '{data_set}', not with '{name}'")


def _listed(given: Sequence[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())
