"""Work in turns: what each piece finds, fails of and leaves is what it would be alone."""

import pytest
import torch

from aqa.training.random_state import take_turns, to_the_end


def draws(seed, steps, found):
    """Draws a number a step; the first step seeds, as a run does."""
    torch.manual_seed(seed)
    for _ in range(steps):
        found.append(float(torch.rand(())))
        yield
    return seed


def test_a_work_alone_is_done_to_its_end():
    found = []
    assert to_the_end(draws(5, 3, found)) == 5
    assert len(found) == 3


def test_each_draws_the_random_numbers_that_it_draws_alone():
    alone, together = {}, {}
    for seed in (3, 4, 5):
        to_the_end(draws(seed, seed, alone.setdefault(seed, [])))
    ended = list(take_turns({str(seed): draws(seed, seed, together.setdefault(seed, [])) for seed in (5, 3, 4)}))
    assert ended == [("3", None), ("4", None), ("5", None)]
    assert together == alone


def test_they_advance_by_turns():
    order = []

    def steps(name):
        for i in range(2):
            order.append((name, i))
            yield

    assert [name for name, _ in take_turns({"a": steps("a"), "b": steps("b")})] == ["a", "b"]
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_one_that_fails_is_named_and_the_others_go_on():
    def failing():
        yield
        raise ValueError("no")

    found = []
    ended = dict(take_turns({"bad": failing(), "good": draws(0, 4, found)}))
    assert isinstance(ended["bad"], ValueError)
    assert ended["good"] is None
    assert len(found) == 4


def test_an_interruption_closes_all():
    closed = []

    def steps(name, interrupt):
        try:
            yield
            if interrupt:
                raise KeyboardInterrupt
            yield
        finally:
            closed.append(name)

    with pytest.raises(KeyboardInterrupt):
        list(take_turns({"a": steps("a", False), "b": steps("b", True)}))
    assert sorted(closed) == ["a", "b"]
