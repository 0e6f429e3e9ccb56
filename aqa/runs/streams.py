"""Files of features to be predicted, in the place of a store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aqa.data_prep.convert import convert
from aqa.data_prep.table import by_name, rates, read_table_data, table_config
from aqa.errors import AqaError, nearest

ADVICE = "mend or remove these files"


@contextmanager
def store_to_predict(
    store: str | os.PathLike[str] | None,
    stream: Mapping[str, str] | Sequence[str] | None,
    rate: Mapping[str, float] | Sequence[str] | None,
    widths: Mapping[str, int],
) -> Iterator[Path]:
    """The path of a store: the one given, or one made of the streams for as long as the block lasts.

    widths: channels by modality, of the model. AqaError where neither or both are given, for a stream that the model
    does not know, and for one of another width.
    """
    streams = by_name(stream, "--stream", "visual='new/{id}.npy'")
    if (store is None) != bool(streams):
        raise AqaError("aqa predict needs --store or --stream, one of them: a feature store, or files of features")
    if store is not None:
        if rate:
            raise AqaError("--rate goes with --stream; a store says itself how long its clips take")
        yield Path(store)
        return
    for name in streams:
        if name not in widths:
            raise AqaError(f"--stream {name}: the model has no such modality: {nearest(name, widths)}")
    published = read_table_data(table_config(None, {"stream": streams, "rate": rates(rate)}), "predict", True)
    for name, found in published.streams.items():
        if found.width != widths[name]:
            raise AqaError(
                f"--stream {name}={streams[name]}: {found.width} channels, the model was trained on {widths[name]}"
            )
    with tempfile.TemporaryDirectory(prefix="aqa-") as folder:
        path = Path(folder) / "streams.h5"
        convert(published, path, advice=ADVICE)
        yield path
