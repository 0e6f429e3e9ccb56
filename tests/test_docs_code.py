"""Every code block of README, CONTRIBUTING and docs/ is run, page by page, or says why it cannot be.

Shell blocks go through the command line in this process, Python blocks are executed, YAML blocks are checked as what
they are. A block that names a file in its first line (`# first.yaml`) is saved under that name. `<!-- not run: why -->`
before a block leaves it out; then its commands' options are checked still. Experiments of the project are cut down to
an epoch and a few channels, and the published files that pages speak of are there, small, in the published layout.
"""

from __future__ import annotations

import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import typer
import yaml
from markdown_it import MarkdownIt

from aqa import plugins
from aqa.cli import app, main
from aqa.config.load import load_experiment, validated
from aqa.config.schema import Experiment
from aqa.data_prep import DATASETS
from aqa.data_prep.table import TableConfig
from aqa.errors import AqaError
from aqa.missing import PATTERNS
from aqa.models import MODELS
from aqa.reporting.published import published_rows
from aqa.runs import run as experiment
from aqa.store.store import Modality, Target
from aqa.store.synthetic import make_synthetic
from aqa.store.write import write_store
from aqa.sweeps.grid import Sweep
from aqa.sweeps.searches import Tune

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
COMMANDS = typer.main.get_command(app).commands
LANGUAGES = {"bash", "python", "yaml", "toml", "text"}
OTHER_PROGRAMS = {"pip", "ray", "wandb", "git", "sbatch", "docker", "."}
OTHER_MODULES = {"pytest", "build"}
MARK = re.compile(r"<!-- not run: (\S.*?) -->")


@dataclass(frozen=True)
class Block:
    """A code block: where it is, what it is in, and why it is not run, where it is not."""

    place: str
    language: str
    text: str
    mark: str | None = None

    @property
    def file(self) -> str | None:
        """The name it is to be saved under."""
        named = re.match(r"# ([\w/]+\.(?:py|yaml))\n", self.text)
        return named.group(1) if named else None


def blocks(text: str, page: str) -> list[Block]:
    """The code blocks of a page; an indented one is of the shell."""
    found, mark = [], None
    for token in MarkdownIt().parse(text):
        if token.type in ("fence", "code_block"):
            language = (token.info.split() or [""])[0] if token.type == "fence" else "bash"
            if not language.startswith("{"):  # a directive of the site, which its build checks
                found.append(Block(f"{page}, line {token.map[0] + 1}", language, token.content, mark))
        if token.type == "html_block" and MARK.search(token.content):
            mark = MARK.search(token.content).group(1)
        elif token.nesting >= 0:
            mark = None
    return found


