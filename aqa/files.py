"""Files that appear whole or not at all, and checkpoints read without running code from them."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aqa.errors import AqaError, first_line

if TYPE_CHECKING:
    import pandas as pd


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """AqaError where a file is there already that would be replaced unasked."""
    if os.path.exists(path) and not overwrite:
        raise AqaError(f"{path} exists; choose another --out, or replace it with --overwrite")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    try:
        yield Path(partial)
        with open(partial, "rb") as written:  # on the disk before it has the name
            os.fsync(written.fileno())
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file whole or not at all; undefined numbers become empty cells."""
    with written_whole(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def plain(value: Any) -> Any:
    """What strict JSON can hold: a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def load_torch(path: Path) -> Any:
    """A checkpoint or state, read without running code from it."""
    import torch  # seconds to import, and stores are inspected without it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a refusal is one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader fails in many ways on a damaged file: KeyError, struct.error ...
        raise AqaError(f"{path} is refused: {first_line(error)}") from None
