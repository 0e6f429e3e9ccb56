"""The random numbers of training: where torch's generators are, and bringing them back there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def random_state() -> dict[str, Any]:
    """The state of torch's generators, of the CPU and, where this process uses them, of each GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # which is not to be started for this
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Let torch's generators continue from a state."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
