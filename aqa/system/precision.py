"""The precision of training: float32, TF32 products of a GPU, or bfloat16 by autocast.

Weights, the optimizer, losses and the statistics of normalization are float32 in each of them. Scoring is always in
float32, so that what a table says is what the checkpoint gives anywhere, whatever it was trained in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from aqa.errors import AqaError

Precision = Literal["float32", "tf32", "bf16"]

TENSOR_CORES = (8, 0)  # the compute capability from which a GPU has TF32 and bfloat16 (Ampere)


def require_precision(precision: Precision, device: torch.device) -> list[str]:
    """What a user should know of a precision on a device; AqaError if a GPU does not have it."""
    if precision == "float32":
        return []
    if device.type != "cuda":
        return ["train.precision tf32 is of GPUs: on this CPU it is float32"] if precision == "tf32" else []
    if torch.cuda.get_device_capability(device) < TENSOR_CORES:
        raise AqaError(f"train.precision {precision}: {torch.cuda.get_device_name(device)} has none; use float32")
    return []


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Inside, a GPU's products and convolutions of float32 numbers are in TF32 for "tf32", in float32 otherwise.

    Torch's own default is TF32 for convolutions. What was set before is set again afterwards.
    """
    settings: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [setting.allow_tf32 for setting in settings]
    try:
        for setting in settings:
            setting.allow_tf32 = precision == "tf32"
        yield
    finally:
        for setting, allowed in zip(settings, before, strict=True):
            setting.allow_tf32 = allowed


def at_least_float32(x: Tensor) -> Tensor:
    """Numbers in float32 where they are narrower; float64 stays, in which tests compare."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Inside, products take bfloat16 numbers for "bf16"; nothing changes otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
