"""Changes as they are typed: text stays text."""

import pytest

from aqa.config.load import load_experiment
from aqa.config.overrides import as_override, parse_override
from aqa.errors import AqaError
from tests.config.test_dialect import NAMES


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name.strip() == name and name not in ("", "'quoted'", '"quoted"')]
)
def test_a_key_that_is_text_takes_what_is_typed(name):
    assert parse_override(f"data.target={name}") == ("data.target", name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["data.target", "tracking.group", "model.note", "missing.train"])
def test_a_value_written_as_a_change_is_read_back(key, name):
    assert parse_override(as_override(key, name)) == (key, name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking.tags", ["NO", "None", "#2", "1"]),
        ("data.modalities", ["1", "null"]),
        ("missing.test", ["NO", {"rates": {"a b": 0.5, "1": 1e-5}}]),
        ("tracking.group", None),
        ("train.patience", None),
        ("train.compile", True),
        ("train.learning_rate", 1e-5),
        ("targets.NO", {"train": {"epochs": 3}}),
    ],
)
def test_a_value_of_any_type_written_as_a_change_is_read_back(key, value):
    assert parse_override(as_override(key, value)) == (key, value)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.target='a: b'", "a: b"),
        ('data.target="a: b"', "a: b"),
        ("data.target='a' and 'b'", "'a' and 'b'"),
        ("tracking.group=seeds #2", "seeds #2"),
        ("tracking.group=null", None),
        ("tracking.group=None", None),
        ("tracking.group='null'", "null"),
        ("model.note=seeds #2", "seeds #2"),
        ("model.note=#2", "#2"),
        ("model.n_query=None", None),
        ("model.gate=True", True),
        ("model.gate={a: None, b: False}", {"a": None, "b": False}),
        ("data.modalities=[1, NO, true]", ["1", "NO", "true"]),
        ("missing.test=[NO]", ["NO"]),
        ("targets.PCS.data.target=1", "1"),
    ],
)
def test_what_a_typed_value_means(typed, value):
    assert parse_override(typed)[1] == value


def test_files_changes_and_mappings_agree_on_what_is_text(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(
        "name: 007\ndata: {store: 1, target: null, modalities: [1, ~]}\n"
        "tracking: {group: null, project: no, tags: [1.10]}\n"
    )
    experiment = load_experiment(file)
    assert (experiment.name, experiment.data.target, experiment.data.modalities) == ("007", "null", ["1", "~"])
    assert (experiment.tracking.group, experiment.tracking.project, experiment.tracking.tags) == (None, "no", ["1.10"])
    assert load_experiment(file, ["data.target=1.10"]) == load_experiment(file, {"data.target": "1.10"})


def test_a_wrong_setting_of_a_mapping_is_named():
    content = {"name": "x", "data": {"store": "s.h5", "target": "TES"}}
    with pytest.raises(AqaError, match=r"setting 'train.sed': unknown key 'train.sed': did you mean 'seed'"):
        load_experiment(content, {"train.sed": 1})
    with pytest.raises(AqaError, match=r"setting 'data.target': data.target: must be text, got 1"):
        load_experiment(content, {"data.target": 1})
