"""The command line as a user meets it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml

from aqa.cli import app, main
from aqa.runs.folder import RunFolder
from aqa.store.store import Modality, Target
from aqa.store.write import write_store
from aqa.version import __version__

SMALL = {
    "name": "small-{target}-seed{seed}",
    "data": {"store": "tiny.h5", "target": "score"},
    "model": {"name": "mcmoe", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1},
    "train": {"epochs": 1, "batch_size": 16},
}


@pytest.fixture
def here(tmp_path, monkeypatch, request):
    """A working folder with a small store and a small experiment."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    write_store(
        tmp_path / "tiny.h5",
        name="tiny",
        source="",
        ids=[f"clip{i}" for i in range(24)],
        modalities={m: Modality(4, np.full(24, 5)) for m in ("visual", "audio", "flow")},
        targets={"score": Target(rng.uniform(0, 9, 24), 0, 10)},
        splits={"train": range(12), "valid": range(12, 18), "test": range(18, 24)},
        read=lambda m, row: rng.normal(size=(5, 4)),
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


def aqa(*arguments):
    return main([str(a) for a in arguments])


@pytest.mark.usefixtures("figures")
def test_run_evaluate_predict(here, capsys):
    assert aqa("run", "small.yaml", "train.seed=3") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("mcmoe on score, seed 3; selected on valid: epoch 1 of 1")
    assert lines[1].split() == ["pattern", "SRCC", "95", "%", "interval", "MSE", "R-l2", "%", "n"]
    assert [line.split()[0] for line in lines[3:10]] == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert any(line.startswith("average of the 6 incomplete patterns (Fisher z): SRCC ") for line in lines[10:])
    folder = here / "runs" / "small-score-seed3"
    assert f"run folder: {Path('runs') / folder.name}" in printed.err

    assert aqa("run", "small.yaml", "train.seed=3") == 0
    printed = capsys.readouterr()
    assert "is finished; --overwrite runs it again" in printed.err
    assert printed.out.splitlines() == lines

    assert aqa("evaluate", folder, "--patterns", "[VA, {rates: 0.5}]", "--split", "valid", "--out", "again.json") == 0
    assert "rates(0.5)" in capsys.readouterr().out
    assert list(json.loads((here / "again.json").read_text())["patterns"]) == ["VA", "rates(0.5)"]
    assert aqa("evaluate", folder, "--patterns", "VA, V", "--out", "plain.json") == 0
    assert list(json.loads((here / "plain.json").read_text())["patterns"]) == ["VA", "V"]

    assert aqa("predict", folder, "--store", "tiny.h5", "--out", "new/scores.csv") == 0
    scores = pd.read_csv(here / "new" / "scores.csv")
    assert list(scores.columns) == ["id", "visible", "score", "low", "high", "spread"]
    assert len(scores) == 24
    assert scores["score"].between(0, 10).all()


def test_a_synthetic_store_of_a_few_videos(here, capsys):
    assert aqa("prepare", "synthetic", "--preset", "tiny", "--samples", 4, "--out", "few.h5") == 0
    assert aqa("inspect", "few.h5") == 0
    assert "splits    test 4, train 4, valid 4" in capsys.readouterr().out
    assert aqa("prepare", "pom", "--samples", 4, "--out", "pom.h5") == 2
    assert "--samples (in Python: samples=) goes with 'synthetic', not with 'pom'" in capsys.readouterr().err


def test_aqa_alone_shows_its_commands_line_by_line(capsys):
    assert aqa() == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert {"run", "sweep", "report", "card", "evaluate", "predict", "prepare", "inspect", "models"} <= {
        line[0] for line in lines if line
    }
    assert printed.err == ""


def test_a_store_in_a_folder_without_any_is_said_so(tmp_path, capsys):
    assert aqa("inspect", tmp_path / "none.h5") == 2
    assert capsys.readouterr().err.endswith(f"none.h5; {tmp_path} has no .h5 file\n")


def test_output_names_the_folder(here):
    assert aqa("run", "small.yaml", "output=elsewhere/mine") == 0
    assert (here / "elsewhere" / "mine" / "metrics.json").exists()


def test_prepare_and_inspect(here, capsys):
    assert aqa("prepare", "synthetic", "--preset", "tiny", "--out", "made.h5", "--seed", "5") == 0
    assert aqa("inspect", "made.h5") == 0
    assert "train 1000" in capsys.readouterr().out
    assert aqa("prepare", "synthetic", "--preset", "tiny", "--out", "made.h5") == 2
    assert "exists" in capsys.readouterr().err
    assert aqa("prepare", "synthetic", "--preset", "tiny", "--out", "made.h5", "--overwrite") == 0


def test_inspect_says_by_its_status_that_a_store_is_not_usable(here, tiny_store, capsys):
    tiny_store(name="bad.h5", ids=[*"abcdefg", "a"]).rename(here / "bad.h5")
    assert aqa("inspect", "bad.h5") == 1
    assert "ids: used more than once: a" in capsys.readouterr().out


