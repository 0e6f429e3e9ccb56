"""Small arrays on their way to the device, and memory that stays with the process."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from aqa.errors import AqaError, nearest

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device, sent there without waiting for the work that is queued before it."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next step of training, which takes as much again.

    A large array is otherwise given back to the system when it is freed, and the system clears every page it hands out,
    which on a CPU shows in a training step. Arrays of 256 MiB and more are still given back at once, and what is free
    beyond 2 GiB at the end of the heap. For processes that are ours; where the C library is not glibc nothing changes.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_MMAP_THRESHOLD, 2**28)
        set_option(_TRIM_THRESHOLD, 2**31 - 1)


DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device to compute on; "auto" takes a GPU where there is one. AqaError for a GPU that is not there."""
    if name not in DEVICES:
        raise AqaError(f"unknown device '{name}': {nearest(name, DEVICES)}")
    if threads is not None:
        torch.set_num_threads(threads)
    if name == "cuda" and not torch.cuda.is_available():
        raise AqaError("device cuda: torch sees no GPU here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
