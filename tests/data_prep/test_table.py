"""Own data end to end: a table of labels and files of features become a store, a run and scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import aqa
from aqa.cli import main
from aqa.errors import AqaError
from aqa.store.inspect import inspect_store
from aqa.store.store import FeatureStore

STREAMS = {"visual": "features/{id}.npy", "audio": "features/{id}.npz:audio"}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a spreadsheet of twenty videos and a file of features for each; 03 has no sound, 07 no picture."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("features").mkdir()
    quality = rng.normal(size=20)
    lines = []
    for k, q in enumerate(quality):
        i = f"{k:02d}"
        if i != "07":
            np.save(f"features/{i}.npy", q + rng.normal(size=(6, 4)))
        if i != "03":
            np.savez(f"features/{i}.npz", audio=q + rng.normal(size=(3, 2)), other=np.zeros(2))
        judges = [f"{5 + q + noise:.2f}".replace(".", ",") for noise in rng.normal(size=5) / 5]
        lines.append([i, *judges, f"skater {k % 7}", k % 4, "val" if k in (1, 2) else "test" if k > 14 else "train"])
    with open("labels.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["video", *(f"judge{j}" for j in range(1, 6)), "athlete", "fold", "part"])
        writer.writerows(lines)
    return tmp_path


def prepare(**words):
    given = {"labels": "labels.csv", "stream": STREAMS, "target": ["score=mean(judge1..judge5):0:10"]}
    return aqa.prepare("table", "own.h5", **{**given, **words})


def judges():
    frame = pd.read_csv("labels.csv", sep=";", decimal=",", dtype={"video": str})
    return frame.filter(like="judge").to_numpy()


def test_a_store_from_a_table(own):
    said = prepare(split="part", group=["athlete"], fold="fold", rate={"visual": 2}, id="video")
    with FeatureStore("own.h5") as store:
        assert store.ids == [f"{k:02d}" for k in range(20)]
        assert store.name == "own"
        assert store.widths == {"visual": 4, "audio": 2}
        assert np.isnan(store.clip_seconds("audio"))
        assert store.clip_seconds("visual") == 0.5
        assert store.available.sum(axis=0).tolist() == [19, 19]
        np.testing.assert_allclose(store.read_sample("visual", 5), np.load("features/05.npy"), rtol=1e-6)
        np.testing.assert_allclose(store.read_sample("audio", 5), np.load("features/05.npz")["audio"], rtol=1e-6)
        assert store.groups["athlete"][:8] == [f"skater {k % 7}" for k in range(8)]
        assert store.groups["fold"] == [str(k % 4) for k in range(20)]
        assert {name: len(rows) for name, rows in store.splits.items()} == {"train": 13, "valid": 2, "test": 5}
        target = store.target("score")
        assert (target.low, target.high) == (0, 10)
        np.testing.assert_allclose(target.values, judges().mean(axis=1))
        np.testing.assert_allclose(target.spread, judges().std(axis=1, ddof=1))
    assert "splits: 'val' in column 'part' is taken as valid" in said
    assert inspect_store("own.h5").usable


def test_trimmed_means_and_a_range_that_is_proposed(own):
    said = prepare(target="score=trimmed(judge1..judge5)", split="part")
    with FeatureStore("own.h5") as store:
        target = store.target("score")
        np.testing.assert_allclose(target.values, np.sort(judges(), axis=1)[:, 1:-1].mean(axis=1))
        train = target.values[store.split("train")]
        assert target.low <= train.min() <= train.max() <= target.high
    assert f"range {target.low:g} to {target.high:g}, proposed from the training labels" in said


def test_a_split_is_drawn_by_group_where_there_is_none(own):
    said = prepare(group=["athlete"], seed=3)
    assert "labelled videos were drawn for test by seed 3, by whole groups of 'athlete'" in said
    with FeatureStore("own.h5") as store:
        athletes = {name: {store.group("athlete")[row] for row in rows} for name, rows in store.splits.items()}
        assert not athletes["train"] & athletes["test"]


@pytest.mark.parametrize("words", [{"fold": ["fold"]}, {"split": "none"}])
def test_no_split_where_there_are_folds_or_none_is_wanted(own, words):
    prepare(**words)
    with FeatureStore("own.h5") as store:
        assert store.splits == {}
        assert len(store) == 20


def test_the_same_as_a_file(own):
    (own / "deep").mkdir()
    (own / "deep" / "table.yaml").write_text(
        "labels: ../labels.csv\nid: video\ntarget: score=mean(judge1..judge5):0:10\n"
        "stream:\n  visual: ../features/{id}.npy\n  audio: ../features/{id}.npz:audio\n"
        "rate: {visual: 2}\nextractor: {visual: VST}\ngroup: athlete\nfold: [fold]\nsplit: part\nname: mine\n"
    )
    prepare(split="part", group=["athlete"], fold="fold", rate={"visual": 2}, id="video")
    aqa.prepare("table", "file.h5", config="deep/table.yaml")
    with FeatureStore("own.h5") as one, FeatureStore("file.h5") as other:
        assert one.groups == other.groups
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.target("score").values, other.target("score").values)
        np.testing.assert_array_equal(one.read("visual"), other.read("visual"))
        assert other.name == "mine"
        assert other.attributes["visual"] == {"extractor": "VST", "clip_seconds": 0.5}
    aqa.prepare("table", "over.h5", config="deep/table.yaml", split="none", target="grade=judge2:0:10")
    with FeatureStore("over.h5") as store:
        assert (list(store.targets), store.splits) == (["grade"], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label: a.csv\n", r"table\.yaml, line 1: unknown key 'label': did you mean 'labels'"),
        ("labels: a.csv\nrate: {visual: -1}\n", r"table\.yaml, line 2: rate\.visual: must be more than 0, got -1"),
        ("- a\n", r"table\.yaml: a table file is a mapping of keys \(labels, pack, id, target"),
        ("stream: features\n", r"table\.yaml, line 1: stream"),
    ],
)
def test_a_file_with_a_mistake(own, text, message):
    (own / "table.yaml").write_text(text)
    with pytest.raises(AqaError, match=message) as error:
        aqa.prepare("table", "own.h5", config="table.yaml")
    assert "\n" not in str(error.value)


EXPERIMENT = """
name: own
data: {store: own.h5, target: score, align: time, standardize: true}
model: {name: ridge}
missing: {train: none, test: [complete, V]}
"""


def test_from_files_to_a_run_to_scores(own, capsys):
    words = ["--labels", "labels.csv", "--target", "score=mean(judge1..judge5):0:10", "--split", "part"]
    streams = ["--stream", "visual=features/{id}.npy", "--stream", "audio=features/{id}.npz:audio"]
    rates = ["--rate", "visual=2", "--rate", "audio=1"]
    assert main(["prepare", "table", *words, *streams, *rates, "--out", "own.h5"]) == 0
    (own / "own.yaml").write_text(EXPERIMENT)
    assert main(["run", "own.yaml"]) == 0
    assert main(["predict", "runs/own", *streams, *rates, "--out", "scores.csv"]) == 0
    assert main(["predict", "runs/own", "--store", "own.h5", "--out", "again.csv"]) == 0
    scores, again = (pd.read_csv(name, dtype={"id": str}) for name in ("scores.csv", "again.csv"))
    pd.testing.assert_frame_equal(scores, again)
    assert scores["visible"].tolist()[:8] == ["VA", "VA", "VA", "V", "VA", "VA", "VA", "A"]
    visual = aqa.predict("runs/own", stream={"visual": "features/{id}.npy"})
    assert set(visual["visible"]) == {"V"}
    assert len(visual) == 19


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "needs --store or --stream, one of them"),
        ({"store": "own.h5", "stream": STREAMS}, "needs --store or --stream, one of them"),
        ({"store": "own.h5", "rate": {"visual": 2}}, "--rate goes with --stream"),
        ({"stream": {"visuals": "features/{id}.npy"}}, "the model has no such modality: did you mean 'visual'"),
        ({"stream": {"audio": "features/{id}.npy"}}, "4 channels, the model was trained on 2"),
        ({"stream": ["audio"]}, "--stream audio: write NAME=VALUE"),
        ({"stream": {"visual": "features/{video}.npy"}}, r"unknown field '\{video\}': known: id"),
    ],
)
def test_what_cannot_be_predicted(own, words, message):
    prepare(split="part")
    (own / "own.yaml").write_text(EXPERIMENT)
    aqa.run("own.yaml")
    with pytest.raises(AqaError, match=message) as error:
        aqa.predict("runs/own", **words)
    assert "\n" not in str(error.value)


def test_streams_without_labels(own):
    aqa.prepare("table", "new.h5", stream=STREAMS, unlabelled=True)
    with FeatureStore("new.h5") as store:
        assert store.ids == [f"{k:02d}" for k in range(20)]
        assert store.targets == store.splits == {}


@pytest.fixture
def tables(own):
    """The same videos as tables: a frame number in no order, a note, and the channels of the picture."""
    Path("csv").mkdir()
    for path in Path("features").glob("*.npy"):
        frame = pd.DataFrame(np.load(path), columns=[f"f{k}" for k in range(4)])
        frame.insert(0, "frame", np.arange(len(frame)))
        frame["note"] = "made by hand"
        frame.iloc[::-1].to_csv(f"csv/{path.stem}.csv", index=False)
    return own


def test_chosen_columns_of_tables_ordered_by_frame_are_the_same_store(tables):
    chosen = "csv/{id}.csv[f0..f3 by frame]"
    words = {"labels": "labels.csv", "target": "judge1:0:10", "split": "part", "on_error": "skip"}  # 07 has no picture
    for name, path in (("own.h5", "features/{id}.npy"), ("csv.h5", chosen)):
        aqa.prepare("table", name, stream={"visual": path}, **words)
    with FeatureStore("own.h5") as one, FeatureStore("csv.h5") as other:
        np.testing.assert_array_equal(one.read("visual"), other.read("visual"))
    Path("t.yaml").write_text(f"labels: labels.csv\ntarget: judge1:0:10\nsplit: part\nstream: {{visual: '{chosen}'}}\n")
    aqa.prepare("table", "yaml.h5", config="t.yaml", on_error="skip")
    with FeatureStore("csv.h5") as one, FeatureStore("yaml.h5") as other:
        np.testing.assert_array_equal(one.read("visual"), other.read("visual"))
    (tables / "own.yaml").write_text(
        EXPERIMENT.replace("own.h5", "csv.h5").replace("score, align: time", "judge1").replace(", V]", "]")
    )
    aqa.run("own.yaml")
    columns = ["id", "score"]
    expected = aqa.predict("runs/own", "csv.h5")[columns].dropna()
    found = aqa.predict("runs/own", stream={"visual": chosen})[columns]
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True))


def test_a_column_of_time_that_is_a_channel_is_said(tables):
    for path in Path("csv").glob("*.csv"):
        pd.read_csv(path).drop(columns="note").to_csv(path, index=False)
    words = {"labels": "labels.csv", "target": "judge1:0:10", "split": "part", "on_error": "skip"}
    said = aqa.prepare("table", "a.h5", stream={"visual": "csv/{id}.csv"}, **words)
    wanted = (
        "visual: column 'frame' is taken as a channel; --stream visual='csv/{id}.csv[by frame]' orders the clips by"
    )
    assert wanted in said
    said = aqa.prepare("table", "b.h5", stream={"visual": "csv/{id}.csv[by frame]"}, **words)
    assert "taken as a channel" not in said
    with FeatureStore("a.h5") as one, FeatureStore("b.h5") as other:
        assert (one.widths, other.widths) == ({"visual": 5}, {"visual": 4})


def edited(change):
    """A spoiled copy of the labels: `change` of its lines."""

    def spoil():
        lines = Path("labels.csv").read_text(encoding="utf-8-sig").splitlines()
        Path("labels.csv").write_text("\n".join(change(lines)) + "\n")

    return spoil


def test_an_id_that_is_too_long_is_one_line_before_files_are_looked_for(own):
    edited(lambda lines: [*lines, lines[1].replace("00", "9" * 400, 1)])()
    with pytest.raises(
        AqaError, match=r"^labels\.csv, line 22: id, '9{20}\.\.\.', has 400 characters; 250 are the most$"
    ):
        prepare(split="part")


LISTED = {
    "labelled twice": (edited(lambda lines: [*lines, lines[3]]), {}, "02: labelled twice (line 4 and line 22)"),
    "no features": (
        edited(lambda lines: [*lines, lines[1].replace("00", "99", 1)]),
        {},
        "99: label without features (visual, audio)",
    ),
    "features without a label": (
        edited(lambda lines: lines[:-1]),
        {},
        "features/19.npy: features without a label (visual)",
    ),
    "no id": (edited(lambda lines: [*lines, lines[1][2:]]), {}, "(line 22): label without an id (column 'video'"),
    "no number": (
        edited(lambda lines: [lines[0], lines[1].replace(",", "o"), *lines[2:]]),
        {},
        "00: label that is not a number (line 2: judge1",
    ),
    "outside the range": (lambda: None, {"target": "score=judge1:0:6"}, ": label outside its range (score 6."),
    "another width": (lambda: np.save("features/04.npy", np.ones((3, 5))), {}, "04: features of wrong width (visual 5"),
    "NaN": (
        lambda: np.save("features/04.npy", np.full((3, 4), np.nan)),
        {},
        "04: NaN or inf in features (visual, 3 of",
    ),
    "three dimensions": (
        lambda: np.save("features/04.npy", np.ones((1, 3, 4))),
        {},
        "04: features not of shape (clips, width) (visual (1, 3, 4))",
    ),
    "another place": (
        lambda: np.savez("features/04.npz", audios=np.ones((3, 2))),
        {},
        "04: features that cannot be read (audio: features/04.npz has no array 'audio': did you mean 'audios'?)",
    ),
    "a damaged file": (
        lambda: Path("features/04.npy").write_bytes(b"\x93NUMPY"),
        {},
        "04: features that cannot be read (visual: features/04.npy is cut off",
    ),
}


@pytest.mark.parametrize(("spoil", "words", "line"), LISTED.values(), ids=LISTED)
def test_problems_are_listed_by_id_or_skipped(own, spoil, words, line):
    spoil()
    with pytest.raises(AqaError) as error:
        prepare(split="part", **words)
    first, *listed = str(error.value).split("\n")
    assert "nothing was written, --on-error skip (in Python: on_error='skip') leaves them out" in first
    assert any(line in each for each in listed), listed
    assert not Path("own.h5").exists()
    said = prepare(split="part", on_error="skip", **words)
    assert line in said
    assert inspect_store("own.h5").usable


REFUSED = {
    "no stream": ({"stream": {}}, "needs --stream, at least one"),
    "no labels": ({"labels": None}, "needs --labels, such as labels.csv; without scores say --unlabelled"),
    "no target": ({"target": None}, "--target judge1:0:100; columns of numbers in labels.csv: judge1, judge2, judge3"),
    "a target twice": ({"target": ["a=judge1:0:9", "a=judge2:0:9"]}, "--target: 'a' is named twice"),
    "another id": ({"id": "videos"}, "--id: labels.csv has no column 'videos': did you mean 'video'"),
    "another split": ({"split": "parts"}, "--split: labels.csv has no column 'parts': did you mean 'part'"),
    "a split of folds": ({"split": "fold"}, "--split fold: no video is in 'train'; the column has 0, 1, 2, 3, and"),
    "another group": ({"group": "athlets"}, "--group: labels.csv has no column 'athlets': did you mean 'athlete'"),
    "a group that is a fold": ({"group": "fold", "fold": "fold"}, "--group and --fold: 'fold' is named twice"),
    "a rate of nothing": ({"rate": {"flow": 25}}, "--rate flow: there is no such stream: known: visual, audio"),
    "a rate in words": ({"rate": ["visual=fast"]}, "--rate visual=fast: expected clips a second, a number above 0"),
    "another folder": ({"stream": {"v": "feature/{id}.npy"}}, "no video has a file; there is no folder feature"),
    "another name": ({"stream": {"v": "features/x{id}.npy"}}, "no video has a file; such as features/x00.npy; did you"),
    "another ending": ({"stream": {"v": "features/{id}.nyp"}}, "by its ending '.nyp'; did you mean '.npy'"),
    "another field": ({"stream": {"v": "features/{ids}.npy"}}, "unknown field '{ids}': did you mean 'id'"),
    "an open brace": ({"stream": {"v": "features/{id.npy"}}, "a brace is not closed"),
    "a stream's name": ({"stream": {"a+b": "features/{id}.npy"}}, "modality, 'a+b', holds '+'"),
    "an array for all": ({"stream": {"v": "features/00.npy"}}, "one array of shape (6, 4), without ids; write a file"),
    "no such file": ({"stream": {"v": "features/all.npz"}}, "there is no file features/all.npz; "),
    "a source": (
        {"source": Path()},
        "takes no --source (in Python: source=); files are named by --labels and --stream",
    ),
    "a preset": ({"preset": "tiny"}, "--preset (in Python: preset=) goes with 'synthetic', not with 'table'"),
    "labels for nothing": ({"unlabelled": True, "target": None}, "--labels goes with labels; leave it out"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_words_that_do_not_fit_are_one_line(own, words, message):
    with pytest.raises(AqaError) as error:
        prepare(**words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("own.h5").exists()


def test_a_range_that_is_proposed_does_not_look_at_test_labels(own):
    edited(lambda lines: [*lines[:-1], lines[-1].replace("19;", "19;99", 1)])()
    with pytest.raises(AqaError, match=r"proposed from the training labels, does not hold 19 \(99.*; say the range of"):
        prepare(target="judge1", split="part")


def test_words_of_a_table_go_with_a_table(own):
    with pytest.raises(AqaError, match=r"--labels \(in Python: labels=\) goes with 'table', not with 'fisv'"):
        aqa.prepare("fisv", "x.h5", source=own, labels="labels.csv")
