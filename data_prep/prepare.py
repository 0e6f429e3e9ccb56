"""What `aqa prepare` does: find the data set by name and write its feature store."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from aqa.data_prep import DATASETS
from aqa.errors import AqaError, nearest
from aqa.store.synthetic import make_synthetic
from aqa.system.files import refuse_existing

from .convert import OnError, convert
from .files import macos_note

SYNTHETIC = "synthetic"


def prepare(
    name: str,
    out: Path,
    *,
    source: Path | None = None,
    on_error: str = "refuse",
    preset: str | None = None,
    seed: int = 0,
    samples: int | None = None,
    overwrite: bool = False,
) -> str:
    """Write the feature store of a data set and say what is in it.

    source: where the published files are, for the data sets that have some. preset, seed, samples (videos a split
    at most): for name "synthetic".
    on_error: "refuse" writes nothing if any video has a problem, "skip" leaves those videos out and lists them.
    """
    if name == SYNTHETIC:
        if source is not None:
            raise AqaError("aqa prepare synthetic makes its own data and takes no --source")
        if preset is None:
            raise AqaError("aqa prepare synthetic needs --preset: fisv, rg, fs1000 or tiny")
        make_synthetic(preset, out, seed=seed, overwrite=overwrite, samples=samples)
        return f"{out}: synthetic data set '{preset}', seed {seed}"
    known = [*DATASETS.names(), SYNTHETIC]
    if name not in known:
        raise AqaError(f"unknown data set '{name}': {nearest(name, known)}")
    for option, value in (("--preset", preset), ("--samples", samples)):
        if value is not None:
            raise AqaError(f"{option} goes with 'synthetic', not with '{name}'")
    if source is None:
        raise AqaError(f"aqa prepare {name} needs --source, the folder of the published files")
    if not source.exists():
        raise AqaError(f"--source {source} does not exist")
    if on_error not in ("refuse", "skip"):
        raise AqaError(f"--on-error is '{on_error}': {nearest(on_error, ('refuse', 'skip'))}")
    refuse_existing(out, overwrite)  # said before the long reading, not after it
    published = DATASETS.get(name).make(source)
    summary = str(convert(published, out, on_error=cast(OnError, on_error), overwrite=overwrite))
    return "\n".join(filter(None, (summary, macos_note(source))))
