"""Sweeps that run: every point once, by any number of processes, whatever happens to some of them."""

import contextlib
import os
import signal
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest

from aqa.cli import main
from aqa.errors import AqaError
from aqa.features.streaming import load_features
from aqa.runs.folder import RunFolder
from aqa.runs.run import run
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import groups_of, load_sweep, points_of
from aqa.sweeps.local import NO_RUN, RETRIES, bury, run_if_free, units_of

BASE = """
name: base
data: {store: tiny.h5, target: score}
model: {name: mcmoe, hidden_dim: 8, n_encoder: 1, n_decoder: 1}
train: {epochs: 2, batch_size: 16, learning_rate: 1.0e-3, threads: 1}
figures: false
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a base experiment and a function that writes a sweep over it."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=40)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def sweep(here, grid, more="", **settings):
    lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    (here / "s.yaml").write_text(
        f"name: s\nexperiments: [base.yaml]\ngrid: {grid}\n{more}\n" + (f"set:\n{lines}" if lines else "")
    )
    return points_of(load_sweep("s.yaml"), here)


def logs(here, points):
    """How often each run was started from its beginning: the times its first epoch is in its log."""
    return [(here / "runs" / "s" / p.name / "log.txt").read_text().count("epoch 1:") for p in points]


def test_a_sweep_runs_what_can_run_and_lists_what_failed(here, capsys):
    points = sweep(here, "{train.seed: [0, 1], train.learning_rate: [1.0e-3, 1.0e+9]}")
    assert main(["sweep", "s.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out.split() == [p.name for p in points]
    assert not (here / "runs").exists()

    assert main(["sweep", "s.yaml", "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    folder = SweepFolder(here / "runs" / "s")
    assert [folder.state(p.name) for p in points] == ["done", "failed", "done", "failed"]
    assert "2 done, 0 running, 2 failed, 0 waiting" in printed.out
    assert printed.err.count("a lower train.learning_rate may help") == 2
    assert "learning_rate" in folder.error(points[1].name).read_text()

    before = [(folder.run(p.name) / "metrics.json").stat().st_mtime_ns for p in points[::2]]
    assert main(["sweep", "s.yaml"]) == 1  # nothing is left to do
    assert [(folder.run(p.name) / "metrics.json").stat().st_mtime_ns for p in points[::2]] == before

    table = pd.read_csv(here / "runs" / "s" / "results.csv")
    assert len(table) == 2 * 8
    metrics = RunFolder(folder.run(points[0].name)).metrics
    row = table[(table["run"] == points[0].name) & (table["pattern"] == "VA")].iloc[0]
    assert row["srcc"] == pytest.approx(metrics["patterns"]["VA"]["srcc"])
    average = table[(table["run"] == points[0].name) & (table["pattern"] == "average")].iloc[0]
    assert average["srcc"] == pytest.approx(metrics["average_incomplete"]["srcc"])
    assert set(table["selected_on"]) == {"valid"}


def test_failed_runs_are_taken_up_again_when_asked(here, capsys, in_this_process):
    (point,) = sweep(here, "{train.seed: [0]}")
    folder = SweepFolder(here / "runs" / "s")
    folder.make()
    folder.fail(point.name, "the disk was full")
    assert main(["sweep", "s.yaml"]) == 1
    assert folder.state(point.name) == "failed"
    assert "with --retry" in capsys.readouterr().err
    assert main(["sweep", "s.yaml", "--retry"]) == 0
    assert folder.state(point.name) == "done"
    assert "--retry" not in capsys.readouterr().err


def test_two_sweeps_on_one_folder_share_the_work(here, start_sweep, sweeping_here, wait_for, ended):
    points = sweep(here, "{train.seed: [0, 1, 2, 3]}", **{"train.threads": 1})
    folder = folder_for(here)
    with contextlib.ExitStack() as claims:
        for point in points[1:]:
            assert claims.enter_context(folder.claimed(point.name))
        first = start_sweep(here)
        wait_for(lambda: folder.settled(points[0].name))
        worker = folder.holder(points[0].name)["pid"]
        os.kill(worker, signal.SIGSTOP)
    with sweeping_here():  # this process is the other
        assert main(["sweep", "s.yaml"]) == 0
    os.kill(worker, signal.SIGCONT)
    assert ended(first)[0] == 0
    assert logs(here, points) == [1] * 4
    holders = [folder.holder(p.name)["pid"] for p in points]
    assert holders[0] == worker not in holders[1:]
    # A forked process finds the bits that a process of its own finds.
    assert found_alone(here, points[:1]) == [found(folder.run(points[0].name))]


ENDLESS, SHORT = 10**6, 2  # epochs: a run that is still at it whenever a test looks, and one that is soon done


def epochs(here, point):
    """How many epochs a run's log tells of."""
    log = here / "runs" / "s" / point.name / "log.txt"
    return log.read_text().count("epoch ") if log.is_file() else 0


