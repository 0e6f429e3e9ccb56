"""Reading checkpoint files from strangers."""

import pickle

import pytest
import torch

from aqa.errors import AqaError
from aqa.models.published import load_published_mcmoe


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("write", [lambda o, p: torch.save(o, p), lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, write):
    trace, path = tmp_path / "was_run", tmp_path / "best.pkl"
    write({"prototype.weight": Exploit(str(trace))}, path)
    with pytest.raises(AqaError, match="refused"):
        load_published_mcmoe(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04broken"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "best.pkl"
    path.write_bytes(content)
    with pytest.raises(AqaError) as error:
        load_published_mcmoe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_is_no_mapping_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(AqaError, match="holds a list"):
        load_published_mcmoe(tmp_path / "list.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AqaError, match=r"no checkpoint at .*best\.pkl"):
        load_published_mcmoe(tmp_path / "best.pkl")
