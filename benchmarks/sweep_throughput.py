"""How much of a sweep's time is training: what its runs spend in their training loops, beside what the sweep takes.

    python -m benchmarks.sweep_throughput --runs 8 --jobs 2             # runs of about 20 s of training
    python -m benchmarks.sweep_throughput --runs 4 --wandb offline --without-figures

One sweep of the quick start's model, a seed each, as a whole command: starting Python and its processes, loading,
scoring, intervals, figures and tracking are all counted. The runs' processes note how long each training loop took, so
that both sides are of the same runs at the same time: by the clock, where the training of `--jobs` runs at a time
counts as many times less, and in processor time, which other programs on the machine change least.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from aqa.store.synthetic import make_synthetic
from aqa.system.files import write_text
from benchmarks.harness import Report, Seconds, command_seconds, options, parsed

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
AIM = 0.95
#: A plugin, which every process of a sweep loads: notes the seconds of each training loop.
NOTING = """
import json, os, time
import aqa.runs.run as runs

train = runs.train

def noted(*arguments, **options):
    begun, processor = time.time(), time.process_time()
    progress = train(*arguments, **options)
    line = json.dumps([begun, time.time(), time.process_time() - processor])
    with open({notes!r}, "a") as file:
        file.write(line + "\\n")
    return progress

runs.train = noted
"""


class Training(NamedTuple):
    """A training loop: when it began and ended, in seconds of the system's clock, and its processor time."""

    begun: float
    ended: float
    processor: float


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30, help="of each run; as many as take it about 20 s")
    parser.add_argument("--wandb", default="disabled", choices=("disabled", "offline"))
    parser.add_argument("--without-figures", action="store_true")
    arguments, device = parsed(parser)
    report = Report("sweep_throughput", arguments, device)
    with tempfile.TemporaryDirectory() as name:
        begun, sweep, training = measured(Path(name), arguments)
    report.section(f"{arguments.runs} runs, {arguments.jobs} at a time")
    report.add("training of a run, by the clock", [one.ended - one.begun for one in training], "s")
    report.add("training of a run, processor time", [one.processor for one in training], "s")
    report.value("the sweep, by the clock", sweep.clock, "s")
    report.value("the sweep, processor time", sweep.processor, "s")
    report.value("until the first training begins", min(one.begun for one in training) - begun, "s")
    after = begun + sweep.clock - max(one.ended for one in training)
    report.value("after the last training, its scoring included", after, "s")
    at_once = min(arguments.jobs, arguments.runs)
    share = sum(one.ended - one.begun for one in training) / at_once / sweep.clock
    report.value(f"training / sweep by the clock, aim {AIM}", share)
    report.value("training / sweep in processor time", sum(one.processor for one in training) / sweep.processor)
    report.write()


def measured(folder: Path, arguments: argparse.Namespace) -> tuple[float, Seconds, list[Training]]:
    """When the sweep began, what it took, and its trainings."""
    make_synthetic("tiny", folder / "tiny.h5")
    notes, plugin = folder / "training.jsonl", folder / "noting.py"
    write_text(plugin, NOTING.format(notes=str(notes)))
    settings = {
        "data.store": str(folder / "tiny.h5"),
        "train.epochs": arguments.epochs,
        "train.threads": 1,
        "figures": not arguments.without_figures,
        "tracking.wandb": arguments.wandb,
    }
    grid = {"train.seed": list(range(arguments.runs))}
    plan = {"name": "throughput", "experiments": [str(EXPERIMENT)], "set": settings, "grid": grid}
    write_text(folder / "sweep.yaml", json.dumps(plan))
    command = ["-m", "aqa", "sweep", "sweep.yaml", "--jobs", str(arguments.jobs), "--plugin", str(plugin)]
    begun = time.time()
    sweep = command_seconds(command, folder)
    training = [Training(*json.loads(line)) for line in notes.read_text(encoding="utf-8").splitlines()]
    if len(training) != arguments.runs:
        sys.exit(f"sweep_throughput: {len(training)} of {arguments.runs} runs trained")
    return begun, sweep, training


if __name__ == "__main__":
    main()
