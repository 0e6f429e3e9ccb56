"""Which runs are found, and which of them are one model."""

import pytest

from aqa.errors import AqaError
from aqa.reporting.collect import Place, find_runs, read_scores, runs_by_model


def labels(by_place, place=("fisv", "TES")):
    return {(own.label, own.selected_on): list(own.runs) for own in by_place[Place(*place)]}


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
    by_place, notes = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1], ("mcmoe, kl_weight=0.0", "valid"): [0, 1]}
    assert notes == []


def test_settings_that_go_with_the_target_or_the_model_are_no_part_of_a_label(finished, tmp_path):
    finished("a", settings=["train.epochs=460"])
    finished("b", target="PCS", settings=["train.epochs=510"])
    finished("c", model="late_fusion", settings=["train.learning_rate=0.1"])
    finished("d", settings=["train.epochs=460", "train.device=cpu", "missing.test=[VA]"], seed=1)
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1], ("late_fusion", "valid"): [0]}
    assert labels(by_place, ("fisv", "PCS")) == {("mcmoe", "valid"): [0]}


def test_runs_selected_on_test_are_apart_and_last(finished, tmp_path):
    finished("a", split="test")
    finished("b")
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert list(labels(by_place)) == [("mcmoe", "valid"), ("mcmoe", "test")]


def test_runs_selected_on_videos_that_were_learned_from_come_after_validated_ones(finished, tmp_path):
    finished("a", split="train")
    finished("b", model="ridge")
    finished("c", model="zero_fill", split="test")
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert [split for _, split in labels(by_place)] == ["valid", "train", "test"]


def test_training_patterns_are_told_apart(finished, tmp_path):
    finished("a", settings=["missing.train={rates: 0.0}"])
    finished("b", settings=["missing.train={rates: 0.3}"])
    finished("c", settings=["missing.train=none"])
    by_place, _ = runs_by_model(find_runs([tmp_path / "runs"])[0])
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
    by_place, notes = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {
        ("mcmoe", "valid"): [0, 1, 2],
        ("mcmoe, missing.train=none", "valid"): [0],
        ("mcmoe, alpha=default", "valid"): [0],
    }
    assert notes == []


def test_the_same_experiment_twice_is_counted_once_and_said(finished, tmp_path):
    finished("a")
    finished("copy")
    by_place, notes = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0]}
    assert len(notes) == 1
    assert "the same experiment as" in notes[0]


def only_run(folder):
    ((run,), _) = find_runs([folder])
    return run


def test_scores_are_read_as_they_were_written(finished):
    folder = finished("a", absent=3, ids=["NA", "null", *map(str, range(38))])
    scores = read_scores(only_run(folder))
    assert scores.ids[:3] == ("NA", "null", "0")
    assert list(scores.by_pattern) == ["VAF", "VA", "VF", "AF", "V", "A", "F"]
    assert len(scores.truth) == 40
    assert [x != x for x in scores.by_pattern["F"][:4]] == [True, True, True, False]


def change(folder, edit):
    """Edit the lines of a run's predictions, the heading aside."""
    heading, *lines = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join([heading, *edit(lines)]) + "\n")


def swap_labels(lines):
    """Of the first two videos, under every pattern."""
    rows = [line.split(",") for line in lines]
    labels = {row[0]: row[4] for row in rows}
    one, other = rows[0][0], rows[1][0]
    labels[one], labels[other] = labels[other], labels[one]
    return [",".join([*row[:4], labels[row[0]]]) for row in rows]


