"""`aqa tune`: settings searched on the validation split, by any number of processes, and scored once."""

from __future__ import annotations

import contextlib
import json

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

import aqa
from aqa.errors import AqaError
from aqa.runs.folder import RunFolder
from aqa.runs.prepare import inner_folds
from aqa.runs.run import run_loaded
from aqa.store.store import FeatureStore
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.searches import Search, load_tune, searches_of
from aqa.sweeps.study import ATTEMPTS, MOST_ATTEMPTS, Study
from aqa.sweeps.tune_work import TuneFolder, work

BASE = {
    "name": "base",
    "data": {"store": "tiny.h5", "target": "score"},
    "model": {"name": "zero_fill", "hidden_dim": 8, "n_decoder": 1},
    "missing": {"train": "none", "test": ["VA", "V"]},
    "train": {"epochs": 2, "batch_size": 16, "threads": 1},
}
SPACE = {"train.learning_rate": {"log": [1e-4, 1e-1]}, "model.dropout": [0.0, 0.3]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=24)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    return tmp_path


def write(here, **changes):
    """A tune file; a key whose change is None is left out."""
    plan = {"name": "t", "experiments": ["base.yaml"], "space": SPACE, "trials": 3, "prune_after": 1, **changes}
    known = {key: value for key, value in plan.items() if value is not None}
    (here / "t.yaml").write_text(json.dumps(known))
    return here / "t.yaml"


def write_fast(here, **changes):
    """The same for a model that is fitted in closed form."""
    return write(here, **{"models": ["ridge"], "space": {"model.alphas": [[1.0], [1e4], [1e5], [1e6]]}, **changes})


def folder_of(file):
    loaded = load_tune(file)
    return TuneFolder(file.parent / "runs" / loaded.plan.name, loaded.plan, searches_of(loaded))


def told(trials):
    """What a search found, without how long it took."""
    return trials.drop(columns="seconds").astype(object).fillna("none").to_dict("list")


def test_the_best_of_the_trials_is_run_and_scored_once(here):
    said = []
    found = aqa.tune(write(here, seeds=[0, 7]), say=said.append)
    assert isinstance(found, aqa.TuneResult)
    assert (found.done, found.exit_status) == (True, 0)
    assert list(found.trials["state"]) == ["complete"] * 3
    best = found.trials.loc[found.trials["value"].idxmax()]
    (row,) = found.numbers.to_dict("records")
    assert (row["validation"], row["best_trial"]) == (best["value"], best["trial"])
    runs = [RunFolder(path) for path in (here / "runs/t/refits").iterdir() if path.name.startswith("tiny-")]
    assert sorted(run.metrics["seed"] for run in runs) == [0, 7]
    again = next(run for run in runs if run.metrics["seed"] == 0)
    assert again.metrics["selection"]["value"] == best["value"]  # the trial's seed: the same training
    assert again.config["train"]["learning_rate"] == best["train.learning_rate"]
    srcc = np.tanh(np.mean([np.arctanh(run.metrics["patterns"]["VA"]["srcc"]) for run in runs]))
    assert row["test_VA"] == pytest.approx(srcc)
    assert row["test_VA_low"] < srcc < row["test_VA_high"]
    assert row["epochs"] == 6
    assert f"train.learning_rate={best['train.learning_rate']}" in str(found)
    assert [line.split(":")[0] for line in said[:3]] == [f"base-zero_fill, trial {n} of 3" for n in (1, 2, 3)]
    for name in ("results.csv", "trials.csv", "importance.csv"):
        assert len(pd.read_csv(here / "runs" / "t" / name))
    assert (here / "runs/t/summary.txt").read_text() == f"{found}\n"


def test_the_same_command_again_makes_nothing_anew(here):
    before = aqa.tune(write_fast(here))
    files = {path: path.stat().st_mtime_ns for path in here.rglob("metrics.json")}
    after = aqa.tune(here / "t.yaml")
    assert {path: path.stat().st_mtime_ns for path in here.rglob("metrics.json")} == files
    pd.testing.assert_frame_equal(after.numbers, before.numbers)


