"""Every benchmark and every campaign can be started: `python -m benchmarks.NAME`, `python -m stress.NAME`."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    f"{path.parent.name}.{path.stem}"
    for path in sorted(ROOT.glob("benchmarks/*.py")) + sorted(ROOT.glob("stress/*.py"))
]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__init__")])
def test_a_module_is_imported_and_explains_itself(name, monkeypatch, capsys):
    module = importlib.import_module(name)
    assert module.__doc__
    if not hasattr(module, "main"):
        return  # what others share
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert f"python -m {name}" in capsys.readouterr().out
