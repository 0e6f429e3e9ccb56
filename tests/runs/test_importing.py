"""Checkpoints of methods' authors as finished runs: the scores are the model's own, and what is not known is said."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import aqa
from aqa.cli import main
from aqa.models import build
from aqa.models.published import METHODS
from aqa.models.published.names import Names
from aqa.reporting.collect import find_runs, runs_by_model
from aqa.store.store import Modality, Target
from aqa.store.write import write_store

VIDEOS = {"train": 12, "valid": 12, "test": 10}  # of six clips each
WIDTHS = {"visual": 6, "audio": 4, "flow": 5}


def labels():
    return np.random.default_rng(0).uniform(0, 40, sum(VIDEOS.values()))


def features_of(modality, row):
    rng = np.random.default_rng([row, len(modality)])
    return rng.normal(size=(6, WIDTHS[modality])).astype(np.float32)


def write(path, names=None, targets=("TES",), splits=("train", "valid", "test"), changed=()):
    """A small store of three streams. names: what they are called; changed: rows with other features and labels."""
    count, names = sum(VIDEOS.values()), names or {m: m for m in WIDTHS}
    theirs = {ours: m for m, ours in names.items()}
    truth = labels()
    truth[list(changed)] = 0.0
    ends = np.cumsum([0, *VIDEOS.values()])
    rows = {split: range(ends[i], ends[i + 1]) for i, split in enumerate(VIDEOS)}
    write_store(
        path,
        name="small",
        source="made for a test",
        ids=[f"video{i}" for i in range(count)],
        modalities={ours: Modality(WIDTHS[m], np.full(count, 6)) for m, ours in names.items()},
        targets={name: Target(truth, 0, 40) for name in targets},
        splits={split: rows[split] for split in splits},
        read=lambda m, row: features_of(theirs[m], row) * (3.0 if row in changed else 1.0),
    )
    return path


@pytest.fixture(scope="module")
def mcmoe():
    """A small MCMoE, and its weights under the names of its authors."""
    torch.manual_seed(0)
    model = build("mcmoe", widths=WIDTHS, hidden_dim=8, n_encoder=1, n_decoder=1, prototype_position="query")
    names = Names(METHODS["mcmoe"].names(METHODS["mcmoe"].streams))
    return model.eval(), {names.theirs(name): value for name, value in model.state_dict().items()}


def set_up(folder, mcmoe):
    """A store and a checkpoint in a folder."""
    write(folder / "small.h5")
    torch.save({"state_dict": mcmoe[1], "epoch": 3}, folder / "best.pt")


@pytest.fixture
def here(tmp_path, monkeypatch, mcmoe):
    """A working folder with a store and a checkpoint."""
    monkeypatch.chdir(tmp_path)
    set_up(tmp_path, mcmoe)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory, mcmoe):
    """An imported run, what was said of it, and the folder that it is in, with its store."""
    folder = tmp_path_factory.mktemp("made")
    set_up(folder, mcmoe)
    said = []
    result = aqa.import_published(
        "mcmoe",
        folder / "best.pt",
        like=folder / "small.h5",
        out=folder / "run",
        option={"prototype_position": "query"},
        say=said.append,
    )
    return folder, result, said


OPTION = ["--option", "prototype_position=query"]


def imported(*arguments, out="run", like="small.h5"):
    return main(["import", "mcmoe", "best.pt", "--like", like, "--out", out, *OPTION, *arguments])


def own_scores(model, rows):
    """What the model itself says of some videos, in the units of the target."""
    clips = {m: torch.from_numpy(np.stack([features_of(m, row) for row in rows])) for m in WIDTHS}
    with torch.no_grad():
        return 40 * model.score(clips, torch.ones(len(rows), 3, dtype=torch.bool)).double().numpy()


def complete(run, name="VAF"):
    """The scores in a run's predictions.csv when nothing is hidden."""
    found = pd.read_csv(f"{run}/predictions.csv")
    return found[found["pattern"] == name]["score"]