def test_more_trials_extend_a_search(here):
    aqa.tune(write_fast(here))
    few = aqa.tune(here / "t.yaml").trials
    many = aqa.tune(write_fast(here, trials=4)).trials
    pd.testing.assert_frame_equal(many[:3], few)
    assert len(many) == 4
    assert len(aqa.tune(write_fast(here, trials=2)).trials) == 2


@pytest.mark.parametrize(
    "change",
    [lambda y: y[::-1], lambda y: y * 0 + y.mean() + np.arange(len(y)) * 1e-3],
    ids=["permuted", "others"],
)
def test_the_labels_of_the_test_split_change_no_bit_of_settings_and_weights(here, change):
    before = aqa.tune(write(here))
    relabel(here / "tiny.h5", change)
    after = aqa.tune(write(here, output="runs/other"))
    pd.testing.assert_frame_equal(after.trials.drop(columns="seconds"), before.trials.drop(columns="seconds"))
    same = ["settings", "validation", "best_trial", "epochs"]
    assert after.numbers[same].to_dict("list") == before.numbers[same].to_dict("list")
    weights = [weights_of(here / "runs" / name / "refits") for name in ("t", "other")]
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert after.numbers["test_VA"].tolist() != before.numbers["test_VA"].tolist()  # which is all that they decide


def test_with_inner_folds_by_stratified_labels_those_of_the_test_split_change_nothing_either(here):
    folds = {"count": 2, "stratify": True}
    before = aqa.tune(write_fast(here, folds=folds))
    relabel(here / "tiny.h5", lambda y: y[::-1])
    after = aqa.tune(write_fast(here, folds=folds, output="runs/other"))
    pd.testing.assert_frame_equal(after.trials.drop(columns="seconds"), before.trials.drop(columns="seconds"))


def relabel(path, change, target="score", splits=("test",)):
    """Give videos of a store other labels, by default those of the test split."""
    with FeatureStore(path) as store:
        parts = [store.split(name) for name in splits]
    with h5py.File(path, "r+") as file:
        labels = file[f"targets/{target}"]
        values = labels[:]
        for rows in parts:
            values[rows] = change(values[rows])
        labels[:] = values
        labels.attrs.pop("crc32", None)


def weights_of(folder):
    (run,) = [path for path in folder.iterdir() if path.name.startswith("tiny-")]
    return RunFolder(run).load_checkpoint()["weights"]


@pytest.fixture
def soon(monkeypatch):
    """TPE and pruning begin after two trials."""
    monkeypatch.setattr("aqa.sweeps.study.STARTUP", 2)
    monkeypatch.setattr("aqa.sweeps.study.STARTUP_OF_PRUNING", 2)


def test_a_search_that_is_stopped_and_resumed_finds_what_it_finds_without_a_stop(here, soon, stopped_in_epoch):
    expected = told(aqa.tune(write(here, output="runs/whole", trials=5)).trials)
    write(here, output="runs/cut", trials=5)
    with stopped_in_epoch(2):
        aqa.tune(here / "t.yaml")
    for _ in range(3):  # processes that are killed as soon as they have a trial
        killed(here / "t.yaml")
    assert told(aqa.tune(here / "t.yaml").trials) == expected


def killed(file):
    """What is left of a process that was killed when it had just taken a trial: no lock, and a trial that runs."""
    loaded = load_tune(file)
    folder = TuneFolder(file.parent / loaded.plan.output, loaded.plan, searches_of(loaded))
    (study,) = folder.studies()
    with study.taken() as trial:
        return trial.number


def test_a_trial_that_ends_its_process_again_and_again_fails_and_the_search_goes_on(here):
    write(here, output="runs/t")
    (study,) = folder_of(here / "t.yaml").studies()
    for _ in range(MOST_ATTEMPTS):
        with study.taken() as trial:
            assert trial.number == 0
            trial.note(ATTEMPTS, trial.notes.get(ATTEMPTS, 0) + 1)
    found = aqa.tune(here / "t.yaml")
    assert list(found.trials["state"]) == ["failed", "complete", "complete"]
    assert found.trials["problem"][0] == "the process that ran it ended 3 times"


