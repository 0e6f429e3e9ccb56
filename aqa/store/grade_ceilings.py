"""The best possible accuracy on graded synthetic data, for every subset of modalities.

    python -m aqa.store.grade_ceilings

Three numbers for each: the best possible accuracy; the accuracy of the best regression, whose prediction is the nearest
grade to the expected one; and the best possible SRCC, which is also in the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from aqa.modalities import subsets
from aqa.store.graded import best_accuracy, expected_grade_accuracy
from aqa.store.synthetic import PRESETS, Preset, ceilings, quality_correlation


def accuracies(preset: Preset, target: str) -> dict[str, tuple[float, float]]:
    """The best possible accuracy and that of the best regression, by the initials of the visible modalities."""
    grades = preset.targets[target].grades
    found = {}
    for name, subset in subsets(list(preset.streams)).items():
        rho = quality_correlation(preset, target, list(itertools.compress(preset.streams, subset)))
        found[name] = best_accuracy(rho, grades), expected_grade_accuracy(rho, grades)
    return found


def print_grade_ceilings(presets: Mapping[str, Preset] = PRESETS) -> None:
    for preset_name, preset in presets.items():
        for target, score in preset.targets.items():
            if not score.grades:
                continue
            print(f"{preset_name}, {target}: {score.grades} grades")
            found, srcc = accuracies(preset, target), ceilings(preset, target)
            for title, values in (
                ("patterns", list(found)),
                ("best accuracy", [f"{best:.3f}" for best, _ in found.values()]),
                ("best regression's", [f"{rounded:.3f}" for _, rounded in found.values()]),
                ("best SRCC", [f"{value:.3f}" for value in srcc.values()]),
            ):
                print(f"  {title:<18} {'  '.join(f'{value:>5}' for value in values)}")


if __name__ == "__main__":
    print_grade_ceilings()