def test_a_worker_that_is_stopped_is_replaced_and_one_that_is_killed_costs_its_run_and_no_other(
    here, capsys, start_sweep, wait_for, ended
):
    points = sweep(here, f"{{train.epochs: [{ENDLESS}, {SHORT}]}}")
    folder = SweepFolder(here / "runs" / "s")
    process = start_sweep(here)
    wait_for(lambda: epochs(here, points[0]) > 2)  # what stops the first epoch leaves nothing
    assert main(["sweep", "s.yaml", "--status"]) == 0
    assert "0 done, 1 running, 0 failed, 1 waiting" in capsys.readouterr().out
    first = folder.holder(points[0].name)["pid"]
    os.kill(first, signal.SIGTERM)
    wait_for(lambda: folder.holder(points[0].name)["pid"] != first)
    done = RunFolder(folder.run(points[0].name)).load_state()["progress"]["epoch"]
    wait_for(lambda: epochs(here, points[0]) > done)  # it is resumed
    assert logs(here, points[:1]) == [1]
    os.kill(folder.holder(points[0].name)["pid"], signal.SIGKILL)
    status, said = ended(process)
    assert (status, "1 done, 0 running, 1 failed, 0 waiting" in said) == (1, True)
    assert [folder.state(p.name) for p in points] == ["failed", "done"]
    assert "SIGKILL" in folder.error(points[0].name).read_text()


def test_a_run_whose_worker_is_stopped_again_and_again_fails(here):
    (point,), folder = sweep(here, "{train.seed: [0]}"), folder_for(here)
    folder.start(point.name)
    stopped, lost = SimpleNamespace(pid=os.getpid(), exitcode=128 + signal.SIGTERM), Counter()
    for _ in range(RETRIES):
        bury(stopped, [point], folder, lost)
        assert folder.state(point.name) == "waiting"
    bury(stopped, [point], folder, lost)
    assert "exit status 143" in folder.error(point.name).read_text()


def test_a_worker_that_ends_before_it_began_a_run_is_replaced_where_it_was_stopped_and_an_error_where_not(here):
    (point,), folder = sweep(here, "{train.seed: [0]}"), folder_for(here)
    lost = Counter()
    bury(SimpleNamespace(pid=1, exitcode=-signal.SIGTERM), [point], folder, lost)
    assert lost == {NO_RUN: 1}
    with pytest.raises(AqaError, match="ended before it began a run: exit status 1; the same command resumes"):
        bury(SimpleNamespace(pid=1, exitcode=1), [point], folder, Counter())
    with pytest.raises(AqaError, match="signal SIGTERM"):
        bury(SimpleNamespace(pid=1, exitcode=-signal.SIGTERM), [point], folder, Counter({NO_RUN: RETRIES}))


