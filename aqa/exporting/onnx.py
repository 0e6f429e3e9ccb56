"""A run as an ONNX file, by torch's exporter of programs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, first_line
from aqa.exporting.program import Program
from aqa.exporting.verify import Scores

OPSET = 18
LENGTHS, SCORE = "lengths", "score"


def require_onnx(streams: Collection[str]) -> None:
    """AqaError where what writes and runs ONNX is not installed, or a stream has the name of another input."""
    lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if lacking:
        raise AqaError(
            f"--format onnx needs {' and '.join(lacking)}, which is not installed: pip install 'aqa-incomplete[onnx]'"
        )
    if {LENGTHS, SCORE} & set(streams):
        raise AqaError(f"--format onnx: a stream called {LENGTHS} or {SCORE} has the name of another input or output")


def write_onnx(program: Program, traced: torch.export.ExportedProgram, path: Path) -> None:
    """Write a traced program as ONNX: inputs by the names of the streams and "lengths", output "score".

    AqaError for an operation that ONNX does not have.
    """
    loggers = {name: logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)  # they speak of libraries that are not needed, and of steps that they skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=OPSET,
                input_names=[*program.widths, LENGTHS],
                output_names=[SCORE],
                verbose=False,
            )
        assert made is not None
        made.save(str(path))
    except Exception as error:  # of torch's exporter, of many kinds
        raise AqaError(f"this model cannot be written as ONNX: {first_line(error)}") from error
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])


def onnx_scores(path: Path) -> Scores:
    """What an ONNX file gives, by onnxruntime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def scores(streams: Mapping[str, Tensor], lengths: Tensor) -> NDArray[np.float64]:
        given = {m: clips.numpy() for m, clips in streams.items()}
        return np.asarray(session.run([SCORE], {**given, LENGTHS: lengths.numpy()})[0])

    return scores
