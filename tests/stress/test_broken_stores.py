"""Feature stores that were cut off, damaged or made to do harm end in one line."""

from __future__ import annotations

import numpy as np
import pytest

from stress import broken_stores as broken


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    broken.write_sample(path)
    return path.read_bytes()


def kinds(found):
    return {outcome.split(":")[0] for outcome in found.values()}


def test_a_store_that_is_cut_off_is_refused(whole, tmp_path):
    files = {name: broken.written(content) for name, content in broken.cuts(whole, 25)}
    assert kinds(broken.outcomes(tmp_path, files)) == {"refused"}


def test_a_flipped_byte_is_found_or_matters_to_nothing(whole, tmp_path):
    changed = broken.flips(whole, 80, np.random.default_rng(7))
    found = broken.outcomes(tmp_path, {name: broken.written(content) for name, content in changed})
    assert {"refused", "found damaged"} <= kinds(found) <= {"refused", "found damaged", "read"}


def test_hostile_stores_are_refused(tmp_path):
    left_out = ("sixteen gigabytes", "a million ids", "100,000 members", "groups nested")  # they take seconds to make
    chosen = {name: make for name, make in broken.HOSTILE.items() if not name.startswith(left_out)}
    found = broken.outcomes(tmp_path, chosen)
    assert kinds(found) == {"refused"}
    said = " ".join(found.values())
    assert "root:" not in said
    assert "not the store's" not in said
    assert not any(ord(c) < 32 for c in said)


def test_a_worker_that_crashes_or_hangs_is_counted_and_replaced(tmp_path, monkeypatch):
    import os
    import signal
    import time

    ends = {"crash": lambda: os.kill(os.getpid(), signal.SIGKILL), "hang": lambda: time.sleep(3600)}
    monkeypatch.setattr(broken, "examine", lambda path: ends.get(path.read_text(), lambda: "read")() or "read")
    files = {name: broken.written(name.encode()) for name in ("fine", "crash", "fine again")}
    monkeypatch.setattr(broken, "SECONDS", 600)
    assert list(broken.outcomes(tmp_path, files).values()) == ["read", "CRASH: ended by -9", "read"]
    monkeypatch.setattr(broken, "SECONDS", 0.5)
    assert list(broken.outcomes(tmp_path, {"hang": broken.written(b"hang")}).values()) == ["HANG: more than 0.5 s"]
