"""The quickstart as README has it: what it must reach is known, since its data's best possible SRCC is."""

from pathlib import Path

import aqa

QUICKSTART = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"


def test_the_quickstart_comes_within_a_tenth_of_the_best_possible(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = aqa.run(QUICKSTART).metrics
    complete, average = found["patterns"]["VAF"], found["average_incomplete"]
    assert complete["n"] >= 500
    assert complete["srcc"] >= 0.9 * complete["ceiling"]
    assert average["srcc"] >= 0.9 * average["ceiling"]
    assert average["patterns"] == 6
    assert found["selection"]["split"] == "valid"
