"""A command whose terminal is closed."""

import os
import pty
import subprocess
import sys

import pytest

from aqa.system.terminal import may_be_closed

# A process that leads a session on a terminal, as a shell's window does, and tells when it is stopped.
ON_A_TERMINAL = """
import fcntl, sys, termios, time
from aqa.commands.app import say, show
from aqa.system.signals import stoppable

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    with stoppable():
        print("begun", flush=True)
        while True:
            time.sleep(0.01)
except KeyboardInterrupt as stop:
    say("stopped")
    show("nobody reads this")
    open(sys.argv[1], "w").write(type(stop).__name__)
"""


def test_a_command_whose_terminal_is_closed_ends_in_good_order(tmp_path):
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path / "end")],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    assert os.read(ours, 5) == b"begun"
    os.close(ours)
    assert process.wait(600) == 0  # a deadline that only a hang can reach
    assert (tmp_path / "end").read_text() == "HungUp"


def test_other_errors_are_raised(tmp_path):
    with pytest.raises(OSError, match="disk"), open(tmp_path / "x", "w") as file, may_be_closed(file):
        raise OSError(5, "a disk that fails")
    with pytest.raises(BrokenPipeError), open(tmp_path / "x", "w") as file, may_be_closed(file):
        raise BrokenPipeError