def test_what_a_terminal_would_obey_is_shown_escaped(here, capsys):
    escape = "\x1b[2J\x1b]0;owned\x07"
    write_store(
        here / "odd.h5",
        name=f"name{escape}",
        source=escape,
        ids=["a", "b"],
        modalities={"visual": Modality(2, np.array([1, 1]), f"VST{escape}")},
        targets={"score": Target(np.array([1.0, 2.0]), 0, 10, {f"V{escape}": 0.5})},
        splits={"train": [0, 1]},
        read=lambda m, row: np.ones((1, 2)),
    )
    aqa("inspect", "odd.h5")
    (here / f"{escape}.yaml").write_text(f"{escape!r}: 1")
    aqa("run", f"{escape}.yaml")
    aqa("inspect", f"{escape}.h5")
    aqa("run", f"\udcff{escape}")
    printed = capsys.readouterr()
    assert not set("\x1b\x07\udcff") & set(printed.out + printed.err)
    assert printed.out.count(r"\x1b[2J") == 4
    assert printed.err.count("\n") == 3


def test_models_are_listed(capsys):
    assert aqa("models") == 0
    assert re.search(r"ridge +1970 +5,633  Ridge regression", capsys.readouterr().out)


def test_models_are_recommended_for_a_store(tmp_path, capsys):
    assert aqa("prepare", "synthetic", "--preset", "tiny", "--samples", "30", "--out", str(tmp_path / "s.h5")) == 0
    assert aqa("models", "--recommend", str(tmp_path / "s.h5")) == 0
    assert "Try first: " in capsys.readouterr().out
    assert aqa("models", "--recommend", str(tmp_path / "none.h5")) == 2


MISTAKES = {
    "no such command": (["rum"], "rum"),
    "no such option": (["run", "small.yaml", "--overwite"], "--overwrite"),
    "missing argument": (["run"], "EXPERIMENT"),
    "missing file": (["run", "smal.yaml"], "small.yaml"),
    "not an override": (["run", "small.yaml", "train.seed"], "train.seed=1"),
    "unknown key": (["run", "small.yaml", "train.epoch=3"], "did you mean 'epochs'"),
    "unknown section": (["run", "small.yaml", "trian.epochs=3"], "did you mean 'train'"),
    "wrong type": (["run", "small.yaml", "train.epochs=many"], "train.epochs"),
    "negative": (["run", "small.yaml", "train.learning_rate=-1"], "train.learning_rate"),
    "unknown choice": (["run", "small.yaml", "select.metric=mae"], "srcc, mse"),
    "unknown model": (["run", "small.yaml", "model.name=mcmeo"], "did you mean 'mcmoe'"),
    "unknown model option": (["run", "small.yaml", "model.hiden_dim=8"], "did you mean 'hidden_dim'"),
    "wrong model option": (["run", "small.yaml", "model.hidden_dim=9"], "multiple of 4"),
    "unknown target": (["run", "small.yaml", "data.target=scores"], "did you mean 'score'"),
    "unknown modality": (["run", "small.yaml", "data.modalities=[visual, adio]"], "did you mean 'audio'"),
    "unknown pattern": (["run", "small.yaml", "missing.train=random_subsets"], "did you mean 'random_subset'"),
    "unknown split": (["run", "small.yaml", "select.split=tset"], "did you mean 'test'"),
    "no store": (["run", "small.yaml", "data.store=tini.h5"], "did you mean 'tiny.h5'"),
    "not a store": (["run", "small.yaml", "data.store=small.yaml"], "not a readable HDF5 file"),
    "no unaligned streams": (["run", "small.yaml", "data.align=none"], "data.align"),
    "no placeholder": (["run", "small.yaml", "name=x-{tagret}"], "{target}"),
    "no GPU here": (["run", "small.yaml", "train.device=cuda"], "no GPU"),
    "a file for a run": (["run", "small.yaml", "output=small.yaml"], "no run's folder"),
    "no run": (["evaluate", "runs/none"], "no run's folder"),
    "no run to predict": (["predict", ".", "--store", "tiny.h5", "--out", "x.csv"], "no run's folder"),
    "existing output": (["predict", ".", "--store", "tiny.h5", "--out", "small.yaml"], "--overwrite"),
    "unknown data set": (["prepare", "fis", "--out", "x.h5", "--source", "."], "did you mean 'fisv'"),
    "no source": (["prepare", "fisv", "--out", "x.h5"], "--source"),
    "missing source": (["prepare", "fisv", "--out", "x.h5", "--source", "gone"], "gone"),
    "empty source": (["prepare", "fisv", "--out", "x.h5", "--source", "."], "train.txt"),
    "unknown preset": (["prepare", "synthetic", "--out", "x.h5", "--preset", "fis"], "did you mean 'fisv'"),
    "no preset": (["prepare", "synthetic", "--out", "x.h5"], "--preset"),
    "preset of a real data set": (["prepare", "pom", "--out", "x.h5", "--source", ".", "--preset", "tiny"], "--preset"),
    "on what error": (["prepare", "pom", "--out", "x.h5", "--source", ".", "--on-error", "drop"], "skip"),
    "inspect nothing": (["inspect", "tinny.h5"], "did you mean 'tiny.h5'"),
    "device": (["evaluate", "x", "--device", "gpu"], "cpu"),
    "patterns": (["evaluate", "x", "--patterns", "[VA"], "YAML"),
}


