"""Models, patterns and data sets from a user's own file: found where the user names it, and nowhere else."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import yaml

from aqa import plugins
from aqa.cli import main
from aqa.data_prep import DATASETS
from aqa.errors import AqaError
from aqa.missing import PATTERNS
from aqa.models import MODELS
from aqa.runs.run import run
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from aqa.sweeps import workers

MINE = """
import torch
from torch import nn
from aqa.models import register
from aqa.models.base import AQAModel, Loss

@register("mine", year=2026)
class Mine(AQAModel):
    '''The mean of the first channel.'''

    def __init__(self, widths, *, size: int = 1):
        super().__init__(widths)
        self.slope = nn.Parameter(torch.ones(size))

    def score(self, features, visible, lengths=None):
        firsts = torch.stack([features[m][:, :, 0].mean(dim=1) for m in self.modalities], dim=1)
        return torch.sigmoid(torch.where(visible, firsts, 0.0).sum(dim=1) * self.slope.sum())

    def loss(self, features, target, visible, available, lengths=None):
        mse = (self.score(features, visible) - target).square().mean()
        return Loss(mse, {"mse": mse})
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder in which no plugin is loaded; what a test registers is gone after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plugins.ENVIRONMENT, "")
    monkeypatch.setattr(plugins, "_begun", set())
    monkeypatch.setattr(plugins, "_loaded", {})
    for registry in (MODELS, PATTERNS, DATASETS):
        registry.names()  # its own entries are there before the copy is made
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    plugins._installed.cache_clear()
    yield tmp_path
    plugins._installed.cache_clear()


@pytest.fixture
def store(here):
    rng = np.random.default_rng(0)
    write_store(
        here / "tiny.h5",
        name="tiny",
        source="",
        ids=[f"clip{i}" for i in range(24)],
        modalities={m: Modality(4, np.full(24, 5)) for m in ("visual", "audio")},
        targets={"score": Target(rng.uniform(0, 9, 24), 0, 10)},
        splits={"train": range(12), "valid": range(12, 18), "test": range(18, 24)},
        read=lambda m, row: rng.normal(size=(5, 4)),
    )
    experiment = {
        "name": "{model}",
        "data": {"store": "tiny.h5", "target": "score"},
        "model": {"name": "mine"},
        "train": {"epochs": 1},
    }
    (here / "own.yaml").write_text(yaml.safe_dump(experiment))
    (here / "mine.py").write_text(MINE)
    return here / "tiny.h5"


def forget(monkeypatch):
    """As in a new process: no plugin."""
    monkeypatch.setenv(plugins.ENVIRONMENT, "")
    monkeypatch.setattr(plugins, "_begun", set())
    monkeypatch.setattr(plugins, "_loaded", {})
    MODELS._entries.pop("mine", None)


def test_a_named_file_is_loaded_once_and_noted_in_the_run(here, store, capsys):
    assert main(["run", "own.yaml"]) == 2
    assert "unknown model 'mine'" in capsys.readouterr().err
    assert main(["run", "own.yaml", "--plugin", "mine.py", "--plugin", "mine.py"]) == 0
    assert capsys.readouterr().out.startswith("mine on score, seed 0")
    versions = yaml.safe_load((here / "runs/mine/config.yaml").read_text())["versions"]
    assert versions["plugin mine.py"] == plugins.loaded()["mine.py"]
    assert versions["plugin mine.py"].startswith("sha256 ")


