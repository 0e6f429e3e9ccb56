"""The notebook of the first hour runs from its first cell to its last, in an empty folder."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "first_hour.ipynb"

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed, which reads notebooks")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed, which runs notebooks")
pytest.importorskip("ipykernel", reason="ipykernel is not installed, which a notebook's cells run in")


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    assert not [cell.id for cell in code(notebook) if cell.outputs or cell.execution_count]


def test_every_cell_runs_and_shows_what_the_text_promises(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    shown = [
        " ".join(str(output.get("text", output.get("data"))) for output in cell.outputs) for cell in code(notebook)
    ]
    data, table, figure, network, scores, scorer, streams, clips, explained = shown
    assert "visual" in data
    assert "VAF" in table
    assert "ceiling" in table
    assert "image/png" in figure
    assert "mcmoe" in network
    assert "low" in scores
    assert "without flow:" in scorer
    assert "shapley" in streams
    assert "image/png" in clips
    assert "3 videos explained" in explained
    assert (tmp_path / "first_hour" / "explained" / "index.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"first_hour"}
