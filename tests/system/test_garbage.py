"""Garbage is looked for again after a block without, as it was before it."""

import gc

import pytest

from aqa.system.garbage import uncollected


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
