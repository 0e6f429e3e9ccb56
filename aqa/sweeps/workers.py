"""Processes of this machine that share out work among themselves, each with its part of the machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from aqa.errors import AqaError
from aqa.system.signals import away_from_terminal, stop_here_if_asked, stopped_by_parent, uninterrupted

POLL = 0.2
#: What a process of a sweep or search imports before its first run is done.
PRELOADED = ["aqa.sweeps.local", "aqa.runs.run", "aqa.runs.figures", "pandas", "scipy.special"]


def import_once(plan: Path) -> None:
    """Let the processes of this program be forked from one that imports what they all need, and begin with it now.

    plan: the file of a sweep or search, which may ask for Weights & Biases.

    For a program that is ours: how its processes start is chosen for all of it, and the one that they are forked from
    stays until it ends. Linux only, where forking what has no threads is safe; elsewhere each imports by itself.
    """
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver  # not to be had on Windows

    multiprocessing.set_start_method("forkserver", force=True)
    first = ["aqa.sweeps.preloaded_wandb"] if asks_for_wandb(plan) else []
    multiprocessing.set_forkserver_preload([*first, "aqa.sweeps.preloaded"])
    with away_from_terminal(and_terminated=True):
        forkserver.ensure_running()


def asks_for_wandb(plan: Path) -> bool:
    """Whether a plan, or an experiment that it names, seems to ask for Weights & Biases.

    Only when something is imported depends on it: so the files are looked at as text, long before they can be parsed.
    """
    text = _beginning(plan)
    named = [_beginning(plan.parent / name) for name in re.findall(r"[^\s\"',\[\]{}]+\.ya?ml", text)]
    return any(re.search(r"wandb\W{1,9}(?:offline|online)", each) for each in [text, *named])


def _beginning(file: Path) -> str:
    """The first million characters of a file, "" of one that cannot be read, or only once."""
    try:
        if not file.is_file():
            return ""
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(1_000_000)
    except (OSError, ValueError):
        return ""


def keep_at_work(
    jobs: int,
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    is_done: Callable[[], bool],
    bury: Callable[[Any], None],
    on_change: Callable[[], object] = lambda: None,
    most: int | None = None,
) -> None:
    """Let `jobs` processes call work(*arguments), and replace each that ends before all is done; bury is told of it.

    on_change is called every now and then. most: processes that have something to do, where these are fewer. The
    processes are stopped where this is left early.
    """
    forked = multiprocessing.get_start_method(allow_none=True) == "forkserver"
    context: Any = multiprocessing.get_context("forkserver" if forked else "spawn")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    gpus = _gpus()

    def hire(number: int) -> None:
        gpu = gpus[number % len(gpus)] if gpus else None
        worker = context.Process(
            target=_work, args=(work, arguments, threads, gpu, dict(os.environ)), name=f"worker {number}"
        )
        with uninterrupted(), away_from_terminal():  # or there would be a process that nobody knows of
            worker.start()
            workers[number] = worker

    workers: dict[int, Any] = {}
    try:
        for number in range(jobs if most is None else min(jobs, most)):
            hire(number)
        while alive := [worker.sentinel for worker in workers.values() if worker.is_alive()]:
            wait(alive, POLL)
            stop_here_if_asked()
            on_change()
            for number, worker in list(workers.items()):
                if not worker.is_alive() and not is_done():
                    bury(worker)
                    hire(number)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()
    on_change()


def _gpus() -> list[str]:
    import torch

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",") if allowed else [str(i) for i in range(torch.cuda.device_count())]


def _work(
    work: Callable[..., None],
    arguments: tuple[Any, ...],
    threads: int,
    gpu: str | None,
    environment: Mapping[str, str],
) -> None:
    """Work in a process of its own; what keeps it from that is one line, and the parent lists what it had.

    environment: the parent's; a process that was forked from another has that one's, as it was when it started.
    """
    try:
        with stopped_by_parent():
            os.environ.clear()
            os.environ.update(environment)
            if gpu is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            import torch

            from aqa.system.devices import keep_freed_memory

            keep_freed_memory()
            torch.set_num_threads(threads)
            gc.freeze()  # what is imported stays, and need not be looked through for garbage
            work(*arguments)
    except (AqaError, OSError) as error:  # the folder is gone, or the disk is full
        sys.exit(f"aqa: {error}")


def is_orphan() -> bool:
    """Whether the process that started this one is gone, and with it anyone who could stop it."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()
