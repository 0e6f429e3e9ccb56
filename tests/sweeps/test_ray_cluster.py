"""Sweeps on a Ray cluster: every point once, whatever happens to nodes, workers and the command itself."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from types import SimpleNamespace

import pytest

import aqa.sweeps.ray_cluster
import aqa.training.loop
from aqa.cli import main
from aqa.errors import AqaError
from aqa.runs.folder import RunFolder, versions
from aqa.runs.run import run
from aqa.store.synthetic import make_synthetic
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import RayCluster, load_sweep, points_of
from aqa.sweeps.ray_cluster import (
    Shared,
    Unsettled,
    lose_with_nodes,
    release,
    require_room,
    require_shared,
    run_on_node,
    run_on_ray,
)

pytestmark = pytest.mark.xdist_group("ray")  # one cluster a machine

BASE = """
name: base
data: {store: tiny.h5, target: score}
model: {name: mcmoe, hidden_dim: 8, n_encoder: 1, n_decoder: 1}
train: {epochs: 2, batch_size: 16, learning_rate: 1.0e-3, threads: 1}
figures: false
"""
# A node whose process is gone is noticed in seconds, one that is merely slow is not taken for lost.
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_initial_delay_ms": "1000"}
HANG = 600  # seconds: a deadline that nothing but a hang can reach
ENVIRONMENT = {**os.environ, **QUICK, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def node(*arguments):
    """A node of one CPU, as a session of its own, whose number it yields; killed whole in the end."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus", "1", "--num-gpus", "0"]
    starting = subprocess.Popen(
        [
            *command,
            "--node-ip-address",
            "127.0.0.1",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            *arguments,
        ],
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = starting.communicate(timeout=HANG)
        assert starting.returncode == 0, said
        yield starting.pid
    finally:
        kill(starting.pid)


def members(session):
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session and state_of(entry) != "Z":
                found.append(int(entry.name))
    return found


def state_of(process):
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def send(session, what):
    for pid in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


def kill(session):
    until = time.monotonic() + HANG
    while left := members(session):
        assert time.monotonic() < until, f"processes of a node are left: {left}"
        send(session, signal.SIGKILL)
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def address():
    """The address of a cluster that has one node."""
    pytest.importorskip("ray", reason="Ray is not installed")
    folder = tempfile.mkdtemp(prefix="ray")  # Ray's sockets lie in it, and their paths must be short
    port = free_port()
    try:
        with node("--head", "--port", str(port), "--include-dashboard=false", "--no-monitor", "--temp-dir", folder):
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a base experiment."""
    monkeypatch.chdir(tmp_path)
    make_synthetic("tiny", tmp_path / "tiny.h5", samples=40)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def sweep(here, grid, epochs=2, **launcher):
    settings = f"grid: {grid}\nset: {{train.epochs: {epochs}}}\nlauncher: {{ray: {launcher}}}\n"
    (here / "s.yaml").write_text("name: s\nexperiments: [base.yaml]\n" + settings)
    return points_of(load_sweep("s.yaml"), here), SweepFolder(here / "runs" / "s")


def lines(folder, point, beginning):
    """How many lines of a run's log begin so."""
    log = folder.run(point.name) / "log.txt"
    return sum(line.startswith(beginning) for line in log.read_text().splitlines()) if log.is_file() else 0


def begin(points, folder, monkeypatch):
    """Train each point for an epoch and stop, as a run that was killed has it."""
    monkeypatch.setattr(aqa.training.loop, "SECONDS_BETWEEN_SAVES", 0.0)
    save = RunFolder.save_state

    def save_and_stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_state", save_and_stop)
        for point in points:
            config = point.experiment.model_copy(update={"output": str(folder.run(point.name))})
            with pytest.raises(KeyboardInterrupt):
                run(config.model_dump(mode="json", exclude={"targets", "versions"}))


def test_a_lost_node_costs_time_and_no_run(here, address, monkeypatch, start_sweep, wait_for, ended):
    points, folder = sweep(here, "{train.seed: [0, 1, 2]}", epochs=40, address=address)
    begin(points, folder, monkeypatch)
    with node("--address", address) as second:
        process = start_sweep(here)

        def half_way():  # in training: a run that only draws its figures any more has no epoch to lose
            pids = members(second)
            here = [p for p in points if folder.holder(p.name)["pid"] in pids and not folder.settled(p.name)]
            return [p for p in here if lines(folder, p, "epoch 3:") and not lines(folder, p, "epoch 30:")]

        wait_for(half_way)
        send(second, signal.SIGSTOP)  # so that what is looked at is what is killed
        (lost,) = half_way()
        kill(second)
        assert ended(process)[0] == 0
    assert [folder.state(p.name) for p in points] == ["done"] * 3
    assert [lines(folder, p, "epoch 1:") for p in points] == [1] * 3
    assert [lines(folder, p, "resuming after epoch 1") for p in points] == [1 + (p == lost) for p in points]
    assert [lines(folder, p, "epoch 40:") for p in points] == [1] * 3


def test_an_error_and_a_dead_worker_cost_their_run_and_no_other(here, address, capsys, start_sweep, wait_for, ended):
    variants = "{wrong: {train.learning_rate: 1.0e+9}, killed: {train.epochs: 1000000}, fine: {}}"
    (wrong, killed, fine), folder = sweep(here, f"{{variant: {variants}}}", address=address, retries=0)
    process = start_sweep(here)
    wait_for(lambda: lines(folder, killed, "epoch 1:"))
    os.kill(folder.holder(killed.name)["pid"], signal.SIGKILL)
    assert ended(process)[0] == 1
    assert [folder.state(p.name) for p in (wrong, killed, fine)] == ["failed", "failed", "done"]
    assert "a lower train.learning_rate may help" in folder.error(wrong.name).read_text()
    assert "its worker was lost (times: 1, retries: 0)" in folder.error(killed.name).read_text()
    assert main(["sweep", "s.yaml", "--status"]) == 1
    assert "1 done, 0 running, 2 failed, 0 waiting" in capsys.readouterr().out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_sweep_that_is_stopped_leaves_nothing_running(here, address, how, start_sweep, wait_for, ended):
    points, folder = sweep(here, "{train.seed: [0, 1]}", epochs=10**6, address=address)
    process = start_sweep(here, "--jobs", "1")
    wait_for(lambda: lines(folder, points[0], "epoch 2:"))
    assert [folder.state(p.name) for p in points] == ["running", "waiting"]
    process.send_signal(how)
    assert ended(process)[0] == {signal.SIGINT: 130, signal.SIGHUP: 129}.get(how, -how)
    wait_for(lambda: folder.state(points[0].name) == "waiting")
    assert [folder.state(p.name) for p in points] == ["waiting"] * 2


def test_a_sweep_whose_process_that_talks_to_ray_is_stopped_fails(here, address, start_sweep, wait_for, ended):
    points, folder = sweep(here, "{train.seed: [0, 1]}", epochs=10**6, address=address)
    process = start_sweep(here, "--jobs", "1")
    wait_for(lambda: lines(folder, points[0], "epoch 2:"))
    (driver,) = (pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(driver, signal.SIGTERM)
    status, said = ended(process)
    assert status == 2
    assert said.splitlines()[-1] == (
        "aqa: the process of the sweep that talks to Ray was stopped; the same command resumes the sweep"
    )


def children(parent):
    """The processes that a process started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(entry.name))
    return found


def test_a_run_that_another_has_is_left_to_it_and_not_lost(here, address, start_sweep, wait_for, ended):
    (held, other), folder = sweep(here, "{train.seed: [0, 1]}", address=address)
    folder.make()
    with folder.claimed(held.name):
        process = start_sweep(here)
        wait_for(lambda: folder.settled(other.name))
        assert process.poll() is None
        assert not folder.run(held.name).exists()
    assert ended(process)[0] == 0
    assert lines(folder, held, "epoch 1:") == 1
    (here / "s.yaml").write_text((here / "s.yaml").read_text().replace(address, "127.0.0.1:1"))
    assert main(["sweep", "s.yaml"]) == 0  # what is finished needs no cluster


def test_a_lost_run_is_retried_then_listed_unless_it_is_still_claimed(here):
    (point,), folder = sweep(here, "{train.seed: [0]}")
    folder.make()
    work = Unsettled(deque(), held=[point])
    work.losses[point.name] += ["a", "b"]
    with folder.claimed(point.name):
        release(work, folder, retries=1)
    assert work.held == [point]
    release(work, folder, retries=2)
    assert list(work.waiting) == [point]
    release(Unsettled(deque(), held=[point], losses=work.losses), folder, retries=1)
    assert folder.error(point.name).read_text() == "its worker was lost (times: 2, retries: 1): b\n"


def test_a_node_must_share_folder_store_and_versions(tmp_path):
    token, store = tmp_path / ".claims" / "token", tmp_path / "store.h5"
    token.parent.mkdir()
    shared = Shared(token, frozenset([str(store)]), {k: v.partition("+")[0] for k, v in versions().items()})
    with pytest.raises(AqaError, match=f"does not see the sweep's folder {tmp_path}; put it on a file system"):
        require_shared(shared, str(store))
    token.touch()
    with pytest.raises(AqaError, match=r"does not see .*store.h5; put it on a file system"):
        require_shared(shared, str(store))
    store.touch()
    require_shared(shared, str(store))
    with pytest.raises(AqaError, match=r"it has torch .*, the sweep was started with 1\.0"):
        require_shared(Shared(token, shared.stores, {**shared.versions, "torch": "1.0"}), str(store))
    with pytest.raises(AqaError, match=r"it has plugin own.py \(none\), the sweep was started with sha256 1"):
        require_shared(Shared(token, shared.stores, {**shared.versions, "plugin own.py": "sha256 1"}), str(store))


@pytest.mark.parametrize(("given", "seen"), [([], ""), ([1], "1")])
def test_a_run_sees_the_gpus_that_ray_gives_it(here, monkeypatch, given, seen):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    (point,), folder = sweep(here, "{}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # what Ray, or the node where a run asks for none, has set
    folder.make()
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: given)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(aqa.sweeps.ray_cluster, "require_shared", lambda shared, store: None)
    monkeypatch.setattr(
        aqa.sweeps.ray_cluster, "run_if_free", lambda points, folder: os.environ["CUDA_VISIBLE_DEVICES"]
    )
    assert run_on_node(point, folder, 1, Shared(here, frozenset(), {})) == seen


def test_what_a_silent_node_had_is_lost_and_nothing_else(here):
    points, folder = sweep(here, "{train.seed: [0, 1, 2]}")
    folder.make()
    for point, place in zip(points, ("silent", "alive"), strict=False):  # the third has not begun
        (folder.path / ".claims" / f"{point.name}.node").write_text(place)
    work = Unsettled(deque(), running=dict(enumerate(points)))
    lose_with_nodes(work, folder, {"silent"})
    assert (work.running, work.held) == ({1: points[1], 2: points[2]}, [points[0]])


def test_a_cluster_without_room_is_one_line():
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"CPU": 9.0, "GPU": 1.0}}]
    assert require_room(nodes, RayCluster(cpus=4), roomy=0.0) > 0
    now = time.monotonic()
    assert require_room(nodes, RayCluster(gpus=1), now) == now
    with pytest.raises(AqaError, match=r"what a run asks for \(launcher.ray: cpus 8, gpus 0.5\)"):
        require_room(nodes, RayCluster(cpus=8, gpus=0.5), now - 60)


def test_no_cluster_is_one_line(here, capsys):
    pytest.importorskip("ray", reason="Ray is not installed")
    sweep(here, "{}", address=f"127.0.0.1:{free_port()}")
    assert main(["sweep", "s.yaml"]) == 2
    said = capsys.readouterr().err
    assert "does not answer: Connection refused" in said
    assert Counter(said)["\n"] == 1


def test_no_ray_is_one_line(here, monkeypatch):
    points, folder = sweep(here, "{}")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AqaError, match=r"the package is not installed: pip install ray$"):
        run_on_ray(points, folder, RayCluster())


@pytest.mark.parametrize(
    ("launcher", "said"),
    [
        ("{ray: {cpu: 2}}", r"line 3: unknown key 'launcher.ray.cpu': did you mean 'cpus'\?"),
        ("{rey: {}}", r"line 3: unknown key 'launcher.rey': did you mean 'ray'\?"),
        ("{ray: }", r"launcher.ray: a mapping of keys is needed \(address, cpus, gpus, memory, retries\)"),
        ("{ray: {address: 'ray://host:1'}}", "launcher.ray.address: write auto or HOST:PORT"),
        ("{ray: {gpus: 2}}", "launcher.ray.gpus: must be 1 or less"),
    ],
)
def test_what_a_launcher_may_say(tmp_path, launcher, said):
    (tmp_path / "s.yaml").write_text(f"name: s\nexperiments: [base.yaml]\nlauncher: {launcher}\n")
    with pytest.raises(AqaError, match=said):
        load_sweep(tmp_path / "s.yaml")