def blocks_of(page: str) -> list[Block]:
    return blocks((ROOT / page).read_text(encoding="utf-8"), page)


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block, word by word, remarks and line ends with a backslash taken away."""
    text = block.text.replace("\\\n", " ")
    lines = [shlex.split(os.path.expandvars(line), comments=True) for line in text.splitlines()]
    return [line for line in lines if line]


def check_command(words: list[str]) -> None:
    """What can be said of a command without running it: it exists, and its options do."""
    while "=" in words[0]:
        words = words[1:]
    program, *rest = words
    if program == "aqa":
        COMMANDS[rest[0]].make_context(rest[0], rest[1:])
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), rest[0]
    elif program == "python":
        if rest[0] == "-m" and rest[1] in OTHER_MODULES:
            rest = rest[2:] or ["."]
        script = f"{rest[1].replace('.', '/')}.py" if rest[0] == "-m" else rest[0]
        assert (ROOT / script).exists(), script
    elif program in ("ruff", "mypy", "pytest"):
        assert all((ROOT / word).exists() for word in rest if "/" in word), rest
    else:
        assert program in OTHER_PROGRAMS, f"unknown program {program}"


def check_yaml(block: Block, scratch: Path) -> None:
    """A YAML block is published numbers, a table of own data, an experiment, a sweep, a search, or a part of one."""
    content = yaml.safe_load(block.text)
    if set(content) == {"rows"}:
        (scratch / "numbers.yaml").write_text(block.text)
        published_rows(scratch / "numbers.yaml")
    elif "labels" in content:
        validated(TableConfig, content, block.place, {})
    elif set(content) <= set(Sweep.model_fields):
        validated(Sweep, {"name": "part", "experiments": ["e.yaml"], **content}, block.place, {})
    elif set(content) <= set(Tune.model_fields):
        validated(Tune, {"name": "part", "experiments": ["e.yaml"], **content}, block.place, {})
    else:
        validated(Experiment, {"name": "part", "data": {"store": "s", "target": "t"}, **content}, block.place, {})


def shrunk(content: dict) -> dict:
    """An experiment at a size that costs nothing."""
    small = {"hidden_dim": 8, "feedforward_dim": 8, "n_encoder": 1, "n_decoder": 1}
    model = {key: small.get(key, value) for key, value in content["model"].items()}
    targets = {name: {"train": {"epochs": 1}} for name in content.get("targets", {})}
    train = {**content.get("train", {}), "epochs": 1}
    return {**content, "model": model, "train": train, **({"targets": targets} if targets else {})}


def write_published(root: Path) -> None:
    """Twelve videos of each published data set in the layout of its authors."""
    rng = np.random.default_rng(0)
    widths = {"rgb_VST": 1024, "audio_AST": 768, "flow_I3D": 1024}

    def mapping(path: Path, ids: list[str], width: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = {i: rng.normal(size=(3, width)).astype(np.float32) for i in ids}
        np.save(path, np.array(samples, dtype=object), allow_pickle=True)

    def labels(path: Path, ids: list[str], scores: list[tuple[float, float]], header: str = "") -> None:
        lines = [" ".join([i, *(f"{rng.uniform(*score):.2f}" for score in scores)]) for i in ids]
        path.write_text("\n".join([header, *lines] if header else lines) + "\n")

    numbers = [str(i) for i in range(1, 13)]
    for name, width in widths.items():
        mapping(root / f"Fis-V/FISV_{name}.npy", numbers, width)
    for file, ids in (("train", numbers[:8]), ("test", numbers[8:])):
        labels(root / f"Fis-V/{file}.txt", ids, [(15, 45), (15, 40)], "id TES PCS")
    videos = {kind: [f"{kind}_{i:03d}" for i in range(12)] for kind in ("Ball", "Clubs", "Hoop", "Ribbon")}
    for kind, ids in videos.items():
        for name, width in widths.items():
            mapping(root / f"RG/{kind}_{name}.npy", ids, width)
    for file, part in (("train", slice(8)), ("test", slice(8, 12))):
        ids = [i for members in videos.values() for i in members[part]]
        labels(root / f"RG/{file}.txt", ids, [(3, 9), (3, 9), (9, 20)], "name Difficulty Execution Total")
    folders = {"output_feature_fs1000_new": (4, 5, 768), "ast_feature_fs1000_new": (4, 768)}
    for folder, shape in {**folders, "i3d_avg_clip8_5s_fs1000": (4, 1024)}.items():
        (root / "FS1000" / folder).mkdir(parents=True)
        for i in numbers:
            np.save(root / "FS1000" / folder / f"{i}.npy", rng.normal(size=shape).astype(np.float32))
    scores = [(40, 120), (40, 60), *[(5, 9.9)] * 5, (1, 2)]
    labels(root / "FS1000/train_fs1000_new.txt", numbers[:8], scores)
    labels(root / "FS1000/val_fs1000_new.txt", numbers[8:], scores)
    (root / "POM").mkdir()
    for kind, shape in (("video", (5, 41)), ("audio", (5, 43)), ("y", (17,))):
        for split, count in (("train", 8), ("valid", 4), ("test", 4)):
            with h5py.File(root / f"POM/{kind}_{split}.h5", "w") as file:
                file["d1"] = rng.uniform(1, 5, size=(count, *shape)).astype(np.float32)


def write_jigsaws(path: Path) -> None:
    """Five super-trials of four surgeons, each rated for three tasks."""
    rng, count = np.random.default_rng(0), 20
    write_store(
        path,
        name="jigsaws",
        source="random numbers",
        ids=[f"recording {i}" for i in range(count)],
        modalities={"kinematics": Modality(3, np.full(count, 4)), "video": Modality(2, np.full(count, 4))},
        targets={
            task: Target(rng.uniform(6, 30, count), 6, 30) for task in ("Suturing", "Needle_Passing", "Knot_Tying")
        },
        splits={},
        groups={"surgeon": [f"S{i // 5}" for i in range(count)], "supertrial": [str(i % 5) for i in range(count)]},
        read=lambda modality, row: rng.normal(size=(4, 3 if modality == "kinematics" else 2)).astype(np.float32),
    )


def write_rated(folder: Path) -> None:
    """Small stores with the names of PercePiano, finger tapping and soccer, from random numbers."""
    write_small(folder, "percepiano", ["timing", "dynamics", "pedal"], ["convincing", "dramatic"], "passage")
    streams = ["rhythm", "amplitude", "speed", "wrist", "interruption"]
    write_small(folder, "finger_tapping", streams, ["consensus", "expert_mean"], "patient")
    write_small(folder, "soccer", ["eye", "position", "rotation", "inertial"], ["expert_novice_score"], "player")


def write_small(folder: Path, name: str, streams: list[str], targets: list[str], group: str) -> None:
    """Thirty videos of ten performers, each of whom is in one split and in one of the folds `fold10`."""
    rng, count = np.random.default_rng(0), 30
    write_store(
        folder / f"{name}.h5",
        name=name,
        source="random numbers",
        ids=[f"video {i}" for i in range(count)],
        modalities={stream: Modality(3, np.full(count, 4)) for stream in streams},
        targets={target: Target(rng.uniform(0, 1, count), 0, 1) for target in targets},
        splits={"train": range(15), "valid": range(15, 21), "test": range(21, 30)},
        groups={group: [f"{i // 3}" for i in range(count)], "fold10": [f"{i // 3}" for i in range(count)]},
        read=lambda modality, row: rng.normal(size=(4, 3)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def supplies(tmp_path_factory):
    """What pages take for granted: published files, their stores, and finished runs."""
    folder = tmp_path_factory.mktemp("supplies")
    write_published(folder / "downloads")
    for source in (folder / "downloads").iterdir():
        name = source.name.lower().replace("-", "")
        assert main(["prepare", name, "--source", str(source), "--out", str(folder / "data" / f"{name}.h5")]) == 0
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    for path in (folder / "experiments" / "models").glob("*.yaml"):
        path.write_text(yaml.safe_dump(shrunk(yaml.safe_load(path.read_text())), sort_keys=False))
    for path in (folder / "experiments").glob("*.yaml"):
        path.write_text(yaml.safe_dump(shrunk(yaml.safe_load(path.read_text())), sort_keys=False))
    write_jigsaws(folder / "data" / "jigsaws.h5")
    write_rated(folder / "data")
    make_synthetic("tiny", folder / "data" / "tiny.h5", samples=60)
    make_synthetic("fisv_small", folder / "data" / "fisv_small.h5", samples=8)
    output = f"output={folder / 'runs' / 'one'}"
    assert main(["run", str(folder / "experiments/fisv.yaml"), f"data.store={folder / 'data/fisv.h5'}", output]) == 0
    return folder


@pytest.fixture
def scratch(tmp_path, supplies, monkeypatch, in_this_process):
    """An empty working folder except for what `supplies` has, and no plugin; registries are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv(plugins.ENVIRONMENT, "")
    monkeypatch.setattr(plugins, "_begun", set())
    monkeypatch.setattr(plugins, "_loaded", {})
    for registry in (MODELS, PATTERNS, DATASETS):
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(experiment, "draw", lambda *parts: None)  # figures take longer than these runs
    shutil.copytree(supplies / "experiments", tmp_path / "experiments")
    (tmp_path / "downloads").symlink_to(supplies / "downloads")
    for source in (supplies / "downloads").iterdir():  # some pages name them without the folder
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tiny.h5").symlink_to(supplies / "data" / "tiny.h5")  # the quick start has been run
    return tmp_path


