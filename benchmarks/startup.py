"""How long commands take before they do what they are for, in processor time, beside importing torch.

    python -m benchmarks.startup

Each is a fresh process, in turn with the others, of one thread: `import aqa`, `aqa --help`, `aqa sweep --help`,
`aqa models`, and `aqa run` of the quick start until its first training step begins. Processor time, user and system,
is what other programs on the machine change least; files are in the page cache after the turn that is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from aqa.store.synthetic import make_synthetic
from benchmarks.harness import Report, command_seconds, options, parsed, ratios

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
TORCH, MODELS, FIRST_STEP = "import torch", "aqa models", "aqa run to its first step"
LIMITS = {"import aqa": 0.2, "aqa --help": 0.5, "aqa sweep --help": 0.5, FIRST_STEP: 3.0}  # seconds
#: `aqa run` with a training step that ends the process in the place of taking the step.
TO_FIRST_STEP = """
import os
from aqa.training.step import TrainingStep
TrainingStep.__call__ = lambda *_: os._exit(0)
from aqa.cli import main
main()
raise SystemExit("no training step was begun")
"""


def main() -> None:
    parser = options(__doc__, threads=1)
    parser.add_argument("--without-models", action="store_true", help="leave out `aqa models`, which has no limit")
    arguments, device = parsed(parser)
    report = Report("startup", arguments, device)
    with tempfile.TemporaryDirectory() as name:
        seconds = measured(Path(name), arguments)
    report.section("processor time of a fresh process")
    for what, samples in seconds.items():
        limit = f"s, limit {LIMITS[what]} s" if what in LIMITS else "s"
        report.add(what, samples, limit)
    for what in (MODELS, FIRST_STEP):
        if what in seconds:
            report.add(f"{what} / {TORCH}", ratios(seconds[what], seconds[TORCH]))
    report.write()


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Processor seconds of each command, turn by turn."""
    make_synthetic("tiny", folder / "tiny.h5")
    run = ["run", str(EXPERIMENT), f"data.store={folder / 'tiny.h5'}", "--overwrite", "train.threads=1"]
    commands = {
        "python alone": ["-c", "pass"],
        TORCH: ["-c", TORCH],
        "import aqa": ["-c", "import aqa"],
        "aqa --help": ["-m", "aqa", "--help"],
        "aqa sweep --help": ["-m", "aqa", "sweep", "--help"],
        MODELS: ["-m", "aqa", "models"],
        FIRST_STEP: ["-c", TO_FIRST_STEP, *run, f"output={folder / 'run'}"],
    }
    if arguments.without_models:
        del commands[MODELS]
    seconds: dict[str, list[float]] = {what: [] for what in commands}
    for turn in range(arguments.repeats + 1):
        for what, command in commands.items():
            taken = command_seconds(command, folder).processor
            if turn:
                seconds[what].append(taken)
    return seconds


if __name__ == "__main__":
    main()
