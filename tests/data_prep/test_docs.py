"""The example in docs/data.md runs as it stands, and what it writes is usable."""

from __future__ import annotations

from pathlib import Path

from aqa.data.inspect import inspect_store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_example_of_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {})
    inspection = inspect_store("own.h5")
    assert inspection.usable
    assert "available [" not in str(inspection)
    assert "VA: 19, V: 1" in str(inspection)
    assert [warning.split(":")[0] for warning in inspection.warnings] == ["targets"]
