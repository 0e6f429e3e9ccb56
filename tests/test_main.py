"""`python -m aqa` is the command."""

import subprocess
import sys

import aqa


def test_python_m_aqa_is_the_command():
    done = subprocess.run([sys.executable, "-m", "aqa", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"aqa {aqa.__version__}\n", "")
    done = subprocess.run([sys.executable, "-m", "aqa", "rum"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("aqa: No such command 'rum'")
