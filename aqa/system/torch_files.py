"""Checkpoints read without running code from them."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from aqa.errors import AqaError, first_line, printable
from aqa.system.files import has_file
from aqa.system.pickles import Refused, examine

LEGACY_PICKLES = 5  # that torch wrote one after the other before it wrote archives: two numbers, sizes, content, keys
# What tensors and containers of them are pickled with.
_WEIGHTS = re.compile(
    r"collections\.OrderedDict|_codecs\.encode|__builtin__\.set|builtins\.set"
    r"|torch\._utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)"
    r"|torch\.(storage\.)?\w*Storage|torch\.(Size|device)|torch\.(bool|u?int\d+|b?float\d+|complex\d+)"
)


def load_torch(path: Path) -> Any:
    """A checkpoint or state, read without running code from it; AqaError, one line, for anything else."""
    if not has_file(path):
        raise AqaError(f"no checkpoint at {path}")
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


def digest_of_archive(path: Path) -> str:
    """What tells a file of `torch.save` from another, by the checksums in its list of contents: the rest is not read.

    Of a file that is not an archive, the digest of all its bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
        return hashlib.sha256(repr(entries).encode()).hexdigest()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return hashlib.sha256(path.read_bytes()).hexdigest()


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