def test_a_run_with_a_plugins_model_asks_for_the_file_and_never_finds_it_itself(here, store, monkeypatch, capsys):
    main(["run", "own.yaml", "--plugin", "mine.py"])
    forget(monkeypatch)
    capsys.readouterr()
    (here / "runs/mine/mine.py").write_text("raise SystemExit('code of a run folder was run')")
    for command in (["evaluate", "runs/mine"], ["predict", "runs/mine", "--store", "tiny.h5", "--out", "scores.csv"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error == "aqa: runs/mine has a model of its user's own, 'mine'; name the file again: --plugin mine.py\n"
    assert main(["evaluate", "runs/mine", "--plugin", "mine.py"]) == 0

    forget(monkeypatch)
    (here / "mine.py").write_text(MINE.replace("torch.ones(size)", "torch.ones(2 * size)"))
    capsys.readouterr()
    assert main(["evaluate", "runs/mine", "--plugin", "mine.py"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aqa: the checkpoint's weights do not fit model 'mine': size mismatch for slope")
    assert error.count("\n") == 1


def test_a_run_resumes_with_the_plugin_that_it_was_begun_with_and_no_other(
    here, store, monkeypatch, capsys, stopped_in_epoch
):
    plugins.use(["mine.py"])
    with stopped_in_epoch(2):
        run("own.yaml", ["train.epochs=3", "save_every=0"])
    forget(monkeypatch)
    (here / "mine.py").write_text(MINE + "# another")
    command = ["run", "own.yaml", "train.epochs=3", "save_every=0", "--plugin", "mine.py"]
    capsys.readouterr()
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "aqa: plugin mine.py has changed since runs/mine was begun, and the run cannot be resumed with it; "
        "restore the old one, or start again with --overwrite\n"
    )
    forget(monkeypatch)
    (here / "mine.py").write_text(MINE)
    assert main(command) == 0
    assert "resuming after epoch 1" in (here / "runs/mine/log.txt").read_text()


def test_a_process_that_inherits_the_environment_has_the_plugin(here, store, monkeypatch):
    plugins.use(["mine.py"])
    environment = os.environ[plugins.ENVIRONMENT]
    assert environment == str(here / "mine.py")
    forget(monkeypatch)
    monkeypatch.setenv(plugins.ENVIRONMENT, environment)
    monkeypatch.chdir("/")
    assert "mine" in MODELS.names()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.py", None, "none.py: there is no such file"),
        ("text.txt", "hello", "text.txt: a plugin is a Python file (.py)"),
        ("a.py", "x = (\n", "a.py, line 1: '(' was never closed"),
        ("b.py", "x = 1\ny = x.z\n", "b.py, line 2: AttributeError: 'int' object has no attribute 'z'"),
        ("c.py", "import nowhere_at_all\n", "c.py, line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (
            "d.py",
            "from aqa.models import register\n\nregister('mcmoe')(type('Own', (), {}))\n",
            "d.py, line 3: ValueError: two models are called 'mcmoe'",
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_line_with_its_place_each_time(here, capsys, name, content, said):
    if content is not None:
        (here / name).write_text(content)
    for _ in range(2):
        assert main(["models", "--plugin", name]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"aqa: plugin {here}/{said}")
        assert printed.err.count("\n") == 1
        assert printed.out == ""


@pytest.mark.parametrize("command", [["sweep"], ["tune", "--jobs", "2"]])
def test_processes_are_prepared_while_a_plugin_is_loaded(here, monkeypatch, capsys, command):
    """It may import torch, which takes longer than all else before the first run."""
    begun = []
    monkeypatch.setattr(workers, "import_once", lambda plan: begun.append("processes"))
    monkeypatch.setattr(plugins, "use", lambda files: begun.append([str(file) for file in files]))
    assert main([*command, "missing.yaml", "--plugin", "mine.py"]) == 2
    assert begun == ["processes", ["mine.py"]]
    assert "missing.yaml" in capsys.readouterr().err


def test_one_file_may_hold_a_pattern_and_a_data_set(here):
    (here / "both.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from aqa.missing import PATTERNS, MissingPattern\n"
        "from aqa.data_prep import DATASETS\n"
        "@dataclass\nclass Uses:\n    modules: dict[str, int]\n"
        "@PATTERNS.register('nothing')\nclass Nothing(MissingPattern):\n    name = 'nothing'\n"
        "@DATASETS.register('own', title='')\ndef read(source):\n    ...\n"
    )
    plugins.use(["both.py"])
    assert PATTERNS.get("nothing").make.name == "nothing"
    assert "own" in DATASETS.names()


def test_an_installed_package_names_its_module_as_an_entry_point(here, monkeypatch, capsys):
    (here / "my_models.py").write_text(MINE)
    about = here / "my_models-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-models\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text("[aqa.plugins]\nmy-models = my_models\n")
    monkeypatch.syspath_prepend(here)
    try:
        assert MODELS.get("mine").make.__module__ == "my_models"
        assert plugins.loaded()["my-models"] == "1.5"
        forget(monkeypatch)
        del sys.modules["my_models"]
        (here / "my_models.py").write_text("x = 1 / 0  # no longer as it was\n")
        with pytest.raises(AqaError, match=r"^plugin my-models \(my_models\).*: ZeroDivisionError: division by zero$"):
            MODELS.names()
    finally:
        sys.modules.pop("my_models", None)


def test_without_a_plugin_nothing_is_loaded(here):
    MODELS.names()
    assert plugins.loaded() == {}


def test_a_path_with_the_separator_of_paths_is_one_plugin(here, monkeypatch):
    folder = here / f"a{os.pathsep}b"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    plugins.use([folder / "mine.py"])
    assert "mine" in MODELS.names()
    environment = os.environ[plugins.ENVIRONMENT]
    forget(monkeypatch)
    monkeypatch.setenv(plugins.ENVIRONMENT, environment)  # as a process of a sweep inherits it
    assert list(plugins.loaded()) == ["mine.py"]


def test_what_is_not_a_list_of_paths_is_one_line(here, monkeypatch):
    monkeypatch.setenv(plugins.ENVIRONMENT, "[1, 2]")
    with pytest.raises(AqaError, match=r"^AQA_PLUGINS is '\[1, 2\]'; expected paths, or a JSON list of paths$"):
        plugins.load_all()


def test_a_plugin_that_exits_is_one_line(here):
    (here / "exits.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(AqaError, match=r"exits\.py: it exits \(SystemExit: 0\); a plugin only defines and registers$"):
        plugins.use(["exits.py"])


def test_two_plugins_of_one_file_name_are_both_noted(here):
    for folder, text in {"a": "X = 1\n", "b": "X = 2\n"}.items():
        (here / folder).mkdir()
        (here / folder / "same.py").write_text(text)
    plugins.use(["a/same.py"])
    first = plugins.loaded()["same.py"]
    plugins.use(["b/same.py"])
    noted = plugins.loaded()["same.py"]
    assert first in noted
    assert noted.count("sha256") == 2
