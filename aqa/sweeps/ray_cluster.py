"""Running a sweep's points on a Ray cluster: Ray says where and when, a claim beside the run's folder says who.

Ray ends the process that speaks to it when the cluster's head is lost, and may wait for minutes where none answers. So
a process of its own speaks to Ray, and the one that the user started watches it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import secrets
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from aqa.errors import AqaError, first_line
from aqa.runs.folder import versions
from aqa.sweeps.folder import SweepFolder
from aqa.sweeps.grid import Point, RayCluster
from aqa.sweeps.local import all_settled, run_if_free
from aqa.sweeps.workers import POLL, is_orphan
from aqa.system.files import write_text
from aqa.system.memory import GIB
from aqa.system.signals import away_from_terminal, stop_here_if_asked, stopped_by_parent

ANSWER_SECONDS = 5.0  # for the head's port to open
JOIN_SECONDS = 60.0  # to load Ray and to join the cluster
STOP_SECONDS = 10.0  # for runs to end after they are cancelled
ROOM_SECONDS = 30.0  # for a node to join that has what a run asks for
LOOK_SECONDS = 1.0  # between two looks at claims that others hold


def run_on_ray(
    points: Sequence[Point],
    folder: SweepFolder,
    cluster: RayCluster,
    at_once: int | None = None,
    on_change: Callable[[], object] = lambda: None,
) -> None:
    """Run every point that is neither done nor failed on a cluster's nodes, and return when all are settled.

    at_once: runs at a time at most; as many as the cluster has room for where not given. on_change is called every now
    and then. A run whose worker or node is lost is retried, `cluster.retries` times, then listed as failed.
    AqaError if Ray is not installed, the cluster does not answer or is lost, no node has what a run asks for, or a
    node has other versions or another file system.
    """
    folder.make()
    if all_settled(points, folder):
        on_change()
        return
    _require_ray()
    _require_answer(cluster.address)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    shared = SweepFolder(folder.path.absolute())
    # What nodes are compared with is found here, where torch is loaded: the driver does without it.
    asked = (list(points), shared, cluster, at_once, versions())
    driver = context.Process(target=_drive, args=(*asked, sender), name="Ray driver")
    with away_from_terminal():
        driver.start()
    sender.close()
    try:
        if not receiver.poll(JOIN_SECONDS):
            raise AqaError(f"{_where(cluster.address)} did not answer within {JOIN_SECONDS:.0f} s")
        _hear(receiver, shared)
        while not receiver.poll(POLL):
            stop_here_if_asked()
            on_change()
        _hear(receiver, shared)
    finally:
        _end(driver)
    on_change()


def _require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        raise AqaError("launcher.ray: the package is not installed: pip install ray") from None


def _require_answer(address: str) -> None:
    """AqaError if nothing listens at an address; `auto` is one where the environment says so, as Ray has it."""
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise AqaError(f"{_where(address)} does not answer: {error.strerror or error}") from None


def _where(address: str) -> str:
    return "the Ray cluster of this machine" if address == "auto" else f"the Ray cluster at {address}"


def _log(folder: SweepFolder) -> Path:
    """What Ray itself says while a sweep runs."""
    return folder.path / "ray.log"


def _hear(receiver: Connection, folder: SweepFolder) -> None:
    """Receive the driver's next message: nothing, or the problem that ended the sweep."""
    try:
        problem = receiver.recv()
    except EOFError:
        problem = (
            "the Ray cluster was lost; the same command resumes the sweep on another cluster "
            f"({_log(folder)} has Ray's own messages)"
        )
    if problem:
        raise AqaError(problem)


def _end(driver: Any) -> None:
    """Let the driver cancel its runs; a driver that Ray keeps waiting is killed, and its runs with it."""
    driver.terminate()
    driver.join(STOP_SECONDS * 1.5)
    driver.kill()
    driver.join()


def _drive(
    points: Sequence[Point],
    folder: SweepFolder,
    cluster: RayCluster,
    at_once: int | None,
    found: Mapping[str, str],
    parent: Connection,
) -> None:
    """The process that speaks to Ray. It says "" when it has joined the cluster and when all is settled."""
    with open(_log(folder), "a", encoding="utf-8") as log:
        for stream in (1, 2):  # of the process: Ray's C++ part writes to them as well
            os.dup2(log.fileno(), stream)
    problem = ""
    try:
        with _joined(cluster.address), _shared(points, folder, found) as shared, stopped_by_parent():
            parent.send("")
            _hand_out(Unsettled(deque(points)), folder, cluster, at_once or len(points), shared)
    except AqaError as error:
        problem = str(error)
    except SystemExit:  # by SIGTERM; if the parent sent it, nobody listens
        problem = "the process of the sweep that talks to Ray was stopped; the same command resumes the sweep"
    with contextlib.suppress(OSError):  # nobody listens where the parent was killed
        parent.send(problem)