def with_score(value):
    def edit(lines):
        name, target, pattern, _, label = lines[3].split(",")
        return [*lines[:3], f"{name},{target},{pattern},{value},{label}", *lines[4:]]

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (swap_labels, r"does not go with metrics\.json: (SRCC|MSE) under VAF is .*, .* by metrics\.json"),
        (with_score("1e300"), r"does not go with metrics\.json: (SRCC|MSE) under VAF is "),
        (with_score("12.25"), r"does not go with metrics\.json: (SRCC|MSE) under VAF is "),
        (with_score(""), r"does not go with metrics\.json: 39 videos were scored under VAF, 40 by"),
        (with_score("inf"), r"the score of 'fisv 3' is infinite"),
        (
            lambda lines: [lines[0].rpartition(",")[0] + ",1.5", *lines[1:]],
            r"the label of 'fisv 0' is .* under VAF and",
        ),
        (lambda lines: lines[:-40], r"does not go with metrics\.json: pattern F is in one of them alone"),
        (lambda lines: [*lines, *(x.replace(",F,", ",new,") for x in lines[-40:])], "pattern new is in one of them"),
        (lambda lines: [lines[0], *lines], "'fisv 0' has more than one row under VAF"),
        (lambda lines: [x.replace(",TES,", ",PCS,") for x in lines], "it has scores of PCS, not of TES"),
        (lambda lines: [lines[0].replace(",TES,", ",PCS,"), *lines[1:]], "rows of 2 targets"),
    ],
)
def test_predictions_that_metrics_contradict_are_refused_by_the_runs_name(finished, edit, said):
    folder = finished("a")
    change(folder, edit)
    with pytest.raises(AqaError, match=said) as error:
        read_scores(only_run(folder))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_runs_predictions_are_refused(finished):
    folder, other = finished("a"), finished("b", seed=1)
    (folder / "predictions.csv").write_bytes((other / "predictions.csv").read_bytes())
    with pytest.raises(AqaError, match=r"runs/a: predictions\.csv does not go with metrics\.json"):
        read_scores(only_run(folder))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,pattern\na,V\n",
        b"id,target,pattern,score,label\na,T,V,x,1\n",
        b"\0\0",
        b'id,pattern\n"a',
        b"\x00" * 100,
        b"id,target,pattern,score,label\na,T,VAF,=1+1,2\n",
        b"\xff\xfe",
    ],
)
def test_predictions_of_another_form_are_one_line(finished, content):
    folder = finished("a")
    (folder / "predictions.csv").write_bytes(content)
    with pytest.raises(AqaError, match=r"predictions\.csv does not hold a run's predictions: ") as error:
        read_scores(only_run(folder))
    assert "\n" not in str(error.value)


def test_patterns_of_different_videos_are_refused(finished):
    folder = finished("a")
    change(folder, lambda lines: lines[:-1])
    with pytest.raises(AqaError, match="VAF and F have different videos"):
        read_scores(only_run(folder))


def test_a_run_behind_a_symbolic_link_is_found_once(finished, tmp_path):
    folder = finished("kept/a")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "linked").symlink_to(folder)
    (tmp_path / "project" / "circle").symlink_to(tmp_path / "project")
    (tmp_path / "project" / "whole").symlink_to(folder.parent)
    runs, _ = find_runs([tmp_path / "project"])
    assert [run.folder for run in runs] == [tmp_path / "project" / "linked"]


def with_store(version):
    return {"data": {"fingerprint": version}}


def test_seeds_on_two_versions_of_a_store_are_two_rows_and_said(finished, tmp_path):
    finished("a0", metrics=with_store("1111aaaa2222"))
    finished("a1", seed=1, metrics=with_store("1111aaaa2222"))
    finished("a2", seed=2, metrics=with_store("9999bbbb0000"))
    by_place, notes = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1], ("mcmoe, data.store=fisv@9999bbbb", "valid"): [2]}
    (note,) = notes
    assert note.startswith("fisv TES: runs with 2 versions of the store 'fisv', which are not counted as one model: ")
    assert "a0 and 1 more" in note


def test_one_version_of_a_store_goes_without_saying(finished, tmp_path):
    for seed in range(2):
        finished(f"a{seed}", seed=seed, metrics=with_store("1111aaaa2222"))
    by_place, notes = runs_by_model(find_runs([tmp_path / "runs"])[0])
    assert labels(by_place) == {("mcmoe", "valid"): [0, 1]}
    assert notes == []
