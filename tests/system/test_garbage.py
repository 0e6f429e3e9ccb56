"""Garbage is looked for again after a block without, as it was before it."""

import gc
import subprocess
import sys

import pytest

from aqa.system.garbage import imported_for_good, uncollected


@pytest.fixture
def collecting():
    before = gc.isenabled()
    yield
    (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_as_it_was_after_a_block_and_after_an_error_in_it(enabled, collecting):
    (gc.enable if enabled else gc.disable)()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled() == enabled
    with pytest.raises(ValueError, match="in it"), uncollected():
        raise ValueError("in it")
    assert gc.isenabled() == enabled


def test_what_is_imported_for_good_is_not_looked_through_later(collecting):
    gc.enable()
    gc.unfreeze()
    try:
        with imported_for_good():
            assert not gc.isenabled()
            stays = [[] for _ in range(1000)]
        assert gc.isenabled()
        known = {id(each) for each in gc.get_objects()}
        assert not known & {id(each) for each in stays}
    finally:
        gc.unfreeze()


LOOKED_THROUGH = """
import atexit, gc
from aqa.system.garbage import end_uncollected
gc.disable()
atexit.register(lambda: print(len(gc.get_objects()) < 10))  # after what is registered later
end_uncollected()
end_uncollected()
print(len(gc.get_objects()) < 10)
"""


def test_a_program_of_ours_ends_without_a_look_at_what_is_left():
    done = subprocess.run([sys.executable, "-c", LOOKED_THROUGH], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