def test_the_scores_are_those_of_the_model_itself(made, mcmoe):
    folder, result, said = made
    run, store = folder / "run", folder / "small.h5"
    expected = own_scores(mcmoe[0], range(24, 34))
    assert np.allclose(complete(run), expected, atol=1e-4)
    again = aqa.evaluate(run)
    assert again.metrics["patterns"] == result.metrics["patterns"]
    for shown in (result, again):
        assert str(shown).startswith("mcmoe on TES; IMPORTED, SELECTION UNKNOWN\n")
        assert "which videos selected the epoch is not known: if those of the test split" in str(shown)
        assert "the epoch was selected on the same videos" not in str(shown)
    assert said == [f"{folder / 'best.pt'}: the weights under 'state_dict' are read, not 'epoch' beside them"]
    scorer = aqa.load(run)
    assert scorer.score({m: features_of(m, 30) for m in WIDTHS}) == pytest.approx(expected[6], abs=1e-4)
    predicted = aqa.predict(run, store, split="test")
    assert np.allclose(predicted["score"], expected, atol=1e-4)
    errors = np.abs(own_scores(mcmoe[0], range(12, 24)) - labels()[12:24])  # of the split valid
    assert (predicted["high"] - predicted["score"]).max() == pytest.approx(errors.max(), rel=1e-4)


def test_what_is_not_known_is_not_said(made):
    folder, result, _ = made
    metrics, config = result.metrics, yaml.safe_load((folder / "run" / "config.yaml").read_text())
    unknown = {"metric": "", "pattern": "", "epoch": None, "value": None, "epochs": None}
    assert metrics["selection"] == {"split": "unknown", **unknown}
    assert metrics["imported"]["method"] == "mcmoe"
    assert metrics["imported"]["file"] == str(folder / "best.pt")
    assert metrics["samples"] == {"test": 10}
    assert "train" not in config
    assert "train" not in config["missing"]
    assert not (folder / "run" / "history.csv").exists()
    (run,), _ = find_runs([folder / "run"])
    assert not [key for key, value in run.settings.items() if key.startswith("train.") and value is not None]


def test_no_label_or_stream_of_the_test_split_decides_anything(here):
    write("changed.h5", changed=range(24, 34))
    assert imported() == 0
    assert imported(out="other", like="changed.h5") == 0
    one, other = (torch.load(f"{run}/checkpoint.pt", weights_only=True) for run in ("run", "other"))
    for key in ("clips", "target", "training_mean", "statistics", "options", "batch_size"):
        assert one[key] == other[key], key
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    here_, there = (aqa.predict(run, "small.h5", split="train") for run in ("run", "other"))
    pd.testing.assert_frame_equal(here_, there)


def test_a_store_without_validation_videos_has_no_intervals_and_says_why(here, capsys):
    write("two.h5", splits=("train", "test"))
    assert imported(like="two.h5") == 0
    out = capsys.readouterr().out
    assert "no intervals of scores: the checkpoint was imported, and the store has no split 'valid'" in out


def test_report_card_export_and_explanation_take_it(made, tmp_path):
    folder, _, _ = made
    run, store = folder / "run", folder / "small.h5"
    assert "unknown †" in aqa.report([run], tmp_path / "report").read_text()
    table = (tmp_path / "report" / "tables.md").read_text()
    assert "| mcmoe (imported) † |" in table
    assert "mcmoe (imported) †: imported: by which videos its authors selected it is not known" in table
    card = aqa.card(run, tmp_path / "card.md").path.read_text()
    assert "It is not known which videos selected the epoch" in card
    assert "training videos;" not in card
    aqa.export(run, tmp_path / "exported")
    pd.testing.assert_frame_equal(aqa.predict(tmp_path / "exported", store), aqa.predict(run, store))
    aqa.explain(run, ids=["video30"], out=tmp_path / "explained")
    assert (tmp_path / "explained" / "streams.csv").is_file()


def test_two_checkpoints_of_a_method_are_two_models_after_those_that_were_validated(made, tmp_path, mcmoe):
    folder, _, _ = made
    small = {"name": "mcmoe", "hidden_dim": 8, "n_encoder": 1, "n_decoder": 1}
    data = {"store": str(folder / "small.h5"), "target": "TES"}
    own = {"name": "own", "data": data, "model": small, "train": {"epochs": 1}, "output": str(tmp_path / "own")}
    aqa.run(own)
    aqa.run({**own, "select": {"split": "train"}, "output": str(tmp_path / "on_train")})
    torch.save({**mcmoe[1], "regressor.bias": mcmoe[1]["regressor.bias"] + 1}, tmp_path / "last.pt")
    aqa.import_published(
        "mcmoe", tmp_path / "last.pt", like=folder / "small.h5", out=tmp_path / "last", option=OPTION[1:]
    )
    models, notes = runs_by_model(find_runs([folder / "run", tmp_path])[0])
    assert notes == []
    (found,) = models.values()
    last = [f"mcmoe (imported), weights={name}.pt" for name in ("best", "last")]
    assert [model.label.split("@")[0] for model in found] == ["mcmoe", "mcmoe", *last]
    assert [model.selected_on for model in found] == ["valid", "train", "unknown", "unknown"]


