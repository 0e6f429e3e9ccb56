"""An experiment for the model that it names: switching models, and mistakes that are found before anything is read."""

from pathlib import Path

import pytest
import torch
import yaml

import aqa
from aqa.errors import AqaError
from aqa.models import MODELS, build
from aqa.registry import option_names
from aqa.runs.load import load, only_of

ROOT = Path(__file__).parents[2] / "experiments"
FILES = sorted([*ROOT.glob("*.yaml"), *(ROOT / "models").glob("*.yaml")])
WIDTHS = {"visual": 1024, "audio": 768, "flow": 1024}


def switched_to(name):
    """What a change to another model has to say: its name, and what it has no default for."""
    return [f"model.name={name}", *(["model.llm=folder"] if name == "limssr" else [])]


def options_in(file):
    return {name: value for name, value in yaml.safe_load(file.read_text())["model"].items() if name != "name"}


@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_takes_the_place_of_mcmoe_in_fisv(name):
    said = []
    model = load(ROOT / "fisv.yaml", switched_to(name), said.append).model
    own = option_names(MODELS.get(name).make)
    assert model.name == name
    given = {key: value for key, value in model.options.items() if key != "llm"}
    assert given == {key: value for key, value in options_in(ROOT / "fisv.yaml").items() if key in own}
    if name != "limssr":  # whose language model is not there
        with torch.device("meta"):
            assert build(name, widths=WIDTHS, **model.options).parameter_count
    left_out = [key for key in options_in(ROOT / "fisv.yaml") if key not in own]
    line = f"model.name={name}: these options in the file are of mcmoe alone and left out: {', '.join(left_out)}"
    assert said == ([line] if left_out else [])


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_model_takes_the_place_of_the_one_in_an_experiment(file):
    for name in MODELS.names():
        options = load(file, switched_to(name), lambda line: None).model.options
        kept = {k: v for k, v in options_in(file).items() if k in option_names(MODELS.get(name).make)}
        assert options == {**kept, **({"llm": "folder"} if name == "limssr" else {})}


def test_a_model_that_needs_an_option_says_so_where_it_is_switched_to():
    with pytest.raises(AqaError, match=r"^model 'limssr', option 'llm': it is missing$"):
        load(ROOT / "fisv.yaml", ["model.name=limssr"], lambda line: None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.name=mome", "model.kl_weight=0"], "model 'mome' has no option 'kl_weight': "),
        (
            ["model.hiden_dim=8", "model.name=mome"],
            "model 'mome' has no option 'hiden_dim': did you mean 'hidden_dim'?",
        ),
        (["model.name=mcmeo"], "unknown model 'mcmeo': did you mean 'mcmoe'?"),
        (["model={name: mome, kl_weight: 0}"], "model 'mome' has no option 'kl_weight': "),
        (["data.synthetic=tniy"], "unknown synthetic preset 'tniy': did you mean 'tiny'?"),
    ],
)
def test_what_a_change_says_itself_is_held_to_the_new_model(overrides, message):
    with pytest.raises(AqaError) as error:
        load(ROOT / "fisv.yaml", overrides, lambda line: None)
    assert str(error.value).startswith(message)


def test_a_misspelt_option_in_the_file_is_no_option_of_another_model():
    content = {"name": "x", "data": {"store": "s.h5", "target": "t"}, "model": {"name": "mcmoe", "n_qeury": 4}}
    with pytest.raises(AqaError, match="model 'mome' has no option 'n_qeury'"):
        load(content, ["model.name=mome"], lambda line: None)


def test_the_last_name_counts_and_the_files_own_leaves_its_options():
    options = options_in(ROOT / "fisv.yaml")
    assert load(ROOT / "fisv.yaml", ["model.name=mcmoe"], pytest.fail).model.options == options
    assert load(ROOT / "fisv.yaml", ["model.name=mome", "model.name=mcmoe"], pytest.fail).model.options == options
    given = load(ROOT / "fisv.yaml", ["model={name: ridge}"], pytest.fail).model
    assert (given.name, given.options) == ("ridge", {})


def test_of_a_model_that_is_not_known_all_that_the_new_one_lacks_is_left_out():
    assert only_of("gone", "mome", ["hidden_dim", "kl_weight", "own"]) == ["kl_weight", "own"]
    assert only_of("mcmoe", "mome", ["hidden_dim", "kl_weight", "own"]) == ["kl_weight"]
    assert only_of("mcmoe", "gone", ["hidden_dim"]) == []


def test_a_run_says_it_and_a_sweep_says_it_once(tiny_store, tmp_path):
    experiment = {
        "name": "one",
        "data": {"store": str(tiny_store()), "target": "TES"},
        "model": {"name": "mcmoe", "hidden_dim": 4, "n_query": 2},
        "missing": {"test": "V"},
        "select": {"split": "test"},
    }
    said = []
    aqa.run(experiment, ["model.name=ridge", f"output={tmp_path}/run"], say=said.append)
    assert said[0] == "model.name=ridge: these options in the file are of mcmoe alone and left out: hidden_dim, n_query"
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(experiment))
    grid = {"model.name": ["mcmoe", "ridge"], "train.seed": [0, 1]}
    sweep = {"name": "s", "experiments": ["one.yaml"], "grid": grid}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(sweep))
    said.clear()
    found = aqa.sweep(tmp_path / "s.yaml", dry_run=True, say=said.append)
    assert len(found.states) == 4
    assert said == ["model.name=ridge: these options in the file are of mcmoe alone and left out: hidden_dim, n_query"]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**sweep, "set": {"model.n_qeury": 3}}))
    with pytest.raises(AqaError, match="model 'mcmoe' has no option 'n_qeury': did you mean 'n_query'"):
        aqa.sweep(tmp_path / "s.yaml", dry_run=True)


def test_a_published_data_set_that_is_not_prepared_yet_is_told_how(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    how = "make it first from the published files in a folder: aqa prepare fs1000 --source FOLDER --out data/fs1000.h5"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fisv.h5").touch()
    with pytest.raises(AqaError) as error:
        aqa.run(ROOT / "fs1000.yaml")
    assert str(error.value) == f"no feature store at data/fs1000.h5; {how}"
    (tmp_path / "e.yaml").write_text("name: x\ndata: {store: data/fs1000.h5, target: TES}\n")
    (tmp_path / "s.yaml").write_text("name: s\nexperiments: [e.yaml]\ngrid: {data.target: all}\n")
    with pytest.raises(AqaError, match=r"^no feature store at data/fs1000\.h5; make it first"):
        aqa.sweep(tmp_path / "s.yaml")
