"""The quickstart as README has it: what it must reach is known, since its data's best possible SRCC is."""

from pathlib import Path

import pytest

import aqa

pytestmark = pytest.mark.xdist_group("quickstart")  # README's Python shows the run that was trained before

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the experiments beside it, as in a checkout."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    return folder


@pytest.mark.usefixtures("figures")
def test_the_quickstart_comes_within_a_tenth_of_the_best_possible(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = aqa.run("experiments/quickstart.yaml").metrics
    complete, average = found["patterns"]["VAF"], found["average_incomplete"]
    assert complete["n"] >= 500
    assert complete["srcc"] >= 0.9 * complete["ceiling"]
    assert average["srcc"] >= 0.9 * average["ceiling"]
    assert average["patterns"] == 6
    assert found["selection"]["split"] == "valid"


def test_the_python_of_readme_runs_as_it_stands(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    code = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith("mcmoe on score, seed 0; selected on valid")
    assert list(names["again"].metrics["patterns"]) == ["V", "noise(1)"]
    assert len(names["scores"]) == 600
    assert names["scores"]["score"].notna().all()
