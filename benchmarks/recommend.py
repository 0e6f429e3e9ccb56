"""What models reach on parts of real sets of several sizes: the measurements behind `aqa models --recommend`.

    python -m benchmarks.recommend --stores data

Of the training split of each set so many videos are drawn, whole groups where there are groups, and divided into two
inner folds that divide no group. Each model is trained on one fold and scores the other; the SRCC is of all these
scores, with an interval that draws whole groups, and so has the difference from ridge regression. The validation and
test splits are not looked at. Settings are those of the experiments, which were chosen for MCMoE on POM; the networks
were not tuned. The figures are written to aqa/reporting/recommend.yaml, a set and a size at a time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import aqa
from aqa import FeatureStore, Modality, Target, write_store
from aqa.evaluation.metrics import srcc

ROOT = Path(__file__).parents[1]
OUT = ROOT / "aqa" / "reporting" / "recommend.yaml"
DRAWS = 1000
BASELINE = "ridge"
NETWORK = {"hidden_dim": 64, "n_encoder": 1, "dropout": 0.3}
MODELS: Mapping[str, dict[str, Any]] = {
    BASELINE: {},
    "gaussian_process": {},
    "mome": NETWORK,
    "mcmoe": {**NETWORK, "n_decoder": 1},
    "ensemble": {"members": {"ridge": {}, "gaussian_process": {}, "mome": NETWORK}},
}
SHIPPED = [BASELINE, "gaussian_process", "mome"]  # the others take hours


@dataclass(frozen=True)
class Case:
    """A set of real ratings: its experiment, the targets to measure, the group that stays together, the sizes."""

    experiment: str
    targets: Sequence[str]
    group: str | None
    sizes: Sequence[int]


CASES = {
    "finger_tapping": Case("finger_tapping", ["consensus"], "patient", [120, 313]),
    "pom": Case("pom", ["confidence", "persuasion"], None, [150, 600]),
    "percepiano": Case("percepiano", ["convincing", "dramatic"], "passage", [150, 800]),
    "soccer": Case("soccer", ["expert_novice_score"], "player", [144]),
}


def drawn(labels: Sequence[str], size: int) -> np.ndarray:
    """The places, in rising order, of about `size` videos: whole groups, in an order that is drawn."""
    names, numbers = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    counts = np.bincount(numbers)[order].cumsum()
    taken = order[: int(np.searchsorted(counts, size)) + 1]
    return np.flatnonzero(np.isin(numbers, taken))


def write_part(source: FeatureStore, rows: np.ndarray, out: Path) -> None:
    """A store of some videos, all of them for training."""
    write_store(
        out,
        name=source.name,
        source=f"{source.source}, {len(rows)} training videos",
        ids=[source.ids[row] for row in rows],
        modalities={m: Modality(source.widths[m], source.lengths[rows, i]) for i, m in enumerate(source.modalities)},
        targets={name: Target(target.values[rows], target.low, target.high) for name, target in source.targets.items()},
        groups={name: [labels[row] for row in rows] for name, labels in source.groups.items()},
        splits={"train": np.arange(len(rows))},
        read=lambda modality, row: source.read_sample(modality, int(rows[row])),
    )


def compared(own: pd.DataFrame, base: pd.DataFrame, draws: Mapping[str, np.ndarray]) -> list[float]:
    """SRCC of one model's predictions less that of another's, with a 95 % interval that draws whole groups.

    own, base: score and label by video. draws: how often each video is in each draw.
    """
    both = own.join(base["score"].rename("base"))
    score, other, truth = (both[column].to_numpy() for column in ("score", "base", "label"))
    counts = np.stack([draws[video] for video in both.index], axis=1)  # (draws, n)
    found = []
    for times in counts:
        rows = np.repeat(np.arange(len(both)), times)
        found.append(srcc(score[rows], truth[rows]) - srcc(other[rows], truth[rows]))
    value = srcc(score, truth) - srcc(other, truth)
    return [round(float(number), 3) for number in (value, *np.nanquantile(found, [0.025, 0.975]))]


def draws_of(videos: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """How often each video is in each of the draws of whole groups."""
    _, numbers = np.unique(labels, return_inverse=True)
    groups = int(numbers.max()) + 1
    counts = np.random.default_rng(0).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)
    return {video: counts[:, number] for video, number in zip(videos, numbers, strict=True)}


def measured(
    name: str, case: Case, size: int, models: Iterable[str], stores: Path, folder: Path
) -> list[dict[str, Any]]:
    """What the models reach on a part of a set, an entry for each target."""
    part = folder / f"{name}-{size}.h5"
    with FeatureStore(stores / f"{name}.h5") as store:
        rows = np.sort(store.split("train"))
        labels = np.array(store.ids if case.group is None else store.group(case.group))[rows]
        rows, labels = (each[drawn(list(labels), size)] for each in (rows, labels))
        write_part(store, rows, part)
        clips, draws = int(store.lengths[rows].max(axis=1).mean()), draws_of([store.ids[row] for row in rows], labels)
    about = {"set": name, "videos": len(rows), "groups": len(set(labels)), "clips": clips}
    entries = []
    for target in case.targets:
        found: dict[str, Any] = {}
        for model in models:
            output = folder / f"{name}-{size}-{target}-{model}"
            start = time.process_time()
            patterns = run(case, target, model, part, output)["patterns"]
            whole, *others = patterns.values()
            found[model] = {
                "complete": [round(float(whole[key]), 3) for key in ("srcc", "srcc_low", "srcc_high")],
                "incomplete": round(float(np.mean([each["srcc"] for each in others])), 3),
                "seconds": round(time.process_time() - start, 1),
            }
            if model != BASELINE:
                own, base = (complete_scores(folder / f"{name}-{size}-{target}-{m}") for m in (model, BASELINE))
                found[model]["beyond_ridge"] = compared(own, base, draws)
        entries.append({**about, "target": target, "models": found})
    return entries


def run(case: Case, target: str, model: str, part: Path, output: Path) -> Mapping[str, Any]:
    """The metrics of a cross-validation of one model on a part of a set."""
    folds = {"count": 2, "group": case.group} if case.group else {"count": 2}
    given = {
        "data.store": str(part),
        "data.target": target,
        "data.folds": json.dumps(folds),
        "model": json.dumps({"name": model, **MODELS[model]}),
        "select.pattern": "average",
        "train.threads": "1",
        "figures": "false",
        "output": str(output),
    }
    return aqa.run(ROOT / "experiments" / f"{case.experiment}.yaml", [f"{k}={v}" for k, v in given.items()]).metrics


def complete_scores(folder: Path) -> pd.DataFrame:
    """score and label of a run with everything visible, by video."""
    table = pd.read_csv(folder / "predictions.csv", dtype={"id": str})
    return table[table["pattern"] == table["pattern"].iloc[0]].set_index("id")[["score", "label"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=Path, default=Path("data"))
    parser.add_argument("--sets", nargs="+", choices=CASES, default=list(CASES), metavar="SET")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=SHIPPED, metavar="MODEL")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    models = [BASELINE, *(model for model in arguments.models if model != BASELINE)]
    entries: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in ((name, CASES[name]) for name in arguments.sets):
            for size in case.sizes:
                entries += measured(name, case, size, models, arguments.stores, Path(folder))
                write(entries, arguments.out)
                print(f"{name}, {size} videos: {arguments.out}")


def write(entries: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The measurements as YAML, each model's in a line."""
    lines = [
        "# Written by `python -m benchmarks.recommend`, which says what is measured; read by `aqa models --recommend`."
    ]
    for entry in entries:
        about = {key: value for key, value in entry.items() if key != "models"}
        lines.append(f"- {flow(about)[:-1]}, models: {{")
        found = entry["models"].items()
        lines += [f"    {model}: {flow(figures)}," for model, figures in found]
        lines[-1] = lines[-1][:-1] + "}}"
    out.write_text("\n".join(lines) + "\n")


def flow(values: Mapping[str, Any]) -> str:
    """A mapping in one line of YAML."""
    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10_000).strip()


if __name__ == "__main__":
    main()
