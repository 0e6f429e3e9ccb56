"""The list of models."""

import subprocess
import sys

from aqa.models import MODELS
from aqa.reporting.models import COLUMNS, models_table
from aqa.reporting.writers import AFTER_ABSTRACT


def test_every_model_is_listed_with_its_paper_within_100_columns():
    listed = models_table()
    lines = listed.splitlines()
    assert COLUMNS == 100
    assert max(map(len, lines)) <= COLUMNS
    assert [line.split()[0] for line in lines[2:] if not line.startswith(" ")] == MODELS.names()
    text = " ".join(listed.split())
    for entry in MODELS.entries():
        assert entry.summary in text
        assert str(entry.about["paper"]) in text
    (line,) = [line for line in lines if line.startswith("mcmoe ")]
    assert " ".join(line.split()).startswith("mcmoe 2025 9,384,711 Gated modality generator")


def test_models_written_after_an_abstract_say_so():
    entries = [entry for entry in MODELS.entries() if entry.about.get("after_abstract")]
    after_abstract = [entry.name for entry in entries]
    assert after_abstract == ["mea", "mome"]
    assert {entry.name: entry.about["paper"] for entry in entries} == AFTER_ABSTRACT
    for name in after_abstract:
        assert MODELS.get(name).summary.startswith("After the abstract of"), name


def test_a_report_imports_neither_torch_nor_a_model():
    code = "import sys, aqa.reporting.report; assert not {'torch', 'aqa.models'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_whose_packages_are_not_installed_is_listed_and_refused_in_one_line(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    code = f"""
import sys
sys.modules["transformers"] = sys.modules["peft"] = None
import aqa
from aqa.reporting.models import models_table
(line,) = [line for line in models_table().splitlines() if line.startswith("limssr")]
assert line.split()[:3] == ["limssr", "2026", "depends"], line
try:
    aqa.models.build("limssr", widths={{"visual": 2}}, llm={str(tmp_path)!r})
except aqa.AqaError as error:
    assert str(error).startswith("option 'llm' needs the package transformers: pip install 'aqa-incom"), error
else:
    raise SystemExit("it was built")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
