"""What an installation holds, and what stands around it does no harm."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from aqa import __version__

ROOT = Path(__file__).parents[1]


def python(*arguments, folder):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution of the project, and the wheel that is built from nothing else: their paths."""
    folder = tmp_path_factory.mktemp("built")
    project = folder / "project"
    for name in ("aqa", "data_prep", "experiments"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, project)
    return build("sdist", project, folder), build("wheel", folder / "unpacked", folder)


def build(kind, project, folder):
    """What `pip` or `build` make of a project, with the setuptools that is installed."""
    if kind == "wheel":
        (sdist,) = folder.glob("*.tar.gz")
        shutil.unpack_archive(sdist, project)
        (project,) = project.iterdir()
    done = python("-c", f"from setuptools import build_meta as m; m.build_{kind}({str(folder)!r})", folder=project)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder into which the wheel was installed, beside the packages that are there."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = built[1]
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--target", folder, wheel)
    done = python(*pip, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_of_the_sdist_has_types_templates_and_no_tests(built):
    names = zipfile.ZipFile(built[1]).namelist()
    everything = [path.relative_to(ROOT) for path in (ROOT / "aqa").rglob("*") if path.is_file()]
    expected = {str(path) for path in everything if "__pycache__" not in path.parts}
    expected |= {f"aqa/data_prep/{path.name}" for path in (ROOT / "data_prep").glob("*.py")}
    assert expected <= set(names)
    assert {name.split("/")[0] for name in names} == {"aqa", f"aqa_incomplete-{__version__}.dist-info"}
    with tarfile.open(built[0]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "CITATION.cff", "LICENSE", "requirements.txt", "experiments/quickstart.yaml"} <= inside
    assert {f"data_prep/{path.name}" for path in (ROOT / "data_prep").glob("*.py")} <= inside
    assert not [name for name in inside if name.startswith("tests")]


def test_the_distribution_has_its_own_name_and_the_package_and_the_command_are_aqa(installed, tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(installed)!r})
import aqa
from importlib import metadata
(found,) = metadata.distributions(name="aqa-incomplete", path=[{str(installed)!r}])
(command,) = found.entry_points.select(group="console_scripts")
print(aqa.__file__, found.version, command.name, command.value)
sys.argv = ["aqa", "prepare", "synthetic", "--preset", "tiny", "--samples", "2", "--out", "x.h5"]
sys.exit(command.load()())
"""
    done = python("-c", script, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first == f"{installed / 'aqa' / '__init__.py'} {__version__} aqa aqa.cli:main"
    assert not (installed / "data_prep").exists()
    assert (tmp_path / "x.h5").is_file()


def test_what_users_are_told_to_install_is_this_distribution_and_extras_that_it_has(built):
    """The name `aqa` on a package index is another project: `pip install aqa` would install that."""
    with zipfile.ZipFile(built[1]) as wheel:
        about = email.message_from_bytes(wheel.read(f"aqa_incomplete-{__version__}.dist-info/METADATA"))
    assert about["Name"] == "aqa-incomplete"
    extras = set(about.get_all("Provides-Extra"))
    tops = [ROOT / name for name in ("aqa", "data_prep", "docs", "experiments", "benchmarks", "stress")]
    texts = [path for top in tops for path in top.rglob("*") if path.suffix in (".py", ".md", ".yaml", ".ipynb", ".j2")]
    named = set()
    for path in [*texts, *ROOT.glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\baqa\[[a-z,]+\]|pip install[^`\n]* [\"']?aqa(?![\w.-])", text), path
        for found in re.findall(r"(?:aqa-incomplete|[\"']\.)\[([a-z,]+)\]", text):
            named |= set(found.split(","))
    assert {"llm", "onnx", "table"} <= named <= extras


def test_a_folder_data_prep_of_the_users_own_is_not_taken_for_ours(tmp_path):
    (tmp_path / "data_prep").mkdir()
    (tmp_path / "data_prep" / "__init__.py").write_text("raise RuntimeError('the wrong folder')\n")
    arguments = ("-m", "aqa", "prepare", "synthetic", "--preset", "tiny", "--samples", 2, "--out", "x.h5")
    done = python(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.h5").is_file()
    assert python("-c", "import aqa.data_prep.fisv", folder=tmp_path).returncode == 0


def test_the_hosted_checks_call_the_ones_of_the_repository():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["check"]["steps"]
    assert (ROOT / ".ci" / "run").is_file()


def test_the_image_copies_what_is_there_and_what_is_let_through():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [rest.split() for step, rest in steps if step == "COPY" and not rest.startswith("--from")]
    copied = {name for *names, _ in words for name in names}
    ignored = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in ignored
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert [rest for step, rest in steps if step == "USER"] == ["aqa"]
    assert steps[-2:] == [["ENTRYPOINT", '["aqa"]'], ["CMD", '["--help"]']]
    pins = (ROOT / "requirements.txt").read_text()
    asked = [name for step, rest in steps if step == "RUN" for name in re.findall(r"grep '\^(\w+==)'", rest)]
    assert asked == ["torch==", "setuptools=="]
    assert all(len(re.findall(f"^{name}", pins, re.MULTILINE)) == 1 for name in asked)


def test_the_draft_of_the_conda_recipe_has_the_dependencies_of_the_wheel(built):
    with zipfile.ZipFile(built[1]) as wheel:
        about = email.message_from_bytes(wheel.read(f"aqa_incomplete-{__version__}.dist-info/METADATA"))
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    assert recipe["package"]["name"] == about["Name"]
    assert recipe["context"]["version"] == __version__
    python_, *run = recipe["requirements"]["run"]
    other_names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    pairs = [line.split() for line in run]
    needed = [each for each in about.get_all("Requires-Dist") if "extra ==" not in each]
    assert sorted(other_names.get(name, name) + bound for name, bound in pairs) == sorted(needed)
    assert python_ == "python >=${{ python_min }}"
    assert recipe["build"]["python"]["entry_points"] == ["aqa = aqa.cli:main"]
