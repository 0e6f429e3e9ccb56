"""Ctrl-C and SIGTERM: once in good order, twice at once."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from aqa.system.signals import Terminated, exit_status, stop_here_if_asked, stoppable, uninterrupted


@pytest.fixture(autouse=True)
def _interrupts():
    """Ctrl-C interrupts, also where a shell that started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "kind", "status"), [(signal.SIGINT, KeyboardInterrupt, 130), (15, Terminated, 143)])
def test_a_signal_ends_the_block_and_gives_the_exit_status(number, kind, status):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stop, stoppable():
        send(number)
    assert type(stop.value) is kind
    assert exit_status(stop.value) == status
    assert signal.getsignal(number) is before


def test_a_block_that_is_not_to_be_interrupted_comes_to_its_end_first():
    done = []

    def work():
        with stoppable(), uninterrupted():
            with uninterrupted():
                send(signal.SIGTERM)
            done.append("to the end")
        done.append("never")

    with pytest.raises(Terminated):
        work()
    assert done == ["to the end"]
    with uninterrupted():  # of the next command of this process nobody asked anything
        pass


def test_what_is_still_to_be_done_when_a_signal_came_is_done_to_its_end():
    done = []

    def work():
        with stoppable():
            try:
                send(signal.SIGTERM)
            finally:
                with uninterrupted():
                    stop_here_if_asked()
                    done.append("in")
                done.append("after it")

    for _ in range(2):  # of each command anew
        with pytest.raises(Terminated):
            work()
    assert done == ["in", "after it"] * 2


def test_a_block_that_is_not_to_be_interrupted_may_be_left_where_it_says_so_but_not_within_another():
    done = []

    def work():
        with stoppable(), uninterrupted():
            send(signal.SIGTERM)
            with uninterrupted():
                stop_here_if_asked()
                done.append("the inner block")
            stop_here_if_asked()
            done.append("never")

    with pytest.raises(Terminated):
        work()
    assert done == ["the inner block"]


def test_a_signal_that_the_parent_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


CHILD = """
import multiprocessing, os, signal, sys, time
from aqa.system.signals import stoppable, stopped_by_parent, uninterrupted

def work(ready):
    with stopped_by_parent():
        ready.set()
        while True:  # a signal that comes just before a sleep is heard after it
            time.sleep(0.01)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=work, args=(ready,))
    child.start()
    ready.wait()
    with stoppable(), uninterrupted():
        print(child.pid, flush=True)
        while True:
            time.sleep(0.01)
"""


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT], [signal.SIGKILL]])
def test_asked_twice_or_killed_a_process_is_gone_at_once_and_its_children_with_it(tmp_path, signals):
    (tmp_path / "child.py").write_text(textwrap.dedent(CHILD))
    command = [sys.executable, str(tmp_path / "child.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    for number in signals[:-1]:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):  # it is in the middle of something
            process.wait(0.2)
    process.send_signal(signals[-1])
    process.wait(20)
    assert process.returncode == (-signal.SIGKILL if signals == [signal.SIGKILL] else 128 + signals[-1])
    assert process.stdout.read() == ""  # its end comes when the child is gone as well
    assert "Traceback" not in process.stderr.read()
