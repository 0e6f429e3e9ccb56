"""Files that appear whole or not at all, and checkpoints read without running code from them."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aqa.errors import AqaError, first_line, printable
from aqa.pickles import Refused, examine

if TYPE_CHECKING:
    import pandas as pd

LEGACY_PICKLES = 5  # that torch wrote one after the other before it wrote archives: two numbers, sizes, content, keys
# What tensors and containers of them are pickled with.
_WEIGHTS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|__builtin__\.set|builtins\.set"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)"
    r"|torch\.(storage\.)?\w*Storage|torch\.(Size|device)|torch\.(bool|u?int\d+|b?float\d+|complex\d+)"
)


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
    """A checkpoint or state, read without running code from it; AqaError, one line, for anything else."""
    import torch  # seconds to import, and stores are inspected without it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a refusal is one line
            _examine(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Refused as refused:
        raise AqaError(
            f"{path} is refused: it asks for {printable(str(refused))}; weights need no such thing"
        ) from None
    except Exception as error:  # torch's reader fails in many ways on a damaged file: KeyError, struct.error ...
        raise AqaError(f"{path} is refused: {first_line(error)}") from None


def _examine(path: Path) -> None:
    """Refused, or ValueError, where a checkpoint would do more than fill tensors with the bytes that it holds."""
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                examine(file, _of_weights, persistent=True)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Refused("unpacking")  # torch packs nothing, and a packed megabyte may unpack to a gigabyte
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise Refused("more bytes than it holds")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                with archive.open(entry) as pickled:
                    examine(io.BytesIO(pickled.read()), _of_weights, persistent=True)


def _of_weights(name: str) -> bool:
    return _WEIGHTS.fullmatch(name) is not None