def supply(words: list[str], supplies: Path) -> None:
    """What a command takes for granted and earlier blocks of its page did not make."""
    if words[0] == "run" and words[1].startswith("experiments/"):
        store = Path(load_experiment(words[1], words[2:3]).data.store)
        if not store.exists() and (supplies / "data" / store.name).exists():
            store.symlink_to(supplies / "data" / store.name)
    if words[0] == "sweep" and words[1].startswith("experiments/"):
        for path in (supplies / "data").iterdir():
            if not (Path("data") / path.name).exists():
                (Path("data") / path.name).symlink_to(path)
    if words[0] == "report":
        for name in words[1 : words.index("--out")]:
            if not Path(name).exists():
                shutil.copytree(supplies / "runs" / "one", Path(name) / "one")


def run_command(words: list[str], supplies: Path) -> None:
    environment = {}
    while "=" in words[0]:
        name, _, environment[name] = words[0].partition("=")
        words = words[1:]
    program, *rest = words
    if program == "aqa":
        supply(rest, supplies)
        assert main(rest) == 0
    elif program == "python" and rest[:2] == ["-m", "pytest"]:
        done = subprocess.run(
            [sys.executable, *rest, "-q", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert " passed" in done.stdout
    elif program == "python" and rest[0] == "-m":
        with mock.patch.object(sys, "argv", rest[1:]):
            runpy.run_module(rest[1], run_name="__main__")
    elif program == "python":
        runpy.run_path(rest[0], run_name="__main__")
    else:
        raise AssertionError(f"the tests do not run {program}: mark the block, <!-- not run: why -->")


def run_block(block: Block, names: dict, scratch: Path, supplies: Path) -> None:
    if block.language == "bash":
        for words in commands(block):
            if block.mark is None:
                run_command(words, supplies)
            elif block.text.startswith("#!"):
                assert subprocess.run(["bash", "-n"], input=block.text, text=True, check=False).returncode == 0
            else:
                check_command(words)
    elif block.language == "yaml":
        check_yaml(block, scratch)
    elif block.language == "toml":
        configparser.ConfigParser().read_string(block.text)  # what these blocks have of TOML is INI as well
    elif block.language == "python":
        code = compile(block.text, block.place, "exec")
        if block.file is None and block.mark is None:
            exec(code, names)
    if block.file is not None:
        (scratch / block.file).write_text(block.text)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs_or_says_why_not(page, scratch, supplies):
    names: dict = {"__name__": "page"}
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.place}: a code block is of {sorted(LANGUAGES)}"
        try:
            run_block(block, names, scratch, supplies)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{block.place}: {error}") from error


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_the_commands_in_an_experiments_head_run(path, scratch, supplies):
    for command in re.findall(r"^#   (aqa .*)$", path.read_text(), re.MULTILINE):
        run_command(shlex.split(command), supplies)


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist_with_their_options(page):
    for code in re.findall(r"`aqa ([a-z][^`]*)`", (ROOT / page).read_text(encoding="utf-8")):
        known = COMMANDS[code.split()[0]]
        options = {option for parameter in known.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"--[a-z-]+", code)) <= options, code


