"""Models beside a baseline on the test splits of finished runs: target by target, and over the targets of a set.

    aqa sweep experiments/sweeps/real.yaml --jobs 2
    python -m benchmarks.beside --runs runs/real --group percepiano=passage
    python -m benchmarks.beside --runs runs/real --group percepiano=passage --baseline mcmoe
    python -m benchmarks.beside --runs runs/real --models ensemble --group percepiano=passage --targets

For each data set, target and model that has a run and one of the baseline: the difference of SRCC, with everything
visible and as the mean of the incomplete sets, with a 95 % interval that draws whole groups: those of the run's folds,
or a group of the store that --group names. The p-value is of the difference with everything visible, two-sided, from
the same draws; Holm's correction is over the targets of a data set. The mean over targets is of the same draws of
videos for all targets, so its interval knows that targets share their videos. Runs of several seeds are averaged:
SRCC of each seed, then their mean. All means are plain ones, so that a difference of means is the mean difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from aqa import FeatureStore
from aqa.errors import AqaError
from aqa.evaluation.bootstrap import ResampledTarget, numbered_labels, resamples
from aqa.evaluation.comparison import Estimate, estimate, mean_difference
from aqa.runs.table import align

DRAWS = 2000
LEVEL = 0.05
Place = tuple[str, str]  # a store and a target


@dataclass(frozen=True)
class Measured:
    """SRCC of a model on one target, mean over its seeds: with everything visible and the mean of incomplete sets.

    The draws of both are the same for all models and targets whose test videos are the same.
    """

    videos: int
    groups: int
    complete: Estimate
    incomplete: Estimate

    def __sub__(self, other: Measured) -> Measured:
        gaps = self.complete - other.complete, self.incomplete - other.incomplete
        return Measured(self.videos, self.groups, *gaps)

    def shown(self, sign: str = "") -> list[str]:
        """Both values with their intervals."""
        found = [(each.value, each.interval.low, each.interval.high) for each in (self.complete, self.incomplete)]
        return [f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]" for value, low, high in found]

    @property
    def p(self) -> float:
        """Two-sided, of a value of 0 with everything visible; 1 where it is undefined."""
        draws = self.complete.draws
        if np.isnan(self.complete.value):
            return 1.0
        return min(1.0, 2 * (int(min((draws <= 0).sum(), (draws >= 0).sum())) + 1) / (len(draws) + 1))


def mean_over_targets(found: Sequence[Measured]) -> Measured:
    """Of targets that share their test videos."""
    first = found[0]
    if any((each.videos, each.groups) != (first.videos, first.groups) for each in found):
        raise AqaError("the targets of a data set have not the same test videos, so their mean has no interval")
    complete, incomplete = ([getattr(each, part) for each in found] for part in ("complete", "incomplete"))
    return Measured(first.videos, first.groups, mean_difference(complete), mean_difference(incomplete))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values (Scandinavian Journal of Statistics 1979)."""
    order, found, largest = np.argsort(values), [0.0] * len(values), 0.0
    for rank, place in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        found[place] = largest
    return found


def measure(seeds: Sequence[pd.DataFrame], labels: Sequence[str]) -> Measured:
    """Of scores (n, patterns) by video of each seed, their labels in the last column; labels (n,): whose each is."""
    truth = seeds[0]["label"].to_numpy()
    units = numbered_labels(labels)
    resampled = ResampledTarget(truth, np.concatenate(list(resamples(len(truth), DRAWS, 0, units)), axis=1))
    complete, incomplete = [], []
    for table in seeds:
        first, *others = (estimate(table[name], resampled) for name in table if name != "label")
        complete.append(first)
        incomplete.append(mean_difference(others) if others else undefined(first))
    return Measured(len(truth), len(np.unique(units)), mean_difference(complete), mean_difference(incomplete))


def undefined(like: Estimate) -> Estimate:
    """What there is nothing of, with as many draws."""
    return Estimate(np.nan, np.full_like(like.draws, np.nan), np.zeros_like(like.perfect))


def read_runs(folder: Path) -> dict[Place, dict[str, dict[int, Path]]]:
    """The finished runs below a folder: by store and target, by model, by seed, in the order of their names."""
    found: dict[Place, dict[str, dict[int, Path]]] = {}
    for metrics in sorted(folder.rglob("metrics.json")):
        config = metrics.with_name("config.yaml")
        if not config.exists() or not metrics.with_name("predictions.csv").exists():
            continue
        written = yaml.safe_load(config.read_text(encoding="utf-8"))
        if (written["data"].get("folds") or {}).get("fold") is None:  # not a single fold of a cross-validation
            store = (metrics.parent / written["data"]["store"]).resolve()
            place = str(store), str(written["data"]["target"])
            by_seed = found.setdefault(place, {}).setdefault(written["model"]["name"], {})
            other = by_seed.setdefault(written["train"]["seed"], metrics.parent)
            if other != metrics.parent:
                raise AqaError(f"{other} and {metrics.parent} are runs of one model and seed; leave one of them out")
    return found