@contextlib.contextmanager
def _joined(address: str) -> Iterator[None]:
    """A connection to the cluster; AqaError if there is none to be had."""
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        raise AqaError(
            f"{_where(address)} is not running; `ray start --head` starts one, launcher.ray.address names another"
        ) from None
    except Exception as error:  # another version of Ray or Python, a machine that is no node of the cluster ...
        raise AqaError(f"{_where(address)} cannot be joined: {' '.join(str(error).split())}") from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Shared:
    """What a node must have in common with the machine that the sweep was started on."""

    token: Path  # a file in the sweep's folder
    stores: frozenset[str]
    versions: Mapping[str, str]


@contextlib.contextmanager
def _shared(points: Sequence[Point], folder: SweepFolder, found: Mapping[str, str]) -> Iterator[Shared]:
    """What nodes are held to, of versions those found; the token is there until the block ends."""
    stores = {point.experiment.data.store for point in points}
    # The name is new each time: a file system may remember for a while that a name was not there.
    token = folder.path / ".claims" / f"{secrets.token_hex(8)}.token"
    token.touch()
    try:
        yield Shared(token, frozenset(store for store in stores if Path(store).is_file()), _comparable(found))
    finally:
        token.unlink(missing_ok=True)


def _comparable(found: Mapping[str, str]) -> dict[str, str]:
    """Versions without what says CPU or CUDA: nodes may differ in that."""
    return {name: version.partition("+")[0] for name, version in found.items()}


def require_shared(shared: Shared, store: str) -> None:
    """AqaError if this node lacks what it must share to run a point that reads `store`."""
    node = f"node {socket.gethostname()} cannot run this sweep"
    here = _comparable(versions())
    for name in [*shared.versions, *here]:
        has, asked = (found.get(name, "(none)") for found in (here, shared.versions))
        if has != asked:
            raise AqaError(f"{node}: it has {name} {has}, the sweep was started with {asked}")
    folder = shared.token.parent.parent
    if not shared.token.is_file():
        raise AqaError(
            f"{node}: it does not see the sweep's folder {folder}; put it on a file system that all nodes share"
        )
    if store in shared.stores and not Path(store).is_file():
        raise AqaError(f"{node}: it does not see {store}; put it on a file system that all nodes share")


def run_on_node(point: Point, folder: SweepFolder, threads: int, shared: Shared) -> bool:
    """Run a point on this node; False where somebody else has it. It sees the GPUs that Ray gives this process."""
    import ray
    import torch

    from aqa.system.devices import keep_freed_memory

    keep_freed_memory()
    require_shared(shared, point.experiment.data.store)
    if not ray.get_gpu_ids():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # which Ray leaves as it is where a task asks for none
    write_text(_place(folder, point), ray.get_runtime_context().get_node_id())
    torch.set_num_threads(threads)
    return run_if_free([point], folder)


def _place(folder: SweepFolder, point: Point) -> Path:
    """Where a task says which node it is on."""
    return folder.path / ".claims" / f"{point.name}.node"


@dataclass
class Unsettled:
    """Where the points of a sweep are that are not settled."""

    waiting: deque[Point]  # for a place on the cluster
    running: dict[Any, Point] = field(default_factory=dict)  # by Ray's task
    held: list[Point] = field(default_factory=list)  # by others, or by what is left of a lost node
    losses: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # a cause each, by run


def lose(unsettled: Unsettled, task: Any, cause: str) -> None:
    """Note that a task was lost."""
    point = unsettled.running.pop(task)
    print(f"{time.strftime('%X')} {point.name} was lost: {cause}", flush=True)  # to the log
    unsettled.losses[point.name].append(cause)
    unsettled.held.append(point)


def lose_with_nodes(unsettled: Unsettled, folder: SweepFolder, dead: Collection[str]) -> None:
    """Note what was lost with nodes that Ray gave up.

    Ray fails the tasks of a node that died at once, but waits minutes for those of one that is silent: a machine that
    was switched off, or cut off from the network.
    """
    for task, point in list(unsettled.running.items()):
        place = _place(folder, point)
        if dead and place.is_file() and place.read_text(encoding="utf-8") in dead:
            lose(unsettled, task, "Ray gave up its node")


