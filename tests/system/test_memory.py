"""How much memory is said to be free."""

from __future__ import annotations

import torch

from aqa.system import memory


def test_free_memory_is_what_the_system_says(tmp_path, monkeypatch):
    said, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    said.write_text("MemTotal: 9 kB\nMemAvailable:   5 kB\n")
    assert memory._available(str(said)) == 5 * 1024
    assert memory._available(str(tmp_path / "none")) > 2**20  # all that the machine has
    limit.write_text("max\n")
    assert memory._limit(str(limit)) is None
    assert memory._limit(str(tmp_path / "none")) is None
    limit.write_text("4096\n")
    assert memory._limit(str(limit)) == 4096
    monkeypatch.setattr(memory, "_limit", lambda: 7)
    assert memory.free_memory(torch.device("cpu")) == 7
