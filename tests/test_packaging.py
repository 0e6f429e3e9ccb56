"""What an installation holds, and what stands around it does no harm."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def python(*arguments, folder):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_types_and_templates_are_in_the_package(tmp_path):
    listed = python(
        "setup.py",
        "-q",
        "egg_info",
        "-e",
        tmp_path,
        "build",
        "-b",
        tmp_path,
        "--build-lib",
        tmp_path / "lib",
        folder=ROOT,
    )
    assert listed.returncode == 0, listed.stderr
    for name in ("aqa/py.typed", "aqa/reporting/published.yaml", "aqa/__main__.py", "data_prep/fisv.py"):
        assert (tmp_path / "lib" / name).is_file(), name


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