def release(unsettled: Unsettled, folder: SweepFolder, retries: int) -> None:
    """Let points wait for a place again whose claim is free; one that was lost too often is listed as failed.

    A node that Ray gave up may still run its point, which is then left to it.
    """
    for point in unsettled.held.copy():
        state = folder.state(point.name)
        if state == "running":
            continue
        unsettled.held.remove(point)
        losses = unsettled.losses[point.name]
        if state == "waiting" and len(losses) > retries:
            folder.fail(point.name, f"its worker was lost (times: {len(losses)}, retries: {retries}): {losses[-1]}")
        elif state == "waiting":
            unsettled.waiting.appendleft(point)


def _hand_out(unsettled: Unsettled, folder: SweepFolder, cluster: RayCluster, at_once: int, shared: Shared) -> None:
    """Let Ray run what is waiting until all is settled; cancel what runs where that ends early."""
    import ray

    # Ray would retry by itself, but without an end where memory is short, and without a word on what was lost.
    run: Any = ray.remote(
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
        memory=int((cluster.memory or 0) * GIB),
        max_retries=0,
        scheduling_strategy="SPREAD",
    )(run_on_node)
    roomy = time.monotonic()  # when there was last a node that could take a run
    try:
        while (unsettled.waiting or unsettled.running or unsettled.held) and not is_orphan():
            nodes = ray.nodes()  # first: where the head is lost this ends the process, and no run is to blame
            roomy = require_room(nodes, cluster, roomy)
            lose_with_nodes(unsettled, folder, {node["NodeID"] for node in nodes if not node["Alive"]})
            release(unsettled, folder, cluster.retries)
            while unsettled.waiting and len(unsettled.running) < at_once:
                point = unsettled.waiting.popleft()
                _place(folder, point).unlink(missing_ok=True)
                task = run.options(name=point.name).remote(point, folder, cluster.cpus, shared)
                unsettled.running[task] = point
            for task in _ended(list(unsettled.running)):
                _take_back(task, unsettled)
    finally:
        _cancel(list(unsettled.running))


def _ended(tasks: list[Any]) -> list[Any]:
    """Tasks that have ended, after a while where none has."""
    import ray

    if not tasks:
        time.sleep(LOOK_SECONDS)
        return []
    return ray.wait(tasks, timeout=LOOK_SECONDS)[0]


def _take_back(task: Any, unsettled: Unsettled) -> None:
    """Note how a task ended. AqaError for an error that is not the run's: a run's own are kept as its failure."""
    import ray

    point = unsettled.running[task]
    try:
        ran = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        what = str(cause) if isinstance(cause, AqaError) else f"{point.name} cannot run on a node: {first_line(cause)}"
        raise AqaError(what) from None
    except ray.exceptions.LocalRayletDiedError:
        raise AqaError(
            "this machine's node of the Ray cluster was lost; the same command resumes the sweep on another cluster"
        ) from None
    except ray.exceptions.RayError as error:
        lose(unsettled, task, first_line(error).partition(". ")[0])
    else:
        del unsettled.running[task]
        if not ran:
            unsettled.held.append(point)


def _cancel(tasks: list[Any]) -> None:
    """Interrupt runs and give them time to end; the end of the connection kills what is left of them."""
    import ray

    for task in tasks:
        ray.cancel(task)
    if tasks:
        ray.wait(tasks, num_returns=len(tasks), timeout=STOP_SECONDS)


def require_room(nodes: Sequence[Mapping[str, Any]], cluster: RayCluster, roomy: float) -> float:
    """The time, or `roomy` where no node, as Ray describes it, could take a run; AqaError if that lasts."""
    asked = {"CPU": cluster.cpus, "GPU": cluster.gpus, "memory": (cluster.memory or 0) * GIB}
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    if any(all(has.get(name, 0) >= amount for name, amount in asked.items()) for has in alive):
        return time.monotonic()
    if time.monotonic() - roomy > ROOM_SECONDS:
        wants = ", ".join(f"{key} {value:g}" for key in ("cpus", "gpus", "memory") if (value := getattr(cluster, key)))
        raise AqaError(f"no node of the cluster has what a run asks for (launcher.ray: {wants})")
    return roomy
