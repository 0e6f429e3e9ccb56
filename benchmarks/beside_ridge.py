"""Whether models are ahead of ridge regression on the test splits of finished runs, target by target.

    aqa sweep experiments/sweeps/real.yaml --jobs 2
    python -m benchmarks.beside_ridge --runs runs/real --models ensemble gaussian_process --group percepiano=passage

For each data set and target that has runs of ridge and of a model: the difference of SRCC, with everything visible and
as the mean of the incomplete sets, with a 95 % interval that draws whole groups: those of the run's folds, or a group
of the store that --group names. The p-value is of the difference with everything visible, two-sided, from the same
draws; Holm's correction is over all targets of a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from aqa import FeatureStore
from aqa.errors import AqaError
from aqa.evaluation.bootstrap import ResampledTarget, numbered_labels, resamples
from aqa.evaluation.metrics import srcc
from aqa.runs.table import align

BASELINE = "ridge"
DRAWS = 2000
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """A model's SRCC less ridge's on one target: (value, low, high) of each; p: two-sided, of `complete`."""

    place: str
    videos: int
    groups: int
    ridge: float
    complete: tuple[float, float, float]
    incomplete: tuple[float, float, float]
    p: float


def holm(values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values (Scandinavian Journal of Statistics 1979)."""
    order, found, largest = np.argsort(values), [0.0] * len(values), 0.0
    for rank, place in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = largest
    return found


def difference(place: str, own: pd.DataFrame, base: pd.DataFrame, labels: Sequence[str]) -> Difference:
    """Of scores (n, patterns) by video, their labels in the last column; labels (n,) say whose each video is."""
    truth, patterns = base["label"].to_numpy(), [name for name in base if name != "label"]
    units = numbered_labels(labels)
    resampled = ResampledTarget(truth, np.concatenate(list(resamples(len(truth), DRAWS, 0, units))))

    def gains(measure: Callable[[np.ndarray], Any]) -> list[tuple[Any, Any]]:
        """What is measured of both models, complete and as the mean of the incomplete sets."""
        each = [[measure(scores[name].to_numpy()) for name in patterns] for scores in (own, base)]
        return [(found[0], np.mean(found[1:], axis=0)) for found in each]

    def observed(scores: np.ndarray) -> float:
        scored = ~np.isnan(scores)
        return float(srcc(scores[scored], truth[scored]))

    (ours, theirs), drawn = gains(observed), np.subtract(*gains(resampled.srcc))
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=1)
    complete, incomplete = ((ours[i] - theirs[i], float(low[i]), float(high[i])) for i in range(2))
    beyond = min((drawn[0] <= 0).sum(), (drawn[0] >= 0).sum())
    p = min(1.0, 2 * (int(beyond) + 1) / (DRAWS + 1))
    return Difference(place, len(truth), len(np.unique(units)), theirs[0], complete, incomplete, p)


def read_runs(folder: Path) -> dict[tuple[str, str], dict[str, Path]]:
    """The finished runs below a folder: by store and target, by model."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for metrics in sorted(folder.rglob("metrics.json")):
        config = metrics.with_name("config.yaml")
        if not config.exists() or not metrics.with_name("predictions.csv").exists():
            continue
        written = yaml.safe_load(config.read_text(encoding="utf-8"))
        if (written["data"].get("folds") or {}).get("fold") is None:  # not a single fold of a cross-validation
            store = (metrics.parent / written["data"]["store"]).resolve()
            place = str(store), str(written["data"]["target"])
            found.setdefault(place, {})[written["model"]["name"]] = metrics.parent
    return found


def read_table(run: Path) -> tuple[pd.DataFrame, pd.Series | None]:
    """Scores by video and pattern, the complete one first, and the label; and the groups of the folds, if any."""
    table = pd.read_csv(run / "predictions.csv", dtype={"id": str, "group": str})
    scores = table.pivot(index="id", columns="pattern", values="score")[list(dict.fromkeys(table["pattern"]))]
    first = table.drop_duplicates("id").set_index("id").loc[scores.index]
    return scores.assign(label=first["label"]), first.get("group")


def compared(
    runs: Mapping[tuple[str, str], Mapping[str, Path]], model: str, named: Mapping[str, str]
) -> list[Difference]:
    """A model beside ridge on every target that has runs of both. named: a group of the store, by the store's name."""
    found = []
    for (store, target), by_model in runs.items():
        if model not in by_model or BASELINE not in by_model:
            continue
        (own, _), (base, groups) = (read_table(by_model[name]) for name in (model, BASELINE))
        if not own.index.equals(base.index):
            raise AqaError(f"{by_model[model]} and {by_model[BASELINE]} have not the same test videos")
        name = Path(store).stem
        if groups is None and name in named:
            with FeatureStore(store) as opened:
                groups = pd.Series(opened.group(named[name]), index=opened.ids)
        labels = base.index if groups is None else groups.loc[base.index]
        found.append(difference(f"{name}, {target}", own, base, list(labels)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/real"))
    parser.add_argument("--models", nargs="+", default=["ensemble"], metavar="MODEL")
    parser.add_argument("--group", nargs="+", default=[], help="of a store, for its test split", metavar="STORE=GROUP")
    arguments = parser.parse_args()
    named = dict(word.split("=", 1) for word in arguments.group)
    runs = read_runs(arguments.runs)
    for model in arguments.models:
        show(model, compared(runs, model, named))


def show(model: str, found: Sequence[Difference]) -> None:
    """A table, and how many targets are ahead or behind after the correction."""
    corrected = holm([each.p for each in found])
    rows = [["", "videos", "groups", "ridge", "difference", "p", "Holm", "difference, mean of incomplete"]]
    for each, p in zip(found, corrected, strict=True):
        shown = [f"{v:+.3f} [{low:+.3f}, {high:+.3f}]" for v, low, high in (each.complete, each.incomplete)]
        numbers = f"{each.videos}", f"{each.groups}", f"{each.ridge:.3f}"
        rows.append([each.place, *numbers, shown[0], f"{each.p:.3f}", f"{p:.3f}", shown[1]])
    print(f"\n{model} - {BASELINE}\n" + "\n".join(align(rows)))
    for way, sign in (("ahead", 1), ("behind", -1)):
        before, after = (
            sum(p < LEVEL and sign * each.complete[0] > 0 for each, p in zip(found, values, strict=True))
            for values in ([each.p for each in found], corrected)
        )
        print(f"{way} of ridge: {after} of {len(found)} targets after Holm's correction, {before} without it")


if __name__ == "__main__":
    main()
