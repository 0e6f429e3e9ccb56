"""Processes of a report: as many as are of use, and none that stays."""

import multiprocessing
import os
import signal
import threading
import time

import joblib
import pytest

from aqa.errors import AqaError
from aqa.reporting import processes as module
from aqa.reporting.processes import processes


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(module, "RUNS_EACH", 1)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)


@pytest.fixture(params=["alone", "beside another thread"])
def threads(request):
    """Whether processes may be forked."""
    if request.param == "alone":
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


def test_few_runs_are_for_this_process_and_its_errors_come_at_once():
    with processes(3) as executor:
        assert executor.submit(os.getpid).result() == os.getpid()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0)


def test_many_runs_are_for_others(two, threads):
    with processes(2) as executor:
        found = [executor.submit(divmod, number, 3) for number in range(9)]
        assert executor.submit(os.getpid).result() != os.getpid()
        assert [one.result() for one in found] == [divmod(number, 3) for number in range(9)]
    assert not multiprocessing.active_children()


def test_an_error_in_one_is_the_error_of_all(two, threads):
    with pytest.raises(AqaError, match="no such run"), processes(2) as executor:
        executor.submit(_fail).result()
    assert not multiprocessing.active_children()


def _fail():
    raise AqaError("no such run")


def test_one_that_is_killed_is_one_clear_line(two, threads):
    with pytest.raises(AqaError, match="memory"), processes(2) as executor:
        executor.submit(_end).result()


def _end():
    os.kill(os.getpid(), signal.SIGKILL)


# A thread of loky may look for what was just taken from it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_was_not_begun_is_not_done_where_the_block_is_left(two, threads):
    def leave():
        with processes(2) as executor:
            for _ in range(6):
                executor.submit(time.sleep, 0.2)
            for _ in range(8):
                executor.submit(time.sleep, 600)
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        leave()
    assert not multiprocessing.active_children()
    assert time.monotonic() - begun < 300