def test_two_processes_on_one_search_share_its_trials(here):
    folder = folder_of(write(here, trials=4))
    (search,) = folder.searches
    mine, theirs = (Study(search, folder.plan, folder.path / "trials" / search.name) for _ in range(2))
    with contextlib.ExitStack() as held:
        trials = [held.enter_context(study.taken()) for study in (mine, theirs, mine, theirs)]
        assert [trial.number for trial in trials] == [0, 1, 2, 3]
        assert len({str(trial.labels) for trial in trials}) == 4
        assert held.enter_context(mine.taken()) is None  # no more than asked for
        theirs.tell(trials[1], 0.5)
        assert [trial.number for trial in mine.ended] == [1]
    with theirs.taken() as left:
        assert left.number == 0  # which nobody has any more
        assert left.labels == trials[0].labels


def test_jobs_of_one_command_share_its_searches(here):
    found = aqa.tune(write_fast(here, seeds=[0, 1]), jobs=2)
    assert found.done
    assert list(found.trials["state"]) == ["complete"] * 3
    assert len(list((here / "runs/t/refits").glob("tiny-*/metrics.json"))) == 2


def test_every_model_has_the_same_budget_and_the_table_is_sorted_by_validation(here):
    spaces = {"zero_fill": SPACE, "ridge": {"model.alphas": [[1.0], [1e4]]}, "mean_fill": SPACE}
    found = aqa.tune(write(here, space=None, spaces=spaces, models=["zero_fill", "ridge", "mean_fill"], trials=4))
    counts = found.trials.groupby("model")["trial"].count()
    assert counts.to_dict() == {"zero_fill": 4, "ridge": 4, "mean_fill": 4}
    assert found.numbers["validation"].is_monotonic_decreasing
    assert (found.numbers["trials"] == 4).all()
    ridge = found.numbers.set_index("model").loc["ridge"]
    assert (ridge["epochs"], ridge["repeated"]) == (2, 2)
    assert "ridge: 2 of 4 trials drew settings that an earlier one had, and cost nothing" in str(found)


def test_a_trial_that_diverges_is_a_failed_one_and_a_search_of_them_alone_fails(here):
    space = {"train.learning_rate": [1e9, 2e9]}
    said = []
    found = aqa.tune(write(here, space=space, trials=2), say=said.append)
    assert list(found.trials["state"]) == ["failed"] * 2
    assert "a lower train.learning_rate may help" in found.trials["problem"][0]
    assert found.exit_status == 1
    assert found.failures[0].startswith("base-zero_fill: no trial has a value; the last: ")
    assert not list((here / "runs/t/refits").glob("tiny-*"))


def test_pruned_trials_are_counted_and_never_the_best(here, soon):
    space = {"train.learning_rate": {"log": [1e-5, 1e-1]}}
    found = aqa.tune(write(here, space=space, trials=7, set={"train.epochs": 3}))
    (row,) = found.numbers.to_dict("records")
    assert row["pruned"] == (found.trials["state"] == "pruned").sum() > 0
    assert row["epochs"] == found.trials["epochs"].sum() < 21
    assert found.trials.set_index("trial").loc[row["best_trial"], "state"] == "complete"


def test_mse_is_minimized(here):
    found = aqa.tune(write_fast(here, set={"select.metric": "mse"}))
    assert found.numbers["validation"][0] == found.trials["value"].min()


def test_a_dry_run_and_a_status_write_nothing(here):
    write(here)
    before = sorted(here.rglob("*"))
    listed = aqa.tune(here / "t.yaml", dry_run=True)
    assert str(listed).splitlines() == [
        "base-zero_fill: 3 trials, by SRCC (complete) on valid",
        "  train.learning_rate: 0.0001 to 0.1 (log)",
        "  model.dropout: one of 0.0, 0.3",
    ]
    assert "nothing was searched yet" in str(aqa.tune(here / "t.yaml", status=True))
    assert sorted(here.rglob("*")) == before
    killed(write(here, output="runs/t"))
    status = aqa.tune(here / "t.yaml", status=True)
    assert not status.done
    assert list(status.trials["state"]) == ["running"]


