"""Ctrl-C, SIGTERM and SIGHUP: once in good order, twice at once."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from aqa.system.signals import HungUp, Terminated, exit_status, stop_here_if_asked, stoppable, uninterrupted

HANG = 300  # seconds: only what hangs takes as long


@pytest.fixture(autouse=True)
def _interrupts():
    """Ctrl-C interrupts, also where a shell that started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143), (signal.SIGHUP, HungUp, 129)],
)
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


def test_a_child_that_is_told_twice_comes_to_its_end_first():
    """A scheduler sends SIGTERM to all, and the parent, which got it too, sends another."""
    done = []

    def work():
        with stoppable([signal.SIGTERM], hurried=False), uninterrupted():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            done.append("to the end")

    with pytest.raises(Terminated):
        work()
    assert done == ["to the end"]


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])  # of background jobs, of nohup
def test_a_signal_that_the_parent_ignores_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stoppable():
            send(number)
    finally:
        signal.signal(number, before)


def test_a_terminal_that_closes_sends_sighup_more_than_once_and_the_block_is_still_left_in_good_order():
    done = []

    def work():
        with stoppable():
            try:
                send(signal.SIGTERM)
            finally:
                send(signal.SIGHUP)
                done.append("saved")

    with pytest.raises(Terminated):
        work()
    assert done == ["saved"]


def test_a_stop_that_comes_in_a_finalizer_is_raised_after_it():
    """Python drops what a finalizer raises."""
    done = []

    class Stopping:
        def __del__(self):
            send(signal.SIGINT)
            done.append("never")

    def work():
        with stoppable():
            del [Stopping()][0]
            done.append("dropped")
            with uninterrupted():
                done.append("the next block")
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["dropped", "the next block"]


PARENT = """
import multiprocessing, os, signal, sys, time
from aqa.system import signals

def work(ready):
    with signals.stopped_by_parent():
        ready.set()
        while True:  # a signal that comes just before a sleep is heard after it
            time.sleep(0.01)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=work, args=(ready,))
    with signals.away_from_terminal():
        child.start()
    ready.wait()
    with signals.stoppable(), signals.uninterrupted():
        print("in the middle of something", flush=True)
        while not signals._asked:
            time.sleep(0.01)
        print("asked to stop", flush=True)
        while True:
            time.sleep(0.01)
"""


@pytest.fixture
def parent(tmp_path):
    """A process with a child, in a session of their own, in the middle of something; killed if it hangs."""
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    hang = threading.Timer(HANG, os.killpg, (process.pid, signal.SIGKILL))
    hang.start()
    assert process.stdout.readline() == "in the middle of something\n"
    yield process
    hang.cancel()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
        (None, signal.SIGKILL),
    ],
)
def test_asked_twice_or_killed_a_process_is_gone_at_once_and_its_children_with_it(parent, first, last):
    if first is not None:
        (os.kill if first == signal.SIGTERM else os.killpg)(parent.pid, first)  # a terminal sends to the child as well
        assert parent.stdout.readline() == "asked to stop\n"
        assert parent.poll() is None
    os.kill(parent.pid, last)
    assert parent.wait() == (-last if last == signal.SIGKILL else 128 + last)
    assert parent.stdout.read() == ""  # its end comes when the child is gone as well
    assert "Traceback" not in parent.stderr.read()