def read_table(run: Path) -> tuple[pd.DataFrame, pd.Series | None]:
    """Scores by video and pattern, the complete one first, and the label; and the groups of the folds, if any."""
    table = pd.read_csv(run / "predictions.csv", dtype={"id": str, "group": str})
    scores = table.pivot(index="id", columns="pattern", values="score")[list(dict.fromkeys(table["pattern"]))]
    first = table.drop_duplicates("id").set_index("id").loc[scores.index]
    return scores.assign(label=first["label"]), first.get("group")


def measured_place(place: Place, by_model: Mapping[str, Mapping[int, Path]], group: str | None) -> dict[str, Measured]:
    """Every model that has runs on a target. group: of the store, to draw whole; None: the folds' own, or videos."""
    found = {}
    for model, runs in by_model.items():
        tables, groups = zip(*(read_table(run) for run in runs.values()), strict=True)
        labels = tables[0].index if groups[0] is None else groups[0]
        if groups[0] is None and group is not None:
            with FeatureStore(place[0]) as opened:
                labels = pd.Series(opened.group(group), index=opened.ids).loc[tables[0].index]
        if any(not table.index.equals(tables[0].index) for table in tables):
            raise AqaError(f"{', '.join(map(str, runs.values()))} have not the same test videos")
        found[model] = measure(tables, list(labels))
    return found


def show_targets(
    places: Sequence[str], own: Sequence[Measured], base: Sequence[Measured], names: tuple[str, str]
) -> None:
    """The differences of one model, target by target."""
    found = [a - b for a, b in zip(own, base, strict=True)]
    corrected = holm([each.p for each in found])
    rows = [["", "videos", "groups", names[1], "difference", "p", "Holm", "difference, mean of incomplete"]]
    for place, each, theirs, p in zip(places, found, base, corrected, strict=True):
        complete, incomplete = each.shown("+")
        numbers = f"{each.videos}", f"{each.groups}", f"{theirs.complete.value:.3f}"
        rows.append([place, *numbers, complete, f"{each.p:.3f}", f"{p:.3f}", incomplete])
    print(f"\n{names[0]} - {names[1]}\n" + "\n".join(align(rows)))


def count_beyond(found: Sequence[Measured]) -> str:
    """On how many targets a difference is above 0 and below it, and on how many after Holm's correction."""
    values, gaps = [each.p for each in found], [each.complete.value for each in found]

    def count(ps: Sequence[float], sign: int) -> int:
        return sum(p < LEVEL and sign * gap > 0 for p, gap in zip(ps, gaps, strict=True))

    corrected = holm(values)
    ahead, behind = (f"{count(values, sign)} ({count(corrected, sign)})" for sign in (1, -1))
    return f"{ahead} / {behind}"


def show_set(name: str, by_target: Sequence[Mapping[str, Measured]], models: Iterable[str], baseline: str) -> None:
    """The means over the targets of a data set that have runs of a model and of the baseline, a model a row."""
    rows = []
    for model in models:
        own = [each[model] for each in by_target if model in each and baseline in each]
        if not own:
            continue
        base = [each[baseline] for each in by_target if model in each and baseline in each]
        mean, gaps = mean_over_targets(own), [a - b for a, b in zip(own, base, strict=True)]
        gap = [""] * 3 if model == baseline else [*mean_over_targets(gaps).shown("+"), count_beyond(gaps)]
        rows.append((mean.complete.value, [model, f"{len(own)}", *mean.shown(), *gap]))
    head = ["model", "targets", "everything visible", "mean of incomplete"]
    head += [f"- {baseline}", f"- {baseline}, incomplete", "targets ahead (Holm) / behind (Holm)"]
    videos, groups = next((each.videos, each.groups) for found in by_target for each in found.values())
    print(f"\n{name}: {videos} videos, resampled in {groups} groups")
    print("\n".join(align([head, *(row for _, row in sorted(rows, key=lambda row: -row[0]))])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/real"))
    parser.add_argument("--baseline", default="ridge", metavar="MODEL")
    parser.add_argument("--models", nargs="+", default=None, metavar="MODEL", help="default: all that have runs")
    parser.add_argument("--group", nargs="+", default=[], help="of a store, for its test split", metavar="STORE=GROUP")
    parser.add_argument("--targets", action="store_true", help="also every target by itself")
    arguments = parser.parse_args()
    named = dict(word.split("=", 1) for word in arguments.group)
    sets: dict[str, dict[str, dict[str, Measured]]] = {}
    for place, by_model in read_runs(arguments.runs).items():
        asked = {*(arguments.models or by_model), arguments.baseline}
        wanted = {model: runs for model, runs in by_model.items() if model in asked}
        name = Path(place[0]).stem
        sets.setdefault(name, {})[place[1]] = measured_place(place, wanted, named.get(name))
    for name, by_target in sets.items():
        models = list(dict.fromkeys(model for found in by_target.values() for model in found))
        show_set(name, list(by_target.values()), models, arguments.baseline)
        for model in models if arguments.targets else []:
            both = {t: found for t, found in by_target.items() if model in found and arguments.baseline in found}
            if model != arguments.baseline and both:
                own, base = ([found[m] for found in both.values()] for m in (model, arguments.baseline))
                show_targets(list(both), own, base, (model, arguments.baseline))


if __name__ == "__main__":
    main()
