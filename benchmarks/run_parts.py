"""What a run does beside training: processor time of each part of a run of the quick start's model.

    python -m benchmarks.run_parts                   # figures, scoring, calibration, tables, ...
    python -m benchmarks.run_parts --wandb offline   # tracking as well

Runs of one epoch, one after another in this process as in a sweep's. The first, in which much is imported, is not
counted. The time of a part is without that of the parts within it.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from aqa.runs.run import run
from aqa.store.synthetic import make_synthetic
from benchmarks.harness import Report, options, parsed
from benchmarks.sweep_throughput import EXPERIMENT

OTHERWISE = "all else"
#: Where the functions of a part are looked up when a run calls them.
PARTS = {
    "training": ["aqa.runs.run.train"],
    "scoring the test videos": ["aqa.evaluation.scorer.Scorer.predict_and_diagnose"],
    "calibration": ["aqa.runs.run.calibrate"],
    "intervals and measures": ["aqa.runs.run.summary"],
    "figures: SRCC by pattern": ["aqa.runs.figures.srcc_by_pattern"],
    "figures: predicted against true": ["aqa.runs.figures.predicted_against_true"],
    "figures: training curves": ["aqa.runs.figures.training_curves"],
    "figures: router weights": ["aqa.runs.figures.router_weights"],
    "loading": ["aqa.runs.run.load", "aqa.runs.run.prepare"],
    "predictions.csv": ["aqa.runs.run.save_predictions"],
    "wandb: beginning": ["aqa.runs.tracking._init"],
    "wandb: sending files": ["aqa.runs.tracking.send_files"],
}


class Parts:
    """Seconds of each part of what is running."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*PARTS, OTHERWISE], 0.0)
        self.now, self.since = [OTHERWISE], time.process_time()

    def switch(self) -> None:
        """Count what passed until now as the present part's."""
        now = time.process_time()
        self.seconds[self.now[-1]] += now - self.since
        self.since = now

    def of(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose time is the part's. Calibration scores as well, and that is its own."""

        def timed(*given: Any, **options: Any) -> Any:
            self.switch()
            self.now.append(self.now[-1] if self.now[-1] == "calibration" else part)
            try:
                return function(*given, **options)
            finally:
                self.switch()
                self.now.pop()

        return timed


@contextlib.contextmanager
def measured() -> Iterator[Parts]:
    """The parts of the block."""
    parts = Parts()
    with contextlib.ExitStack() as stack:
        for part, places in PARTS.items():
            for place in places:
                owner, name = owner_of(place)
                stack.enter_context(mock.patch.object(owner, name, parts.of(part, getattr(owner, name))))
        yield parts
        parts.switch()


def owner_of(place: str) -> tuple[Any, str]:
    """The module or class that has a function, and the function's name."""
    owner, _, name = place.rpartition(".")
    try:
        return importlib.import_module(owner), name
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        return getattr(importlib.import_module(module), kind), name


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--wandb", default="disabled", choices=("disabled", "offline"))
    arguments, device = parsed(parser)
    report = Report("run_parts", arguments, device)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_synthetic("tiny", folder / "tiny.h5")
        settings = [f"data.store={folder / 'tiny.h5'}", "train.epochs=1", f"tracking.wandb={arguments.wandb}"]
        settings.append(f"train.threads={arguments.threads}")
        for number in range(arguments.repeats + 1):
            with measured() as parts:
                run(EXPERIMENT, [*settings, f"output={folder / str(number)}"])
            for part, seconds in parts.seconds.items():
                found.setdefault(part, []).append(seconds)
    report.section("a run of one epoch, processor time")
    for part, samples in found.items():
        if any(samples):
            report.add(part, samples[1:], "s")
    beside = [sum(each) for each in zip(*(own[1:] for part, own in found.items() if part != "training"), strict=True)]
    report.add("all but training", beside, "s")
    report.write()


if __name__ == "__main__":
    main()