def test_a_sweep_with_runs_that_are_not_done_does_not_succeed(here, capsys, monkeypatch):
    points = sweep(here, "{train.seed: [0, 1]}")
    monkeypatch.setattr("aqa.sweeps.sweep.run_points", lambda *arguments: None)
    assert main(["sweep", "s.yaml"]) == 1
    said = capsys.readouterr()
    assert "0 done, 0 running, 0 failed, 2 waiting" in said.out
    assert f"not done: {points[0].name}, {points[1].name}; the same command resumes the sweep" in said.err
    assert main(["sweep", "s.yaml", "--status"]) == 0  # which was only to look


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_sweep_that_is_stopped_saves_its_run_and_says_so(here, how, status, start_sweep, wait_for, ended):
    points = sweep(here, f"{{train.epochs: [{SHORT}, {ENDLESS}]}}")
    folder = SweepFolder(here / "runs" / "s")
    process = start_sweep(here)
    wait_for(lambda: epochs(here, points[1]) > 2)
    if how == signal.SIGKILL:
        os.kill(process.pid, how)
    else:  # a terminal sends them to all processes, and a scheduler does so with SIGTERM
        os.killpg(process.pid, how)
    found, said = ended(process)
    assert found == status
    assert "Traceback" not in said
    if how != signal.SIGKILL:
        assert said.splitlines()[-1] == "aqa: stopped; 1 of 2 runs are done; the same command resumes the sweep"
    wait_for(lambda: folder.state(points[1].name) == "waiting")
    assert RunFolder(folder.run(points[1].name)).load_state()["progress"]["epoch"] >= 1
    assert [folder.state(p.name) for p in points] == ["done", "waiting"]


def test_a_sweep_that_was_stopped_resumes(here, stopped_in_epoch):
    points, folder = sweep(here, "{train.seed: [0, 1]}", **{"train.epochs": 4}), folder_for(here)
    expected = found_alone(here, points)
    with stopped_in_epoch(3):
        run_if_free(points, folder)
    assert main(["sweep", "s.yaml"]) == 0
    assert [folder.state(p.name) for p in points] == ["done"] * 2
    assert logs(here, points) == [1, 1]
    assert [found(folder.run(p.name)) for p in points] == expected


# Seeds together

MANY_SEEDS = "{train.seed: [0, 1, 2]}"


def folder_for(here):
    folder = SweepFolder(here / "runs" / "s")
    folder.make()
    return folder


def found(path):
    """What a run found, to the last digit."""
    return {name: (path / name).read_text() for name in ("history.csv", "predictions.csv", "metrics.json")}


def found_alone(here, points):
    """What each point finds in a process that runs it from beginning to end."""
    for point in points:
        run(point.experiment.model_dump(mode="json", exclude={"targets", "versions"}), [f"output=alone/{point.name}"])
    return [found(here / "alone" / point.name) for point in points]


def test_each_seed_in_turn_finds_what_it_finds_alone(here, monkeypatch):
    settings = {"train.epochs": 4, "train.batch_size": 8, "data.standardize": True}
    points, folder = sweep(here, MANY_SEEDS, **settings), folder_for(here)
    expected = found_alone(here, points)
    read = []
    monkeypatch.setattr("aqa.features.cache.load_features", lambda *a, **k: read.append(1) or load_features(*a, **k))
    (group,) = groups_of(points, "seeds")
    assert run_if_free(group, folder)
    assert [found(folder.run(p.name)) for p in points] == expected
    assert len(read) == 1  # features, for all
    assert len({result["history.csv"] for result in expected}) == 3  # they do differ by seed
    weights = [RunFolder(folder.run(p.name)).load_checkpoint()["weights"] for p in points]
    alone = [RunFolder(here / "alone" / p.name).load_checkpoint()["weights"] for p in points]
    for mine, theirs in zip(weights, alone, strict=True):
        assert mine.keys() == theirs.keys()  # batch norm's statistics among them
        assert all(mine[name].equal(theirs[name]) for name in mine)


