"""How long it takes until a program that has imported torch has a scorer, and until it has the first score.

    python -m benchmarks.loading runs/quickstart            # seconds of processor time, a fresh process each time
    python -m benchmarks.loading runs/a runs/b --rounds 10

The time of `aqa.load` contains the import of everything in aqa that it needs. All times are processor time of one
thread, which other programs on the machine hardly change; the last column has the ratio to the import of torch.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

MEASURED = """
import sys, time
begin = time.process_time()
import torch
torch.set_num_threads(1)
imported = time.process_time()
import aqa
scorer = aqa.load(sys.argv[1], device="cpu")
loaded = time.process_time()
scorer.score({m: torch.zeros(8, width) for m, width in scorer.widths.items()})
print(imported - begin, loaded - imported, time.process_time() - loaded)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes for each run")
    arguments = parser.parse_args()
    print(f"{'run':40s} {'import torch':>14s} {'aqa.load':>10s} {'first score':>12s} {'load / torch':>14s}")
    for run in arguments.runs:
        rounds = [measure(run) for _ in range(arguments.rounds)]
        torch_seconds, load, score = (statistics.median(part) for part in zip(*rounds, strict=True))
        ratio = statistics.median(load / torch_seconds for torch_seconds, load, _ in rounds)
        print(f"{run[-40:]:40s} {torch_seconds:12.2f} s {load:8.2f} s {score:10.2f} s {ratio:14.2f}")


def measure(run: str) -> list[float]:
    """Seconds of one fresh process: importing torch, `aqa.load`, the first score."""
    done = subprocess.run([sys.executable, "-c", MEASURED, run], check=True, capture_output=True, text=True)
    return [float(seconds) for seconds in done.stdout.split()]


if __name__ == "__main__":
    main()