def test_another_search_is_not_continued_in_a_folder(here):
    killed(write(here, output="runs/t"))
    with pytest.raises(AqaError, match=r"holds another search \(train.batch_size is 16 there, 8 here\); name another"):
        aqa.tune(write(here, set={"train.batch_size": 8}))
    with pytest.raises(AqaError, match=r"holds another search \(space.model.dropout is"):
        aqa.tune(write(here, space={**SPACE, "model.dropout": [0.0, 0.4]}))


def without_new_keys(identity):
    return {key: value for key, value in identity.items() if key not in ("evaluate.metrics", "data.folds")}


def test_a_search_of_an_earlier_version_is_continued_where_new_keys_have_their_defaults(here, monkeypatch):
    plain = Search.identity
    file = write(here, output="runs/t")
    with monkeypatch.context() as patch:
        patch.setattr(Search, "identity", lambda *given: without_new_keys(plain(*given)))
        killed(file)
    assert killed(file) == 0


def test_the_published_protocol_is_searched_on_test_where_the_experiment_says_so_and_labelled(here):
    with pytest.raises(AqaError, match=r"select.split: test would choose the settings on the test videos"):
        aqa.tune(write(here, set={"select.split": "test"}))
    (here / "base.yaml").write_text(yaml.safe_dump({**BASE, "select": {"split": "test"}}))
    found = aqa.tune(write_fast(here))
    assert "SELECTED ON THE TEST SPLIT" in str(found)
    assert list(found.numbers["selected_on"]) == ["test"]


def test_the_number_of_jobs_is_checked_in_python_too(here):
    with pytest.raises(AqaError, match=r"^jobs is 0; it must be 1 or more$"):
        aqa.tune(write(here), jobs=0)


def test_work_ends_where_nothing_is_left(here):
    aqa.tune(write_fast(here))
    work(folder_of(here / "t.yaml"))


def test_with_inner_folds_the_objective_is_their_mean_and_no_test_video_is_in_one(here):
    found = aqa.tune(write_fast(here, folds={"count": 3}, trials=4))
    trial, other, *_ = sorted((here / "runs/t/trials/base-ridge").glob("0*"))
    folds = [RunFolder(trial / f"fold{number}").metrics["selection"]["value"] for number in range(3)]
    assert len(set(folds)) == 3
    assert found.trials["value"][0] == pytest.approx(np.tanh(np.mean(np.arctanh(folds))))
    assert "chosen by SRCC (complete) on 3 inner folds" in str(found)
    assert len(list(other.glob("fold*/metrics.json"))) == 3
    with FeatureStore(here / "tiny.h5") as store:
        target, splits = store.target("score"), store.splits
        (search,) = folder_of(here / "t.yaml").searches
        made = inner_folds(store, splits, search.experiment, search.inner_folds[0], target)
    seen = np.concatenate(made.test)
    assert sorted(seen) == sorted([*splits["train"], *splits["valid"]])
    assert not set(seen) & set(splits["test"])