def test_seeds_that_cut_their_own_validation_split_standardize_by_their_own_training_set(here, tiny_store):
    store = tiny_store(name="no_valid.h5", splits={"train": range(6), "test": [6, 7]})
    changes = {"data.store": store, "data.target": "TES", "data.standardize": True, "data.validation": 0.34}
    points, folder = sweep(here, MANY_SEEDS, **changes), folder_for(here)
    expected = found_alone(here, points)
    assert run_if_free(points, folder)
    assert [found(folder.run(p.name)) for p in points] == expected


def test_a_seed_that_fails_costs_no_other(here):
    points, folder = sweep(here, "{train.learning_rate: [1.0e-3, 1.0e+9, 2.0e-3]}"), folder_for(here)
    expected = found_alone(here, points[::2])
    run_if_free(points, folder)
    assert [folder.state(p.name) for p in points] == ["done", "failed", "done"]
    assert "a lower train.learning_rate may help" in folder.error(points[1].name).read_text()
    assert [found(folder.run(p.name)) for p in points[::2]] == expected


def test_seeds_that_are_interrupted_go_on_from_their_own_states(here, monkeypatch):
    points, folder = sweep(here, MANY_SEEDS, **{"train.epochs": 4}), folder_for(here)
    expected = found_alone(here, points)
    epochs = []

    def interrupting(row):
        epochs.append(row)
        if len(epochs) == 7:  # the second seed is in its third epoch
            raise KeyboardInterrupt
        return "epoch"

    with monkeypatch.context() as patched:
        patched.setattr("aqa.training.loop.SECONDS_BETWEEN_SAVES", -1.0)
        patched.setattr("aqa.runs.run.epoch_line", interrupting)
        with pytest.raises(KeyboardInterrupt):
            run_if_free(points, folder)
    assert [folder.state(p.name) for p in points] == ["done", "waiting", "waiting"]
    assert RunFolder(folder.run(points[1].name)).load_state()["progress"]["epoch"] == 2
    assert not folder.run(points[2].name).exists()
    run_if_free(points, folder)
    assert [found(folder.run(p.name)) for p in points] == expected


def test_seeds_that_others_have_or_that_are_settled_are_left_out(here):
    points, folder = sweep(here, MANY_SEEDS), folder_for(here)
    folder.fail(points[2].name, "before")
    with folder.claimed(points[0].name):
        assert run_if_free(points, folder)
        assert not run_if_free(points[:1], folder)
    assert [folder.state(p.name) for p in points] == ["waiting", "done", "failed"]


def test_a_group_of_seeds_is_divided_where_there_are_more_workers_than_groups(here):
    a, b, c, d, e = sweep(here, "{train.seed: [0, 1, 2, 3, 4]}")
    assert units_of([[a, b, c, d, e]], 1) == [[a, b, c, d, e]]
    assert units_of([[a, b, c, d, e]], 2) == [[a, c, e], [b, d]]
    assert units_of([[a, b], [c, d, e]], 2) == [[a, b], [c, d, e]]
    assert units_of([[a, b], [], [c]], 3) == [[a], [b], [c]]  # a group that is settled is none
    assert units_of([], 2) == []


def test_a_worker_that_is_killed_costs_the_seed_that_it_was_at(here, capsys, start_sweep, wait_for):
    points = sweep(here, f"{{train.seed: [0, 1], train.epochs: [{ENDLESS}, {SHORT}]}}", "vectorize: seeds")
    folder = SweepFolder(here / "runs" / "s")
    start_sweep(here)
    wait_for(lambda: folder.holder(points[0].name)["pid"])
    assert main(["sweep", "s.yaml", "--status"]) == 0
    assert "0 done, 2 running, 0 failed, 2 waiting" in capsys.readouterr().out
    os.kill(folder.holder(points[0].name)["pid"], signal.SIGKILL)
    wait_for(lambda: folder.holder(points[2].name)["pid"])
    assert [folder.settled(p.name) for p in points] == ["failed", None, None, None]
    folder.forget_failures()
    assert folder.settled(points[0].name) is None
