"""Checkpoints are read without running anything in them; damaged ones are refused in one line."""

from __future__ import annotations

import random
import zipfile

import pytest
import torch

from aqa.errors import AqaError
from aqa.system.torch_files import load_torch


def test_a_checkpoint_that_unpacks_is_refused(tmp_path):
    torch.save({"a": 1}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "x.pt", "w", compression=zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(AqaError, match=r"x\.pt is refused: it asks for unpacking"):
        load_torch(tmp_path / "x.pt")


def test_a_checkpoint_whose_tensor_is_larger_than_its_bytes_is_refused(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"K\x03", b"J\x00\x00\x10\x00"))
    with pytest.raises(AqaError, match=r"y\.pt is refused: record size"):
        load_torch(tmp_path / "y.pt")


@pytest.mark.parametrize("old", [True, False])
def test_checkpoints_of_every_kind_of_tensor_are_read(tmp_path, old):
    shared = torch.arange(6.0)
    content = {
        "a": shared,
        "b": shared[::2],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": torch.nn.Linear(2, 2).state_dict(),
        "shape": torch.Size([2, 3]),
        "random": torch.get_rng_state(),
        "plain": [1, 2.5, None, "ü", {"x": (1, 2)}],
    }
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    found = load_torch(tmp_path / "x.pt")
    assert torch.equal(found["b"], shared[::2])
    assert found["plain"] == content["plain"]


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints_are_one_clear_line(tmp_path, zipped):
    path = tmp_path / "checkpoint.pt"
    torch.save({"w": torch.ones(3), "n": {"a": 1.5}}, path, _use_new_zipfile_serialization=zipped)
    whole, rng, refusals = path.read_bytes(), random.Random(0), []
    for _ in range(300):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randint(0, 6) if len(damaged) else 0):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_torch(path)
        except AqaError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert not any("\n" in refusal for refusal in refusals)