def test_a_trial_of_inner_folds_is_pruned_in_the_first_and_resumed_in_the_one_that_it_was_stopped_in(here):
    file = write(here, folds={"count": 2}, trials=1)
    calls = []

    def stopping(config, *arguments, **more):
        calls.append(config.output)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_loaded(config, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aqa.sweeps.tune_work.run_loaded", stopping)
        with pytest.raises(KeyboardInterrupt):
            aqa.tune(file)
    first = (here / "runs/t/trials/base-zero_fill/0001/fold0/metrics.json").stat().st_mtime_ns
    found = aqa.tune(file)
    assert (here / "runs/t/trials/base-zero_fill/0001/fold0/metrics.json").stat().st_mtime_ns == first
    assert found.trials["epochs"][0] == 4  # two in each fold


def rolled(values):
    return np.roll(values, 1)


@pytest.fixture
def two_targets(here):
    """The store has a second target, `other`, whose labels are those of other videos."""
    with h5py.File(here / "tiny.h5", "r+") as file:
        file.copy("targets/score", "targets/other")
    relabel(here / "tiny.h5", rolled, "other", ("train", "valid", "test"))
    return here


def test_each_target_is_searched_by_itself(two_targets):
    both = aqa.tune(write_fast(two_targets, targets="all", output="runs/both"))
    assert sorted(both.numbers["target"]) == ["other", "score"]
    folders = sorted(path.name for path in (two_targets / "runs/both/trials").iterdir())
    assert folders == ["base-other-ridge", "base-score-ridge"]
    relabel(two_targets / "tiny.h5", rolled, "other", ("train", "valid", "test"))
    alone = aqa.tune(write_fast(two_targets, targets=["score"], output="runs/alone"))
    mine = both.trials[both.trials["target"] == "score"].reset_index(drop=True)
    assert told(mine) == told(alone.trials)
    same = ["validation", "best_trial", "settings", "test_VA", "test_VA_low", "test_V"]
    assert both.numbers[both.numbers["target"] == "score"][same].to_dict("list") == alone.numbers[same].to_dict("list")


def test_there_is_a_table_for_each_target_and_one_of_the_means_over_them(two_targets):
    spaces = {"ridge": {"model.alphas": [[1.0], [1e5]]}, "gaussian_process": {"model.kernel": [["linear"], ["rbf"]]}}
    plan = {"space": None, "spaces": spaces, "models": list(spaces), "targets": ["score", "other"], "trials": 2}
    found = aqa.tune(write(two_targets, **plan))
    titles = [line for line in str(found).splitlines() if line.startswith("base, ")]
    assert titles == [
        "base, score: 2 trials of each model, chosen by SRCC (complete) on valid",
        "base, other: 2 trials of each model, chosen by SRCC (complete) on valid",
        "base, mean over 2 targets, each with settings of its own",
    ]
    of_means = str(found).split(titles[-1])[1].splitlines()[3:5]
    numbers = found.numbers.groupby("model")
    for model in spaces:
        (line,) = [line for line in of_means if line.startswith(model)]
        means = (np.tanh(np.arctanh(numbers.get_group(model)[name]).mean()) for name in ("validation", "test_VA"))
        assert all(f" {mean:.3f} " in line for mean in means)


def test_further_measures_of_the_experiment_are_shown_and_change_no_trial(here):
    before = aqa.tune(write_fast(here, seeds=[0, 1]))
    found = aqa.tune(write_fast(here, seeds=[0, 1], set={"evaluate.metrics": ["mae", "kendall"]}))
    assert told(found.trials) == told(before.trials)
    runs = [RunFolder(path) for path in (here / "runs/t/refits").iterdir() if path.name.startswith("tiny-")]
    asked = [run.metrics for run in runs if run.config["evaluate"]["metrics"]]
    (row,) = found.numbers.to_dict("records")
    for measure in ("mae", "kendall"):
        values = [each["patterns"]["V"]["measures"][measure]["value"] for each in asked]
        assert row[f"test_V_{measure}"] == pytest.approx(np.mean(values))
        assert row[f"test_V_{measure}_low"] < np.mean(values) < row[f"test_V_{measure}_high"]
    assert "base, score: MAE (lower is better), mean over seeds\n" in str(found)
    assert f"{row['test_VA_mae']:.3f} [{row['test_VA_mae_low']:.3f}, {row['test_VA_mae_high']:.3f}]" in str(found)


def test_without_intervals_measures_are_values_alone(here):
    found = aqa.tune(write_fast(here, set={"evaluate.metrics": ["mae"], "evaluate.intervals": False}))
    assert "test_VA_mae" in found.numbers
    assert "test_VA_mae_low" not in found.numbers
    assert f"{found.numbers['test_VA_mae'][0]:.3f}" in str(found)
