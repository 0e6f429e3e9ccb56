"""What a process keeps of the memory it frees."""

import subprocess
import sys

import pytest

PAGES_OF_TEN_ARRAYS = """
import ctypes, resource, sys
import torch
from aqa.system.devices import keep_freed_memory
if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
    sys.exit("no glibc")
if sys.argv[1] == "keep":
    keep_freed_memory()
for i in range(40):
    if i == 30:  # where the heap has found its size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_asked_for(how):
    done = subprocess.run([sys.executable, "-c", PAGES_OF_TEN_ARRAYS, how], capture_output=True, text=True, check=False)
    if "no glibc" in done.stderr:
        pytest.skip("memory is kept only where the C library is glibc")
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is kept only on Linux")
def test_memory_that_is_kept_is_not_asked_for_again():
    assert pages_asked_for("keep") < pages_asked_for("give back") / 2
