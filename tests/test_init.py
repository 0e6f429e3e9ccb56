"""The public names of `aqa`: what they are, that each command has its twin, and that importing them is light."""

import inspect
import subprocess
import sys

import pytest
import typer

import aqa
from aqa.cli import app

COMMANDS = typer.main.get_command(app).commands
PUBLIC = {
    *("AqaError", "Card", "FeatureStore", "Inspection", "Modality", "Result", "SweepResult", "Target"),
    *("TuneResult", "tune"),
    *("card", "evaluate", "explain", "inspect", "models", "predict", "prepare", "report", "run", "sweep", "worth"),
    *("ScoreInterval", "VideoScorer", "export", "load"),
    *("import_published", "load_published", "load_published_mcmoe", "write_store"),
}


def test_the_public_names_are_these():
    assert set(aqa.__all__) == PUBLIC
    for name in aqa.__all__:
        assert getattr(aqa, name) is not None, name
    assert set(aqa.__dir__()) >= PUBLIC


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"models"}))
def test_every_command_has_a_python_twin_that_takes_what_it_takes(name):
    twin = inspect.signature(getattr(aqa, {"import": "import_published"}.get(name, name))).parameters  # a keyword
    own = {parameter.name: parameter for parameter in COMMANDS[name].params}
    assert set(own) - {"plugin", "help"} <= set(twin)  # a plugin is imported, in Python
    assert set(twin) - set(own) <= {"say", "show_progress"}
    for each in own.values():
        if each.name in twin and not each.required and each.default is not None:
            assert twin[each.name].default in (each.default, ()), each.name


def test_the_list_of_models_is_the_module_of_models():
    assert callable(aqa.models.build)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'aqa' has no attribute 'rnu'"):
        _ = aqa.rnu


def test_the_name_of_inspect_in_the_first_release_still_works():
    assert aqa.inspect_store is aqa.inspect


def test_importing_the_package_imports_nothing_heavy():
    command = "import sys, aqa; sys.exit(bool({'torch', 'numpy', 'pandas', 'h5py'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