def test_modalities_and_targets_have_the_names_of_the_store(here, mcmoe):
    write("named.h5", names={"visual": "rgb", "audio": "sound", "flow": "flow"}, targets=("TES", "PCS"))
    more = ["--modality", "v=rgb", "--modality", "a=sound", "--target", "PCS"]
    assert imported(*more, like="named.h5") == 0
    assert np.allclose(complete("run", "RSF"), own_scores(mcmoe[0], range(24, 34)), atol=1e-4)


def test_nothing_is_replaced_unasked(here, capsys):
    assert imported() == 0
    before = (here / "run" / "metrics.json").read_bytes()
    assert imported("--clips", "5") == 2
    assert "--out run: it holds a run; name another folder, or replace it with --overwrite" in capsys.readouterr().err
    assert (here / "run" / "metrics.json").read_bytes() == before
    assert imported("--clips", "5", "--overwrite") == 0
    assert (here / "run" / "metrics.json").read_bytes() != before
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    assert imported("--overwrite", out="mine") == 2
    assert "no run's folder" in capsys.readouterr().err


MISTAKES = {
    "method": (["mcmeo", "best.pt"], "did you mean 'mcmoe'"),
    "another method": (["pamfn", "best.pt"], "best.pt is not a whole PAMFN checkpoint"),
    "no file": (["mcmoe", "bset.pt"], "no checkpoint at bset.pt"),
    "not a checkpoint": (["mcmoe", "small.h5"], "small.h5"),
    "target": (["mcmoe", "best.pt", "--target", "TSE"], "--target: small.h5 has no target 'TSE': did you mean 'TES'"),
    "two targets": (
        ["mcmoe", "best.pt", "--like", "two.h5"],
        "two.h5 has 2 targets; say with --target which: PCS, TES",
    ),
    "option": (["mcmoe", "best.pt", "--option", "n_heads=2"], "has no option 'n_heads': did you mean 'n_head'"),
    "read": (["mcmoe", "best.pt", "--option", "hidden_dim=8"], "it is read from the weights"),
    "no value": (["mcmoe", "best.pt", "--option", "n_head"], "--option 'n_head': write key=value, such as n_head=2"),
    "modality": (["mcmoe", "best.pt", "--modality", "v:rgb"], "write THEIRS=OURS, such as v=rgb"),
    "no modality": (
        ["mcmoe", "best.pt", "--modality", "v=rgb"],
        "small.h5 has no modality 'rgb', which the checkpoint",
    ),
    "widths": (
        ["mcmoe", "best.pt", "--modality", "v=audio", "--modality", "a=visual"],
        "small.h5: modality 'audio' has 4 channels, and the checkpoint takes 6",
    ),
    "no store": (["mcmoe", "best.pt", "--like", "smal.h5"], "did you mean 'small.h5'"),
    "no train": (["mcmoe", "best.pt", "--like", "test.h5"], "test.h5 has no split 'train'"),
    "padding": (["mcmoe", "best.pt", "--clips", "100"], "--clips 100: the longest video of split train has 6 clips"),
    "device": (["mcmoe", "best.pt", "--device", "gpu"], "cpu"),
}


@pytest.mark.parametrize(("arguments", "hint"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(here, capsys, arguments, hint):
    write("two.h5", targets=("TES", "PCS"))
    write("test.h5", splits=("test",))
    before = sorted(path.name for path in here.iterdir())
    like = [] if "--like" in arguments else ["--like", "small.h5"]
    assert main(["import", *arguments, *like, "--out", "run"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("aqa: ")]
    assert hint in line
    assert sorted(path.name for path in here.iterdir()) == before


def test_an_imported_run_cannot_be_trained(here):
    assert imported() == 0
    with pytest.raises(aqa.AqaError, match="'unknown' is of checkpoints that `aqa import` took in"):
        aqa.run("run/config.yaml", {"output": "trained", "data.store": "small.h5"})
