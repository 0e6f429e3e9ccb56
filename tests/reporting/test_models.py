"""The list of models."""

from aqa.models import MODELS
from aqa.reporting.models import COLUMNS, models_table


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
    after_abstract = [entry.name for entry in MODELS.entries() if entry.about.get("after_abstract")]
    assert after_abstract == ["mea", "mome"]
    for name in after_abstract:
        assert MODELS.get(name).summary.startswith("After the abstract of"), name
