"""How much memory is free where features go."""

from __future__ import annotations

import os
from pathlib import Path

import torch

GIB = 2**30


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None if the system does not say.

    Of the machine's memory what is in use by files counts as free, and a container's or job's limit counts.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [number for number in (_available(), _limit()) if number is not None]
    return min(limits, default=None)


def _available(path: str = "/proc/meminfo") -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None


def _limit(path: str = "/sys/fs/cgroup/memory.max") -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such limit: the file is missing, or says max
        return None