@pytest.mark.parametrize(("arguments", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_a_hint_and_status_2(here, capsys, arguments, hint):
    if arguments[-1] == "train.device=cuda":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    before = sorted(p.name for p in here.iterdir())
    assert aqa(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("aqa: ")
    assert hint in printed.err
    assert sorted(p.name for p in here.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_one_line(here, capsys):
    (here / "runs").write_text("in the way")
    assert aqa("run", "small.yaml") == 2
    assert "runs" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000000 bytes"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
    ids=["numpy", "torch", "CUDA"],
)
def test_too_little_memory_is_one_line(here, capsys, monkeypatch, error):
    def too_large(*arguments, **options):
        raise error

    monkeypatch.setattr("aqa.runs.run.run", too_large)
    assert aqa("run", "small.yaml") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aqa: not enough memory: ")
    assert "llocate" in line
    assert "train.batch_size" in line


def test_a_mistake_of_the_program_is_not_taken_for_too_little_memory(here, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("aqa.runs.run.run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        aqa("run", "small.yaml")


def test_a_long_name_is_cut_in_a_message(here, capsys):
    assert aqa("run", "small.yaml", "data.target=" + "x" * 5000) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 1000


COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_100_columns_and_its_examples_are_commands(name, capsys):
    assert aqa(*([name] if name else []), "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "..." not in "".join(line for line in lines if "Usage" not in line and "RUNS..." not in line)
    shown = lines[lines.index("  Examples:") + 1 :]
    assert shown
    for example in shown:
        program, command, *rest = shlex.split(example)
        assert program == "aqa"
        assert command == name or not name
        COMMANDS[command].make_context(command, [word for word in rest if word not in ("--plugin", "mine.py")])


def test_the_version_is_shown(capsys):
    assert aqa("--version") == 0
    assert capsys.readouterr().out == f"aqa {__version__}\n"


#: What takes long to import; whatever needs it imports it then.
HEAVY = {"matplotlib", "optuna", "pandas", "ray", "scipy.stats", "sklearn", "torch._dynamo", "wandb"}
HEAVIER_THAN_HELP = {*HEAVY, "h5py", "numpy", "scipy", "torch"}
HELP = f"""
import sys
from aqa.cli import main
main(["--help"])
print("loaded:", {HEAVIER_THAN_HELP} & set(sys.modules))
"""
FIRST_STEP = f"""
import sys
from aqa.cli import main
from aqa.training.step import TrainingStep
def first_step(*_):
    sys.exit("loaded: " + repr({HEAVY} & set(sys.modules)))
TrainingStep.__call__ = first_step
main(["run", "small.yaml"])
"""


def test_help_comes_without_what_takes_long_to_import():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "loaded: set()")
    for name in ("run", "evaluate", "predict", "prepare", "inspect", "models"):
        assert f"  {name} " in done.stdout


def test_a_run_begins_to_train_without_what_it_needs_later_or_never(here):
    done = subprocess.run([sys.executable, "-c", FIRST_STEP], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "loaded: set()"


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_stopped_run_saves_its_last_epoch_says_so_and_resumes_to_the_same_numbers(here, how, status, wait_for, ended):
    arguments = ["run", "small.yaml", "train.epochs=6", "train.threads=1"]
    command = (  # a parent may have left SIGINT ignored, as shells do for what runs in the background
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import aqa.runs.run\n"
        "from aqa.cli import main\n"
        "from aqa.system import signals\n"
        "plain = aqa.runs.run.epoch_line\n"
        "def held_up(row):\n"  # the fourth epoch ends when the signal has come
        "    while row['epoch'] == 4 and not signals._asked: time.sleep(0.01)\n"
        "    return plain(row)\n"
        "aqa.runs.run.epoch_line = held_up\n"
        f"sys.exit(main({arguments!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True)
    log = here / "runs" / "small-score-seed0" / "log.txt"
    wait_for(lambda: log.exists() and "epoch 3:" in log.read_text())
    os.kill(process.pid, how)
    found, said = ended(process)
    assert found == status, said
    assert "Traceback" not in said
    epoch = RunFolder(log.parent).load_state()["progress"]["epoch"]  # long before the 30 s between two saves
    assert epoch in (3, 4)
    line = f"stopped; the same command resumes after epoch {epoch} of 6"
    assert said.splitlines()[-1] == f"aqa: {line}"
    assert log.read_text().splitlines()[-1] == line
    assert aqa(*arguments) == 0
    assert f"resuming after epoch {epoch}\n" in log.read_text()
    assert aqa(*arguments, "output=alone") == 0
    for name in ("history.csv", "metrics.json", "predictions.csv", "checkpoint.pt"):
        assert (log.parent / name).read_bytes() == (here / "alone" / name).read_bytes(), name
