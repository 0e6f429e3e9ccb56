"""Which runs are found, and which of them are one model."""

import pytest

from aqa.errors import AqaError
from aqa.reporting.collect import Place, entries, find_runs, read_scores


def labels(by_place, place=("fisv", "TES")):
    return {(entry.label, entry.selected_on): list(entry.runs) for entry in by_place[Place(*place)]}


def test_runs_are_found_below_folders_and_what_is_no_finished_run_is_noted(finished, tmp_path):
    first, second = finished("sweep/a"), finished("sweep/b", seed=1)
    (finished("sweep/half", seed=2) / "metrics.json").unlink()
    (finished("sweep/broken", seed=3) / "metrics.json").write_text("{")
    finished("sweep/old", seed=4, metrics={"data_set": None})
    (tmp_path / "runs" / "sweep" / "old" / "metrics.json").write_text('{"patterns": {}}')
    (first / "wandb").mkdir()
    (first / "wandb" / "config.yaml").write_text("versions: {}")  # inside a run's folder: not looked at
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.yaml").write_text("a: 1")  # another program's
    (tmp_path / "runs" / "errors").mkdir()
    (tmp_path / "runs" / "errors" / "c.txt").write_text("the disk was full")
    runs, notes = find_runs([tmp_path / "runs", first])
    assert [run.folder for run in runs] == [first, second]
    assert sorted(note.split(": ")[1] for note in notes) == [
        "a run that failed, left out",
        "metrics.json cannot be read, left out",
        "metrics.json has no average_incomplete (another version wrote it), left out",
        "unfinished, left out",
    ]


def test_a_folder_without_runs_is_one_clear_line(tmp_path):
    with pytest.raises(AqaError, match=r"no folder at .*nowhere"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(AqaError, match="holds no finished run"):
        find_runs([tmp_path])


def test_runs_that_differ_in_the_seed_alone_are_one_model(finished, tmp_path):
    for seed in (1, 0):
        finished(f"a{seed}", seed=seed)
        finished(f"b{seed}", seed=seed, settings=["model.kl_weight=0.0"])
    by_place, notes = entries(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1], ("mcmoe, kl_weight=0.0", "valid"): [0, 1]}
    assert notes == []


def test_settings_that_go_with_the_target_or_the_model_are_no_part_of_a_label(finished, tmp_path):
    finished("a", settings=["train.epochs=460"])
    finished("b", target="PCS", settings=["train.epochs=510"])
    finished("c", model="late_fusion", settings=["train.learning_rate=0.1"])
    finished("d", settings=["train.epochs=460", "train.device=cpu", "missing.test=[VA]"], seed=1)
    by_place, _ = entries(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1], ("late_fusion", "valid"): [0]}
    assert labels(by_place, ("fisv", "PCS")) == {("mcmoe", "valid"): [0]}


def test_runs_selected_on_test_are_apart_and_last(finished, tmp_path):
    finished("a", split="test")
    finished("b")
    by_place, _ = entries(find_runs([tmp_path / "runs"])[0])
    assert list(labels(by_place)) == [("mcmoe", "valid"), ("mcmoe", "test")]


def test_training_patterns_are_told_apart(finished, tmp_path):
    finished("a", settings=["missing.train={rates: 0.0}"])
    finished("b", settings=["missing.train={rates: 0.3}"])
    finished("c", settings=["missing.train=none"])
    by_place, _ = entries(find_runs([tmp_path / "runs"])[0])
    assert {label for label, _ in labels(by_place)} == {
        "mcmoe, missing.train={rates: 0.0}",
        "mcmoe, missing.train={rates: 0.3}",
        "mcmoe, missing.train=none",
    }


def test_the_setting_of_most_runs_goes_without_saying(finished, tmp_path):
    for seed in range(3):
        finished(f"a{seed}", seed=seed, settings=["missing.train={random_subset: {per: sample}}", "model.alpha=1.0"])
    finished("b", settings=["missing.train=none", "model.alpha=1.0"])
    finished("c", settings=["missing.train={random_subset: {per: sample}}"])
    by_place, notes = entries(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {
        ("mcmoe", "valid"): [0, 1, 2],
        ("mcmoe, missing.train=none", "valid"): [0],
        ("mcmoe, alpha=default", "valid"): [0],
    }
    assert notes == []


def test_the_same_experiment_twice_is_counted_once_and_said(finished, tmp_path):
    finished("a")
    finished("copy")
    by_place, notes = entries(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0]}
    assert len(notes) == 1
    assert "the same experiment as" in notes[0]


def test_scores_are_read_as_they_were_written(finished):
    folder = finished("a", absent=3, ids=["NA", "null", *map(str, range(38))])
    scores = read_scores(folder)
    assert scores.ids[:3] == ("NA", "null", "0")
    assert list(scores.by_pattern) == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert len(scores.truth) == 40
    assert [x != x for x in scores.by_pattern["F"][:4]] == [True, True, True, False]


@pytest.mark.parametrize(
    "content",
    ["", "id,pattern\na,V\n", "id,target,pattern,score,label\na,T,V,x,1\n", "\0\0"],
)
def test_predictions_that_are_none_are_one_clear_line(finished, content):
    folder = finished("a")
    (folder / "predictions.csv").write_text(content)
    with pytest.raises(AqaError, match=r"predictions\.csv is no run's predictions"):
        read_scores(folder)


def test_patterns_of_different_videos_are_refused(finished):
    folder = finished("a")
    lines = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(AqaError, match="different videos"):
        read_scores(folder)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"patterns": []}, "patterns"),
        ({"patterns": {"VAF": {"srcc": "<b>", "mse": 1, "rl2": 1, "n": 1}}}, "patterns.VAF.srcc"),
        ({"selection": {"split": "valid"}}, "selection.epoch"),
        ({"seed": "x"}, "seed"),
        ({"modalities": "VAF"}, "modalities"),
        ({"router_weights": {"VAF": 1}}, "router_weights.VAF"),
        ({"target": ["a"]}, "target"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metrics_of_another_form_are_left_out_and_said(finished, tmp_path, changes, where):
    finished("a")
    finished("b", metrics=changes)
    found, notes = find_runs([tmp_path / "runs"])
    assert [run.folder.name for run in found] == ["a"]
    assert f"metrics.json is not what a run writes ({where}: " in notes[0]


@pytest.mark.parametrize(
    "content", [b'id,pattern\n"a', b"\x00" * 100, b"id,pattern,score,label\na,VAF,=1+1,2\n", b"\xff\xfe", b""]
)
def test_predictions_of_another_form_are_one_line(finished, content):
    folder = finished("a")
    (folder / "predictions.csv").write_bytes(content)
    with pytest.raises(AqaError, match=r"predictions\.csv is no run's predictions: ") as error:
        read_scores(folder)
    assert "\n" not in str(error.value)
