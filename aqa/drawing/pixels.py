"""Figures as files of pixels.

A sweep draws thousands of figures, so that this is written for speed.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aqa.system.files import written_whole
from aqa.system.garbage import uncollected

DPI = 150
COMPRESSION = 3  # of 9; the usual 6 takes twice as long for a file that is a twentieth smaller
SIGNATURE, TRUE_COLOUR, AS_ABOVE = b"\x89PNG\r\n\x1a\n", 2, 2  # of the PNG standard: kinds of image, filters of a row


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """What a figure is drawn in. Names come from files, and a dollar in one is a dollar."""
    with uncollected(), matplotlib.rc_context({"text.parse_math": False, "text.color": "black"}):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write the pixels of a figure, on white."""
    figure.set_dpi(DPI)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with written_whole(path) as partial:
        partial.write_bytes(png(np.asarray(canvas.buffer_rgba())))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels (rows, columns, red green blue and what else there is).

    Each row is written as what differs from the one above, mostly nothing in a figure. matplotlib's own writer tries
    five ways for each row, and writes a fourth number of a pixel: it takes three times as long for a larger file.
    """
    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = AS_ABOVE
    for i in range(3):
        rows[0, 1 + i :: 3] = pixels[0, :, i]
        # Of bytes, modulo 256 as the standard has it.
        np.subtract(pixels[1:, :, i], pixels[:-1, :, i], out=rows[1:, 1 + i :: 3])
    about = struct.pack(">IIBBBBB", width, height, 8, TRUE_COLOUR, 0, 0, 0)
    density = struct.pack(">IIB", *[round(DPI / 0.0254)] * 2, 1)  # dots a metre
    parts = ((b"IHDR", about), (b"pHYs", density), (b"IDAT", zlib.compress(rows.data, COMPRESSION)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