def test_a_page_is_taken_apart_as_it_should_be():
    text = "    aqa models\n\n<!-- not run: no time -->\n```bash\naqa run a.yaml x=1 # so\n```\n\n"
    text += "<!-- not run: old -->\ntext\n\n```python\n# a/b.py\nx = 1\n```\n"
    first, second, third = blocks(text, "page")
    assert (first.language, first.text, first.mark) == ("bash", "aqa models\n", None)
    assert second.mark == "no time"
    assert commands(second) == [["aqa", "run", "a.yaml", "x=1"]]
    assert (third.mark, third.file, third.place) == (None, "a/b.py", "page, line 11")


@pytest.mark.parametrize("line", ["aqa walk", "aqa run a.yaml --fast", "make dinner", "python no_such.py", "frob"])
def test_a_marked_command_that_does_not_exist_is_found(line):
    with pytest.raises(Exception):  # noqa: B017, PT011
        check_command(shlex.split(line))


def test_an_unmarked_block_that_cannot_run_is_found(scratch, supplies):
    for text in ("aqa run no_such.yaml", "ray start", "python no_such.py"):
        with pytest.raises((AssertionError, OSError)):
            run_block(Block("x", "bash", text), {}, scratch, supplies)
    with pytest.raises(AqaError, match=r"unknown key 'train\.epoch'"):
        run_block(Block("x", "yaml", "train: {epoch: 3}"), {}, scratch, supplies)
