"""What the pages list is what the code takes, and their examples run."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

import aqa
from aqa.config.schema import Experiment, StrictConfig
from aqa.data_prep import DATASETS
from aqa.missing import PATTERNS
from aqa.models import MODELS
from aqa.registry import option_names
from aqa.reporting.published import published_rows
from aqa.runs.folder import OF_THE_RUN_ITSELF
from aqa.store.inspect import inspect_store
from aqa.sweeps.grid import RayCluster, Sweep
from aqa.sweeps.searches import Tune, load_tune, searches_of

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LONGEST = 120


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def keys(section=Experiment, prefix=""):
    for name, field in section.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, StrictConfig):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_key_of_an_experiment_is_listed():
    table = page("docs/experiments.md").split("## Keys")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z_.]+)`", table))
    own = {"model", "targets", *OF_THE_RUN_ITSELF}  # a run writes some keys into its config.yaml itself
    for key in set(keys()) - own:
        section, _, name = key.rpartition(".")
        assert key in listed or (section == "tracking" and name in listed), key


def test_every_key_of_a_sweep_and_every_sweep_is_listed():
    listed = set(re.findall(r"`([a-z_.]+)`", page("docs/sweeps.md")))
    assert set(keys(Sweep)) <= listed
    assert {path.name for path in (ROOT / "experiments" / "sweeps").glob("*.yaml")} <= listed


def test_every_key_of_a_tune_file_is_listed():
    assert set(keys(Tune)) <= set(re.findall(r"^\| `([a-z_]+)` \|", page("docs/tuning.md"), re.MULTILINE)) | {"output"}


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_has_a_default_search_space(name):
    (search,) = searches_of(load_tune(ROOT / "experiments" / "tune" / f"{name}.yaml"), make=False)
    assert search.place["model"] == name
    assert len(search.space) > 1


def test_the_architecture_page_lists_every_module():
    layout = page("docs/architecture.md").split("```text")[2].split("```")[0]
    listed = set(re.findall(r"\b([a-z_0-9]+\.py|[a-z_]+/)", layout))
    for folder in ("aqa", "data_prep"):
        files = [path for path in (ROOT / folder).rglob("*.py") if path.stem != "__init__"]
        assert {path.name for path in files} | {f"{path.parent.name}/" for path in files} <= listed


def test_every_key_of_a_launcher_is_listed():
    assert set(keys(RayCluster)) <= set(re.findall(r"^\| `([a-z_.]+)`", page("docs/cluster.md"), re.MULTILINE))


@pytest.mark.parametrize("name", PATTERNS.names())
def test_every_missing_pattern_is_listed(name):
    table = page("docs/experiments.md").split("## Missing patterns")[1]
    assert re.search(rf"^\| `.*\b{name}\b", table, re.MULTILINE), name


def test_every_option_of_mcmoe_is_listed():
    options = option_names(MODELS.get("mcmoe").make)
    assert options <= set(re.findall(r"`([a-z_]+)`", page("docs/mcmoe.md")))


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_data_set_is_listed_and_has_its_experiment(name):
    assert f"| `{name}` |" in page("README.md")
    assert (ROOT / "experiments" / f"{name}.yaml").is_file()


def test_links_lead_somewhere():
    for path in PAGES:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("https://") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_example_of_own_data_runs_as_it_stands_and_is_usable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = page("docs/data.md").split("```python\n")[1].split("```")[0]
    exec(compile(code, "docs/data.md", "exec"), {})
    inspection = inspect_store("own.h5")
    assert inspection.usable
    assert "available [" not in str(inspection)
    assert "VA: 19, V: 1" in str(inspection)
    assert [warning.split(":")[0] for warning in inspection.warnings] == ["targets"]


def test_the_example_of_published_numbers_loads(tmp_path):
    example = page("docs/reports.md").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "numbers.yaml").write_text(example)
    (row,) = published_rows(tmp_path / "numbers.yaml")
    assert row.srcc == {"VAF": 0.75, "VA": 0.70}


def test_the_citation_file_names_the_paper_of_every_model_and_data_set():
    citation = yaml.safe_load(page("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == aqa.__version__
    assert {"message", "title", "authors", "license", "type"} <= set(citation)
    notes = {reference["notes"]: reference for reference in citation["references"]}
    assert {f"model {name}" for name in MODELS.names()} | {f"data set {name}" for name in DATASETS.names()} == set(
        notes
    )
    for reference in notes.values():
        assert {"type", "title", "authors", "year"} <= set(reference), reference["title"]
    for entry in [*MODELS.entries(), *DATASETS.entries()]:
        said = f"{entry.about.get('paper', '')} {entry.about.get('url', '')}"
        kind = "model" if entry.name in MODELS.names() else "data set"
        for number in re.findall(r"\d{4}\.\d{5}", said):
            assert notes[f"{kind} {entry.name}"]["url"].endswith(number)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_line_of_a_page_is_longer_than_120_characters(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    one_link = re.compile(r"\W*(\[[^\]]*\]\([^)]*\)|https://\S+)\W*")  # cannot be broken
    long = [number for number, line in enumerate(lines, 1) if len(line) > LONGEST and not one_link.fullmatch(line)]
    assert not long, f"{path.name}: lines of more than {LONGEST} characters: {long}"


def test_every_page_is_in_the_sites_navigation():
    listed = set(re.findall(r"^([a-z_]+)$", page("docs/index.md"), re.MULTILINE))
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"} == listed


def test_every_public_name_is_in_the_reference():
    reference = page("docs/api.md")
    for name in set(aqa.__all__) - {"models"}:
        assert re.search(rf"aqa\.{name}$", reference, re.MULTILINE), name
