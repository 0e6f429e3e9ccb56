"""Work done ahead: in order, one at a time, errors where they belong, and no thread that outlives its work."""

import threading
import time

import pytest

from aqa.features.prefetch import in_turn, one_ahead


def works(count, done, error=None):
    """Works that note their number in `done` and return it; the one numbered `error` fails."""

    def work(number, unwanted):
        if number == error:
            raise ValueError(f"work {number}")
        done.append(number)
        return number

    return [lambda unwanted, n=n: work(n, unwanted) for n in range(count)]


def wait_for(condition):
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("ways", [one_ahead, in_turn])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_order(ways, count):
    assert list(ways(works(count, []))) == list(range(count))


def test_one_work_and_no_more_is_done_ahead():
    done = []
    results = one_ahead(works(5, done))
    assert not done
    for number in range(5):
        assert next(results) == number
        ahead = min(number + 2, 5)
        wait_for(lambda ahead=ahead: len(done) == ahead)
        time.sleep(0.01)
        assert done == list(range(ahead))


def test_works_without_a_thread_are_done_when_they_are_asked_for():
    done = []
    results = in_turn(works(3, done))
    assert [next(results), list(done), next(results), list(done)] == [0, [0], 1, [0, 1]]


@pytest.mark.parametrize("ways", [one_ahead, in_turn])
def test_an_error_is_raised_where_its_result_is_asked_for(ways):
    results = ways(works(5, [], error=2))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="work 2"):
        next(results)


def test_a_work_learns_that_nobody_wants_its_result_and_is_waited_for():
    begun, ended = threading.Event(), []

    def second(unwanted):
        begun.set()
        ended.append(unwanted.wait(600))

    results = one_ahead([lambda unwanted: None, second])
    next(results)
    assert begun.wait(600)
    results.close()
    assert ended == [True]


def test_threads_end_with_their_work_though_the_rest_is_never_asked_for():
    before = threading.active_count()
    results = one_ahead(works(3, []))
    next(results)
    wait_for(lambda: threading.active_count() == before)
    assert list(results) == [1, 2]
